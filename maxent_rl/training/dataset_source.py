"""The data of agents that learn from transitions: `--dataset PATH`, checked against the run's environment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from maxent_rl import envs as environments
from maxent_rl.data.dataset import Dataset
from maxent_rl.data.dataset_files import read_dataset
from maxent_rl.data.logged import LoggedTransitions
from maxent_rl.data.windows import EpisodeWindows
from maxent_rl.errors import DataError
from maxent_rl.types import Spec

if TYPE_CHECKING:
    from maxent_rl.training.config import RunConfig

# Where densities before squashing are learned, actions at the very edge would be infinitely far out.
LARGEST_ACTION = 1.0 - 1e-5


def load_transitions(run: RunConfig, agent: Any, spec: Spec, env: Any) -> tuple[LoggedTransitions, None]:
    """Reads the data set that `run.dataset` names; see `offline_data.load_data`.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    return LoggedTransitions.create(load_dataset(run, spec), float(getattr(agent, "discount", 1.0))), None


def load_windows(run: RunConfig, agent: Any, spec: Spec, env: Any) -> tuple[EpisodeWindows, None]:
    """Reads the data set that `run.dataset` names, to draw windows of the agent's lengths; see `offline_data.load_data`.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    ahead, discount = getattr(agent, "ahead", 1), float(getattr(agent, "discount", 1.0))
    return EpisodeWindows.create(load_dataset(run, spec), agent.context, ahead, discount), None


def load_dataset(run: RunConfig, spec: Spec) -> Dataset:
    """Reads the data set that `run.dataset` names, with actions as agents have them.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    assert run.dataset is not None
    data = read_dataset(run.dataset)
    check_environment(data, run, spec)
    return to_agent_units(data, spec)


def check_environment(data: Dataset, run: RunConfig, spec: Spec) -> None:
    """Refuses data of another environment; where one of both has no name, only the shapes can tell.

    Raises:
      DataError: naming both.
    """
    if data.env is not None and data.env != run.env and environments.has_name(run.env):
        raise DataError(f"{run.dataset} has transitions of {data.env}, but the run is on {run.env}.")
    wanted = _words(spec.observation_size, None if spec.num_actions is not None else spec.action_size)
    found = _words(data.observation.shape[1], None if data.is_discrete else data.action.shape[1])
    if wanted != found:
        raise DataError(f"{run.dataset} has {found}; {run.env} has {wanted}.")
    if spec.num_actions is not None and data.action.max() >= spec.num_actions:
        raise DataError(
            f"{run.dataset} has the action {data.action.max()}; {run.env} has the actions 0 to {spec.num_actions - 1}."
        )


def _words(observation_size: int, action_size: int | None) -> str:
    actions = "discrete actions" if action_size is None else f"actions of {action_size} entries"
    return f"observations of {observation_size} entries and {actions}"


def to_agent_units(data: Dataset, spec: Spec) -> Dataset:
    """The data set with continuous actions rescaled to [-1, 1], just inside its edges."""
    if data.is_discrete:
        return data
    action = data.action
    if spec.action_low is not None and spec.action_high is not None:
        low, high = np.array(spec.action_low), np.array(spec.action_high)
        action = 2.0 * (action - low) / (high - low) - 1.0
    return dataclasses.replace(data, action=np.clip(action, -LARGEST_ACTION, LARGEST_ACTION).astype(np.float32))
