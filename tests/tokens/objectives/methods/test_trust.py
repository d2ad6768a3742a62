"""DPPO, DRO, VESPO and LUSPO against their formulas in NumPy and double precision, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives.methods.dppo import binary_divergence
from maxent_rl.tokens.objectives.methods.vespo import gamma_weight


def batch_of(seed):
    """(new, old, mask, advantages): holes, one-token rows, and in one batch tokens that have moved by several nats."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(6, 5)) < 0.7
    mask[:, 2] |= ~mask.any(axis=-1)
    old = -draw.gamma(1.0, size=(6, 5)) - 1e-3
    new = np.minimum(old + (3.0 if seed == 3 else 0.4) * draw.normal(size=(6, 5)), -1e-3)
    return new, old, mask, draw.normal(size=(6, 1)) * np.ones((6, 5))


def slopes_of_log_probability(weights):
    """The gradient of `-sum of weight * A * logp`, with the weights held constant."""

    def of(new, old, mask, advantages):
        weight = weights(new, old, mask, advantages)
        return (-weight * advantages * new)[mask], np.where(mask, -weight * advantages, 0.0)

    return of


def total_variation(new, old, mask, advantages):
    far = np.where(advantages > 0, np.exp(new) - np.exp(old) > 0.2, np.exp(old) - np.exp(new) > 0.2)
    return np.minimum(np.exp(new - old), 20.0) * ~far


def kullback_leibler(new, old, mask, advantages):
    p, q = np.exp(old), np.exp(new)
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    far = np.where(advantages > 0, (divergence > 0.2) & (q > p), (divergence > 0.2) & (q < p))
    return np.minimum(np.exp(new - old), 20.0) * ~far


def gamma(new, old, mask, advantages):
    total = np.where(mask, new - old, 0.0).sum(axis=-1, keepdims=True)
    weight = np.exp(total)
    positive, negative = weight**2 * np.exp(3 * (1 - weight)), weight**3 * np.exp(2 * (1 - weight))
    return np.where(advantages > 0, positive, negative) * np.ones_like(new)


def quadratic(new, old, mask, advantages):
    loss = -(advantages * new - 0.05 * (new - old) ** 2)
    return loss[mask], np.where(mask, -advantages + 0.1 * (new - old), 0.0)


FORMULAS = {
    "dppo_tv": slopes_of_log_probability(total_variation),
    "dppo_kl": slopes_of_log_probability(kullback_leibler),
    "vespo": slopes_of_log_probability(gamma),
    "dro": quadratic,
}


def given_advantages(new, old, mask, advantages):
    """(batch, log-probabilities) in single precision."""
    batch = TokenBatch(
        jnp.asarray(old, jnp.float32), jnp.asarray(mask), jnp.zeros(6), advantages=jnp.asarray(advantages, jnp.float32)
    )
    return batch, jnp.asarray(new, jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_gradient(name, seed):
    numbers = batch_of(seed)
    batch, logp = given_advantages(*numbers)
    objective = objectives.make(name)
    value, slope = jax.value_and_grad(lambda logp: objective((), TokenOutputs(logp), batch)[0])(logp)
    loss, expected = FORMULAS[name](*numbers)
    np.testing.assert_allclose(value, loss.mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slope, expected / numbers[2].sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whole_responses_by_their_lengths(seed):
    """luspo: the mean over responses of length times the clipped ratio of the whole, by finite differences."""
    new, old, mask, advantages = batch_of(seed)
    batch, logp = given_advantages(new, old, mask, advantages)
    settings = {"clip_low": 0.1, "clip_high": 0.15}
    objective = objectives.make("luspo", **settings)

    def formula(new):
        lengths = mask.sum(axis=-1)
        ratio = np.exp(np.where(mask, new - old, 0.0).sum(axis=-1) / lengths)
        each = np.maximum(-advantages[:, 0] * ratio, -advantages[:, 0] * np.clip(ratio, 0.9, 1.15))
        return (lengths * each).mean()

    value, slope = jax.value_and_grad(lambda logp: objective((), TokenOutputs(logp), batch)[0])(logp)
    np.testing.assert_allclose(value, formula(new), rtol=1e-4)
    for place in np.argwhere(mask):
        moved = np.zeros_like(new)
        moved[tuple(place)] = 1e-6
        expected = (formula(new + moved) - formula(new - moved)) / 2e-6
        np.testing.assert_allclose(slope[tuple(place)], expected, rtol=1e-3, atol=1e-5)


def test_binary_divergence():
    """0.5 to 0.25 against all others: 0.5 log 2 + 0.5 log(2 / 3); nothing where nothing moved, of certain ones either."""
    old, new = jnp.log(jnp.array([0.5, 0.3, 1.0])), jnp.log(jnp.array([0.25, 0.3, 1.0]))
    np.testing.assert_allclose(binary_divergence(old, new), [0.143841, 0.0, 0.0], atol=1e-6)


def test_gamma_weights():
    """1 where nothing moved, largest at a ratio of power over decay, 0 far away on either side and never infinite."""
    log_ratio = jnp.array([0.0, jnp.log(2 / 3), jnp.log(0.9 * 2 / 3), jnp.log(1.1 * 2 / 3), 30.0, -300.0])
    at_one, top, below, above, far_up, far_down = np.asarray(gamma_weight(log_ratio, 2.0, 3.0))
    np.testing.assert_allclose([at_one, top], [1.0, (2 / 3) ** 2 * np.e], rtol=1e-5)
    assert max(below, above) < top and far_up == 0 and 0 <= far_down < 1e-15
