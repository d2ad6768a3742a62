"""Memory before anything is built: what there is, what episodes side by side take, and the sentence where it is too little."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax

from maxent_rl.agents.base import Agent, fresh_memory
from maxent_rl.envs.device import DeviceEnv, reset_within
from maxent_rl.envs.host import HostSource
from maxent_rl.errors import TooLargeError
from maxent_rl.types import PyTree

HOST_ENV, HOST_EPISODE = 10_000, 100
"""Bytes that a host environment takes at least, and an episode's records."""
_CGROUP = Path("/sys/fs/cgroup")


def tree_bytes(tree: PyTree) -> int:
    """Bytes of a tree of arrays, or of their shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def free_memory() -> int | None:
    """Bytes free on this machine, by its own count and by that of the container; None where that cannot be told."""
    found = []
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        found.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        most, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(most - used, 0))
    except (OSError, ValueError):  # no such file, or "max": no limit
        pass
    return min(found, default=None)


def free_on_devices(devices: list[jax.Device]) -> int | None:
    """Bytes free on accelerators, all together; None for those that share the machine's memory, or do not tell."""
    statistics = devices[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return None
    return int(statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)) * len(devices)


def episode_bytes(agent: Agent[Any], state: PyTree, env: DeviceEnv | HostSource) -> int:
    """Bytes that each episode of an evaluation takes, all of which are played side by side or recorded.

    Args:
      agent: plays.
      state: of one seed, or its shapes.
      env: the environment, or what makes those of the host.
    """
    memory = jax.eval_shape(lambda state: fresh_memory(agent, state, (1,)), state)
    return tree_bytes(memory) + (HOST_EPISODE if callable(env) else env_bytes(env) + 16)


def env_bytes(env: DeviceEnv) -> int:
    """Bytes of the state of an environment on the device, with its observation."""
    return tree_bytes(jax.eval_shape(lambda key: reset_within(env, key), jax.random.key(0)))


def check_episodes_fit(agent: Agent[Any], state: PyTree, env: DeviceEnv | HostSource, episodes: int) -> None:
    """Refuses an evaluation that memory does not hold; arguments are those of `episode_bytes`.

    Raises:
      TooLargeError: saying how many episodes it holds.
    """
    free, each = free_memory(), episode_bytes(agent, state, env)
    if free is not None and episodes * each > free:
        raise TooLargeError(
            f"{episodes:,} episodes take at least {in_words(episodes * each)} of memory, and {in_words(free)} are free: "
            f"--episodes may be at most {free // each:,}."
        )


def in_words(size: float) -> str:
    """A number of bytes in GB, or in MB where that is less than a tenth of one."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
