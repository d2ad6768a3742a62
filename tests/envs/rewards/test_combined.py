"""Sums, what saturates, cells of a plane, and combinations that are refused because their returns would not diminish."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close, rounding

from maxent_rl.envs.rewards import (
    Concave,
    Distinct,
    InformationGain,
    Modular,
    OnGrid,
    PiecewiseConcave,
    Sum,
    Table,
    Truncated,
)
from maxent_rl.errors import InvalidSettingError, UnknownNameError

ONE, TWO = Modular(Table([1.0, 2.0])), Modular(Table([4.0, 0.5]), repeats=True)


def test_operators_make_sums():
    function = ONE + 2.0 * TWO
    assert function == Sum((ONE, Sum((TWO,), (2.0,))), (1.0, 1.0)) and 2 * TWO == TWO * 2.0
    assert function.marginal_gains(jnp.array([0, 0, 1])).tolist() == [9, 8, 3]


def test_the_smallest_memory_bounds_a_sum():
    large, small = (InformationGain(Table(np.eye(2)), 1.0, capacity) for capacity in (9, 4))
    assert (large + small + ONE).capacity == 4 and (ONE + TWO).capacity is None
    assert Truncated(small, 1.0).capacity == Distinct(small, 2).capacity == 4
    assert OnGrid(small, (0.0, 0.0), (1.0, 1.0), (2, 1)).capacity == 4


def test_saturation_by_hand():
    trajectory = jnp.array([0, 1, 0])
    assert Truncated(TWO, 6.0).marginal_gains(trajectory).tolist() == [4, 0.5, 1.5]
    assert PiecewiseConcave(TWO, ((0, 0), (4, 8), (6, 9))).marginal_gains(trajectory).tolist() == [8, 0.25, 0.75]
    roots = np.sqrt([0, 4, 4.5, 8.5])
    assert_close(Concave(TWO, "sqrt").marginal_gains(trajectory), np.diff(roots), rounding(4), scale=roots.max())


def test_cells_of_a_plane():
    """Columns along the first axis, row 0 at the low end of the second; what is outside counts for the nearest cell."""
    grid = OnGrid(Modular(Table(np.ones(6))), (-1.0, 0.0), (2.0, 4.0), (3, 2))
    points = [(-0.9, 0.1), (0.5, 1.9), (1.9, 1.9), (-0.9, 2.1), (1.9, 3.9), (-5.0, 9.0), (2.0, 4.0), (9.0, -9.0)]
    assert grid.cell(jnp.array(points)).tolist() == [0, 1, 2, 3, 5, 3, 5, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: -1.0 * ONE, "weight of Modular in a sum must be at least 0 and finite.*got -1"),
        (lambda: ONE + math.nan * TWO, "got nan"),
        (lambda: Sum((ONE,), (1.0, 2.0)), "as many weights as functions, at least one, got 1 functions and 2 weights"),
        (lambda: Sum((), ()), "got 0 functions"),
        (lambda: Truncated(ONE, 0.0), "cap of a truncated function must be above 0 and finite, got 0"),
        (lambda: Truncated(ONE, math.inf), "got inf"),
        (lambda: PiecewiseConcave(ONE, ((0, 0),)), r"start at \(0, 0\) and are at least 2"),
        (lambda: PiecewiseConcave(ONE, ((0, 1), (1, 2))), r"start at \(0, 0\)"),
        (lambda: PiecewiseConcave(ONE, ((0, 0), (0, 1))), r"rise in F, unlike from \(0, 0\) to \(0, 1\)"),
        (lambda: PiecewiseConcave(ONE, ((0, 0), (1, math.nan))), "must be finite"),
        (
            lambda: PiecewiseConcave(ONE, ((0, 0), (2, 2), (3, 1))),
            r"never fall.*from \(2, 2\) to \(3, 1\) its slope is -1",
        ),
        (
            lambda: PiecewiseConcave(ONE, ((0, 0), (1, 1), (2, 3))),
            r"concave.*from \(1, 1\) to \(2, 3\) its slope is 2, before it was 1",
        ),
        (lambda: Distinct(ONE, 0), "at least 1 element, got 0"),
        (lambda: Distinct(ONE, 10_000), "ground set of 10000 elements is more than the"),
        (
            lambda: OnGrid(ONE, (0.0, 0.0), (1.0, 1.0), (100, 100)),
            "100 x 100 cells needs a function of as many elements",
        ),
        (lambda: OnGrid(ONE, (0.0, 0.0), (1.0, 0.0), (2, 1)), "a rectangle with an inside"),
        (lambda: OnGrid(ONE, (0.0, 0.0), (1.0, 1.0), (0, 1)), r"at least one cell each way, got \(0, 1\) cells"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(InvalidSettingError, match=message):
        make()


def test_unknown_curves_are_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"Unknown curve 'squrt'. Did you mean 'sqrt'"):
        Concave(ONE, "squrt")


def test_a_straight_polygon_of_unequal_roundings_is_taken():
    PiecewiseConcave(ONE, ((0.0, 0.0), (0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (0.7, 0.7)))
