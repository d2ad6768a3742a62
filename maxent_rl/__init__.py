"""maxent_rl: maximum-entropy reinforcement learning in JAX.

`from maxent_rl import train, load_policy` is the library's front door; agents, losses and environments are packages of
their own. Everything is imported where it is used, so that this import stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxent_rl.training import Policy, RunConfig, TrainResult, load_policy, resume, train

__version__ = "0.1.0"
__all__ = ["Policy", "RunConfig", "TrainResult", "__version__", "load_policy", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("maxent_rl.training"), name)
    raise AttributeError(f"module 'maxent_rl' has no attribute {name!r}")
