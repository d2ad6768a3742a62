"""The learning curve of a run, drawn from its eval.csv: seeds thin, their mean thick, and a band that says what it is.

A run with variants of hyper-parameters gets one line and band for each variant.

Matplotlib is used through its objects alone, never through `pyplot`: no global state, so any thread may draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import CheckpointError
from maxent_rl.pictures.style import FAINT, INK, heading, save, style
from maxent_rl.pictures.token_curves import has_token_curves, token_curves
from maxent_rl.runs.config import method_name
from maxent_rl.runs.records import read_csv
from maxent_rl.seeds.variants import variant_name
from maxent_rl.storage.reading import read_json, refuse_damage

Floats = NDArray[np.float64]

_MEAN = "#1d4ed8"
_VARIANTS = (
    "#1d4ed8",
    "#d97706",
    "#059669",
    "#be185d",
    "#7c3aed",
    "#0891b2",
    "#65a30d",
    "#dc2626",
    "#475569",
    "#a16207",
)
_FEW_POINTS = 12  # up to here every evaluation gets a mark: a line through one point is invisible


def draw_curves(folder: Path) -> None:
    """Draws all pictures of a run's curves: `learning_curve.png`, and `token_curves.png` where the task is one of tokens.

    Raises:
      CheckpointError: the run has no evaluation yet.
      StorageError: a picture cannot be written.
    """
    learning_curve(folder)
    if has_token_curves(folder):
        token_curves(folder, _read_run(folder / "config.json"))


def learning_curve(folder: Path) -> Path:
    """Draws a run's evaluations.

    The band is the range of two seeds, one sample standard deviation either side of the mean of three or more, and of
    a single seed one standard deviation of its episodes. The legend says which.

    Args:
      folder: the run's folder, with eval.csv and, for the title, config.json.

    Returns:
      The picture's path, `learning_curve.png` in the folder; replaced in one go: no reader meets half of it.

    Raises:
      CheckpointError: the run has no evaluation yet.
      StorageError: the picture cannot be written.
    """
    run = _read_run(folder / "config.json")
    with refuse_damage(folder / "eval.csv", CheckpointError):
        curves = _read_curves(folder / "eval.csv", list(run.get("variants") or {}))
    return save(_draw(curves, run), folder / "learning_curve.png")


class _Curves(NamedTuple):
    """Evaluations of all seeds of a variant, at the steps that all seeds and variants have reached.

    Attributes:
      name: of the variant; empty where nothing varies.
      steps: [step] environment steps.
      means: [seed, step] mean return of each evaluation.
      stds: [seed, step] standard deviation over its episodes, NaN where the table has none.
    """

    name: str
    steps: Floats
    means: Floats
    stds: Floats


def _read_curves(path: Path, varied: Sequence[str] = ()) -> list[_Curves]:
    cells: dict[tuple[str, float, float], tuple[float, float]] = {}
    for row in read_csv(path):
        variant = variant_name({name: float(row[name]) for name in varied})
        key = (variant, float(row["seed"]), float(row["step"]))
        cells[key] = (float(row.get("return_mean", math.nan)), float(row.get("return_std", math.nan)))
    variants = list(dict.fromkeys(variant for variant, _, _ in cells))
    seeds = sorted({seed for _, seed, _ in cells})
    steps = sorted({step for _, _, step in cells})
    complete = [step for step in steps if all((variant, s, step) in cells for variant in variants for s in seeds)]
    if not complete:
        raise CheckpointError(f"{path} holds no evaluation of all seeds yet: there is nothing to draw.")
    values = np.array([[[cells[v, seed, step] for step in complete] for seed in seeds] for v in variants])
    return [_Curves(v, np.array(complete), of[..., 0], of[..., 1]) for v, of in zip(variants, values, strict=True)]


def _read_run(path: Path) -> dict[str, Any]:
    """What config.json says of the run, with the objective beside its agent.

    Nothing where it is absent: a picture is better than a perfect title.
    """
    try:
        config = read_json(path)
        run = dict(config["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    run = run if isinstance(run.get("variants"), dict) else run | {"variants": {}}
    is_whole = "agent" in run and isinstance(config.get("agent"), dict)
    return run | {"agent": method_name(config)} if is_whole else run


def _band(curves: _Curves) -> tuple[Floats, Floats, str]:
    """Lower edge, upper edge and name of the band around the mean."""
    count = len(curves.means)
    if count == 1:
        mean, spread = curves.means[0], curves.stds[0]
        return mean - spread, mean + spread, "\u00b1 1 standard deviation over episodes"
    if count == 2:
        return curves.means.min(axis=0), curves.means.max(axis=0), "range of the 2 seeds"
    mean, spread = curves.means.mean(axis=0), curves.means.std(axis=0, ddof=1)
    return mean - spread, mean + spread, f"\u00b1 1 standard deviation over {count} seeds"


def _draw(curves: list[_Curves], run: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    figure = Figure(figsize=(7.6, 4.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    if len(curves) == 1:
        _draw_seeds(axes, curves[0])
    else:
        _draw_variants(axes, curves)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="best", frameon=False, fontsize=9, labelcolor=INK)
    axes.set_xlabel("environment steps per seed", color=FAINT)
    axes.set_ylabel("undiscounted return per episode", color=FAINT)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlim(0, max(curves[0].steps[-1], 1) * 1.02)
    style(axes)
    title, subtitle = _titles(curves, run)
    heading(axes, title, subtitle)
    return figure


def _draw_seeds(axes: Any, curves: _Curves) -> None:
    steps, count = curves.steps, len(curves.means)
    mean = curves.means.mean(axis=0)
    marker = "o" if len(steps) <= _FEW_POINTS else None
    low, high, band = _band(curves)
    axes.fill_between(steps, low, high, color=_MEAN, alpha=0.13, linewidth=0, label=band, zorder=1)
    if len(steps) == 1:  # a band of no width shows nothing
        axes.vlines(steps, low, high, color=_MEAN, alpha=0.25, linewidth=6, zorder=1)
    if count > 1:
        for index, seed in enumerate(curves.means):
            label = "each seed" if index == 0 else None
            axes.plot(steps, seed, color=_MEAN, alpha=0.4, linewidth=0.9, marker=marker, ms=2.5, label=label, zorder=2)
    label = "mean over episodes" if count == 1 else f"mean of {count} seeds"
    axes.plot(steps, mean, color=_MEAN, linewidth=2.4, marker=marker, markersize=5, label=label, zorder=3)
    _annotate_last(axes, steps, mean, _MEAN)


def _draw_variants(axes: Any, curves: list[_Curves]) -> None:
    for index in reversed(range(len(curves))):  # the legend turns the order round
        variant, color = curves[index], _VARIANTS[index % len(_VARIANTS)]
        mean = variant.means.mean(axis=0)
        low, high, band = _band(variant)
        marker = "o" if len(variant.steps) <= _FEW_POINTS else None
        label = band if index == len(curves) - 1 else None  # one name for all bands, the last in the legend
        axes.fill_between(variant.steps, low, high, color=color, alpha=0.1, linewidth=0, label=label, zorder=1)
        style = "-" if index < len(_VARIANTS) else "--"
        axes.plot(
            variant.steps, mean, style, color=color, linewidth=2, marker=marker, ms=4, label=variant.name, zorder=3
        )
        _annotate_last(axes, variant.steps, mean, color)


def _annotate_last(axes: Any, steps: Floats, mean: Floats, color: str) -> None:
    axes.annotate(
        f"{mean[-1]:,.4g}" if abs(mean[-1]) < 1000 else f"{mean[-1]:,.0f}",
        xy=(steps[-1], mean[-1]),
        xytext=(7, 0),
        textcoords="offset points",
        color=color,
        fontweight="bold",
        va="center",
        annotation_clip=False,
    )


def _titles(curves: list[_Curves], run: dict[str, Any]) -> tuple[str, str]:
    count = len(curves[0].means)
    parts = [str(run["agent"])] if "agent" in run else []
    parts += [f"{len(curves)} variants"] if len(curves) > 1 else [name for name in (curves[0].name,) if name]
    parts.append(f"{count} seed" + "s" * (count > 1))
    if "eval_episodes" in run:
        parts.append(f"{run['eval_episodes']} episodes per evaluation")
    return str(run.get("env", "Learning curve")), "  \u00b7  ".join(parts)
