"""Categorical values: the sheet's numbers, what projections keep, gradients, constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.closeness import assert_close, rounding

from maxent_rl import losses

FIVE = losses.support(-5.0, 5.0, 5)
HUNDRED = losses.support(-5.0, 5.0, 101)
NEXT = jnp.array([0.1, 0.2, 0.4, 0.2, 0.1])
LOGITS = jnp.array([0.0, 1.0, 2.0, 1.0, 0.0])
TARGET = [0.0492, 0.1692, 0.3584, 0.2816, 0.1416]
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
project = jax.jit(losses.project_onto_support)
histogram = jax.jit(losses.gaussian_histogram)
two_hot = jax.jit(losses.two_hot)


def soft_target(reward, terminated, log_prob):
    """With a temperature of 0.5 and a discount of 0.9."""
    return losses.soft_categorical_target(reward, 0.9, terminated, NEXT, log_prob, 0.5, FIVE)


def test_the_support_has_both_ends_and_equal_gaps():
    np.testing.assert_array_equal(FIVE, [-5, -2.5, 0, 2.5, 5])
    np.testing.assert_allclose(np.diff(losses.support(0.0, 150.0, 151)), 1.0, atol=2e-5)  # a rounding of 150


@pytest.mark.parametrize(("low", "high", "count"), [(0.0, 1.0, 1), (1.0, 1.0, 5), (2.0, -2.0, 5)])
def test_no_support_without_two_atoms_in_order(low, high, count):
    with pytest.raises(ValueError, match="Expected"):
        losses.support(low, high, count)


@pytest.mark.slow
@wraps
def test_the_soft_target_by_hand(wrap):
    """A step that goes on, one that terminated, one whose reward leaves the range, and the same without entropy."""
    reward, terminated = jnp.array([0.5, 0.5, 6.0, 6.0]), jnp.array([0.0, 1.0, 0.0, 0.0])
    found = wrap(soft_target)(reward, terminated, jnp.array([-0.6, -0.6, -0.6, 0.0]))
    wanted = [TARGET, [0, 0, 0.8, 0.2, 0], [0, 0, 0.0292, 0.1492, 0.8216], [0, 0, 0.04, 0.16, 0.8]]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(found @ FIVE, [0.743, 0.5, 4.481, 4.4], rtol=1e-5)


@pytest.mark.slow
def test_the_soft_target_is_constant():
    def total(*arguments):
        return jnp.sum(losses.soft_categorical_target(*arguments) * jnp.arange(5.0))

    gradients = jax.grad(total, argnums=range(7))(0.5, 0.9, 0.0, NEXT, -0.6, 0.5, FIVE)
    assert all(not np.any(gradient) for gradient in gradients)


@pytest.mark.slow
def test_each_step_has_its_own_discount_and_temperature():
    discount, temperature = jnp.array([0.9, 0.81]), jnp.array([0.5, 0.1])
    args = (jnp.zeros(2), jnp.stack([NEXT, NEXT]), jnp.array([-0.6, 1.0]))
    together = losses.soft_categorical_target(0.5 + args[0], discount, args[0], args[1], args[2], temperature, FIVE)
    for index in range(2):
        alone = losses.soft_categorical_target(
            0.5, discount[index], 0.0, NEXT, args[2][index], temperature[index], FIVE
        )
        assert_close(together[index], alone, rounding(20))


@wraps
def test_cross_entropy_by_hand(wrap):
    target = jnp.array([TARGET])
    loss, slope = wrap(
        jax.value_and_grad(lambda logits, target: jnp.sum(losses.categorical_value_loss(logits, target)))
    )(LOGITS[None], target)
    np.testing.assert_allclose(np.sum(loss), 1.528757, atol=1e-5)
    np.testing.assert_allclose(slope, [[0.018251, 0.014150, 0.139998, -0.098250, -0.074149]], atol=1e-5)


def test_cross_entropy_is_at_least_the_targets_entropy():
    target = jnp.array(TARGET)
    np.testing.assert_allclose(losses.categorical_value_loss(jnp.log(target), target), 1.450208, atol=1e-5)
    np.testing.assert_allclose(jax.grad(losses.categorical_value_loss)(jnp.log(target), target), 0.0, atol=1e-6)
    assert not np.any(jax.grad(losses.categorical_value_loss, argnums=1)(LOGITS, target))


def test_an_untrained_critic_of_101_bins():
    uniform = jnp.zeros(101)
    np.testing.assert_allclose(losses.expected_value(uniform, HUNDRED), 0.0, atol=1e-5)
    np.testing.assert_allclose(losses.categorical_value_loss(uniform, two_hot(1.234, HUNDRED)), 4.615121, rtol=1e-6)


@wraps
def test_the_slope_of_a_value_in_its_logits(wrap):
    value, slope = wrap(jax.value_and_grad(lambda logits: jnp.sum(losses.expected_value(logits, FIVE))))(
        jnp.log(NEXT)[None]
    )
    np.testing.assert_allclose(np.sum(value), 0.0, atol=1e-6)
    np.testing.assert_allclose(slope, [[-0.5, -0.5, 0.0, 0.5, 0.5]], atol=1e-6)


@wraps
def test_a_number_between_two_atoms_by_hand(wrap):
    atoms = losses.support(-2.0, 2.0, 5)
    values = jnp.array([0.3, -2.0, 7.0])
    np.testing.assert_allclose(
        wrap(lambda value: losses.two_hot(value, atoms))(values),
        [[0, 0, 0.7, 0.3, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]],
        atol=1e-6,
    )
    found = wrap(lambda value: losses.gaussian_histogram(value, atoms))(jnp.array([0.3, 2.0, 9.0]))
    edge = [0.000002, 0.000572, 0.029861, 0.307345, 0.662221]
    np.testing.assert_allclose(found, [[0.008117, 0.135103, 0.462896, 0.340667, 0.053217], edge, edge], atol=1e-5)
    np.testing.assert_allclose(found @ atoms, [0.295763, 1.631210, 1.631210], rtol=1e-5)


def test_a_histogram_is_pulled_inward_at_the_edges_alone():
    found = histogram(jnp.array([0.03, 4.9, 5.0]), HUNDRED)
    np.testing.assert_allclose(found @ HUNDRED, [0.03, 4.8953, 4.9631], atol=1e-4)
    np.testing.assert_allclose(losses.probability_entropy(found[0]), 1.2003, atol=1e-4)


def test_a_histogram_wants_a_width():
    with pytest.raises(ValueError, match="width above 0"):
        losses.gaussian_histogram(0.0, FIVE, 0.0)


probabilities = arrays(np.float32, 5, elements=st.floats(0, 1, width=32)).map(
    lambda mass: (mass + 0.01) / np.sum(mass + 0.01)
)
values = arrays(np.float32, 5, elements=st.floats(-20, 20, width=32))


@settings(max_examples=50)
@given(mass=probabilities, values=values)
def test_a_projection_keeps_probability_and_the_mean_of_clipped_values(mass, values):
    found = project(mass, values, FIVE)
    assert np.all(np.asarray(found) >= 0)
    np.testing.assert_allclose(np.sum(found), 1.0, rtol=rounding(20))
    np.testing.assert_allclose(found @ FIVE, mass @ np.clip(values, -5, 5), rtol=0, atol=5 * rounding(30))


@settings(max_examples=50)
@given(mass=probabilities)
def test_atoms_are_projected_onto_themselves(mass):
    """Also where rounding puts an atom a little beside its place, as with gaps of 0.1."""
    np.testing.assert_allclose(project(mass, FIVE, FIVE), mass, atol=rounding(10))
    tenths = losses.support(0.1, 0.5, 5)
    np.testing.assert_allclose(project(mass, tenths, tenths), mass, atol=rounding(30))


@settings(max_examples=50)
@given(mass=probabilities, values=values, order=st.permutations(range(5)))
def test_the_order_of_values_plays_no_part(mass, values, order):
    np.testing.assert_allclose(
        project(mass[order], values[order], FIVE), project(mass, values, FIVE), atol=rounding(20)
    )


@settings(max_examples=50)
@given(value=st.floats(-8, 8, width=32))
def test_a_number_is_the_mean_of_its_neighbours_and_near_that_of_its_histogram(value):
    held = np.clip(value, -5, 5)
    np.testing.assert_allclose(two_hot(value, HUNDRED) @ HUNDRED, held, rtol=0, atol=5 * rounding(20))
    found = histogram(value, HUNDRED)
    np.testing.assert_allclose(np.sum(found), 1.0, rtol=rounding(110))
    if abs(value) < 4.8:  # 2 bins inside
        np.testing.assert_allclose(found @ HUNDRED, value, rtol=0, atol=2e-3)


@pytest.mark.slow
def test_both_forms_of_the_projection_agree():
    """Adding into places, for CPUs, and weights of all pairs, for accelerators: the latter is a sum of two-hot targets."""
    keys = jax.random.split(jax.random.key(0))
    mass = jax.nn.softmax(jax.random.normal(keys[0], (3, 4, 101)))
    values = 4.0 * jax.random.normal(keys[1], (3, 4, 101))
    wanted = jnp.einsum("...k,...kj->...j", mass, two_hot(values, HUNDRED))
    assert_close(project(mass, values, HUNDRED), wanted)
    assert_close(jax.jit(jax.vmap(project, in_axes=(0, 0, None)))(mass, values, HUNDRED), wanted)
    exported = jax.export.export(project, platforms=["cuda", "tpu"])(mass, values, HUNDRED)
    assert "scatter" not in exported.mlir_module()


def test_a_projection_onto_other_atoms():
    found = project(jnp.array([0.5, 0.5]), jnp.array([-1.0, 1.5]), FIVE)
    np.testing.assert_allclose(found, [0, 0.2, 0.5, 0.3, 0], atol=1e-6)


def test_the_slope_of_a_projection_in_its_probabilities_is_that_of_differences():
    weights = jnp.arange(5.0) ** 2

    @jax.jit
    def score(mass):
        return jnp.sum(weights * losses.project_onto_support(mass, 0.9 * FIVE + 0.37, FIVE))

    slope = jax.grad(score)(NEXT)
    numeric = [(score(NEXT.at[k].add(0.25)) - score(NEXT.at[k].add(-0.25))) / 0.5 for k in range(5)]  # linear in them
    assert_close(slope, np.array(numeric), 1e-5)


def test_nan_in_one_row_is_seen_there_alone():
    values = jnp.stack([FIVE, FIVE.at[1].set(jnp.nan), FIVE])
    found = project(jnp.stack([NEXT] * 3), values, FIVE)
    assert np.all(np.isfinite(found), axis=-1).tolist() == [True, False, True]


def test_half_precision_is_taken_in_single():
    for function in (losses.two_hot, losses.gaussian_histogram):
        assert function(jnp.bfloat16(0.5), FIVE).dtype == jnp.float32
    assert losses.expected_value(LOGITS.astype(jnp.bfloat16), FIVE).dtype == jnp.float32
