"""SAC for discrete actions: expectations that are exact, the Boltzmann policy that it must find, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import assert_alike, batch_of, one_state_batch, same
from support.closeness import rounding
from support.seeds import learning_seed

from maxent_rl.agents import SAC, acting_state, check_agent
from maxent_rl.agents.soft.sac_discrete import SACDiscrete
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.types import Spec

SPEC = Spec((3,), (), 100, num_actions=4)
SMALL = SACDiscrete(hidden_sizes=(16,), batch_size=8)
# Options that do not meet share a program; the defaults are the agent contract's.
VARIANTS = {
    "simba": SMALL.replace(network="simba", temperature_mode="fixed", initial_temperature=0.2),
    "redq": SMALL.replace(
        num_critics=3, target_critics=2, actor_value="mean", critic_norm="layer", critic_dropout=0.1,
        normalize_observations=True,
    ),
}  # fmt: skip
CHOICES = jnp.array([0.0, 1.0, 2.0, 3.0, 3.0, 2.0, 1.0, 0.0])  # the loops store choices as float32
VALUES = jnp.array([[1.0, -2.0, 0.5, 3.0], [2.0, -3.0, 1.0, 2.5]])  # of two critics

init = jax.jit(lambda agent, key: agent.init(key, SPEC))
update = jax.jit(lambda agent, state, batch, key: agent.update(state, batch, key))
update_critics = jax.jit(lambda agent, state, batch, key: agent.update_critics(state, batch, None, key))
update_policy = jax.jit(lambda agent, state, batch, key: agent.update_policy(state, batch, None, key))


def discrete_batch(**overrides):
    return batch_of(**({"action": CHOICES} | overrides))


def with_values(state, values=VALUES, temperature=1.0, boltzmann=False):
    """Critics, targets and temperature that are the same in every state; the policy, if asked, fits the least critic."""

    critics = jax.tree.map(jnp.zeros_like, state.critics)
    for index, row in enumerate(values):
        critics["params"][f"critic_{index}"]["Dense_0"]["bias"] = row
    state = dataclasses.replace(
        state, critics=critics, target_critics=critics, log_alpha=jnp.log(jnp.float32(temperature))
    )
    if boltzmann:
        policy = jax.tree.map(jnp.zeros_like, state.policy)
        policy["params"]["head"]["bias"] = values.min(0) / temperature
        state = dataclasses.replace(state, policy=policy)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("agent", VARIANTS.values(), ids=VARIANTS)
def test_update_keeps_structure_and_types_and_stays_finite(agent):
    check_agent(agent, SPEC, "test")
    state = init(agent, jax.random.key(0))
    after, metrics = update(agent, state, discrete_batch(), jax.random.key(1))
    assert_alike(state, after)
    assert all(np.isfinite(value) for value in metrics.values())
    assert not same(state.policy, after.policy) and not same(state.critics, after.critics)
    assert {"critic/loss", "actor/loss", "actor/entropy", "temperature/alpha"} <= set(metrics)
    assert 0 <= metrics["actor/entropy"] <= np.log(4) * (1 + rounding(20))
    assert same(state.log_alpha, after.log_alpha) == (agent.temperature_mode == "fixed")


@pytest.mark.slow
def test_only_the_taken_choice_is_regressed():
    state = init(SMALL, jax.random.key(0))
    every = SMALL.all_values(state.critics, jnp.ones((8, 3)), jax.random.key(0))
    taken = SMALL.values(state.critics, jnp.ones((8, 3)), CHOICES, jax.random.key(0))
    assert every.shape == (2, 8, 4) and taken.shape == (2, 8)
    np.testing.assert_array_equal(taken, every[:, np.arange(8), CHOICES.astype(int)])
    after, _ = update_critics(SMALL, state, discrete_batch(action=jnp.full(8, 2.0)), jax.random.key(1))
    moved = (
        after.critics["params"]["critic_0"]["Dense_0"]["bias"] != state.critics["params"]["critic_0"]["Dense_0"]["bias"]
    )
    assert moved.tolist() == [False, False, True, False]


@pytest.mark.slow
def test_soft_value_of_the_boltzmann_policy_is_the_log_sum_exp():
    """With pi proportional to exp(Q / alpha), target = r + gamma alpha logsumexp(Q / alpha), Q the least critic."""
    alpha = 0.7
    state = with_values(init(SMALL, jax.random.key(0)), temperature=alpha, boltzmann=True)
    _, metrics = update_critics(SMALL, state, discrete_batch(reward=jnp.full(8, 0.5)), jax.random.key(1))
    expected = 0.5 + 0.99 * alpha * jax.nn.logsumexp(VALUES.min(0) / alpha)
    np.testing.assert_allclose(metrics["critic/target_mean"], expected, rtol=1e-5)


def test_target_takes_the_least_critic_of_each_choice():
    """Critics that disagree on which choice is good: (0, 1) and (1, 0) are worth 0 to uniform actions, not 1/2."""
    state = with_values(init(SMALL, jax.random.key(0)), jnp.array([[0.0, 1, 0, 1], [1.0, 0, 1, 0]]), 1e-6)
    policy = jax.tree.map(jnp.zeros_like, state.policy)
    state = dataclasses.replace(state, policy=policy)
    _, metrics = update_critics(SMALL, state, discrete_batch(reward=jnp.zeros(8)), jax.random.key(1))
    np.testing.assert_allclose(metrics["critic/target_mean"], 0.0, atol=1e-4)


@pytest.mark.slow
def test_a_subset_of_critics_makes_the_target():
    """Constant critics 1, 2 and 3, one of them drawn: the target is one of the three, and not always the same."""
    agent = SMALL.replace(num_critics=3, target_critics=1, discount=1.0)
    state = with_values(init(agent, jax.random.key(0)), jnp.array([[1.0], [2.0], [3.0]]) * jnp.ones(4), 1e-6)
    batch = discrete_batch(reward=jnp.zeros(8))
    targets = [update_critics(agent, state, batch, jax.random.key(s))[1]["critic/target_mean"] for s in range(12)]
    assert {round(float(target), 3) for target in targets} == {1.0, 2.0, 3.0}


@pytest.mark.parametrize(("climbs", "value"), [("min", VALUES.min(0)), ("mean", VALUES.mean(0))])
def test_policy_finds_the_boltzmann_distribution_of_fixed_critics(climbs, value):
    agent = SMALL.replace(actor_value=climbs, learning_rate=0.03)
    state = with_values(init(agent, jax.random.key(0)), temperature=2.0)
    batch = one_state_batch(0.0, action=CHOICES)

    @jax.jit
    def many(state):
        return jax.lax.fori_loop(0, 500, lambda i, s: agent.update_policy(s, batch, None, jax.random.key(i))[0], state)

    found = np.exp(agent.distribution(many(state), jnp.zeros(3)).log_probs)
    np.testing.assert_allclose(found, jax.nn.softmax(value / 2.0), atol=2e-3)


def test_policy_gradient_matches_finite_differences():
    """Read off the update: its step is taken with plain gradient descent instead of Adam."""

    class Plain(SACDiscrete):
        def _policy_step(self, state, loss, observation):
            return loss, jax.grad(loss, has_aux=True)(state.policy)[0], {}

    state = with_values(init(SMALL, jax.random.key(0)), temperature=0.7)

    @jax.jit
    def at(step):
        """The loss with the head's biases moved, and the gradient there."""
        policy = {"params": state.policy["params"] | {"head": dict(state.policy["params"]["head"])}}
        policy["params"]["head"]["bias"] += step
        moved = dataclasses.replace(state, policy=policy)
        loss, gradient, _ = Plain(hidden_sizes=(16,)).update_policy(moved, discrete_batch(), None, jax.random.key(1))
        return loss(policy)[0], gradient["params"]["head"]["bias"]

    steps = 1e-2 * jnp.eye(4)
    numeric = [(at(step)[0] - at(-step)[0]) / 2e-2 for step in steps]
    np.testing.assert_allclose(at(jnp.zeros(4))[1], numeric, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_terminated_does_not_bootstrap_and_truncated_does(terminated):
    """Every step pays 1 and ends the episode: the value is 1 by termination, 1 / (1 - 0.5) = 2 by truncation."""
    agent = SACDiscrete(
        hidden_sizes=(16,), learning_rate=1e-2, discount=0.5, temperature_mode="fixed", initial_temperature=1e-6,
        target_update_rate=0.1,
    )  # fmt: skip
    batch, state = one_state_batch(terminated, action=CHOICES), init(agent, jax.random.key(learning_seed()))

    @jax.jit
    def many(state):
        return jax.lax.fori_loop(0, 600, lambda i, s: agent.update(s, batch, jax.random.key(i))[0], state)

    q = agent.values(many(state).critics, batch.observation, batch.action, jax.random.key(0))
    np.testing.assert_allclose(q, 1.0 if terminated else 2.0, atol=0.15)


@pytest.mark.parametrize(("share", "sign"), [(0.0, -1.0), (0.999, 1.0)])
def test_temperature_moves_towards_its_entropy(share, sign):
    """Adam's first step is the learning rate: down where entropy is above the target, up where it is below."""
    state = with_values(init(SMALL, jax.random.key(0)), boltzmann=True)
    after, metrics = update(SMALL.replace(target_entropy_share=share), state, discrete_batch(), jax.random.key(1))
    assert 0.1 < metrics["actor/entropy"] < 1.3
    np.testing.assert_allclose(after.log_alpha, sign * 3e-4, rtol=1e-4)


def test_default_target_entropy_is_89_percent_of_that_of_uniform_actions_and_can_be_given():
    state = with_values(init(SMALL, jax.random.key(0)), boltzmann=True)
    given = SMALL.replace(target_entropy=0.89 * float(np.log(4)), target_entropy_share=0.5)
    state = dataclasses.replace(state, log_alpha=jnp.float32(-1.0))
    for agent in (SMALL, given):
        _, metrics = update(agent, state, discrete_batch(), jax.random.key(1))
        np.testing.assert_allclose(metrics["temperature/loss"], 0.89 * np.log(4) - metrics["actor/entropy"], rtol=1e-4)


def test_actions_are_whole_numbers_of_the_policys_distribution():
    state = with_values(init(SMALL, jax.random.key(0)), boltzmann=True)
    actions = SMALL.act(state, jnp.zeros((20_000, 3)), jax.random.key(0))
    assert actions.dtype == jnp.int32 and actions.shape == (20_000,)
    exact = np.asarray(jax.nn.softmax(VALUES.min(0)))
    shares = np.bincount(actions, minlength=4) / 20_000
    assert np.all(np.abs(shares - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000))
    assert SMALL.mode(state, jnp.zeros(3)) == 3


def test_acting_needs_only_the_acting_state():
    state = init(SMALL, jax.random.key(0))
    part, observation, key = acting_state(SMALL, state), jnp.ones((4, 3)), jax.random.key(3)
    assert len(jax.tree.leaves(part)) < len(jax.tree.leaves(state))
    np.testing.assert_array_equal(SMALL.act(part, observation, key), SMALL.act(state, observation, key))
    np.testing.assert_array_equal(SMALL.mode(part, observation), SMALL.mode(state, observation))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target_entropy": 1.5}, "less than 1.38629"),
        ({"target_entropy": float(np.log(4))}, "less than 1.38629"),
        ({"target_entropy": -2.0}, "at least 0"),
        ({"target_entropy_share": 1.0}, "--target-entropy-share must be less than 1"),
        ({"target_entropy_share": -0.1}, "--target-entropy-share must be at least 0"),
        ({"target_critics": 3}, "--target-critics"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(SACDiscrete(**settings), SPEC, "test")
    assert words in str(caught.value)


def test_continuous_actions_are_refused():
    with pytest.raises(IncompatibleEnvironmentError, match=r"Pendulum-v1 has continuous ones; --agent sac "):
        check_agent(SACDiscrete(), Spec((3,), (1,), 200), "Pendulum-v1")
    with pytest.raises(IncompatibleEnvironmentError, match="sac-discrete"):
        check_agent(SAC(), SPEC, "CartPole-v1")
