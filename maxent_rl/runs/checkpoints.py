"""Checkpoints: everything that a run is, written atomically, with the replay buffer saved by increments.

Orbax keeps the training state: each checkpoint appears whole or not at all, the last k and the best by evaluation stay.
The replay buffer only ever gains rows, so each checkpoint writes just the rows that came since the one before, as one
file (`replay/<first>-<last>.npy`, numbered from the run's first row). Saving takes time and memory for the new rows alone,
however large the buffer is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
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
from maxent_rl.types import Array

_SEGMENT = re.compile(r"(\d+)-(\d+)\.npy")
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

        self._ocp, self._folder, self._replay = ocp, folder.resolve(), folder.resolve() / "replay"
        self._processes = processes = processes or Processes()
        with storage_errors(f"make the folder {folder}"):
            if not read_only:
                self._replay.mkdir(parents=True, exist_ok=True)
        with _quiet() if read_only else contextlib.nullcontext():
            options = ocp.CheckpointManagerOptions(
                preservation_policy=managers.AnyPreservationPolicy(
                    [managers.LatestN(keep), managers.BestN(get_metric_fn=lambda metrics: metrics["return"], n=1)]
                ),
                create=False,
                read_only=read_only,
                # Each process reads for itself: Orbax must not wait for the others.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=processes.index,
                    active_processes={processes.index},
                    barrier_sync_key_prefix=f"process{processes.index}",
                ),
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._saved_rows = 0
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
            self._save_rows(step, new_rows)
            args = self._ocp.args
            items = args.Composite(arrays=args.StandardSave(_nonempty(arrays)), meta=args.JsonSave(meta))
            self._manager.save(
                step, args=items, metrics={"return": _NOT_EVALUATED if best is None else best}, force=True
            )
            self._prune(capacity)

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk."""
        with storage_errors(f"write a checkpoint to {self._folder}"):
            self._manager.wait_until_finished()

    def restore(self, step: int) -> tuple[Arrays, dict[str, Any]]:
        """Reads one checkpoint's arrays and JSON values.

        Raises:
          CheckpointError: it is missing or damaged.
        """
        args = self._ocp.args
        try:
            items = self._manager.restore(
                step, args=args.Composite(arrays=args.StandardRestore(), meta=args.JsonRestore())
            )
            arrays = {name: np.asarray(value) for name, value in items["arrays"].items()}
            return arrays, dict(items["meta"])
        except Exception as error:  # whatever Orbax and TensorStore raise for damaged files: there is no list
            raise CheckpointError(
                f"The checkpoint {self._folder / str(step)} is missing or damaged ({first_line(error)}). "
                "Delete that folder to resume from the checkpoint before it."
            ) from error

    def restore_rows(self, step: int, rows: Array) -> Array:
        """Fills empty replay buffers with the rows of a checkpoint, and forgets rows written after it.

        Args:
          step: of the checkpoint.
          rows: [seed, capacity, width] empty buffers; donated.

        Raises:
          CheckpointError: rows are missing, damaged, or of other shape.
        """
        position = max(0, step - rows.shape[1])
        for first, last, path in self._segments():
            if last > step:
                if self._processes.first:
                    path.unlink()
            elif last > position:
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
        """Waits for what is under way and frees what Orbax holds."""
        with storage_errors(f"write a checkpoint to {self._folder}"):
            self._manager.close()

    def _save_rows(self, step: int, rows: NDArray[np.float32]) -> None:
        if not rows.shape[1]:
            return
        path = self._replay / f"{step - rows.shape[1]:012d}-{step:012d}.npy"
        partial_path = path.with_suffix(".partial")
        with open(partial_path, "wb") as file:
            np.save(file, rows, allow_pickle=False)
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
            segment: NDArray[np.float32] = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(f"The replay file {path} is damaged ({first_line(error)}).") from error
        return segment

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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from warning that what is to be read only is read only."""
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
