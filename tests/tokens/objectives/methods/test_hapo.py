"""HAPO: scores of entropy, what follows from them for clipping, credit and temperatures, and advantages pooled over tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import GROUP, responses
from token_cases import evaluate, prepare

from maxent_rl.errors import MissingInputError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import HAPO, TokenGroupAdvantage
from maxent_rl.tokens.objectives.methods.hapo import entropy_score

ENTROPY = np.array([[0.02, 0.1, 0.5, 1.0, 2.0, 3.0]], np.float32)
SCORE = [-1.0, -0.650515, -0.301030, -0.150515, 0.0, 1.0]
OBJECTIVE = objectives.make("hapo")
OUTPUTS, BATCH = responses()
score_of = jax.jit(entropy_score, static_argnums=3)


def test_the_score_of_the_example():
    score, scale = score_of(ENTROPY, np.ones((1, 6), bool), 0.8)
    np.testing.assert_allclose(score[0], SCORE, atol=1e-5)
    found = [scale.pivot, scale.spread, 1 / scale.above, -1 / scale.below]
    np.testing.assert_allclose(found, [0.693147, 2.336260, 0.173553, -1.971172], atol=1e-5)
    literal, _ = score_of(ENTROPY, np.ones((1, 6), bool), 0.8, True)
    np.testing.assert_allclose(literal[0], np.abs(SCORE), atol=1e-5)


@pytest.mark.slow
def test_what_follows_from_the_score():
    stage = HAPO()
    low, high = stage.widths(jnp.array(SCORE))
    np.testing.assert_allclose(low, [0.4, 0.330103, 0.260206, 0.230103, 0.2, 0.2], atol=1e-5)
    np.testing.assert_allclose(high, [0.2, 0.2, 0.2, 0.2, 0.2, 0.4], atol=1e-5)
    batch = dataclasses.replace(BATCH.rows(slice(0, GROUP)), rewards=jnp.ones(GROUP))
    few = TokenBatch(jnp.zeros((1, 6)), jnp.ones((1, 6), bool), jnp.zeros(1), entropy_old=jnp.asarray(ENTROPY))
    state, _ = stage.prepare(stage.init(jax.random.key(0)), few)
    temperature = stage.sampling(state).temperature
    expected = [0.95, 0.967474, 0.984949, 0.992474, 1.0, 1.05]
    np.testing.assert_allclose(temperature(jnp.asarray(ENTROPY[0])), expected, atol=1e-5)
    first = stage.sampling(stage.init(jax.random.key(0))).temperature
    np.testing.assert_array_equal(first(jnp.asarray(ENTROPY[0])), np.ones(6))
    assert batch.mask.shape[0] == GROUP


@pytest.mark.slow
def test_redistribution_of_the_example():
    """Advantages of tokens with given ratios, and the loss that follows."""
    ratio = np.array([[1.0, 0.7, 1.05, 1.3, 1.3, 1.15]], np.float32)
    batch = TokenBatch(
        -jnp.ones((1, 6)),
        jnp.ones((1, 6), bool),
        jnp.zeros(1),
        advantages=jnp.ones((1, 6)),
        entropy_old=jnp.ones((1, 6)),
    )
    outputs = TokenOutputs(jnp.log(jnp.asarray(ratio)) - 1.0, jnp.asarray(ENTROPY))
    loss, aux = evaluate(OBJECTIVE, OBJECTIVE.init(), outputs, batch)
    np.testing.assert_allclose(aux.advantages[0], [0, 1, 0.698970, 1, 1, 1], atol=1e-5)
    clipped = np.minimum(ratio[0], [1.2, 1.2, 1.2, 1.2, 1.2, 1.4])
    np.testing.assert_allclose(loss, -np.mean(np.array([0, 1, 0.698970, 1, 1, 1]) * clipped), atol=1e-5)


def pooled(rewards, lengths, size):
    batch = TokenBatch(
        jnp.zeros((len(rewards), 30)),
        jnp.arange(30) < jnp.array(lengths)[:, None],
        jnp.array(rewards, jnp.float32),
        size,
    )
    return np.asarray(TokenGroupAdvantage().prepare((), batch)[1].advantages)


@pytest.mark.slow
def test_advantages_are_pooled_over_tokens():
    np.testing.assert_allclose(pooled([1, 0], [4, 2], 2), [0.707105, -1.414211], atol=1e-5)
    found, lengths = pooled([3.0, -1, 0.5, 0.5], [5, 1, 9, 2], 4), np.array([5, 1, 9, 2])
    assert abs(np.sum(found * lengths)) < 1e-4
    share = 7 / 20  # of tokens in right answers
    expected = [np.sqrt((1 - share) / share), -np.sqrt(share / (1 - share))]
    np.testing.assert_allclose(pooled([1, 0, 0], [7, 10, 3], 3)[:2], expected, rtol=1e-4)


@pytest.mark.slow
def test_a_rare_right_answer_is_compared_response_by_response():
    """Fewer than one token in 26 is in a right answer."""
    found = pooled([1, 0, 0], [1, 25, 10], 3)
    plain = objectives.make("grpo").prepare(
        (), TokenBatch(jnp.zeros((3, 1)), jnp.ones((3, 1), bool), jnp.array([1.0, 0, 0]), 3)
    )[1]
    np.testing.assert_allclose(found, plain.advantages[:, 0], rtol=1e-6)
    assert pooled([1, 0, 0], [1, 14, 10], 3)[0] > 4


def test_equal_rewards_have_no_advantage():
    assert np.all(pooled([0.1, 0.1, 0.1], [3, 7, 11], 3) == 0)


@pytest.mark.slow
def test_without_strengths_it_is_dapo_by_tokens():
    """Of responses of one length, whose advantages are those of GRPO with the population's deviation."""
    settings = {"clip_strength": 0.0, "credit_strength": 0.0}
    objective = objectives.make("hapo", **settings)
    outputs, batch = responses(lengths=(5,) * 8)
    _, aux = evaluate(objective, objective.init(), outputs, batch)
    plain = objectives.make("dapo", clip_high=0.2, dual_clip=10.0)
    _, prepared = prepare(plain, (), batch)
    scaled = dataclasses.replace(batch, advantages=prepared.advantages * np.sqrt(GROUP / (GROUP - 1)))
    _, expected = evaluate(plain, (), outputs, scaled)
    np.testing.assert_allclose(aux.metrics["policy/loss"], expected.metrics["policy/loss"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_ratios_may_be_relative_to_what_was_drawn_from():
    objective = objectives.make("hapo", hapo_ratio="drawn")
    _, found = objective.prepare(objective.init(), BATCH)
    np.testing.assert_array_equal(found.logp_old, np.where(BATCH.mask, BATCH.logp_drawn, 0))
    with pytest.raises(MissingInputError, match=r"HAPO needs logp_drawn: pass TokenBatch\(logp_drawn=\[N, T\]\)"):
        objective.prepare(objective.init(), dataclasses.replace(BATCH, logp_drawn=None))


def test_equal_entropies_score_nothing():
    score, _ = score_of(np.full((2, 3), 0.7, np.float32) * (1 + 1e-8), np.ones((2, 3), bool), 0.8)
    assert np.all(score == 0)
