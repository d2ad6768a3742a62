"""Training: `train()`, `resume()` and the loops; and from the rooms below what goes with them: `load_policy()` and more.

The names here are the ones to use from outside; each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxent_rl.pictures.experts import play_experts
    from maxent_rl.pictures.trajectories import picture_policies
    from maxent_rl.playing.evaluation import evaluate_policy
    from maxent_rl.playing.trajectories import collect_trajectories
    from maxent_rl.runs.config import RunConfig
    from maxent_rl.runs.policy import Policy, load_policy
    from maxent_rl.seeds.processes import start_processes
    from maxent_rl.training.runner import TrainResult, resume, run_training, train

_HOMES = {
    "play_experts": "pictures.experts",
    "picture_policies": "pictures.trajectories",
    "evaluate_policy": "playing.evaluation",
    "collect_trajectories": "playing.trajectories",
    "RunConfig": "runs.config",
    **dict.fromkeys(("Policy", "load_policy"), "runs.policy"),
    "start_processes": "seeds.processes",
    **dict.fromkeys(("TrainResult", "resume", "run_training", "train"), "training.runner"),
}
__all__ = [
    "Policy",
    "RunConfig",
    "TrainResult",
    "collect_trajectories",
    "evaluate_policy",
    "load_policy",
    "picture_policies",
    "play_experts",
    "resume",
    "run_training",
    "start_processes",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"maxent_rl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'maxent_rl.training' has no attribute {name!r}")
