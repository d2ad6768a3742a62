"""The study's tables: what came of each claim, and all that was measured for it."""

from __future__ import annotations

from benchmarks.lab.statistics import show_mean
from benchmarks.lab.study import Result, Results
from benchmarks.lab.tables import markdown
from benchmarks.studies.credit.claims import CLAIMS, Claim, Found, judged, values_of
from benchmarks.studies.credit.setting import QUESTIONS


def tables(results: Results) -> str:
    """The claims, then each question's contenders."""
    result = results["credit"]
    rows = [_row(claim, judged(result, claim)) for claim in CLAIMS]
    head = ("Paper", "Claim", "Metric", "Here", "Compared with", "Difference (95 %)", "")
    parts = [markdown(head, rows, texts=3)]
    for name in QUESTIONS:
        shown = _contenders(result, name)
        if shown:
            parts.append(shown)
    seeds = max(run["repeat"] for run in result["runs"]) + 1
    note = f"Means of {seeds} seeds, ± their standard error; differences are taken seed by seed, their intervals Student's."
    return "\n\n".join([*parts, note + ("" if result["complete"] else " Not complete.")])


def _row(claim: Claim, found: Found | None) -> list[str]:
    other = claim.other if isinstance(claim.other, str) else f"{claim.other:g}"
    begin = [claim.paper, claim.says, f"{claim.metric} ({claim.question})"]
    if found is None:
        return [*begin, "", other, "", "not measured"]
    difference = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
    with_whom = f"{other}: {found.other:.3f}" if isinstance(claim.other, str) else other
    return [*begin, f"{claim.one}: {found.one:.3f}", with_whom, difference, found.holds]


def _contenders(result: Result, question: str) -> str:
    """Every metric of every contender of a question; empty where none was measured."""
    contenders = list(QUESTIONS[question].contenders)
    runs = [run for run in result["runs"] if run["env"] == question and "error" not in run]
    metrics = list(dict.fromkeys(name for run in runs for name in run["values"]))
    if not metrics:
        return ""
    rows = []
    for contender in contenders:
        each = [values_of(result, question, contender, metric) for metric in metrics]
        if any(each):
            rows.append([contender, *(show_mean(values) for values in each)])
    return markdown((question, *metrics), rows)
