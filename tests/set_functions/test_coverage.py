"""Coverage: the sheet's worked example to its last digit, its bounds, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close, rounding

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import Coverage, Table

WORKED = Coverage(Table([[0, 1], [1, 2], [3, -1]]), Table(np.ones(4)))
LOGITS = (jnp.array([0.2, 0.0, -0.1]), jnp.array([0.0, 0.3, 0.0]))
# Gradients are sums in which values of up to 3 cancel; the sheet's numbers are rounded to six places besides.
OF_THE_SHEET = {"rtol": rounding(8), "scale": 3.0}
SIDE = 30


def footprints(side):
    """Each cell itself, right, down and down-right, clipped at the borders."""
    return np.array(
        [
            [
                (row + down) * side + column + right if max(row + down, column + right) < side else -1
                for down in (0, 1)
                for right in (0, 1)
            ]
            for row in range(side)
            for column in range(side)
        ]
    )


GRID = Coverage(Table(footprints(SIDE)), Table(np.ones(SIDE * SIDE)))


def expected(logits, weight):
    """The mean over all pairs of choices of `weight(first, second)`."""
    first, second = (jax.nn.softmax(each) for each in logits)
    return sum(first[i] * second[j] * weight(i, j) for i in range(3) for j in range(3))


def score_gradient(weigh):
    """Expected score of each step times what `weigh` gives for it, by enumeration: the two rows of the sheet's tables."""

    def loss(logits):
        first, second = (jax.nn.log_softmax(each) for each in logits)
        held = [jax.nn.softmax(each) for each in LOGITS]
        return sum(
            held[0][i] * held[1][j] * (first[i] * weigh(i, j)[0] + second[j] * weigh(i, j)[1])
            for i in range(3)
            for j in range(3)
        )

    return jax.grad(loss)(LOGITS)


@pytest.mark.slow
def test_the_worked_example_of_the_sheet():
    objective = lambda logits: expected(logits, lambda i, j: WORKED.value(jnp.array([i, j])))  # noqa: E731
    correct = np.array([[0.046809, 0.004916, -0.051725], [0.008250, 0.039674, -0.047924]])
    assert_close(objective(LOGITS), 2.581671, **OF_THE_SHEET)
    assert_close(jnp.stack(jax.grad(objective)(LOGITS)), correct, **OF_THE_SHEET)

    def to_go(i, j):
        gains = WORKED.marginal_gains(jnp.array([i, j]))
        return gains.sum(), gains[1]

    assert_close(jnp.stack(score_gradient(to_go)), correct, **OF_THE_SHEET)

    def modular(i, j):
        first, second = WORKED.single(jnp.int32(i)), WORKED.single(jnp.int32(j))
        return first + second, second

    wrong = np.array([[0.113080, 0.092582, -0.205662], [0.089114, 0.120292, -0.209406]])
    assert_close(jnp.stack(score_gradient(modular)), wrong, **OF_THE_SHEET)


@pytest.mark.slow
@settings(max_examples=30)
@given(moves=st.lists(st.sampled_from([(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]), min_size=40, max_size=40))
def test_moves_along_the_axes_reach_at_most_two_cells_each(moves):
    places = np.array([15, 15]) + np.cumsum([(0, 0), *moves], axis=0)
    trajectory = np.clip(places, 0, SIDE - 1) @ [SIDE, 1]
    gains = np.asarray(GRID.marginal_gains(trajectory))
    assert gains[0] == 4 and (gains[1:] <= 2).all() and gains.sum() == GRID.value(trajectory) <= 4 + 2 * len(moves)


@pytest.mark.slow
def test_everything_weighs_as_much_as_all_and_no_more():
    weights = np.random.default_rng(0).uniform(0, 1, SIDE * SIDE)
    function = Coverage(Table(footprints(SIDE)), Table(weights))
    # The roundings of a sum of n positive terms, in whichever order, come to about the root of n of them.
    assert_close(function.value(np.arange(SIDE * SIDE)), weights.sum(), rounding(SIDE))
    assert float(function.value(np.array([SIDE * SIDE - 1]))) == pytest.approx(weights[-1])  # clipped to one cell


def test_summary_tells_what_is_covered():
    memory, _ = WORKED.add(WORKED.empty(), jnp.int32(1))
    assert WORKED.summary(memory).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("footprints", "weights", "error", "message"),
    [
        (
            [[0]],
            [-1.0],
            InvalidSettingError,
            "must be at least 0 and finite, or visits could lower the value; number 0 is -1",
        ),
        ([[0]], [1.0, np.nan], InvalidSettingError, "number 1 is nan"),
        ([[0], [2]], [1.0, 1.0], InvalidSettingError, "covers number 2, but there are weights for 0 to 1 only"),
        ([[0, -1], [1, 1]], [1.0, 1.0], InvalidSettingError, "footprint of element 1 names number 1 twice"),
        (
            [0, 1],
            [1.0, 1.0],
            ShapeError,
            r"footprints must be whole numbers \[element, size\] and not empty, got int64 \[2\]",
        ),
        ([[0.0]], [1.0], ShapeError, "footprints must be whole numbers"),
        ([[0]], [[1.0]], ShapeError, r"weights of a coverage function must be numbers \[covered\]"),
    ],
)
def test_what_is_refused(footprints, weights, error, message):
    with pytest.raises(error, match=message):
        Coverage(Table(footprints), Table(weights))
