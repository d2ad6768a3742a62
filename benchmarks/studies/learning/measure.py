"""Trains as recorded configurations say, and keeps the records."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lab.runs import Row, read_rows, trained_run
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.learning.setting import RECORDS, Learning, config_of

_KEPT = ("config.json", "metrics.csv", "eval.csv", "learning_curve.png", "token_curves.png")


def measure(unit: Unit, plan: Learning, work: Path) -> Measured:
    """Trains a run, or goes on with it after a cut, and keeps its records in the folder of the results.

    Raises:
      BenchmarkError: the run failed; with the end of what it said.
    """
    run = trained_run(work, unit.contender, ["--config", str(RECORDS / unit.contender / "config.json")])
    kept = work.parent / unit.contender
    kept.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        if (run / name).exists():
            shutil.copy(run / name, kept / name)
    shutil.rmtree(work / unit.contender)
    return Measured(read_seeds(read_rows(kept / "eval.csv")), config_of(unit.contender)["versions"])


def read_seeds(evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed's run gave: the mean return of its last evaluation, and of the last in the first half of its steps."""
    found = []
    for seed in dict.fromkeys(int(row["seed"]) for row in evaluations):
        rows = [row for row in evaluations if row["seed"] == seed]
        half = [row for row in rows if row["step"] <= rows[-1]["step"] / 2] or rows[:1]
        values = {"half": half[-1]["return_mean"], "last": rows[-1]["return_mean"], "steps": rows[-1]["step"]}
        found.append(Seed(seed, values, {}))
    return found
