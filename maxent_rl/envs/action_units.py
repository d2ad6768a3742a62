"""Actions in the environment's own units, and as agents have them: in [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.types import Spec


def to_environment(action: NDArray[Any], spec: Spec) -> NDArray[Any]:
    """[..., action] of an agent as the environment takes it; discrete actions stay what they are.

    Not every distribution keeps to [-1, 1]: what lies outside is clipped, as environments do.
    """
    if spec.num_actions is not None:
        return action
    action = np.asarray(np.clip(action, -1.0, 1.0))
    if spec.action_low is None or spec.action_high is None:
        return action
    low, high = np.array([spec.action_low, spec.action_high], np.float32)
    return np.asarray(low + (action + 1) * (high - low) / 2, np.float32)


def to_data(action: NDArray[Any], spec: Spec) -> NDArray[np.float32] | NDArray[np.int32]:
    """As `to_environment`, in the types that data sets have."""
    if spec.num_actions is not None:
        return action.astype(np.int32)
    return to_environment(action, spec).astype(np.float32)


def to_agent(action: NDArray[Any], spec: Spec) -> NDArray[Any]:
    """[..., action] in the environment's own units as agents have it; unclipped, so that one can see what lies outside."""
    if spec.num_actions is not None or spec.action_low is None or spec.action_high is None:
        return action
    low, high = np.array([spec.action_low, spec.action_high])
    return np.asarray(2.0 * (action - low) / (high - low) - 1.0)
