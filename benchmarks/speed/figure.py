"""The figure of the benchmarks: bars with their range for speeds, curves for time to return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Result = Mapping[str, Any]

_OURS, _OTHERS, _LIMIT = "#1f5fa8", "#9a9a9a", "#d9a441"
_CURVES = {"maxent_rl": "#1f5fa8", "fast": "#c2452d", "sbx": "#6b6b6b", "sbx-zoo": "#b0b0b0"}
_COLUMNS, _PANEL = 3, (4.6, 3.2)


def draw(results: Mapping[str, Result], path: Path) -> bool:
    """Draws a panel for each benchmark that was measured.

    Args:
      results: by name of the benchmark.
      path: PNG to write.

    Returns:
      Whether there was anything to draw.
    """
    panels = [(panel, results[name]) for name, panel in _PANELS.items() if name in results]
    if not panels:
        return False
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (_PANEL[0] * columns, _PANEL[1] * rows)
    drawing, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for (panel, result), axis in zip(panels, axes.flat, strict=False):
        panel(axis, result)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=120)
    plt.close(drawing)
    return True


def bars(
    axis: Axes,
    result: Result,
    shown: Sequence[tuple[str, str, str]],
    metric: str,
    title: str,
    unit: str,
) -> None:
    """Horizontal bars of medians, with a line from the smallest to the largest value; what was not measured is left out."""
    summary = result["summary"]
    shown = [bar for bar in shown if metric in summary.get(bar[0], {})]
    for place, (contender, _, colour) in enumerate(shown):
        value = summary[contender][metric]
        spread = [[value["median"] - value["min"]], [value["max"] - value["median"]]]
        axis.barh(place, value["median"], xerr=spread, color=colour, height=0.65, capsize=3, ecolor="#333333")
        axis.annotate(
            f"{value['median']:,.0f}" if value["median"] >= 100 else f"{value['median']:.3g}",
            (value["max"], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.set_yticks(range(len(shown)), [label for _, label, _ in shown], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.18)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(unit, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)


def _host(axis: Axes, result: Result) -> None:
    shown = [("maxent_rl", "maxent_rl", _OURS), ("sbx", "SBX", _OTHERS), ("sb3", "Stable-\nBaselines3", _OTHERS)]
    bars(axis, result, shown, "steps_per_second", "SAC on HalfCheetah-v5", "environment steps per second")


def _device(axis: Axes, result: Result) -> None:
    shown = [("maxent_rl", "maxent_rl", _OURS), ("brax", "Brax's SAC", _OTHERS), ("rejax", "rejax", _OTHERS)]
    bars(axis, result, shown, "steps_per_second", "SAC on brax/halfcheetah, spring", "environment steps per second")


def _ppo(axis: Axes, result: Result) -> None:
    shown = [("maxent_rl", "maxent_rl", _OURS), ("brax", "Brax's PPO", _OTHERS)]
    bars(axis, result, shown, "steps_per_second", "PPO on brax/halfcheetah, spring", "environment steps per second")


def _ppo_host(axis: Axes, result: Result) -> None:
    shown = [("maxent_rl", "maxent_rl", _OURS), ("sb3", "Stable-\nBaselines3", _OTHERS)]
    bars(axis, result, shown, "steps_per_second", "PPO on HalfCheetah-v5", "environment steps per second")


def _experts(axis: Axes, result: Result) -> None:
    shown = [("sac", "SAC", _LIMIT)]
    shown += [(name, name.replace("pmoe", "experts:"), _OURS) for name in result["summary"] if name != "sac"]
    bars(axis, result, shown, "steps_per_second", "Experts on HalfCheetah-v5", "environment steps per second")


def _limits(axis: Axes, result: Result) -> None:
    shown = [
        ("train", "training", _OURS),
        ("update", "bare update loop", _LIMIT),
        ("scan", "32 updates\nper dispatch", _LIMIT),
        ("matmul", "matrix products\nalone", _LIMIT),
    ]
    bars(axis, result, shown, "updates_per_second", "Training against its limits", "updates per second")


def _seeds(axis: Axes, result: Result) -> None:
    names = [name for name in result["summary"] if name.startswith("train: ")]
    shown = [(name, name.removeprefix("train: "), _OTHERS if "process" in name else _OURS) for name in names]
    bars(axis, result, shown, "updates_per_second", "Seeds in one process, or in several", "updates per second in all")


def _startup(axis: Axes, result: Result) -> None:
    shown = [
        ("maxent_rl cold", "maxent_rl, cold", _OURS),
        ("maxent_rl warm", "maxent_rl, warm", _OURS),
        ("sbx cold", "SBX, cold", _OTHERS),
        ("sbx warm", "SBX, warm", _OTHERS),
        ("sb3", "Stable-Baselines3", _OTHERS),
    ]
    bars(axis, result, shown, "first_update_seconds", "Command to first gradient step", "seconds")


def _memory(axis: Axes, result: Result) -> None:
    shown = [("maxent_rl", "maxent_rl", _OURS), ("sbx", "SBX", _OTHERS), ("sb3", "Stable-\nBaselines3", _OTHERS)]
    bars(axis, result, shown, "peak_memory_mb", "Peak memory, replay of a million", "MB")


def _return(axis: Axes, result: Result) -> None:
    """Every curve, one line for each run, against wall-clock without evaluations."""
    labelled = set()
    labels = {"maxent_rl": "maxent_rl", "fast": "maxent_rl, fast", "sbx": "SBX", "sbx-zoo": "SBX, 10,000 start steps"}
    for run in result["runs"]:
        name, curve = run["contender"], run.get("curve", [])
        minutes = [row["seconds"] / 60 for row in curve]
        label = None if name in labelled else labels.get(name, name)
        labelled.add(name)
        colour = _CURVES.get(name, "#333333")
        axis.plot(minutes, [row["return_mean"] for row in curve], color=colour, label=label, linewidth=1.3)
    for threshold in result["settings"]["thresholds"]:
        axis.axhline(threshold, color="#cccccc", linewidth=0.8, zorder=0)
    axis.set_title(f"Evaluation return, {result['settings']['env']}", fontsize=10)
    axis.set_xlabel("minutes since the command, without evaluations", fontsize=8)
    axis.tick_params(labelsize=8)
    if labelled:
        axis.legend(fontsize=8, frameon=False)


_PANELS: dict[str, Callable[[Axes, Result], None]] = {
    "throughput-host": _host,
    "throughput-device": _device,
    "throughput-ppo": _ppo,
    "throughput-ppo-host": _ppo_host,
    "throughput-experts": _experts,
    "limits": _limits,
    "time_to_return": _return,
    "seeds": _seeds,
    "startup": _startup,
    "memory": _memory,
}
