"""The schedule of gradient steps, and that seeds share nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.agents import SAC
from maxent_rl.agents.on_policy.subpo import MODPO, SubPO
from maxent_rl.errors import InvalidSettingError
from maxent_rl.training.loops.learner import act, init_learner, make_learning, numeric, store_and_learn
from maxent_rl.training.loops.plan import Schedule
from maxent_rl.types import Spec

SPEC = Spec((2,), (2,), 20)
AGENT = SAC(hidden_sizes=(8,), batch_size=4, replay_size=64, start_steps=4)


@given(
    start=st.integers(0, 50),
    ratio=st.sampled_from([0.05, 0.25, 1 / 3, 0.5, 1.0, 1.5, 4.0, 20.0]),
    num_envs=st.sampled_from([1, 2, 3, 8]),
    steps=st.integers(1, 400),
)
def test_updates_follow_the_ratio_exactly(start, ratio, num_envs, steps):
    schedule = Schedule.create(SAC(start_steps=start, updates_per_step=ratio), SPEC, num_envs)
    due = [int(schedule.updates_due(np.int32(step))) for step in range(1, steps + 1)]
    learning_steps = max(steps - int(schedule.start), 0)
    assert sum(due) == int(learning_steps * num_envs * ratio + 1e-6)
    assert sum(due[: int(schedule.start)]) == 0
    assert max(due) - min(due[int(schedule.start) :], default=max(due)) <= 1


@pytest.mark.parametrize(
    ("ratio", "num_envs"),
    [
        (2 / 1024, 1024),
        (1 / 2048, 2048),
        (1 / 4096, 4096),
        (6e-4, 4096),
        (1e-4, 1),
        (0.0333, 16),
        (2e-6, 1),
        (3.7, 4096),
    ],
)
def test_small_ratios_are_kept_with_many_environments(ratio, num_envs):
    schedule = Schedule.create(SAC(start_steps=num_envs, updates_per_step=ratio), SPEC, num_envs)
    assert int(schedule.numerator) / int(schedule.denominator) == pytest.approx(ratio * num_envs, rel=1e-4)
    assert int(schedule.numerator) * int(schedule.denominator) < 2**31
    assert schedule.updates_due(np.int32(schedule.first_update)) > 0


def test_a_ratio_that_cannot_be_counted_is_refused():
    with pytest.raises(InvalidSettingError, match="--updates-per-step 1e-08 with --num-envs 1 makes 1e-08 updates"):
        Schedule.create(SAC(updates_per_step=1e-8), SPEC, 1)


def test_default_start_is_ten_episodes_at_most_five_thousand_steps_or_what_is_set():
    assert Schedule.create(SAC(), dataclasses.replace(SPEC, horizon=200), 1).start == 2_000
    assert Schedule.create(SAC(), dataclasses.replace(SPEC, horizon=1000), 4).start == 1_250
    assert Schedule.create(SAC(), dataclasses.replace(SPEC, horizon=9999), 1).start == 5_000
    assert Schedule.create(SAC(most_start_steps=10_000), dataclasses.replace(SPEC, horizon=9999), 1).start == 10_000


def test_schedule_is_the_same_traced():
    schedule = Schedule.create(SAC(start_steps=7, updates_per_step=0.3), SPEC, 2)
    steps = np.arange(1, 100, dtype=np.int32)
    traced = jax.jit(jax.vmap(lambda schedule, step: schedule.updates_due(step), in_axes=(None, 0)))(schedule, steps)
    np.testing.assert_array_equal(traced, [schedule.updates_due(step) for step in steps])


@pytest.fixture(scope="module")
def histories():
    """Ten vector steps of seeds (0, 1, 2) together and of seed 1 alone, with the same transitions."""

    def history(seeds):
        learning = make_learning(AGENT, SPEC, 2)
        schedule = Schedule.create(AGENT, SPEC, 2)
        agent, learner = numeric(AGENT, schedule), init_learner(AGENT, learning, seeds)

        @jax.jit
        def step(learner, observation, rows):
            action = act(agent, learning, learner.seeds, observation, learner.counters.step, schedule)
            updates = schedule.updates_due(learner.counters.step + 1)
            return store_and_learn(agent, learning, learner, rows, updates), action

        actions = []
        for number in range(10):
            observation = jnp.full((len(seeds), 2, 2), number / 10)
            rows = jnp.full((len(seeds), 2, learning.layout.width), number / 10)
            learner, action = step(learner, observation, rows)
            actions.append(action)
        return learner, actions

    return history((0, 1, 2)), history((1,))


@pytest.mark.slow
def test_a_seed_draws_alone_what_it_draws_among_others(histories):
    (many, many_actions), (alone, alone_actions) = histories
    for number in range(2):  # uniform actions, before any product that could round differently
        np.testing.assert_array_equal(many_actions[number][1], alone_actions[number][0])
    np.testing.assert_array_equal(jax.random.key_data(many.seeds.key)[1], jax.random.key_data(alone.seeds.key)[0])
    for a, b in zip(jax.tree.leaves(many.seeds.agent), jax.tree.leaves(alone.seeds.agent), strict=True):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_seeds_differ_from_each_other(histories):
    (many, actions), _ = histories
    assert not np.array_equal(actions[0][0], actions[0][1])
    policy = jax.tree.leaves(many.seeds.agent.policy)
    assert not any(np.array_equal(leaf[0], leaf[1]) for leaf in policy if leaf.ndim > 2)


def test_counters_and_rows(histories):
    (many, _), _ = histories
    assert int(many.counters.step) == 10 and int(many.counters.update) == 16
    assert int(many.counters.inserted) == 20 and many.seeds.rows.shape == (3, 64, 9)
    np.testing.assert_allclose(many.seeds.rows[0, :20, 0], np.repeat(np.arange(10), 2) / 10, rtol=1e-6)
    assert not np.asarray(many.seeds.rows[:, 20:]).any()


@pytest.mark.slow
def test_two_agents_of_the_same_fields_are_never_one_program():
    """Trained in one process, SubPO was MODPO in one of a hundred programs: to JAX 0.10.2 the two are the same structure."""
    spec = dataclasses.replace(SPEC, num_actions=3, action_shape=())
    one, other = (make_learning(agent, spec, 2) for agent in (SubPO(), MODPO()))
    assert one.metric_names == other.metric_names and one != other
