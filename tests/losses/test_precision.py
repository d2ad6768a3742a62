"""Every loss under half precision: what it computes is finite, and to the bit what it is in single precision."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses

pytestmark = pytest.mark.usefixtures("half_precision")
ROWS, COLUMNS = 3, 6
LARGE = np.float16([[-6e4, 400.0, -30.0, 12.0, 0.0, 3e4], [0.5] * COLUMNS, [300.0, -300.0, 25.0, -25.0, 1.0, -1.0]])
BELOW = -np.abs(LARGE)  # of log-probabilities
SHARES = np.float16([[0.25, 0.25, 0.5, 0.0, 0.0, 0.0], [1.0, 0, 0, 0, 0, 0], [0.125] * 4 + [0.25, 0.25]])
# What a parameter holds, by its name; all others hold large numbers, and those with a default keep it.
BY_NAME = {
    "target_entropy": np.float16(-1.0), "log_alpha": np.float16(13.0), "inverse_temperature": np.float16(300.0),
    "most": np.float16(100.0), "temperature": np.float16(0.25), "relaxation": np.float16(0.25), "scale": np.float16(300.0),
    "discount": np.float16(0.99), "value_weight": np.float16(2.5), "distance_weight": np.float16(300.0),
    "threshold": np.float16(0.5), "expectile": np.float16(0.75), "baseline": np.float16(0.5), "relevance": np.abs(LARGE),
    "mask": np.ones((ROWS, COLUMNS), bool), "desirable": np.ones((ROWS, COLUMNS), bool), "label": np.float16(0.5),
    "terminated": np.zeros((ROWS, COLUMNS)), "truncated": np.zeros((ROWS, COLUMNS)), "done": np.zeros((ROWS, COLUMNS)),
    "action": np.zeros(ROWS, int), "choice": np.zeros(ROWS, int), "best": np.zeros(ROWS, int),
    "quantile": np.float16(0.5), "target": SHARES, "probabilities": SHARES[2:], "low": -300.0, "high": 300.0,
}  # fmt: skip
ATOMS = np.float16([-300.0, -180.0, -60.0, 60.0, 180.0, 300.0])
OF_ROWS = {"reward": LARGE[:, 3], "terminated": np.zeros(ROWS), "next_log_prob": BELOW[:, 2]}
# And in some losses.
BY_LOSS = {
    "better_than_policy": {"value": LARGE[:, 0]},
    "conservative_penalty": {"data_value": LARGE[:, 0]},
    "contrastive_ranking_loss": {"scores": LARGE[0], "quality": LARGE[2]},
    "energy_term": {"observed": LARGE[:, 0]},
    "expected_value": {"atoms": ATOMS},
    "gaussian_histogram": {"value": np.float16([12.0, -30.0, 250.0]), "atoms": ATOMS},
    "intersection_over_union": {"first": LARGE[:, :4], "second": LARGE[:, 2:]},
    "kept_quantiles": {"dropped": 2},
    "likeliest_buckets": {"count": 2},
    "mixed_group_probability": {"success": SHARES, "size": 8},
    "point_closeness": {"point": LARGE[:, :2], "box": LARGE[:, 2:]},
    "point_in_box": {"point": LARGE[:, :2], "box": LARGE[:, 2:]},
    "proportional_weight": {"measured": np.float16(300.0), "target": np.float16(0.5), "count": np.float16(300.0)},
    "projected_ascent": {"margin": np.float16(300.0)},
    "smoothed_action": {"action": LARGE},
    "soft_categorical_target": OF_ROWS | {"next_probabilities": SHARES, "atoms": ATOMS},
    "soft_quantile_target": OF_ROWS,
    "sorted_margin": {"first": LARGE[0], "second": LARGE[2], "counts": np.arange(COLUMNS) != 3},
    "squared_error_log_prob": {"action": LARGE},
    "support": {"count": COLUMNS},
}
# These take numbers as they come: how they are rounded is what they are asked, or there is nothing to compute.
AS_THEY_COME = {
    "apart", "at_least_single", "held_within", "in_single_precision", "quantile_midpoints", "reverse_gradient", "rounding_of",
    "token_f1", "without_rounding",
}  # fmt: skip
# A difference of two values of the error function, and a product of quotients: another program where a derivative is taken,
# too, of numbers up to 1, or of weights up to 300.
WITHIN = {"gaussian_histogram": 5e-7, "proportional_weight": 300 * 5e-7}


def arguments(name):
    """What a loss must be given, by parameter: numbers that float16 has, and whose squares and exponentials it has not."""
    found = {}
    for parameter in inspect.signature(getattr(losses, name)).parameters.values():
        if parameter.default is parameter.empty:
            other = BELOW if "log_" in parameter.name or "logp" in parameter.name else LARGE
            found[parameter.name] = BY_LOSS.get(name, {}).get(parameter.name, BY_NAME.get(parameter.name, other))
    return found


def halves(given):
    return {name: jnp.asarray(value) for name, value in given.items() if getattr(value, "dtype", None) == np.float16}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(losses.__all__) - AS_THEY_COME))
def test_a_loss_of_half_precision_is_that_of_single_precision(name):
    """Finite, to the bit, and with a gradient that half precision can hold."""
    loss, given = getattr(losses, name), arguments(name)
    single = {key: value.astype(jnp.float32) for key, value in halves(given).items()}
    expected = loss(**given | single)

    def total(numbers):
        result = loss(**given | numbers)
        return sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(result)), result

    slopes, found = jax.grad(total, has_aux=True)(halves(given))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype != jnp.float16
        np.testing.assert_allclose(one, other, rtol=0, atol=WITHIN.get(name, 0.0))
        assert np.isfinite(one).all()
    assert all(slope.dtype == jnp.float16 and np.isfinite(slope).all() for slope in slopes.values())


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_gradient_is_held_at_the_largest_number_of_half_precision(dtype):
    """float16 has none for e^20; bfloat16 has."""
    slope = jax.grad(losses.importance_ratio)(jnp.asarray(0.0, dtype), jnp.asarray(-60.0, dtype))
    assert slope.dtype == dtype
    np.testing.assert_allclose(np.float32(slope), min(np.exp(20.0), float(jnp.finfo(dtype).max)), rtol=1e-2)


def test_other_numbers_are_taken_as_they_are():
    with jax.enable_x64(True):
        for value in (np.float64([1.0]), np.float32([1.0]), np.int32([1]), np.array([True])):
            assert losses.at_least_single(value).dtype == value.dtype


def test_a_value_is_held_and_its_gradient_is_not():
    for value, held in ((-np.inf, -1.0), (-3.0, -1.0), (0.5, 0.5), (9.0, 2.0), (np.inf, 2.0)):
        assert jax.value_and_grad(losses.held_within)(value, -1.0, 2.0) == (held, 1.0)
        assert jax.jvp(lambda x: losses.held_within(x, -1.0, 2.0), (value,), (3.0,)) == (held, 3.0)
