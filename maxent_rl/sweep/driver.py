"""`run_sweep`: hands jobs out, tries again those whose process died, shows where they stand, and stops without loss."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from maxent_rl.errors import InvalidSettingError
from maxent_rl.sweep.dashboard import Dashboard, State, Status
from maxent_rl.sweep.folder import is_finished, only_one, write_manifest
from maxent_rl.sweep.jobs import Job, Sweep, expand
from maxent_rl.sweep.local import LocalProcesses, make_slots
from maxent_rl.sweep.process import Outcome
from maxent_rl.training.interrupts import catch_interrupts

_SECONDS_BETWEEN_LOOKS = 0.2


class Executor(Protocol):
    """Where jobs run.

    Attributes:
      description: in words, for the user.
    """

    description: str

    def has_room(self) -> bool:
        """Whether another job can be submitted."""
        ...

    def submit(self, job: Job, token: str) -> None:
        """Takes a job on; `token` tells this attempt from all others."""
        ...

    def started(self, job: Job) -> bool:
        """Whether a submitted job is being worked on, or still waits."""
        ...

    def collect(self) -> list[tuple[Job, Outcome]]:
        """The jobs that have ended since the last call."""
        ...

    def interrupt(self) -> None:
        """Asks all running jobs to save a checkpoint and to stop; `collect` then gives them as they do."""
        ...

    def close(self) -> None:
        """Ends at once what still runs."""
        ...


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """What a call of `run_sweep` left.

    Attributes:
      folder: the sweep's folder.
      jobs: all jobs, in order.
      failed: for each job that failed, one sentence.
      interrupted: whether a signal ended the sweep before its last job.
    """

    folder: Path
    jobs: list[Job]
    failed: dict[Job, str]
    interrupted: bool


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int | None = None,
    retries: int = 2,
    ray_address: str | None = None,
    cpus_per_job: int | None = None,
    gpus_per_job: float = 0.0,
    progress: bool = True,
) -> SweepResult:
    """Does a sweep, or what is left of it: finished jobs are not repeated, others go on from their last checkpoint.

    Args:
      sweep: what to do.
      jobs: local processes at once; None for as many as devices or cores can carry.
      retries: how often a job whose process died is tried again; errors of the job itself are not.
      ray_address: a Ray cluster to work on ("auto", "HOST:PORT"); None for local processes.
      cpus_per_job: cores for each job; None for an even share of this machine's, or for one of the cluster's.
      gpus_per_job: accelerators of the cluster for each job.
      progress: show a table of the jobs (plain lines where there is no terminal).

    Raises:
      MaxentRLError: settings that cannot work, a folder that holds another sweep, or no such cluster. Errors of single
        jobs are in the result.
    """
    if retries < 0:
        raise InvalidSettingError(f"--retries must be at least 0, got {retries}.")
    for name, useless in (
        ("--jobs", ray_address and jobs is not None),
        ("--gpus-per-job", not ray_address and gpus_per_job),
    ):
        if useless:
            needed = "without" if ray_address else "with"
            raise InvalidSettingError(
                f"{name} has no effect here: it is used only {needed} --ray-address. Leave it out."
            )
    folder, planned = expand(sweep)
    with only_one(folder):
        write_manifest(folder, planned)
        statuses = {job: Status(State.FINISHED if is_finished(job) else State.WAITING) for job in planned}
        left = [job for job in planned if statuses[job].state == State.WAITING]
        if not left:
            return SweepResult(folder, planned, {}, interrupted=False)
        session = uuid.uuid4().hex
        executor: Executor
        if ray_address is None:
            executor = LocalProcesses(folder, make_slots(len(left), sweep.run.device, jobs, cpus_per_job))
        else:
            from maxent_rl.sweep.ray_cluster import RayTasks

            executor = RayTasks(folder, ray_address, session, cpus_per_job or 1, gpus_per_job)
        title = f"{folder}: {len(left)} of {len(planned)} jobs to do, {executor.description}"
        try:
            with (
                Dashboard(statuses, title, enabled=progress) as dashboard,
                catch_interrupts(dashboard.message) as interrupted,
            ):
                _Driver(executor, statuses, dashboard, retries, session).run(interrupted)
        finally:
            executor.close()
    failed = {job: status.note for job, status in statuses.items() if status.state == State.FAILED}
    stopped = any(status.state == State.STOPPED for status in statuses.values())
    return SweepResult(folder, planned, failed, stopped)


class _Driver:
    def __init__(
        self, executor: Executor, statuses: dict[Job, Status], dashboard: Dashboard, retries: int, session: str
    ) -> None:
        self._executor, self._statuses, self._dashboard = executor, statuses, dashboard
        self._retries, self._session = retries, session
        self._queue = [job for job, status in statuses.items() if status.state == State.WAITING]
        self._submitted: set[Job] = set()
        self._attempts = 0
        self._stopping = False

    def run(self, interrupted: Callable[[], bool]) -> None:
        """Until all jobs have ended, or have stopped after an interrupt."""
        while self._queue or self._submitted:
            if interrupted() and not self._stopping:
                self._stop()
            while self._queue and self._executor.has_room():
                self._submit(self._queue.pop(0))
            for job, outcome in self._executor.collect():
                self._submitted.discard(job)
                self._settle(job, outcome)
            for job in self._submitted:
                status = self._statuses[job]
                if status.state != State.RUNNING and self._executor.started(job):
                    status.state = State.RUNNING
            self._dashboard.update()
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _submit(self, job: Job) -> None:
        self._attempts += 1
        self._submitted.add(job)
        self._executor.submit(job, f"{self._session}/{self._attempts}")

    def _settle(self, job: Job, outcome: Outcome) -> None:
        status = self._statuses[job]
        status.note = outcome.message
        if outcome.kind == "finished":
            status.state = State.FINISHED
        elif self._stopping or outcome.kind == "interrupted":
            status.state = State.STOPPED
        elif outcome.kind == "failed":
            status.state = State.FAILED
        else:
            status.deaths += 1
            if status.deaths > self._retries:
                status.state, status.note = State.FAILED, f"{outcome.message}, after {self._retries} retries"
            else:
                status.state = State.RETRYING
                status.note = f"{outcome.message}; retry {status.deaths} of {self._retries}"
                self._queue.append(job)

    def _stop(self) -> None:
        self._stopping = True
        for job in self._queue:
            self._statuses[job].state = State.STOPPED
        self._queue.clear()
        self._executor.interrupt()
