"""What can be reached without a way to go: greedy choices, the best subset by enumeration, and a function's curvature.

Runs on the host; gains and values are compiled. Guarantee of the greedy choice for monotone submodular functions: at least
1 - 1/e of the best subset of the same size (Nemhauser, Wolsey and Fisher 1978); the lazy form is Minoux 1978.
"""

from __future__ import annotations

import heapq
import itertools
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from maxent_rl.envs.rewards.base import SetFunction, refuse_longer
from maxent_rl.errors import InvalidSettingError
from maxent_rl.types import Array, PyTree

MOST_SUBSETS = 5_000_000
SUBSETS_AT_ONCE = 4096
# Gains that differ by less than this share of the value count as equal, so that the order of evaluations decides nothing.
ROUNDING = 1e-6


class Selection(NamedTuple):
    """A chosen subset.

    Attributes:
      places: positions of the chosen elements among the candidates, in order of choice.
      gains: what each added.
      value: their sum.
      evaluations: how many marginal gains or values were computed.
    """

    places: tuple[int, ...]
    gains: tuple[float, ...]
    value: float
    evaluations: int


def greedy(function: SetFunction, candidates: ArrayLike, budget: int) -> Selection:
    """Chooses the candidate of largest marginal gain again and again, the first of equals.

    Args:
      function: whose value is to be large.
      candidates: [n] indices or [n, axis] points, each to be chosen once at most.
      budget: how many to choose.

    Returns:
      The choice, after n + (n - 1) + ... evaluations.
    """
    elements = checked(function, candidates, budget)
    memory, left, evaluations = function.empty(), set(range(len(elements))), 0
    places: list[int] = []
    gains: list[float] = []
    for _ in range(budget):
        found = np.asarray(all_gains(function, memory, elements), np.float64)
        evaluations += len(left)
        best = max(found[place] for place in left)
        place = min(each for each in left if found[each] >= best - slack(gains, best))
        left.remove(place)
        memory, gain = visit(function, memory, elements[place])
        places.append(place)
        gains.append(float(gain))
    return Selection(tuple(places), tuple(gains), sum(gains), evaluations)


def lazy_greedy(function: SetFunction, candidates: ArrayLike, budget: int) -> Selection:
    """The choice of `greedy` with fewer evaluations: a gain computed earlier bounds the gain now, because returns diminish.

    Args:
      function: whose value is to be large; it must be submodular.
      candidates: [n] indices or [n, axis] points, each to be chosen once at most.
      budget: how many to choose.

    Returns:
      The choice.
    """
    elements = checked(function, candidates, budget)
    memory = function.empty()
    places: list[int] = []
    gains: list[float] = []
    bounds = np.asarray(all_gains(function, memory, elements), np.float64)
    heap = [(-bound, place) for place, bound in enumerate(bounds)]
    heapq.heapify(heap)
    evaluations = len(elements)
    for step in range(budget):
        fresh: dict[int, float] = {}
        best = -math.inf
        # A bound may lie below the gain it bounds by the rounding of both.
        while heap and -heap[0][0] >= best - 2 * slack(gains, max(best, 0.0)):
            bound, place = heapq.heappop(heap)
            fresh[place] = float(visit(function, memory, elements[place])[1]) if step else -bound
            evaluations += step > 0
            best = max(best, fresh[place])
        chosen = min(place for place, gain in fresh.items() if gain >= best - slack(gains, best))
        memory, gain = visit(function, memory, elements[chosen])
        places.append(chosen)
        gains.append(float(gain))
        for place, bound in fresh.items():
            if place != chosen:
                heapq.heappush(heap, (-bound, place))
    return Selection(tuple(places), tuple(gains), sum(gains), evaluations)


def best_subset(function: SetFunction, size: int, budget: int) -> Selection:
    """The best subset of a ground set, by looking at all of them.

    Args:
      function: of indices below `size`.
      size: of the ground set.
      budget: elements of a subset; more are never worse.

    Returns:
      The first subset of largest value (but for rounding), in rising order, with the gains of that order.

    Raises:
      InvalidSettingError: there are more than `MOST_SUBSETS` subsets.
    """
    checked(function, np.arange(size), budget)
    count = math.comb(size, budget)
    if count > MOST_SUBSETS:
        raise InvalidSettingError(
            f"There are {count} subsets of {budget} of {size} elements, and at most {MOST_SUBSETS} are looked at."
        )
    best = -math.inf
    chosen: tuple[int, ...] = ()
    subsets = itertools.combinations(range(size), budget)
    while batch := list(itertools.islice(subsets, SUBSETS_AT_ONCE)):
        # Filled up, so that the last batch compiles nothing again.
        filled = np.array(batch + batch[:1] * (min(count, SUBSETS_AT_ONCE) - len(batch)), np.int32)
        values = np.asarray(all_values(function, filled), np.float64)
        first = int(np.argmax(values >= values.max() - slack([], float(values.max()))))
        if values[first] > best + slack([], max(best, 0.0)):
            best, chosen = float(values[first]), batch[first]
    gains = np.asarray(function.marginal_gains(jnp.asarray(chosen, jnp.int32)), np.float64)
    return Selection(chosen, tuple(gains.tolist()), best, count)


def curvature(function: SetFunction, ground_set_size: int) -> float:
    """How far a function is from modular, 0 to 1: 1 - min_s F(s given all others) / F({s}).

    A policy that maximises F among tabular ones has a return of at least 1 - curvature of the optimum.

    Args:
      function: of indices below the size, which must not exceed its capacity.
      ground_set_size: number of elements; O(size^2) visits are computed.

    Returns:
      The curvature. Elements that are worth nothing alone, beside the worthiest, are left out; 0 where all are.

    Source: Submodular Reinforcement Learning, guarantee 3.
    """
    alone, last = curvature_gains(function, checked(function, np.arange(ground_set_size), ground_set_size))
    alone, last = np.asarray(alone, np.float64), np.asarray(last, np.float64)
    worth = alone > ROUNDING * np.max(alone, initial=0.0)  # of less, both numbers are rounding, and their ratio is any
    return float(np.clip(1.0 - np.min(last[worth] / alone[worth], initial=1.0), 0.0, 1.0))


def checked(function: SetFunction, candidates: ArrayLike, budget: int) -> Array:
    """The candidates as an array.

    Raises:
      InvalidSettingError: the budget is below 1, or there are fewer candidates.
      ShapeError: the budget is above the function's capacity.
    """
    elements = jnp.asarray(candidates)
    if not 1 <= budget <= len(elements):
        raise InvalidSettingError(
            f"The budget must be from 1 to the number of candidates, {len(elements)}, got {budget}."
        )
    refuse_longer(function, elements[:budget])
    return elements


def slack(gains: list[float], best: float) -> float:
    """How far apart gains may lie by rounding alone, after these gains."""
    return ROUNDING * (sum(gains) + best)


@partial(jax.jit, static_argnums=0)
def visit(function: SetFunction, memory: PyTree, element: Array) -> tuple[PyTree, Array]:
    """`function.add`, compiled."""
    return function.add(memory, element)


@partial(jax.jit, static_argnums=0)
def all_gains(function: SetFunction, memory: PyTree, elements: Array) -> Array:
    """What each of elements [n] or [n, axis] would add: [n]."""
    return jax.vmap(lambda element: function.add(memory, element)[1])(elements)


@partial(jax.jit, static_argnums=0)
def all_values(function: SetFunction, subsets: Array) -> Array:
    """The values [n] of subsets [n, size]."""
    return jax.vmap(function.value)(subsets)


@partial(jax.jit, static_argnums=0)
def curvature_gains(function: SetFunction, elements: Array) -> tuple[Array, Array]:
    """What each of all elements [n] is worth alone and after all others: [n] and [n]."""

    def after_others(place: Array) -> Array:
        return function.marginal_gains(jnp.roll(elements, -place - 1))[-1]

    return jax.vmap(function.single)(elements), jax.lax.map(after_others, jnp.arange(len(elements)))
