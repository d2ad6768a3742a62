"""The board over all tasks, and what stands behind it, task by task; of each part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.lab.statistics import interquartile
from benchmarks.lab.study import Result, Results, runs_of
from benchmarks.lab.tables import markdown
from benchmarks.studies.objectives.scores import Place, board, scores, tasks, whole_tasks, with_start
from benchmarks.studies.objectives.setting import BASE, BUDGETS, LABELS, START, Defaults, Tuned, ordered
from maxent_rl.reports.statistics import Interval, interquartile_mean

_SHOWN = ("reward", "greedy", "pass@8", "entropy", "distinct", "length")
_TITLES = {Tuned.part: "### Each with the learning rate of its search", Defaults.part: "### All with one learning rate"}


def tables(results: Results) -> str:
    """Of each part, what says more first: the board, the table of each task, and what is missing."""
    found, everyone = [], ordered([run for result in results.values() for run in result["runs"]])
    for part, title in _TITLES.items():
        if part not in results:
            continue
        result = with_start(results, part)
        found += [title, overall(result), *(table(result, task) for task in tasks(result)), note(result, everyone)]
    return "\n\n".join(part for part in found if part)


def overall(result: Result) -> str:
    """The board over the tasks, by pass@1."""
    wanted, by_task = whole_tasks(result), scores(result, "pass@1")
    several, rows, place = len(wanted) > 1, [], 0
    for each in board(result):
        place += each.name != START
        rank = "" if each.name == START else str(place)
        own = [f"{_middle(by_task[each.name][task]):.3f}" for task in wanted] if several else []
        rows.append([rank, _shown(each), *own, *_compared(each)])
    if not rows:
        return ""
    names = [*(LABELS[task] for task in wanted), "all tasks"] if several else [LABELS[wanted[0]]]
    return markdown(["", "pass@1 of", *names, f"minus {BASE}", "", f"chance to beat {BASE}"], rows, texts=2)


def table(result: Result, task: str) -> str:
    """All that was measured on a task, the best first."""
    reached, seconds, rates = (scores(result, metric) for metric in ("pass@1", "seconds", "learning_rate"))
    others = [scores(result, name) for name in _SHOWN]
    names = [name for name in reached if task in reached[name]]
    usual = float(np.median([_middle(by_task[task]) for by_task in seconds.values() if task in by_task]))
    rows = []
    for name in sorted(names, key=lambda name: -_middle(reached[name][task])):
        rate, taken = rates.get(name, {}).get(task), seconds.get(name, {}).get(task)
        rows.append(
            [
                _code(name),
                _interval(interquartile([reached[name][task]])),
                *(_cell(each.get(name, {}).get(task)) for each in others),
                f"{rate[0]:g}" if rate else "",
                f"{_middle(taken) / usual:.2f}" if taken else "",
            ]
        )
    return markdown([LABELS[task], "pass@1", *_SHOWN, "rate", "time"], rows)


def note(result: Result, everyone: Sequence[str]) -> str:
    """Seeds and machine, who could not run, and who of all that ran in any part is missing."""
    there = [run for run in result["runs"] if "values" in run]
    seeds = sorted({len(runs_of(there, run["env"], run["contender"])) for run in there})
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    lines = [
        f"Interquartile means of {' to '.join(map(str, seeds))} seeds, in brackets 95 % intervals from the stratified "
        f"bootstrap over seeds; {machines}."
    ]
    failed = {(run["contender"], run["env"]): run["error"] for run in result["runs"] if "error" in run}
    lines += [f"`{name}` did not run on {LABELS[task]}: {error}" for (name, task), error in failed.items()]
    for task in BUDGETS:
        names = [name for name in everyone if not runs_of(result["runs"], task, name)]
        shown = "anyone" if len(names) == len(everyone) else ", ".join(map(_code, names))
        lines += [f"Not measured on {LABELS[task]} so far: {shown}."] if names else []
    return "\n\n".join(lines)


def _compared(place: Place) -> list[str]:
    if place.name == BASE:
        return [_interval(place.score), "", "", ""]
    apart = f"{place.difference.estimate:+.3f} ({place.difference.low:+.3f} to {place.difference.high:+.3f})"
    return [_interval(place.score), apart, place.verdict, _interval(place.chance, 2)]


def _shown(place: Place) -> str:
    return f"**{_code(place.name)}**" if place.verdict == "better" or place.name == BASE else _code(place.name)


def _code(name: str) -> str:
    return f"*{name}*" if name == START else f"`{name}`"


def _middle(values: Sequence[float]) -> float:
    return float(interquartile_mean([np.asarray(values, np.float64)]))


def _interval(found: Interval, digits: int = 3) -> str:
    return f"{found.estimate:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _cell(values: Sequence[float] | None) -> str:
    return f"{_middle(values):.3g}" if values else ""
