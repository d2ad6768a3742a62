"""experiments/run.py with a clock that stands still during evaluations.

    python -m benchmarks.speed.timed_run CURVE RETURN FLAGS...

Appends a line of JSON to CURVE at every evaluation: environment step, seconds since the command was given, less those of
evaluations and of saving what they found best, and the mean return. Stops the run, as Ctrl-C would, once two evaluations have
passed RETURN. FLAGS go to experiments/run.py.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.peers import driver
from experiments import run
from maxent_rl.training.runner import Training

_INTERRUPTED = 130


class Clock:
    """Seconds since the command, without what is timed as evaluation."""

    def __init__(self, curve: Path, stop_return: float) -> None:
        self._curve, self._stop_return = curve, stop_return
        self._outside = 0.0
        self._passed = 0

    @property
    def stopped(self) -> bool:
        """Whether two evaluations have passed."""
        return self._passed >= 2

    def install(self) -> None:
        """Wraps the two methods of a training that are outside the clock."""
        Training._evaluate = self._wrap(Training._evaluate, self._note)
        Training._save = self._wrap(Training._save, lambda training, seconds: None)

    def _wrap(self, method: Callable[..., Any], note: Callable[[Training, float], None]) -> Callable[..., Any]:
        def timed(training: Training, *args: Any) -> Any:
            began, seconds = time.time(), driver.since_command() - self._outside
            result = method(training, *args)
            note(training, seconds)
            self._outside += time.time() - began
            return result

        return timed

    def _note(self, training: Training, seconds: float) -> None:
        step, outcomes = training._evaluations[-1]
        mean = sum(outcome.mean for outcome in outcomes) / len(outcomes)
        row = {"step": step, "seconds": seconds, "return_mean": mean}
        with self._curve.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._passed += mean > self._stop_return
        if self.stopped:
            signal.raise_signal(signal.SIGINT)


def main(curve: str, stop_return: str, *flags: str) -> int:
    """Trains; returns the exit status, 0 also where the clock has stopped the run."""
    clock = Clock(Path(curve), float(stop_return))
    clock.install()
    status = run.main(list(flags))
    return 0 if status == _INTERRUPTED and clock.stopped else status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
