"""Advantages and entropy by the turns of a conversation: EMPG and EPO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.methods.aepo_agentic import EntropyBalancedClip, standardised
from maxent_rl.tokens.objectives.methods.empg import EntropyModulation
from maxent_rl.tokens.objectives.methods.epo import (
    EntropyCorridor,
    EntropyHistory,
    corridor_penalty,
    corridor_schedule,
)
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.tokens.turns import Turns

# Two conversations of three and of two turns, with what an environment said between them; the third turn is number 3.
ENTROPY = np.array([[0.1, 0.3, 9.0, 1.0, 0.6], [0.4, 9.0, 9.0, 1.4, 1.4]])
TURNS = np.array([[0, 0, 0, 1, 3], [0, 0, 0, 2, 2]])
MASK = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], bool)
MODULATED = np.array([[1.176195, 1.176195, 0, 0.490149, 0.713351], [-1.518840, 0, 0, -0.860855, -0.860855]])


def batch(**overrides):
    fields = {
        "logp_old": jnp.zeros(MASK.shape), "mask": jnp.asarray(MASK), "rewards": jnp.zeros(2),
        "advantages": jnp.array([1.0, -1.0]), "entropy_old": jnp.asarray(ENTROPY), "turns": jnp.asarray(TURNS),
    }  # fmt: skip
    return TokenBatch(**(fields | overrides))


@jax.jit
def modulated(stage, given):
    return stage.prepare((), given)[1].advantages


def test_advantages_are_modulated_as_in_the_sheet():
    np.testing.assert_allclose(modulated(EntropyModulation(), batch()), MODULATED, atol=2e-6)


def test_entropies_count_by_their_order_alone_and_what_others_said_never():
    found = modulated(EntropyModulation(), batch(entropy_old=jnp.asarray(3.0 * ENTROPY + 0.5)))
    np.testing.assert_allclose(found, MODULATED, atol=1e-5)
    found = modulated(
        EntropyModulation(), batch(entropy_old=jnp.where(MASK, ENTROPY, 1e6), turns=jnp.where(MASK, TURNS, 1))
    )
    np.testing.assert_allclose(found, MODULATED, atol=2e-6)


def test_every_turn_counts_once_and_those_that_are_sure_more():
    given = batch(advantages=jnp.array([1.0, 1.0]))
    plain = modulated(EntropyModulation(clarity_bonus=0.0, entropy_scale=0.0), given)
    np.testing.assert_allclose(plain, 0.0, atol=1e-6)  # equal advantages less their mean
    turns = Turns.of(given.turns, given.mask)
    found = modulated(EntropyModulation(), given)
    np.testing.assert_allclose(turns.average(turns.mean(found)), 0.0, atol=1e-6)
    order = np.argsort(np.asarray(turns.mean(given.entropy_old))[np.asarray(turns.there)])
    by_turn = modulated(EntropyModulation(clarity_bonus=0.0), given)
    assert np.all(np.diff(np.asarray(turns.mean(by_turn))[np.asarray(turns.there)][order]) < 0)


def corridor(entropy, before=0.9, **settings):
    """(the bonus's part of the loss, its gradient) for one turn at the third batch of ten."""
    objective = objectives.chain(Clipped(), EntropyCorridor(corridor_batches=10, **settings), Aggregate())
    state = (EntropyHistory(jnp.array(2 * before), jnp.array(2), jnp.zeros(())),)
    shape = (1, len(entropy))
    given = batch(
        logp_old=jnp.zeros(shape), mask=jnp.ones(shape, bool), rewards=jnp.zeros(1), advantages=jnp.zeros(1),
        entropy_old=jnp.full(shape, 0.7), turns=jnp.zeros(shape, int),
    )  # fmt: skip

    def loss(entropy):
        return objective(state, TokenOutputs(jnp.zeros(shape), entropy), given)[0]

    value, slope = jax.value_and_grad(loss)(jnp.array([entropy]))
    return value, np.asarray(slope)[0]


@pytest.mark.slow
def test_the_corridor_is_that_of_the_sheet():
    value, slope = corridor([0.3, 0.9, 2.1, 0.5])
    np.testing.assert_allclose(value, -0.000945121, rtol=1e-5)
    np.testing.assert_allclose(slope, -0.00025 * np.array([1, 1, 1 - 0.05 * 1.301194, 1]), rtol=1e-5)
    settings = {"corridor_low": 0.5, "corridor_high": 1.5, "corridor_weight": 0.1, "corridor_decay": 1.0}
    value, slope = corridor([0.3, 0.9, 1.6, 0.5], **settings)
    np.testing.assert_allclose(value, -0.000808297, rtol=1e-5)
    np.testing.assert_allclose(slope, -0.00025 * np.array([1 + 0.167032, 1, 1 - 0.167032, 1]), rtol=1e-5)


@pytest.mark.slow
def test_a_penalty_that_indicates_has_no_gradient_and_one_that_measures_turns_when_it_is_heavy():
    settings = {"corridor_low": 0.5, "corridor_high": 1.5, "corridor_decay": 1.0}
    _, slope = corridor([0.3, 0.9, 1.6, 0.5], corridor_weight=0.1, epo_penalty="indicator", **settings)
    np.testing.assert_allclose(slope, -0.00025, rtol=1e-5)
    _, slope = corridor([0.3, 0.9, 1.6, 0.5], corridor_weight=2.0, **settings)
    assert slope[2] > 0 > slope[1]  # down from above the corridor, and up within it


def test_penalties_and_their_schedule():
    entropy = jnp.array([0.3, 0.9, 1.6])
    np.testing.assert_allclose(corridor_penalty(entropy, 0.45, 1.35), [0.15, 0.0, 0.25], atol=1e-6)
    np.testing.assert_allclose(corridor_penalty(entropy, 0.45, 1.35, "indicator"), [1.0, 0.0, 1.0])
    found = corridor_schedule(jnp.array([0, 2, 5, 10]), 10, 3.0)
    np.testing.assert_allclose(found, [2.0, 1.301194, 1.049787, 1.002479], atol=1e-6)


def test_the_first_batch_has_no_corridor_and_each_one_moves_it():
    stage = EntropyCorridor()
    state = stage.init(jax.random.key(0))
    for mean in (0.8, 1.0):
        state, _ = stage.prepare(state, batch(entropy_old=jnp.full(MASK.shape, mean)))
    assert int(state.batches) == 2
    np.testing.assert_allclose([state.total, state.centre], [1.8, 0.8], rtol=1e-6)


@pytest.mark.parametrize("rows", [2, 1])
def test_a_mean_over_turns_weighs_turns_and_not_tokens(rows):
    """The gradient of each token: 1 over the conversations, their turns, and the turn's tokens."""
    objective = objectives.chain(Clipped(), EntropyCorridor(turn_entropy_bonus=1.0), Aggregate())
    given = batch()

    def loss(entropy):
        state, ready = objective.prepare(objective.init(), given)
        parts = [ready.rows(slice(index, index + rows)) for index in range(0, 2, rows)]
        outs = [entropy[index : index + rows] for index in range(0, 2, rows)]
        return jnp.mean(jnp.stack([
            objective(state, TokenOutputs(jnp.zeros(out.shape), out), part)[0] for out, part in zip(outs, parts, strict=True)
        ]))  # fmt: skip

    slope = jax.jit(jax.grad(loss))(jnp.asarray(ENTROPY))
    expected = [[1 / 12, 1 / 12, 0, 1 / 6, 1 / 6], [1 / 4, 0, 0, 1 / 8, 1 / 8]]
    np.testing.assert_allclose(slope, -np.array(expected), rtol=1e-5)


def test_advantages_grow_with_entropy_and_the_upper_bound_keeps_a_gradient():
    """Agentic AEPO, by the sheet's numbers."""
    mask = jnp.ones((1, 4), bool)
    factor = 1.0 + 0.2 * standardised(jnp.array([[0.1, 0.4, 1.2, 0.3]]), mask)
    np.testing.assert_allclose(factor[0], [0.834384, 0.958596, 1.289828, 0.917192], atol=1e-6)
    np.testing.assert_array_equal(standardised(jnp.full((1, 4), 0.3), mask), 0.0)
    objective = objectives.chain(EntropyBalancedClip(balanced_clip_high=0.28), Aggregate(aggregation="token-sum"))

    @jax.jit
    def found(logp, advantage):
        given = batch(
            logp_old=jnp.zeros((1, 4)), mask=mask, rewards=jnp.zeros(1), advantages=advantage[None],
            entropy_old=jnp.ones((1, 4)), turns=jnp.zeros((1, 4), int),
        )  # fmt: skip
        return jax.value_and_grad(lambda logp: objective((), TokenOutputs(logp), given)[0])(logp)

    logp = jnp.log(jnp.array([[0.7, 1.0, 1.5, 3.5]]))
    loss, slope = found(logp, jnp.array(1.0))
    np.testing.assert_allclose([loss, *-slope[0]], [-4.26, 0.7, 1.0, 1.28, 1.28], rtol=1e-5)
    loss, slope = found(logp, jnp.array(-1.0))
    np.testing.assert_allclose([loss, *-slope[0]], [6.3, 0.0, -1.0, -1.5, 0.0], rtol=1e-5)
