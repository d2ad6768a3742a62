"""One job's process, as whoever started it sees it: on this machine for local sweeps, on a node for Ray."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from maxent_rl.storage.files import storage_errors
from maxent_rl.sweep.folder import FAILED, LOG, read_mark
from maxent_rl.sweep.worker import DONE, INTERRUPTED, STORAGE_ERROR, UNEXPECTED_ERROR, USER_ERROR


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job's process ended.

    Attributes:
      kind: "died" is for a process that was killed or crashed: worth another try, from the last checkpoint.
      message: one sentence for failed and died ones.
    """

    kind: Literal["finished", "interrupted", "failed", "died"]
    message: str = ""


class JobProcess:
    """A running job; its output goes to log.txt in the job's folder."""

    def __init__(
        self,
        sweep: Path,
        job: str,
        token: str,
        environment: Mapping[str, str],
        cores: Sequence[int] = (),
    ) -> None:
        """Starts the process.

        Args:
          sweep: the sweep's folder.
          job: the job's name.
          token: tells this attempt from all others.
          environment: variables to set beside those of this process.
          cores: CPU cores to keep to; empty for any.

        Raises:
          StorageError: the log cannot be written.
        """
        self._folder = sweep / job
        command = [sys.executable, "-m", "maxent_rl.sweep", str(sweep), job, "--token", token]
        command += ["--parent", str(os.getpid()), "--cores", ",".join(map(str, cores))]
        with storage_errors(f"write {self._folder / LOG}"):
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / LOG, "a", encoding="utf-8") as log:
                # A session of its own: Ctrl-C in the terminal reaches the sweep alone, which passes it on once.
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | dict(environment),
                    start_new_session=True,
                )

    def poll(self) -> Outcome | None:
        """How it ended; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        if status == DONE:
            return Outcome("finished")
        if status in (INTERRUPTED, -signal.SIGINT):
            return Outcome("interrupted")
        if status in (USER_ERROR, UNEXPECTED_ERROR, STORAGE_ERROR):
            what = (
                "its files cannot be written, as on a full disk" if status == STORAGE_ERROR else f"exit status {status}"
            )
            mark = read_mark(self._folder / FAILED) or {}
            return Outcome("failed", str(mark.get("error", f"{what}, see {self._folder / LOG}")))
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return Outcome("died", f"its process ended unexpectedly ({how})")

    def wait(self) -> Outcome:
        """Waits for the end."""
        while (outcome := self.poll()) is None:
            time.sleep(0.2)
        return outcome

    def interrupt(self) -> None:
        """Asks it to save a checkpoint and to stop."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
