"""EPO's released form: a history of each turn, means over tokens, a gate, a schedule of its own, and no gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.methods.epo import EntropyCorridor, corridor_schedule, turn_history
from maxent_rl.tokens.objectives.surrogates import Clipped

# Two conversations; the first has a turn more, number 3, and 9.0 and NaN are what an environment said.
ENTROPY = np.array([[0.1, 0.3, 9.0, 1.0, 0.6], [0.4, np.nan, 9.0, 1.4, 1.4]], np.float32)
TURNS = np.array([[0, 0, 0, 1, 3], [0, 0, 0, 2, 2]])
MASK = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 1, 1]], bool)
RELEASED = {
    "corridor_history": "turn", "corridor_factor": "vanishing", "epo_average": "tokens", "epo_penalty": "indicator",
}  # fmt: skip

SLOW = pytest.mark.slow


def batch(scale=1.0):
    return TokenBatch(
        logp_old=jnp.zeros(MASK.shape), mask=jnp.asarray(MASK), rewards=jnp.zeros(2), advantages=jnp.zeros(2),
        entropy_old=jnp.asarray(scale * ENTROPY), turns=jnp.asarray(TURNS),
    )  # fmt: skip


def test_the_schedule_is_that_of_the_sheet():
    found = corridor_schedule(jnp.array([0, 75, 76, 150, 900]), 150, 3.0, "vanishing")
    np.testing.assert_allclose(found, [1.0, 0.827067, 0.768632, 0.039830, 0.039830], atol=1e-6)


def test_the_history_of_turns_is_padded_on_the_left():
    """Turn 0 has the tokens 0.1, 0.3 and 0.4; the last of four turns stands at the end of whatever room there is."""
    means = [0.8 / 3, 1.0, 1.4, 0.6]
    clean = dataclasses.replace(batch(), entropy_old=jnp.where(MASK, ENTROPY, 0.0))
    found = jax.jit(lambda given: [turn_history(given, room) for room in (6, 4, 2, 1)])(clean)
    for history, expected in zip(found, ([0, 0, *means], means, means[:2], means[:1]), strict=True):
        np.testing.assert_allclose(history, expected, rtol=1e-6)


@jax.jit
def step(objective, state, given, entropy):
    """(state, loss, gradient, metrics) of a batch, whole; and the loss and gradient as the mean of its two rows."""
    state, ready = objective.prepare(state, given)

    def loss(entropy):
        found, aux = objective(state, TokenOutputs(jnp.zeros(MASK.shape), entropy), ready)
        return found, aux.metrics

    def in_parts(entropy):
        rows = [slice(0, 1), slice(1, 2)]
        parts = [objective(state, TokenOutputs(jnp.zeros((1, 5)), entropy[row]), ready.rows(row))[0] for row in rows]
        return sum(parts) / 2

    (whole, metrics), slope = jax.value_and_grad(loss, has_aux=True)(entropy)
    return state, whole, slope, metrics, jax.value_and_grad(in_parts)(entropy)


@pytest.mark.parametrize(("since", "outside"), [(3, 6), pytest.param(4, 0, marks=SLOW), pytest.param(0, 6, marks=SLOW)])
def test_the_released_penalty_by_hand(since, outside):
    """With room for six turns, turns 0 and 1 find no history, turn 2 that of turn 0 and turn 3 that of turn 1.

    Seven tokens of mean entropy 5.2 / 7. Outside 0.5 and 1.5 times of that are all but the last one of the first row: those
    of a corridor around 0, and 1.4 twice, around 0.8 / 3; 0.6 is inside around 1.0. Only the first conversation has turn 3.
    """
    stage = EntropyCorridor(
        turn_entropy_bonus=1.0, corridor_weight=0.1, corridor_low=0.5, corridor_high=1.5, corridor_batches=150,
        corridor_turns=6, corridor_since=since, **RELEASED,
    )  # fmt: skip
    objective = objectives.chain(Clipped(), stage, Aggregate())
    state, entropy = objective.init(), jnp.asarray(ENTROPY)
    for weight in (1.0, 1.0 - 0.2 * (1.0 - np.exp(-2.0 / 75))):
        state, loss, slope, metrics, parts = step(objective, state, batch(), entropy)
        np.testing.assert_allclose(loss, -(5.2 - 0.1 * weight * outside) / 7, rtol=1e-5)
        np.testing.assert_allclose(slope, -(MASK / 7), rtol=1e-5)  # the penalty has no gradient
        np.testing.assert_allclose(parts[0], loss, rtol=1e-5)
        np.testing.assert_allclose(parts[1], slope, rtol=1e-5)
        np.testing.assert_allclose(metrics["epo/outside"], outside / 7, rtol=1e-5)
    # The history has the present batch in it: of entropies, and then of three times as much.
    state, *_ = step(objective, state, batch(3.0), entropy)
    np.testing.assert_allclose(state[0].centre[2:], np.array([0.8 / 3, 1.0, 1.4, 0.6]) * 5 / 3, rtol=1e-5)
    assert int(state[0].batches) == 3


def test_the_released_preset_is_the_released_configuration():
    settings = objectives.settings("epo_released")
    expected = RELEASED | {
        "corridor_since": 25, "corridor_turns": 50, "corridor_batches": 150, "corridor_weight": 0.1, "dual_clip": 3.0,
        "kl_weight": 0.01, "kl_estimator": "k3", "turn_entropy_bonus": 0.001, "corridor_high": 2.0, "corridor_low": 0.0,
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    assert objectives.settings("epo")["epo_penalty"] == "hinge"
