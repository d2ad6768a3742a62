"""Sharing a window of steps among gradient steps: whole samples as rows of one array, which one gather shuffles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.agents.base import rollout_time
from maxent_rl.errors import InvalidSettingError
from maxent_rl.types import Array, Metrics, PyTree, Spec

Tree = TypeVar("Tree", bound=PyTree)
State = TypeVar("State")


@struct.dataclass
class Samples:
    """What the steps of a window are to the loss, with any leading axes [...]; observations are normalised.

    Attributes:
      observation: [..., observation].
      action: [..., action], or [...] discrete ones as floats.
      log_prob: [...] of the action under the policy that drew it, in nats.
      value: [...] of the observation when it was acted on, in units of (scaled) return.
      advantage: [...] in units of (scaled) return.
    """

    observation: Array
    action: Array
    log_prob: Array
    value: Array
    advantage: Array


def passes(
    step: Callable[[State, Tree, Array], tuple[State, Metrics]],
    state: State,
    units: Tree,
    key: Array,
    epochs: int,
    minibatches: int,
) -> tuple[State, Metrics]:
    """Takes gradient steps over a window several times, each time in another order.

    Args:
      step: `(state, minibatch, key) -> (state, metrics)`; the minibatch has the shapes of `units` behind its first axis.
      state: what the steps change.
      units: [unit, ...] what minibatches are made of.
      key: [] random key.
      epochs: times that every unit is used.
      minibatches: steps of each of them; a divisor of the number of units.

    Returns:
      (state, metrics): means over all steps.
    """
    rows = pack(units)

    def one(state: State, sampled: tuple[Array, Array]) -> tuple[State, Metrics]:
        rows, key = sampled
        return step(state, unpack(rows, units), key)

    def epoch(state: State, key: Array) -> tuple[State, Metrics]:
        order_key, step_key = jax.random.split(key)
        # One gather of whole rows for all of an epoch's minibatches.
        shuffled = rows[jax.random.permutation(order_key, len(rows))]
        shares = shuffled.reshape(minibatches, -1, rows.shape[1])
        return jax.lax.scan(one, state, (shares, jax.random.split(step_key, minibatches)))

    state, metrics = jax.lax.scan(epoch, state, jax.random.split(key, epochs))
    return state, jax.tree.map(jnp.mean, metrics)


def check_minibatches(agent: Any, spec: Spec) -> None:
    """Refuses a number of minibatches that the steps of an agent's window cannot be shared among.

    Raises:
      InvalidSettingError: naming the numbers that would do.
    """
    steps = rollout_time(agent, spec) * spec.num_envs
    if steps % agent.minibatches:
        window = "" if agent.rollout_size is None else f"--rollout-size {agent.rollout_size}, "
        raise InvalidSettingError(
            f"--minibatches {agent.minibatches} cannot share the {steps} steps of an update ({window}--num-envs "
            f"{spec.num_envs}) evenly: {nearest_divisors(steps, agent.minibatches)} would."
        )


def updates_of(agent: Any, total_steps: int) -> float | None:
    """Gradient steps that an agent with windows takes in a run; None where windows are episodes, of whatever length."""
    if agent.rollout_size is None:
        return None
    updates: int = max(total_steps // agent.rollout_size, 1) * agent.epochs * agent.minibatches
    return updates


def pack(units: PyTree) -> Array:
    """A pytree of [unit, ...] as rows [unit, width]."""
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(units)], axis=1)


def unpack(rows: Array, like: Tree) -> Tree:
    """Rows [batch, width] as a pytree of [batch, ...], of the shapes and types behind the first axis of `like`."""
    leaves, structure = jax.tree.flatten(like)
    parts, first = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape[1:])
        parts.append(rows[:, first : first + size].reshape(len(rows), *leaf.shape[1:]).astype(leaf.dtype))
        first += size
    unpacked: Tree = jax.tree.unflatten(structure, parts)
    return unpacked


def nearest_divisors(total: int, wanted: int) -> str:
    """The divisors of a number below and above one that is none, in words: "4 or 7"."""
    fits = [count for count in range(1, total + 1) if total % count == 0]
    below, above = max(c for c in fits if c <= wanted), min((c for c in fits if c > wanted), default=1)
    return " or ".join(map(str, sorted({below, above})))
