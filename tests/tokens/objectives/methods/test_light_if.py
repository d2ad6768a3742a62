"""Light-IF: which tokens a warm start learns, and where entropy is rewarded; worked numbers and limits."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from token_batches import loss_of, responses, slope_of

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import TEA
from maxent_rl.tokens.objectives.methods.light_if import hardest_tokens, length_reward
from maxent_rl.tokens.objectives.surrogates import Surrogate

CE, ENT = np.array([2.5, 0.1, 1.0, 0.4, 3.0]), np.array([2.0, 0.2, 1.5, 0.9, 0.5])
ALL = np.ones(5, bool)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "chosen", "loss"),
    [(0.8, [0, 1, 2, 4], 1.65), (0.4, [0, 4], 2.75), (1.0, [*range(5)], 1.4), (0.01, [4], 3.0)],
)
def test_the_hardest_tokens_of_the_worked_example(share, chosen, loss):
    found = np.asarray(hardest_tokens(CE, ENT, ALL, share, 0.8))
    assert np.flatnonzero(found).tolist() == chosen and CE[found].mean() == pytest.approx(loss)
    np.testing.assert_array_equal(hardest_tokens(CE + 7, ENT, ALL, share, 0.8), found)
    several = np.asarray(
        hardest_tokens(np.append(CE, np.nan), np.append(ENT, np.nan), np.append(ALL, False), share, 0.8)
    )
    assert several.tolist() == [*found.tolist(), False]


@pytest.mark.slow
def test_numbers_of_tokens_are_the_codes():
    """Of a hundred tokens 0.29 is 28, as in double precision; of none there is none."""
    loss = np.random.default_rng(0).normal(size=100)
    for share, count in ((0.29, 28), (0.3, 30), (0.7, 70), (1.0, 100)):
        assert hardest_tokens(loss, np.zeros(100), np.ones(100), share).sum() == count
    assert hardest_tokens(loss, np.zeros(100), np.zeros(100), 0.5).sum() == 0
    entropy = np.where(np.arange(4) < 2, math.log(8), 1e-3)  # two uniform tokens, two that are known
    assert hardest_tokens(entropy, entropy, np.ones(4), 0.5, 1.5).tolist() == [False, False, True, True]
    assert hardest_tokens(entropy, entropy, np.ones(4), 0.5, 0.5).tolist() == [True, True, False, False]


def example():
    """Check 7 of the sheet: three tokens and two."""
    mask = jnp.array([[1, 1, 1], [1, 1, 0]], bool)
    logp = jnp.array([[-0.1, -2.0, -0.5], [-1.0, -0.2, jnp.nan]])
    advantages = jnp.array([[1.0, 1, 1], [-1, -1, jnp.nan]])
    entropy = jnp.array([[0.3, 1.5, 0.8], [1.0, 0.4, jnp.nan]])
    return TokenOutputs(logp, entropy), TokenBatch(logp, mask, jnp.zeros(2), advantages=advantages)


@struct.dataclass
class NoSurrogate(Surrogate):
    """No loss beside what is tested."""


def alone(**settings):
    return objectives.chain(NoSurrogate(), TEA(**settings), objectives.Aggregate())


@pytest.mark.parametrize(
    ("settings", "term"),
    [
        ({}, 2.456260),
        ({"tea_scope": "batch", "tea_normalize": True}, 0.697763),
        ({"tea_scale": 0.0}, 0.0),
        ({"tea_weight": 0.05}, 0.05 * 2.456260),
    ],
)
def test_the_bonus_of_the_worked_example(settings, term):
    assert loss_of(alone(**settings), *example()) == pytest.approx(-term, abs=1e-5)


@pytest.mark.slow
def test_the_weights_of_the_worked_example():
    outputs, batch = example()

    @jax.jit
    def weights(objective):
        return -5 * jax.grad(lambda out: objective((), out, batch)[0])(outputs).entropy

    np.testing.assert_allclose(weights(alone()), [[5, 1.124563, 3.733681], [5, 2.768782, 0]], atol=1e-5)
    np.testing.assert_allclose(np.sum(weights(alone(tea_cap=1e9)), axis=1), [10, 10], rtol=1e-5)
    shares = weights(alone(tea_scope="batch", tea_normalize=True)) / 5
    np.testing.assert_allclose(shares[:, :2], [[0.329741, 0.072118], [0.259383, 0.099316]], atol=1e-5)
    flat = dataclasses.replace(batch, advantages=jnp.where(batch.mask, 3.0, 0.0))
    even = -5 * jax.jit(jax.grad(lambda out: alone()((), out, flat)[0]))(outputs).entropy
    np.testing.assert_allclose(even, [[10 / 3] * 3, [5, 5, 0]], rtol=1e-5)


@pytest.mark.slow
def test_gradients_flow_through_the_weights_where_they_are_not_held():
    """Against finite differences in the log-probabilities, whose mean is held in either case."""
    outputs, batch = responses(advantages=np.linspace(-1, 1, 8))
    held, moving = alone(), alone(tea_detach=False)
    assert np.all(slope_of(held, outputs, batch) == 0)
    assert loss_of(held, outputs, batch) == pytest.approx(float(loss_of(moving, outputs, batch)), rel=1e-6)
    mask = np.asarray(batch.mask)
    logp, entropy = (np.asarray(each, float) for each in (outputs.logp, outputs.entropy))
    advantages = np.linspace(-1, 1, 8)[:, None] * np.ones(mask.shape)
    mean, mean_logp = advantages[mask].mean(), logp[mask].mean()

    def loss(values):
        covariance = np.where(mask, (advantages - mean) * (values - mean_logp), -np.inf)
        share = np.exp(covariance) / np.exp(covariance).sum(axis=1, keepdims=True)
        return -(np.minimum(10 * share, 5.0) * entropy)[mask].sum() / mask.sum()

    numeric = np.zeros(mask.shape)
    for place in zip(*np.nonzero(mask), strict=True):
        step = np.zeros(mask.shape)
        step[place] = 1e-6
        numeric[place] = (loss(logp + step) - loss(logp - step)) / 2e-6
    np.testing.assert_allclose(slope_of(moving, outputs, batch), numeric, atol=1e-5)
    with pytest.raises(InvalidSettingError, match="--tea-scope batch holds its weights constant"):
        TEA(tea_scope="batch", tea_detach=False)


@pytest.mark.slow
def test_without_its_scale_it_is_the_recipe_without_the_bonus():
    outputs, batch = responses()
    settings = {"clip_low": 1.0, "clip_high": 1.0, "dual_clip": 10.0, "kl_weight": 0.001}
    found = loss_of(objectives.make("light_if", tea_scale=0.0), outputs, batch)
    assert found == pytest.approx(float(loss_of(objectives.make("grpo", **settings), outputs, batch)), rel=1e-6)


def test_rewards_of_length():
    lengths, scores = np.array([0, 2048, 4096, 4096, 8192, 9000]), np.array([1.5, 1.5, 1.5, 0.1, 1.5, 0.0])
    np.testing.assert_allclose(length_reward(lengths, scores), [0, 0.439340, 1.5, -0.5, -2, -2], atol=1e-5)
