"""Agents: hyper-parameters as frozen dataclasses, and pure `init`, `act`, `mode`, `update`."""

from maxent_rl.agents.base import Agent, OffPolicyAgent, OnPolicyAgent, acting_state, check_agent
from maxent_rl.agents.ppo import PPO, PPOState
from maxent_rl.agents.registry import AGENTS, agent_class, agent_name
from maxent_rl.agents.sac import SAC, SACState

__all__ = [
    "AGENTS",
    "PPO",
    "SAC",
    "Agent",
    "OffPolicyAgent",
    "OnPolicyAgent",
    "PPOState",
    "SACState",
    "acting_state",
    "agent_class",
    "agent_name",
    "check_agent",
]
