"""Processes that are measured: ours as a user starts it, and the peers by their drivers.

Ours is `experiments/run.py` in a fresh process; what it did is read from its metrics.csv, and the moments from that file's
last write. Nothing of maxent_rl is imported here, so that starting the benchmark warms nothing up.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import ROOT, BenchmarkError, Measurement
from work import Task

PEERS = Path(__file__).parent / "peers"
_TAIL_LINES = 6
_SECONDS_BETWEEN_LOOKS = 1.0


class Finished(NamedTuple):
    """A process that ended well.

    Attributes:
      output: its standard output.
      errors: its standard error.
      started: `time.time()` when it was started.
      seconds: it ran.
      peak_memory: the most resident memory, in bytes.
    """

    output: str
    errors: str
    started: float
    seconds: float
    peak_memory: int


class Process:
    """A command that runs in a session of its own, so that an interrupt reaches us first and we end it."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        cores: Iterable[int] | None = None,
    ) -> None:
        """Starts it.

        Args:
          command: program and arguments.
          folder: working directory; output goes there too.
          environment: variables besides ours.
          cores: that it may use; None for all.
        """
        self._command, self._folder = list(command), folder
        self._output, self._errors = folder / "output.txt", folder / "errors.txt"
        self.started = time.time()
        variables = (
            os.environ | {"BENCHMARK_STARTED": repr(self.started), "PYTHONPATH": str(ROOT)} | (environment or {})
        )
        pin = None if cores is None else (lambda allowed=set(cores): os.sched_setaffinity(0, allowed))
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=folder,
                env=variables,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                preexec_fn=pin,
            )

    @property
    def pid(self) -> int:
        """Its number, which is also that of its process group."""
        return self._process.pid

    def wait(self, meanwhile: Callable[[], None] | None = None) -> Finished:
        """Waits for the end.

        Args:
          meanwhile: called every second, to show progress.

        Raises:
          BenchmarkError: it failed; with the end of what it said.
        """
        try:
            # wait4 tells the memory of this very process, unlike getrusage of all children.
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG if meanwhile else 0)
            while meanwhile and not pid:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                meanwhile()
                pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        except BaseException:
            self.kill()
            raise
        seconds = time.time() - self.started
        self._process.returncode = os.waitstatus_to_exitcode(status)
        output, errors = self._output.read_text(errors="replace"), self._errors.read_text(errors="replace")
        if self._process.returncode != 0:
            tail = "\n".join((output + errors).strip().splitlines()[-_TAIL_LINES:])
            raise BenchmarkError(
                f"{shlex.join(self._command)} ended with status {self._process.returncode} and said:\n{tail}"
            )
        kilobytes = usage.ru_maxrss / 1024 if sys.platform == "darwin" else usage.ru_maxrss
        return Finished(output, errors, self.started, seconds, int(kilobytes * 1024))

    def kill(self) -> None:
        """Ends it and what it has started, if it still runs."""
        if self._process.returncode is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        except ProcessLookupError:
            pass


def run_all(processes: Sequence[Process]) -> list[Finished]:
    """Waits for processes that run side by side; if one fails, or on an interrupt, all are ended."""
    try:
        return [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.kill()
        raise


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for one run, removed when it is done."""
    return tempfile.TemporaryDirectory(prefix="maxent_rl-benchmark-", ignore_cleanup_errors=True)


class Product(NamedTuple):
    """A run of experiments/run.py.

    Attributes:
      rows: of metrics.csv, those of the first seed.
      last_write: `time.time()` at which the last of them was written.
      versions: of its config.json.
      finished: the process.
    """

    rows: list[dict[str, float]]
    last_write: float
    versions: dict[str, str]
    finished: Finished

    def at(self, step: int) -> tuple[float, int]:
        """`time.time()` at which a step was logged, and gradient steps until then."""
        for row in self.rows:
            if row["step"] == step:
                return self.last_write - (self.rows[-1]["seconds"] - row["seconds"]), int(row["updates"])
        raise BenchmarkError(f"metrics.csv has no row of step {step}.")


def start_product(
    flags: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, cores: Iterable[int] | None = None
) -> Process:
    """Starts experiments/run.py with its records below `folder`."""
    run = [sys.executable, str(ROOT / "experiments" / "run.py"), *flags, "--output-dir", str(folder / "runs")]
    return Process(run, folder, environment, cores)


def read_product(folder: Path, finished: Finished) -> Product:
    """Reads what a run of experiments/run.py left."""
    (config,) = (folder / "runs").glob("*/*/*/config.json")
    metrics = config.with_name("metrics.csv")
    with metrics.open(newline="") as file:
        rows = [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]
    rows = [row for row in rows if row["seed"] == rows[0]["seed"]]
    return Product(rows, metrics.stat().st_mtime, json.loads(config.read_text())["versions"], finished)


def run_product(
    flags: Sequence[str], environment: Mapping[str, str] | None = None, cores: Iterable[int] | None = None
) -> Product:
    """Runs experiments/run.py and reads its records, which are then removed."""
    with scratch() as folder:
        return read_product(Path(folder), start_product(flags, Path(folder), environment, cores).wait())


def measure_product(work: Task, seed: int, more: Sequence[str] = ()) -> Measurement:
    """Measures ours: environment steps and gradient steps per second between two lines of metrics.csv.

    Raises:
      BenchmarkError: the window held another number of gradient steps than it had to.
    """
    product = run_product([*work.product_flags(), "--seed", str(seed), *more])
    (begin, updates_before), (end, updates_after) = product.at(work.begin), product.at(work.end)
    seconds, steps = end - begin, work.window_steps
    updates = (updates_after - updates_before) * work.gradient_steps_per_update
    if updates != work.gradient_steps:
        raise BenchmarkError(
            f"maxent_rl took {updates} gradient steps in {steps} environment steps, not {work.gradient_steps}."
        )
    warmup = work.warmup_steps * seconds / steps
    values = {
        "steps_per_second": steps / seconds,
        "updates_per_second": updates / seconds,
        "seconds": seconds,
        "steps": steps,
        "updates": updates,
        "startup_seconds": begin - product.finished.started - warmup,
        "peak_memory_mb": product.finished.peak_memory / 1e6,
    }
    return Measurement(values, product.versions)


def peer_python(peers: Path, name: str) -> Path:
    """The Python of a peers' virtual environment.

    Raises:
      BenchmarkError: it has not been made.
    """
    python = peers.absolute() / name / "bin" / "python"
    if not python.exists():
        raise BenchmarkError(f"{python} does not exist: make it with benchmarks/peers/make.sh {name}.")
    return python


def measure_peer(
    python: Path, driver: str, flags: Sequence[str], environment: Mapping[str, str] | None = None
) -> Measurement:
    """Runs a peer's driver and takes the measurement that it prints.

    Args:
      python: of the peer's virtual environment.
      driver: file in benchmarks/peers.
      flags: for it.
      environment: variables besides ours.
    """
    with scratch() as folder:
        alone = {"PYTHONPATH": ""} | dict(environment or {})  # nothing of ours in the peer's environment
        finished = Process([str(python), str(PEERS / driver), *flags], Path(folder), alone).wait()
    printed: dict[str, Any] = json.loads(finished.output.strip().splitlines()[-1])
    values = printed.pop("values") | {"peak_memory_mb": finished.peak_memory / 1e6}
    return Measurement(values, printed.pop("versions"), printed)
