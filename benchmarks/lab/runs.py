"""Registered agents in studies: a run of experiments/run.py, which is gone on with from its last checkpoint after a cut.

All studies that train an agent as a user would train it do so here. A finished run leaves its numbers, and its folder is
removed; one that is needed further (a teacher, a policy behind data) stays.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.lab.measure import ROOT, BenchmarkError, show_number
from benchmarks.lab.processes import Process
from benchmarks.lab.study import Measured, Seed, Unit

Row = dict[str, float]
Reader = Callable[[Sequence[Row], Sequence[Row]], list[Seed]]
"""What each seed gave, from the rows of metrics.csv and those of eval.csv."""
_LAST = 3  # evaluations whose mean is the return of a run


def measure_run(runs: Path, read: Reader, unit: Unit) -> Measured:
    """Runs a unit, or goes on with its interrupted run.

    Args:
      runs: folder in which the folders of runs lie while they are not done.
      read: makes numbers of the records.
      unit: the environment, the contender and its flags.

    Raises:
      BenchmarkError: the run failed; with the end of what it said.
    """
    digest = hashlib.sha256(json.dumps(unit.settings, sort_keys=True).encode()).hexdigest()[:8]
    folder = runs / f"{unit.env}-{unit.contender}-{digest}".replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _train(folder, unit.flags)
    except BenchmarkError:
        shutil.rmtree(folder, ignore_errors=True)  # what does not work would not work again
        raise
    (config,) = (folder / "runs").glob("*/*/*/config.json")
    metrics, evaluations = (read_rows(config.with_name(name)) for name in ("metrics.csv", "eval.csv"))
    described = json.loads(config.read_text())
    found = Measured(read(metrics, evaluations), described["versions"])
    shutil.rmtree(folder)
    return found


def trained_run(folder: Path, name: str, flags: Sequence[str]) -> Path:
    """A run that a study needs, trained to its end, if need be from where it was interrupted; it stays.

    Args:
      folder: in which the folders of such runs lie.
      name: of this one.
      flags: of experiments/run.py, without --output-dir and --name.

    Returns:
      The run's own folder.

    Raises:
      BenchmarkError: the run failed; with the end of what it said.
    """
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    if not (own / "done").exists():
        _train(own, [*flags, "--name", name])
        (own / "done").touch()
    (config,) = (own / "runs").glob("*/*/*/config.json")
    return config.parent


def read_returns(metrics: Sequence[Row], evaluations: Sequence[Row]) -> list[Seed]:
    """What each seed gave: its return, mean of the last three evaluations (none is chosen), and its curves.

    Args:
      metrics: rows of metrics.csv.
      evaluations: rows of eval.csv.
    """
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


class Teller:
    """Shows the evaluations of a run as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._shown = folder, 0

    def __call__(self) -> None:
        """Shows what is new."""
        rows = [row for path in (self._folder / "runs").glob("*/*/*/eval.csv") for row in read_rows(path)]
        steps = sorted({row["step"] for row in rows})
        for step in steps[self._shown :]:
            returns = ", ".join(show_number(row["return_mean"]) for row in rows if row["step"] == step)
            print(f"    step {step:,.0f} | returns {returns}", file=sys.stderr, flush=True)
        self._shown = len(steps)


def read_rows(path: Path) -> list[Row]:
    """The rows of metrics.csv or eval.csv that read as numbers throughout; columns of lists are left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [
        {name: float(value or "nan") for name, value in row.items() if " " not in (value or "")}
        for row in csv.DictReader(whole)
    ]


def _train(folder: Path, flags: Sequence[str]) -> None:
    """Runs experiments/run.py with its records below `folder`, or goes on with the interrupted run that is there."""
    begun = _checkpointed(folder)
    if begun is None:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        flags = [*flags, "--allow-unused", "--output-dir", str(folder / "runs")]  # tables give all contenders the same
    else:
        flags = ["--resume", str(begun)]
    Process([sys.executable, str(ROOT / "experiments" / "run.py"), *flags], folder).wait(Teller(folder))


def _checkpointed(folder: Path) -> Path | None:
    """The folder of a run that can be gone on with."""
    found = [path.parents[1] for path in (folder / "runs").glob("*/*/*/checkpoints/*") if path.name.isdigit()]
    return found[0] if found else None
