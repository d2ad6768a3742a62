"""The data of agents that learn from transitions: `--dataset PATH`, checked against the run's environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from maxent_rl import envs as environments
from maxent_rl.agents.base import Agent, Discounts, LooksAhead
from maxent_rl.data.batches.logged import LoggedTransitions
from maxent_rl.data.batches.preferences import LARGEST_ACTION
from maxent_rl.data.batches.windows import EpisodeWindows
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import read_dataset
from maxent_rl.errors import DataError
from maxent_rl.runs.config import RunConfig
from maxent_rl.spaces import to_agent
from maxent_rl.types import Spec

_ROUNDING = 1e-3  # by which an action may lie outside the environment's bounds, of [-1, 1]


def load_transitions(run: RunConfig, agent: Agent[Any], spec: Spec, env: Any) -> tuple[LoggedTransitions, None]:
    """Reads the data set that `run.dataset` names; see `load.load_data`.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    return LoggedTransitions.create(load_dataset(run, spec), _discount(agent)), None


def load_windows(run: RunConfig, agent: Any, spec: Spec, env: Any) -> tuple[EpisodeWindows, None]:
    """Reads the data set that `run.dataset` names, to draw windows of the agent's lengths; see `load.load_data`.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    ahead = agent.ahead if isinstance(agent, LooksAhead) else 1
    return EpisodeWindows.create(load_dataset(run, spec), agent.context, ahead, _discount(agent)), None


def _discount(agent: Any) -> float:
    return float(agent.discount) if isinstance(agent, Discounts) else 1.0


def load_dataset(run: RunConfig, spec: Spec) -> Dataset:
    """Reads the data set that `run.dataset` names, with actions as agents have them.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    assert run.dataset is not None
    data = read_dataset(run.dataset)
    check_environment(data, run, spec)
    return to_agent_units(data, spec, run.dataset)


def check_environment(data: Dataset, run: RunConfig, spec: Spec) -> None:
    """Refuses data of another environment; where one of both has no name, only the shapes can tell.

    Raises:
      DataError: naming both.
    """
    if data.env is not None and _bare(data.env) != _bare(run.env) and environments.has_name(run.env):
        raise DataError(f"{run.dataset} has transitions of {data.env}, but the run is on {run.env}.")
    wanted = _words(spec.observation_size, spec.action_size if spec.is_continuous else None)
    found = _words(data.observation.shape[1], data.action.shape[1] if data.action.dtype.kind == "f" else None)
    if wanted != found:
        raise DataError(f"{run.dataset} has {found}; {run.env} has {wanted}.")
    if spec.num_actions is not None and data.action.max() >= spec.num_actions:
        raise DataError(
            f"{run.dataset} has the action {data.action.max()}; {run.env} has the actions 0 to {spec.num_actions - 1}."
        )


def _bare(env: str) -> str:
    """A name without the module that registers the environment, `module:name`, which files need not say."""
    return env.rpartition(":")[2]


def _words(observation_size: int, action_size: int | None) -> str:
    actions = "discrete actions" if action_size is None else f"actions of {action_size} entries"
    return f"observations of {observation_size} entries and {actions}"


def to_agent_units(data: Dataset, spec: Spec, name: str = "The data set") -> Dataset:
    """The data set with continuous actions rescaled to [-1, 1], just inside its edges.

    Args:
      data: in the environment's own units.
      spec: of the environment.
      name: of the data set, for messages.

    Raises:
      DataError: an action lies outside the environment's bounds by more than rounding.
    """
    if not spec.is_continuous:
        return data
    space = spec.action_space
    action = to_agent(data.action if space is None else data.action.reshape(data.size, *space.shape), space)
    outside = np.argwhere(np.abs(action) > 1.0 + _ROUNDING)
    if len(outside):
        step, entry = outside[0]
        low, high = (-1.0, 1.0) if space is None else (space.low[entry], space.high[entry])  # type: ignore[index]
        raise DataError(
            f"{name} has the action {data.action[step, entry]:g} (step {step}, entry {entry}), which lies outside the "
            f"environment's bounds, {low:g} to {high:g}; expected actions in the environment's own units."
        )
    return dataclasses.replace(data, action=np.clip(action, -LARGEST_ACTION, LARGEST_ACTION).astype(np.float32))
