"""Divergences of a student from a teacher: worked numbers, loops in double precision, limits, whole responses."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses

STUDENT, TEACHER = np.log([0.5, 0.3, 0.2]), np.log([0.1, 0.8, 0.1])
LONG_STUDENT, LONG_TEACHER = np.log([0.5, 0.3, 0.15, 0.05]), np.log([0.1, 0.7, 0.05, 0.15])


def reference(p, q, interpolation):
    """The divergence of two rows of probabilities, and its gradient in the logits of the first, in double precision."""
    value, pull = 0.0, []
    mixed = [(1 - interpolation) * a + interpolation * b for a, b in zip(p, q, strict=True)]
    for a, b, m in zip(p, q, mixed, strict=True):
        if interpolation == 0:
            value, slope = value + b * (math.log(b) - math.log(a)), -b / a
        elif interpolation == 1:
            value, slope = value + a * (math.log(a) - math.log(b)), math.log(a) - math.log(b) + 1
        else:
            value += (1 - interpolation) * a * math.log(a / m) + interpolation * b * math.log(b / m)
            slope = (1 - interpolation) * math.log(a / m)
        pull.append(slope)
    mean = sum(a * s for a, s in zip(p, pull, strict=True))
    return value, [a * (s - mean) for a, s in zip(p, pull, strict=True)]


@jax.jit
def divergences(logits, teacher):
    """By interpolation, value and gradient in the logits."""

    def of(interpolation):
        def total(logits):
            found = losses.teacher_divergence(jax.nn.log_softmax(logits), teacher, interpolation)
            return jnp.sum(found), found

        slope, value = jax.grad(total, has_aux=True)(logits)
        return value, slope

    return {interpolation: of(interpolation) for interpolation in (0.0, 0.1, 0.5, 0.9, 1.0)}


@pytest.mark.parametrize(
    ("interpolation", "value", "slope"),
    [
        (0.0, 0.554405, [0.400000, -0.500000, 0.100000]),
        (1.0, 0.649100, [0.480169, -0.488979, 0.008810]),
        (0.5, 0.140228, [0.094929, -0.110587, 0.015657]),
    ],
)
def test_the_worked_example(interpolation, value, slope):
    found = divergences(jnp.asarray(STUDENT, jnp.float32), jnp.asarray(TEACHER, jnp.float32))[interpolation]
    assert found[0] == pytest.approx(value, abs=1e-5)
    np.testing.assert_allclose(found[1], slope, atol=1e-5)


def test_values_and_gradients_are_those_of_a_loop_over_choices():
    draw = np.random.default_rng(0)
    logits, teacher = draw.normal(size=(2, 20, 9)) * 3
    teacher -= np.log(np.exp(teacher).sum(-1, keepdims=True))
    found = divergences(jnp.asarray(logits, jnp.float32), jnp.asarray(teacher, jnp.float32))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for interpolation, (values, slopes) in found.items():
        expected = [reference(p, q, interpolation) for p, q in zip(probs, np.exp(teacher), strict=True)]
        np.testing.assert_allclose(values, [value for value, _ in expected], rtol=1e-5, atol=3e-6)
        np.testing.assert_allclose(slopes, [slope for _, slope in expected], rtol=1e-4, atol=3e-6)


def test_limits_of_the_mixture():
    """Divided by its share the mixture's divergence tends to the one direction or the other; at a half it is symmetric."""
    with jax.enable_x64(True):
        student, teacher = jnp.asarray(STUDENT), jnp.asarray(TEACHER)
        forward = losses.jensen_shannon(student, teacher, 1e-6) / 1e-6
        backward = losses.jensen_shannon(student, teacher, 1 - 1e-6) / 1e-6
        assert forward == pytest.approx(0.554405, abs=1e-5) and backward == pytest.approx(0.649100, abs=1e-5)
        half = losses.jensen_shannon(student, teacher), losses.jensen_shannon(teacher, student)
        assert half[0] == pytest.approx(float(half[1]), abs=1e-12)
        far = losses.jensen_shannon(jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0]))
        assert far == pytest.approx(math.log(2), abs=1e-12)


def test_a_teacher_who_agrees_pulls_nowhere_and_is_never_pulled():
    student = jnp.asarray(LONG_STUDENT, jnp.float32)
    for value, slope in divergences(student, student).values():
        assert abs(float(value)) < 3e-7 and np.abs(slope).max() < 3e-7
    for interpolation in (0.0, 0.3, 1.0):
        slope = jax.grad(losses.teacher_divergence, argnums=1)(student, jnp.asarray(LONG_TEACHER), interpolation)
        np.testing.assert_array_equal(slope, np.zeros(4))


def test_choices_that_cannot_be_drawn_have_no_gradient():
    student, teacher = jnp.array([math.log(0.5)] * 2 + [-jnp.inf]), jnp.array([-jnp.inf, 0.0, -jnp.inf])
    value, slope = jax.value_and_grad(losses.forward_kl)(student, teacher)
    assert value == pytest.approx(math.log(2)) and np.isfinite(slope).all() and slope[2] == 0
    value, slope = jax.value_and_grad(losses.jensen_shannon)(student, teacher)
    assert np.isfinite(value) and np.isfinite(slope).all() and slope[2] == 0
    assert losses.reverse_kl(student, teacher) == jnp.inf


@pytest.mark.parametrize(("tail", "value"), [(True, 0.113917), (False, 0.142397)])
def test_the_likeliest_choices_of_the_worked_example(tail, value):
    buckets = losses.likeliest_buckets(LONG_STUDENT, LONG_TEACHER, 2, tail)
    np.testing.assert_allclose(np.exp(buckets).sum(axis=-1), 1, rtol=1e-6)
    assert losses.jensen_shannon(*buckets) == pytest.approx(value, abs=1e-5)
    assert losses.jensen_shannon(LONG_STUDENT, LONG_TEACHER) == pytest.approx(0.140080, abs=1e-5)


@pytest.mark.slow
def test_buckets_lose_divergence_and_all_choices_are_the_whole():
    draw = np.random.default_rng(1)
    logits, teacher = (jax.nn.log_softmax(2 * each) for each in draw.normal(size=(2, 30, 6)).astype(np.float32))

    def total(logits, count):
        own = jax.nn.log_softmax(logits)
        pair = (own, teacher) if count is None else losses.likeliest_buckets(own, teacher, count)
        found = losses.jensen_shannon(*pair)
        return jnp.sum(found), found

    run = jax.jit(lambda logits: [jax.grad(total, has_aux=True)(logits, count) for count in (None, 2, 6, 9)])
    (slope, whole), (_, few), *complete = run(logits)
    assert np.all(few <= whole + 1e-6) and np.mean(whole - few) > 0.01
    for other_slope, other in complete:  # the tail has the mass that is left of rounding
        np.testing.assert_allclose(other, whole, atol=2e-6)
        np.testing.assert_allclose(other_slope, slope, atol=2e-6)


def test_the_forward_divergence_is_adpos_distillation_less_the_teachers_entropy():
    """ADPO with all choices as candidates, a uniform anchor and a temperature of 1, and the teacher as its target."""
    logits, teacher = np.random.default_rng(2).normal(size=(2, 5, 7))
    target = losses.softmax_target(jnp.asarray(teacher, jnp.float32), 1.0)

    def anchored(logits):
        own = losses.anchored_logits(jax.nn.log_softmax(logits), 0.0, 1.0)
        return jnp.sum(losses.anchored_loss(own, target) - losses.probability_entropy(target))

    def forward(logits):
        return jnp.sum(losses.forward_kl(jax.nn.log_softmax(logits), jnp.log(target)))

    run = jax.jit(lambda logits: (jax.value_and_grad(anchored)(logits), jax.value_and_grad(forward)(logits)))
    (value, slope), (own_value, own_slope) = run(jnp.asarray(logits, jnp.float32))
    assert value == pytest.approx(float(own_value), rel=1e-5)
    np.testing.assert_allclose(slope, own_slope, atol=1e-6)


def test_sampled_tokens_have_the_reverse_divergences_gradient_on_average():
    student, teacher = jnp.asarray(STUDENT), jnp.asarray(TEACHER)
    sampled = jax.jacobian(lambda logits: losses.sampled_reverse_kl(jax.nn.log_softmax(logits), teacher))(student)
    exact = divergences(student, teacher)[1.0][1]
    np.testing.assert_allclose(np.exp(STUDENT) @ sampled, exact, atol=1e-6)


def test_token_divergences_and_returns_make_the_gradient_of_whole_responses():
    """MiniLLM's decomposition, over all responses of two tokens, against finite differences in double precision."""
    draw = np.random.default_rng(3)
    logits, teacher = draw.normal(size=(2, 4, 3))  # row 0 for the first token, row 1 + y for what follows y
    every = np.array(list(itertools.product(range(3), repeat=2)))
    rows = np.stack([np.zeros(9, int), 1 + every[:, 0]], axis=1)

    def log_softmax(values):
        return values - np.log(np.exp(values).sum(-1, keepdims=True))

    def whole(logits):
        p, q = (log_softmax(each)[rows, every].sum(axis=1) for each in (logits, teacher))
        return np.sum(np.exp(p) * (p - q))

    numeric = np.zeros(logits.shape)
    for place in np.ndindex(*logits.shape):
        step = np.zeros(logits.shape)
        step[place] = 1e-5
        numeric[place] = (whole(logits + step) - whole(logits - step)) / 2e-5

    def loss(values):
        own, other = jax.nn.log_softmax(values)[rows], jax.nn.log_softmax(teacher)[rows]
        logp, teacher_logp = (jnp.take_along_axis(each, every[..., None], -1)[..., 0] for each in (own, other))
        later = losses.distillation_returns(logp, teacher_logp, np.ones((9, 2)), normalize=False)
        chance = jax.lax.stop_gradient(jnp.exp(jnp.sum(logp, axis=1)))
        return jnp.sum(chance[:, None] * (losses.reverse_kl(own, other) - later * logp))

    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(loss))(jnp.asarray(logits))
    np.testing.assert_allclose(slope, numeric, atol=1e-7)


def test_returns_are_of_later_tokens_alone_and_masked_ones_are_none():
    logp, other = np.array([[-1.0, -2, -1, np.nan]]), np.array([[-3.0, -1, -0.5, np.nan]])
    mask = np.array([[1, 1, 1, 0]])
    np.testing.assert_allclose(losses.distillation_returns(logp, other, mask, False), [[1.5, 0.5, 0, 0]])
    np.testing.assert_allclose(losses.distillation_returns(logp, other, mask), [[0.75, 0.5, 0, 0]])


def test_weights_are_held_below_their_bound():
    old = jnp.log(jnp.array([0.5, 0.4, 0.1]))
    new = jnp.log(jnp.array([0.5, 0.2, 0.9]))
    np.testing.assert_allclose(losses.truncated_weight(new, old), [1, 0.5, 2], rtol=1e-6)
    assert np.all(jax.grad(lambda values: jnp.sum(losses.truncated_weight(values, old)))(new) == 0)
