"""PPO: what each part of the update does, its options, and the values it finds where they are known."""

import dataclasses
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.agents import PPO, acting_state, check_agent
from maxent_rl.distributions import Categorical, Gaussian, TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, UnknownNameError
from maxent_rl.networks import RewardScale
from maxent_rl.types import Spec, Transition

TIME, ENVS = 8, 4
SPEC = Spec((3,), (2,), 100, num_envs=ENVS)
DISCRETE = Spec((3,), (), 100, num_actions=3, num_envs=ENVS)
SMALL = PPO(hidden_sizes=(8,), rollout_size=TIME * ENVS, epochs=2, minibatches=4)
# Options that do not meet share a program; the defaults are the agent contract's.
TANH = SMALL.replace(
    action_distribution="tanh_gaussian", state_dependent_std=True, target_entropy=-1.0, value_clip=0.2, activation="relu",
    value_hidden_sizes=(8,), learning_rate_schedule="cosine", scheduled_updates=1_000,
)  # fmt: skip
BARE = SMALL.replace(normalize_observations=False, normalize_rewards=False, entropy_bonus=0.01, epochs=1, minibatches=1)
CASES = {
    "tanh": (TANH, SPEC),
    "bare": (BARE, SPEC),
    "categorical": (SMALL.replace(action_distribution="categorical", target_entropy=0.5), DISCRETE),
}

init = jax.jit(lambda agent, key, spec: agent.init(key, spec), static_argnums=2)
update = jax.jit(lambda agent, state, batch, key: agent.update(state, batch, key))
value = jax.jit(lambda agent, parameters, seen: agent.value(parameters, seen))
evaluate = jax.jit(lambda agent, state, batch: agent.evaluate(state, batch))


def window_of(spec=SPEC, **overrides):
    return Transition(**(random_fields(spec) | overrides))


@partial(jax.jit, static_argnums=0)
def random_fields(spec):
    keys, shape = jax.random.split(jax.random.key(0), 4), (TIME, spec.num_envs)
    action = jax.random.uniform(keys[1], (*shape, *spec.action_shape), minval=-1, maxval=1)
    return {
        "observation": jax.random.normal(keys[0], (*shape, 3)),
        "action": action if spec.num_actions is None else jnp.floor((action + 1) * spec.num_actions / 2),
        "reward": jax.random.normal(keys[2], shape),
        "next_observation": jax.random.normal(keys[3], (*shape, 3)),
        "terminated": jnp.zeros(shape).at[2, 0].set(1.0),
        "truncated": jnp.zeros(shape).at[4, 1].set(1.0),
        "steps": jnp.ones(shape),
    }


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_update_keeps_structure_and_types_and_stays_finite(case):
    agent, spec = case
    check_agent(agent, spec, "test")
    state = init(agent, jax.random.key(0), spec)
    after, metrics = update(agent, state, window_of(spec), jax.random.key(1))
    jax.tree.map(lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), state, after)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, metrics)))
    for name in ("policy", "value"):
        assert not same(state.parameters[name], after.parameters[name])
    assert {"actor/loss", "actor/entropy", "actor/clip_fraction", "actor/kl", "critic/loss"} <= set(metrics)
    assert ("temperature/alpha" in metrics) == (agent.target_entropy is not None)
    assert all(metric.shape == () for metric in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "spec", "kind"),
    [
        (SMALL, SPEC, Gaussian),
        (SMALL, DISCRETE, Categorical),
        (TANH, SPEC, TanhGaussian),
        (SMALL.replace(action_distribution="tanh_gaussian"), SPEC, TanhGaussian),
    ],
)
def test_auto_is_categorical_for_discrete_actions_and_gaussian_for_others(agent, spec, kind):
    state = init(agent, jax.random.key(0), spec)
    policy = agent.distribution(state, jnp.ones((5, 3)))
    assert isinstance(policy, kind)
    action = agent.act(state, jnp.ones((5, 3)), jax.random.key(1))
    assert action.shape == agent.mode(state, jnp.ones((5, 3))).shape == (5, *spec.action_shape)
    if spec.num_actions is None:
        np.testing.assert_allclose(policy.log_std, 0.0, atol=0.1)
        np.testing.assert_allclose(policy.mean, 0.0, atol=0.1)
    else:
        np.testing.assert_allclose(policy.log_probs, -np.log(3.0), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("terminated", [0.0, 1.0])
def test_terminated_does_not_bootstrap_and_truncated_does(terminated):
    """Every step pays 1 and ends the episode: the value is 1 by termination, 1 / (1 - 0.5) = 2 by truncation."""
    agent = PPO(
        hidden_sizes=(16,), learning_rate=1e-2, discount=0.5, minibatches=1, epochs=4, rollout_size=TIME * ENVS,
        normalize_rewards=False,
    )  # fmt: skip
    shape, seen = (TIME, ENVS), jnp.zeros((TIME, ENVS, 3))
    flags = {"terminated": jnp.full(shape, terminated), "truncated": jnp.full(shape, 1 - terminated)}
    batch = window_of(reward=jnp.ones(shape), observation=seen, next_observation=seen, **flags)
    state = init(agent, jax.random.key(0), SPEC)

    @jax.jit
    def many(state):
        return jax.lax.fori_loop(0, 200, lambda i, s: agent.update(s, batch, jax.random.key(i))[0], state)

    np.testing.assert_allclose(value(agent, many(state).parameters, seen), 1.0 if terminated else 2.0, atol=0.05)


@pytest.mark.slow
def test_advantages_bootstrap_from_the_true_last_observation():
    """One step from a truncated end: the advantage is r + gamma V(last) - V(first), whatever the next episode brings."""
    agent = SMALL.replace(normalize_rewards=False, normalize_observations=False, discount=0.9)
    state, batch = init(agent, jax.random.key(0), SPEC), window_of()
    _, samples = evaluate(agent, state, batch)
    now, then = (value(agent, state.parameters, seen) for seen in (batch.observation, batch.next_observation))
    assert_close(samples.value, now)
    np.testing.assert_allclose(samples.advantage[2, 0], batch.reward[2, 0] - now[2, 0], rtol=1e-4, atol=1e-5)
    cut = batch.reward[4, 1] + 0.9 * then[4, 1] - now[4, 1]
    np.testing.assert_allclose(samples.advantage[4, 1], cut, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_first_ratio_is_one_under_the_normalizer_that_acted(case):
    """A normaliser that has seen very much does not move by one window more."""
    agent, spec = case
    state = init(agent, jax.random.key(0), spec)
    if state.normalizer is not None:
        state = dataclasses.replace(state, normalizer=dataclasses.replace(state.normalizer, count=jnp.float32(1e12)))
    _, samples = evaluate(agent, state, window_of(spec))
    _, (_, metrics) = jax.jit(agent.loss)(state.parameters, samples, state.log_alpha, jax.random.key(0))
    np.testing.assert_allclose(metrics["actor/kl"], 0.0, atol=1e-6)
    assert metrics["actor/clip_fraction"] == 0
    np.testing.assert_allclose(metrics["actor/loss"], 0.0, atol=1e-5)  # minus the mean of a normalised advantage


@pytest.mark.slow
def test_normalizer_learns_from_the_window_and_judges_before_it():
    state, batch = init(SMALL, jax.random.key(0), SPEC), window_of()
    after, samples = evaluate(SMALL, state, batch)
    seen = batch.observation.reshape(-1, 3)
    np.testing.assert_allclose(after.normalizer.mean, seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.normalizer.variance, seen.var(0), rtol=1e-4)
    np.testing.assert_allclose(samples.observation.reshape(-1, 3).std(0), 1.0, rtol=1e-4)
    old = jax.jit(lambda state: SMALL.distribution(state, batch.observation).log_prob(batch.action))(state)
    assert_close(samples.log_prob, old)


class Paying(gymnasium.vector.VectorEnv):
    """Pays what it is told; an environment whose episode ended starts a new one in the same step."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, reward, done):
        self.num_envs, self.reward, self.done, self.now = reward.shape[1], reward, done, 0

    def step(self, actions):
        now, self.now = self.now, self.now + 1
        return None, self.reward[now], np.zeros(self.num_envs, bool), self.done[now], {}


def test_reward_scale_is_gymnasiums():
    generator = np.random.default_rng(0)
    reward = generator.normal(1.0, 2.0, (40, 8)).astype(np.float32)
    done = generator.random((40, 8)) < 0.1
    theirs = gymnasium.wrappers.vector.NormalizeReward(Paying(reward, done), gamma=0.9)
    ours, step = RewardScale.create(8), jax.jit(lambda scale, r, d: scale.add(r[None], d[None], 0.9))
    for r, d in zip(reward, done.astype(np.float32), strict=True):
        ours = step(ours, r, d)
        np.testing.assert_allclose(ours.scale(r), theirs.step(None)[1], rtol=1e-3)  # theirs counts 1e-4 rows more
    whole = RewardScale.create(8).add(reward, done.astype(np.float32), 0.9)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_reward_scale_clips_at_ten():
    scale = RewardScale.create(1).add(jnp.array([[1.0], [-1.0]]), jnp.zeros((2, 1)), 0.0)
    np.testing.assert_allclose(scale.scale(jnp.array([2.0, -2.0, 50.0, -50.0])), [2.0, -2.0, 10.0, -10.0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "target"), [(SPEC, 1.0), (DISCRETE, 0.7)], ids=["gaussian", "categorical"])
def test_target_entropy_is_held(spec, target):
    """Rewards for one action alone would end all entropy. At any one update it is off by some 0.17 nats."""
    agent = SMALL.replace(target_entropy=target, learning_rate=1e-2, normalize_observations=False)
    state = init(agent, jax.random.key(0), spec)
    seen = jnp.zeros((TIME, ENVS, 3))

    def one(state, number):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), number))
        action = agent.act(state, seen, keys[0]).astype(jnp.float32)
        reward = -(jnp.abs(action - 0.5).sum(-1) if spec.num_actions is None else jnp.abs(action - 1.0))
        ends = jnp.ones((TIME, ENVS))
        batch = window_of(spec, observation=seen, action=action, reward=reward, terminated=ends, truncated=0 * ends)
        after = agent.update(state, batch, keys[1])[0]
        return after, agent.distribution(after, seen[0, 0]).entropy(jax.random.key(0))

    _, entropy = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(400)))(state)
    np.testing.assert_allclose(jnp.mean(entropy[200:]), target, atol=0.05)


def test_numeric_hyper_parameters_are_leaves():
    names = {
        *("learning_rate", "discount", "trace_decay", "clip_low", "clip_high", "value_weight", "max_gradient_norm"),
        *("entropy_bonus", "initial_temperature", "learning_rate_end"),
    }
    paths = {path[0].name for path, _ in jax.tree_util.tree_flatten_with_path(SMALL)[0]}
    assert names == paths  # value_clip and target_entropy are None


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_acting_needs_only_the_acting_state(case):
    agent, spec = case
    state = init(agent, jax.random.key(0), spec)
    part, observation, key = acting_state(agent, state), jnp.ones((4, 3)), jax.random.key(3)
    assert len(jax.tree.leaves(part)) < len(jax.tree.leaves(state))
    np.testing.assert_array_equal(agent.act(part, observation, key), agent.act(state, observation, key))
    np.testing.assert_array_equal(agent.mode(part, observation), agent.mode(state, observation))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.0}, "--learning-rate must be greater than 0, got 0"),
        ({"clip_low": 1.5}, "--clip-low must be at least 0 and at most 1"),
        ({"value_weight": -1.0}, "--value-weight must be at least 0"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"rollout_size": 30, "minibatches": 5}, "28 steps of an update"),
        ({"rollout_size": 28, "minibatches": 5}, "evenly: 4 or 7 would"),
        ({"rollout_size": 4, "minibatches": 32}, "evenly: 1 or 4 would"),
        ({"state_dependent_std": True}, "needs --action-distribution tanh_gaussian"),
        ({"action_distribution": "tanh_gaussian", "target_entropy": 1.5}, "less than 1.38629"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(PPO(**settings), SPEC, "test")
    assert words in str(caught.value)


def test_unknown_choice_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian'"):
        check_agent(PPO(action_distribution="gausian"), SPEC, "test")


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        ("categorical", SPEC, r"continuous actions .* of Pendulum: choose gaussian or tanh_gaussian"),
        ("gaussian", DISCRETE, "3 discrete actions of Pendulum: choose categorical"),
        ("tanh_gaussian", DISCRETE, "choose categorical"),
    ],
)
def test_distributions_that_do_not_fit_the_actions_are_refused(kind, spec, words):
    with pytest.raises(IncompatibleEnvironmentError, match=words):
        check_agent(PPO(action_distribution=kind), spec, "Pendulum")
    with pytest.raises(InvalidSettingError, match=r"less than 1\.09861 nats"):
        check_agent(PPO(target_entropy=1.2), DISCRETE, "test")
