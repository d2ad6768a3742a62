"""Checkpoints: everything that a run is, written atomically, with the replay buffer saved by increments.

Orbax keeps the training state: each checkpoint appears whole or not at all, the last k and the best by evaluation stay.
The replay buffer only ever gains rows, so each checkpoint writes just the rows that came since the one before, as one
file (`replay/<first>-<last>.npy`, numbered from the run's first row). Saving takes time and memory for the new rows alone,
however large the buffer is.

Arrays, JSON values and rows carry checksums, so that a damaged byte is an error and no other training; those of before they
did are read without.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import re
import shutil
import sys
import zlib
from collections.abc import Awaitable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import CheckpointError
from maxent_rl.seeds.processes import Processes
from maxent_rl.storage.arrays import Arrays
from maxent_rl.storage.files import first_line, storage_errors
from maxent_rl.storage.reading import open_regular, read_json
from maxent_rl.types import Array

_SEGMENT = re.compile(r"(\d+)-(\d+)\.npy")
_TRAILER = re.compile(rb"crc32 [0-9a-f]{8}\n")
_TRAILER_BYTES = len(b"crc32 00000000\n")
_CHECKSUMS = "checksums"
_NOT_EVALUATED = -sys.float_info.max


class Checkpoints:
    """The checkpoints of one run, numbered by environment step."""

    def __init__(self, folder: Path, keep: int, processes: Processes | None = None, *, read_only: bool = False) -> None:
        """Opens a folder.

        Args:
          folder: the run's `checkpoints/`; made if missing.
          keep: how many of the latest stay.
          processes: of the run: the first one writes, all read; None for this one alone.
          read_only: change nothing there, as the run may still be going on.

        Raises:
          StorageError: the folder cannot be made.
        """
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        logging.getLogger("absl").addFilter(_without_tracebacks)  # once for all: the same function is added but once
        _settle()
        self._ocp, self._folder, self._replay = ocp, folder.resolve(), folder.resolve() / "replay"
        self._processes = processes = processes or Processes()
        with storage_errors(f"make the folder {folder}"):
            if not read_only:
                self._replay.mkdir(parents=True, exist_ok=True)
                if processes.first:
                    _clear_unfinished(self._folder)
        with _quiet() if read_only else contextlib.nullcontext():
            options = ocp.CheckpointManagerOptions(
                preservation_policy=managers.AnyPreservationPolicy(
                    [managers.LatestN(keep), managers.BestN(get_metric_fn=lambda metrics: metrics["return"], n=1)]
                ),
                create=False,
                read_only=read_only,
                # Nothing of a checkpoint is read before it is asked for: one that is damaged must not stand before the others.
                lightweight_initialize=True,
                # Each process reads for itself: Orbax must not wait for the others.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=processes.index,
                    active_processes={processes.index},
                    barrier_sync_key_prefix=f"process{processes.index}",
                ),
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._saved_rows, self._is_closed = 0, False
        self._latest = keep
        self._bests = {step: _stored_best(self._folder / str(step)) for step in self.steps()}
        self._keep = max(keep, 2)  # the one before the last must be there should the last one be damaged

    def steps(self) -> list[int]:
        """The steps of complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def new_rows(self, step: int, rows: Array) -> NDArray[np.float32]:
        """Reads what came into the replay buffers since the last call, or since they were restored.

        Args:
          step: environment steps taken, which is also the number of rows ever written into each buffer.
          rows: [seed, capacity, width] the buffers.

        Returns:
          [seed, row, width] the rows before number `step`, as many as came and as the buffer still holds.
        """
        first = max(self._saved_rows, step - rows.shape[1])
        self._saved_rows = step
        return _read_rows(rows, first, step)

    def save(
        self,
        step: int,
        arrays: Arrays,
        meta: dict[str, Any],
        new_rows: NDArray[np.float32],
        capacity: int,
        best: float | None,
    ) -> None:
        """Saves the state in the background; returns as soon as it is copied.

        Args:
          step: environment steps taken.
          arrays: copies that nobody writes into.
          meta: JSON values.
          new_rows: [seed, row, width] as from `new_rows`.
          capacity: rows of each replay buffer.
          best: mean evaluation return at this step, or None where there was no evaluation.

        Raises:
          StorageError: full disk, missing permission.
        """
        with storage_errors(f"write the checkpoint of step {step} to {self._folder}"):
            self._delete_old()
            self._save_rows(step, new_rows)
            args = self._ocp.args
            items = args.Composite(
                arrays=args.StandardSave(_nonempty(arrays)), meta=args.JsonSave(_signed(arrays, meta))
            )
            self._manager.save(
                step, args=items, metrics={"return": _NOT_EVALUATED if best is None else best}, force=True
            )
            self._bests[step] = float(meta.get("best", -math.inf))
            self._prune(capacity)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk."""
        with storage_errors(f"write a checkpoint to {self._folder}"):
            self._manager.wait_until_finished()
            if self._processes.first:
                self._delete_old()

    def restore(self, step: int) -> tuple[Arrays, dict[str, Any]]:
        """Reads one checkpoint's arrays and JSON values.

        Raises:
          CheckpointError: it is missing or damaged.
        """
        args = self._ocp.args
        try:
            _refuse_pipes(self._folder / str(step))
            items = self._manager.restore(
                step, args=args.Composite(arrays=args.StandardRestore(), meta=args.JsonRestore())
            )
            arrays = {name: np.asarray(value) for name, value in items["arrays"].items()}
            meta: dict[str, Any] = dict(items["meta"])
            _check_signed(arrays, meta)
            return arrays, meta
        except Exception as error:  # whatever Orbax and TensorStore raise for damaged files: there is no list
            raise CheckpointError(
                f"The checkpoint {self._folder / str(step)} is missing or damaged ({first_line(error)})."
            ) from error

    def newest_whole(self, capacity: int, before: int | None = None) -> int | None:
        """The newest checkpoint that can be gone on with: nothing damaged, no row missing or with NaN or infinity.

        Args:
          capacity: rows of each replay buffer.
          before: look at checkpoints of fewer steps only.

        Returns:
          Its step; None where there is none.
        """
        for step in reversed([each for each in self.steps() if before is None or each < before]):
            with contextlib.suppress(CheckpointError, OSError):
                self.restore(step)
                if all(np.isfinite(rows).all() for rows in self._rows_of(step, capacity)):
                    return step
        return None

    def forget_after(self, step: int) -> Path | None:
        """Takes away what came after a step from which a run goes on: checkpoints into a folder beside, with their rows.

        Rows that no checkpoint has yet are deleted. All processes of a run call it, once all have read what they go on from.

        Returns:
          The folder; None where there were no later checkpoints.
        """
        later = [each for each in reversed(self.steps()) if each > step]
        aside = next(path for number in range(1, 10**6) if not (path := _aside(self._folder, number)).exists())
        with self._processes.together(), storage_errors(f"move later checkpoints to {aside}"):
            if self._processes.first:
                if later:
                    (aside / "replay").mkdir(parents=True)
                for each in later:  # the newest first: what stays can be resumed at any moment
                    os.replace(self._folder / str(each), aside / str(each))
                for _, last, path in list(self._segments()):
                    if last > step:
                        os.replace(path, aside / "replay" / path.name) if later else path.unlink()
        if later:  # in every process once all has been moved
            self._manager.reload()
        return aside if later else None

    def restore_rows(self, step: int, rows: Array) -> Array:
        """Fills empty replay buffers with the rows of a checkpoint.

        Args:
          step: of the checkpoint.
          rows: [seed, capacity, width] empty buffers; donated.

        Raises:
          CheckpointError: rows are missing, damaged, or of other shape.
        """
        position = max(0, step - rows.shape[1])
        for first, last, path in self._segments():
            if position < last <= step:
                if first > position:
                    break
                segment = self._read_segment(path, last - first, rows)[:, position - first :]
                rows = _write_rows(rows, segment, position)
                position = last
        if position < step:
            raise CheckpointError(f"Replay rows {position} to {step} are missing from {self._replay}.")
        self._saved_rows = step
        return rows

    def member_rows(self, step: int, capacity: int, width: int, member: int) -> NDArray[np.float32]:
        """Reads what the replay buffer of one member held at a checkpoint; changes nothing.

        Args:
          step: of the checkpoint.
          capacity: rows of the buffer.
          width: entries of a row.
          member: which of the run's, counted over all its processes.

        Returns:
          [row, width] the rows, the oldest first.

        Raises:
          CheckpointError: rows are missing, damaged, or of other shape.
        """
        position = max(0, step - capacity)
        parts = []
        for first, last, path in self._segments():
            if position < last <= step and first <= position:
                segment = self._load(path, mapped=True)
                if segment.ndim != 3 or segment.shape[1:] != (last - first, width) or member >= len(segment):
                    expected = ("members", last - first, width)
                    raise CheckpointError(f"The replay file {path} has shape {segment.shape}, expected {expected}.")
                parts.append(np.array(segment[member, position - first :]))
                position = last
        if position < step:
            raise CheckpointError(f"Replay rows {position} to {step} are missing from {self._replay}.")
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)

    def close(self) -> None:
        """Waits for what is under way and frees what Orbax holds; a second time does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        with storage_errors(f"write a checkpoint to {self._folder}"):
            self._manager.close()

    def _save_rows(self, step: int, rows: NDArray[np.float32]) -> None:
        if not rows.shape[1]:
            return
        path = self._replay / f"{step - rows.shape[1]:012d}-{step:012d}.npy"
        partial_path = path.with_suffix(".partial")
        with open(partial_path, "wb") as file:
            np.save(file, rows, allow_pickle=False)
        checksum = _file_checksum(partial_path)
        with open(partial_path, "ab") as file:  # NumPy reads as many bytes as the header says, and no further
            file.write(checksum)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial_path, path)

    def _read_segment(self, path: Path, count: int, rows: Array) -> NDArray[np.float32]:
        segment = self._load(path)
        expected = (rows.shape[0] * self._processes.count, count, rows.shape[2])
        if segment.shape != expected:
            raise CheckpointError(f"The replay file {path} has shape {segment.shape}, expected {expected}.")
        return self._processes.share_arrays({"rows": segment})["rows"]

    def _load(self, path: Path, *, mapped: bool = False) -> NDArray[np.float32]:
        try:
            _check_file(path)
            # Always mapped first: a damaged header may declare any size, and the file has as many bytes as it has.
            segment: NDArray[np.float32] = np.load(path, allow_pickle=False, mmap_mode="r")
            return segment if mapped else np.array(segment)
        except Exception as error:  # whatever NumPy raises for a damaged header: there is no list
            reason = first_line(error)
            reason = "it is not an array file" if "pickle" in reason else reason
            raise CheckpointError(f"The replay file {path} is damaged ({reason}).") from error

    def _rows_of(self, step: int, capacity: int) -> Iterator[NDArray[np.float32]]:
        """The segments that a checkpoint needs, one after the other."""
        position = max(0, step - capacity)
        for first, last, path in self._segments() if capacity else ():
            if position < last <= step and first <= position:
                yield self._load(path, mapped=True)
                position = last
        if capacity and position < step:
            raise CheckpointError(f"Replay rows {position} to {step} are missing from {self._replay}.")

    def _delete_old(self) -> None:
        """Deletes checkpoints that are neither among the latest nor the best.

        Orbax does so too, but knows of a return only while the process lives that saved it: a killed run's would stay.
        """
        self._manager.wait_until_finished()
        steps = self.steps()
        best = max(steps, key=lambda step: (self._bests.get(step, -math.inf), -step), default=0)
        for step in steps[: -self._latest]:
            if step != best or math.isinf(self._bests.get(step, -math.inf)):
                self._manager.delete(step)

    def _prune(self, capacity: int) -> None:
        """Deletes rows that no kept checkpoint's buffer holds; the best one may lose its rows, as none resumes from it."""
        latest = self.steps()[-self._keep :]
        for _, last, path in self._segments():
            if latest and last <= latest[0] - capacity:
                path.unlink(missing_ok=True)

    def _segments(self) -> Iterator[tuple[int, int, Path]]:
        for path in sorted(self._replay.iterdir()):
            if match := _SEGMENT.fullmatch(path.name):
                yield int(match[1]), int(match[2]), path


def _refuse_pipes(checkpoint: Path) -> None:
    """Refuses a checkpoint with something in it that is neither a file nor a folder, for which Orbax would wait.

    Raises:
      ValueError: naming it.
    """
    for path in checkpoint.rglob("*"):
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path.relative_to(checkpoint)} is no file")


def _signed(arrays: Arrays, meta: dict[str, Any]) -> dict[str, Any]:
    """The JSON values with a checksum of each array and of themselves."""
    return meta | {_CHECKSUMS: {name: _checksum(value) for name, value in arrays.items()} | {"meta": _meta_sum(meta)}}


def _check_signed(arrays: Arrays, meta: dict[str, Any]) -> None:
    """Takes the checksums out, and compares them where there are any.

    Raises:
      ValueError: something is not as it was written.
    """
    sums = meta.pop(_CHECKSUMS, None)
    if sums is None:
        return
    wrong = [name for name, value in arrays.items() if sums.get(name) != _checksum(value)]
    wrong += [] if sums.get("meta") == _meta_sum(meta) else ["meta"]
    if wrong:
        raise ValueError(f"the checksum of {wrong[0]} is wrong")


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data) if array.size else 0


def _meta_sum(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(json.loads(json.dumps(meta)), sort_keys=True).encode())


def _file_checksum(path: Path, without: int = 0) -> bytes:
    """The line that ends a file of rows: the checksum of all before it."""
    total, left = 0, path.stat().st_size - without
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            total, left = zlib.crc32(block, total), left - len(block)
    return b"crc32 %08x\n" % total


def _check_file(path: Path) -> None:
    """Compares a file of rows with the checksum at its end; one of before there were any ends with its last number.

    Raises:
      ValueError: it is not as it was written.
    """
    with open_regular(path) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
        size = file.tell() + math.prod(shape) * kind.itemsize
        extra = os.fstat(file.fileno()).st_size - size
        if extra < 0:
            raise ValueError("it is cut short")
        file.seek(size)
        end = file.read(_TRAILER_BYTES + 1)
    if extra and (not _TRAILER.fullmatch(end) or end != _file_checksum(path, without=_TRAILER_BYTES)):
        raise ValueError("its checksum is wrong")


def _clear_unfinished(folder: Path) -> None:
    """Deletes what a killed process had begun to write."""
    for path in [*folder.glob("*.orbax-checkpoint-tmp*"), *folder.glob("replay/*.partial")]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _stored_best(checkpoint: Path) -> float:
    """The best mean return of an evaluation up to a checkpoint: the first that has the highest is the best one."""
    try:
        return float(read_json(checkpoint / "meta" / "metadata")["best"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return -math.inf


def _aside(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}-set-aside-{number}")


def _without_tracebacks(record: logging.LogRecord) -> bool:
    """Leaves out errors that Orbax logs from its threads: the same ones are raised where a checkpoint is waited for."""
    return not (record.levelno >= logging.ERROR and record.exc_info and "orbax" in record.pathname)


@cache
def _settle() -> None:
    """Has Orbax wait for all arrays, as it writes and as it reads, and raise the error of one then.

    It gives up at the first that fails, and closes the loop that the others report to: each of those prints a traceback when
    it ends, over the one sentence that a full disk or a damaged file is.
    """
    import orbax.checkpoint as ocp

    class Handler(ocp.type_handlers.NumpyHandler):  # type: ignore[misc]
        """Writes and reads arrays of NumPy as Orbax's own does."""

        async def _background_serialize(self, values: Any, infos: Any, args: Any) -> None:
            write = super()._background_serialize
            writes = [write([value], [info], [arg]) for value, info, arg in zip(values, infos, args, strict=True)]
            await _all(writes)

        async def metadata(self, infos: Any) -> list[Any]:
            look = super().metadata
            return [found for (found,) in await _all([look([info]) for info in infos])]

        async def deserialize(self, infos: Any, args: Any = None) -> list[Any]:
            read = super().deserialize
            wanted = [None if args is None else [arg] for arg in args or infos]
            return [
                found for (found,) in await _all([read([info], arg) for info, arg in zip(infos, wanted, strict=True)])
            ]

    with _quiet():
        ocp.type_handlers.register_type_handler(np.ndarray, Handler(), override=True)


async def _all(awaited: Sequence[Awaitable[Any]]) -> list[Any]:
    """The results of all, once none is under way any more."""
    results = await asyncio.gather(*awaited, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from warning of what is meant: a folder that is only read, a handler in the place of its own."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _nonempty(arrays: Arrays) -> Arrays:
    """Orbax refuses arrays without entries; `from_arrays` of nothing needs none."""
    return {name: value for name, value in arrays.items() if value.size}


def _read_rows(rows: Array, first: int, last: int) -> NDArray[np.float32]:
    """[seed, last - first, width]: rows number `first` to `last` of the run, from buffers that wrap around."""
    if first == last:
        return np.zeros((rows.shape[0], 0, rows.shape[2]), np.float32)
    capacity = rows.shape[1]
    start, count = first % capacity, last - first
    head = min(count, capacity - start)
    parts = [np.array(_slice(rows, start, head))]
    if head < count:
        parts.append(np.array(_slice(rows, 0, count - head)))
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _write_rows(rows: Array, segment: NDArray[np.float32], first: int) -> Array:
    capacity = rows.shape[1]
    start = first % capacity
    head = min(segment.shape[1], capacity - start)
    rows = _update(rows, jnp.asarray(segment[:, :head]), start)
    return _update(rows, jnp.asarray(segment[:, head:]), 0) if head < segment.shape[1] else rows


@partial(jax.jit, static_argnames="count")
def _slice(rows: Array, start: Array | int, count: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(rows, start, count, axis=1)


@partial(jax.jit, donate_argnames="rows")
def _update(rows: Array, segment: Array, start: Array | int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(rows, segment, start, axis=1)
