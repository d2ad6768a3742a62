"""What was measured of a data set, to read: rows of a table, JSON, and the plane of TQ and SACo."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from maxent_rl.data.measures.coverage import EXACT_LIMIT
from maxent_rl.data.measures.findings import HIGH, MODERATE
from maxent_rl.data.measures.quality import Quality
from maxent_rl.data.measures.returns import Distribution
from maxent_rl.errors import DataError
from maxent_rl.pictures.style import FAINT, INK, colours, heading

_CLONING, _CONSTRAINED, _DQN = "#E69F00", "#009E73", "#0072B2"
_FEW = 6  # entries of actions up to which each is listed
_NOT_KNOWN = "not known"


def rows(quality: Quality) -> Iterator[tuple[str, str, str]]:
    """What a table says of a data set.

    Returns:
      For each measure its name, its value, and what the value is made of.
    """
    yield "transitions", f"{quality.size:,}", quality.env or ""
    yield "TQ", _number(quality.tq, 4), _references(quality)
    yield from _coverage_rows(quality)
    yield "return", _of(quality.returns), _spread(quality.returns)
    yield "episode length", _of(quality.lengths), _spread(quality.lengths)
    yield "episodes", f"{quality.returns.count:,}", f"complete; a time limit cut {quality.time_limits:.1%} of them"
    yield "unfinished tail", f"{quality.tail:.2%}", "of the transitions, in no complete episode"
    if quality.entropy is not None and quality.perplexity is not None:
        words = f"nats, of pairs; perplexity {quality.perplexity:,.1f}, at most u"
        yield "state-action entropy", f"{quality.entropy:.4f}", words
    yield "action entropy", *_actions(quality)


def _references(quality: Quality) -> str:
    known = [_NOT_KNOWN if each is None else f"{each:,.2f}" for each in (quality.random_return, quality.expert_return)]
    return f"random return {known[0]}, expert return {known[1]}"


def _coverage_rows(quality: Quality) -> Iterator[tuple[str, str, str]]:
    found = quality.coverage
    if found is None:
        yield "SACo", _NOT_KNOWN, "no reference"
    else:
        parts = [f"u {found.distinct:,.0f} of {found.reference_distinct:,.0f}, {found.size:,} transitions each"]
        if found.draws:
            parts.append(f"standard deviation {found.spread:.4f} over {found.draws} draws")
        if found.standard_error:
            parts.append(f"standard error {found.standard_error:.4f} of counting")
        yield "SACo", f"{found.saco:.4f}", "; ".join(parts)
        yield "lSACo", _number(found.log_saco, 4), "log u / log u of the reference"
    if quality.distinct_error:
        how = f"estimated, standard error {quality.distinct_error:.2%} (HyperLogLog above {EXACT_LIMIT:,} transitions)"
    else:
        how = f"counted; too few with a probability below {quality.collision_probability:.0e}"
    limits = "the reference's limits" if quality.shared_limits else "its own limits"
    yield "u, distinct pairs", f"{quality.distinct:,.0f}", f"{how}; {quality.edges} edges between {limits}"
    if quality.overlap is not None:
        error = f"; standard error {quality.overlap.error:.4f}" if quality.overlap.error else ""
        yield "of the reference's pairs", f"{quality.overlap.of_reference:.2%}", f"are in the data set{error}"
        yield "of the data set's pairs", f"{quality.overlap.of_data:.2%}", "are in the reference"
    for each in quality.sensitivity:
        words = f"u {each.distinct:,.0f} of {each.reference_distinct:,.0f}"
        words += "; resolution lost" if each.resolution_lost else ""
        yield f"SACo, {each.edges} edges", f"{each.saco:.4f}", words


def _of(found: Distribution) -> str:
    return _number(found.mean, 2)


def _spread(found: Distribution) -> str:
    if not found.count:
        return "no complete episode"
    quartiles = found.minimum, found.first_quartile, found.median, found.third_quartile, found.maximum
    five = ", ".join(f"{each:,.2f}".removesuffix(".00") for each in quartiles)
    return f"mean; least, quartiles, most: {five}; standard deviation {found.standard_deviation:,.2f}"


def _actions(quality: Quality) -> tuple[str, str]:
    entropies = quality.action_entropy
    if len(entropies) == 1:
        return f"{entropies[0]:.4f}", "nats"
    mean = math.fsum(entropies) / len(entropies)
    each = ": " + ", ".join(f"{entropy:.2f}" for entropy in entropies) if len(entropies) <= _FEW else ""
    return f"{mean:.4f}", f"nats, mean over entries, each binned{each}"


def _number(value: float, digits: int) -> str:
    return _NOT_KNOWN if math.isnan(value) else f"{value:,.{digits}f}"


def as_json(quality: Quality) -> dict[str, Any]:
    """All numbers as JSON values; what is not a finite number is null."""
    values: dict[str, Any] = _plain(dataclasses.asdict(quality))
    if quality.overlap is not None:
        values["overlap"] = quality.overlap._asdict()
    return values | {"verdict": quality.verdict}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def draw_plane(places: Mapping[str, tuple[float, float]], title: str = "TQ and SACo") -> Any:
    """Draws data sets in the plane of TQ and SACo, with the regions in which the paper's findings favour methods.

    Args:
      places: TQ and SACo of each, by name.
      title: above the plane.

    Returns:
      A Matplotlib figure.

    Raises:
      DataError: a number is missing.
    """
    from matplotlib.figure import Figure

    for name, place in places.items():
        if not all(map(math.isfinite, place)):
            raise DataError(f"{name} cannot be drawn in the plane: TQ is {place[0]:g} and SACo {place[1]:g}.")
    figure = Figure(figsize=(6.4, 6.0), layout="constrained", facecolor="white")
    axes = figure.subplots()
    right = max(1.1, *(tq + 0.1 for tq, _ in places.values()))
    top = max(1.2, *(saco + 0.1 for _, saco in places.values()))
    axes.set_xlim(min(-0.05, *(tq - 0.1 for tq, _ in places.values())), right)
    axes.set_ylim(0, top)
    _draw_regions(axes, right, top)
    palette = colours(len(places)) if len(places) > 1 else [INK]
    for (name, (tq, saco)), color in zip(places.items(), palette, strict=True):
        axes.plot(tq, saco, "o", color=color, ms=10, mec="white", mew=1.5, zorder=5, clip_on=False)
        _write(axes, name, tq, saco, right)
    axes.set_xlabel("TQ: mean return, 0 random to 1 expert", color=INK)
    axes.set_ylabel("SACo: different state-action pairs, beside the reference", color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=9, length=3)
    heading(axes, title, f"shaded: favoured by the paper's findings; lines at {MODERATE:g} and {HIGH:g} are ours")
    return figure


def _write(axes: Any, name: str, tq: float, saco: float, right: float) -> None:
    """A name beside its mark, on the side where there is room."""
    fits = tq < 0.6 * right
    axes.annotate(
        f"{name}\n{tq:.2f}, {saco:.2f}",
        xy=(tq, saco),
        xytext=(10 if fits else -10, 0),
        textcoords="offset points",
        ha="left" if fits else "right",
        va="center",
        color=INK,
        fontsize=10,
        fontweight="bold",
        zorder=6,
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.8, "edgecolor": "none"},
    )


def _draw_regions(axes: Any, right: float, top: float) -> None:
    """A band at high TQ, one at high SACo, and the square of moderate values; the constrained methods have all three."""
    from matplotlib.patches import Rectangle

    left = axes.get_xlim()[0]

    def area(x: float, y: float, x_end: float, y_end: float, color: str) -> None:
        patch = Rectangle((x, y), x_end - x, y_end - y, facecolor=color, alpha=0.2, linewidth=0, zorder=1)
        axes.add_patch(patch)

    area(HIGH, 0, right, top, _CLONING)
    area(left, HIGH, right, top, _DQN)
    area(MODERATE, MODERATE, HIGH, HIGH, _CONSTRAINED)
    outline = [(left, HIGH), (MODERATE, HIGH), (MODERATE, MODERATE), (HIGH, MODERATE), (HIGH, 0)]
    axes.plot(*zip(*outline, strict=True), color=_CONSTRAINED, linewidth=2, linestyle=(0, (4, 2)), zorder=2)
    middle = (HIGH + min(right, 1.2)) / 2
    for x, y, words in (
        ((left + HIGH) / 2, (HIGH + top) / 2, "DQN, QR-DQN, REM\nand BCQ, CQL, CRR"),
        (middle, MODERATE / 2, "BC\nand BCQ, CQL,\nCRR"),
        ((MODERATE + HIGH) / 2, (MODERATE + HIGH) / 2, "BCQ, CQL,\nCRR"),
        (middle, (HIGH + top) / 2, "any of them"),
        ((left + HIGH) / 2, MODERATE / 2, "none is favoured"),
    ):
        axes.text(x, y, words, ha="center", va="center", color=FAINT, fontsize=9.5, zorder=3)
