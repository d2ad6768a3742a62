"""How much memory a run takes at least, by its settings alone: what is too large is refused before anything is built."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax

from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostSource
from maxent_rl.errors import MaxentRLError, TooLargeError
from maxent_rl.playing.size import (
    HOST_ENV,
    env_bytes,
    episode_bytes,
    free_memory,
    free_on_devices,
    in_words,
    tree_bytes,
)
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.settings import flag
from maxent_rl.types import Spec

_MEMBER = 1_000  # bytes of what Python keeps of each member
_WIDTHS = ("hidden_sizes", "critic_hidden_sizes", "value_hidden_sizes", "hidden_size", "width", "critic_width")


@dataclasses.dataclass(frozen=True)
class Size:
    """Bytes that a run takes at least.

    Attributes:
      on_devices: by what takes them: parameters and optimisers, buffers, responses, environments and evaluation there.
      on_host: likewise of what Python keeps; on a machine without accelerators all are of one memory.
    """

    on_devices: Mapping[str, int]
    on_host: Mapping[str, int]

    @property
    def total(self) -> int:
        """All together."""
        return sum(self.on_devices.values()) + sum(self.on_host.values())

    def __str__(self) -> str:
        """In words, the largest first."""
        parts = sorted({**self.on_devices, **self.on_host}.items(), key=lambda part: -part[1])
        told = ", ".join(f"{name} {in_words(size)}" for name, size in parts if size >= 1e-3 * self.total)
        return f"{in_words(self.total)} of memory ({told})"


@dataclasses.dataclass(frozen=True)
class Room:
    """Bytes that are free; None where that cannot be told.

    Attributes:
      on_devices: of accelerators; None where there are none with a memory of their own.
      on_host: of the machine.
    """

    on_devices: int | None
    on_host: int | None

    @classmethod
    def of(cls, devices: list[jax.Device]) -> Room:
        """What is free now."""
        return cls(free_on_devices(devices), free_memory())

    def holds(self, size: Size) -> bool:
        """Whether there is enough."""
        if self.on_devices is None:
            return self.on_host is None or size.total <= self.on_host
        there = sum(size.on_devices.values()) <= self.on_devices
        return there and (self.on_host is None or sum(size.on_host.values()) <= self.on_host)

    def __str__(self) -> str:
        """In words."""
        told = "" if self.on_devices is None else f"{in_words(self.on_devices)} on the devices and "
        return f"{told}{'an unknown amount' if self.on_host is None else in_words(self.on_host)}"


def estimate(run: RunConfig, agent: Any, spec: Spec, env: DeviceEnv | HostSource, members: int) -> Size:
    """What a run takes at least.

    Args:
      run: its settings.
      agent: one of its agents.
      spec: of the environment.
      env: the environment, or what makes those of the host.
      members: that this process trains.
    """
    spec = dataclasses.replace(spec, num_envs=run.num_envs if agent.learns != "data" else 1)
    state = jax.eval_shape(lambda key: agent.init(key, spec), jax.random.key(0))
    there, here = {"parameters and optimisers": members * tree_bytes(state)}, {"members": members * _MEMBER}
    if agent.learns in ("replay", "rollout"):
        layout = make_layout(agent, spec)
        there["buffers"] = 4 * members * layout.capacity * layout.width
    if agent.learns == "task":
        # What the transformer's blocks and its head give of a part of the responses, and the gradients, are there at once.
        tokens = max(run.num_envs // agent.num_minibatches, 1) * spec.action_size
        there["responses"] = 4 * members * 2 * tokens * ((spec.num_actions or 1) + agent.num_layers * agent.hidden_size)
    if run.eval_episodes:
        played = members * run.eval_episodes * episode_bytes(agent, state, env)
        (here if callable(env) else there)["evaluation"] = played
    if callable(env):
        acting = run.num_envs if agent.learns != "data" else 0
        here["environments"] = HOST_ENV * members * (acting + min(env.side_by_side, run.eval_episodes))
    elif agent.learns in ("replay", "rollout"):
        there["environments"] = members * run.num_envs * env_bytes(env)
    return Size(there, here)


def check_size(
    run: RunConfig, agent: Any, spec: Spec, env: DeviceEnv | HostSource, members: int, room: Room
) -> Size | None:
    """Refuses a run that takes more memory than there is; what it takes, or None where an agent cannot be asked.

    Arguments are those of `estimate`.

    Raises:
      TooLargeError: saying what takes how much, and with which settings it would fit.
    """
    try:
        size = estimate(run, agent, spec, env, members)
    except Exception:  # an agent of somebody's own, of which what is wrong is said where it is traced
        return None
    if room.holds(size):
        return size
    ways = list(_ways(run, agent, spec, env, members, room))
    advice = ", or ".join(f"{name} at most {most:,}" for name, most in ways)
    raise TooLargeError(
        f"This run takes at least {size}, and {room} are free: "
        f"{f'it would fit with {advice}' if advice else 'lower several of its sizes'}."
    )


def _ways(
    run: RunConfig, agent: Any, spec: Spec, env: DeviceEnv | HostSource, members: int, room: Room
) -> Iterator[tuple[str, int]]:
    """The settings of which each alone, if lower, would make the run fit: as flags, with about the largest value that does."""
    each = members / run.num_seeds  # variants, or this process's share of the seeds

    def sized(run: RunConfig = run, agent: Any = agent) -> Size:
        return estimate(run, agent, spec, env, max(round(each * run.num_seeds), 1))

    found = False
    for name in ("num_seeds", "num_envs", "eval_episodes"):
        of = partial(_replaced, run, name)
        if most := _most(getattr(run, name), lambda value, of=of: sized(run=of(value)), room):  # type: ignore[misc]
            found = True
            yield flag(name), most
    for name in ("replay_size", "rollout_size", *(() if found else _WIDTHS)):
        value = getattr(agent, name, None)
        if value is not None:
            of, asked = partial(_replaced, agent, name), max(value) if isinstance(value, tuple) else value
            if most := _most(asked, lambda value, of=of: sized(agent=of(value)), room):  # type: ignore[misc]
                yield flag(name), most


def _replaced(settings: Any, name: str, most: int) -> Any:
    """The settings with a number, or the entries of a tuple, of at most that."""
    value = getattr(settings, name)
    lower = tuple(min(each, most) for each in value) if isinstance(value, tuple) else min(value, most)
    return dataclasses.replace(settings, **{name: lower})


def _most(asked: int, sized: Callable[[int], Size], room: Room) -> int:
    """The largest value that fits, to two digits; 0 where none does."""

    def fits(value: int) -> bool:
        try:
            return room.holds(sized(value))
        except MaxentRLError:  # a value that does not go with the others
            return False

    if asked < 2 or not fits(1):
        return 0
    low, high = 1, asked  # fits, does not
    while high - low > max(low // 50, 1):
        # By its logarithm: what is asked for may be a million times too much.
        middle = min(max(round(math.sqrt(low * high)), low + 1), high - 1)
        low, high = (middle, high) if fits(middle) else (low, middle)
    unit = int(10 ** max(math.floor(math.log10(low)) - 1, 0))
    return low // unit * unit
