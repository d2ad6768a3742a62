"""What the study runs: the policies behind the data, the data, and each method on it."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lab.measure import ROOT
from benchmarks.lab.processes import Process
from benchmarks.lab.references import EPISODES, uniform_return
from benchmarks.lab.runs import Teller, measure_run, read_returns, trained_run
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.preference_learning.setting import PreferenceLearning
from maxent_rl.data.batches.preferences import read_preferences
from maxent_rl.errors import DataError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.policy import load_policy


def measure(unit: Unit, plan: PreferenceLearning, work: Path) -> Measured:
    """Measures a reference or trains a method, making first what it needs.

    Args:
      unit: to measure.
      plan: that it is of.
      work: folder of the policies behind the data and of the data, which stay, and of the runs, which do not.

    Raises:
      BenchmarkError: a command failed; with the end of what it said.
    """
    work.mkdir(parents=True, exist_ok=True)
    if unit.contender == "uniform":
        return _reference(uniform_return(unit.env))
    if unit.contender == "oracle":
        policy = load_policy(_source(work, unit, "oracle"))
        return _reference(evaluate_policy(policy, EPISODES).mean)
    path = dataset(work, unit)
    if unit.contender in ("data", "better half"):
        about = read_preferences(path).about
        return _reference(about["return_mean" if unit.contender == "data" else "return_better_half"])
    return measure_run(work, read_returns, unit._replace(flags=(*unit.flags, "--dataset", str(path))))


def dataset(work: Path, unit: Unit) -> Path:
    """The data of a unit, made where it is not there yet."""
    flip = unit.measured.get("flip", 0.0)
    wanted = {name: unit.measured[name] for name in ("half", "oracle", "data")} | {"flip": flip}
    path = work / f"{unit.env}-flip{flip:g}-{_digest(wanted)}.npz"
    try:
        read_preferences(path)
    except DataError:
        path.unlink(missing_ok=True)
        half, oracle = (str(_source(work, unit, name)) for name in ("half", "oracle"))
        flags = ["--policy", half, "--oracle", oracle, "--flip", str(flip), "--output", str(path)]
        command = [sys.executable, str(ROOT / "experiments" / "dataset.py"), "preferences", *flags]
        _run([*command, *shlex.split(str(unit.measured["data"]))], work / "making")
    return path


def _source(work: Path, unit: Unit, name: str) -> Path:
    """The folder of the run of a policy behind the data, trained where it is not there yet."""
    flags = str(unit.measured[name])
    own = f"{name}-{_digest({'flags': flags})}"
    return trained_run(work / "sources", own, ["--env", unit.env, *shlex.split(flags)])


def _run(command: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Process(command, folder).wait(Teller(folder))


def _reference(value: float) -> Measured:
    return Measured([Seed(0, {"return": float(value)}, {})], {})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
