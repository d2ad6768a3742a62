"""What the process of one job does.

It begins the job's run, or goes on from its last checkpoint, and leaves a mark when it is finished or has failed. Two
processes never work on a job at once, even where one of them is only believed to be dead: each writes a token of its own into
the job's folder, looks every half second whether it is still there, and ends at once if another has come. A new process
waits until its predecessor must have looked. It also ends with the process that started it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from maxent_rl.errors import MaxentRLError, StorageError
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.storage.files import write_json
from maxent_rl.sweep.folder import ATTEMPT, FAILED, FINISHED, STOP, is_finished, read_manifest, read_mark
from maxent_rl.sweep.jobs import Job

DONE, USER_ERROR, UNEXPECTED_ERROR, STORAGE_ERROR, DISPLACED, INTERRUPTED = 0, 1, 70, 74, 75, 130

_LOOK_SECONDS, _PREDECESSOR_SECONDS = 0.5, 3.0
_RECORDS = (
    *("config.json", "metrics.csv", "eval.csv", "learning_curve.png"),
    *("checkpoints", "policy", "tensorboard", "wandb_id.txt"),
)


def main(arguments: list[str]) -> int:
    """Does a job; returns the exit status that `process.JobProcess` understands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("job")
    parser.add_argument("--token", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--cores", default="")
    options = parser.parse_args(arguments)
    if options.cores and hasattr(os, "sched_setaffinity"):  # before the first computation: XLA counts cores then
        os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    job: Job | None = None
    try:
        job = next(job for job in read_manifest(options.sweep) if job.name == options.job)
        claim = Claim(options.sweep, job, options.token, options.parent)
        claim.take()
        try:
            return _work(job)
        finally:
            claim.release()
    except StorageError as error:  # has a status of its own, as the sentence may be what cannot be written
        return _fail(job, str(error), STORAGE_ERROR)
    except MaxentRLError as error:
        return _fail(job, str(error), USER_ERROR)
    except KeyboardInterrupt:
        print("Stopped before the first step; nothing was saved.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        return _fail(job, f"{type(error).__name__}: {first[:300]}", UNEXPECTED_ERROR)


def _work(job: Job) -> int:
    from maxent_rl.training.runner import run_training

    (job.folder / FAILED).unlink(missing_ok=True)
    if is_finished(job):
        return DONE
    resumed = _has_checkpoint(job.folder)
    if not resumed:  # begun and killed before there was anything to go on from
        for name in _RECORDS:
            path = job.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    result = run_training(job.run, job.agent, job.run.env, resume=job.folder if resumed else None)
    if result.interrupted:
        return INTERRUPTED
    write_json(job.folder / FINISHED, {"step": result.step})
    return DONE


def _has_checkpoint(folder: Path) -> bool:
    if not (folder / "checkpoints").is_dir():
        return False
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    try:
        return bool(checkpoints.steps())
    finally:
        checkpoints.close()


def _fail(job: Job | None, sentence: str, status: int) -> int:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    if job is not None:
        with contextlib.suppress(MaxentRLError):  # the disk may be what failed; the log has the sentence too
            write_json(job.folder / FAILED, {"error": sentence})
    return status


class Claim:
    """A process's right to a job, and the thread that watches whether it still has it."""

    def __init__(self, sweep: Path, job: Job, token: str, parent: int) -> None:
        self._path, self._stop, self._token, self._parent = job.folder / ATTEMPT, sweep / STOP, token, parent
        self._session = token.partition("/")[0]

    def take(self) -> None:
        """Writes the token, and waits for a predecessor that did not give the job back to see it or to be dead."""
        predecessor = read_mark(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        mark = {"token": self._token, "host": socket.gethostname(), "pid": os.getpid()}
        write_json(self._path, mark | {"node": os.environ.get("MAXENT_RL_NODE")})
        deadline = time.monotonic() + _PREDECESSOR_SECONDS
        while predecessor is not None and time.monotonic() < deadline and not _is_dead(predecessor):
            time.sleep(0.1)
        threading.Thread(target=self._watch, daemon=True, name="claim").start()

    def release(self) -> None:
        """Gives the job back: a successor need not wait."""
        if (read_mark(self._path) or {}).get("token") == self._token:
            self._path.unlink(missing_ok=True)

    def _watch(self) -> None:
        asked = False
        while True:
            if os.getppid() != self._parent:
                os._exit(DISPLACED)  # what has not been saved is lost, as in a crash; the next one begins there
            if (read_mark(self._path) or {}).get("token", self._token) != self._token:
                os._exit(DISPLACED)
            if not asked and (read_mark(self._stop) or {}).get("session") == self._session:
                asked = True
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(_LOOK_SECONDS)


def _is_dead(predecessor: dict[str, Any]) -> bool:
    if predecessor.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(predecessor["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return False
    return False
