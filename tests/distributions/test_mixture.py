"""Mixtures against the sheet's numbers, scipy and quadrature; one expert is the plain distribution."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from batches import compiled
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.distributions import GaussianMixture, TanhGaussian, TanhGaussianMixture

WEIGHTS, MEANS, DEVIATIONS = np.array([0.3, 0.7]), np.array([-1.0, 2.0]), np.array([0.5, 1.0])
KINDS = [GaussianMixture, TanhGaussianMixture]


def mixture(kind, weights=WEIGHTS, means=MEANS, deviations=DEVIATIONS):
    """Of one dimension."""
    log_weights, means, deviations = np.log(weights), np.asarray(means), np.asarray(deviations)
    return kind(jnp.float32(log_weights), jnp.float32(means)[:, None], jnp.float32(np.log(deviations))[:, None])


def log_prob_of(kind, logits, mean, log_std, value):
    policy = kind(logits, mean, log_std)
    return policy.log_prob_pre_tanh(value) if kind is TanhGaussianMixture else policy.log_prob(value)


SLOPES = {kind: jax.jit(jax.value_and_grad(partial(log_prob_of, kind), argnums=(0, 1, 2, 3))) for kind in KINDS}


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def random_mixture(kind, batch=(), experts=3, actions=2, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    shape = (*batch, experts, actions)
    log_std = 0.3 * jax.random.normal(keys[2], shape)
    return kind(jax.random.normal(keys[0], shape[:-1]), jax.random.normal(keys[1], shape), log_std)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_worked_example_b(wrap):
    policy, action = mixture(GaussianMixture), jnp.array([0.5])
    np.testing.assert_allclose(policy.experts.log_prob(action), [-4.725791, -2.043939], rtol=1e-5)
    np.testing.assert_allclose(wrap(policy.log_prob)(action), -2.371706, rtol=1e-5)
    assert_close(wrap(policy.responsibilities)(action), np.array([0.028494, 0.971506]))


@pytest.mark.parametrize("u", [-20.0, -3.0, 0.4, 2.0, 20.0])
@pytest.mark.parametrize("squashed", [False, True])
def test_matches_scipy(u, squashed):
    exact = scipy.special.logsumexp(scipy.stats.norm.logpdf(u, MEANS, DEVIATIONS), b=WEIGHTS)
    if squashed:
        exact += 2 * (np.logaddexp(u, -u) - np.log(2))
        found = mixture(TanhGaussianMixture).log_prob_pre_tanh(jnp.float32([u]))
    else:
        found = mixture(GaussianMixture).log_prob(jnp.float32([u]))
    np.testing.assert_allclose(found, exact, rtol=1e-5)


@pytest.mark.parametrize("squashed", [False, True])
def test_integrates_to_one(squashed):
    """In float64; the squashed density over the action in (-1, 1), substituted by u = arctanh(a)."""
    with jax.enable_x64(True):
        u = jnp.linspace(-12.0, 14.0, 20_001, dtype=jnp.float64)[:, None]
        leaves = [jnp.asarray(leaf) for leaf in (np.log(WEIGHTS), MEANS[:, None], np.log(DEVIATIONS)[:, None])]
        if squashed:
            log_density = TanhGaussianMixture(*leaves).log_prob_pre_tanh(u) + 2 * jnp.log(1 / jnp.cosh(u[:, 0]))
        else:
            log_density = GaussianMixture(*leaves).log_prob(u)
        integral = scipy.integrate.simpson(np.exp(log_density), x=np.asarray(u[:, 0]))
    assert abs(integral - 1) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@given(u=st.floats(-20, 20, width=32), log_weight=st.sampled_from([0.0, -1.0, float(np.log(1e-30))]))
def test_values_and_gradients_are_finite(kind, u, log_weight):
    arguments = (jnp.array([0.0, log_weight]), jnp.array([[-1.0], [2.0]]), jnp.array([[-2.0], [0.0]]))
    value, gradients = SLOPES[kind](*arguments, jnp.float32([u]))
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_edge_of_the_box_is_finite():
    policy = mixture(TanhGaussianMixture)
    for edge in (-1.0, 1.0):
        assert np.isfinite(policy.log_prob(jnp.array([edge])))
        np.testing.assert_allclose(policy.responsibilities(jnp.array([edge])).sum(), 1.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_bounds_of_components(kind):
    policy = random_mixture(kind, (50,))
    action = compiled(policy, "sample", jax.random.key(1))
    assert action.shape == (50, 2)
    np.testing.assert_allclose(np.sum(compiled(policy, "responsibilities", action), axis=-1), 1.0, rtol=1e-5)
    joint = jax.jit(lambda policy: policy.router.log_probs + policy.experts.log_prob(action[:, None, :]))(policy)
    assert np.all(np.asarray(compiled(policy, "log_prob", action))[:, None] >= joint - 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_permuting_the_experts_changes_nothing(kind):
    policy, order = jax.device_get(random_mixture(kind, (7,))), np.array([2, 0, 1])
    permuted = kind(policy.logits[:, order], policy.mean[:, order], policy.log_std[:, order])
    action = compiled(policy, "sample", jax.random.key(1))
    assert_close(compiled(permuted, "log_prob", action), compiled(policy, "log_prob", action))
    np.testing.assert_allclose(
        compiled(permuted, "responsibilities", action),
        np.asarray(compiled(policy, "responsibilities", action))[:, order],
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(compiled(permuted, "mode"), compiled(policy, "mode"), rtol=1e-6)


@pytest.mark.slow
def test_one_expert_is_the_tanh_gaussian():
    policy = jax.device_get(random_mixture(TanhGaussianMixture, (20,), 1))
    alone = TanhGaussian(policy.mean[:, 0], policy.log_std[:, 0])
    action = compiled(alone, "sample", jax.random.key(1))
    assert_close(compiled(policy, "log_prob", action), compiled(alone, "log_prob", action))
    assert_close(compiled(policy, "mode"), compiled(alone, "mode"))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_density(kind):
    """The share of samples below a threshold, and of each expert, against the exact ones: within four standard errors."""
    policy, count = mixture(kind), 40_000
    keys = jax.random.split(jax.random.key(0), count)
    draws = np.asarray(jax.jit(jax.vmap(policy.sample))(keys))[:, 0]
    for threshold in (-1.0, 0.3, 2.0):
        exact = float(np.sum(WEIGHTS * scipy.stats.norm.cdf(threshold, MEANS, DEVIATIONS)))
        edge = np.tanh(threshold) if kind is TanhGaussianMixture else threshold
        assert abs(np.mean(draws < edge) - exact) < 4 * np.sqrt(exact * (1 - exact) / count)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sample_and_log_prob_agree_with_their_parts(kind):
    policy, key = random_mixture(kind, (4,)), jax.random.key(3)
    action, log_prob = compiled(policy, "sample_and_log_prob", key)
    assert_close(action, compiled(policy, "sample", key))
    np.testing.assert_allclose(log_prob, compiled(policy, "log_prob", action), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_estimated_entropy_and_its_gradient_are_those_of_quadrature(kind):
    """A bonus on the entropy that moved the experts and left the router alone: a drawn expert passes it no gradient."""
    u = jnp.linspace(-7.0, 9.0, 4001)[:, None]

    def exact(policy):
        log_density = policy.pre_tanh.log_prob(u) if kind is TanhGaussianMixture else policy.log_prob(u)
        of_action = policy.log_prob_pre_tanh(u) if kind is TanhGaussianMixture else log_density
        return -jnp.sum(jnp.exp(log_density) * of_action) * (u[1, 0] - u[0, 0])

    policy, keys = mixture(kind, means=[-0.5, 1.0]), jax.random.split(jax.random.key(0), 20_000)
    value, slope = jax.jit(jax.value_and_grad(exact))(policy)
    estimate = jax.value_and_grad(lambda policy, key: policy.entropy(key))
    values, slopes = jax.jit(jax.vmap(estimate, in_axes=(None, 0)))(policy, keys)
    for found, wanted in zip(jax.tree.leaves((values, slopes)), jax.tree.leaves((value, slope)), strict=True):
        error = np.std(found, axis=0) / np.sqrt(len(keys))
        assert np.all(np.abs(np.mean(found, axis=0) - wanted) < 4 * error + 1e-3)
    assert np.abs(slope.logits).min() > 0.02  # the router is moved


@pytest.mark.parametrize("kind", KINDS)
def test_the_entropy_lies_between_its_bounds(kind):
    policy, keys = mixture(kind), jax.random.split(jax.random.key(0), 20_000)

    @jax.jit
    def found(policy):
        return jax.tree.map(jnp.mean, jax.vmap(lambda key: (policy.entropy(key), policy.entropy_bounds(key)))(keys))

    entropy, (lower, upper) = jax.device_get(found(policy))
    assert lower - 0.02 < entropy < upper + 0.02
    np.testing.assert_allclose(upper - lower, -np.sum(WEIGHTS * np.log(WEIGHTS)), rtol=1e-3)
    far = mixture(kind, means=[-8.0, 9.0], deviations=[0.2, 0.2])  # apart, nothing is lost: the upper bound is met
    entropy, (_, upper) = found(far)
    np.testing.assert_allclose(entropy, upper, atol=0.05)


@pytest.mark.slow
def test_mean_shift_climbs_to_the_true_mode():
    policy = mixture(GaussianMixture, weights=[0.55, 0.45], means=[0.0, 1.2], deviations=[0.9, 0.7])
    np.testing.assert_array_equal(policy.mode(), [0.0])
    heights = [float(policy.log_prob(policy.mode(steps))) for steps in range(6)]
    assert all(later >= earlier - 1e-5 for earlier, later in itertools.pairwise(heights))
    grid = np.linspace(-3, 4, 70_001)  # in float64: near its maximum the density is flat for float32
    highest = grid[np.argmax(scipy.stats.norm.pdf(grid[:, None], [0.0, 1.2], [0.9, 0.7]) @ [0.55, 0.45])]
    np.testing.assert_allclose(policy.mode(200), [highest], atol=2e-3)
    squashed = TanhGaussianMixture(policy.logits, policy.mean, policy.log_std)
    np.testing.assert_allclose(squashed.mode(200), np.tanh([highest]), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_vmap_equals_single(kind):
    policy = random_mixture(kind, (5,))
    keys = jax.random.split(jax.random.key(1), 5)
    many = jax.jit(jax.vmap(lambda policy, key: policy.sample_and_log_prob(key)))(policy, keys)
    many, policy = jax.device_get((many, policy))
    for index in range(5):
        single = compiled(
            jax.tree.map(lambda leaf, index=index: leaf[index], policy), "sample_and_log_prob", keys[index]
        )
        for a, b in zip(many, single, strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expert_is_its_own_mean_and_deviation(kind):
    """One number for each observation, also where there is one observation."""
    policy, index = jax.device_get(random_mixture(kind, (4,))), np.array([2, 0, 1, 2])
    chosen = compiled(policy, "expert", index)
    np.testing.assert_array_equal(chosen.mean, policy.mean[np.arange(4), index])
    np.testing.assert_array_equal(chosen.log_std, policy.log_std[np.arange(4), index])
    single = compiled(jax.tree.map(lambda leaf: leaf[3], policy), "expert", jnp.int32(2))
    np.testing.assert_array_equal(single.mean, policy.mean[3, 2])
    noise = np.ones((4, 1, 2), np.float32)
    own = jax.jit(lambda policy: policy.experts.from_noise(noise)[1])(policy)
    assert_close(compiled(chosen, "from_noise", noise[:, 0])[1], np.asarray(own)[np.arange(4), index])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sample_with_expert_names_who_drew_the_action_of_sample(kind):
    policy = jax.device_get(random_mixture(kind, (), 3, 2, 1))
    policy = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (40_000, *leaf.shape)), policy)
    key = jax.random.key(0)
    action, choice = compiled(policy, "sample_with_expert", key)
    assert_close(action, compiled(policy, "sample", key))
    assert choice.dtype == jnp.int32
    weights = np.exp(policy.router.log_probs[0])
    shares = np.bincount(choice, minlength=3) / len(choice)
    assert np.all(np.abs(shares - weights) < 4 * np.sqrt(weights * (1 - weights) / len(choice)))
    # The named expert's own samples: their mean before squashing is that expert's.
    drawn = np.arctanh(np.clip(action, -1 + 1e-7, 1 - 1e-7)) if kind is TanhGaussianMixture else np.asarray(action)
    for index in range(3):
        own = drawn[np.asarray(choice) == index]
        deviation = np.exp(policy.log_std[0, index]) / np.sqrt(len(own))
        assert np.all(np.abs(own.mean(0) - policy.mean[0, index]) < 4.5 * deviation)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_sample_reaches_the_expert_that_drew_it_and_no_router(kind):
    policy, key = random_mixture(kind), jax.random.key(3)
    sampled = jax.grad(lambda p: (p.sample(key).sum(), p.sample_with_expert(key)[1]), has_aux=True)
    slopes, choice = jax.jit(sampled)(policy)
    assert np.all(slopes.logits == 0)
    moved = np.any(np.asarray(slopes.mean) != 0, axis=-1)
    np.testing.assert_array_equal(moved, np.arange(3) == choice)
