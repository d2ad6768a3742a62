"""Agents: hyper-parameters as frozen dataclasses, and pure `init`, `act`, `mode`, `update`."""

from maxent_rl.agents.base import Agent, OffPolicyAgent, acting_state, check_agent
from maxent_rl.agents.registry import AGENTS, agent_class, agent_name
from maxent_rl.agents.sac import SAC, SACState

__all__ = [
    "AGENTS",
    "SAC",
    "Agent",
    "OffPolicyAgent",
    "SACState",
    "acting_state",
    "agent_class",
    "agent_name",
    "check_agent",
]
