"""A run of experiments/run.py as a unit of a study: an interrupted one is gone on with from its last checkpoint.

A finished run leaves its numbers, and its folder is removed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common import ROOT, BenchmarkError, show_number
from contenders import Process
from multimodal_study import Measured, Seed, Unit

Row = dict[str, float]
Reader = Callable[[Sequence[Row], Sequence[Row]], list[Seed]]
"""What each seed gave, from the rows of metrics.csv and those of eval.csv."""


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
    begun = _checkpointed(folder)
    if begun is None:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        flags = [*unit.flags, "--output-dir", str(folder / "runs")]
    else:
        flags = ["--resume", str(begun)]
    try:
        Process([sys.executable, str(ROOT / "experiments" / "run.py"), *flags], folder).wait(Teller(folder))
    except BenchmarkError:
        shutil.rmtree(folder, ignore_errors=True)  # what does not work would not work again
        raise
    (config,) = (folder / "runs").glob("*/*/*/config.json")
    metrics, evaluations = (read_rows(config.with_name(name)) for name in ("metrics.csv", "eval.csv"))
    described = json.loads(config.read_text())
    found = Measured(read(metrics, evaluations), described["versions"])
    shutil.rmtree(folder)
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


def _checkpointed(folder: Path) -> Path | None:
    """The folder of a run that can be gone on with."""
    found = [path.parents[1] for path in (folder / "runs").glob("*/*/*/checkpoints/*") if path.name.isdigit()]
    return found[0] if found else None
