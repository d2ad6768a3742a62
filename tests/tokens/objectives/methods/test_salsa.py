"""SALSA: divergences from a soup against those from its models, what is best by either, and rewards of tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses
from maxent_rl.networks.soups import soup
from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import TokenBatch, cleaned
from maxent_rl.tokens.objectives.advantages import less_divergence, token_rewards

FIRST, SECOND = jnp.array([1.0, 0.0, -1.0]), jnp.array([0.0, 1.0, -1.0])
POLICY = np.array([0.6, 0.3, 0.1])
SOUP = soup([FIRST, SECOND])


@jax.jit
def from_references(logits):
    """KL(policy || softmax) of the two models and of the soup, and gradients in the policy's logits."""

    def divergences(logits):
        own = jax.nn.log_softmax(logits)
        return jnp.stack([losses.reverse_kl(own, jax.nn.log_softmax(each)) for each in (FIRST, SECOND, SOUP)])

    return divergences(logits), jax.jacobian(divergences)(logits)


def test_of_tabular_logits_a_soup_and_both_models_pull_alike():
    found, slopes = from_references(jnp.log(POLICY))
    np.testing.assert_allclose(found, [0.009660, 0.309660, 0.050970], atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(SOUP), [0.449816, 0.449816, 0.100368], atol=1e-6)
    mean = (found[0] + found[1]) / 2
    normalisers = [float(jax.nn.logsumexp(each)) for each in (FIRST, SECOND, SOUP)]
    assert mean - found[2] == pytest.approx(sum(normalisers[:2]) / 2 - normalisers[2], abs=1e-6)
    assert mean - found[2] == pytest.approx(0.108690, abs=1e-6)
    np.testing.assert_allclose((slopes[0] + slopes[1]) / 2, slopes[2], atol=1e-6)


@pytest.mark.parametrize(
    ("reference", "policy", "reward", "divergence", "value"),
    [
        (FIRST, [0.866813, 0.117310, 0.015876], 0.925469, 0.115611, 0.867663),
        (SOUP, [0.715268, 0.263132, 0.021599], 0.846835, 0.157488, 0.768091),
    ],
)
def test_the_best_policy_by_either_reference(reference, policy, reward, divergence, value):
    rewards, weight = np.array([1.0, 0.5, 0.0]), 0.5
    held = np.exp(np.asarray(jax.nn.log_softmax(reference), float))
    best = held * np.exp(rewards / weight)
    found = weight * math.log(best.sum())
    best /= best.sum()
    np.testing.assert_allclose(best, policy, atol=1e-6)
    apart = losses.reverse_kl(jnp.log(jnp.asarray(best)), jnp.log(jnp.asarray(held)))
    assert [rewards @ best, apart, found] == pytest.approx([reward, divergence, value], abs=1e-6)


def test_rewards_of_tokens():
    logp, reference = np.array([[-0.5, -1.0, -0.2, 7.0]]), np.array([[-0.7, -0.8, -0.2, np.nan]])
    mask = np.array([[1, 1, 1, 0]])
    batch = cleaned(TokenBatch(logp_old=logp, mask=mask, rewards=jnp.array([2.0]), logp_ref=reference))
    found = token_rewards(less_divergence(batch, 0.05, "k1"))
    np.testing.assert_allclose(found, [[-0.01, 0.01, 2.0, 0.0]], atol=1e-6)


def test_it_is_ppo_with_the_divergence_in_its_rewards():
    assert objectives.make("salsa").stages == objectives.make("ppo", kl_reward_weight=0.01).stages
