"""What no policy on a grid can exceed, where there are too many walks to look at all of them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.submodular.env import SubmodularEnv
from maxent_rl.set_functions import ItemCollection, SetFunction

_BATCH = 4096  # walks whose gains are computed side by side
_REMEMBERED = 3  # steps


def upper_bound(env: SubmodularEnv, remembered: int = _REMEMBERED) -> float:
    """The best sum of gains over walks that pay again for what was visited more than a few steps ago.

    Returns diminish, so that a gain, given the last few elements alone, is at least the gain given all of them: the best sum
    of the former, found by dynamic programming over the last steps, is at least the best value of the latter. Of items the
    limits are a bound as well. In the set function's own units.

    Args:
      env: a walk without slipping that visits its start.
      remembered: steps; more are a tighter bound and more work, a factor of the number of actions for each.
    """
    led_to: NDArray[np.int32] = np.asarray(env.motion.led_to)  # type: ignore[attr-defined]
    choices, start = led_to.shape[1], int(env.motion.start)  # type: ignore[attr-defined]
    function = _short(env.function, remembered + 2)
    remembered = min(remembered, env.horizon)
    # A walk is its first node and its actions; walks [node * choices ** length + actions, visited node].
    walks = _walks(led_to, np.arange(len(led_to)), remembered)
    gains = last_gains(function, _extended(led_to, walks))
    actions = np.arange(choices**remembered)
    first, rest = actions // choices ** (remembered - 1), actions % choices ** (remembered - 1)
    # Where a walk and one more action lead: the same without the first action, from the node that it led to.
    after = led_to[:, first] * choices**remembered + rest * choices
    following = (after.reshape(-1)[:, None] + np.arange(choices)).reshape(-1, choices)
    value = np.zeros(len(walks))
    for _ in range(env.horizon - remembered):
        value = np.max(gains + value[following], axis=1)
    value = value[start * choices**remembered : (start + 1) * choices**remembered]
    for length in reversed(range(remembered)):
        begun = _walks(led_to, np.array([start]), length)
        value = np.max(last_gains(function, _extended(led_to, begun)) + value.reshape(-1, choices), axis=1)
    bound = float(value[0]) + float(function.single(jnp.int32(start)))
    if isinstance(env.function, ItemCollection):
        bound = min(bound, float(np.sum(env.function.limits.values)))
    return bound


def last_gains(function: SetFunction, walks: NDArray[np.int32]) -> NDArray[np.float64]:
    """[walk, choice] what the last element of each of walks [walk, choice, element] adds to the others."""
    flat = jnp.asarray(walks.reshape(-1, walks.shape[-1]))
    gains = jax.jit(lambda flat: jax.lax.map(lambda walk: function.marginal_gains(walk)[-1], flat, batch_size=_BATCH))
    return np.asarray(gains(flat), np.float64).reshape(walks.shape[:-1])


def _walks(led_to: NDArray[np.int32], starts: NDArray[np.int64], length: int) -> NDArray[np.int32]:
    """[start * choices ** length, length + 1] all walks of so many steps."""
    walks = starts[:, None].astype(np.int32)
    for _ in range(length):
        walks = _extended(led_to, walks).reshape(-1, walks.shape[1] + 1)
    return walks


def _extended(led_to: NDArray[np.int32], walks: NDArray[np.int32]) -> NDArray[np.int32]:
    """[walk, choice, element] every walk with one more step."""
    ends = led_to[walks[:, -1]]
    return np.concatenate([np.repeat(walks[:, None], ends.shape[1], axis=1), ends[..., None]], axis=-1)


def _short(function: SetFunction, elements: int) -> SetFunction:
    """The function with a memory for so many elements, where it has a bound on them."""
    if function.capacity is None:
        return function
    return dataclasses.replace(function, capacity=elements)  # type: ignore[call-arg, type-var]
