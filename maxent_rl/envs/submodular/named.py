"""Environments that pay for the set of what a trajectory visits, by name: `maxent/GridCoverage` and others.

Settings are those of Submodular Reinforcement Learning (arXiv 2307.13372) where it has them; every maker says which are our
own. Grids are observed as one-hot rows and columns, where the paper's code has the number of the cell. `-visited` behind a
name lets observations tell what was visited.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.envs.own.chance import read_probability
from maxent_rl.envs.submodular.env import Motion, SubmodularEnv
from maxent_rl.envs.submodular.motions import FreeChoice, GraphWalk, GridWalk, Walk
from maxent_rl.envs.submodular.plane import Plane, SubmodularPlane
from maxent_rl.envs.submodular.plane_motions import AntPlane, PointMass
from maxent_rl.errors import IncompatibleEnvironmentError, UnknownNameError
from maxent_rl.set_functions import (
    RELEASED_JITTER,
    RELEASED_OFFSET,
    Coverage,
    InformationGain,
    ItemCollection,
    LogDeterminant,
    OnGrid,
    SetFunction,
    Table,
    matern52,
    posterior_covariance,
    sample_field,
)

_SIDE = 30  # cells on each side of the paper's grids
_START = 34  # where the paper's code starts every episode
_SHORT = 40  # the horizon of most of them
_WITH_NUMBER = "EpsilonBandit"


def grid_coverage(
    weights: ArrayLike, horizon: int, start: int, blocked: NDArray[np.bool_] | None = None
) -> SubmodularPlane:
    """A walk over a grid that pays for the weight of all that lies in the footprint of some visited cell.

    A footprint is the cell, its right, its lower and its lower right neighbour, as far as they are on the grid, not
    blocked, and not behind blocked cells: the lower right one is seen past a free right or lower one only.

    Args:
      weights: [row, column] at least 0.
      horizon: steps of an episode.
      start: the first cell, counted along the rows.
      blocked: [row, column] cells where nobody can go; None for none.
    """
    weights = np.asarray(weights, np.float32)
    rows, columns = weights.shape
    free = np.ones((rows, columns), bool) if blocked is None else ~blocked
    footprints = Table(_footprints(free))
    motion = GridWalk(rows, columns, start, None if blocked is None else Table(blocked), one_hot=True)
    plane = Plane(
        Table(np.where(free, weights, np.nan)), "weight of the cell", _cells(rows, columns), footprints=footprints
    )
    return SubmodularPlane(motion, Coverage(footprints, Table(weights.ravel())), horizon, plane=plane)


def tabular(env: SubmodularEnv) -> SubmodularEnv:
    """The same walk, observed as one-hot pairs of place and step, with which a linear policy is a tabular one.

    Raises:
      IncompatibleEnvironmentError: the elements are not the nodes of a walk.
    """
    if not isinstance(env.motion, Walk):
        raise IncompatibleEnvironmentError(
            f"Only walks over finitely many cells or nodes have a table of places and steps; "
            f"{type(env.motion).__name__} is none."
        )
    return dataclasses.replace(env, motion=dataclasses.replace(env.motion, steps=env.horizon))  # type: ignore[type-var]


def _constant() -> SubmodularEnv:
    """The paper's coverage with constant weights."""
    return grid_coverage(np.ones((_SIDE, _SIDE)), 80, _START)


def _bimodal() -> SubmodularEnv:
    """The paper's bimodal weights: two corners are worth more than the other two."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, _SIDE),) * 2, indexing="ij")
    return grid_coverage(1 / (1 + np.exp(-x * y)), _SHORT, _START)


def _field() -> SubmodularEnv:
    """The paper's weights from a Gaussian process: one sample, with noise, around 3.

    That the lengthscale is 1 in coordinates from -1 to 1, as those of the bimodal weights, is our own choice, as is the seed.
    """
    noisy = matern52(_points(), 1.0) + 1e-3 * np.eye(_SIDE**2)
    weights = np.maximum(sample_field(noisy, seed=0) + 3.0, 0.0)
    return grid_coverage(weights.reshape(_SIDE, _SIDE), _SHORT, _START)


def _obstacles() -> SubmodularEnv:
    """Coverage with constant weights among walls with gaps. The walls are our own."""
    blocked = np.zeros((_SIDE, _SIDE), bool)
    blocked[0:13, 9] = blocked[17:30, 9] = True
    blocked[9, 10:18] = blocked[20, 12:30] = True
    blocked[3:20, 21] = True
    blocked[10:12, 9] = False
    blocked[13:17, 14:17] = True
    return grid_coverage(np.ones((_SIDE, _SIDE)), 80, _START, blocked)


def _two_rooms() -> SubmodularEnv:
    """The paper's two rooms; where wall, door and start are is our own choice, as is the footprint, its coverage task's.

    With the cell alone as a footprint 40 steps could be spent in the first room without loss.
    """
    blocked = np.zeros((7, 14), bool)
    blocked[:, 7] = True
    blocked[3, 7] = False
    return grid_coverage(np.ones((7, 14)), _SHORT, 15, blocked)


def _item_collection() -> SubmodularEnv:
    """The paper's items; which cells they lie on is drawn with a seed of our own."""
    rows, columns, copies, limits = 7, 15, (18, 14, 13, 16, 18, 14), (3, 2, 3, 4, 6, 3)
    kinds = np.repeat(np.arange(len(copies)), copies)
    items = np.full(rows * columns, -1, np.int32)
    items[np.random.default_rng(0).permutation(rows * columns)[: len(kinds)]] = kinds
    marks = tuple(
        (float(cell % columns), float(cell // columns), "abcdef"[kind]) for cell, kind in enumerate(items) if kind >= 0
    )
    plane = Plane(
        Table((items >= 0).reshape(rows, columns).astype(np.float32)),
        "items in the cell",
        _cells(rows, columns),
        marks=marks,
    )
    return SubmodularPlane(
        GridWalk(rows, columns, _START, one_hot=True), ItemCollection(Table(items), Table(limits)), _SHORT, plane=plane
    )


def _informative_path() -> SubmodularEnv:
    """Measurements of a Gaussian process, paid by what they tell of it in nats. All numbers are our own.

    The field is uncertain in some places more than in others (its standard deviation is `exp(0.5 g)`, g a sample of a process
    of lengthscale 0.7), and cells within a lengthscale of 0.4, which is 6 cells, tell much the same.
    """
    deviation = np.exp(0.5 * sample_field(matern52(_points(), 0.7), seed=1))
    covariance = matern52(_points(), 0.4) * deviation[:, None] * deviation
    function = InformationGain(Table(covariance.astype(np.float32)), 0.05, _SHORT + 1)
    return _measured(function, deviation, "standard deviation of the field")


def _experiment_design() -> SubmodularEnv:
    """D-optimal design: what measurements tell of a field of which some were made before, in nats.

    The function is the information gain that the paper's log-determinant stands for; process, noise and the places of the
    earlier measurements are our own.
    """
    covariance = _posterior()
    function = InformationGain(Table(covariance.astype(np.float32)), 1e-2, _SHORT + 1)
    return _measured(function, np.sqrt(np.diagonal(covariance)), "standard deviation given earlier measurements")


def _experiment_design_released() -> SubmodularEnv:
    """The same with the function of the paper's released code: `0.5 logdet(K + 1e-6 I) + 9.965784 n`, repeats counted."""
    covariance = _posterior()
    function = LogDeterminant(Table(covariance.astype(np.float32)), RELEASED_JITTER, RELEASED_OFFSET, _SHORT + 1)
    return _measured(function, np.sqrt(np.diagonal(covariance)), "standard deviation given earlier measurements")


def _steiner_tree() -> SubmodularEnv:
    """A group Steiner tree, where each group counts once, whichever of its leaves is reached. It is our own.

    What pays at once leads into a branch where all leaves are of the same groups; the branch with the most groups pays
    nothing on the way. Six steps are too few to see both.
    """
    parents = (0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3)
    groups = ((), (0,), (), (), (0, 1), (1,), (0,), (1, 2), (3, 4), (5,), (2,), (3,))
    positions = ((4, 0), (1, 1), (4, 1), (7, 1), (0, 2), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (7, 2), (8, 2))
    neighbours = np.full((len(parents), 4), -1)
    for node in range(1, len(parents)):
        neighbours[node, 0] = parents[node]
        neighbours[parents[node], 1 + np.sum(np.array(parents[1:node]) == parents[node])] = node
    footprints = np.array([each + (-1,) * (2 - len(each)) for each in groups], np.int32)
    value = np.full((3, 9), np.nan, np.float32)
    for (column, row), each in zip(positions, groups, strict=True):
        value[row, column] = len(each)
    names = ("start", *("".join("abcdef"[group] for group in each) for each in groups[1:]))
    plane = Plane(
        Table(value),
        "groups of the node",
        Table(np.array(positions, np.float32)),
        marks=tuple((*_pair(position), name) for position, name in zip(positions, names, strict=True) if name),
        edges=tuple((_pair(positions[node]), _pair(positions[parent])) for node, parent in enumerate(parents) if node),
    )
    return SubmodularPlane(
        GraphWalk(Table(neighbours)), Coverage(Table(footprints), Table(np.ones(6, np.float32))), 6, plane=plane
    )


def _epsilon_bandit(miss: float = 0.1) -> SubmodularEnv:
    """The paper's epsilon-bandit with 6 elements and 3 steps; the elements' sets, which overlap, are our own."""
    footprints = np.array(
        [(0, 1, 2, 3), (2, 3, 4, 5), (0, 1, 4, -1), (5, 6, -1, -1), (6, 7, 8, -1), (1, 5, 8, -1)], np.int32
    )
    weights = np.array([1.0, 1.0, 1.0, 1.5, 1.0, 1.0, 0.5, 1.0, 1.0], np.float32)
    return SubmodularEnv(FreeChoice(len(footprints), miss, 3), Coverage(Table(footprints), Table(weights)), 3)


def _point_coverage() -> SubmodularEnv:
    """A point robot that covers discs of radius 0.75 in a square of side 10, in units of area. It is our own."""
    side, reach = 40, 3
    around = [(d, r) for d in range(-reach, reach + 1) for r in range(-reach, reach + 1) if d**2 + r**2 <= reach**2]
    return _square_coverage(PointMass(5.0, 0.5), 5.0, side, around, (10.0 / side) ** 2, "area of the cell", _SHORT, 1.0)


def _ant_coverage() -> SubmodularEnv:
    """The paper's ant, with Brax's physics: a visit covers the 5 x 5 cells of which its own is the corner."""
    around = [(down, right) for down in range(5) for right in range(5)]
    return _square_coverage(AntPlane(20.0), 20.0, 100, around, 1.0, "weight of the cell", 400, 0.1)


def _pair(position: tuple[int, int]) -> tuple[float, float]:
    return float(position[0]), float(position[1])


SUBMODULAR: dict[str, Callable[..., SubmodularEnv]] = {
    "GridCoverage": _constant,
    "BimodalCoverage": _bimodal,
    "ObstacleCoverage": _obstacles,
    "FieldCoverage": _field,
    "TwoRooms": _two_rooms,
    "ItemCollection": _item_collection,
    "InformativePath": _informative_path,
    "ExperimentDesign": _experiment_design,
    "ExperimentDesignReleased": _experiment_design_released,
    "SteinerTree": _steiner_tree,
    "EpsilonBandit": _epsilon_bandit,
    "PointCoverage": _point_coverage,
    "AntCoverage": _ant_coverage,
}


@functools.cache
def make_submodular(family: str, suffix: str) -> SubmodularEnv:
    """Makes one of `SUBMODULAR`.

    Args:
      family: its name.
      suffix: what stands behind its name and a hyphen: nothing, a number where it takes one, `visited`, or both so.

    Raises:
      UnknownNameError: it takes no such suffix.
    """
    visited = suffix == "visited" or suffix.endswith("-visited")
    number = suffix.removesuffix("visited").removesuffix("-") if visited else suffix
    if number and family != _WITH_NUMBER:
        raise UnknownNameError(
            f"maxent/{family} takes no {number!r} behind its name; there are maxent/{family} and maxent/{family}-visited."
        )
    env = SUBMODULAR[family](read_probability(family, number)) if number else SUBMODULAR[family]()
    return dataclasses.replace(env, visited=visited)


def _footprints(free: NDArray[np.bool_]) -> NDArray[np.int32]:
    """[cell, 4] the cell, and its right, lower and lower right neighbour where they can be seen."""
    rows, columns = free.shape
    padded = np.pad(free, ((0, 1), (0, 1)))
    right, down = padded[:-1, 1:], padded[1:, :-1]
    seen = np.stack([free, right, down, padded[1:, 1:] & (right | down)], axis=-1) & free[..., None]
    cells = np.arange(rows * columns)[:, None] + np.array([0, 1, columns, columns + 1])
    return np.where(seen.reshape(-1, 4), cells, -1).astype(np.int32)


def _cells(rows: int, columns: int) -> Table:
    """[cell, 2] column and row of every cell."""
    return Table(
        np.stack([np.arange(rows * columns) % columns, np.arange(rows * columns) // columns], -1).astype(np.float32)
    )


def _points() -> NDArray[np.float64]:
    """[cell, 2] of the paper's grids, from -1 to 1."""
    return np.stack(np.meshgrid(*(np.linspace(-1, 1, _SIDE),) * 2, indexing="ij"), axis=-1).reshape(-1, 2)


def _posterior() -> NDArray[np.float64]:
    """The covariance of a field on the paper's grid that is left after 20 measurements at random cells."""
    cells = np.random.default_rng(0).choice(_SIDE**2, 20, replace=False)
    return posterior_covariance(matern52(_points(), 0.4), cells, 1e-2)


def _measured(function: SetFunction, values: NDArray[np.float64], label: str) -> SubmodularPlane:
    """A walk over the paper's grid with values [cell] to be drawn."""
    plane = Plane(Table(values.reshape(_SIDE, _SIDE).astype(np.float32)), label, _cells(_SIDE, _SIDE))
    return SubmodularPlane(GridWalk(_SIDE, _SIDE, _START, one_hot=True), function, _SHORT, plane=plane)


def _square_coverage(
    motion: Motion,
    edge: float,
    side: int,
    around: list[tuple[int, int]],
    weight: float,
    label: str,
    horizon: int,
    scale: float,
) -> SubmodularPlane:
    """Coverage of the cells of a square by a point in it: of those at (down, right) from its own, as far as there are such."""
    row, column = np.divmod(np.arange(side**2)[:, None], side)
    down, right = np.array(around).T
    inside = (row + down >= 0) & (row + down < side) & (column + right >= 0) & (column + right < side)
    footprints = Table(np.where(inside, (row + down) * side + column + right, -1).astype(np.int32))
    weights = np.full(side**2, weight, np.float32)
    function = OnGrid(Coverage(footprints, Table(weights)), (-edge, -edge), (edge, edge), (side, side))
    plane = Plane(Table(weights.reshape(side, side)), label, edge=edge, footprints=footprints)
    return SubmodularPlane(motion, function, horizon, scale=scale, plane=plane)
