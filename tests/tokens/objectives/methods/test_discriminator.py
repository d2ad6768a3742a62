"""Clip_B and Clip_V: the sheet's eight tokens, what each rule removes, and the identities of the masks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close
from token_cases import evaluate, prepare, random_case, slopes, with_garbage

from maxent_rl.errors import MissingInputError, UnknownNameError
from maxent_rl.losses import entropy_discriminant
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import ClipB, ClipV

PROBS = jnp.array([0.9, 0.02, 0.4, 0.05, 0.7, 0.01, 0.3, 0.6])
ENTROPY = jnp.array([0.3, 1.2, 1.0, 0.8, 0.6, 0.3, 1.4, 0.9])
ADVANTAGES = jnp.array([1.0, 1, 1, -1, -1, -1, -1, 0])
EXPECTED = jnp.array([0.02, 0.15, 0.05, 0.10, 0.03, 0.20, 0.12, 0.08])
DISCRIMINANT = np.array([0.175176, -0.054240, 0.033484, -0.109787, 0.170328, -0.043052, 0.058808, 0.233505])
BATCH = TokenBatch(
    jnp.log(PROBS)[None],
    jnp.ones((1, 8), bool),
    jnp.zeros(1),
    advantages=ADVANTAGES[None],
    entropy_old=ENTROPY[None],
    statistics={"expected_discriminant": EXPECTED[None]},
)

prepared = jax.jit(lambda stage, batch: stage.prepare((), batch)[1])


def removed(stage, batch=BATCH):
    """Which tokens the stage takes out of the mask."""
    return np.flatnonzero(np.asarray(batch.mask & ~prepared(stage, batch).mask)).tolist()


def test_discriminants_of_the_example():
    np.testing.assert_allclose(entropy_discriminant(jnp.log(PROBS), ENTROPY), DISCRIMINANT, atol=1e-5)
    np.testing.assert_allclose(DISCRIMINANT.mean(), 0.058028, atol=1e-5)
    np.testing.assert_allclose(DISCRIMINANT.std(), 0.116572, atol=1e-5)
    distances = (DISCRIMINANT - DISCRIMINANT.mean()) / DISCRIMINANT.std()
    np.testing.assert_allclose(distances[3:7], [-1.439572, 0.963350, -0.867095, 0.006696], atol=1e-4)
    difference = np.asarray(EXPECTED) - DISCRIMINANT
    np.testing.assert_allclose(
        difference, [-0.155176, 0.204240, 0.016516, 0.209787, -0.140328, 0.243052, 0.061192, -0.153505], atol=1e-5
    )
    np.testing.assert_allclose([difference.mean(), difference.std()], [0.035722, 0.160446], atol=1e-5)


@pytest.mark.parametrize(("width", "tokens"), [(0.5, [3, 5]), (1.0, [3]), (2.5, []), (1.4395, [3]), (1.4396, [])])
def test_clip_b_removes_unlikely_tokens_that_are_punished(width, tokens):
    assert removed(ClipB(width)) == tokens


@pytest.mark.parametrize(
    ("width", "share", "tokens"),
    [
        (1.0, 0.1, [5]),
        (1.0, 0.0, [5]),
        (1.0, 0.25, [3, 5]),
        (1.0, 1.0, [3, 5]),
        (2.0, 1.0, []),
        (0.0, 1.0, [3, 5, 6]),
    ],
)
def test_clip_v_removes_the_farthest_up_to_its_share(width, share, tokens):
    assert removed(ClipV(width, clip_v_share=share)) == tokens


# Distances over their spread, from the batch's mean: 1.005, -0.963, -0.211, -1.440, 0.963, -0.867, 0.007, 1.505 (A = 0).
@pytest.mark.parametrize(
    ("rule", "width", "above", "tokens"),
    [
        ("signed", 0.9, None, [0, 3]),  # rewarded and likely, punished and unlikely: both lower entropy
        ("signed", 0.5, None, [0, 3, 5]),
        ("reversed", 0.9, None, [1, 4]),  # what would raise it
        ("two-sided", 0.9, None, [0, 1, 3, 4]),
        ("two-sided", 0.9, 1.0, [0, 1, 3]),
        ("two-sided", 1.2, 0.5, [0, 3, 4]),
    ],
)
def test_other_rules(rule, width, above, tokens):
    assert removed(ClipB(width, above, rule)) == tokens
    same_centre = dataclasses.replace(
        BATCH, statistics={"expected_discriminant": jnp.full((1, 8), DISCRIMINANT.mean())}
    )
    assert removed(ClipV(width, above, 1.0, rule), same_centre) == tokens


@pytest.mark.slow
def test_loss_is_the_clipped_surrogate_of_the_kept_tokens():
    """The new mask stands in numerator and denominator."""
    case = random_case(1)
    objective, plain = objectives.make("clip_b", clip_b_width=0.5), objectives.make("grpo")
    state, kept = prepare(objective, objective.init(), case.batch)
    assert 0 < int(kept.mask.sum()) < int(case.batch.mask.sum())
    _, of_plain = prepare(plain, (), case.batch)
    of_plain = dataclasses.replace(of_plain, mask=kept.mask)
    outputs = TokenOutputs(case.outputs().logp)
    loss = evaluate(objective, state, outputs, kept)[0]
    assert_close(loss, evaluate(plain, (), outputs, of_plain)[0], scale=1.0)  # of the tokens' losses, which cancel
    slope = np.asarray(slopes(objective, state, outputs, case.batch).logp)
    assert np.all(slope[~np.asarray(kept.mask)] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_b", "clip_v"])
def test_wide_bounds_are_grpo(name):
    case, outputs = random_case(1), TokenOutputs(random_case(1).outputs().logp)
    objective = objectives.make(name, **{f"{name}_width": 1e6})
    loss, aux = evaluate(objective, objective.init(), outputs, case.batch)
    plain, plain_aux = evaluate(objectives.make("grpo"), (), outputs, case.batch)
    assert_close(loss, plain, scale=1.0)  # of the tokens' losses, which cancel
    np.testing.assert_array_equal(aux.mask, plain_aux.mask)


@pytest.mark.slow
def test_statistic_from_logits_is_that_of_the_caller():
    case = random_case(1)
    objective = objectives.make("clip_v", clip_v_width=0.5, clip_v_share=0.2)
    _, from_logits = prepare(objective, (), case.batch)
    statistic = objective.statistics(())["expected_discriminant"]
    log_probs = jax.nn.log_softmax(case.batch.logits_old)
    probs = jnp.exp(log_probs)
    entropy = -jnp.sum(probs * log_probs, axis=-1)
    given = dataclasses.replace(
        case.batch,
        logits_old=None,
        entropy_old=entropy,
        statistics={"expected_discriminant": statistic(log_probs, case.batch.tokens)},
    )
    _, from_caller = prepare(objective, (), given)
    np.testing.assert_array_equal(from_logits.mask, from_caller.mask)
    by_hand = jnp.sum(probs * entropy_discriminant(log_probs, entropy[..., None]), axis=-1)
    assert_close(given.statistics["expected_discriminant"], by_hand)


@pytest.mark.parametrize("name", ["clip_b", "clip_v"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1e30])
def test_masked_positions_change_nothing(name, garbage):
    case = random_case(1)
    objective = objectives.make(name, **{f"{name}_width": 0.5})
    dirty = with_garbage(case, garbage)
    _, kept = prepare(objective, (), case.batch)
    _, of_dirty = prepare(objective, (), dirty.batch)
    np.testing.assert_array_equal(kept.mask, of_dirty.mask)
    outputs = TokenOutputs(jnp.where(case.batch.mask, case.outputs().logp, garbage))
    loss = evaluate(objective, (), TokenOutputs(case.outputs().logp), kept)[0]
    np.testing.assert_array_equal(evaluate(objective, (), outputs, of_dirty)[0], loss)


@pytest.mark.parametrize(
    "stage", [ClipB(0.0), ClipV(0.0), ClipB(0.0, None, "two-sided"), ClipV(0.0, None, 1.0, "signed")]
)
def test_nothing_is_removed_without_advantages_spread_or_tokens(stage):
    assert removed(stage, dataclasses.replace(BATCH, advantages=jnp.zeros((1, 8)))) == []
    assert removed(stage, dataclasses.replace(BATCH, mask=jnp.zeros((1, 8), bool))) == []
    even = dataclasses.replace(
        BATCH,
        logp_old=jnp.full((1, 8), -1.0),
        entropy_old=jnp.full((1, 8), 0.7),
        statistics={"expected_discriminant": jnp.full((1, 8), 0.1)},
    )
    assert removed(stage, even) == []
    single = jax.tree.map(lambda leaf: leaf[:, 3:4] if leaf.ndim == 2 else leaf, BATCH)
    assert removed(stage, single) == []  # one token has no spread


def test_infinite_width_is_off():
    assert removed(ClipB(float("inf"))) == [] and removed(ClipV(float("inf"))) == []


def test_of_equal_distances_the_first_is_removed():
    twice = jax.tree.map(lambda leaf: leaf.at[:, 3].set(leaf[:, 5]) if leaf.ndim == 2 else leaf, BATCH)
    assert removed(ClipV(1.0), twice) == [3]


tokens = {
    "logp": arrays.arrays(np.float32, (2, 6), elements=st.floats(-12, 0, width=32)),
    "entropy": arrays.arrays(np.float32, (2, 6), elements=st.floats(0, 3, width=32)),
    "advantages": arrays.arrays(np.float32, (2, 6), elements=st.sampled_from([-1.5, -0.5, 0.0, 1.0])),
}


@pytest.mark.slow
@given(**tokens, share=st.sampled_from([0.0, 0.1, 0.5]))
def test_wider_bounds_never_remove_more(logp, entropy, advantages, share):
    batch = TokenBatch(
        jnp.asarray(logp),
        jnp.ones((2, 6), bool),
        jnp.zeros(2),
        advantages=jnp.asarray(advantages),
        entropy_old=jnp.asarray(entropy),
        statistics={"expected_discriminant": jnp.full((2, 6), 0.1)},
    )
    for make in (ClipB, lambda width: ClipV(width, clip_v_share=share)):
        counts = []
        for width in (0.0, 0.5, 1.5, 4.0):
            gone = removed(make(width), batch)
            assert np.all(advantages.ravel()[gone] < 0)
            counts.append(len(gone))
        assert counts == sorted(counts, reverse=True)
        if make is not ClipB:
            assert counts[0] <= max(int(share * 12 + 1e-6), 1)


def test_missing_inputs_and_names_are_told():
    case = random_case()
    bare = dataclasses.replace(case.batch, logits_old=None)
    with pytest.raises(MissingInputError, match="ClipB needs entropy_old: pass TokenBatch"):
        objectives.make("clip_b").prepare((), bare)
    with pytest.raises(MissingInputError, match="'expected_discriminant' of the policy that drew the responses"):
        objectives.make("clip_v").prepare((), bare)
    with pytest.raises(UnknownNameError, match=r"--clip-b-rule.*negative"):
        objectives.make("clip_b", clip_b_rule="negativ")


def test_nothing_flows_through_mask_or_statistics():
    case = random_case(1)
    objective = objectives.make("clip_v", clip_v_width=0.5)

    def loss(batch):
        return objective((), TokenOutputs(case.outputs().logp), batch)[0]

    found = jax.jit(jax.grad(lambda logits: loss(dataclasses.replace(case.batch, logits_old=logits))))(
        case.batch.logits_old
    )
    assert np.all(np.asarray(found) == 0)


@pytest.mark.parametrize("rule", ["negative", "signed", "two-sided", "reversed"])
def test_under_a_uniform_policy_no_token_is_too_far(rule):
    """All discriminants are 0; what rounding makes of them has a deviation, too, and some lie outside of it."""
    entropy = np.float32(np.log(7.0))
    near = np.array([entropy, np.nextafter(entropy, np.float32(0)), np.nextafter(entropy, np.float32(9))])
    batch = dataclasses.replace(
        BATCH,
        logp_old=-jnp.full((1, 8), entropy),
        entropy_old=jnp.array(near[[0, 1, 2, 0, 1, 2, 1, 1]])[None],
        advantages=jnp.array([[1.0, 1, 1, -1, -1, -1, -1, 1]]),
        statistics={"expected_discriminant": jnp.zeros((1, 8))},
    )
    assert removed(ClipB(0.5, clip_b_rule=rule), batch) == []
    assert removed(ClipV(0.5, clip_v_share=1.0, clip_v_rule=rule), batch) == []
