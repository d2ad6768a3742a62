"""Trains a unit, and says what its records hold of each seed: returns, curve, speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.lab.curves import read_seeds
from benchmarks.lab.runs import measure_run
from benchmarks.lab.study import Measured, Unit


def measure(unit: Unit, plan: Any, work: Path) -> Measured:
    """Runs experiments/run.py, or goes on with its interrupted run.

    Raises:
      BenchmarkError: the run failed.
    """
    return measure_run(work, read_seeds, unit)
