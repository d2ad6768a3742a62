"""The incremental Cholesky against determinants in NumPy, at both precisions, and functions that are refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import Entropy, InformationGain, LogDeterminant, Table, matern52, posterior_covariance

SIDE, LENGTH = 10, 41
PLACES = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2)
POSTERIOR = posterior_covariance(matern52(PLACES, 2.0), [0, 37, 99], 1e-3)
COVARIANCE = Table(POSTERIOR)
FUNCTIONS = {
    "information gain": InformationGain(COVARIANCE, 0.01, LENGTH),
    "released design": LogDeterminant(COVARIANCE, 1e-6, 9.965784, LENGTH),
    "distinct design": LogDeterminant(COVARIANCE, 1e-6, 9.965784, LENGTH, distinct=True),
    "entropy": Entropy(COVARIANCE, 0.1, LENGTH),
}
every = pytest.mark.parametrize("name", list(FUNCTIONS))


def walk(moves):
    places = np.clip(np.array([4, 4]) + np.cumsum([(0, 0), *moves], axis=0), 0, SIDE - 1)
    return places @ [1, SIDE]


def direct(name, visited):
    """Each function by its own formula, in float64."""
    if name != "released design":
        visited = list(dict.fromkeys(visited))
    block, size = POSTERIOR[np.ix_(visited, visited)], len(visited)

    def half(matrix):
        return 0.5 * np.linalg.slogdet(matrix)[1]

    if name == "information gain":
        return half(np.eye(size) + block / 0.01)
    if name == "entropy":
        return half(2 * math.pi * math.e * (block + 0.1 * np.eye(size)))
    return half(block + 1e-6 * np.eye(size)) + 9.965784 * size


walks = st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]), min_size=LENGTH - 1, max_size=LENGTH - 1)


@pytest.mark.slow
@every
@settings(max_examples=10)
@given(moves=walks)
def test_gains_are_differences_of_determinants(name, moves):
    """To 1e-4 in float32 and 1e-8 in float64, over walks of 40 steps that stay and come back."""
    trajectory = walk(moves)
    exact = np.array([direct(name, trajectory[:length].tolist()) for length in range(LENGTH + 1)])
    for double, tolerance in ((False, 1e-4), (True, 1e-8)):
        with jax.enable_x64(double):
            gains, value = map(np.asarray, COMPILED[name, double](trajectory))
        assert gains.dtype == value.dtype == (np.float64 if double else np.float32)
        np.testing.assert_allclose(gains, np.diff(exact), rtol=0, atol=tolerance)
        np.testing.assert_allclose(value, exact[-1], rtol=0, atol=tolerance)
        np.testing.assert_allclose(gains.sum(), value, rtol=0, atol=3 * tolerance)


def compiled(function):
    return jax.jit(lambda trajectory: (function.marginal_gains(trajectory), function.value(trajectory)))


COMPILED = {(name, double): compiled(function) for name, function in FUNCTIONS.items() for double in (False, True)}


def test_a_single_precision_table_keeps_single_precision_at_double():
    function = InformationGain(Table(POSTERIOR.astype(np.float32)), 0.01, 4)
    with jax.enable_x64(True):
        assert function.marginal_gains(jnp.array([3, 4])).dtype == jnp.float32


def test_one_element_over_and_over_follows_the_closed_form():
    """k observations of one element: 0.5 log(1 + k K / jitter), in float32 and with a jitter of a millionth."""
    gains = np.asarray(FUNCTIONS["released design"].marginal_gains(np.full(LENGTH, 55)), np.float64)
    total = 0.5 * np.log1p(np.arange(LENGTH + 1) * POSTERIOR[55, 55] / 1e-6)
    np.testing.assert_allclose(gains, np.diff(total) + 9.965784 + 0.5 * math.log(1e-6), rtol=0, atol=2e-5)


def test_information_gain_of_independent_elements_is_the_sum_of_theirs():
    function = InformationGain(Table(np.diag([1.0, 3.0])), 0.5, 3)
    np.testing.assert_allclose(
        function.marginal_gains(jnp.array([1, 0, 1])), [0.5 * math.log(7), 0.5 * math.log(3), 0.0], rtol=1e-6
    )


@pytest.mark.slow
def test_all_but_determined_elements_never_pay_less_than_the_least():
    """In float32 their conditional variance may come out as anything around 0; a gain stays what noise alone allows."""
    places = np.linspace(0, 1, 30)[:, None]
    function = LogDeterminant(Table(np.exp(-0.5 * (places - places.T) ** 2)), 1e-6, 9.965784, 30)
    gains = np.asarray(function.marginal_gains(np.arange(30)))
    assert (gains >= 9.965784 + 0.5 * math.log(1e-6) - 1e-5).all()
    with jax.enable_x64(True):
        np.testing.assert_allclose(gains, function.marginal_gains(np.arange(30)), rtol=0, atol=0.2)


@pytest.mark.slow
def test_errors_do_not_grow_where_rounding_is_larger_than_the_noise():
    """150 elements on a line: without a floor under the conditional variance the inverse grew until gains were NaN."""
    places = np.linspace(0, 1, 60)[:, None]
    function = LogDeterminant(Table(np.exp(-0.5 * (places - places.T) ** 2)), 1e-6, 9.965784, 150)
    visited = np.random.default_rng(0).integers(0, 60, (20, 150))
    gains = np.asarray(jax.jit(jax.vmap(function.marginal_gains))(visited))
    assert (gains >= 0).all() and (gains <= 9.97).all()


@pytest.mark.slow
def test_tables_that_were_traced_at_single_precision_serve_double_too():
    """JAX 0.10 keeps the rounding of an array that a compiled function holds."""
    function = InformationGain(Table(POSTERIOR), 0.01, 4)
    gains = jax.jit(lambda visited: function.marginal_gains(visited))
    assert gains(np.array([3, 4])).dtype == jnp.float32
    with jax.enable_x64(True):
        assert gains(np.array([3, 4])).dtype == jnp.float64


@pytest.mark.slow
def test_summary_marks_what_was_visited():
    function = FUNCTIONS["released design"]
    memory = function.empty()
    for element in (7, 7, 90):
        memory, _ = function.add(memory, jnp.int32(element))
    assert np.flatnonzero(function.summary(memory)).tolist() == [7, 90] and int(memory.number) == 3


GOOD = np.eye(2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: InformationGain(Table(np.ones((2, 3))), 1.0, 2), ShapeError, r"must be square, got \[2, 3\]"),
        (
            lambda: InformationGain(Table(np.ones(3)), 1.0, 2),
            ShapeError,
            r"covariance must be numbers \[element, element\]",
        ),
        (
            lambda: InformationGain(Table([[1.0, 0.5], [0.4, 1.0]]), 1.0, 2),
            InvalidSettingError,
            "symmetric; that of 0 and 1 is 0.5",
        ),
        (
            lambda: InformationGain(Table([[1.0, np.nan], [0.4, 1.0]]), 1.0, 2),
            InvalidSettingError,
            "finite; that of 0 and 1 is nan",
        ),
        (
            lambda: InformationGain(Table([[1.0, 2.0], [2.0, 1.0]]), 1.0, 2),
            InvalidSettingError,
            "negative eigenvalue.*the least is -1",
        ),
        (
            lambda: InformationGain(Table(GOOD), 0.0, 2),
            InvalidSettingError,
            "noise variance must be above 0 and finite, got 0",
        ),
        (lambda: InformationGain(Table(GOOD), 1.0, 0), InvalidSettingError, "capacity must be at least 1, got 0"),
        (lambda: LogDeterminant(Table(GOOD), -1e-6, 10.0, 2), InvalidSettingError, "jitter must be above 0"),
        (
            lambda: LogDeterminant(Table(GOOD), 1e-6, 6.9, 2),
            InvalidSettingError,
            r"at least -0.5 log\(jitter\) = 6.90776.*got 6.9",
        ),
        (lambda: LogDeterminant(Table(GOOD), 1e-6, math.nan, 2), InvalidSettingError, "offset must be finite.*got nan"),
        (
            lambda: Entropy(Table(GOOD), 0.058, 2),
            InvalidSettingError,
            r"at least 1 / \(2 pi e\) = 0.0585498.*got 0.058",
        ),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.slow
def test_least_offsets_and_noises_are_taken_and_zero_covariances_too():
    offset = -0.5 * math.log(1e-6)
    nothing = Table(np.zeros((2, 2)))
    assert float(LogDeterminant(nothing, 1e-6, offset, 2).value(jnp.array([0, 1]))) == 0.0
    assert Entropy(nothing, 0.0586, 2).constant >= 0
    with pytest.raises(TypeError, match="capacity"):
        InformationGain(nothing, 1.0)
