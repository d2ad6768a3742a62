"""The study's tables: what came of each claim, and what each contender reached."""

from __future__ import annotations

from benchmarks.lab.claims import HEAD, NOTE, by_seed, measured_places, places, row
from benchmarks.lab.statistics import show_interquartile
from benchmarks.lab.study import Result, Results
from benchmarks.lab.tables import markdown
from benchmarks.studies.teachers.claims import CLAIMS, judged
from benchmarks.studies.teachers.setting import LABELS, Routing, Soups, WarmStarts

_COLUMNS = {
    Routing.part: (
        "pass@1, first",
        "pass@1, early",
        "pass@1, half",
        "pass@1, end",
        "pass@1, fall",
        "reward, end",
        "entropy, first",
        "entropy, half",
        "entropy, end",
        "likely, told, first",
        "likely, told, end",
    ),
    WarmStarts.part: (
        "entropy, first",
        "different, first",
        "pass@1, first",
        "pass@8, first",
        "pass@1, half",
        "pass@1, end",
        "pass@8, end",
        "reward, end",
        "entropy, end",
    ),
    Soups.part: (
        "pass@1, first",
        "pass@1, half",
        "pass@1, end",
        "reward, end",
        "entropy, end",
        "divergence from start, end",
        "divergence from soup, first",
        "divergence from soup, end",
    ),
}


def tables(results: Results) -> str:
    """The claims, then each part's contenders."""
    rows = [
        row(claim, place, judged(results[claim.part], place, claim), LABELS)
        for claim in CLAIMS
        for place in measured_places(results, claim)
    ]
    shown = [
        _contenders(part, results[part], place)
        for part in _COLUMNS
        if part in results
        for place in places(results[part])
    ]
    return "\n\n".join([markdown(HEAD, rows, texts=3), NOTE, *shown])


def _contenders(part: str, result: Result, place: str) -> str:
    """All that is told of every contender at a place, with a note."""
    rows, seeds = [], 0
    for name, label in LABELS.items():
        runs = by_seed(result, place, name).values()
        if runs:
            each = [[run["values"][metric] for run in runs if metric in run["values"]] for metric in _COLUMNS[part]]
            rows.append([label, *(show_interquartile([values]) for values in each)])
            seeds = max(seeds, len(runs))
    corner = part if place == part else f"{part}, {place}"
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    note = f"Interquartile means of {seeds} seeds and their intervals; {machines}."
    note += "" if result["complete"] else " Not complete."
    return "\n\n".join([markdown([corner, *_COLUMNS[part]], rows), note])
