"""The ways to say which environment is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium

from maxent_rl.envs.device import DeviceEnv

Env: TypeAlias = str | DeviceEnv | Callable[[], gymnasium.Env[Any, Any]]
"""An environment's name, a device environment, or a function that makes a Gymnasium environment."""
