"""The page of a report: one HTML file that needs nothing but itself, on a phone or offline.

All text that comes from files is escaped, and a content policy in the page forbids scripts and anything from elsewhere.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from maxent_rl.pictures.document import document
from maxent_rl.reports.figures import BAND, Picture
from maxent_rl.reports.methods import Study
from maxent_rl.reports.results import Results, Row
from maxent_rl.reports.runs import LeftOut, Run
from maxent_rl.reports.tables import (
    Table,
    aggregate_table,
    bounds,
    digits_of,
    environment_table,
    improvement_table,
    number,
    when,
)

_STYLE = """
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; max-width: 100%; width: fit-content; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .45rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
tr:last-child td { border-bottom: 0; }
th { background: var(--card); font-weight: 600; }
.name { text-align: left; white-space: normal; min-width: 8.5rem; overflow-wrap: break-word; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem;
  align-items: start; }
figure { margin: 0; background: var(--card); border-radius: .6rem; padding: .75rem; max-width: 36rem; }
figure h3 { margin: 0 0 .5rem; }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border-radius: .4rem; }
figcaption { margin-top: .5rem; color: var(--soft); font-size: .875rem; }
details { margin: .4rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
@media (max-width: 30rem) { th, td { padding: .4rem .4rem; } .name { min-width: 7rem; } }
""".strip()


def make_page(results: Results, pictures: Sequence[Picture], runs: Sequence[Run], left_out: Sequence[LeftOut]) -> str:
    """Writes the page.

    Args:
      results: the numbers.
      pictures: the figures, as drawn by `draw_all`.
      runs: what was read.
      left_out: what was not counted, and why.

    Returns:
      A whole HTML document.
    """
    envs = results.study.envs
    title = f"Report: {', '.join(envs[:3])}{f' and {len(envs) - 3} more' if len(envs) > 3 else ''}"
    body = [
        f"<h1>{escape(title)}</h1>",
        _summary(results, runs),
        _notes(results, left_out),
        "<h2>Scores</h2>",
        f'<p class="soft">{escape(_scores_note(results))}</p>',
        *(_html_table(table, heading=True) for table in _environment_tables(results)),
        _figures("Learning curves", pictures, "curves"),
        _aggregates(results, pictures),
        _figures("Time", pictures, "clocks"),
        _runs(runs),
        _settings(results.study),
        _method(results),
    ]
    return document(title, body, _STYLE)


def _summary(results: Results, runs: Sequence[Run]) -> str:
    seeds = sum(len(group.members) for group in results.study.groups.values())
    counts = [
        _count(len(results.study.methods), "method"),
        "on " + _count(len(results.study.envs), "environment"),
        "with " + _count(seeds, "training run") + " (one per seed)",
        "from " + _count(len(runs), "folder"),
    ]
    parts = [f"<p>{escape(' '.join(counts))}.</p>"]
    sentences = [_best(results, env) for env in results.study.envs]
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences if sentence)
    return "\n".join([*parts, f"<ul>{items}</ul>" if items else ""])


def _best(results: Results, env: str) -> str:
    """Which method has the highest score on an environment, and whether the intervals tell it from the others."""
    rows = sorted((row for row in results.rows if row.env == env), key=lambda row: -float(row.iqm.estimate))
    if not rows:
        return ""
    first, others = rows[0], rows[1:]
    reached = f"{_estimate(results, first)} ({_count(len(first.scores), 'seed')}, step {first.step:,.0f})"
    if not others:
        return f"{env}: {first.method} reaches {reached}."
    overlapping = [row.method for row in others if not float(row.iqm.high) < float(first.iqm.low)]
    told = "all other intervals lie below"
    if overlapping:
        names = ", ".join(overlapping[:3]) + (f" and {len(overlapping) - 3} more" if len(overlapping) > 3 else "")
        told = f"the intervals do not tell it from {names}"
    return f"{env}: {first.method} is highest with {reached}; {told}."


def _estimate(results: Results, row: Row) -> str:
    digits = digits_of(results, row.env)
    interval = "" if math.isnan(float(row.iqm.low)) else f" {bounds(row.iqm, digits)}"
    return number(float(row.iqm.estimate), digits) + interval


def _notes(results: Results, left_out: Sequence[LeftOut]) -> str:
    parts = []
    if results.warnings:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in results.warnings)
        parts.append(f'<div class="note"><strong>Read with care</strong><ul>{items}</ul></div>')
    if left_out:
        items = "".join(f"<li>{escape(str(entry.folder))}: {escape(entry.reason)}</li>" for entry in left_out)
        parts.append(f'<div class="note"><strong>Left out</strong><ul>{items}</ul></div>')
    return "\n".join(parts)


def _scores_note(results: Results) -> str:
    metric = "undiscounted return per episode" if results.options.metric == "return_mean" else results.options.metric
    return (
        f"{metric.capitalize()}, {when(results)}. IQM: interquartile mean over seeds, with its {BAND}; "
        "with fewer than four seeds it is the mean. Std: sample standard deviation between seeds."
    )


def _environment_tables(results: Results) -> list[Table]:
    tables = [environment_table(results, env) for env in results.study.envs]
    return [table for table in tables if table.rows]


def _aggregates(results: Results, pictures: Sequence[Picture]) -> str:
    tables = [table for table in (aggregate_table(results), improvement_table(results)) if table is not None]
    figures = _figures("Comparison", pictures, "aggregates")
    if not figures:
        return ""
    return "\n".join([figures, *(_html_table(table, heading=True) for table in tables)])


def _figures(heading: str, pictures: Sequence[Picture], section: str) -> str:
    chosen = [picture for picture in pictures if picture.section == section]
    if not chosen:
        return ""
    return "\n".join([f"<h2>{escape(heading)}</h2>", '<div class="figures">', *map(_figure, chosen), "</div>"])


def _figure(picture: Picture) -> str:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # A fixed salt and no date: the same runs give the same page. The letters are outlines, so no font is needed.
    with rc_context({"svg.hashsalt": picture.name, "svg.fonttype": "path"}):
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = escape(f"{picture.title}. {picture.caption}", quote=True)
    return (
        f'<figure><h3>{escape(picture.title)}</h3><img src="data:image/svg+xml;base64,{data}" alt="{alt}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _html_table(table: Table, *, heading: bool) -> str:
    name = ' class="name"'

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{name if column < table.names else ''}>{escape(cell)}</{tag}>" for column, cell in enumerate(cells)
        )

    rows = "\n".join(f"<tr>{line(cells, 'td')}</tr>" for cells in table.rows)
    title = f"<h3>{escape(table.title)}</h3>\n" if heading else ""
    return (
        f'{title}<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title, quote=True)}">'
        f"<table>\n<thead><tr>{line(table.header, 'th')}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _runs(runs: Sequence[Run]) -> str:
    """Every folder, and below them what they ran on: most share it, so it is named once."""
    origins: dict[str, str] = {}
    rows = []
    for run in runs:
        origin = _origin(run.config)
        letter = origins.setdefault(origin, _letter(len(origins)))
        ended = "yes" if run.finished else f"no, of {run.total_steps:,.0f}" if run.total_steps < math.inf else "unknown"
        members = f"{len(run.members):,}"
        cells = (f"{run.last_step:,.0f}", ended, number(run.seconds, 0), number(run.steps_per_second, 1), letter)
        rows.append((str(run.folder), run.env, members, *cells))
    header = ("Folder", "Environment", "Seeds", "Steps", "Finished", "Seconds", "Steps/s", "Made with")
    items = "".join(f"<li>{letter}: {escape(origin)}</li>" for origin, letter in origins.items())
    explained = "Steps: of each seed. Steps/s: of all seeds of the folder together. Made with:"
    return (
        f"<h2>Runs</h2>\n{_html_table(Table('Runs', header, rows, names=2), heading=False)}\n"
        f'<p class="soft">{explained}</p>\n<ul class="soft">{items}</ul>'
    )


def _origin(config: Mapping[str, Any]) -> str:
    """Versions and hardware, as the run recorded them."""
    parts = []
    for name in ("versions", "hardware"):
        recorded = config.get(name)
        if isinstance(recorded, dict):
            parts.append(", ".join(f"{key} {value}" for key, value in recorded.items()))
    return "; ".join(parts) or "not recorded"


def _letter(index: int) -> str:
    """A, B, ..., Z, A2, B2, ..."""
    turn, letter = divmod(index, 26)
    return chr(ord("A") + letter) + (str(turn + 1) if turn else "")


def _settings(study: Study) -> str:
    """All settings of each method, folded up."""
    parts = ["<h2>Settings</h2>"]
    for method in study.methods:
        member = next(group.members[0] for (_, name), group in study.groups.items() if name == method)
        text = ", ".join(f"{name} = {value}" for name, value in member.settings.items())
        parts.append(f'<details><summary>{escape(method)}</summary><p class="soft">{escape(text)}</p></details>')
    return "\n".join(parts)


def _method(results: Results) -> str:
    options = results.options
    scale = "; ".join(f"{env}: {low:,.6g} to {high:,.6g}" for env, (low, high) in results.references.items())
    source = (
        "by the returns given with --normalize-by"
        if results.given_references
        else "by the lowest and the highest evaluation of all counted runs in this report, so they change with what is in it"
    )
    notes = [
        "Methods are agents with the settings in which the given runs of an agent differ; runs that differ only in their "
        "seed are one method. One training run is one seed.",
        "Curves of several seeds stand at the steps that all of them have reached; between its own evaluations a seed keeps "
        "its last value.",
        f"Intervals: percentile bootstrap, {options.resamples:,} resamples, random seed {options.seed}, stratified: runs are "
        "drawn with replacement within each environment. They say what other seeds would give on the same environments. "
        "With few seeds they are too narrow; with one there are none.",
        f"Normalised scores: 0 and 1 are set {source} ({scale}).",
        "Probability of improvement: the share of pairs of runs in which the first method scores higher, ties one half, "
        "averaged over environments. Optimality gap: how far runs fall short of a normalised score of 1.",
        "Estimators: Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264.",
    ]
    return "<h2>How the numbers are made</h2>\n<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
