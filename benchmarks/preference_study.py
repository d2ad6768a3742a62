"""What `preference_learning.py` runs: the policies behind the data, the data, and each method on it."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import ROOT
from contenders import Process
from continued_run import Row, Teller, measure_run, trained_run
from multimodal_study import Measured, Seed, Unit

from maxent_rl.data.batches.preferences import read_preferences
from maxent_rl.envs import make_host
from maxent_rl.errors import DataError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.policy import load_policy

_EPISODES, _LAST = 100, 3


def measure(runs: Path, unit: Unit) -> Measured:
    """Measures a reference or trains a method, making first what it needs.

    Args:
      runs: folder of the policies behind the data and of the data, which stay, and of the runs, which do not.
      unit: of `preference_learning.Study.units`.

    Raises:
      BenchmarkError: a command failed; with the end of what it said.
    """
    runs.mkdir(parents=True, exist_ok=True)
    if unit.contender == "uniform":
        return _reference(uniform_return(unit.env))
    if unit.contender == "oracle":
        policy = load_policy(_source(runs, unit, "oracle"))
        return _reference(evaluate_policy(policy, _EPISODES).mean)
    path = dataset(runs, unit)
    if unit.contender in ("data", "better half"):
        about = read_preferences(path).about
        return _reference(about["return_mean" if unit.contender == "data" else "return_better_half"])
    return measure_run(runs, read_seeds, unit._replace(flags=(*unit.flags, "--dataset", str(path))))


def read_seeds(metrics: Sequence[Row], evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed gave: its return, mean of the last three evaluations (none is chosen), and its curves."""
    found = []
    for seed in dict.fromkeys(int(row["seed"]) for row in evaluations):
        rows = [row for row in evaluations if row["seed"] == seed]
        values = {
            "return": float(np.mean([row["return_mean"] for row in rows[-_LAST:]])),
            "best": max(row["return_mean"] for row in rows),
        }
        values |= {name: rows[-1][name] for name in ("held_out_accuracy", "held_out_log_prob") if name in rows[-1]}
        curves = {"returns": [[row["step"], round(row["return_mean"], 1)] for row in rows]}
        noted = [row for row in metrics if row["seed"] == seed and np.isfinite(row.get("data/log_prob", np.nan))]
        curves["log_prob"] = [[row["step"], round(row["data/log_prob"], 4)] for row in noted]
        found.append(Seed(seed, values, curves))
    return found


def dataset(runs: Path, unit: Unit) -> Path:
    """The data of a unit, made where it is not there yet."""
    flip = unit.measured.get("flip", 0.0)
    wanted = {name: unit.measured[name] for name in ("half", "oracle", "data")} | {"flip": flip}
    path = runs / f"{unit.env}-flip{flip:g}-{_digest(wanted)}.npz"
    try:
        read_preferences(path)
    except DataError:
        path.unlink(missing_ok=True)
        half, oracle = (str(_source(runs, unit, name)) for name in ("half", "oracle"))
        flags = ["--policy", half, "--oracle", oracle, "--flip", str(flip), "--output", str(path)]
        command = [sys.executable, str(ROOT / "experiments" / "dataset.py"), "preferences", *flags]
        _run([*command, *shlex.split(str(unit.measured["data"]))], runs / "making")
    return path


def _source(runs: Path, unit: Unit, name: str) -> Path:
    """The folder of the run of a policy behind the data, trained where it is not there yet."""
    flags = str(unit.measured[name])
    own = f"{name}-{_digest({'flags': flags})}"
    return trained_run(runs / "sources", own, ["--env", unit.env, *shlex.split(flags)])


def _run(command: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Process(command, folder).wait(Teller(folder))


def uniform_return(env: str, episodes: int = _EPISODES) -> float:
    """Mean return of uniform actions."""
    rng = np.random.default_rng(0)
    envs = make_host(env, range(episodes))
    try:
        envs.reset()
        running, total = np.ones(episodes, bool), np.zeros(episodes)
        while running.any():
            step = envs.step(rng.uniform(-1, 1, (episodes, *envs.spec.action_shape)).astype(np.float32))
            total += np.where(running, step.reward, 0.0)
            running &= ~(step.terminated | step.truncated)
        return float(total.mean())
    finally:
        envs.close()


def _reference(value: float) -> Measured:
    return Measured([Seed(0, {"return": float(value)}, {})], {})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
