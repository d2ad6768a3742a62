"""The names that `--agent` takes. A new agent is one line here."""

from __future__ import annotations

import importlib
from typing import Any

from maxent_rl.errors import unknown_name

AGENTS: dict[str, str] = {
    "adpo": "maxent_rl.agents.adpo:ADPO",
    "adpo-online": "maxent_rl.agents.adpo_online:ADPOOnline",
    "bc": "maxent_rl.agents.bc:BC",
    "bcq": "maxent_rl.agents.bcq:BCQ",
    "bve": "maxent_rl.agents.behavior_values:BVE",
    "cpl": "maxent_rl.agents.cpl:CPL",
    "cql": "maxent_rl.agents.cql:CQL",
    "cql-discrete": "maxent_rl.agents.cql_discrete:CQLDiscrete",
    "crr": "maxent_rl.agents.crr:CRR",
    "doc": "maxent_rl.agents.doc:DoC",
    "dqn": "maxent_rl.agents.dqn:DQN",
    "dqn-online": "maxent_rl.agents.dqn:DQNOnline",
    "dt": "maxent_rl.agents.dt:DT",
    "lm": "maxent_rl.tokens.agent:TokenAgent",  # of two names of a class, `agent_name` gives the first
    "grpo": "maxent_rl.tokens.agent:TokenAgent",  # lm by the objective that it begins with, as it was called first
    "iql": "maxent_rl.agents.iql:IQL",
    "mce": "maxent_rl.agents.behavior_values:MCE",
    "modpo": "maxent_rl.agents.subpo:MODPO",
    "pmoe": "maxent_rl.agents.pmoe:PMOE",
    "pmoe-ppo": "maxent_rl.agents.pmoe_ppo:PMOEPPO",
    "ppo": "maxent_rl.agents.ppo:PPO",
    "qr-dqn": "maxent_rl.agents.many_heads:QRDQN",
    "rebrac": "maxent_rl.agents.rebrac:ReBRAC",
    "rem": "maxent_rl.agents.many_heads:REM",
    "sac": "maxent_rl.agents.sac:SAC",
    "sac-discrete": "maxent_rl.agents.sac_discrete:SACDiscrete",
    "sac-preference": "maxent_rl.agents.sac_preference:SACPreference",
    "subpo": "maxent_rl.agents.subpo:SubPO",
    "td3-bc": "maxent_rl.agents.td3_bc:TD3BC",
}


def agent_class(name: str) -> type[Any]:
    """Finds an agent's class by name, importing it only now.

    Raises:
      UnknownNameError: naming the nearest right ones.
    """
    if name not in AGENTS:
        raise unknown_name("agent", name, AGENTS)
    module, attribute = AGENTS[name].split(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


def run_defaults(agent: Any) -> dict[str, Any]:
    """Settings of runs that an agent (or its class) has for defaults of its own; none for most."""
    found: dict[str, Any] = getattr(agent, "run_defaults", {})
    return found


def agent_name(agent: Any) -> str:
    """The registry's name of an agent; its class name in lower case where it is not registered, never a registered one."""
    path = f"{type(agent).__module__}:{type(agent).__qualname__}"
    own = type(agent).__name__.lower()
    unregistered = f"custom-{own}" if own in AGENTS else own
    return next((name for name, target in AGENTS.items() if target == path), unregistered)
