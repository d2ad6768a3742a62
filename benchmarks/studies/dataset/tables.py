"""The study's tables: what each agent reaches over TQ and SACo, and what that says of the paper's findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.lab.measure import BUSY, BenchmarkError
from benchmarks.lab.study import Result, Results
from benchmarks.lab.tables import markdown
from benchmarks.studies.dataset.claims import (
    Point,
    bootstrap,
    datasets_of,
    findings,
    mean_in,
    points,
    rank_correlation,
    region,
    spearman,
)
from benchmarks.studies.dataset.setting import AGENTS, KINDS, LABELS
from maxent_rl.data.measures.findings import HIGH
from maxent_rl.reports.statistics import Interval

_REGIONS = {
    "both high": lambda tq, saco: tq and saco,
    "TQ high, SACo low": lambda tq, saco: tq and not saco,
    "TQ low, SACo high": lambda tq, saco: saco and not tq,
    "both low": lambda tq, saco: not (tq or saco),
}


def tables(results: Results) -> str:
    """All tables, and what they were made from."""
    result = results["dataset"]
    data = points(result)
    if not data:
        raise BenchmarkError("No data set has been learned from by every agent of the study yet.")
    return "\n\n".join(
        [correlations(data), claims(data), regions(data), by_kind(data), datasets(result, data), note(result, data)]
    )


def correlations(data: Sequence[Point]) -> str:
    """Rank correlations of what each agent reaches with the measures of the data."""
    measures = (lambda point: point.tq), (lambda point: point.saco)
    rows = []
    for agent in [agent for agent in AGENTS if agent in data[0].best]:
        statistics = [rank_correlation(agent, measure, which) for which in ("best", "last") for measure in measures]
        rows.append([LABELS[agent], *(show(bootstrap(data, statistic)) for statistic in statistics)])
    head = ["rank correlation of", "best, with TQ", "best, with SACo", "at the end, with TQ", "at the end, with SACo"]
    both = bootstrap(data, lambda rows: spearman([point.tq for point in rows], [point.saco for point in rows]))
    return markdown(head, rows) + f"\n\nTQ and SACo themselves correlate by {show(both)}."


def claims(data: Sequence[Point]) -> str:
    """The three findings: numbers above 0 speak for them."""
    rows = []
    best, last = findings(data, "best"), findings(data, "last")
    for at_best, at_end in zip(best, last, strict=True):
        for index, name in enumerate(at_best.numbers):
            verdicts = [at_best.holds, at_end.holds] if not index else ["", ""]
            numbers = [show(each.numbers[name]) for each in (at_best, at_end)]
            rows.append(["" if index else at_best.claim, name, numbers[0], verdicts[0], numbers[1], verdicts[1]])
    return markdown(["finding", "number", "best", "holds", "at the end", "holds"], rows, texts=2)


def regions(data: Sequence[Point]) -> str:
    """Mean omega by agent and region of the plane."""
    counts = [sum(1 for point in data if wanted(*region(point))) for wanted in _REGIONS.values()]
    heads = [f"{name} ({count})" for name, count in zip(_REGIONS, counts, strict=True)]

    def cells(agent: str) -> list[str]:
        return [show(bootstrap(data, mean_in(lambda point: point.best[agent], wanted))) for wanted in _REGIONS.values()]

    rows = [[LABELS[agent], *cells(agent)] for agent in AGENTS if agent in data[0].best]
    return markdown(["omega where (data sets)", *heads], rows)


def by_kind(data: Sequence[Point]) -> str:
    """Mean omega by environment, kind of data and agent."""
    agents = [agent for agent in AGENTS if agent in data[0].best]
    rows = []
    for env in dict.fromkeys(point.env for point in data):
        for kind in KINDS:
            chosen = [point for point in data if (point.env, point.kind) == (env, kind)]
            if chosen:
                means = [np.mean([point.best[agent] for point in chosen]) for agent in agents]
                measures = [np.mean([point.tq for point in chosen]), np.mean([point.saco for point in chosen])]
                rows.append(
                    [f"{env.removeprefix('maxent/')} {kind}", *(f"{value:.2f}" for value in (*measures, *means))]
                )
    return markdown(["omega", "TQ", "SACo", *(LABELS[agent] for agent in agents)], rows)


def datasets(result: Result, data: Sequence[Point]) -> str:
    """What the behaviour policies were, and which data sets are left out."""
    lines = []
    made = datasets_of(result)
    for env in dict.fromkeys(each["env"] for each in made):
        own = [each for each in made if each["env"] == env and each["kind"] == "replay"]
        best = ", ".join(f"{each['expert_return']:.4g}" for each in own)
        low = np.mean([each["random_return"] for each in own])
        lines.append(f"{env} {best} (uniform actions {low:.4g})")
    left_out = len(made) - len(data)
    text = f"Best evaluation of each online run: {'; '.join(lines)}."
    return text + (f" {left_out} data sets are left out, TQ being undefined or a run missing." if left_out else "")


def note(result: Result, data: Sequence[Point]) -> str:
    """Sizes, settings and time, in one sentence."""
    settings = result["settings"]
    learned = [run for run in result["runs"] if "returns" in run]
    seeds = len({run["repeat"] for run in learned})
    # A unit's time stands with each of its seeds, that of the data with each data set.
    seconds = sum({(run["env"], run["contender"]): run["seconds"] for run in learned}.values())
    seconds += sum(each["seconds"] for each in datasets_of(result))
    busy, machine = result["runs"][0]["busy_before"], result["runs"][0]["machine"]
    beside = f", of which others used {busy:.0%} when it began" if busy > BUSY else ""
    return (
        f"{len(data)} data sets of {settings['size']:,} transitions, {len(AGENTS)} agents, {seeds} seeds each, "
        f"{settings['updates']:,} updates with batches of {settings['batch_size']}; the whole study took "
        f"{seconds / 60:.0f} minutes on a {machine}{beside}. High means at "
        f"least {HIGH:g}; brackets are 95 % intervals over behaviour policies."
    )


def show(found: Interval) -> str:
    """`estimate (low to high)`, the estimate alone where there is no interval, a dash where there is nothing."""
    if not np.isfinite(found.estimate):
        return "-"
    if not np.isfinite(found.low):
        return f"{found.estimate:.2f}"
    return f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})"
