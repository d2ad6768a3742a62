"""Greedy, lazy greedy and the best of all subsets on every function, and curvature."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from set_functions_under_test import CASES, FOOTPRINTS, SIZE, coverage, information

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import (
    Coverage,
    InformationGain,
    Modular,
    Table,
    Truncated,
    best_subset,
    curvature,
    greedy,
    lazy_greedy,
)

SETS = [name for name, case in CASES.items() if case.distinct]
every_set = pytest.mark.parametrize("name", SETS)


def by_hand(reference, budget):
    """Greedy by the definition; the first of what is equal."""
    chosen = []
    for _ in range(budget):
        values = {place: reference([*chosen, place]) for place in range(SIZE) if place not in chosen}
        best = max(values.values())
        chosen.append(min(place for place, value in values.items() if value >= best - 1e-6 * best))
    return tuple(chosen)


@pytest.mark.slow
@every_set
@pytest.mark.parametrize("budget", [1, 4, SIZE])
def test_greedy_and_lazy_greedy_choose_as_by_hand(name, budget):
    case, function = CASES[name], CASES[name].make()
    candidates = case.elements(np.arange(SIZE))
    found, lazy = greedy(function, candidates, budget), lazy_greedy(function, candidates, budget)
    assert found.places == lazy.places == by_hand(case.reference, budget)
    assert found.value == pytest.approx(case.reference(list(found.places)), rel=1e-5)
    np.testing.assert_allclose(lazy.gains, found.gains, rtol=0, atol=1e-5)
    assert sum(found.gains) == found.value and found.evaluations == sum(SIZE - step for step in range(budget))
    assert lazy.evaluations <= found.evaluations


def test_lazy_greedy_saves_most_evaluations_on_a_large_ground_set():
    weights = np.random.default_rng(1).uniform(0, 1, 400)
    neighbours = np.stack([np.arange(400), (np.arange(400) + 1) % 400], 1)
    function = Coverage(Table(neighbours), Table(weights))
    found, lazy = greedy(function, np.arange(400), 30), lazy_greedy(function, np.arange(400), 30)
    assert found.places == lazy.places and 10 * lazy.evaluations < found.evaluations


@pytest.mark.slow
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), budget=st.integers(1, 4))
def test_greedy_keeps_its_guarantee_on_random_coverage(seed, budget):
    random = np.random.default_rng(seed)
    function = Coverage(
        Table(np.stack([random.choice(14, 4, replace=False) for _ in range(9)])), Table(random.uniform(0, 1, 14))
    )
    found, best = lazy_greedy(function, np.arange(9), budget), best_subset(function, 9, budget)
    assert (1 - 1 / math.e) * best.value - 1e-6 <= found.value <= best.value + 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETS if name != "on a grid"])  # subsets are of indices
def test_greedy_keeps_its_guarantee_for_every_function(name):
    function = CASES[name].make()
    found, best = greedy(function, np.arange(SIZE), 3), best_subset(function, SIZE, 3)
    assert (1 - 1 / math.e) * best.value <= found.value <= best.value * (1 + 1e-5)
    assert best.value == pytest.approx(CASES[name].reference(list(best.places)), rel=1e-5)
    assert sum(best.gains) == pytest.approx(best.value, rel=1e-5)


def test_the_best_subset_beats_greedy_where_greedy_is_led_astray():
    """The largest set first, though two smaller ones cover everything."""
    function = Coverage(Table([[0, 1, 2, 3], [0, 1, 4, -1], [2, 3, 5, -1]]), Table(np.ones(6)))
    assert greedy(function, np.arange(3), 2).value == 5
    best = best_subset(function, 3, 2)
    assert best.places == (1, 2) and best.value == 6 and best.gains == (3, 3) and best.evaluations == 3


def test_more_subsets_than_are_computed_at_once():
    function = Modular(Table(np.r_[np.ones(13), 5.0, 1.0, 7.0, 1.0, 6.0]))
    best = best_subset(function, 18, 6)  # 18,564 subsets
    assert best.value == 21 and set(best.places) >= {13, 15, 17}


@pytest.mark.slow
def test_curvature():
    assert curvature(Modular(Table([1.0, 2.0, 0.0])), 3) == 0
    assert curvature(Modular(Table([0.0, 0.0])), 2) == 0
    twins = Coverage(Table([[0, 1], [0, 1]]), Table([1.0, 1.0]))
    assert curvature(twins, 2) == 1
    half = Coverage(Table([[0, 1], [1, 2]]), Table(np.ones(3)))
    assert curvature(half, 2) == 0.5
    everything = list(range(SIZE))
    exact = 1 - min(
        (information(everything) - information(everything[:s] + everything[s + 1 :])) / information([s])
        for s in everything
    )
    assert curvature(CASES["information gain"].make(), SIZE) == pytest.approx(exact, abs=1e-5)
    assert curvature(coverage(), len(FOOTPRINTS)) == 1


def test_what_is_refused():
    function = Modular(Table(np.ones(40)))
    for budget in (0, 4):
        with pytest.raises(
            InvalidSettingError, match=f"budget must be from 1 to the number of candidates, 3, got {budget}"
        ):
            greedy(function, np.arange(3), budget)
    with pytest.raises(InvalidSettingError, match="137846528820 subsets of 20 of 40 elements, and at most 5000000"):
        best_subset(function, 40, 20)
    with pytest.raises(ShapeError, match="holds 2 elements, but the trajectory has 3"):
        lazy_greedy(InformationGain(Table(np.eye(4)), 1.0, 2), np.arange(4), 3)


@pytest.mark.parametrize(("large", "small"), [(0.4, 0.1), (0.7, 0.2), (1.1, 1.0)])
def test_of_subsets_whose_values_round_apart_the_first_is_the_best(large, small):
    """0.4 + 0.1 + 0.4 comes out a last bit below 0.4 + 0.4 + 0.1, which is as good and not better."""
    best = best_subset(Modular(Table([large, small, large, small])), 4, 3)
    assert best.places == (0, 1, 2) and best.value == pytest.approx(2 * large + small, rel=1e-6)


def test_an_element_that_is_worth_rounding_alone_says_nothing_of_the_curvature():
    """Beside a value of 1 what 1e-9 adds is lost in the difference, which is no sign of returns that diminish."""
    assert curvature(Truncated(Modular(Table([1e-9, 1.0])), 10.0), 2) == 0
    assert curvature(Truncated(Modular(Table([1e-3, 1.0])), 1.0), 2) == 1.0
