"""Jobs as tasks of a Ray cluster. Every node must see the sweep's folder under the same path, and have this library.

A task starts the job's process on its node and waits for it, so the computing, the log and the errors are those of a local
sweep. Retries are decided by the sweep, not by Ray: it counts them, shows them, and starts from the last checkpoint.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from maxent_rl.errors import InvalidSettingError, MissingDependencyError, ProcessError
from maxent_rl.storage.files import write_json
from maxent_rl.sweep.folder import ATTEMPT, STOP, read_mark
from maxent_rl.sweep.jobs import Job
from maxent_rl.sweep.local import thread_limits
from maxent_rl.sweep.process import JobProcess, Outcome

_SECONDS_BETWEEN_QUESTIONS, _SECONDS_TO_ANSWER, _MOST_MISSED = 3.0, 3.0, 3


class RayTasks:
    """Runs jobs on a cluster; see `driver.Executor` for what the methods promise."""

    def __init__(self, folder: Path, address: str, session: str, cpus: int, gpus: float) -> None:
        """Connects to a cluster.

        Args:
          folder: the sweep's folder, on storage that all nodes share.
          address: of the cluster: "auto", "HOST:PORT" or "ray://HOST:PORT".
          session: the first part of all tokens.
          cpus: cores that a job needs.
          gpus: accelerators that a job needs.

        Raises:
          MissingDependencyError: ray is not installed.
          InvalidSettingError: no cluster answers, or the resources are impossible.
        """
        if cpus < 1 or gpus < 0:
            raise InvalidSettingError(
                f"--cpus-per-job must be at least 1 and --gpus-per-job at least 0, got {cpus} and {gpus:g}."
            )
        self._ray = _connect(address)
        self._folder, self._session, self._cpus, self._gpus = folder.resolve(), session, cpus, gpus
        self._head = _Head(self._ray.get_runtime_context().gcs_address, address)
        self._tokens: dict[Job, str] = {}
        self._tasks: dict[Any, Job] = {}
        self._interrupted = False
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        wanted = {"CPU": cpus, "GPU": gpus}
        fitting = [
            node for node in nodes if all(node["Resources"].get(kind, 0) >= count for kind, count in wanted.items())
        ]
        self.description = f"a Ray cluster of {len(nodes)} node(s), {cpus} CPU(s) and {gpus:g} GPU(s) for each job"
        if not fitting:
            self.description += "; none of the nodes has as many, so jobs wait until one joins that does"

    def has_room(self) -> bool:
        """Always: Ray keeps the queue."""
        return not self._interrupted

    def submit(self, job: Job, token: str) -> None:
        """Hands a job to the cluster."""
        run = self._ray.remote(_run_on_node).options(
            num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0, name=job.name
        )
        environment = thread_limits(self._cpus)
        self._tasks[run.remote(str(self._folder), job.name, token, environment)] = job
        self._tokens[job] = token

    def started(self, job: Job) -> bool:
        """Whether the job's process works already, or waits for a node with room."""
        return (read_mark(self._folder / job.name / ATTEMPT) or {}).get("token") == self._tokens[job]

    def collect(self) -> list[tuple[Job, Outcome]]:
        """The jobs whose tasks have ended since the last call.

        Raises:
          ProcessError: the cluster's head has ended.
        """
        self._head.check()
        tasks = list(self._tasks)
        ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0) if tasks else ([], [])
        ended = [(self._tasks.pop(task), self._outcome(task)) for task in ready]
        if self._interrupted:  # those that still wait for a node have nothing to save
            waiting = [(task, job) for task, job in self._tasks.items() if not self.started(job)]
            for task, job in waiting:
                self._ray.cancel(task, force=True)
                del self._tasks[task]
                ended.append((job, Outcome("interrupted")))
        return ended

    def interrupt(self) -> None:
        """Asks all running jobs to save and to stop, through a file that their processes look for."""
        self._interrupted = True
        write_json(self._folder / STOP, {"session": self._session})

    def close(self) -> None:
        """Disconnects; what still runs ends with that."""
        if self._head.is_lost:  # Ray would wait for it, and then end this process before its last sentence
            atexit.unregister(self._ray.shutdown)
            return
        self._ray.shutdown()

    def _outcome(self, task: Any) -> Outcome:
        exceptions = self._ray.exceptions
        try:
            kind, message = self._ray.get(task)
        except exceptions.RayTaskError as error:  # the task itself failed, before the job's process began
            return Outcome("failed", str(error.cause or error).strip().splitlines()[-1])
        except exceptions.TaskCancelledError:
            return Outcome("interrupted")
        except exceptions.RayError as error:
            return Outcome("died", f"its node or worker was lost ({type(error).__name__})")
        return Outcome(kind, message)


class _Head:
    """The head of a cluster, of which Ray says for a minute nothing, and then ends the process.

    Attributes:
      is_lost: whether it does not answer any more.
    """

    def __init__(self, place: str, address: str) -> None:
        """Takes where it listens, HOST:PORT, and what the user calls the cluster."""
        self._host, _, port = place.rpartition(":")
        self._port, self._address = int(port), address
        self._asked_at, self._missed, self.is_lost = time.monotonic(), 0, False

    def check(self) -> None:
        """Asks now and then whether it is there.

        Raises:
          ProcessError: it has not been several times.
        """
        if time.monotonic() - self._asked_at < _SECONDS_BETWEEN_QUESTIONS:
            return
        try:
            socket.create_connection((self._host, self._port), timeout=_SECONDS_TO_ANSWER).close()
            self._missed = 0
        except OSError:
            self._missed += 1
        self._asked_at = time.monotonic()
        if self._missed >= _MOST_MISSED:
            self.is_lost = True
            raise ProcessError(
                f"The head of the Ray cluster at {self._address} does not answer any more: start the cluster, and run the "
                "same command again, which goes on from the last checkpoints; finished jobs are kept."
            )


def _run_on_node(folder: str, job: str, token: str, environment: dict[str, str]) -> tuple[str, str]:
    """The body of a task: (kind, message) of the outcome, as plain values."""
    import ray

    node = {"MAXENT_RL_NODE": ray.get_runtime_context().get_node_id()}
    outcome = JobProcess(Path(folder), job, token, environment | node).wait()
    return outcome.kind, outcome.message


def _connect(address: str) -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone unless the user says so
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f'Ray is not installed ({error}). Install it with: pip install "maxent_rl[sweep]".'
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InvalidSettingError(
            f"No Ray cluster answers at --ray-address {address} ({reason}); start one with: ray start --head."
        ) from error
    return ray
