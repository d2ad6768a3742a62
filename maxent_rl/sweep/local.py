"""Jobs as processes of this machine, as many at once as its devices or cores can carry."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from maxent_rl.errors import InvalidSettingError
from maxent_rl.sweep.jobs import Job
from maxent_rl.sweep.process import JobProcess, Outcome

_PROBE = "import jax; devices = jax.local_devices({backend}); print(devices[0].platform, len(devices))"


@dataclasses.dataclass(frozen=True)
class Slot:
    """Room for one process: the cores that it keeps to and the environment variables that it gets."""

    cores: tuple[int, ...]
    environment: dict[str, str]


class LocalProcesses:
    """Runs jobs in slots; see `driver.Executor` for what the methods promise."""

    def __init__(self, folder: Path, slots: list[Slot]) -> None:
        self._folder, self._free = folder, list(slots)
        self._running: dict[Job, tuple[JobProcess, Slot]] = {}
        self.description = f"{len(slots)} at once on this machine, {_cores_text(slots[0])} each"

    def has_room(self) -> bool:
        """Whether another job can be submitted."""
        return bool(self._free)

    def submit(self, job: Job, token: str) -> None:
        """Starts a job's process."""
        slot = self._free.pop(0)
        try:
            process = JobProcess(self._folder, job.name, token, slot.environment, slot.cores)
        except BaseException:
            self._free.insert(0, slot)
            raise
        self._running[job] = process, slot

    def started(self, job: Job) -> bool:
        """Always: there was room."""
        return True

    def collect(self) -> list[tuple[Job, Outcome]]:
        """The jobs whose processes have ended since the last call."""
        ended = []
        for job, (process, slot) in list(self._running.items()):
            if (outcome := process.poll()) is not None:
                del self._running[job]
                self._free.append(slot)
                ended.append((job, outcome))
        return ended

    def interrupt(self) -> None:
        """Asks all running jobs to save and to stop."""
        for process, _ in self._running.values():
            process.interrupt()

    def close(self) -> None:
        """Ends what still runs."""
        for process, _ in self._running.values():
            process.kill()
        self._running.clear()


def make_slots(jobs: int, device: str, wanted: int | None = None, cores_each: int | None = None) -> list[Slot]:
    """Divides this machine among jobs.

    Each accelerator carries one process, or as many as are wanted together; without accelerators each process gets its own
    share of the cores. Within a sweep all processes get the same number of cores, as XLA rounds sums differently with
    another number of threads.

    Args:
      jobs: how many there are to do.
      device: what they compute on, as in `RunConfig`.
      wanted: processes at once; None for as many as devices or cores can carry.
      cores_each: cores for each process; None divides them evenly.

    Raises:
      InvalidSettingError: fewer than one process or core is wanted, or there is no such device.
    """
    for name, value in (("--jobs", wanted), ("--cpus-per-job", cores_each)):
        if value is not None and value < 1:
            raise InvalidSettingError(f"{name} must be at least 1, got {value}.")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    platform, devices = ("cpu", 1) if device == "cpu" else _probe(device)
    carried = max(len(cores) // (cores_each or 1), 1)
    if platform != "cpu":
        carried = min(carried, devices if platform == "gpu" else 1)  # a TPU serves one process
    count = max(min(wanted or carried, jobs), 1)
    each = min(cores_each or max(len(cores) // count, 1), len(cores))
    shared = -(-count // devices)  # processes on the fullest device
    visible = _visible_gpus(devices)
    slots = []
    for index in range(count):
        own = tuple(cores[(index * each + offset) % len(cores)] for offset in range(each))
        environment = thread_limits(each)
        if platform == "gpu":
            environment["CUDA_VISIBLE_DEVICES"] = visible[index % devices]
            if shared > 1:
                environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / shared:.3f}"
        slots.append(Slot(own, environment))
    return slots


def thread_limits(count: int) -> dict[str, str]:
    """Environment variables that keep a process to a number of threads for computing (XLA reads PJRT_NPROC)."""
    return {"PJRT_NPROC": str(count), "OMP_NUM_THREADS": str(count)}


def _visible_gpus(devices: int) -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",") if chosen else [str(index) for index in range(devices)]


def _probe(device: str) -> tuple[str, int]:
    """Platform and number of the local devices, asked of a process of its own: this one must not take hold of them."""
    backend = "" if device == "auto" else f"backend={device!r}"
    done = subprocess.run([sys.executable, "-c", _PROBE.format(backend=backend)], capture_output=True, text=True)
    if done.returncode:
        raise InvalidSettingError(f"--device {device}: JAX finds no such device here.")
    platform, count = done.stdout.split()[-2:]
    return platform, int(count)


def _cores_text(slot: Slot) -> str:
    cores = f"{len(slot.cores)} core" + "s" * (len(slot.cores) > 1)
    return f"GPU and {cores}" if "CUDA_VISIBLE_DEVICES" in slot.environment else cores
