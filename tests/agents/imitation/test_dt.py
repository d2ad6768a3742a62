"""Decision Transformer: what it is told, what it remembers, and that it does as those did who got what it is asked for."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import act, init, mode, update

from maxent_rl.agents.imitation.dt import DT
from maxent_rl.data.batches.windows import EpisodeWindows
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.types import Spec

PLAIN = {
    "layers": 0,
    "width": 16,
    "longest": 0,
    "dropout": 0.0,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "clip_norm": 10.0,
}
TINY = {"layers": 1, "width": 8, "context": 3, "batch_size": 16, "dropout": 0.0, "warmup_steps": 1}
SPEC = Spec((2,), (), 5, num_actions=3)


def trained(agent, data, spec, updates):
    windows = EpisodeWindows.create(data, agent.context)

    @jax.jit
    def run(agent, windows, key):
        def step(index, state):
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, index))
            return agent.update(state, windows.sample(sample_key, agent.batch_size), update_key)[0]

        return jax.lax.fori_loop(0, updates, step, agent.begin(agent.init(key, spec), windows))

    return run(agent, windows, jax.random.key(0))


def fresh(agent):
    return init(agent, jax.random.key(0), SPEC)


def bandit(size=1_000, continuous=False):
    """One step; arm 0 pays 0, arm 1 pays 1, arm 2 pays 2, and all are taken as often."""
    arm = np.arange(size) % 3
    nothing, ended = np.zeros((size, 2), np.float32), np.ones(size, bool)
    action = (arm[:, None] / 2 - 0.5).astype(np.float32) if continuous else arm.astype(np.int32)
    return Dataset(nothing, action, arm.astype(np.float32), nothing, ended, ~ended)


@partial(jax.jit, static_argnames="mask")
def window(agent, state, mask):
    """A window of three steps with random contents."""
    history = dataclasses.replace(
        agent.memory(state, (1,)).history,
        observation=jax.random.normal(jax.random.key(1), (1, 2, 2)),
        action=jnp.array([[2.0, 1.0]]),
        reward=jnp.array([[0.5, 0.25]]),
        mask=jnp.array([mask], jnp.float32),
        step=jnp.array([2]),
    )
    return history.window(jnp.array([[0.3, -0.3]]), jnp.array([1.0]))


@pytest.mark.slow
def test_it_does_what_those_did_who_got_what_it_is_asked_for():
    agent = DT(context=1, batch_size=32, **PLAIN)
    state = trained(agent, bandit(), SPEC, 300)
    assert float(state.target_return) == 2.0 and float(state.return_scale) == 2.0
    for asked, arm in ((None, 2), (2.0, 2), (1.0, 1), (0.0, 0)):
        asking = agent.replace(target_return=asked)
        assert int(mode(asking, state, jnp.zeros(2))) == arm
        np.testing.assert_array_equal(act(asking, state, jnp.zeros((50, 2)), jax.random.key(0)), arm)


@pytest.mark.slow
def test_without_the_return_it_clones():
    agent = DT(context=1, batch_size=32, condition="none", **PLAIN)
    state = trained(agent, bandit(), SPEC, 300)
    for asked in (0.0, 2.0):
        asking = agent.replace(target_return=asked)
        chance = jax.jit(lambda agent: jax.nn.softmax(agent.outputs_now(state, jnp.zeros(2))))(asking)
        np.testing.assert_allclose(chance, 1 / 3, atol=0.1)


@pytest.mark.slow
def test_continuous_actions_are_fitted_within_their_bounds():
    agent = DT(context=1, batch_size=32, **PLAIN)
    spec = Spec((2,), (1,), 5)
    state = trained(agent, bandit(continuous=True), spec, 300)
    for asked, action in ((0.0, -0.5), (1.0, 0.0), (2.0, 0.5)):
        np.testing.assert_allclose(mode(agent.replace(target_return=asked), state, jnp.zeros(2)), action, atol=0.1)
    assert act(agent, state, jnp.zeros((4, 2)), jax.random.key(0)).shape == (4, 1)


@pytest.mark.slow
def test_memory_takes_rewards_off_what_is_wanted_and_keeps_the_last_steps():
    agent = DT(target_return=10.0, **TINY)
    state = fresh(agent)
    memory = agent.memory(state, (2,))
    np.testing.assert_array_equal(memory.wanted, [10, 10])
    for number in range(3):
        seen = jnp.full((2, 2), number, jnp.float32)
        memory = agent.remember(state, memory, seen, jnp.array([0, 1]), jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(memory.wanted, [7, 4])
    found = memory.history.window(jnp.full((2, 2), 3.0), memory.wanted)
    np.testing.assert_array_equal(found.observation[..., 0], [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(found.return_to_go, [[9, 8, 7], [8, 6, 4]])
    np.testing.assert_array_equal(found.timestep, [[1, 2, 3]] * 2)
    np.testing.assert_array_equal(found.mask, 1)
    np.testing.assert_array_equal(found.action[:, :2], [[0, 0], [1, 1]])


@pytest.mark.slow
def test_acting_reads_windows_as_learning_does():
    """The last window of an episode of the data and the memory of one that went the same way are the same input."""
    data = dataclasses.replace(bandit(3), terminated=np.array([False, False, True]))
    agent = DT(**TINY)
    windows = EpisodeWindows.create(data, agent.context)
    state = jax.jit(agent.begin)(fresh(agent), windows)
    memory = agent.memory(state, ())
    for index in range(2):
        step = (jnp.asarray(data.observation[index]), jnp.asarray(data.action[index]), jnp.asarray(data.reward[index]))
        memory = agent.remember(state, memory, *step)
    played = memory.history.window(jnp.asarray(data.observation[2]), memory.wanted)
    logged = windows.around(jnp.array([2]))
    for name in ("observation", "return_to_go", "timestep", "mask"):
        np.testing.assert_allclose(getattr(played, name), getattr(logged, name)[0])
    np.testing.assert_allclose(played.action[:2], logged.action[0, :2])


@pytest.mark.slow
@pytest.mark.parametrize("layers", [0, 1])
def test_padding_contributes_nothing(layers):
    """Whatever stands at padded places, the loss and its gradient are the same, and they are finite."""
    agent = DT(**TINY | {"layers": layers, "clip_norm": 1e6})
    state = fresh(agent)
    batch = window(agent, state, mask=(0, 1))

    def spoil(leaf):
        spoiled = np.array(leaf)
        spoiled[:, 0] = 7 if leaf.dtype == jnp.int32 else np.nan
        return spoiled

    broken = jax.tree.map(spoil, dataclasses.replace(batch, mask=None))
    broken = dataclasses.replace(broken, mask=batch.mask, future=batch.future)
    (one, first), (other, second) = (update(agent, state, each, jax.random.key(0)) for each in (batch, broken))
    np.testing.assert_array_equal(first["policy/loss"], second["policy/loss"])
    for a, b in zip(jax.tree.leaves(one.parameters), jax.tree.leaves(other.parameters), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_no_action_is_chosen_by_what_came_after_it():
    agent = DT(**TINY)
    state = fresh(agent)
    batch = window(agent, state, mask=(1, 1))

    @jax.jit
    def outputs(batch):
        return agent._outputs(state, state.parameters, batch, None)[0]

    own = dataclasses.replace(batch, action=batch.action.at[:, 1].set(0.0), reward=batch.reward.at[:, 1].set(9.0))
    found, other = np.asarray(outputs(batch)), np.asarray(outputs(own))
    np.testing.assert_allclose(found[:2], other[:2], atol=1e-6)
    assert np.abs(found[2] - other[2]).max() > 1e-6
