"""Targets over candidates: the sheet's numbers, invariances, outliers, ties, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close

from maxent_rl.losses import kde_target, rank_target, softmax_target, teacher_over_anchor_target

WORKED, SPREAD = jnp.array([1.0, 0.0, 0.0, 1.0]), jnp.array([0.9, 0.1, 0.4, 0.6])
TARGETS = {
    "softmax": softmax_target,
    "standardized": lambda scores, mask=None: softmax_target(scores, standardize=True, mask=mask),
    "kde": kde_target,
    "rank": rank_target,
    "over anchor": lambda scores, mask=None: teacher_over_anchor_target(scores, -0.5, 0.7, mask),
}
every_target = pytest.mark.parametrize("name", TARGETS)
wraps = pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, lambda f: lambda x: jax.vmap(f)(x[None])[0]], ids=["eager", "jit", "vmap"]
)
# On a grid, so that scaling and shifting neither make ties nor break them.
some_scores = arrays.arrays(np.int32, 5, elements=st.integers(-40, 40)).map(lambda found: found.astype(np.float32) / 8)
few = settings(max_examples=25, deadline=None)
COMPILED = {name: jax.jit(target) for name, target in TARGETS.items()}


def log_odds(target, temperature=0.5):
    """The scores that a softmax target was made from, up to a constant."""
    return temperature * np.log(target)


@wraps
def test_worked_example(wrap):
    standardized = wrap(lambda scores: softmax_target(scores, 0.5, standardize=True))(WORKED)
    np.testing.assert_allclose(standardized, [0.484824, 0.015176, 0.015176, 0.484824], atol=1e-5)
    np.testing.assert_allclose(wrap(softmax_target)(WORKED), [0.440399, 0.059601, 0.059601, 0.440399], atol=1e-5)


@pytest.mark.slow
@wraps
def test_worked_example_of_the_smoothed_distribution(wrap):
    found = wrap(kde_target)(SPREAD)
    np.testing.assert_allclose(found, [0.904485, 0.001455, 0.017104, 0.076956], atol=1e-5)
    advantages = np.array([1.608048, -1.608048, -0.375985, 0.375985])
    np.testing.assert_allclose(log_odds(found) - log_odds(found).mean(), advantages, atol=1e-5)
    share = np.array([0.833140, 0.166860, 0.407096, 0.592904])
    np.testing.assert_allclose(jax.nn.sigmoid(advantages), share, atol=1e-5)


def test_worked_example_of_an_outlier():
    """Its place in the order counts, not its size; the others come together, for they share the bandwidth."""
    advantages = np.array([1.902764, -0.512639, -0.502934, -0.496475])
    found = kde_target(SPREAD.at[0].set(100.0))
    np.testing.assert_allclose(found, jax.nn.softmax(advantages / 0.5), atol=1e-5)
    np.testing.assert_allclose(np.diff(log_odds(found)), np.diff(advantages), atol=1e-5)


def test_outliers_stay_bounded():
    """Check 6: a thousandfold outlier is worth what its log-odds can be at most, with clipped shares or without."""
    for scale in (1e3, 1e6, 1e9):
        found = kde_target(SPREAD.at[0].multiply(scale))
        assert np.isfinite(found).all() and found.min() > 1e-3
        np.testing.assert_allclose(found, kde_target(SPREAD.at[0].set(9e3)), atol=1e-3)
    np.testing.assert_array_equal(softmax_target(SPREAD.at[0].set(1e3)), [1, 0, 0, 0])


@few
@given(scores=some_scores, scale=st.sampled_from([0.5, 3.0, 100.0]), shift=st.sampled_from([-2.0, 0.0, 7.0]))
@pytest.mark.parametrize("name", ["kde", "rank", "standardized"])
def test_invariant_to_scale_and_shift_and_keeps_the_order(name, scores, scale, shift):
    """Check 6, up to what float32 keeps of the shifted scores."""
    target = COMPILED[name](scores)
    np.testing.assert_allclose(COMPILED[name](scale * scores + shift), target, rtol=2e-3, atol=1e-5)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(np.asarray(target)[order]) >= -1e-5).all()


@every_target
@few
@given(scores=some_scores, mask=arrays.arrays(np.bool_, 5))
def test_rows_sum_to_one_and_masked_candidates_do_not_exist(name, scores, mask):
    """Also with NaN where nothing is: the others get what they would get alone."""
    hidden = np.where(mask, scores, np.nan)
    target = np.asarray(COMPILED[name](hidden, mask=mask))
    assert (target[~mask] == 0).all() and np.isfinite(target).all()
    np.testing.assert_allclose(target.sum(), float(mask.any()), atol=1e-5)
    other = np.asarray(COMPILED[name](np.where(mask, scores, 7.0), mask=mask))
    np.testing.assert_array_equal(target, other)


@every_target
def test_a_mask_is_the_same_as_a_smaller_set(name):
    alone = COMPILED[name](SPREAD[:3])
    padded = COMPILED[name](np.append(SPREAD[:3], np.inf).astype(np.float32), mask=np.array([1, 1, 1, 0]))
    assert_close(padded[:3], alone)


@every_target
def test_sets_are_independent(name):
    sets = np.stack([SPREAD, WORKED])
    assert_close(jax.jit(jax.vmap(TARGETS[name]))(sets), COMPILED[name](sets))


@every_target
@pytest.mark.parametrize("scores", [[0.7] * 8, [1000.1] * 7, [-1e6] * 3, [3.0]], ids=str)
def test_equal_scores_make_a_uniform_target(name, scores):
    assert_close(COMPILED[name](np.array(scores, np.float32)), np.full(len(scores), 1 / len(scores)))


@every_target
def test_no_gradient_and_no_empty_axis(name):
    assert not jax.jit(jax.grad(lambda scores: TARGETS[name](scores)[0]))(SPREAD).any()
    with pytest.raises(ValueError, match=r"at least one candidate along the last axis, got shape \(2, 0\)"):
        TARGETS[name](jnp.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"got shape \(\)"):
        TARGETS[name](jnp.zeros(()))


@pytest.mark.slow
@pytest.mark.parametrize("scores", [[3, 1, 2], [True, False, False]], ids=["integers", "booleans"])
def test_scores_that_are_not_floating(scores):
    for target in (softmax_target, kde_target, rank_target):
        np.testing.assert_allclose(target(jnp.array(scores)), target(jnp.array(scores, jnp.float32)), rtol=1e-6)


def test_ranks():
    """Best first of four: shares 7/8, 5/8, 3/8, 1/8; equal scores share the mean of their ranks."""
    share = np.array([7, 1, 3, 5]) / 8
    np.testing.assert_allclose(rank_target(SPREAD), jax.nn.softmax(2 * np.log(share / (1 - share))), rtol=1e-5)
    tied = np.array([3, 1, 1, 3]) / 4
    np.testing.assert_allclose(rank_target(WORKED), jax.nn.softmax(2 * np.log(tied / (1 - tied))), rtol=1e-5)


def test_the_teacher_over_its_anchor():
    """Times the anchor's power it is the teacher: what the anchored losses end at."""
    teacher, anchor = jax.nn.log_softmax(jnp.array([1.0, 0.0, -2.0])), jax.nn.log_softmax(jnp.array([0.0, 0.5, 1.0]))
    for temperature in (0.5, 1.0, 2.0):
        target = teacher_over_anchor_target(teacher, anchor, temperature)
        end = jax.nn.log_softmax(anchor + temperature * jnp.log(target))
        np.testing.assert_allclose(end, teacher, atol=1e-5)
    np.testing.assert_allclose(teacher_over_anchor_target(teacher), jnp.exp(teacher), rtol=1e-5)
    ruled_out = teacher_over_anchor_target(jnp.array([-1.0, -jnp.inf, -2.0]), anchor)
    assert ruled_out[1] == 0
    assert_close(ruled_out.sum(), 1.0)


@pytest.mark.slow
def test_temperature_per_set():
    both = softmax_target(jnp.stack([WORKED, WORKED]), jnp.array([[0.5], [2.0]]))
    assert_close(both[1], softmax_target(WORKED, 2.0))
    for target in (kde_target, rank_target):
        assert_close(target(jnp.stack([SPREAD] * 2), jnp.array([[0.5], [2.0]]))[1], target(SPREAD, 2.0))


@pytest.mark.parametrize(
    ("name", "value"),
    # A last bit of 10,000 is 0.001, a difference like any other where nothing is divided.
    [*((name, value) for name in TARGETS for value in (0.3, -5.1)), ("standardized", 1e4), ("kde", 1e4), ("rank", 1e4)],
)
def test_scores_that_differ_by_rounding_alone_have_a_uniform_target(name, value):
    """However small the deviation that they are divided by, and whichever of them is the larger."""
    value = np.float32(value)
    scores = np.array([value, np.nextafter(value, np.float32(np.inf))])[[0, 1, 1, 0, 1]]
    assert_close(TARGETS[name](scores), np.full(5, 0.2), 1e-2)


def test_scores_that_round_apart_share_their_rank_beside_others():
    tied = rank_target(jnp.array([0.1, 0.3, 0.3, 0.5]))
    apart = rank_target(jnp.array([0.1, 0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.5]))
    np.testing.assert_array_equal(tied, apart)
