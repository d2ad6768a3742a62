"""What the first steps of an environment tell of it: foreign random numbers, and changes that float32 loses."""

from __future__ import annotations

import random
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from environments import HostPoint
from gymnasium.spaces import Box, Dict, Tuple

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.registry import make_host

UNIT = Box(-1.0, 1.0, (1,), np.float32)


def said(make: Any, steps: int = 70) -> list[str]:
    """What is said within some steps of two environments."""
    envs = make_host(make, [0, 1]) if isinstance(make, str) else GymnasiumEnvs(make, [0, 1], name="Walk")
    envs.reset()
    for _ in range(steps):
        envs.step(np.zeros((2, *envs.spec.action_shape)))
    envs.close()
    return envs.take_remarks()


class Foreign(HostPoint):
    """Draws with functions of modules, at a time of its episode (0 is its reset)."""

    draw: Any = staticmethod(random.random)
    at = 0

    def reset(self, **options: Any) -> Any:
        result = super().reset(**options)
        if self.at == 0:
            self.draw()
        return result

    def step(self, action: Any) -> Any:
        if self.elapsed == self.at:
            self.draw()
        return super().step(action)


GLOBAL = "which --seed does not reach"


@pytest.mark.parametrize(
    ("draw", "whose"),
    [
        (random.random, r"Python's global generator \(random\)"),
        (np.random.random, r"NumPy's global generator \(np.random\)"),
        (np.random.standard_normal, r"NumPy's global generator \(np.random\)"),
        (lambda: (random.shuffle([1, 2]), np.random.randint(5)), "NumPy's .* and Python's .*"),  # noqa: NPY002
    ],
    ids=["random", "np.random", "every second normal leaves the words alone", "both"],
)
@pytest.mark.parametrize("at", [0, 1, 12])
def test_random_numbers_that_no_seed_reaches_are_said_once(draw: Any, whose: str, at: int) -> None:
    made = type("Drawing", (Foreign,), {"draw": staticmethod(draw), "at": at})
    (sentence,) = said(made)
    assert re.search(f"^Walk draws from {whose}, {GLOBAL}", sentence)


@pytest.mark.parametrize("make", [HostPoint, "Pendulum", "HalfCheetah"])
def test_environments_with_generators_of_their_own_are_not_accused(make: Any) -> None:
    np.random.random(), random.random()  # noqa: NPY002  # others may
    assert said(make) == []


class Clock(gymnasium.Env[Any, Any]):
    """Observes [0, what its clock shows] and pays what its till holds; both go on by steps of their own."""

    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, start: Any, step: Any, kind: Any = np.float64, till: Any = 0.0, pays: Any = 0.0) -> None:
        self.start, self.by, self.kind, self.till, self.pays = start, step, kind, till, pays
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.elapsed = 0
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([0, self.start + self.by * self.elapsed], self.kind)

    def step(self, action: Any) -> Any:
        self.elapsed += 1
        return self.observe(), self.till + self.pays * self.elapsed, False, self.elapsed >= 50, {}


@pytest.mark.parametrize(
    ("start", "step", "kind"),
    [
        (1.7e9, 1.0, np.float64),  # seconds since 1970, every second
        (1.7e9, 60.0, np.float64),  # every minute
        (-1.7e9, 1.0, np.float64),
        (1_700_000_000, 1, np.int64),
        (1_700_000_000, 1, np.uint64),
        (1_700_000_000_000_000_000, 1_000_000_000, np.int64),  # nanoseconds
        (2**24, 1, np.int32),  # a counter
        (1e5, 0.001, np.float64),  # a price and its ticks
    ],
)
def test_changes_that_float32_loses_are_said(start: Any, step: Any, kind: Any) -> None:
    (sentence,) = said(lambda: Clock(start, step, kind))
    assert (
        sentence.startswith("Entry 1 of the observation of Walk changes by ") and "subtract a fixed start" in sentence
    )


def test_the_sentence_names_the_entry_the_change_and_how_far_apart_numbers_lie() -> None:
    assert said(lambda: Clock(1.7e9, 1.0)) == [
        "Entry 1 of the observation of Walk changes by 1 at 1.7e+09, where the numbers of float32, in which agents compute, "
        "lie 128 apart, so that many changes are lost: subtract a fixed start from it."
    ]


class Dated(Clock):
    """The same clock as one entry of a dictionary, in which the other is a tuple."""

    def __init__(self, *clock: Any) -> None:
        super().__init__(*clock)
        self.observation_space = Dict({"others": Tuple((UNIT, UNIT)), "time": self.observation_space})

    def observe(self) -> Any:
        return {"others": (np.zeros(1, np.float32), np.ones(1, np.float32)), "time": super().observe()}


def test_in_a_dictionary_the_entry_is_named_by_its_key() -> None:
    (sentence,) = said(lambda: Dated(1.7e9, 1.0))
    assert sentence.startswith("Entry 1 of 'time' in the observation of Walk changes by 1 at 1.7e+09")


def test_rewards_that_float32_makes_equal_are_said() -> None:
    (sentence,) = said(lambda: Clock(0.0, 1.0, till=1e9, pays=1.0))
    assert sentence.startswith("The reward of Walk changes by 1 at 1e+09")


@pytest.mark.parametrize(
    ("start", "step", "kind"),
    [
        (1.7e9, 86_400.0, np.float64),  # days are told apart
        (0.0, 1.0, np.float64),
        (1.0, 1e-9, np.float64),  # a body that comes to rest: what is lost is none of an agent's business
        (1e6, 1e-10, np.float64),  # rounding of a constant
        (1e6, 0.0, np.float64),
        (1e6, 1.0, np.float32),  # has no more digits to lose
        (3, 1, np.int16),
    ],
)
def test_what_float32_can_tell_or_nobody_needs_is_not_said(start: Any, step: Any, kind: Any) -> None:
    assert said(lambda: Clock(start, step, kind)) == []
