"""Measures a unit of whichever part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.lab.runs import measure_run
from benchmarks.lab.study import Measured, Unit
from benchmarks.studies.multimodal.gradients import measure_gradient
from benchmarks.studies.multimodal.mujoco import read_seeds
from benchmarks.studies.multimodal.setting import Gradients, Mujoco
from benchmarks.studies.multimodal.toys import measure_toy


def measure(unit: Unit, plan: Any, work: Path) -> Measured:
    """Trains and samples in this process, or runs experiments/run.py on MuJoCo.

    Raises:
      BenchmarkError: the settings do not work, or a run failed.
    """
    if isinstance(plan, Mujoco):
        return measure_run(work, read_seeds, unit)
    return measure_gradient(unit) if isinstance(plan, Gradients) else measure_toy(unit)
