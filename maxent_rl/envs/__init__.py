"""Environments: one interface over Gymnasium, Brax, MuJoCo Playground and envpool, imported where they are used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxent_rl.envs.adapters.envpool import EnvpoolEnvs
    from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
    from maxent_rl.envs.device import DeviceEnv, DeviceStep, EnvState, reset_batch, step_batch
    from maxent_rl.envs.host import HostEnvs, HostStep
    from maxent_rl.envs.registry import canonical_name, has_name, is_device, make_device, make_host, make_single

_HOMES = {
    **dict.fromkeys(("DeviceEnv", "DeviceStep", "EnvState", "reset_batch", "step_batch"), "device"),
    "EnvpoolEnvs": "envpool_envs",
    "GymnasiumEnvs": "gymnasium_envs",
    **dict.fromkeys(("HostEnvs", "HostStep"), "host"),
    **dict.fromkeys(("canonical_name", "has_name", "is_device", "make_device", "make_host", "make_single"), "registry"),
}
__all__ = [
    "DeviceEnv",
    "DeviceStep",
    "EnvState",
    "EnvpoolEnvs",
    "GymnasiumEnvs",
    "HostEnvs",
    "HostStep",
    "canonical_name",
    "has_name",
    "is_device",
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
