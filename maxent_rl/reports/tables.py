"""Tables of a report, as CSV with every digit and as Markdown and HTML rounded to what the numbers say."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maxent_rl.reports.results import CONFIDENCE, Results, Row
from maxent_rl.reports.statistics import Floats, Interval

_INTERVAL = f"{CONFIDENCE:.0%} interval"
_ESCAPED = (("\\", "\\\\"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*"), ("](", "]\\("), ("&", "&amp;"), ("<", "&lt;"))
_SCORES = ("Method", "IQM", _INTERVAL, "Seeds", "Step", "Mean", "Std", "Min", "Max", "IQM normalised")


class Table(NamedTuple):
    """Text in rows.

    Attributes:
      title: what it holds.
      header: one name for each column.
      rows: as many cells each.
      names: how many columns, from the left, are names and not numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1


def score_table(results: Results) -> Table:
    """What each method reached on each environment."""
    rows = [(row.env, *_score_cells(results, row)) for row in results.rows]
    return Table(f"Scores: {results.options.metric}, {when(results)}", ("Environment", *_SCORES), rows, names=2)


def environment_table(results: Results, env: str) -> Table:
    """What each method reached on one environment; no rows where none was scored."""
    return Table(env, _SCORES, [_score_cells(results, row) for row in results.rows if row.env == env])


def aggregate_table(results: Results) -> Table | None:
    """Statistics over all environments; None where there are none."""
    if not results.aggregates:
        return None
    names = list(next(iter(results.aggregates.values())))
    rows = [
        (method, *(f"{number(float(found[name].estimate), 3)} {bounds(found[name], 3)}" for name in names))
        for method, found in results.aggregates.items()
    ]
    title = f"Normalised scores over {len(results.common)} environments"
    return Table(title, ("Method", *(name.capitalize() for name in names)), rows)


def improvement_table(results: Results) -> Table | None:
    """Comparisons of two methods; None where there is only one."""
    if not results.improvements:
        return None
    rows = [
        (pair.first, pair.second, f"{len(pair.envs)}", number(float(pair.chance.estimate), 3), bounds(pair.chance, 3))
        for pair in results.improvements
    ]
    header = ("Method", "Better than", "Environments", "Probability", _INTERVAL)
    return Table("Probability of improvement", header, rows, names=2)


def to_markdown(table: Table) -> str:
    """A Markdown table with its title in bold."""
    lines = [list(map(markdown_text, line)) for line in (table.header, *table.rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(table.header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column < table.names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if column < table.names else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return (
        "\n".join([f"**{markdown_text(table.title)}**", "", line(lines[0]), line(rule), *map(line, lines[1:])]) + "\n"
    )


def markdown_text(text: str) -> str:
    """Text that stands in Markdown as it is, in one line: a folder's name may hold anything."""
    for plain, escaped in _ESCAPED:
        text = text.replace(plain, escaped)
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def scores_csv(results: Results) -> str:
    """All scores with every digit: one row for each environment and method, the seeds and their scores at the end."""
    header = ["environment", "method", "agent", "metric", "at", "step", "seeds", "unfinished"]
    header += ["iqm", "iqm_low", "iqm_high", "mean", "median", "std", "min", "max"]
    header += ["iqm_normalized", "reference_low", "reference_high", "seed_numbers", "scores"]
    lines: list[Sequence[object]] = [header]
    for row in results.rows:
        scores, members = row.scores, row.group.members
        numbers = [
            *row.iqm,
            scores.mean(),
            np.median(scores),
            _spread(scores),
            scores.min(),
            scores.max(),
            results.normalized(row),
        ]
        names = [row.env, row.method, members[0].run.agent, results.options.metric, results.options.at]
        counts = [int(row.step), len(scores), row.group.unfinished]
        each = [" ".join(str(member.seed) for member in members), " ".join(repr(float(score)) for score in scores)]
        exact = [_exact(float(value)) for value in (*numbers, *results.references[row.env])]
        lines.append([*names, *counts, *exact, *each])
    return _csv(lines)


def aggregates_csv(results: Results) -> str:
    """Aggregate statistics and comparisons with every digit, one row for each."""
    lines: list[Sequence[object]] = [["statistic", "method", "than", "environments", "estimate", "low", "high"]]
    for method, found in results.aggregates.items():
        for name, interval in found.items():
            exact = [_exact(float(value)) for value in interval]
            lines.append([name, method, "", "; ".join(results.common), *exact])
    for pair in results.improvements:
        exact = [_exact(float(value)) for value in pair.chance]
        lines.append(["probability of improvement", pair.first, pair.second, "; ".join(pair.envs), *exact])
    return _csv(lines)


def when(results: Results) -> str:
    """Which evaluation counts, in words."""
    at = results.options.at
    words = {"final": "last evaluation", "best": "best evaluation of each seed"}
    return f"evaluation at step {at:,}" if isinstance(at, int) else words[at]


def number(value: float, digits: int) -> str:
    """A number with a given count of decimals; a dash for NaN."""
    if math.isnan(value):
        return "–"
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def bounds(interval: Interval, digits: int) -> str:
    """An interval in brackets; a dash where there is none."""
    low, high = float(interval.low), float(interval.high)
    return "–" if math.isnan(low) else f"[{number(low, digits)}, {number(high, digits)}]"


def digits_of(results: Results, env: str) -> int:
    """Decimals that leave about four significant digits of an environment's largest score."""
    values = np.abs(np.concatenate([row.scores for row in results.rows if row.env == env]))
    largest = float(values.max(initial=0.0, where=np.isfinite(values)))
    return int(np.clip(3 - math.floor(math.log10(largest)), 0, 4)) if largest > 0 else 2


def _score_cells(results: Results, row: Row) -> tuple[str, ...]:
    digits = digits_of(results, row.env)
    estimate, interval = number(float(row.iqm.estimate), digits), bounds(row.iqm, digits)
    seeds = f"{len(row.scores)}" + (f" ({row.group.unfinished} unfinished)" if row.group.unfinished else "")
    parts = (row.scores.mean(), _spread(row.scores), row.scores.min(), row.scores.max())
    numbers = [number(float(part), digits) for part in parts]
    scaled = number(float(results.normalized(row)), 3)
    return row.method, estimate, interval, seeds, f"{row.step:,.0f}", *numbers, scaled


def _spread(scores: Floats) -> float:
    """Sample standard deviation; NaN of a single seed, and where a score is infinite."""
    return float(np.std(scores, ddof=1)) if len(scores) > 1 and np.isfinite(scores).all() else math.nan


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _csv(lines: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
