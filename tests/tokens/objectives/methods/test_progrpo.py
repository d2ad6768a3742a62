"""ProGRPO: confidence by the least likely tokens, and what it adds to advantages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import loss_of, responses

from maxent_rl.errors import MissingInputError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives import AdvantageReweighting, Aggregate, Clipped, GroupAdvantage, chain
from maxent_rl.tokens.objectives.methods.progrpo import lowest_confidence

FIRST = [0.9, 0.95, 0.5, 0.99, 0.8, 0.97, 0.92, 0.98, 0.96, 0.3]
SECOND = [0.9, 0.95, 0.2, 0.99, 0.8, 0.97, 0.92, 0.98, 0.96, 0.1]
PROBS = np.array([FIRST, SECOND, [0.9] * 9 + [0.05], [0.99] * 10], np.float32)
CONFIDENCE = np.array([0.387298, 0.141421, 0.212132, 0.99])
# The example has the population's deviation, which for two of four makes advantages of 1 less the epsilon.
BASE = np.array([0.999998, 0.999998, -0.999998, -0.999998], np.float32)


def batch_of(rewards, prompt=0.4, **fields):
    of_prompt = jnp.log(jnp.full((4, 3), prompt)).at[:, 0].set(jnp.nan)
    return TokenBatch(
        jnp.log(jnp.asarray(PROBS)),
        jnp.ones((4, 10), bool),
        jnp.array(rewards, jnp.float32),
        4,
        logp_prompt=of_prompt,
        **fields,
    )


def reweighted(batch, **settings):
    stage = AdvantageReweighting(**settings)
    return np.asarray(stage.prepare((), batch)[1].advantages)[:, 0]


def test_confidences_of_the_example():
    logp, mask = np.log(PROBS), np.ones(PROBS.shape, bool)
    found = jax.jit(lowest_confidence)
    np.testing.assert_allclose(found(logp, mask, 0.2), CONFIDENCE, atol=1e-5)
    np.testing.assert_allclose(found(logp, mask, 1.0), [0.781779, 0.639113, 0.674086, 0.99], atol=1e-5)
    np.testing.assert_array_equal(found(logp, ~mask, 0.2), np.ones(4))


@pytest.mark.slow
def test_advantages_of_the_example():
    found = reweighted(batch_of([1, 1, 0, 0], advantages=BASE))
    np.testing.assert_allclose(found, [1.003808, 1.077572, -0.943638, -1.176998], atol=1e-5)
    found = reweighted(batch_of([1, 1, 1, 1], advantages=np.zeros(4, np.float32)))
    np.testing.assert_allclose(found, [0.003810, 0.077574, 0.056360, -0.177000], atol=1e-5)


@pytest.mark.slow
def test_groups_without_a_right_answer_stay_as_they_are():
    assert np.all(reweighted(batch_of([0, 0, 0, 0], advantages=BASE)) == BASE)
    assert np.all(reweighted(batch_of([1, 1, 1, 1], advantages=BASE), arm_all_correct=False) == BASE)


def test_it_may_be_for_right_answers_alone():
    found = reweighted(batch_of([1, 1, 0, 0], advantages=BASE), arm_scope="correct")
    np.testing.assert_allclose(found, [1.003808, 1.077572, *BASE[2:]], atol=1e-5)


@pytest.mark.parametrize(("prompt", "confidence"), [("all", 0.4), ("low", 0.4), ("none", 0.0)])
def test_the_prompt_raises_all_alike(prompt, confidence):
    found = reweighted(batch_of([1, 0, 0, 0], advantages=BASE), arm_prompt=prompt)
    np.testing.assert_allclose(found, BASE + 0.3 * (confidence - CONFIDENCE), atol=1e-5)


def test_a_prompt_that_is_not_scored_counts_as_certain():
    batch = dataclasses.replace(batch_of([1, 0, 0, 0], advantages=BASE), logp_prompt=jnp.full((4, 3), jnp.nan))
    np.testing.assert_allclose(reweighted(batch), BASE + 0.3 * (1 - CONFIDENCE), atol=1e-5)


@pytest.mark.slow
def test_without_a_weight_it_is_clip_higher():
    outputs, batch = responses()
    loss = loss_of(objectives.make("progrpo", arm_weight=0.0), outputs, batch)
    np.testing.assert_allclose(loss, loss_of(objectives.make("grpo", clip_high=0.28), outputs, batch), rtol=1e-6)


@pytest.mark.slow
def test_signs_stay_in_small_groups():
    """At the default weight, where there is at least one answer of each kind among eight."""
    draw = np.random.default_rng(0)
    batch = responses(logp_old=-draw.exponential(0.5, (8, 5)), rewards=np.array([1.0] + [0] * 7), group_size=8)[1]
    found = np.asarray(objectives.make("progrpo").prepare((), batch)[1].advantages)[:, 0]
    assert found[0] > 0 and np.all(found[1:] < 0)


def test_it_is_credit_that_also_follows_given_advantages():
    objective = chain(GroupAdvantage(), AdvantageReweighting(), Clipped(), Aggregate())
    _, found = objective.prepare((), batch_of([1, 1, 0, 0], advantages=jnp.asarray(BASE)))
    np.testing.assert_allclose(found.advantages[:, 0], [1.003808, 1.077572, -0.943638, -1.176998], atol=1e-5)


@pytest.mark.slow
def test_a_missing_prompt_says_what_to_pass():
    _, batch = responses(logp_prompt=None)
    with pytest.raises(
        MissingInputError, match=r"needs logp_prompt: pass TokenBatch\(logp_prompt=\[N, P\]\), log-prob"
    ):
        objectives.make("progrpo").prepare((), batch)
    objectives.make("progrpo", arm_prompt="none").prepare((), batch)
