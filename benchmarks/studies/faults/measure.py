"""Which of the parts measures a unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.lab.study import Measured, Unit
from benchmarks.studies.faults.command_lines import measure_lines
from benchmarks.studies.faults.inputs import measure_inputs
from benchmarks.studies.faults.kills import measure_kills
from benchmarks.studies.faults.setting import CommandLines, Kills


def measure(unit: Unit, plan: Any, work: Path) -> Measured:
    """Puts a unit of any part to the test.

    Raises:
      BenchmarkError: what should work without a fault does not.
    """
    if isinstance(plan, Kills):
        return measure_kills(unit, plan, work)
    return measure_lines(unit, plan) if isinstance(plan, CommandLines) else measure_inputs(unit)
