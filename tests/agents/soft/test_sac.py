"""SAC: what each part of the update changes, its options, and the values it finds where they are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import assert_alike, batch_of, one_state_batch, same
from support.seeds import learning_seed

from maxent_rl.agents import SAC, acting_state, check_agent
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, UnknownNameError
from maxent_rl.types import Spec

SPEC = Spec((3,), (2,), 100)
SMALL = SAC(hidden_sizes=(8,), batch_size=8)
# Options that do not meet share a program; the defaults are the agent contract's.
VARIANTS = {
    "fresh": SMALL.replace(temperature_sample="fresh", target_entropy=-1.0, normalize_observations=True),
    "redq": SMALL.replace(
        num_critics=3, target_critics=2, actor_value="mean", critic_norm="layer", critic_dropout=0.1,
        temperature_mode="dual",
    ),
    "simba": SMALL.replace(network="simba", temperature_mode="fixed", initial_temperature=0.2),
}  # fmt: skip


init = jax.jit(lambda agent, key: agent.init(key, SPEC))
update = jax.jit(lambda agent, state, batch, key: agent.update(state, batch, key))
update_critics = jax.jit(lambda agent, state, batch, key: agent.update_critics(state, batch, jnp.ones((8, 2)), key))


@pytest.mark.slow
@pytest.mark.parametrize("agent", VARIANTS.values(), ids=VARIANTS)
def test_update_keeps_structure_and_types_and_stays_finite(agent):
    check_agent(agent, SPEC, "test")
    state = init(agent, jax.random.key(0))
    after, metrics = update(agent, state, batch_of(), jax.random.key(1))
    assert_alike(state, after)
    assert all(np.isfinite(value) for value in metrics.values())
    assert not same(state.policy, after.policy) and not same(state.critics, after.critics)
    assert {"critic/loss", "actor/loss", "actor/entropy", "temperature/alpha"} <= set(metrics)
    assert same(state.log_alpha, after.log_alpha) == (agent.temperature_mode == "fixed")


@pytest.mark.slow
def test_critics_differ_and_targets_start_as_copies():
    state = init(SMALL, jax.random.key(0))
    critics = state.critics["params"]
    assert set(critics) == {"critic_0", "critic_1"} and not same(critics["critic_0"], critics["critic_1"])
    assert same(state.critics, state.target_critics)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "expected"), [(1.0, "online"), (0.0, "old")])
def test_extreme_target_rates(rate, expected):
    state = init(SMALL, jax.random.key(0))
    after, _ = update(SMALL.replace(target_update_rate=rate), state, batch_of(), jax.random.key(1))
    assert same(after.target_critics, after.critics if expected == "online" else state.critics)


def test_polyak_step():
    """Sheet, example C: theta = 2, target = 1, tau = 0.005 give 1.005."""
    state = init(SMALL, jax.random.key(0))
    fill = lambda value: jax.tree.map(lambda leaf: jnp.full_like(leaf, value), state.critics)  # noqa: E731
    moved = SMALL.update_targets(dataclasses.replace(state, critics=fill(2.0), target_critics=fill(1.0)))
    np.testing.assert_allclose(jax.tree.leaves(moved.target_critics)[0], 1.005, rtol=1e-6)


@pytest.mark.slow
def test_each_step_changes_only_its_own_parameters():
    state, key = init(SMALL, jax.random.key(0)), jax.random.key(1)
    after, _ = update_critics(SMALL, state, batch_of(), key)
    assert same(after.policy, state.policy) and same(after.log_alpha, state.log_alpha)
    after, log_prob, _ = jax.jit(SMALL.update_policy)(state, batch_of(), jnp.ones((1, 8, 2)), key)
    assert same(after.critics, state.critics) and same(after.log_alpha, state.log_alpha)
    after, _ = jax.jit(SMALL.update_temperature)(state, batch_of(), log_prob, key)
    assert same(after.critics, state.critics) and same(after.policy, state.policy)


@pytest.mark.slow
def test_shared_temperature_learns_from_the_policy_step_of_the_same_update():
    """The first step of Adam is the learning rate, down where entropy is above the target and up where it is below."""
    state = init(SMALL, jax.random.key(0))
    for target, sign in ((-50.0, -1.0), (50.0, 1.0)):
        after, _ = update(SMALL.replace(target_entropy=target), state, batch_of(), jax.random.key(1))
        np.testing.assert_allclose(after.log_alpha, sign * 1e-3, rtol=1e-4)


@pytest.mark.slow
def test_dropout_of_zero_and_one_key_more_change_nothing():
    plain, state = SMALL, init(SMALL, jax.random.key(0))
    first, _ = update(plain, state, batch_of(), jax.random.key(1))
    second, _ = update(plain.replace(critic_dropout=0.0), state, batch_of(), jax.random.key(1))
    assert same(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_terminated_does_not_bootstrap_and_truncated_does(terminated):
    """Every step pays 1 and ends the episode: the value is 1 by termination, 1 / (1 - 0.5) = 2 by truncation.

    Actions are drawn anew for every update: of eight that stay the same critics are free to promise more elsewhere.
    """
    agent = SAC(
        hidden_sizes=(16,), learning_rate=1e-2, discount=0.5, temperature_mode="fixed", initial_temperature=1e-6,
        target_update_rate=0.1,
    )  # fmt: skip
    batch = one_state_batch(terminated)
    state = init(agent, jax.random.key(learning_seed()))

    @jax.jit
    def many(state):
        def update(index, state):
            action_key, update_key = jax.random.split(jax.random.key(learning_seed() + index))
            action = jax.random.uniform(action_key, batch.action.shape, minval=-1, maxval=1)
            return agent.update(state, batch.replace(action=action), update_key)[0]

        return jax.lax.fori_loop(0, 600, update, state)

    q = agent.values(many(state).critics, batch.observation, batch.action, jax.random.key(0))
    np.testing.assert_allclose(q, 1.0 if terminated else 2.0, atol=0.15)


@pytest.mark.slow
def test_n_step_uses_the_discount_to_the_power_of_steps():
    agent = SMALL.replace(temperature_mode="fixed", initial_temperature=1e-6, discount=0.5)
    state = init(agent, jax.random.key(0))
    key = jax.random.key(1)
    _, one = update_critics(agent, state, batch_of(reward=jnp.zeros(8)), key)
    _, three = update_critics(agent, state, batch_of(reward=jnp.zeros(8), steps=jnp.full(8, 3.0)), key)
    np.testing.assert_allclose(three["critic/target_mean"], one["critic/target_mean"] / 4, rtol=1e-4)


@pytest.mark.slow
def test_normalizer_finds_mean_and_variance():
    agent = SMALL.replace(normalize_observations=True)
    state = init(agent, jax.random.key(0))
    rows = 5 + 3 * jax.random.normal(jax.random.key(2), (64, 8, 3))
    for row in rows:
        state, _ = update(agent, state, batch_of(observation=row), jax.random.key(1))
    np.testing.assert_allclose(state.normalizer.mean, rows.reshape(-1, 3).mean(0), rtol=1e-4)
    np.testing.assert_allclose(state.normalizer.variance, rows.reshape(-1, 3).var(0), rtol=1e-3)


@pytest.mark.slow
def test_acting_needs_only_the_acting_state():
    for agent in VARIANTS.values():
        state = init(agent, jax.random.key(0))
        part, observation, key = acting_state(agent, state), jnp.ones((4, 3)), jax.random.key(3)
        assert len(jax.tree.leaves(part)) < len(jax.tree.leaves(state))
        np.testing.assert_array_equal(agent.act(part, observation, key), agent.act(state, observation, key))
        np.testing.assert_array_equal(agent.mode(part, observation), agent.mode(state, observation))
        assert np.abs(agent.act(state, observation, key)).max() < 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.0}, "--learning-rate must be greater than 0, got 0"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"discount": 1.5}, "--discount must be at least 0 and at most 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"batch_size": 2.5}, "--batch-size must be a whole number"),
        ({"hidden_sizes": (64, 0)}, "--hidden-sizes"),
        ({"hidden_sizes": ()}, "--hidden-sizes needs at least one"),
        ({"target_entropy": 1.5}, "1.38629"),
        ({"target_critics": 3}, "--target-critics"),
        ({"log_std_min": 3.0}, "--log-std-min"),
        ({"network": "simba", "hidden_sizes": (8, 16)}, "equal"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(SAC(**settings), SPEC, "test")
    assert words in str(caught.value)


def test_unknown_choice_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'simba'"):
        check_agent(SAC(network="simbba"), SPEC, "test")


def test_discrete_actions_are_refused():
    with pytest.raises(IncompatibleEnvironmentError, match=r"CartPole-v1 has 2 discrete"):
        check_agent(SAC(), Spec((4,), (), 500, num_actions=2), "CartPole-v1")
