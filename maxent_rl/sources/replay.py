"""The replay buffer of a run as a data set: all that training has seen, in order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.buffers.rows import RowLayout
from maxent_rl.data.datasets.arrays_of_files import same_observation
from maxent_rl.data.datasets.dataset import Dataset, join
from maxent_rl.data.datasets.units import stored_actions
from maxent_rl.errors import CheckpointError, DataError, InvalidSettingError
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.config import config_from, read_config
from maxent_rl.runs.policy import Policy
from maxent_rl.storage.reading import refuse_damage
from maxent_rl.types import Spec


class Replayed(NamedTuple):
    """What was in a replay buffer.

    Attributes:
      data: its transitions, episode after episode in the order in which they ended.
      step: environment steps of training behind the checkpoint.
      overwritten: transitions that the buffer no longer held.
      left_out: transitions of episodes that had begun before what the buffer held, or that ran beside the last one.
    """

    data: Dataset
    step: int
    overwritten: int
    left_out: int


def read_replay(folder: str | Path, policy: Policy) -> Replayed:
    """Reads the replay buffer of a run's newest checkpoint.

    Where the buffer has overwritten its oldest transitions, the data begins with the first episode that it held whole. Of
    environments side by side, one episode that still ran stays, at the end, unfinished; the others are left out.

    Args:
      folder: the run's.
      policy: the run's, which says whose buffer: that of its seed and variant.

    Raises:
      CheckpointError: there is no run, no checkpoint, or a damaged one.
      InvalidSettingError: the run's agent has no replay buffer.
      DataError: the buffer holds not even the beginning of an episode.
    """
    folder = Path(folder)
    config = read_config(folder)
    run, agent = config_from(config)
    if agent.learns != "replay":
        raise InvalidSettingError(f"--kind replay needs a run with a replay buffer; --agent {run.agent} has none.")
    with refuse_damage(f"The run in {folder}", CheckpointError):
        run.check()
        member = run.variant_values.index(policy.variant) * run.num_seeds + run.seeds.index(policy.seed)
        spec = policy.spec
        layout = make_layout(policy.agent, dataclasses.replace(spec, num_envs=run.num_envs))
    if not (folder / "checkpoints").is_dir():
        raise CheckpointError(f"{folder} has no checkpoint: its replay buffer cannot be read.")
    checkpoints = Checkpoints(folder / "checkpoints", keep=1, read_only=True)
    try:
        steps = checkpoints.steps()
        if not steps:
            raise CheckpointError(f"{folder} has no checkpoint: its replay buffer cannot be read.")
        rows = checkpoints.member_rows(steps[-1], layout.capacity, layout.width, member)
    finally:
        checkpoints.close()
    data, left_out = in_order(rows, layout, spec, began=len(rows) == steps[-1])
    if not data.size:
        raise DataError(
            f"The replay buffer of {folder} has not even the beginning of an episode: nothing can be made of it."
        )
    return Replayed(data, steps[-1], steps[-1] - len(rows), left_out)


def in_order(rows: NDArray[np.float32], layout: RowLayout, spec: Spec, *, began: bool) -> tuple[Dataset, int]:
    """Puts the episodes of environments that ran side by side one after the other.

    An episode that is broken off without an end, as where a resumed run began new ones, is taken as cut there.

    Args:
      rows: [N, width] packed transitions, the oldest first; N is a multiple of `layout.num_envs`.
      layout: of the rows.
      spec: of the environment, into whose units actions are brought.
      began: whether the first rows begin episodes; what belongs to episodes that do not is left out.

    Returns:
      (the data, transitions left out).
    """
    found: list[tuple[tuple[int, int], Dataset]] = []
    for env in range(layout.num_envs):
        own = _dataset(rows[env :: layout.num_envs], layout, spec)
        starts, lengths, complete = own.episodes
        for number, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
            if began or number:
                # Episodes that still ran come last, and of them the longest last of all.
                order = (0, start + length) if complete[number] else (1, length)
                found.append((order, own.part(start, start + length)))
    found.sort(key=lambda entry: entry[0])
    running = [index for index, (order, _) in enumerate(found) if order[0]]
    parts = [part for index, (_, part) in enumerate(found) if index not in running[:-1]]
    data = join(parts) if parts else _dataset(rows[:0], layout, spec)
    return data, len(rows) - data.size


def _dataset(rows: NDArray[np.float32], layout: RowLayout, spec: Spec) -> Dataset:
    """The rows of one environment."""
    unpacked: Any = layout.unpack(rows)  # type: ignore[arg-type]  # slices, of whatever array it is given
    terminated, truncated = unpacked.terminated.astype(bool), unpacked.truncated.astype(bool)
    goes_on = np.append(same_observation(unpacked.next_observation[:-1], unpacked.observation[1:]), True)[: len(rows)]
    return Dataset(
        observation=unpacked.observation,
        action=stored_actions(unpacked.action, spec.action_space),
        reward=unpacked.reward,
        next_observation=unpacked.next_observation,
        terminated=terminated,
        truncated=(truncated | ~goes_on) & ~terminated,
    )
