"""Syn-GRPO-style: answers and descriptions have gradients of their own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import responses

from maxent_rl.tokens import objectives

OUTPUTS, BATCH = responses()


@jax.jit
def slopes(objective, outputs, batch):
    return jax.grad(lambda given: objective((), given, batch)[0])(outputs).logp


def slope(weight=0.5, name="syn_grpo_style", **fields):
    settings = {"span_weight": weight} if name == "syn_grpo_style" else {}
    return np.asarray(slopes(objectives.make(name, **settings), OUTPUTS, dataclasses.replace(BATCH, **fields)))


SPAN, MASK = np.asarray(BATCH.span), np.asarray(BATCH.mask)


@pytest.mark.slow
def test_answers_know_nothing_of_descriptions_nor_of_their_weight():
    plain = slope(name="grpo")
    for found in (slope(0.0), slope(0.5), slope(2.0), slope(span_advantages=-3 * BATCH.span_advantages)):
        np.testing.assert_array_equal(found[~SPAN], plain[~SPAN])
    assert np.abs(plain[~SPAN]).max() > 0 and np.abs(plain[SPAN]).max() > 0


def test_descriptions_know_nothing_of_answers():
    found, other = slope(), slope(rewards=BATCH.rewards[::-1])
    np.testing.assert_array_equal(found[SPAN], other[SPAN])
    assert np.abs(found[SPAN & MASK]).max() > 0
    assert not slope(0.0)[SPAN].any() and not slope(span_advantages=jnp.zeros(8))[SPAN].any()


def test_without_a_span_it_is_grpo_to_the_bit():
    np.testing.assert_array_equal(slope(span=jnp.zeros(SPAN.shape, bool)), slope(name="grpo"))


@pytest.mark.slow
def test_the_gradient_of_disjoint_tokens_by_finite_differences():
    objective = objectives.make("syn_grpo_style")
    state, prepared = objective.prepare((), BATCH)
    loss = jax.jit(lambda logp: objective(state, dataclasses.replace(OUTPUTS, logp=logp), prepared)[0])
    near = np.asarray(BATCH.logp_old) + 0.05 * np.sin(np.arange(40).reshape(8, 5))  # within the clip
    found = np.asarray(jax.grad(loss)(jnp.asarray(near)))
    for part in (SPAN & MASK, ~SPAN & MASK):
        step = 1e-2 * part
        wanted = (loss(near + step) - loss(near - step)) / 2e-2
        np.testing.assert_allclose(np.sum(found[part]), wanted, atol=1e-4)


def test_a_span_without_an_advantage_has_none():
    found = slope(span_advantages=jnp.full(8, jnp.nan))
    assert np.isfinite(found).all() and not found[SPAN].any()
