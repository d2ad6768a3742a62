"""`step_batch` keeps termination, truncation, final observations and fresh episodes apart: probes of known values."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.envs.device import DeviceStep, EnvState, reset_batch, step_batch
from maxent_rl.types import Array, Spec


@dataclasses.dataclass(frozen=True)
class Walk:
    """Observes [random start, position]; each step adds the action; ends from `limit` on. Reward: the position."""

    horizon: int = 5
    limit: float = 1e9

    @property
    def spec(self) -> Spec:
        return Spec((2,), (1,), self.horizon)

    def reset(self, key: Array) -> tuple[Array, Array]:
        state = jnp.stack([jax.random.uniform(key), jnp.zeros(())])
        return state, state

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        state = state.at[1].add(action[0])
        return state, state, state[1], state[1] >= self.limit


def keys_of(seeds: int, environments: int) -> Array:
    """[seeds, environments] keys; those of seed s are the same whatever the other seeds are."""
    return jax.vmap(lambda seed: jax.random.split(jax.random.key(seed), environments))(jnp.arange(seeds))


@partial(jax.jit, static_argnums=0)
def rollout(env: Walk, keys: Array, actions: Array) -> tuple[EnvState, DeviceStep, EnvState]:
    """(first state, steps [time, ...], states after each step [time, ...]) of actions [time, seed, env, 1]."""
    first = reset_batch(env, keys)

    def body(state: EnvState, action: Array) -> tuple[EnvState, tuple[DeviceStep, EnvState]]:
        state, step = step_batch(env, state, action)
        return state, (step, state)

    _, (steps, states) = jax.lax.scan(body, first, actions)
    return first, steps, states


def ones(time: int, seeds: int = 1, environments: int = 1) -> Array:
    return jnp.ones((time, seeds, environments, 1))


@pytest.mark.slow
def test_staggered_episodes_end_evenly_apart_and_stay_so() -> None:
    """Of four environments with episodes of eight steps one begins anew at every second step."""
    env = Walk(horizon=8)
    keys = keys_of(2, 4)
    state = jax.jit(lambda keys: reset_batch(env, keys, staggered=True))(keys)
    plain = jax.jit(lambda keys: reset_batch(env, keys))(keys)
    np.testing.assert_array_equal(state.elapsed, [[0, 2, 4, 6]] * 2)
    np.testing.assert_array_equal(state.observation, plain.observation)  # only their time is another

    def body(state: EnvState, action: Array) -> tuple[EnvState, DeviceStep]:
        return step_batch(env, state, action)

    _, steps = jax.jit(lambda state: jax.lax.scan(body, state, ones(16, 2, 4)))(state)
    for environment, first in enumerate((8, 6, 4, 2)):
        ends = np.flatnonzero(np.asarray(steps.truncated)[:, 1, environment]) + 1
        np.testing.assert_array_equal(ends, [first, first + 8][: len(ends)])
        assert len(ends) == 2
    assert not np.any(steps.terminated)


@pytest.mark.slow
def test_reaching_the_horizon_truncates_and_does_not_terminate() -> None:
    _, steps, states = rollout(Walk(horizon=3), keys_of(1, 1), ones(7))
    np.testing.assert_array_equal(steps.truncated[:, 0, 0], [False, False, True, False, False, True, False])
    assert not steps.terminated.any()
    np.testing.assert_array_equal(states.elapsed[:, 0, 0], [1, 2, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(states.episode[:, 0, 0], [0, 0, 1, 1, 1, 2, 2])


def test_a_terminal_state_terminates_and_does_not_truncate() -> None:
    _, steps, _ = rollout(Walk(horizon=100, limit=2.0), keys_of(1, 1), ones(5))
    np.testing.assert_array_equal(steps.terminated[:, 0, 0], [False, True, False, True, False])
    assert not steps.truncated.any()


def test_termination_wins_in_the_very_step_of_the_horizon() -> None:
    _, steps, states = rollout(Walk(horizon=2, limit=2.0), keys_of(1, 1), ones(2))
    assert steps.terminated[1, 0, 0] and not steps.truncated[1, 0, 0]
    assert states.elapsed[1, 0, 0] == 0


def test_next_observation_is_the_true_final_one_and_the_state_holds_the_new_episode() -> None:
    first, steps, states = rollout(Walk(horizon=3), keys_of(1, 1), ones(3))
    start = first.observation[0, 0, 0]
    np.testing.assert_array_equal(steps.next_observation[:, 0, 0], [[start, 1], [start, 2], [start, 3]])
    np.testing.assert_array_equal(steps.reward[:, 0, 0], [1, 2, 3])
    assert states.observation[2, 0, 0, 1] == 0
    assert states.observation[2, 0, 0, 0] != start
    np.testing.assert_array_equal(states.inner, states.observation)


@pytest.mark.slow
def test_every_episode_of_every_environment_starts_from_its_own_random_state() -> None:
    first, _, states = rollout(Walk(horizon=1), keys_of(2, 3), ones(10, 2, 3))
    starts = np.concatenate([first.observation[None, ..., 0], states.observation[..., 0]])
    assert np.unique(starts).size == 11 * 2 * 3


@pytest.mark.slow
def test_episode_n_starts_from_the_environments_key_folded_with_n() -> None:
    keys = keys_of(1, 2)
    env = Walk(horizon=2)
    _, _, states = rollout(env, keys, ones(4, 1, 2))
    _, expected = env.reset(jax.random.fold_in(keys[0, 1], 2))
    np.testing.assert_array_equal(states.observation[-1, 0, 1], expected)


@pytest.mark.slow
def test_a_reset_changes_only_the_environments_that_ended() -> None:
    env = Walk(horizon=100, limit=2.0)
    actions = jnp.array([1.0, 0.25, 1.0]) * jnp.ones((2, 1, 3))
    first, steps, states = rollout(env, keys_of(1, 3), actions[..., None])
    np.testing.assert_array_equal(steps.terminated[1, 0], [True, False, True])
    np.testing.assert_array_equal(states.elapsed[1, 0], [0, 2, 0])
    np.testing.assert_array_equal(states.episode[1, 0], [1, 0, 1])
    np.testing.assert_array_equal(states.observation[1, 0, 1], [first.observation[0, 1, 0], 0.5])
    assert (states.observation[1, 0, ::2, 0] != first.observation[0, ::2, 0]).all()
    np.testing.assert_array_equal(jax.random.key_data(states.key[1]), jax.random.key_data(first.key))


@pytest.mark.slow
@pytest.mark.parametrize("alone", [np.s_[:, 0:1, 2:3], np.s_[:, 1:2, :]], ids=["environment 2", "seed 1"])
def test_the_same_happens_alone_as_among_others(alone: tuple[slice, ...]) -> None:
    """Company must change nothing, though another environment's end runs the reset of all."""
    env = Walk(horizon=4, limit=1.5)
    keys = keys_of(2, 3)
    actions = jax.random.uniform(jax.random.key(9), (30, 2, 3, 1), minval=-1.0)
    _, among_steps, among_states = rollout(env, keys, actions)
    _, alone_steps, alone_states = rollout(env, keys[alone[1:]], actions[alone])
    assert among_steps.terminated.any() and among_steps.truncated.any()
    for company, lonely in [(among_steps, alone_steps), (among_states.observation, alone_states.observation)]:
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda leaf: leaf[alone], company), lonely)


@pytest.mark.slow
def test_flags_are_boolean_and_exclusive() -> None:
    actions = jax.random.uniform(jax.random.key(3), (50, 1, 8, 1), minval=-1.0)
    _, steps, _ = rollout(Walk(horizon=4, limit=1.0), keys_of(1, 8), actions)
    assert steps.terminated.dtype == steps.truncated.dtype == jnp.bool_
    assert not (steps.terminated & steps.truncated).any()


def test_the_reset_stays_behind_the_condition() -> None:
    """Under `vmap` a `cond` becomes a `select` that runs both branches: then every step would pay for a reset."""
    env = Walk()
    state = reset_batch(env, keys_of(2, 3))
    program = jax.make_jaxpr(lambda state, action: step_batch(env, state, action))(state, jnp.ones((2, 3, 1)))
    assert [equation.primitive.name for equation in program.eqns].count("cond") == 1
