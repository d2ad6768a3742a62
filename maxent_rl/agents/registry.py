"""The names that `--agent` takes. A new agent is one line here."""

from __future__ import annotations

import importlib
from typing import Any

from maxent_rl.errors import unknown_name

AGENTS: dict[str, str] = {
    "adpo": "maxent_rl.agents.imitation.adpo:ADPO",
    "adpo-online": "maxent_rl.agents.soft.adpo_online:ADPOOnline",
    "bc": "maxent_rl.agents.imitation.bc:BC",
    "bcq": "maxent_rl.agents.values.bcq:BCQ",
    "bro": "maxent_rl.agents.soft.bro:BRO",
    "bve": "maxent_rl.agents.values.behavior_values:BVE",
    "cpl": "maxent_rl.agents.imitation.cpl:CPL",
    "cql": "maxent_rl.agents.offline.cql:CQL",
    "cql-discrete": "maxent_rl.agents.values.cql_discrete:CQLDiscrete",
    "crr": "maxent_rl.agents.values.crr:CRR",
    "doc": "maxent_rl.agents.imitation.doc:DoC",
    "dqn": "maxent_rl.agents.values.dqn:DQN",
    "dqn-online": "maxent_rl.agents.values.dqn:DQNOnline",
    "dt": "maxent_rl.agents.imitation.dt:DT",
    "lm": "maxent_rl.tokens.agent:TokenAgent",  # of two names of a class, `agent_name` gives the first
    "grpo": "maxent_rl.tokens.agent:TokenAgent",  # lm by the objective that it begins with, as it was called first
    "iql": "maxent_rl.agents.offline.iql:IQL",
    "mce": "maxent_rl.agents.values.behavior_values:MCE",
    "modpo": "maxent_rl.agents.on_policy.subpo:MODPO",
    "pmoe": "maxent_rl.agents.soft.pmoe:PMOE",
    "pmoe-ppo": "maxent_rl.agents.on_policy.pmoe_ppo:PMOEPPO",
    "ppo": "maxent_rl.agents.on_policy.ppo:PPO",
    "qr-dqn": "maxent_rl.agents.values.qr_dqn:QRDQN",
    "rebrac": "maxent_rl.agents.offline.rebrac:ReBRAC",
    "rem": "maxent_rl.agents.values.rem:REM",
    "reppo": "maxent_rl.agents.on_policy.reppo:REPPO",
    "sac": "maxent_rl.agents.soft.sac:SAC",
    "sac-discrete": "maxent_rl.agents.soft.sac_discrete:SACDiscrete",
    "sac-preference": "maxent_rl.agents.soft.sac_preference:SACPreference",
    "subpo": "maxent_rl.agents.on_policy.subpo:SubPO",
    "td3-bc": "maxent_rl.agents.offline.td3_bc:TD3BC",
}


def agent_class(name: object) -> type[Any]:
    """Finds an agent's class by name, importing it only now.

    Raises:
      UnknownNameError: naming the nearest right ones.
    """
    if not isinstance(name, str) or name not in AGENTS:
        raise unknown_name("agent", name, AGENTS)
    module, attribute = AGENTS[name].split(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


def run_defaults(agent: Any) -> dict[str, Any]:
    """Settings of runs that an agent (or its class) has for defaults of its own; none for most."""
    found: dict[str, Any] = getattr(agent, "run_defaults", {})
    return found


def agent_name(agent: Any) -> str:
    """The registry's name of an agent, or of its class.

    Of one that is not registered it is the name of its class in lower case, and never a registered one.
    """
    kind = agent if isinstance(agent, type) else type(agent)
    path, own = f"{kind.__module__}:{kind.__qualname__}", kind.__name__.lower()
    unregistered = f"custom-{own}" if own in AGENTS else own
    return next((name for name, target in AGENTS.items() if target == path), unregistered)
