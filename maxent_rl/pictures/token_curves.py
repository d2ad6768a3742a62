"""Curves of a run on token tasks: reward, pass@1 and pass@k, entropy, response length, from metrics.csv and eval.csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import CheckpointError
from maxent_rl.pictures.style import FAINT, INK, colours, heading, save, style
from maxent_rl.runs.records import read_csv
from maxent_rl.seeds.variants import variant_name
from maxent_rl.storage.reading import open_regular, refuse_damage

Floats = NDArray[np.float64]
_SMOOTHED = 60  # more points than this are averaged in bins, as single iterations are noisy


_LONGEST_HEAD = 2**16


class _Line(NamedTuple):
    """One line of a panel: `label` of the column `column` in the table `table`."""

    label: str
    table: str
    column: str
    dashed: bool = False


def has_token_curves(folder: Path) -> bool:
    """Whether a run's evaluations are those of a token task."""
    try:
        with open_regular(folder / "eval.csv") as file:
            return "pass@1" in file.readline(_LONGEST_HEAD).decode(errors="replace").strip().split(",")
    except OSError:
        return False


def token_curves(folder: Path, run: dict[str, Any]) -> Path:
    """Draws a run's four panels: means over seeds, where all of them have a value, with each seed thin behind them.

    Args:
      folder: the run's folder.
      run: settings of the run, for the title and the names of variants; may be empty.

    Returns:
      The picture's path, `token_curves.png` in the folder.

    Raises:
      CheckpointError: the run has no evaluation yet.
      StorageError: the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import EngFormatter

    tables = {"eval": read_csv(folder / "eval.csv"), "metrics": []}
    if not tables["eval"]:
        raise CheckpointError(f"{folder / 'eval.csv'} holds no evaluation yet, so there is nothing to draw.")
    if (folder / "metrics.csv").exists():  # a run may be evaluated before it first logs
        tables["metrics"] = read_csv(folder / "metrics.csv")
    varied = list(run.get("variants") or {})
    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.12)
    figure = Figure(figsize=(10.5, 7.0), layout=layout, facecolor="white")
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (title, unit, lines) in zip(panels.flat, _panels(tables["eval"]), strict=True):
        with refuse_damage(folder / "eval.csv", CheckpointError):
            _draw_panel(axes, tables, lines, varied)
        heading(axes, title, unit)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        style(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", frameon=False, fontsize=8.5, labelcolor=INK)
    for axes in panels[-1]:
        axes.set_xlabel("responses per seed (those of the warm start included)", color=FAINT)
    names = [str(run[key]) for key in ("env", "agent") if key in run]
    seeds = len({row["seed"] for row in tables["eval"]})
    if names and seeds > 1:
        names.append(f"mean of {seeds} seeds, each of them thin")
    if names:
        figure.suptitle(
            " · ".join(names), x=0.012, ha="left", color=INK, fontsize=13, fontweight="bold", parse_math=False
        )
    return save(figure, folder / "token_curves.png")


def _panels(evaluations: Sequence[dict[str, Any]]) -> list[tuple[str, str, list[_Line]]]:
    most = max((name for name in evaluations[0] if name.startswith("pass@")), key=lambda name: int(name[5:]))
    training, held_out = "sampled, in training", "likeliest, held out"
    reward = [_Line(training, "metrics", "episode/return"), _Line(held_out, "eval", "return_mean", True)]
    solved = [_Line("pass@1", "eval", "pass@1"), _Line(most, "eval", most, True)]
    training, held_out = "in training", "held out"
    entropy = [_Line(training, "metrics", "actor/entropy"), _Line(held_out, "eval", "entropy", True)]
    length = [_Line(training, "metrics", "episode/length"), _Line(held_out, "eval", "sampled_length", True)]
    return [
        ("Reward", "share of right responses", reward),
        ("Held-out prompts", "share solved, by sampled responses", solved),
        ("Entropy", "nats per token", entropy),
        ("Response length", "tokens, the end token included", length),
    ]


def _draw_panel(axes: Any, tables: dict[str, Any], lines: list[_Line], varied: Sequence[str]) -> None:
    if varied:  # colours tell variants apart, so that the forms of lines need a key of their own
        for line in lines:
            axes.plot([], [], "--" if line.dashed else "-", color=FAINT, linewidth=2.0, label=line.label)
    for line in lines:
        by_variant = _series(tables[line.table], line.column, varied)
        shades = colours(max(len(by_variant), 2)) if len(by_variant) > 1 else colours(2)
        for index, (variant, series) in enumerate(by_variant.items()):
            color = shades[index] if variant else shades[int(line.dashed)]
            label = line.label if not variant else (variant if not line.dashed else None)
            steps, values = _binned(series)
            if len(values) > 1:
                for seed in values:
                    axes.plot(steps, seed, color=color, alpha=0.25, linewidth=0.8)
            form = "--" if line.dashed else "-"
            marker = "o" if len(steps) < 4 else None
            axes.plot(steps, _mean(values), form, color=color, linewidth=2.0, label=label, marker=marker)


def _mean(values: Floats) -> Floats:
    """[point] mean over seeds [seed, point] that have values at all; NaN where not all of them have one.

    Seeds leave their warm start one after the other: a mean over those that have would jump whenever one more does.
    """
    begun = values[np.isfinite(values).any(axis=1)]
    if not len(begun):
        return np.full(values.shape[1], math.nan)
    return np.asarray(np.where(np.isfinite(begun).all(axis=0), begun.mean(axis=0), math.nan))


def _series(
    rows: Sequence[dict[str, Any]], column: str, varied: Sequence[str]
) -> dict[str, dict[float, dict[float, float]]]:
    """{variant: {seed: {step: value}}} of a column."""
    found: dict[str, dict[float, dict[float, float]]] = {}
    for row in rows:
        variant = variant_name({name: float(row[name]) for name in varied})
        value = row.get(column, math.nan)
        seeds = found.setdefault(variant, {})
        seeds.setdefault(float(row["seed"]), {})[float(row["step"])] = value if isinstance(value, float) else math.nan
    return found


def _binned(series: dict[float, dict[float, float]]) -> tuple[Floats, Floats]:
    """Steps [point] and values [seed, point], averaged in bins where there are many points."""
    steps = np.array(sorted(set.union(*(set(of_seed) for of_seed in series.values()))))
    values = np.array([[of_seed.get(step, math.nan) for step in steps] for of_seed in series.values()])
    size = max(len(steps) // _SMOOTHED, 1)
    edges = np.arange(0, len(steps), size)
    if size == 1:
        return steps, values
    counts = np.add.reduceat(np.isfinite(values), edges, axis=1)
    sums = np.add.reduceat(np.where(np.isfinite(values), values, 0.0), edges, axis=1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)
    return np.add.reduceat(steps, edges) / np.diff([*edges, len(steps)]), means
