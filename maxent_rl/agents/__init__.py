"""Agents: hyper-parameters as frozen dataclasses, and pure `init`, `act`, `mode`, `update`.

`base` has the contract, `registry` the names. Every agent stands in a file of its family's folder, and here by the name of
its class, which the registry knows and which is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from maxent_rl.agents.base import Agent, OfflineAgent, OffPolicyAgent, OnPolicyAgent, acting_state, check_agent
from maxent_rl.agents.registry import AGENTS, agent_class, agent_name

if TYPE_CHECKING:  # those that agents of one's own are most often made from
    from maxent_rl.agents.on_policy.ppo import PPO, PPOState
    from maxent_rl.agents.soft.base import SACState
    from maxent_rl.agents.soft.sac import SAC

_HOMES = {target.partition(":")[2]: target.partition(":")[0] for target in AGENTS.values()} | {
    "PPOState": "maxent_rl.agents.on_policy.ppo",
    "SACState": "maxent_rl.agents.soft.base",
}
__all__ = [
    "AGENTS",
    "PPO",
    "SAC",
    "Agent",
    "OffPolicyAgent",
    "OfflineAgent",
    "OnPolicyAgent",
    "PPOState",
    "SACState",
    "acting_state",
    "agent_class",
    "agent_name",
    "check_agent",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'maxent_rl.agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
