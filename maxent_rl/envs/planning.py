"""What can be reached on a known model: greedy plans, the best plan by enumeration, and what chance alone brings.

These are what learned policies are compared with, in any device environment with discrete actions. Of an environment that
pays for what a trajectory visits they give F of the whole trajectory, its start included; of any other, the return.

Source of the comparison and of the epsilon-bandit: Submodular Reinforcement Learning (arXiv 2307.13372).
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.envs.device import DeviceEnv, step_within
from maxent_rl.envs.motions import FreeChoice
from maxent_rl.envs.submodular_env import SubmodularEnv
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.types import Array, PyTree

MOST_SEQUENCES = 5_000_000
_CHUNK = 4096  # sequences that are rolled out side by side
# The share of the best return by which others may fall short of it and be as good: what single precision makes of sums.
_ROUNDING = 1e-6


class Plan(NamedTuple):
    """A sequence of actions and what it is worth.

    Attributes:
      actions: [horizon] int32; those after the episode's end mean nothing.
      objective: [] F of the trajectory: the start's value and the return.
      start: [] F of the start alone; 0 where trajectories have none.
    """

    actions: Array
    objective: Array
    start: Array


def greedy_plan(env: DeviceEnv, key: Array, lookahead: int = 1, samples: int = 1) -> Plan:
    """Looks a few steps ahead, takes the first action of the sequence that pays most, and looks again from there.

    Among sequences that pay equally (to 1e-5 of the best) one is drawn, so that a plan does not come to rest where nothing
    near pays. Where dynamics are random, each sequence is tried with randomness of its own, never with that which will
    decide the step; the plan is then that of one episode.

    Args:
      env: with discrete actions; its states must hold their randomness as typed keys (`jax.random.key`).
      key: [] of the episode's start and of the draws.
      lookahead: actions of a sequence.
      samples: trials of each sequence, over which what it pays is averaged; more than 1 for random dynamics.

    Raises:
      IncompatibleEnvironmentError: the actions are not discrete.
      InvalidSettingError: no step or no trial, or more sequences than `MOST_SEQUENCES`.
    """
    _count_sequences(_refuse_continuous(env), lookahead)
    if samples < 1:
        raise InvalidSettingError(f"Every sequence must be tried at least once, got samples = {samples}.")
    plan: Plan = _greedy(env, key, lookahead, samples)
    return plan


def best_plan(env: DeviceEnv, key: Array) -> Plan:
    """The sequence of actions with the highest return, found by trying all of them; the first among equals (to 1e-6).

    Args:
      env: deterministic after its start, with discrete actions.
      key: [] of the episode's start.

    Raises:
      IncompatibleEnvironmentError: the actions are not discrete, or the dynamics are random.
      InvalidSettingError: there are more sequences than `MOST_SEQUENCES`.
    """
    _count_sequences(_refuse_continuous(env), env.spec.horizon)
    if any(_is_key(leaf) for leaf in jax.tree.leaves(jax.eval_shape(env.reset, key))):
        raise IncompatibleEnvironmentError(
            f"The best plan needs deterministic dynamics, but the state of {type(env).__name__} holds a random key: "
            "where chance decides, no sequence of actions is best."
        )
    plan: Plan = _best(env, key)
    return plan


def random_return(env: DeviceEnv, key: Array, episodes: int) -> Array:
    """Returns [episodes] of episodes with uniformly random actions, discrete or continuous."""
    spec = env.spec

    def episode(key: Array) -> Array:
        start_key, action_key = jax.random.split(key)
        shape = (spec.horizon, *spec.action_shape)
        if spec.num_actions is None:
            actions = jax.random.uniform(action_key, shape, minval=-1.0, maxval=1.0)
        else:
            actions = jax.random.randint(action_key, shape, 0, spec.num_actions)
        return _return_of(env, env.reset(start_key)[0], actions)

    returns: Array = jax.jit(jax.vmap(episode))(jax.random.split(key, episodes))
    return returns


def time_policy_value(env: SubmodularEnv, probabilities: Array) -> Array:
    """The exact objective [] of a policy that depends on time alone in an epsilon-bandit; differentiable.

    Args:
      env: whose motion is a `FreeChoice`.
      probabilities: [horizon, action] of each action at each step.

    Raises:
      IncompatibleEnvironmentError: it is no epsilon-bandit.
      InvalidSettingError: there are more sequences of elements than `MOST_SEQUENCES`.
    """
    value, outcomes = _bandit(env)
    for step in range(env.horizon):
        value = jnp.tensordot(probabilities[step] @ outcomes, value, axes=1)
    return value


def best_time_policy(env: SubmodularEnv) -> Plan:
    """The best policy that depends on time alone in an epsilon-bandit: one action at each step, as J is linear in each step.

    The objective is the exact expectation over what is reached and what is missed.

    Args:
      env: whose motion is a `FreeChoice`.

    Raises:
      IncompatibleEnvironmentError: it is no epsilon-bandit.
      InvalidSettingError: there are more sequences of elements than `MOST_SEQUENCES`.
    """
    value, outcomes = _bandit(env)
    for _ in range(env.horizon):
        # Takes one step's elements from the front and puts its actions at the back: in the end all are in order again.
        value = jnp.tensordot(value, outcomes, axes=((0,), (1,)))
    best = _first_best(value.ravel())
    actions = jnp.stack(jnp.unravel_index(best, value.shape)).astype(jnp.int32)
    return Plan(actions, value.ravel()[best], jnp.zeros(()))


@partial(jax.jit, static_argnums=(0, 2, 3))
def _greedy(env: DeviceEnv, key: Array, lookahead: int, samples: int) -> Plan:
    sequences = jnp.array(list(itertools.product(range(_refuse_continuous(env)), repeat=lookahead)), jnp.int32)
    start_key, key = jax.random.split(key)
    state, _ = env.reset(start_key)

    def step(carry: tuple[PyTree, Array], key: Array) -> tuple[tuple[PyTree, Array], tuple[Array, Array]]:
        state, ended = carry
        tie_key, *trial_keys = jax.random.split(key, samples + 1)

        def paid(key: Array) -> Array:
            return jax.vmap(lambda actions: _return_of(env, _rekeyed(state, key), actions))(sequences)

        mean = jnp.mean(jax.vmap(paid)(jnp.stack(trial_keys)), axis=0)
        most = jnp.max(mean)
        among_best = mean >= most - 1e-5 * jnp.maximum(jnp.abs(most), 1.0)
        action = sequences[jnp.argmax(jnp.where(among_best, jax.random.uniform(tie_key, mean.shape), -1.0)), 0]
        state, _, reward, ends = env.step(state, action)
        return (state, ended | ends), (action, jnp.where(ended, 0.0, reward))

    keys = jax.random.split(key, env.spec.horizon)
    _, (actions, rewards) = jax.lax.scan(step, (state, jnp.zeros((), bool)), keys)
    start = _start_value(env, state)
    return Plan(actions, start + jnp.sum(rewards), start)


@partial(jax.jit, static_argnums=0)
def _best(env: DeviceEnv, key: Array) -> Plan:
    horizon, choices = env.spec.horizon, _refuse_continuous(env)
    total = choices**horizon
    size = min(_CHUNK, total)
    place = jnp.array([choices ** (horizon - 1 - step) for step in range(horizon)])
    state, _ = env.reset(key)

    def best_of(best: tuple[Array, Array], chunk: Array) -> tuple[tuple[Array, Array], None]:
        number = jnp.minimum(chunk * size + jnp.arange(size), total - 1)
        sequences = number[:, None] // place % choices
        returns = jax.vmap(lambda actions: _return_of(env, state, actions))(sequences)
        here = _first_best(returns)
        better = _less_rounding(returns[here]) > best[0]
        return (jnp.where(better, returns[here], best[0]), jnp.where(better, sequences[here], best[1])), None

    none = jnp.float32(-jnp.inf), jnp.zeros(horizon, jnp.int32)
    (most, actions), _ = jax.lax.scan(best_of, none, jnp.arange(-(-total // size)))
    start = _start_value(env, state)
    return Plan(actions, start + most, start)


def _first_best(values: Array) -> Array:
    """[] the place of the largest of values [n]; of those that are equal, but for rounding, the first."""
    return jnp.argmax(values >= _less_rounding(jnp.max(values)))


def _less_rounding(value: Array) -> Array:
    return value - _ROUNDING * jnp.abs(value)


def _return_of(env: DeviceEnv, state: PyTree, actions: Array) -> Array:
    """What actions [n, ...] pay from a state, until the episode ends: []."""

    def step(carry: tuple[PyTree, Array], action: Array) -> tuple[tuple[PyTree, Array], Array]:
        state, ended = carry
        state, _, reward, ends = step_within(env, state, action)
        return (state, ended | ends), jnp.where(ended, 0.0, reward)

    return jnp.sum(jax.lax.scan(step, (state, jnp.zeros((), bool)), actions)[1])


def _bandit(env: SubmodularEnv) -> tuple[Array, Array]:
    """F of all sequences of elements [element, ..., element], one axis for each step, and chances [action, element]."""
    motion = env.motion
    if not isinstance(motion, FreeChoice):
        raise IncompatibleEnvironmentError(
            f"Policies of time alone are enumerated where each action reaches its element from anywhere (a FreeChoice); "
            f"the motion is a {type(motion).__name__}."
        )
    _count_sequences(motion.elements, env.horizon)
    sequences = np.indices((motion.elements,) * env.horizon).reshape(env.horizon, -1).T
    values = jax.lax.map(env.function.value, jnp.asarray(sequences, jnp.int32), batch_size=_CHUNK)
    return env.scale * values.reshape((motion.elements,) * env.horizon), jnp.asarray(motion.outcomes, jnp.float32)


def _start_value(env: DeviceEnv, state: PyTree) -> Array:
    return env.start_value(state) if isinstance(env, SubmodularEnv) else jnp.zeros(())


def _rekeyed(state: PyTree, key: Array) -> PyTree:
    """The state with other randomness ahead of it."""
    return jax.tree.map(lambda leaf: jax.random.fold_in(key, 0) if _is_key(leaf) else leaf, state)


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _refuse_continuous(env: DeviceEnv) -> int:
    if env.spec.num_actions is None or env.spec.action_shape:
        raise IncompatibleEnvironmentError(
            f"Plans are made for one discrete action at each step; {type(env).__name__} has actions of shape "
            f"{env.spec.action_shape}{'' if env.spec.num_actions is None else ' of tokens'}."
        )
    return env.spec.num_actions


def _count_sequences(choices: int, length: int) -> None:
    if length < 1:
        raise InvalidSettingError(f"A plan looks at least 1 step ahead, got {length}.")
    if choices**length > MOST_SEQUENCES:
        raise InvalidSettingError(
            f"{choices} choices over {length} steps make {float(choices) ** length:.2g} sequences; at most "
            f"{MOST_SEQUENCES:,} are enumerated. Shorten the horizon or the lookahead."
        )
