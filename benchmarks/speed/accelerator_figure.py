"""The figure of what an accelerator does: speeds against seeds, and bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.speed.accelerator_tables import AGENTS, STATISTICS, measured, value
from benchmarks.speed.figure import bars

Result = Mapping[str, Any]

_OURS, _OTHERS = "#1f5fa8", "#9a9a9a"
_CURVES = {"sac": "#1f5fa8", "ppo": "#c2452d"}
_PANEL = (4.6, 3.2)


def draw(result: Result, path: Path) -> bool:
    """Draws a panel for each group that has been measured.

    Args:
      result: of the benchmark.
      path: PNG to write.

    Returns:
      Whether there was anything to draw.
    """
    panels = [panel for panel, kinds in _PANELS.items() if any(measured(result, kind) for kind in kinds)]
    if not panels:
        return False
    figure, axes = plt.subplots(
        1, len(panels), figsize=(_PANEL[0] * len(panels), _PANEL[1]), squeeze=False, layout="constrained"
    )
    for panel, axis in zip(panels, axes.flat, strict=True):
        panel(axis, result)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True


def _environments(axis: Axes, result: Result) -> None:
    size = f"envs={result['settings']['num_envs']}"
    shown = [
        (f"{agent} {size}", name, _OTHERS if agent.startswith("brax") else _OURS) for agent, name in AGENTS.items()
    ]
    title = f"{result['settings']['num_envs']:,} environments"
    bars(axis, result, shown, "steps_per_second", title, "environment steps per second")


def _seeds(axis: Axes, result: Result) -> None:
    counts = result["settings"]["seeds"]
    for agent, colour in _CURVES.items():
        found = {count: value(result, f"{agent} seeds={count}", "steps_per_second") for count in counts}
        there = {count: each for count, each in found.items() if each is not None}
        if there:
            spread = [[each["median"] - each["min"], each["max"] - each["median"]] for each in there.values()]
            axis.errorbar(
                list(there),
                [each["median"] for each in there.values()],
                yerr=list(zip(*spread, strict=True)),
                color=colour,
                marker="o",
                markersize=4,
                capsize=3,
                label=AGENTS[agent],
            )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(counts, [f"{count:,}" for count in counts])
    axis.set_title("Seeds trained at once", fontsize=10)
    axis.set_xlabel("seeds", fontsize=8)
    axis.set_ylabel("environment steps per second, all seeds", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False)


def _tokens(axis: Axes, result: Result) -> None:
    shown = []
    for size in (name.split()[-1] for name in measured(result, "loss maxent_rl")):
        for name, label in STATISTICS.items():
            what = f"loss, {int(size.partition('x')[0]):,} tokens,\n{label}"
            shown.append((f"loss {name} {size}", what, _OURS if name == "maxent_rl" else _OTHERS))
    shown += [(name, f"sampling, {name.split()[-1]}", _OURS) for name in measured(result, "generation")]
    bars(axis, result, shown, "tokens_per_second", "Language models", "tokens per second")
    axis.set_xscale("log")


_PANELS = {
    _environments: ("ppo envs", "reppo envs", "flashsac envs", "brax-ppo envs"),
    _seeds: tuple(f"{agent} seeds" for agent in _CURVES),
    _tokens: ("loss", "generation"),
}
