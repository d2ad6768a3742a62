"""Batch normalisation against the numbers of CrossQ's sheet, in training, with renormalisation and outside of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.networks import STATISTICS, BatchNorm, statistics_of, with_statistics, without_statistics

ROW = jnp.array([1.0, 2.0, 3.0, 6.0])[:, None]


def variables_of(norm, mean=0.0, variance=1.0, steps=0):
    variables = norm.init(jax.random.key(0), ROW, False)
    statistics = {"mean": jnp.full(1, mean), "var": jnp.full(1, variance), "steps": jnp.int32(steps)}
    return {**variables, STATISTICS: statistics}


def test_one_pass_tells_present_from_next_and_two_passes_do_not():
    """Check 1 of crossq.md."""
    norm, present, after = BatchNorm(), jnp.array([[0.0], [2.0]]), jnp.array([[4.0], [6.0]])
    variables = variables_of(norm)
    joint = norm.apply(variables, jnp.concatenate([present, after]), True)
    np.testing.assert_allclose(joint[:, 0], [-1.341507, -0.447169, 0.447169, 1.341507], atol=1e-5)
    for alone in (present, after):
        np.testing.assert_allclose(norm.apply(variables, alone, True)[:, 0], [-0.9995, 0.9995], atol=1e-5)


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [(10, [-1.068892, -0.534446, 0.0, 1.603338]), (0, [-0.499938, 0.0, 0.499938, 1.999750])],
    ids=["before its warm-up plain", "renormalised"],
)
def test_renormalisation(warmup, expected):
    """Check 2 of crossq.md; where nothing is clipped it gives what evaluation gives."""
    norm = BatchNorm(renormalize=True, warmup=warmup)
    variables = variables_of(norm, mean=2.0, variance=4.0)
    output, moved = norm.apply(variables, ROW, True, mutable=[STATISTICS])
    np.testing.assert_allclose(output[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(moved[STATISTICS]["mean"], 2.01, rtol=1e-6)
    np.testing.assert_allclose(moved[STATISTICS]["var"], 3.995, rtol=1e-6)
    assert moved[STATISTICS]["steps"] == 1
    if not warmup:
        np.testing.assert_allclose(output, norm.apply(variables, ROW, False), atol=1e-5)


@pytest.mark.slow
def test_statistics_move_only_where_they_may_and_no_gradient_reaches_the_correction():
    norm = BatchNorm(renormalize=True, warmup=0)
    variables = variables_of(norm, mean=2.0, variance=4.0)
    first = norm.apply(variables, ROW, True)
    np.testing.assert_array_equal(first, norm.apply(variables, ROW, True))
    # The sum of a batch that is centred by its own mean does not depend on a shift of the inputs.
    slope = jax.grad(lambda shift: jnp.sum(norm.apply(variables, ROW + shift, True) * jnp.arange(4.0)[:, None]))(0.0)
    np.testing.assert_allclose(slope, 0.0, atol=1e-5)


def test_statistics_are_told_from_what_is_learned():
    variables = variables_of(BatchNorm())
    learned = without_statistics(variables)
    assert set(learned) == {"params"} and set(statistics_of(variables)) == {STATISTICS}
    assert with_statistics(learned, variables) == variables
    assert without_statistics(learned) is learned and with_statistics(learned, learned) is learned
    assert statistics_of(learned) == {}


@pytest.mark.slow
def test_seeds_side_by_side_have_statistics_of_their_own():
    norm, inputs = BatchNorm(), jnp.stack([ROW, 10.0 * ROW])
    variables = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), variables_of(norm))
    together = jax.vmap(lambda variables, rows: norm.apply(variables, rows, True, mutable=[STATISTICS]))(
        variables, inputs
    )
    for index in range(2):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], variables)
        alone = norm.apply(one, inputs[index], True, mutable=[STATISTICS])
        jax.tree.map(
            lambda pair, single, index=index: np.testing.assert_allclose(pair[index], single, rtol=1e-6, atol=1e-6),
            together,
            alone,
        )
