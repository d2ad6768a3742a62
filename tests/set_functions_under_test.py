"""Every set function on a ground set of 12 elements, each with its definition in plain NumPy."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from maxent_rl import set_functions
from maxent_rl.set_functions import SetFunction, Table

SIZE, LENGTH = 12, 8  # of the ground set and of trajectories
COLUMNS, ROWS = 4, 3
RANDOM = np.random.default_rng(8)
PLACES = np.stack(np.meshgrid(np.arange(COLUMNS), np.arange(ROWS)), -1).reshape(-1, 2)
FOOTPRINTS = np.array(
    [
        [
            (y + down) * COLUMNS + x + right if y + down < ROWS and x + right < COLUMNS else -1
            for down in (0, 1)
            for right in (0, 1)
        ]
        for x, y in PLACES
    ]
)
WEIGHTS = RANDOM.uniform(0.1, 2.0, SIZE)
ITEMS = np.array([0, 1, 0, -1, 0, 2, 1, 1, -1, 2, 0, 2])
LIMITS = np.array([2, 1, 0])
SIMILARITY = RANDOM.uniform(0.0, 1.0, (SIZE, 5))
CUSTOMERS = RANDOM.uniform(0.0, 3.0, 5)
COVARIANCE = set_functions.matern52(PLACES, 1.5, 1.3)
POLYGON = ((0.0, 0.0), (2.0, 3.0), (4.0, 5.0), (6.0, 5.5))

Reference = Callable[[list[int]], float]


@dataclasses.dataclass(frozen=True)
class Case:
    """A set function, its definition, and what its elements are.

    Attributes:
      make: builds the function, always anew.
      reference: the value of a list of indices, in float64.
      distinct: whether repeats add nothing.
      elements: what the function takes for indices [n].
    """

    make: Callable[[], SetFunction]
    reference: Reference
    distinct: bool = True
    elements: Callable[[np.ndarray], np.ndarray] = lambda indices: np.asarray(indices, np.int32)


def covered(visited):
    reached = {thing for element in visited for thing in FOOTPRINTS[element] if thing >= 0}
    return sum(WEIGHTS[thing] for thing in reached)


def collected(visited):
    kinds = [ITEMS[element] for element in set(visited)]
    return sum(min(kinds.count(kind), limit) for kind, limit in enumerate(LIMITS))


def served(visited, weights):
    return sum(weight * max((SIMILARITY[s, u] for s in visited), default=0.0) for u, weight in enumerate(weights))


def once(visited):
    return sum(WEIGHTS[element] for element in set(visited))


def always(visited):
    return sum(WEIGHTS[element] for element in visited)


def log_determinant(visited, noise):
    return np.linalg.slogdet(COVARIANCE[np.ix_(visited, visited)] + noise * np.eye(len(visited)))[1]


def information(visited, noise=0.1):
    visited = list(dict.fromkeys(visited))
    return 0.5 * log_determinant(visited, noise) - 0.5 * len(visited) * math.log(noise)


def design(visited):
    return 0.5 * log_determinant(visited, 1e-6) + 9.965784 * len(visited)


def design_once(visited):
    return design(list(dict.fromkeys(visited)))


def entropy(visited):
    visited = list(dict.fromkeys(visited))
    return 0.5 * log_determinant(visited, 0.2) + 0.5 * len(visited) * math.log(2 * math.pi * math.e)


def polygon(value):
    return np.interp(value, *np.transpose(POLYGON))


def middles(indices):
    """Points inside the cells of a rectangle from (-1, 2) to (3, 8), none of them in the middle exactly."""
    column, row = np.asarray(indices) % COLUMNS, np.asarray(indices) // COLUMNS
    return np.stack([-1.0 + (column + 0.3) * 1.0, 2.0 + (row + 0.6) * 2.0], -1).astype(np.float32)


def coverage():
    return set_functions.Coverage(Table(FOOTPRINTS), Table(WEIGHTS))


def gain():
    return set_functions.InformationGain(Table(COVARIANCE), 0.1, SIZE)


def released(distinct=False):
    return set_functions.LogDeterminant(
        Table(COVARIANCE), set_functions.RELEASED_JITTER, set_functions.RELEASED_OFFSET, SIZE, distinct=distinct
    )


def modular(repeats=False):
    return set_functions.Modular(Table(WEIGHTS), repeats)


CASES = {
    "coverage": Case(coverage, covered),
    "items": Case(lambda: set_functions.ItemCollection(Table(ITEMS), Table(LIMITS)), collected),
    "facility": Case(lambda: set_functions.FacilityLocation(Table(SIMILARITY)), lambda s: served(s, np.ones(5))),
    "facility weighted": Case(
        lambda: set_functions.FacilityLocation(Table(SIMILARITY), Table(CUSTOMERS)), lambda s: served(s, CUSTOMERS)
    ),
    "modular": Case(modular, once),
    "modular with repeats": Case(lambda: modular(True), always, distinct=False),
    "information gain": Case(gain, information),
    "log-determinant": Case(released, design, distinct=False),
    "log-determinant of distinct": Case(lambda: released(True), design_once),
    "entropy": Case(lambda: set_functions.Entropy(Table(COVARIANCE), 0.2, SIZE), entropy),
    "sum": Case(lambda: coverage() + 0.5 * gain(), lambda s: covered(s) + 0.5 * information(s)),
    "truncated": Case(lambda: set_functions.Truncated(coverage(), 6.0), lambda s: min(covered(s), 6.0)),
    "root": Case(lambda: set_functions.Concave(modular(), "sqrt"), lambda s: math.sqrt(once(s))),
    "logarithm": Case(
        lambda: set_functions.Concave(modular(True), "log1p"), lambda s: math.log1p(always(s)), distinct=False
    ),
    "polygon": Case(lambda: set_functions.PiecewiseConcave(modular(), POLYGON), lambda s: polygon(once(s))),
    "distinct": Case(lambda: set_functions.Distinct(released(), SIZE), design_once),
    "on a grid": Case(
        lambda: set_functions.OnGrid(coverage(), (-1.0, 2.0), (3.0, 8.0), (COLUMNS, ROWS)), covered, elements=middles
    ),
    "nested": Case(
        lambda: set_functions.Concave(
            2.0 * set_functions.Truncated(gain(), 3.0) + set_functions.Distinct(modular(True), SIZE), "log1p"
        ),
        lambda s: math.log1p(2.0 * min(information(s), 3.0) + once(s)),
    ),
}
