"""Choices, one or several at once, against counting them."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.distributions import Categorical, MultiCategorical

SIZES = (2, 3, 4)


def several(seed: int, leading: tuple[int, ...] = ()) -> MultiCategorical:
    keys = jax.random.split(jax.random.key(seed), len(SIZES))
    return MultiCategorical(
        tuple(Categorical(jax.random.normal(key, (*leading, size))) for key, size in zip(keys, SIZES, strict=True))
    )


@pytest.mark.slow
def test_the_product_is_a_distribution_over_all_combinations() -> None:
    policy, other = several(0), several(1)
    every = jnp.array(list(itertools.product(*map(range, SIZES))))
    log_prob, others = (np.asarray(jax.vmap(each.log_prob)(every), np.float64) for each in (policy, other))
    probability = np.exp(log_prob)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(policy.entropy(), -(probability * log_prob).sum(), rtol=1e-5)
    np.testing.assert_allclose(policy.divergence(other), (probability * (log_prob - others)).sum(), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), every[np.argmax(probability)])


@pytest.mark.slow
def test_samples_come_as_often_as_they_are_likely_with_their_log_probabilities() -> None:
    policy = several(0, (20_000,))
    policy = jax.tree.map(lambda logits: jnp.broadcast_to(logits[:1], logits.shape), policy)
    action, log_prob = policy.sample_and_log_prob(jax.random.key(2))
    assert action.shape == (20_000, 3) and action.dtype == jnp.int32
    np.testing.assert_array_equal(log_prob, policy.log_prob(action))
    np.testing.assert_array_equal(action, policy.sample(jax.random.key(2)))
    for index, entry in enumerate(policy.entries):
        wanted = np.exp(entry.log_probs[0])
        found = np.bincount(action[:, index], minlength=SIZES[index]) / 20_000
        assert (np.abs(found - wanted) < 5 * np.sqrt(wanted / 20_000)).all()  # five deviations
    # Entries are drawn independently of each other.
    assert abs(np.corrcoef(action[:, 1], action[:, 2])[0, 1]) < 5 / np.sqrt(20_000)
