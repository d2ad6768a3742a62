"""PMOE-PPO: one expert is PPO to the bit, whose densities and losses count, and what each part of the loss trains."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from batches import assert_alike, same
from support.closeness import assert_close, rounding

from maxent_rl.agents import PPO, acting_state, check_agent
from maxent_rl.agents.experts import router_metrics
from maxent_rl.agents.on_policy.pmoe_ppo import PMOEPPO
from maxent_rl.agents.on_policy.ppo import Samples
from maxent_rl.distributions import Gaussian, GaussianMixture, TanhGaussianMixture
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, UnknownNameError
from maxent_rl.types import Spec, Transition

TIME, ENVS, K = 8, 4, 3
SPEC = Spec((3,), (2,), 100, num_envs=ENVS)
SIZES = {"hidden_sizes": (16,), "rollout_size": TIME * ENVS, "epochs": 2, "minibatches": 4}
SMALL = PMOEPPO(**SIZES, num_experts=K, expert_spread=0.7)
ROUTERS = ["frequency", "score", "exact", "policy_gradient"]
BARE = {"normalize_observations": False, "normalize_rewards": False, "value_clip": 0.2, "activation": "relu"}
VARIANTS = {
    "frequency": SMALL,
    "score-bonus": SMALL.replace(router="score", entropy_bonus=0.1),
    "exact-bare": SMALL.replace(router="exact", **BARE),
    "policy_gradient-target_entropy": SMALL.replace(target_entropy=1.0, router="policy_gradient"),
}
QUICK = {"frequency"}
KEY = jax.random.key(1)

init = jax.jit(lambda agent, key: agent.init(key, SPEC))
update = jax.jit(lambda agent, state, batch, key: agent.update(state, batch, key))
policy_of = jax.jit(lambda parameters, observation: SMALL.policy(parameters, observation))
gradients = jax.jit(
    lambda agent, parameters, samples, key: jax.value_and_grad(agent.loss, has_aux=True)(parameters, samples, None, key)
)


def window_of(seed=0, **overrides):
    generator, shape = np.random.default_rng(seed), (TIME, ENVS)
    terminated, truncated = np.zeros((2, *shape))
    terminated[2, 0] = truncated[4, 1] = 1.0
    fields = {
        "observation": generator.normal(size=(*shape, 3)),
        "action": generator.uniform(-1, 1, (*shape, 2)),
        "reward": generator.normal(size=shape),
        "next_observation": generator.normal(size=(*shape, 3)),
        "terminated": terminated,
        "truncated": truncated,
        "steps": np.ones(shape),
    }
    return Transition(**jax.tree.map(jnp.float32, fields | overrides))


def samples_of(count=32, seed=5):
    generator = np.random.default_rng(seed)
    fields = {
        "observation": generator.normal(size=(count, 3)),
        "action": generator.normal(size=(count, 2)),
        "log_prob": generator.normal(-2.5, 0.3, count),
        "value": generator.normal(size=count),
        "advantage": generator.normal(size=count),
    }
    return Samples(**jax.tree.map(jnp.float32, fields))


@pytest.fixture(scope="module")
def parameters():
    """Experts that differ in mean and width, and a router that is not even."""
    found = init(SMALL, jax.random.key(0)).parameters
    layers = found["policy"]["params"]
    layers["router"]["bias"] = jnp.array([0.0, 0.5, -0.5])
    layers["log_std"] = jnp.array([[0.0, -0.3], [0.2, -0.6], [-0.4, 0.1]])
    return found


def exact_log_prob(policy, action):
    """Log-density under the whole mixture, in float64."""
    mean, deviation = np.float64(policy.mean), np.exp(np.float64(policy.log_std))
    weights = scipy.special.softmax(np.float64(policy.logits), axis=-1)
    own = scipy.stats.norm.logpdf(np.float64(action)[:, None], mean, deviation).sum(-1)
    return scipy.special.logsumexp(own, b=weights, axis=-1)


# One expert is PPO


@pytest.mark.slow
def test_one_expert_is_ppo_to_the_bit():
    """Same names of parameters, same states leaf by leaf over updates, same actions."""
    settings = {**SIZES, "entropy_bonus": 0.01}
    batch = window_of()

    @jax.jit
    def run(agent, key):
        first = agent.init(key, SPEC)
        step = lambda i, s: agent.update(s, batch, jax.random.fold_in(key, i))[0]  # noqa: E731
        last = jax.lax.fori_loop(0, 5, step, first)
        return first, last, agent.act(last, batch.observation, key), agent.mode(last, batch.observation)

    alone, mixed = (run(agent, KEY) for agent in (PPO(**settings), PMOEPPO(**settings, num_experts=1)))
    assert jax.tree.structure(alone) == jax.tree.structure(mixed)
    assert same(alone, mixed) and not same(mixed[0], mixed[1])


@pytest.mark.slow
def test_with_one_expert_every_router_is_the_very_program_of_ppo():
    state = jax.eval_shape(lambda: PPO(**SIZES).init(KEY, SPEC))

    def program(agent):
        return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(agent.update)(state, window_of(), KEY)))

    expected = program(PPO(**SIZES))
    for router in ROUTERS:
        assert program(PMOEPPO(**SIZES, num_experts=1, router=router, expert_spread=1.0)) == expected, router


@pytest.mark.slow
def test_one_expert_is_also_a_mixture_of_one():
    agent, observation = SMALL.replace(num_experts=1), jnp.ones((4, 3))

    @jax.jit
    def run(key):
        state = agent.init(key, SPEC)
        mixture, only = agent.experts(state, observation), agent.distribution(state, observation)
        return mixture, only, mixture.log_prob(only.mean), only.log_prob(only.mean)

    mixture, only, whole, alone = run(KEY)
    assert isinstance(only, Gaussian) and mixture.mean.shape == (4, 1, 2)
    assert_close(whole, alone)


# The losses


@pytest.mark.slow
def test_ratios_are_those_of_the_whole_mixture(parameters):
    """Against scipy in float64: the surrogate, and the log-probabilities that the window keeps."""
    samples = samples_of()
    policy = policy_of(parameters, samples.observation)
    exact = exact_log_prob(policy, samples.action)
    ratio = np.exp(exact - np.float64(samples.log_prob))
    advantage = np.float64(samples.advantage)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    surrogate = np.maximum(-advantage * ratio, -advantage * np.clip(ratio, 0.8, 1.2)).mean()
    (_, (_, metrics)), _ = gradients(SMALL, parameters, samples, KEY)
    assert_close(metrics["actor/loss"], surrogate, scale=1.0)  # a mean of advantages, which are about 1

    agent = SMALL.replace(normalize_observations=False)
    state = dataclasses.replace(init(agent, KEY), parameters=parameters)
    batch = window_of()
    kept = jax.jit(lambda state: agent.evaluate(state, batch)[1])(state)
    policy = policy_of(parameters, batch.observation.reshape(-1, 3))
    assert_close(kept.log_prob.ravel(), exact_log_prob(policy, batch.action.reshape(-1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "router", [ROUTERS[0], *(pytest.param(each, marks=pytest.mark.matrix) for each in ROUTERS[1:3])]
)
def test_losses_by_hand(parameters, router):
    """The router's loss from the values of one sample of each expert, and the mean squared error of the action values."""
    agent, samples = SMALL.replace(router=router, router_weight=3.0, q_weight=0.7), samples_of()
    sample_key, choice_key = jax.random.split(KEY)

    @jax.jit
    def run(parameters):
        policy = agent.policy(parameters, samples.observation)
        actions, choice = policy.experts.sample(sample_key), policy.router.sample(choice_key)
        q = jnp.stack([agent.q(parameters, samples.observation, actions[:, k]) for k in range(K)], axis=-1)
        taken = agent.q(parameters, samples.observation, samples.action)
        return agent.extra_loss(parameters, samples, policy, KEY), policy.logits, choice, q, taken

    (extra, metrics), logits, choice, q, taken = run(parameters)
    weights, q = scipy.special.softmax(np.float64(logits), axis=-1), np.float64(q)
    best, rows = q.argmax(axis=-1), np.arange(len(q))
    if router == "frequency":
        expected = np.mean((np.eye(K)[best] - weights) ** 2)
        assert 0 <= expected <= 2 / K
    elif router == "exact":
        expected = -np.mean(np.sum(weights * q, axis=-1))
    else:
        regret = np.sum(weights * q, axis=-1) - q[rows, choice]
        expected = np.mean(np.log(weights[rows, choice]) * regret)
    q_loss = np.mean((taken - samples.advantage - samples.value) ** 2)
    # Values of either sign, weighted and summed.
    assert_close(metrics["router/loss"], expected, scale=float(np.abs(q).max()))
    np.testing.assert_allclose(metrics["critic/q_loss"], q_loss, rtol=1e-5)
    assert_close(extra, 3.0 * expected + 0.7 * q_loss)
    np.testing.assert_allclose([metrics[f"router/best_{k}"] for k in range(K)], np.bincount(best, minlength=K) / 32)


@pytest.mark.slow
def test_policy_gradient_adds_nothing_and_learns_no_action_values(parameters):
    agent = SMALL.replace(router="policy_gradient")
    samples = samples_of()
    assert set(jax.eval_shape(lambda: agent.init(KEY, SPEC)).parameters) == {"policy", "value"}
    extra, metrics = agent.extra_loss(parameters, samples, policy_of(parameters, samples.observation), KEY)
    assert extra == 0.0 and "router/usage_0" in metrics and "router/loss" not in metrics


# What trains what


@pytest.mark.slow
@pytest.mark.parametrize("router", ROUTERS[:3])
def test_the_routers_own_loss_moves_the_routers_head_alone(parameters, router):
    """To the bit: no trunk, no expert, no action value."""
    agent, observation = SMALL.replace(router=router), samples_of().observation
    slope = jax.jit(jax.grad(lambda given: agent._router_loss(given, observation, KEY)[0]))(parameters)
    head = slope["policy"]["params"].pop("router")
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(head))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
def test_the_surrogate_moves_router_experts_and_trunk_and_no_action_value(parameters):
    _, slope = gradients(SMALL.replace(router_weight=1e-30, q_weight=1e-30), parameters, samples_of(), KEY)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(slope["policy"]))
    assert all(np.abs(leaf).max() < 1e-20 for leaf in jax.tree.leaves(slope["q"]))
    blind = jax.tree.map(jnp.array, parameters)
    blind["policy"]["params"]["head"]["kernel"] *= 0.0  # now only the router passes a gradient to the trunk
    _, slope = gradients(SMALL.replace(router="policy_gradient"), blind, samples_of(), KEY)
    assert np.abs(slope["policy"]["params"]["MLP_0"]["Dense_0"]["kernel"]).max() > 1e-7


def test_the_loss_of_action_values_moves_them_alone(parameters):
    samples = samples_of()
    slope = jax.jit(jax.grad(lambda at: jnp.mean(SMALL.q(at, samples.observation, samples.action))))(parameters)
    assert all(np.all(leaf == 0) for name in ("policy", "value") for leaf in jax.tree.leaves(slope[name]))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope["q"]))


def test_the_entropy_bonus_moves_the_router(parameters):
    """A drawn expert's density would pass the router a gradient of mean 0."""
    observation = samples_of().observation
    entropy = lambda given, key: jnp.mean(SMALL.policy(given, observation).entropy(key))  # noqa: E731
    slope = jax.jit(jax.grad(entropy))(parameters, KEY)["policy"]["params"]
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
def test_permuting_experts_permutes_everything_and_leaves_losses(parameters, monkeypatch):
    order = np.array([2, 0, 1])

    def permuted(policy):
        layers = policy["params"]
        head = {
            name: leaf.reshape(*leaf.shape[:-1], K, 2)[..., order, :].reshape(leaf.shape)
            for name, leaf in layers["head"].items()
        }
        router = {name: leaf[..., order] for name, leaf in layers["router"].items()}
        return {"params": layers | {"head": head, "router": router, "log_std": layers["log_std"][order]}}

    agent = SMALL.replace(entropy_bonus=0.1)

    @jax.jit
    def losses_and_slopes(parameters, noise):
        monkeypatch.setattr(Gaussian, "_noise", lambda self, key: noise)
        return jax.value_and_grad(agent.loss, has_aux=True)(parameters, samples_of(), None, KEY)

    noise = jax.random.normal(KEY, (32, K, 2))
    (loss, (_, metrics)), slope = losses_and_slopes(parameters, noise)
    moved = parameters | {"policy": permuted(parameters["policy"])}
    (moved_loss, (_, moved_metrics)), moved_slope = losses_and_slopes(moved, noise[:, order])
    assert_close(moved_loss, loss)
    for name in ("usage", "best"):
        values, moved_values = ([m[f"router/{name}_{k}"] for k in range(K)] for m in (metrics, moved_metrics))
        assert_close(np.array(moved_values), np.array(values)[order])
    slope["policy"] = permuted(slope["policy"])
    assert_close(moved_slope, slope)


# The agent as a whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [pytest.param(agent, marks=[pytest.mark.matrix] * (name not in QUICK)) for name, agent in VARIANTS.items()],
    ids=VARIANTS,
)
def test_update_keeps_structure_and_types_and_stays_finite(agent):
    check_agent(agent, SPEC, "test")
    state = init(agent, jax.random.key(0))
    after, metrics = update(agent, state, window_of(), KEY)
    assert_alike(state, after)
    assert all(np.isfinite(value) and np.shape(value) == () for value in metrics.values())
    for name in state.parameters:
        assert not same(state.parameters[name], after.parameters[name])
    assert not same(*(s.parameters["policy"]["params"]["router"] for s in (state, after)))
    np.testing.assert_allclose(sum(metrics[f"router/usage_{k}"] for k in range(K)), 1.0, rtol=1e-5)
    assert 0 <= metrics["router/entropy"] <= np.log(K) * (1 + rounding(20)) and metrics["router/collapsed"] == 0
    assert ("critic/q_loss" in metrics) == (agent.router != "policy_gradient")


@pytest.mark.parametrize("router", ["frequency", pytest.param("exact", marks=pytest.mark.matrix)])
def test_far_experts_and_extreme_routers_keep_updates_finite(router):
    agent = SMALL.replace(router=router)
    state = init(agent, KEY)
    layers = state.parameters["policy"]["params"]
    layers["head"]["bias"] = jnp.linspace(-300.0, 300.0, 2 * K)
    layers["router"]["bias"] = jnp.array([80.0, 0.0, -80.0])
    after, metrics = update(agent, state, window_of(), KEY)
    assert_alike(state, after)
    assert metrics["router/collapsed"] == 1 and all(np.isfinite(value) for value in metrics.values())


def test_numeric_hyper_parameters_are_leaves():
    assert len(jax.tree.leaves(PMOEPPO())) == len(jax.tree.leaves(PPO())) + 3


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["terminated", "truncated"])
def test_action_values_are_fitted_to_ppos_own_returns(ends):
    """Every step pays 1 and ends the episode, with discount 0.5: 1 by termination, 2 by truncation, of action and state."""
    agent = SMALL.replace(
        learning_rate=1e-2, discount=0.5, minibatches=1, epochs=4, normalize_rewards=False, normalize_observations=False
    )
    shape, seen = (TIME, ENVS), jnp.zeros((TIME, ENVS, 3))
    flags = {name: jnp.full(shape, float(name == ends)) for name in ("terminated", "truncated")}
    batch = window_of(reward=jnp.ones(shape), observation=seen, next_observation=seen, **flags)

    @jax.jit
    def many(state):
        return jax.lax.fori_loop(0, 150, lambda i, s: agent.update(s, batch, jax.random.key(i))[0], state)

    after = many(init(agent, KEY)).parameters
    expected = 1.0 if ends == "terminated" else 2.0
    np.testing.assert_allclose(agent.value(after, seen), expected, atol=0.05)
    np.testing.assert_allclose(jnp.mean(agent.q(after, seen, batch.action)), expected, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_experts_begin_where_they_are_told(spread):
    agent = SMALL.replace(expert_spread=jnp.float32(spread), num_experts=4)
    mixture = jax.jit(lambda agent: agent.experts(agent.init(KEY, SPEC), jnp.zeros(3)))(agent)
    np.testing.assert_allclose(np.linalg.norm(mixture.mean, axis=-1), spread, atol=1e-6)
    np.testing.assert_array_equal(mixture.log_std, 0.0)
    np.testing.assert_allclose(mixture.mean[0], -mixture.mean[2], atol=1e-6)


@pytest.mark.slow
def test_the_mode_is_the_heaviest_experts_mean_and_acting_needs_the_policy_alone():
    state, observation = init(SMALL, KEY), window_of().observation
    part = acting_state(SMALL, state)
    assert set(part.parameters) == {"policy"}

    @jax.jit
    def run(state):
        mixture = SMALL.experts(state, observation)
        acted, chosen = SMALL.act(state, observation, KEY), SMALL.mode(state, observation)
        return mixture, acted, mixture.sample_with_expert(KEY)[0], chosen

    mixture, acted, drawn, chosen = run(part)
    assert_close(acted, drawn)
    heaviest = np.argmax(mixture.logits, axis=-1)[..., None, None]
    assert_close(chosen, np.take_along_axis(np.asarray(mixture.mean), heaviest, axis=-2)[..., 0, :])


def test_router_metrics_are_means_over_any_leading_axes():
    generator = np.random.default_rng(0)
    logits, mean = generator.normal(size=(TIME, ENVS, K)), generator.normal(size=(TIME, ENVS, K, 2))
    mixture = GaussianMixture(*map(jnp.float32, (logits, mean, 0 * mean)))
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixture)
    metrics = jax.jit(router_metrics)
    one, two = metrics(mixture), metrics(TanhGaussianMixture(flat.logits, flat.mean, flat.log_std))
    assert_close(two, one)
    weights, (a, b) = scipy.special.softmax(logits, axis=-1), np.triu_indices(K, 1)
    np.testing.assert_allclose([one[f"router/usage_{k}"] for k in range(K)], weights.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(one["router/entropy"], scipy.stats.entropy(weights, axis=-1).mean(), rtol=1e-5)
    apart = np.linalg.norm(mean[..., a, :] - mean[..., b, :], axis=-1).mean()
    np.testing.assert_allclose(one["router/mean_distance"], apart, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_experts": 0}, "--num-experts must be at least 1"),
        ({"router_weight": 0.0}, "--router-weight must be greater than 0"),
        ({"q_weight": -1.0}, "--q-weight must be greater than 0"),
        ({"expert_spread": -1.0}, "--expert-spread must be at least 0"),
        ({"action_distribution": "tanh_gaussian"}, "Gaussians without tanh"),
        ({"state_dependent_std": True}, "widths do not depend on the observation"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(PMOEPPO(**settings), SPEC, "test")
    assert words in str(caught.value)


def test_discrete_actions_and_unknown_routers_are_refused():
    with pytest.raises(IncompatibleEnvironmentError, match=r"continuous actions .* CartPole has 3 discrete ones"):
        check_agent(SMALL, Spec((3,), (), 100, num_actions=3, num_envs=ENVS), "CartPole")
    with pytest.raises(UnknownNameError, match="Did you mean 'frequency'"):
        check_agent(PMOEPPO(router="frequencies"), SPEC, "test")
