"""What holds for every set function: its definition, gains that telescope, fall and are never negative, and hashing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from set_functions_under_test import CASES, LENGTH, SIZE, Case

from maxent_rl import set_functions
from maxent_rl.errors import ShapeError
from maxent_rl.set_functions import Table

every = pytest.mark.parametrize("name", list(CASES))
trajectories = st.lists(st.integers(0, SIZE - 1), min_size=LENGTH, max_size=LENGTH)
FUNCTIONS = {name: case.make() for name, case in CASES.items()}
TOLERANCE = {"rtol": 2e-6, "atol": 2e-5}


@partial(jax.jit, static_argnums=0)
def value(function, trajectory):
    return function.value(trajectory)


@partial(jax.jit, static_argnums=0)
def marginal_gains(function, trajectory):
    return function.marginal_gains(trajectory)


@partial(jax.jit, static_argnums=0)
def add(function, memory, element):
    return function.add(memory, element)


def remember(name, visited):
    """The memory of a list of indices."""
    memory = FUNCTIONS[name].empty()
    for element in CASES[name].elements(np.array(visited, int)):
        memory, _ = add(FUNCTIONS[name], memory, element)
    return memory


def gain_of(name, visited, index):
    return float(add(FUNCTIONS[name], remember(name, visited), CASES[name].elements(np.array([index]))[0])[1])


@pytest.mark.slow
@every
@settings(max_examples=20)
@given(visited=trajectories)
def test_value_is_the_definition_and_gains_are_its_differences(name, visited):
    """Which is telescoping of every prefix: the gains sum to the value."""
    case, function = CASES[name], FUNCTIONS[name]
    exact = [case.reference(visited[:length]) for length in range(1, LENGTH + 1)]
    trajectory = case.elements(np.array(visited))
    gains = np.asarray(marginal_gains(function, trajectory), np.float64)
    np.testing.assert_allclose(value(function, trajectory), exact[-1], **TOLERANCE)
    np.testing.assert_allclose(np.cumsum(gains), exact, **TOLERANCE)
    np.testing.assert_allclose(gains, np.diff(exact, prepend=0.0), rtol=0, atol=1e-4)
    assert (gains >= 0).all()


@pytest.mark.slow
@every
@settings(max_examples=15)
@given(
    visited=trajectories, part=st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH), index=st.integers(0, SIZE - 1)
)
def test_returns_diminish(name, visited, part, index):
    subset = [element for element, kept in zip(visited, part, strict=True) if kept]
    assert gain_of(name, subset, index) >= gain_of(name, visited, index) - 2e-5


@every
@settings(max_examples=10)
@given(visited=trajectories, order=st.permutations(range(LENGTH)))
def test_order_does_not_matter(name, visited, order):
    case, function = CASES[name], FUNCTIONS[name]
    trajectory = case.elements(np.array(visited))
    turned = trajectory[np.array(order)]
    np.testing.assert_allclose(value(function, turned), value(function, trajectory), **TOLERANCE)
    np.testing.assert_allclose(
        marginal_gains(function, turned).sum(), marginal_gains(function, trajectory).sum(), **TOLERANCE
    )


@every
@settings(max_examples=10)
@given(visited=trajectories, place=st.integers(0, LENGTH - 1))
def test_repeats_add_nothing_to_a_set_and_something_to_pairs_with_time(name, visited, place):
    case = CASES[name]
    before = remember(name, visited)
    after, gain = add(FUNCTIONS[name], before, case.elements(np.array([visited[place]]))[0])
    if case.distinct:
        assert gain == 0
        jax.tree.map(np.testing.assert_array_equal, after, before)
    else:
        assert gain > 0


@pytest.mark.slow
@every
def test_eager_compiled_and_side_by_side_agree(name):
    case, function = CASES[name], FUNCTIONS[name]
    batch = np.stack([case.elements(row) for row in np.random.default_rng(0).integers(0, SIZE, (3, LENGTH))])
    side_by_side, values = jax.jit(
        lambda rows: (jax.vmap(function.marginal_gains)(rows), jax.vmap(function.value)(rows))
    )(batch)
    np.testing.assert_allclose(side_by_side, [marginal_gains(function, row) for row in batch], **TOLERANCE)
    np.testing.assert_allclose(values, [value(function, row) for row in batch], **TOLERANCE)
    np.testing.assert_allclose(side_by_side[0], function.marginal_gains(batch[0]), **TOLERANCE)
    np.testing.assert_allclose(values[0], function.value(batch[0]), **TOLERANCE)


@every
def test_one_element_alone(name):
    """In closed form where there is one; it is what additive rewards pay."""
    case, function = CASES[name], FUNCTIONS[name]
    elements = jnp.asarray(case.elements(np.arange(SIZE)))
    exact = [case.reference([element]) for element in range(SIZE)]
    np.testing.assert_allclose(jax.jit(jax.vmap(function.single))(elements), exact, **TOLERANCE)


@every
def test_summaries_are_0_at_first_and_then_tell_sets_apart(name):
    function = FUNCTIONS[name]
    at_first = function.summary(function.empty())
    assert at_first.ndim == 1 and not at_first.any() and at_first.dtype == jnp.float32
    some, others = (np.asarray(function.summary(remember(name, visited))) for visited in ([0, 5], [6, 2, 9]))
    assert some.shape == at_first.shape and np.isfinite(some).all() and (some >= 0).all()
    if name not in {"modular with repeats", "logarithm"}:  # whose past does not matter, or is only a number
        assert not np.array_equal(some, others)


@every
def test_a_function_is_a_static_argument_that_compiles_once(name):
    traced = []

    @partial(jax.jit, static_argnums=0)
    def counted(function, trajectory):
        traced.append(function)
        return function.value(trajectory)

    first, second = CASES[name].make(), CASES[name].make()
    assert first == second and first is not second and hash(first) == hash(second)
    trajectory = CASES[name].elements(np.arange(3))
    assert counted(first, trajectory) == counted(second, trajectory)
    assert len(traced) == 1
    assert all(first != function for other, function in FUNCTIONS.items() if other != name)


def test_functions_of_other_numbers_are_others():
    one, other = (set_functions.Modular(Table(np.array(weights))) for weights in ([1.0, 2.0], [1.0, 3.0]))
    assert one != other and Table(np.array([1, 2])) != Table(np.array([1.0, 2.0])) and Table([1]) != 1


@pytest.mark.parametrize("name", ["information gain", "log-determinant", "entropy", "sum", "distinct", "nested"])
def test_trajectories_longer_than_the_memory_are_refused(name):
    function = FUNCTIONS[name]
    assert function.capacity == SIZE
    longer = np.zeros(SIZE + 1, np.int32)
    for compute in (function.value, function.marginal_gains, jax.jit(function.value)):
        with pytest.raises(ShapeError, match="holds 12 elements, but the trajectory has 13"):
            compute(longer)


def test_modular_with_repeats_remembers_nothing():
    assert CASES["modular with repeats"].make().empty() == ()


def test_whole_numbers_are_weights_too_and_a_sum_of_no_function_is_none():
    case = Case(lambda: set_functions.Modular(Table([1, 2])), sum)
    gains = case.make().marginal_gains(jnp.array([1, 0, 1]))
    assert gains.tolist() == [2.0, 1.0, 0.0] and gains.dtype == jnp.float32
    with pytest.raises(TypeError):
        case.make() + 1
