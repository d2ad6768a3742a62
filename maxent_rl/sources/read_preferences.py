"""The data of agents that learn from preferences: `--dataset FILE`, checked against the run's environment."""

from __future__ import annotations

from typing import Any

from maxent_rl import envs as environments
from maxent_rl.agents.base import Agent
from maxent_rl.data.batches.preferences import PreferenceData, Preferences, divide, read_preferences
from maxent_rl.errors import DataError
from maxent_rl.runs.config import RunConfig
from maxent_rl.types import SegmentPairs, Spec


def load(run: RunConfig, agent: Agent[Any], spec: Spec, env: Any) -> tuple[PreferenceData, SegmentPairs | None]:
    """Reads the file that `run.dataset` names; see `load.load_data`.

    Raises:
      DataError: it is missing, damaged, or of another environment.
    """
    assert run.dataset is not None
    data = read_preferences(run.dataset)
    check_environment(data, run, spec)
    return divide(data)


def check_environment(data: Preferences, run: RunConfig, spec: Spec) -> None:
    """Refuses data of another environment; of one that was not given by its name, only the shapes can tell.

    Raises:
      DataError: naming both.
    """
    if data.env != run.env and environments.has_name(run.env):
        raise DataError(f"{run.dataset} has preferences of {data.env}, but the run is on {run.env}.")
    found = data.observation.shape[-1], data.action.shape[-1]
    if spec.num_actions is not None or found != (spec.observation_size, spec.action_size):
        actions = f"{spec.num_actions} discrete actions"
        if spec.num_actions is None:
            actions = f"actions of {spec.action_size} entries"
        raise DataError(
            f"{run.dataset} has observations of {found[0]} entries and actions of {found[1]}; {run.env} has observations "
            f"of {spec.observation_size} entries and {actions}."
        )
