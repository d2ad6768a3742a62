"""One run by several processes, on one machine or many, each training its share of the members (seeds of all variants).

Nothing is communicated while a process learns: its programs run on its own devices. At each log line, evaluation and
checkpoint the processes tell each other what came out, and the first one alone writes files. What one process cannot do,
all stop for, with the same error, so that none is left waiting.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

from maxent_rl import errors
from maxent_rl.errors import InvalidSettingError, MaxentRLError, ProcessError
from maxent_rl.seeds.watch import Watch
from maxent_rl.storage.arrays import Arrays, pack, unpack

_T = TypeVar("_T")
_LARGEST_MESSAGE = 2**26  # bytes that each process sends at once: every process holds those of all on a device
# A process that ended for a fault waits so long, at its exit, for those that may not have noticed.
_SHUTDOWN_SECONDS = 30
# A lost process ends what others compute with it; that it is lost is heard of as soon, or a little later.
_SECONDS_TO_HEAR = 3.0


def check_processes(coordinator: str, num_processes: int | None, process_id: int | None) -> None:
    """Refuses what no processes can be joined by; the arguments are those of `start_processes`.

    Raises:
      InvalidSettingError: an address without a port, or numbers that do not fit.
    """
    if coordinator != "auto":
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise InvalidSettingError(f"--coordinator must be HOST:PORT or auto, got {coordinator!r}.")
        if num_processes is None or process_id is None:
            raise InvalidSettingError("--coordinator HOST:PORT needs --num-processes and --process-id too.")
    if num_processes is not None and process_id is not None and not 0 <= process_id < num_processes:
        raise InvalidSettingError(
            f"--process-id must be from 0 to {num_processes - 1} (--num-processes is {num_processes}), got {process_id}."
        )


def start_processes(
    coordinator: str = "auto", num_processes: int | None = None, process_id: int | None = None, timeout: int = 300
) -> None:
    """Joins this process to the others of a run; to be called once, before JAX computes anything.

    Args:
      coordinator: HOST:PORT of the first process, where it listens; "auto" where JAX can find out by itself (Slurm, Open
        MPI, Kubernetes, TPU pods).
      num_processes: how many there are; None to find out.
      process_id: which one this is, from 0; None to find out.
      timeout: seconds to wait for the others.

    Raises:
      InvalidSettingError: an address without a port, or numbers that do not fit.
      ProcessError: the others cannot be reached, or nothing tells who they are.
    """
    check_processes(coordinator, num_processes, process_id)
    address = None if coordinator == "auto" else coordinator
    try:
        jax.distributed.initialize(
            address,
            num_processes,
            process_id,
            initialization_timeout=timeout,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ProcessError(f"This process could not join the others ({reason}).") from error
    _watch(None if address is None else address.rpartition(":")[0])


_WATCHES: list[Watch] = []
"""That of this process, where it is one of several."""


def _watch(host: str | None) -> None:
    """Connects the processes, so that it is known at once when one is lost."""
    processes = Processes()
    if processes.count == 1:
        return
    watch = Watch(processes.index, processes.count)
    port, word = watch.listen() if processes.first else (0, "")
    told = processes.gather({"host": socket.gethostname(), "port": port, "word": word})[0]
    if not processes.first:
        watch.join(host or told["host"], told["port"], told["word"])
    _WATCHES.append(watch)


def leave(status: int) -> None:
    """Ends this process at once if it is one of several, so that none waits for one that is gone; else returns."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        for watch in _WATCHES:
            watch.leave()
        os._exit(status)


class Processes:
    """The processes of a run, as this one sees them; a single one where none were joined.

    Attributes:
      index: which one this is.
      count: how many there are.
    """

    def __init__(self) -> None:
        """Asks JAX."""
        self.index, self.count = jax.process_index(), jax.process_count()

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.index == 0

    def share(self, items: Sequence[_T]) -> Sequence[_T]:
        """This process's part of what all train.

        Raises:
          InvalidSettingError: it cannot be shared evenly.
        """
        if len(items) % self.count:
            raise InvalidSettingError(
                f"{self.count} processes cannot share {len(items)} seed(s) (of all variants) evenly: "
                f"choose --num-seeds as a multiple of {self.count}."
            )
        return items[self._part(len(items))]

    def share_arrays(self, arrays: Arrays) -> Arrays:
        """This process's part of the arrays that `gather_arrays` gave, along their leading axes."""
        if self.count == 1:
            return arrays
        return {name: array[self._part(len(array))] if array.ndim else array for name, array in arrays.items()}

    def gather_arrays(self, arrays: Arrays) -> Arrays:
        """The arrays of all processes, one after another along their leading axes; numbers are the same in all."""
        if self.count == 1:
            return arrays
        found: list[Arrays] = self.gather(arrays)
        return {
            name: np.concatenate([each[name] for each in found]) if array.ndim else array
            for name, array in arrays.items()
        }

    def gather(self, value: Any) -> list[Any]:
        """What every process says at this point, in their order.

        Args:
          value: a tree of dicts, lists, arrays and JSON values.

        Raises:
          ProcessError: one of them has ended.
        """
        if self.count == 1:
            return [value]
        data = pack(value)
        try:
            sizes = _allgather(np.array([len(data)]).view(np.uint8)).view(np.int64)[:, 0]
            parts: list[NDArray[np.uint8]] = []
            for first in range(0, int(sizes.max()), _LARGEST_MESSAGE):
                part = data[first : first + _LARGEST_MESSAGE]
                longest = min(int(sizes.max()) - first, _LARGEST_MESSAGE)
                # Powers of two: a message of every other length would have a program compiled of its own.
                padded = np.zeros(1 << (longest - 1).bit_length(), np.uint8)
                padded[: len(part)] = part
                parts.append(_allgather(padded)[:, :longest])
        except (RuntimeError, ValueError) as error:  # ValueError is what Gloo's failures become
            lost = next((told for watch in _WATCHES if (told := watch.lost(_SECONDS_TO_HEAR))), "")
            raise ProcessError(
                lost or "Another process of this run has ended; what it printed last says why."
            ) from error
        return [unpack(row[:size]) for row, size in zip(np.concatenate(parts, axis=1), sizes, strict=True)]

    def advise(self, advice: Callable[[], str]) -> None:
        """Sets what is said beside the loss of a process where this one can only be ended: a sentence on how to go on."""
        for watch in _WATCHES:
            watch.advice = advice

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What fails in the block in one process fails in all: each raises the error of the first that had one."""
        own: MaxentRLError | None = None
        try:
            yield
        except MaxentRLError as error:
            if self.count == 1 or isinstance(error, ProcessError):
                raise
            own = error
        for index, found in enumerate(self.gather(own and [type(own).__name__, str(own)])):
            if own is not None:
                raise own
            if found is not None:
                raise getattr(errors, found[0])(f"Process {index}: {found[1]}")

    def _part(self, length: int) -> slice:
        each = length // self.count
        return slice(self.index * each, (self.index + 1) * each)


def join(trees: list[Any]) -> Any:
    """One tree from those of all processes: lists and arrays one after another, for everything else the first's."""
    first = trees[0]
    if isinstance(first, dict):
        return {name: join([tree[name] for tree in trees]) for name in first}
    if isinstance(first, list):
        return [entry for tree in trees for entry in tree]
    return np.concatenate(trees) if isinstance(first, np.ndarray) else first


def divide(tree: Any, processes: Processes) -> Any:
    """This process's part of what `join` gave."""
    if isinstance(tree, dict):
        return {name: divide(entry, processes) for name, entry in tree.items()}
    if isinstance(tree, list):
        return processes.share(tree)
    return processes.share_arrays({"": tree})[""] if isinstance(tree, np.ndarray) else tree


def _allgather(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[process, byte], from [byte] of each process, all of the same length."""
    from jax.experimental.multihost_utils import process_allgather

    found: NDArray[np.uint8] = np.asarray(process_allgather(data))
    return found
