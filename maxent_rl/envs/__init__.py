"""Environments: one interface over Gymnasium, Brax, MuJoCo Playground, envpool and our own, imported where they are used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxent_rl.envs.adapters.envpool import EnvpoolEnvs
    from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
    from maxent_rl.envs.adapters.tokens import TokenEnv
    from maxent_rl.envs.device import DeviceEnv, DeviceStep, EnvState, reset_batch, step_batch
    from maxent_rl.envs.host import HostEnvs, HostStep
    from maxent_rl.envs.registry import (
        canonical_name,
        check_named,
        has_name,
        is_device,
        loads_slowly,
        make_device,
        make_host,
        make_single,
    )
    from maxent_rl.envs.reward_map import RewardMap
    from maxent_rl.envs.submodular.env import SubmodularEnv
    from maxent_rl.envs.submodular.field_map import FieldMap
    from maxent_rl.envs.submodular.plane import Plane, SubmodularPlane
    from maxent_rl.envs.submodular.planning import best_plan, greedy_plan

_HOMES = {
    **dict.fromkeys(("DeviceEnv", "DeviceStep", "EnvState", "reset_batch", "step_batch"), "device"),
    "EnvpoolEnvs": "adapters.envpool",
    "GymnasiumEnvs": "adapters.gymnasium",
    "TokenEnv": "adapters.tokens",
    **dict.fromkeys(("HostEnvs", "HostStep"), "host"),
    **dict.fromkeys(
        (
            "canonical_name",
            "check_named",
            "has_name",
            "is_device",
            "loads_slowly",
            "make_device",
            "make_host",
            "make_single",
        ),
        "registry",
    ),
    "RewardMap": "reward_map",
    "SubmodularEnv": "submodular.env",
    "FieldMap": "submodular.field_map",
    **dict.fromkeys(("Plane", "SubmodularPlane"), "submodular.plane"),
    **dict.fromkeys(("best_plan", "greedy_plan"), "submodular.planning"),
}
__all__ = [
    "DeviceEnv",
    "DeviceStep",
    "EnvState",
    "EnvpoolEnvs",
    "FieldMap",
    "GymnasiumEnvs",
    "HostEnvs",
    "HostStep",
    "Plane",
    "RewardMap",
    "SubmodularEnv",
    "SubmodularPlane",
    "TokenEnv",
    "best_plan",
    "canonical_name",
    "check_named",
    "greedy_plan",
    "has_name",
    "is_device",
    "loads_slowly",
    "make_device",
    "make_host",
    "make_single",
    "reset_batch",
    "step_batch",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"maxent_rl.envs.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'maxent_rl.envs' has no attribute {name!r}")
