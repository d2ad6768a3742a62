"""STEER: the sheet's six tokens, both maps, both estimates, and that weights are constants."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close
from token_cases import EXAMPLE, EXAMPLE_ENTROPY, evaluate, one_row, random_case, slopes, token_losses, with_garbage

from maxent_rl.errors import InvalidSettingError, MissingInputError
from maxent_rl.losses import entropy_change, expected_discriminant, policy_gradient_step
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import Aggregate, Clipped, Steer, chain

PROBS, OLD = [0.9, 0.02, 0.4, 0.05, 0.7, 0.01], [0.85, 0.02, 0.5, 0.04, 0.7, 0.02]
SIX = one_row(PROBS, OLD, [1.0, 1, 1, -1, -1, -1], entropy_old=[0.3, 1.2, 1.0, 0.8, 0.6, 0.3])
OMEGA = np.array([0.020609, -2.657783, 0.040180, 2.607432, -0.072998, 2.131059])
EXPONENTIAL = np.array([0.998271, 0.800000, 0.996632, 0.803389, 0.993890, 0.836172])
LINEAR = np.array([1.200000, 0.800000, 1.197031, 0.807637, 1.192054, 0.879892])
BASE = np.array([-1.058824, -1, -0.8, 1.25, 1, 0.8])
DUAL_CLIP = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0}

weights = jax.jit(lambda stage, change: stage.weights(change, jnp.ones(change.shape, bool)))


@struct.dataclass
class Shown(Steer):
    """Shows the estimate instead of using it."""

    def __call__(self, state, work):
        return state, work.measure(tokens=self.entropy_change(work))


def change_of(stage, outputs, batch):
    """The estimated change of each token, [N, T]."""
    shown = Shown(**{field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)})
    return evaluate(chain(shown, Clipped(), Aggregate()), (), outputs, batch)[1].metrics["tokens"]


def test_scores_of_the_example():
    np.testing.assert_allclose(change_of(Steer(), *SIX)[0], OMEGA, atol=1e-5)
    by_hand = np.array(PROBS) / OLD * (1 - np.array(PROBS)) ** 2 * (np.log(PROBS) + SIX[1].entropy_old[0])
    squared = change_of(Steer(one_minus_pi_power=2.0), *SIX)[0]
    np.testing.assert_allclose(squared, by_hand * SIX[1].advantages[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wanted", "mean"),
    [("exponential", EXPONENTIAL, 0.002128), ("linear", LINEAR, -0.020450)],
)
def test_weights_and_losses_of_the_example(name, wanted, mean):
    np.testing.assert_allclose(weights(Steer(name), jnp.abs(OMEGA)[None])[0], wanted, atol=1e-5)
    objective = objectives.make("steer", steer_map=name)
    np.testing.assert_allclose(token_losses(objective, *SIX)[0], wanted * BASE, atol=1e-5)
    loss, aux = evaluate(objective, (), *SIX)
    np.testing.assert_allclose(loss, mean, atol=1e-5)
    np.testing.assert_allclose(aux.metrics["steer/weight"], wanted.mean(), atol=1e-5)


def test_base_loss_of_the_example():
    np.testing.assert_allclose(evaluate(objectives.make("grpo", **DUAL_CLIP), (), *SIX)[0], 0.031863, atol=1e-5)
    np.testing.assert_allclose(-np.log(0.8) / np.abs(OMEGA).max(), 0.083959, atol=1e-5)


def test_changes_below_the_floor_weigh_nearly_one():
    found = weights(Steer(), jnp.array([[0.01, 0.0]]))
    np.testing.assert_allclose(found, [[0.894427, 1.0]], atol=1e-5)
    np.testing.assert_allclose(-np.log(0.8) / 0.02, 11.157178, atol=1e-5)
    np.testing.assert_allclose(weights(Steer(steer_floor=0.001), jnp.array([[0.01, 0.0]])), [[0.8, 1.0]], atol=1e-6)


@pytest.mark.slow
def test_scores_on_three_choices_against_the_exact_change():
    """On-policy Omega = A (1 - pi)(log pi + H); the exact one averages to the covariance of log p and p A."""
    advantages = jnp.array([0.5, -0.5, -1.5])
    logp = jnp.log(EXAMPLE)
    centre = jnp.full(3, expected_discriminant(logp))
    outputs, batch = one_row(
        EXAMPLE,
        EXAMPLE,
        advantages,
        entropy_old=[EXAMPLE_ENTROPY] * 3,
        statistics={"expected_discriminant": centre[None]},
    )
    omega, exact = (
        np.asarray(change_of(Steer(steer_estimator=each), outputs, batch)[0]) for each in ("omega", "exact")
    )
    np.testing.assert_allclose(omega, [0.077424, 0.107109, 1.896263], atol=1e-5)
    np.testing.assert_allclose(exact, [0.067249, 0.094791, 0.357358], atol=1e-5)
    np.testing.assert_allclose(omega, advantages * (1 - EXAMPLE) * (logp + EXAMPLE_ENTROPY), atol=1e-5)
    np.testing.assert_allclose([EXAMPLE @ omega, EXAMPLE @ exact], [0.268214, 0.104522], atol=1e-5)
    change = entropy_change(logp, policy_gradient_step(logp, advantages))
    np.testing.assert_allclose(EXAMPLE @ exact, -change, atol=1e-6)
    for sign in (1.0, -1.0):  # rewarded, the likely lowers entropy and the others raise it; punished, the reverse
        alike = dataclasses.replace(batch, advantages=jnp.full((1, 3), sign))
        np.testing.assert_array_equal(np.sign(change_of(Steer(), outputs, alike)[0]), sign * np.array([1, -1, -1]))


@pytest.mark.parametrize(
    "settings", [{"steer_least": 1.0}, {"steer_map": "linear", "steer_least": 1.0, "steer_most": 1.0}]
)
def test_weights_of_one_are_the_dual_clip(settings):
    steer, plain = objectives.make("steer", **settings), objectives.make("grpo", **DUAL_CLIP)
    assert_close(evaluate(steer, (), *SIX)[0], evaluate(plain, (), *SIX)[0], scale=1.0)  # of the tokens' losses
    assert_close(slopes(steer, (), *SIX).logp, slopes(plain, (), *SIX).logp)


@pytest.mark.parametrize("estimator", ["omega", "exact"])
@pytest.mark.parametrize("name", ["exponential", "linear"])
def test_gradient_is_the_weighted_one(estimator, name):
    """No further terms: weights are constants."""
    statistics = {"expected_discriminant": jnp.full((1, 6), 0.05)}
    outputs, batch = SIX[0], dataclasses.replace(SIX[1], statistics=statistics)
    steer = objectives.make("steer", steer_map=name, steer_estimator=estimator, steer_floor=0.001)
    plain = objectives.make("grpo", **DUAL_CLIP)
    change = jnp.abs(change_of(Steer(steer_estimator=estimator), outputs, batch))
    weight = weights(Steer(name, steer_floor=0.001), change)
    wanted = weight * slopes(plain, (), outputs, batch).logp
    assert_close(slopes(steer, (), outputs, batch).logp, wanted)


changes = arrays.arrays(np.float32, (2, 4), elements=st.floats(0, 5, width=32))


@given(change=changes, name=st.sampled_from(["exponential", "linear"]))
def test_weights_fall_with_the_change_within_their_bounds(change, name):
    found = np.asarray(weights(Steer(name), change))
    most = 1.2 if name == "linear" else 1.0
    assert np.all((found >= 0.8 - 1e-6) & (found <= most + 1e-6))
    order = np.argsort(change.ravel(), kind="stable")
    assert np.all(np.diff(found.ravel()[order]) <= 1e-6)


@given(scale=st.floats(0.5, 20), sign=st.sampled_from([-1.0, 1.0]), name=st.sampled_from(["exponential", "linear"]))
def test_scaled_advantages_have_the_same_weights(scale, sign, name):
    outputs, batch = SIX
    moved = dataclasses.replace(batch, advantages=sign * scale * batch.advantages)
    change = jnp.abs(change_of(Steer(), outputs, moved))
    wanted = EXPONENTIAL if name == "exponential" else LINEAR
    np.testing.assert_allclose(weights(Steer(name), change)[0], wanted, atol=1e-5)


def test_no_advantage_and_certain_tokens_are_not_damped():
    outputs, batch = SIX
    still = dataclasses.replace(batch, advantages=jnp.zeros((1, 6)))
    assert np.all(change_of(Steer(), outputs, still) == 0)
    np.testing.assert_array_equal(weights(Steer(), jnp.zeros((1, 6))), np.ones((1, 6)))
    np.testing.assert_allclose(weights(Steer("linear"), jnp.zeros((1, 6))), np.ones((1, 6)), rtol=1e-5)  # all the same
    certain = (
        TokenOutputs(outputs.logp.at[0, 0].set(0.0)),
        dataclasses.replace(batch, logp_old=batch.logp_old.at[0, 0].set(-1e-6)),
    )
    assert abs(change_of(Steer(), *certain)[0, 0]) < 1e-7
    np.testing.assert_allclose(weights(Steer(), jnp.abs(change_of(Steer(), *certain)))[0, 0], 1.0, atol=1e-6)


def test_scores_that_are_not_finite_count_as_none():
    outputs, batch = SIX
    broken = dataclasses.replace(batch, entropy_old=batch.entropy_old.at[0, 1].set(jnp.inf))
    found = np.asarray(change_of(Steer(), outputs, broken)[0])
    np.testing.assert_allclose(found, np.where(np.arange(6) == 1, 0, OMEGA), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("name", ["exponential", "linear"])
def test_masked_positions_change_nothing(garbage, name):
    case = random_case(2)
    objective = objectives.make("steer", steer_map=name, steer_estimator="exact", steer_floor=1e-3)
    loss, aux = evaluate(objective, (), TokenOutputs(case.outputs().logp), case.batch)
    outputs = TokenOutputs(jnp.where(case.batch.mask, case.outputs().logp, garbage))
    found, found_aux = evaluate(objective, (), outputs, with_garbage(case, garbage).batch)
    np.testing.assert_array_equal(found, loss)
    np.testing.assert_array_equal(found_aux.metrics["steer/weight"], aux.metrics["steer/weight"])
    slope = slopes(objective, (), outputs, with_garbage(case, garbage).batch).logp
    assert np.isfinite(np.asarray(slope)).all() and np.all(np.asarray(slope)[~np.asarray(case.batch.mask)] == 0)


@pytest.mark.parametrize("name", ["exponential", "linear"])
def test_empty_batch_costs_nothing(name):
    outputs, batch = SIX
    empty = dataclasses.replace(batch, mask=jnp.zeros((1, 6), bool))
    objective = objectives.make("steer", steer_map=name)
    assert evaluate(objective, (), outputs, empty)[0] == 0
    assert np.all(slopes(objective, (), outputs, empty).logp == 0)


def test_rows_are_compared_in_blocks():
    change = jnp.array([[0.1, 0.2], [0.4, 0.8], [1.0, 2.0], [4.0, 8.0]])
    blocks = weights(Steer(steer_rows=2), change)
    single = jnp.concatenate([weights(Steer(), change[:2]), weights(Steer(), change[2:])])
    np.testing.assert_allclose(blocks, single, rtol=1e-5)
    with pytest.raises(InvalidSettingError, match="--steer-rows 3 must divide the 4 rows"):
        weights(Steer(steer_rows=3), change)


def test_one_token_responses():
    found = weights(Steer(), jnp.array([[0.5], [1.0]]))
    np.testing.assert_allclose(found, [[np.sqrt(0.8)], [0.8]], rtol=1e-5)


def test_bounds_of_settings_and_missing_entropy():
    for wrong in ({"steer_least": 0.0}, {"steer_least": 1.5}, {"steer_most": 0.9}, {"steer_floor": 0.0}):
        with pytest.raises(InvalidSettingError):
            objectives.make("steer", **wrong)
    bare = TokenBatch(SIX[1].logp_old, SIX[1].mask, jnp.zeros(1))
    with pytest.raises(MissingInputError, match="Steer needs entropy_old"):
        objectives.make("steer")((), SIX[0], bare)


def test_changes_that_differ_by_rounding_alone_weigh_the_same():
    """Under the linear map the smallest and the largest would weigh as if they were worlds apart."""
    change = np.float32(0.3)
    near = jnp.array([[change, np.nextafter(change, np.float32(0)), np.nextafter(change, np.float32(1))]])
    assert_close(weights(Steer("linear"), near), np.ones((1, 3)))


def test_under_a_uniform_policy_no_token_changes_the_entropy():
    entropy = np.float32(np.log(7.0))
    near = [entropy, np.nextafter(entropy, np.float32(0)), np.nextafter(entropy, np.float32(9))]
    outputs, batch = one_row([1 / 7] * 3, [1 / 7] * 3, [1.0, -1.0, 1.0], entropy_old=near)
    assert np.all(change_of(Steer(), outputs, batch) == 0)
