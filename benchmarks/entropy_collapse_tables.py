"""Tables of the study of entropy collapse, as Markdown, and their place in benchmarks/README.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from common import BenchmarkError, show_number
from multimodal_study import Result, Run, mean_and_error
from multimodal_tables import Cell, mean_of, note, rows_of
from render import insert

MARKERS = "<!-- entropy-collapse:begin -->", "<!-- entropy-collapse:end -->"
OBJECTIVES, TARGETS = NAMES = ("entropy-collapse-objectives", "entropy-collapse-targets")

_LABELS = {
    "grpo": "GRPO",
    "clip_higher": "clip-higher",
    "entropy_bonus": "entropy bonus",
    "clip_cov": "Clip-Cov",
    "kl_cov": "KL-Cov",
    "clip_b": "Clip-B",
    "clip_v": "Clip-V",
    "steer": "STEER",
    "lp_reg": "Lp-Reg",
    "dcpo": "DCPO",
    "aepo_arbitrary": "AEPO",
    "entropy_target": "entropy target",
}
_PICTURES = {
    OBJECTIVES: "Reward, pass@1, pass@8 and entropy under each objective",
    TARGETS: "Entropy under each target",
}


def render(results: Path, readme: Path) -> None:
    """Writes tables and figures of what has been measured.

    Args:
      results: folder with the results; the figures go there too.
      readme: file with the markers.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    paths = {name: results / f"{name}.json" for name in NAMES}
    found = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    for name in NAMES:
        if name not in found:
            print(f"Left out, not measured yet: {name}", file=sys.stderr)
    if not found:
        raise BenchmarkError(f"There are no results in {results}: run a part of the study first.")
    from entropy_collapse_figure import draw

    parts = []
    for name, result in found.items():
        figure = results / f"{name}.png"
        draw(result, figure)
        print(f"Written: {figure}", file=sys.stderr)
        parts += [table(result), f"![{_PICTURES[name]}](results/{figure.name})"]
    text = "\n\n".join(parts)
    print(text)
    if not insert(readme, text, MARKERS):
        raise BenchmarkError(f"{readme} has no lines {MARKERS[0]} and {MARKERS[1]} to write the tables between.")
    print(f"Written: {readme}", file=sys.stderr)


def table(result: Result) -> str:
    """The table of a part, with the seeds and the machine below."""
    columns = _COLUMNS[result["benchmark"]]
    labels = {name: label(name) for name in ordered(result["runs"])}
    parts, failed = [], []
    for env in dict.fromkeys(run["env"] for run in result["runs"]):
        rows, without = rows_of(result, env, columns, labels)
        parts.append(rows)
        failed += without
    return "\n\n".join([*parts, note(result, failed)])


def ordered(runs: Sequence[Run]) -> list[str]:
    """The contenders that ran, in the order of the labels, and by target."""
    known = list(_LABELS)

    def place(contender: str) -> tuple[int, float]:
        name = contender.split("@")[0]
        return known.index(name) if name in known else len(known), target(contender) or 0.0

    return sorted(dict.fromkeys(run["contender"] for run in runs), key=place)


def label(contender: str) -> str:
    """A contender as people read it."""
    name, at, held = contender.partition("@")
    shown = _LABELS.get(name, name)
    return f"{shown}, {held} nats" if at else shown


def target(contender: str) -> float | None:
    """The entropy that a contender is to hold, in nats; None for no such."""
    _, at, held = contender.partition("@")
    return float(held) if at else None


def distance(run: Run) -> float | None:
    """How far a run's entropy was from its target, as a share of the target."""
    wanted, found = target(run["contender"]), run["values"].get("entropy_half")
    return None if wanted is None or found is None else abs(found - wanted) / wanted


def _distance(runs: Sequence[Run]) -> str:
    """`mean (largest)` over seeds."""
    found = [each for run in runs if (each := distance(run)) is not None]
    return f"{mean_and_error(found)[0]:.1%} ({max(found):.1%})" if found else ""


def _target(runs: Sequence[Run]) -> str:
    wanted = target(runs[0]["contender"])
    return "" if wanted is None else show_number(wanted)


def _each(metric: str) -> Cell:
    """`mean ± standard error (of each seed)`."""

    def cell(runs: Sequence[Run]) -> str:
        values = [show_number(run["values"][metric]) for run in runs if metric in run["values"]]
        return f"{mean_of(metric)(runs)} ({' '.join(values)})" if values else ""

    return cell


_COLUMNS: dict[str, dict[str, Cell]] = {
    OBJECTIVES: {
        "reward": mean_of("reward"),
        "greedy": mean_of("greedy"),
        "pass@1": mean_of("pass@1"),
        "pass@8": mean_of("pass@8"),
        "right answers": mean_of("distinct"),
        "entropy, first tenth": mean_of("entropy_first"),
        "entropy, last tenth": mean_of("entropy_last"),
        "steps/s": mean_of("steps_per_second"),
    },
    TARGETS: {
        "target": _target,
        "entropy (each seed)": _each("entropy_half"),
        "distance (largest)": _distance,
        "reward": mean_of("reward"),
        "pass@1": mean_of("pass@1"),
        "pass@8": mean_of("pass@8"),
    },
}
