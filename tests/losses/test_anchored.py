"""Anchored losses: the sheet's numbers, the methods that they contain, where they end, and what never matters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close

from maxent_rl.losses import (
    anchored_logits,
    anchored_loss,
    anchored_pair_loss,
    falling_temperature,
    masked_mean,
    plackett_luce_loss,
    smooth_temperature,
    soft_policy_loss,
    softmax_target,
    teacher_over_anchor_target,
)

LOG_PROB, ANCHOR = jnp.array([-2.0, -1.5, -3.0, -2.5]), jnp.array([-2.2, -1.4, -2.9, -2.6])
LOGITS = jnp.array([0.25, -0.125, -0.125, 0.125])
RANKING = jnp.array([0.9, 0.1, 0.4, 0.6])
TARGET = softmax_target(jnp.array([1.0, 0.0, 0.0, 1.0]), 0.5, standardize=True)
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
rows = arrays.arrays(np.float32, 4, elements=st.floats(-8, 0, width=32))
few = settings(max_examples=25, deadline=None)


def listwise(log_prob, anchor=0.0, target=TARGET, temperature=0.8):
    return anchored_loss(anchored_logits(log_prob, anchor, temperature), target)


LOSSES = {
    "listwise": lambda logits, mask=None: anchored_loss(logits, TARGET, mask),
    "hard pairs": lambda logits, mask=None: masked_mean(*anchored_pair_loss(logits, RANKING, mask=mask)),
    "soft pairs": lambda logits, mask=None: masked_mean(*anchored_pair_loss(logits, RANKING, 0.5, mask)),
    "ranking": lambda logits, mask=None: plackett_luce_loss(logits, RANKING, 2, 0.1, 1.0, mask),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
COMPILED = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}
value_and_slope = jax.jit(jax.value_and_grad(listwise))


@pytest.mark.slow
@wraps
def test_worked_example(wrap):
    np.testing.assert_allclose(wrap(lambda x: anchored_logits(x, ANCHOR, 0.8))(LOG_PROB), LOGITS, atol=1e-6)
    loss, slope = wrap(jax.value_and_grad(listwise))(LOG_PROB, ANCHOR)
    np.testing.assert_allclose(loss, 1.252814, atol=1e-5)
    np.testing.assert_allclose(slope, [-0.222251, 0.244798, 0.244798, -0.267346], atol=1e-5)
    p = jax.nn.softmax(LOGITS)
    np.testing.assert_allclose(p, [0.307024, 0.211014, 0.211014, 0.270948], atol=1e-5)
    np.testing.assert_allclose(loss + jnp.sum(TARGET * jnp.log(TARGET)), 0.423707, atol=1e-5)


@wraps
def test_worked_example_of_a_pair(wrap):
    scores = jnp.array([1.0, 0.2])
    np.testing.assert_allclose(jax.nn.sigmoid(0.8 / 0.5), 0.832018, atol=1e-5)
    for temperature, value in ((0.5, 0.586116), (None, 0.523123)):
        loss, weight = wrap(lambda u, t=temperature: anchored_pair_loss(u, scores, t))(LOGITS[:2])
        np.testing.assert_allclose([loss[0], weight[0]], [value, 1.0], atol=1e-5)


@pytest.mark.slow
@wraps
def test_worked_example_of_a_ranking(wrap):
    np.testing.assert_allclose(wrap(plackett_luce_loss)(LOGITS, RANKING), 0.937682, atol=1e-5)
    terms = [1.180830, 0.939070, 0.693147]
    for top_k in (1, 2, 3, 9):
        found = wrap(lambda u, s, k=top_k: plackett_luce_loss(u, s, k))(LOGITS, RANKING)
        np.testing.assert_allclose(found, np.mean(terms[:top_k]), atol=1e-5)


def test_worked_example_of_the_temperature():
    np.testing.assert_allclose(smooth_temperature(0.3, 0.2), 1.368, atol=1e-5)
    np.testing.assert_allclose(smooth_temperature(9.0, 0.2), 1.2, atol=1e-6)  # an entropy is at most its maximum
    assert smooth_temperature(0.0, 0.0, base=4.0) == 5.0 and smooth_temperature(0.0, 1.0, base=0.01) == np.float32(0.1)
    assert jax.grad(smooth_temperature)(0.3, 0.2) == 0


def test_the_earlier_rule_falls_with_the_entropy_of_the_target():
    uniform, certain, half = jnp.full(4, 0.25), jnp.array([1.0, 0, 0, 0]), jnp.array([0.5, 0.5, 0, 0])
    found = falling_temperature(jnp.stack([uniform, certain, half]))
    np.testing.assert_allclose(found, [[0.1], [0.8], [0.4]], atol=1e-6)
    assert not jax.grad(lambda target: falling_temperature(target)[0])(half).any()


@few
@given(log_prob=rows, anchor=rows, shift=st.sampled_from([-5.0, 3.0]))
def test_constants_of_a_set_cancel(log_prob, anchor, shift):
    """Check 1: in value and gradient, on either side; rows of the gradient sum to 0."""
    value, slope = value_and_slope(log_prob, anchor)
    for shifted in ((log_prob + shift, anchor), (log_prob, anchor + shift)):
        other = value_and_slope(*shifted)
        np.testing.assert_allclose(other[0], value, rtol=1e-4)
        np.testing.assert_allclose(other[1], slope, atol=1e-4)
    np.testing.assert_allclose(slope.sum(), 0.0, atol=1e-5)


@every_loss
@few
@given(logits=rows)
def test_every_loss_has_gradients_that_sum_to_zero_and_is_not_negative(name, logits):
    value, slope = COMPILED[name](logits)
    assert value >= 0
    np.testing.assert_allclose(slope.sum(), 0.0, atol=1e-5)
    np.testing.assert_allclose(COMPILED[name](logits + 4.0)[0], value, rtol=1e-4, atol=1e-5)


@few
@given(logits=rows, target=rows)
def test_at_least_the_entropy_of_the_target(logits, target):
    """Check 2, with equality where the policy is the target."""
    target = jax.nn.softmax(target)
    entropy = -jnp.sum(target * jnp.log(target))
    assert anchored_loss(logits, target) >= entropy - 1e-5
    assert_close(anchored_loss(jnp.log(target), target), entropy, scale=np.log(4))  # near 0 where one is nearly certain


def test_a_policy_that_is_its_anchor():
    """Check 2: log P for every target; no gradient where the target is uniform."""
    value, slope = jax.value_and_grad(listwise)(LOG_PROB, LOG_PROB)
    assert_close(value, np.log(4))
    assert_close(slope, (0.25 - TARGET) / 0.8)
    np.testing.assert_allclose(jax.grad(listwise)(LOG_PROB, LOG_PROB, jnp.full(4, 0.25)), np.zeros(4), atol=1e-7)


@pytest.mark.parametrize("label", [0, 2])
def test_supervised_learning_is_a_one_hot_target(label):
    """Check 3, second half: uniform anchor, temperature 1."""
    found = jax.value_and_grad(lambda logits: listwise(logits, 0.0, jax.nn.one_hot(label, 4), 1.0))(3 * LOG_PROB)
    expected = jax.value_and_grad(optax.softmax_cross_entropy_with_integer_labels)(3 * LOG_PROB, label)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_a_teacher_and_a_uniform_anchor(temperature):
    """The divergence from the teacher to the student at temperature T, up to the teacher's entropy."""
    teacher, student = jnp.array([2.0, -1.0, 0.5, 0.0]), LOG_PROB

    def divergence(student):
        targets = jax.nn.softmax(teacher / temperature)
        return optax.losses.kl_divergence(jax.nn.log_softmax(student / temperature), targets)

    target = softmax_target(teacher, temperature)
    entropy = -jnp.sum(target * jnp.log(target))
    value, slope = jax.value_and_grad(listwise)(student, 0.0, target, temperature)
    np.testing.assert_allclose(value - entropy, divergence(student), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(divergence)(student), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_maximum_entropy_is_a_boltzmann_target(alpha):
    """Target softmax(Q / alpha), uniform anchor, temperature 1: it ends where the soft policy loss does, in expectation."""
    q = jnp.array([1.0, -0.5, 0.3, 0.0])

    def soft(logits):
        log_prob = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.exp(log_prob) * soft_policy_loss(q, log_prob, alpha))

    def anchored(logits):
        return listwise(jax.nn.log_softmax(logits), 0.0, softmax_target(q, alpha), 1.0)

    def end(loss):
        return jax.jit(lambda x: jax.lax.fori_loop(0, 3000, lambda _, x: x - 2 * jax.grad(loss)(x), x))(jnp.zeros(4))

    ends = [jax.nn.softmax(end(loss)) for loss in (soft, anchored)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-5)
    np.testing.assert_allclose(ends[1], jax.nn.softmax(q / alpha), atol=1e-5)


def test_curvature():
    """Check 4: (diag p - p p^T) / temperature^2 at the optimum, four times as much at half the temperature."""

    def hessian(temperature):
        best = ANCHOR + temperature * jnp.log(TARGET)
        return jax.hessian(lambda x: listwise(x, ANCHOR, TARGET, temperature))(best)

    wide = jax.jit(hessian)(0.8)
    np.testing.assert_allclose(wide, (jnp.diag(TARGET) - jnp.outer(TARGET, TARGET)) / 0.64, atol=1e-5)
    np.testing.assert_allclose(jax.jit(hessian)(0.4), 4 * wide, rtol=1e-4, atol=1e-5)


def test_a_table_ends_at_the_anchor_times_a_power_of_the_target():
    """Check 5, with the optimum of the worked example."""

    def step(_, logits):
        return logits - jax.grad(lambda x: listwise(jax.nn.log_softmax(x), ANCHOR))(logits)

    end = jax.jit(lambda x: jax.lax.fori_loop(0, 1500, step, x))(jnp.zeros(4))
    np.testing.assert_allclose(jax.nn.softmax(end), [0.543279, 0.075667, 0.016884, 0.364171], atol=1e-5)
    np.testing.assert_allclose(jax.nn.softmax(ANCHOR + 0.8 * jnp.log(TARGET)), jax.nn.softmax(end), atol=1e-5)


GRID = jnp.linspace(-4.0, 4.0, 161)  # dense and fixed: no candidate is drawn more often than another


def gaussian(mean, std):
    return jax.scipy.stats.norm.logpdf(GRID, mean, std)


@pytest.mark.parametrize(
    ("anchor", "temperature", "corrected", "mean", "std"),
    [
        ((-0.5, 1.0), 1.0, False, 0.7, 0.447214),
        ((-0.5, 1.0), 0.5, False, 0.5, 0.577350),
        (None, 1.0, False, 1.0, 0.5),
        ((-0.5, 1.0), 1.0, True, 1.0, 0.5),
        ((-0.5, 1.0), 0.5, True, 1.0, 0.5),
    ],
)
def test_gaussians_end_at_the_known_fixed_points(anchor, temperature, corrected, mean, std):
    """Check 5: between anchor and teacher with the teacher as target, at the teacher with the corrected one."""
    teacher = gaussian(1.0, 0.5)
    anchored_to = jnp.zeros_like(GRID) if anchor is None else gaussian(*anchor)
    target = (
        teacher_over_anchor_target(teacher, anchored_to, temperature) if corrected else softmax_target(teacher, 1.0)
    )
    adam = optax.adam(optax.exponential_decay(0.05, 1500, 0.01))

    @jax.jit
    def learn(params):
        def step(state, _):
            params, moments = state
            slope = jax.grad(lambda p: listwise(gaussian(p[0], jnp.exp(p[1])), anchored_to, target, temperature))(
                params
            )
            moves, moments = adam.update(slope, moments)
            return (params + moves, moments), None

        return jax.lax.scan(step, (params, adam.init(params)), length=1500)[0][0]

    found = learn(jnp.array([-0.5, 0.0]))
    np.testing.assert_allclose([found[0], jnp.exp(found[1])], [mean, std], atol=1e-4)


def test_clips():
    apart = jnp.array([0.0, -30.0, 3.0])
    np.testing.assert_array_equal(anchored_logits(apart, 0.0, 0.5, largest_ratio=5.0), [0.0, -10.0, 6.0])
    np.testing.assert_array_equal(anchored_logits(apart, 0.0, 0.5, largest=10.0), [0.0, -10.0, 6.0])
    slope = jax.grad(lambda x: anchored_logits(x, 0.0, 0.5, largest_ratio=5.0).sum())(apart)
    np.testing.assert_array_equal(slope, [2.0, 0.0, 2.0])


def test_what_is_held_constant():
    others = jax.grad(lambda anchor, target, tau: listwise(LOG_PROB, anchor, target, tau), (0, 1, 2))(
        ANCHOR, TARGET, 0.8
    )
    assert all(not jnp.any(slope) for slope in others)
    pairs = jax.grad(lambda scores: anchored_pair_loss(LOGITS, scores, 0.5)[0].sum())(RANKING)
    ranking = jax.grad(lambda scores: plackett_luce_loss(LOGITS, scores))(RANKING)
    assert not pairs.any() and not ranking.any()


@every_loss
def test_slopes_are_those_of_finite_differences(name):
    slope = COMPILED[name](LOGITS)[1]
    for index in range(4):
        step = jnp.zeros(4).at[index].set(0.02)
        numeric = (COMPILED[name](LOGITS + step)[0] - COMPILED[name](LOGITS - step)[0]) / 0.04
        np.testing.assert_allclose(slope[index], numeric, atol=1e-3)


@every_loss
def test_masked_candidates_do_not_exist(name):
    """NaN or anything else there: the same value and gradient; as many pairs and places as without them."""
    mask = np.array([True, True, False, True])
    reference = COMPILED[name](LOGITS, mask)
    for hidden in (jnp.nan, jnp.inf, 77.0):
        value, slope = COMPILED[name](LOGITS.at[2].set(hidden), mask)
        assert value == reference[0] and np.isfinite(value)
        np.testing.assert_array_equal(slope, reference[1])
        assert slope[2] == 0


def test_nan_reaches_nothing_from_the_log_probabilities_down():
    """A loss taken from the policy's outputs on: the gradient of what is masked is 0, not NaN."""
    mask = jnp.array([True, False, True, True])

    def loss(log_prob):
        logits = anchored_logits(log_prob, ANCHOR.at[1].set(jnp.nan), 0.8, largest_ratio=5.0, largest=10.0)
        target = softmax_target(RANKING.at[1].set(jnp.nan), mask=mask)
        pairs, weight = anchored_pair_loss(logits, RANKING.at[1].set(jnp.nan), 0.5, mask)
        ranking = plackett_luce_loss(logits, RANKING.at[1].set(jnp.nan), mask=mask)
        return anchored_loss(logits, target, mask) + masked_mean(pairs, weight) + ranking

    value, slope = jax.jit(jax.value_and_grad(loss))(LOG_PROB.at[1].set(jnp.nan))
    assert np.isfinite(value) and np.isfinite(slope).all() and slope[1] == 0


@pytest.mark.slow
def test_a_mask_is_the_same_as_a_smaller_set():
    keep = np.array([0, 1, 3])

    @jax.jit
    def all_losses(logits, scores, mask=None):
        pairs, weight = anchored_pair_loss(logits, scores, mask=mask)
        listwise = anchored_loss(logits, softmax_target(scores, mask=mask), mask)
        return listwise, plackett_luce_loss(logits, scores, mask=mask), masked_mean(pairs, weight), jnp.sum(weight)

    masked = all_losses(LOGITS, RANKING, np.array([True, True, False, True]))
    assert_close(masked, all_losses(LOGITS[keep], RANKING[keep]))
    assert masked[-1] == 3


@every_loss
def test_sets_of_nothing(name):
    value, slope = COMPILED[name](LOGITS, np.zeros(4, bool))
    assert value == 0 and not slope.any()


@pytest.mark.slow
def test_sets_of_one():
    for function in (lambda u: anchored_loss(u, jnp.ones(1)), lambda u: plackett_luce_loss(u, jnp.ones(1))):
        value, slope = jax.value_and_grad(function)(jnp.array([3.0]))
        assert value == 0 and slope == 0
    loss, weight = anchored_pair_loss(jnp.array([3.0]), jnp.ones(1))
    assert loss.shape == weight.shape == (0,) and masked_mean(loss, weight) == 0


def test_ties():
    """Hard labels drop them; soft ones say one half; a ranking keeps the order of the set."""
    loss, weight = anchored_pair_loss(LOGITS, jnp.ones(4))
    assert not weight.any() and not loss.any() and masked_mean(loss, weight) == 0
    loss, weight = anchored_pair_loss(jnp.zeros(4), jnp.ones(4), 0.5)
    np.testing.assert_allclose(loss, np.full(6, np.log(2)), rtol=1e-6)
    assert weight.all()
    ordered = plackett_luce_loss(LOGITS, jnp.arange(4, 0, -1))
    assert plackett_luce_loss(LOGITS, jnp.ones(4)) == ordered


def test_an_impossible_candidate_that_is_not_wanted_costs_nothing():
    """0 log 0 = 0: a one-hot target and a policy that rules a candidate out."""
    value, slope = jax.value_and_grad(anchored_loss)(jnp.array([0.0, -jnp.inf, -1.0]), jnp.array([1.0, 0.0, 0.0]))
    assert_close(value, np.log1p(np.exp(-1.0)))
    np.testing.assert_allclose(slope, [-0.268941, 0.0, 0.268941], atol=1e-5)
    assert anchored_loss(jnp.array([0.0, -jnp.inf]), jnp.array([0.5, 0.5])) == np.inf


def test_smoothing_and_poly_of_the_ranking():
    """By hand, place by place, in the order of the authors' code: smoothed first."""
    order = np.argsort(-RANKING)
    u = np.asarray(LOGITS, np.float64)[order]
    terms = []
    for place in range(3):
        normalizer = np.log(np.exp(u[place:]).sum())
        term = 0.9 * (normalizer - u[place]) + 0.1 * (normalizer - u[place:].mean())
        terms.append(term + 0.5 * (1 - np.exp(-min(term, 20))))
    np.testing.assert_allclose(plackett_luce_loss(LOGITS, RANKING, None, 0.1, 0.5), np.mean(terms), rtol=1e-5)


@pytest.mark.slow
def test_batches_are_independent():
    batch, targets = jnp.stack([LOGITS, 2 * LOGITS, -LOGITS]), jnp.stack([TARGET, TARGET[::-1], jnp.full(4, 0.25)])

    def all_losses(logits, targets, temperatures):
        scores = 3 * targets
        return (
            anchored_logits(logits, 0.0, temperatures),
            anchored_loss(logits, targets),
            anchored_pair_loss(logits, scores),
            plackett_luce_loss(logits, scores),
        )

    arguments = batch, targets, jnp.array([[0.5], [1.0], [2.0]])
    together, mapped = jax.jit(all_losses)(*arguments), jax.jit(jax.vmap(all_losses))(*arguments)
    assert_close(together, mapped)
    np.testing.assert_allclose(together[0][2], -LOGITS / 2, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_bad_arguments_are_named(shape):
    for function in (anchored_loss, anchored_pair_loss, plackett_luce_loss):
        with pytest.raises(ValueError, match="at least one candidate along the last axis"):
            function(jnp.zeros(shape), jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"top_k of at least 1, or None for all places, got 0"):
        plackett_luce_loss(LOGITS, RANKING, top_k=0)


def test_hard_pairs_of_scores_that_round_apart_are_ties():
    scores = jnp.array([0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.3 + 1e-5])
    loss, weight = anchored_pair_loss(jnp.array([1.0, -1.0, 0.5]), scores)
    np.testing.assert_array_equal(weight, [0, 1, 1])
    assert loss[0] == 0


def test_a_policy_as_far_from_the_anchor_everywhere_is_not_divided_by_rounding():
    """Standardised, the differences are all the same, and so is the pull on each: none is blown up."""
    log_prob = jnp.array([-1.1, -2.3, -0.7, -5.2])

    def loss(log_prob):
        return anchored_loss(
            anchored_logits(log_prob, log_prob - 0.3, standardize=True), jnp.array([0.7, 0.1, 0.1, 0.1])
        )

    np.testing.assert_allclose(jax.grad(loss)(log_prob), [-0.45, 0.15, 0.15, 0.15], rtol=1e-4)
