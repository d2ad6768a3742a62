"""What the records of a token agent's run say of each seed: reward, variety, entropy, speed, and their course."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lab.runs import Row, measure_run
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.entropy_collapse.setting import LAST_EVALUATIONS, PART, Objectives, Part, Targets

EVALUATED = {
    "greedy": "return_mean",
    "pass@1": "pass@1",
    "pass@8": "pass@8",
    "distinct": "distinct_answers",
}
"""By metric: column of eval.csv."""
_TRAINED = {"reward": "episode/return", "entropy": "actor/entropy"}


def measure(unit: Unit, plan: Part, work: Path) -> Measured:
    """Measures a unit, unless the other part has measured a contender with the very same settings.

    Args:
      unit: to measure.
      plan: that it is of.
      work: folder in which the folders of runs lie while they are not done, beside the results of the other part.

    Raises:
      BenchmarkError: the run failed.
    """
    for part in (Objectives.part, Targets.part):
        path = work.parent / f"{part}.json"
        if part == plan.part or not path.exists():
            continue
        result = json.loads(path.read_text())
        found = [run for run in result["runs"] if run["settings"] == unit.settings and "error" not in run]
        if found:
            return _taken_over(found, result["versions"][found[0]["contender"]])
    return measure_run(work, read_seeds, unit)


def read_seeds(metrics: Sequence[Row], evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed's run gave.

    Args:
      metrics: rows of metrics.csv.
      evaluations: rows of eval.csv.

    Returns:
      For each seed:
        reward: mean over the last tenth of the reinforcement phase, which begins where the warm start ends.
        greedy, pass@1, pass@8, distinct: on held-out prompts, means over the last three evaluations.
        entropy_first, entropy_last, entropy_half: of the sampled tokens, in nats, over its first and last tenth, and over
          its second half.
        steps_per_second: median of the phase.
      And the courses `trained` and `evaluated`, by column as text, with steps counted from the end of the warm start.
    """
    found = []
    for seed in sorted({int(row["seed"]) for row in evaluations}):
        rows = [row for row in metrics if row["seed"] == seed]
        warm = [row["step"] for row in rows if math.isfinite(row.get("supervised/loss", math.nan))]
        begin = max(warm, default=0.0)
        learned = [row for row in rows if row["step"] > begin]
        examined = [row for row in evaluations if row["seed"] == seed]
        values = _trained_values(learned, begin) | {
            name: statistics.fmean(row[column] for row in examined[-LAST_EVALUATIONS:])
            for name, column in EVALUATED.items()
        }
        after = [row for row in examined if row["step"] >= begin]
        found.append(
            Seed(
                seed,
                values,
                {"trained": _course(learned, _TRAINED, begin), "evaluated": _course(after, EVALUATED, begin)},
            )
        )
    return found


def course(text: dict[str, str]) -> dict[str, list[float]]:
    """A course as numbers, by column."""
    return {name: [float(value) for value in values.split()] for name, values in text.items()}


def _trained_values(learned: Sequence[Row], begin: float) -> dict[str, float]:
    if not learned:
        return {}  # the run was all warm start
    length = learned[-1]["step"] - begin

    def mean(column: str, first: float, last: float) -> float:
        # A row is the mean over the iterations that end with its step.
        low, high = begin + first * length, begin + last * length
        within = [row[column] for row in learned if low < row["step"] <= high]
        return statistics.fmean(within or [learned[0 if first == 0 else -1][column]])

    return {
        "reward": mean(_TRAINED["reward"], 1 - PART, 1),
        "entropy_first": mean(_TRAINED["entropy"], 0, PART),
        "entropy_last": mean(_TRAINED["entropy"], 1 - PART, 1),
        "entropy_half": mean(_TRAINED["entropy"], 0.5, 1),
        # The first row may hold compiling.
        "steps_per_second": statistics.median(row["steps_per_second"] for row in learned[1:] or learned),
    }


def _course(rows: Sequence[Row], columns: dict[str, str], begin: float) -> dict[str, str]:
    """As text: a number in a line of its own, as JSON writes lists, would make the results unreadable."""
    found = {"step": " ".join(f"{row['step'] - begin:.0f}" for row in rows)}
    return found | {name: " ".join(f"{row[column]:.4g}" for row in rows) for name, column in columns.items()}


def _taken_over(runs: Sequence[dict[str, Any]], versions: dict[str, str]) -> Measured:
    own = ("env", "contender", "settings", "repeat", "values")
    # With the machine and its load at the time.
    return Measured(
        [
            Seed(run["repeat"], run["values"], {name: value for name, value in run.items() if name not in own})
            for run in runs
        ],
        versions,
    )
