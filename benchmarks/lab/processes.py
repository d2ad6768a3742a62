"""Processes that are measured, each in a session of its own, so that an interrupt reaches us first and we end them."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.lab.measure import ROOT, BenchmarkError

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
