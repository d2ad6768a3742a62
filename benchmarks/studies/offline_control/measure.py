"""Measures a reference, or trains a method on a data set."""

from __future__ import annotations

from pathlib import Path

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.references import uniform_return
from benchmarks.lab.runs import measure_run, read_returns
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.offline_control.setting import REFERENCES, OfflineControl
from maxent_rl.data.datasets.files import read_dataset
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.policy import load_policy


def measure(unit: Unit, plan: OfflineControl, work: Path) -> Measured:
    """Measures a reference, or trains a method.

    Args:
      unit: to measure.
      plan: that it is of, which says where the data lie.
      work: folder of the runs, which do not stay.

    Raises:
      BenchmarkError: a run failed; with the end of what it said.
    """
    settings, path = unit.measured, plan.paths[unit.env.rpartition(" ")[2]]
    if unit.contender == "data":
        found = read_dataset(path)
        returns = found.returns
        values = {"return": float(returns.mean()) if len(returns) else float("nan"), "transitions": float(found.size)}
        return Measured([Seed(0, values, {})], {})
    if unit.contender in REFERENCES:
        given, episodes = settings["given"], settings["episodes"]
        if given is None:
            reference = uniform_return(settings["env"], episodes)
        else:
            reference = _played(given, episodes) if Path(given).exists() else _number(given)
        return Measured([Seed(0, {"return": reference}, {})], {})
    return measure_run(work, read_returns, unit._replace(flags=(*unit.flags, "--dataset", str(Path(path).absolute()))))


def _played(run: str, episodes: int) -> float:
    return float(evaluate_policy(load_policy(run), episodes).mean)


def _number(given: str) -> float:
    try:
        return float(given)
    except ValueError as error:
        raise BenchmarkError(f"{given} is neither a run nor a return.") from error
