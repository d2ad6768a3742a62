"""REPPO: the sheet's numbers, what each part of the update does, and a small task that is learned."""

import csv
import dataclasses

import batches
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import Point
from support.closeness import assert_close
from support.seeds import learning_seed

from maxent_rl import losses, train
from maxent_rl.agents import check_agent
from maxent_rl.agents.on_policy.reppo import REPPO
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.types import Spec, Transition

TIME, ENVS = 8, 4
SPEC = Spec((3,), (2,), 100, num_envs=ENVS)
SMALL = REPPO(
    hidden_sizes=(8,), critic_width=8, value_low=-4.0, value_high=4.0, value_bins=17, rollout_size=TIME * ENVS, epochs=2,
    minibatches=4,
)  # fmt: skip
KEY = jax.random.key(1)


def window(**overrides):
    """Random steps [time, env]; one terminates, one is truncated."""
    flat = batches.batch_of(TIME * ENVS)
    fields = {
        field.name: getattr(flat, field.name).reshape(TIME, ENVS, *getattr(flat, field.name).shape[1:])
        for field in dataclasses.fields(flat)
    }
    shape = (TIME, ENVS)
    flags = {"terminated": jnp.zeros(shape).at[2, 0].set(1.0), "truncated": jnp.zeros(shape).at[4, 1].set(1.0)}
    return Transition(**(fields | flags | overrides))


@pytest.fixture(scope="module")
def state():
    return batches.init(SMALL, jax.random.key(0), SPEC)


@pytest.fixture(scope="module")
def taught(state):
    """The state that has seen the window, and what it learns from."""
    return batches.compiled(SMALL, "evaluate", state, window(), KEY)


@pytest.mark.slow
def test_an_untrained_critic_says_zero():
    """Check 3: the histogram of zero, 40 times, leaves 0.999951 on the middle bin of five."""
    agent = SMALL.replace(value_low=-2.0, value_high=2.0, value_bins=5)
    logits = 40.0 * losses.gaussian_histogram(0.0, agent._atoms())
    np.testing.assert_allclose(jax.nn.softmax(logits)[2], 0.999951, atol=1e-6)
    np.testing.assert_allclose(agent.values(logits), 0.0, atol=1e-6)
    fresh = batches.init(REPPO(value_low=-50.0, value_high=50.0, critic_width=16, hidden_sizes=(8,)), KEY, SPEC)
    large = REPPO(value_low=-50.0, value_high=50.0, critic_width=16, hidden_sizes=(8,))
    found = batches.compiled(large, "action_values", fresh, jnp.ones((5, 3)), jnp.ones((5, 2)), KEY)
    assert found.shape == (1, 5)
    np.testing.assert_allclose(found, 0.0, atol=2.0)  # of a range of 100: random logits beside a peak of 40


@pytest.mark.parametrize(
    ("rule", "weight", "measured", "slope"),
    [
        (SMALL._temperature(6), 0.01, -4.0, 0.07),  # entropy 4: too much, alpha falls
        (SMALL._temperature(6), 0.01, 4.0, -0.01),
        (SMALL._divergence_weight(), 0.01, 0.15, -0.0005),  # too far: beta rises
    ],
)
def test_the_multipliers_by_hand(rule, weight, measured, slope):
    """Check 5: the slope in the logarithm, and that a step goes against it."""
    log_weight, optimizer = rule.init(weight)
    found = jax.grad(losses.temperature_loss_dual)(log_weight, measured, rule.target)
    np.testing.assert_allclose(found, slope, rtol=1e-5)
    after, _, _ = rule.step(log_weight, optimizer, jnp.float32(measured))
    assert (after < log_weight) == (slope > 0)


@pytest.mark.slow
def test_nothing_is_held_back_before_the_first_step(taught):
    """Check 6: the policy is what it was, also under a normaliser that the first window has changed."""
    state, lessons, _ = taught
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lessons)

    def gradient(use):
        agent = SMALL.replace(divergence_use=use)
        return jax.jit(jax.grad(agent.policy_loss, has_aux=True))(state.policy, state, flat, KEY)

    (bound, (_, divergence, metrics)), (free, _) = gradient("bound"), gradient("none")
    np.testing.assert_allclose(divergence, 0.0, atol=1e-6)
    assert metrics["actor/held_back"] == 0.0
    assert_close(bound, free)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(bound))


@pytest.mark.slow
def test_a_policy_that_is_too_far_is_pulled_back_alone(taught):
    """Then the loss is the weighted divergence, without the value: its slope is that of the divergence."""
    state, lessons, _ = taught
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lessons)
    moved = flat.replace(old=TanhGaussian(flat.old.mean + 1.0, flat.old.log_std))
    found, (_, divergence, metrics) = jax.jit(jax.grad(SMALL.policy_loss, has_aux=True))(
        state.policy, state, moved, KEY
    )
    assert metrics["actor/held_back"] == 1.0 and np.min(divergence) > SMALL.divergence_bound

    def back(parameters):
        return 0.01 * jnp.mean(moved.old.divergence(SMALL.policy(parameters, moved.observation)))

    assert_close(found, jax.jit(jax.grad(back))(state.policy))


@pytest.mark.slow
def test_a_penalty_is_added_everywhere(taught):
    """Its slope is that of the free loss and of the weighted divergence together."""
    state, lessons, _ = taught
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lessons)
    moved = flat.replace(old=TanhGaussian(flat.old.mean + jnp.linspace(0, 1, TIME * ENVS)[:, None], flat.old.log_std))

    @jax.jit
    def gradients(parameters):
        penalty, free = (
            jax.grad(SMALL.replace(divergence_use=use).policy_loss, has_aux=True)(parameters, state, moved, KEY)[0]
            for use in ("penalty", "none")
        )
        back = jax.grad(lambda each: 0.01 * jnp.mean(moved.old.divergence(SMALL.policy(each, moved.observation))))
        return penalty, jax.tree.map(jnp.add, free, back(parameters))

    assert_close(*gradients(state.policy))


@pytest.mark.slow
def test_every_option_together_keeps_the_structure_and_stays_finite():
    agent = SMALL.replace(
        divergence_use="penalty", divergence_samples=4, reverse_divergence=True, normalize_observations=False,
        target_entropy=-3.0, auxiliary_weight=0.0, min_std=0.0, rollout_size=None,
    )  # fmt: skip
    check_agent(agent, SPEC, "test")
    state = batches.init(agent, jax.random.key(0), SPEC)
    after, metrics = batches.update(agent, state, window(), KEY)
    batches.assert_alike(state, after)
    assert after.normalizer is None and all(np.isfinite(value) for value in metrics.values())
    assert not batches.same(state.policy, after.policy) and not batches.same(state.critic, after.critic)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_sampled_divergences_have_the_exact_one_for_a_mean(reverse):
    old = TanhGaussian(jnp.zeros((200, 1)), jnp.full((200, 1), jnp.log(0.5)))
    new = TanhGaussian(jnp.full((200, 1), 0.1), jnp.full((200, 1), jnp.log(0.6)))
    exact = SMALL.replace(reverse_divergence=reverse).divergence(old, new, KEY)
    if not reverse:
        np.testing.assert_allclose(exact, 0.043433, atol=1e-6)
    sampled = SMALL.replace(reverse_divergence=reverse, divergence_samples=400).divergence(old, new, KEY)
    assert sampled.shape == (200,)
    np.testing.assert_allclose(sampled.mean(), exact[0], atol=4 * float(sampled.std()) / 200**0.5)


@pytest.mark.slow
def test_targets_go_through_truncation_by_the_true_last_observation_and_end_with_termination(state, taught):
    after, lessons, _ = taught
    batch = window()
    np.testing.assert_allclose(lessons.target[2, 0], batch.reward[2, 0], rtol=1e-5)
    seen = after.normalizer.normalize(batch.next_observation)
    action, log_prob = SMALL.policy(state.policy, seen).sample_and_log_prob(KEY)
    value = SMALL.values(SMALL.foresee(state.critic, seen, action).logits)
    for cut in ((4, 1), (TIME - 1, 2)):  # the last step of a window, too
        wanted = batch.reward[cut] + 0.99 * (value[cut] - 0.01 * log_prob[cut])
        np.testing.assert_allclose(lessons.target[cut], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rewards_are_scaled_and_values_scaled_back():
    """The same window, paid a tenth and multiplied by ten, teaches the same."""
    agent = SMALL.replace(reward_factor=10.0)
    state, batch = batches.init(agent, jax.random.key(0), SPEC), window()
    one = batches.compiled(SMALL, "evaluate", state, batch, KEY)[1]
    tenth = batches.compiled(agent, "evaluate", state, batch.replace(reward=batch.reward / 10.0), KEY)[1]
    assert_close(one, tenth)
    seen = jnp.ones((5, 3)), jnp.ones((5, 2))
    assert_close(
        10.0 * batches.compiled(agent, "action_values", state, *seen, KEY),
        batches.compiled(SMALL, "action_values", state, *seen, KEY),
    )


def test_targets_beyond_the_range_are_told_of(state):
    batch = window(
        reward=jnp.zeros((TIME, ENVS)).at[:2].set(100.0).at[2].set(-100.0), terminated=jnp.ones((TIME, ENVS))
    )
    _, _, metrics = batches.compiled(SMALL, "evaluate", state, batch, KEY)
    assert metrics["critic/out_of_range"] == 3 / TIME
    assert (metrics["critic/target_max"], metrics["critic/target_min"]) == (100.0, -100.0)


@pytest.mark.slow
def test_predictions_of_the_next_step_count_where_there_is_one(taught):
    state, lessons, _ = taught
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lessons)
    loss = jax.jit(SMALL.critic_loss)
    (_, going_on), (_, ended) = (
        loss(state.critic, flat),
        loss(state.critic, flat.replace(terminated=jnp.ones(TIME * ENVS))),
    )
    assert ended["critic/auxiliary_loss"] == 0.0 < going_on["critic/auxiliary_loss"]
    seen = SMALL.foresee(state.critic, flat.observation, flat.action)
    errors = jnp.concatenate([seen.next_features - flat.next_features, (seen.reward - flat.reward)[:, None]], axis=1)
    wanted = jnp.mean((1 - flat.terminated) * jnp.mean(errors**2, axis=1))
    assert_close(going_on["critic/auxiliary_loss"], wanted)


@pytest.mark.slow
def test_the_critic_learns_a_known_value():
    """Every step pays 1 and ends the episode: 1 by termination, 1 / (1 - 0.5) = 2 by truncation."""
    agent = SMALL.replace(learning_rate=1e-2, discount=0.5, minibatches=1, epochs=4, initial_temperature=1e-6)
    shape, nothing = (TIME, ENVS), jnp.zeros((TIME, ENVS, 3))
    state, seen = (
        batches.init(agent, jax.random.key(0), SPEC),
        (jnp.zeros((9, 3)), jnp.linspace(-1, 1, 18).reshape(9, 2)),
    )

    @jax.jit
    def values(state, terminated):
        batch = window(
            reward=jnp.ones(shape), observation=nothing, next_observation=nothing,
            terminated=jnp.full(shape, terminated), truncated=jnp.full(shape, 1.0 - terminated),
        )  # fmt: skip
        state = jax.lax.fori_loop(0, 100, lambda i, s: agent.update(s, batch, jax.random.key(i))[0], state)
        return agent.action_values(state, *seen, KEY)

    for terminated in (1.0, 0.0):
        np.testing.assert_allclose(values(state, terminated), 1.0 if terminated else 2.0, atol=0.1)


def test_numeric_hyper_parameters_are_leaves():
    names = {
        *("learning_rate", "discount", "trace_decay", "max_gradient_norm", "reward_factor", "value_low", "value_high"),
        "learning_rate_end",
        *("auxiliary_weight", "divergence_bound", "initial_divergence_weight", "initial_temperature", "min_std"),
    }
    assert names == {path[0].name for path, _ in jax.tree_util.tree_flatten_with_path(SMALL)[0]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"value_low": 4.0}, "--value-low (4.0) must be less than --value-high (4.0)"),
        ({"value_bins": 1}, "--value-bins must be at least 2"),
        ({"minibatches": 5}, "evenly: 4 or 8 would"),
        ({"divergence_bound": 0.0}, "--divergence-bound must be greater than 0"),
    ],
)
def test_impossible_settings_are_refused(changed, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(SMALL.replace(**changed), SPEC, "test")
    assert words in str(caught.value)


def test_discrete_actions_are_refused():
    with pytest.raises(IncompatibleEnvironmentError, match="3 discrete actions: use --agent ppo"):
        check_agent(SMALL, Spec((3,), (), 100, num_actions=3, num_envs=ENVS), "CartPole")


@pytest.mark.slow
def test_it_brings_a_point_to_the_middle(tmp_path):
    """Over 20 seeds -1.5 with deviation 0.4, the worst -2.5; a point that is left where it starts pays -13.3 on average."""
    agent = SMALL.replace(
        hidden_sizes=(16, 16), critic_width=16, value_low=-20.0, value_high=5.0, value_bins=51, discount=0.95,
        rollout_size=320, epochs=8, learning_rate=3e-3,
    )  # fmt: skip
    result = train(
        agent, Point(), total_steps=10_240, num_envs=16, seed=learning_seed(), eval_every=0, eval_episodes=20,
        checkpoint_every=0, output_dir=str(tmp_path),
    )  # fmt: skip
    (row,) = csv.DictReader((result.folder / "eval.csv").open())
    assert float(row["return_mean"]) > -4.0
