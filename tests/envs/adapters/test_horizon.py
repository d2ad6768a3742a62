"""How long episodes are: what limits the environment, what it tells of itself, what the user wants, or 1,000 steps."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from environments import HostPoint

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.adapters.horizon import DEFAULT_HORIZON, horizon_of
from maxent_rl.envs.registry import make_host


class Endless(HostPoint):
    """Never ends by itself, whatever it tells."""

    def __init__(self, **told: Any) -> None:
        super().__init__(horizon=10**9)
        for name, value in told.items():
            setattr(self, name, value)


class Own(HostPoint):
    """Has a clock of its own, and says so as MiniGrid does."""

    max_steps = 7

    def __init__(self) -> None:
        super().__init__(horizon=self.max_steps)


class Wrapped(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells a limit outside the environment."""

    max_episode_steps = 5


LIMITED = gymnasium.wrappers.TimeLimit


@pytest.mark.parametrize(
    ("env", "given", "steps"),
    [
        (Endless(), None, DEFAULT_HORIZON),
        (Own(), None, 7),
        (Endless(max_episode_steps=8), None, 8),
        (Endless(_max_episode_steps=9), None, 9),
        (Endless(max_steps=3000), None, 3000),
        (Wrapped(Endless()), None, 5),
        (Wrapped(Endless(max_steps=4)), None, 4),
        (LIMITED(Endless(max_steps=4), 6), None, 6),
        (LIMITED(LIMITED(Endless(), 6), 9), None, 6),
        *((Endless(max_steps=other), None, DEFAULT_HORIZON) for other in (None, 0, -1, np.inf, 2.5, True, "3", len)),
        (Endless(max_steps=np.int64(30)), None, 30),
        (Endless(max_steps=4), 20, 20),
        (LIMITED(Endless(), 6), 20, 6),
        (LIMITED(Endless(), 6), 3, 3),
    ],
    ids=lambda value: str(getattr(value, "__dict__", value))[:40],
)
def test_the_horizon_is_the_environments_own_or_the_users(env: Any, given: int | None, steps: int) -> None:
    assert horizon_of(env, given).steps == steps


def remarks(make: Any, steps: int, horizon: int | None = None) -> list[str]:
    """What is said within some steps of two environments."""
    envs = GymnasiumEnvs(make, [0, 1], name="Walk", horizon=horizon)
    envs.reset()
    for _ in range(steps):
        envs.step(np.zeros((2, 2)))
    said = envs.take_remarks()
    assert not envs.take_remarks()
    envs.close()
    return said


def test_the_first_cut_that_nobody_asked_for_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maxent_rl.envs.adapters.horizon.DEFAULT_HORIZON", 4)
    assert remarks(Endless, 3) == []
    assert remarks(Endless, 9) == [
        "An episode of Walk was cut after 4 steps, as all will be, because it has no limit of its own that it tells: "
        "--max-episode-steps sets another number."
    ]
    assert remarks(lambda: Endless(max_steps=5), 11) == [
        "An episode of Walk was cut after 5 steps, as all will be, because its max_steps is 5, though it went on there: "
        "--max-episode-steps sets another number."
    ]


@pytest.mark.parametrize(
    ("make", "horizon"),
    [(Own, None), (lambda: LIMITED(Endless(), 4), None), (Endless, 4), (lambda: Endless(max_steps=9), 4)],
    ids=["its own clock", "TimeLimit", "asked for", "asked for before its own"],
)
def test_ends_that_were_to_be_expected_are_not_said(make: Any, horizon: int | None) -> None:
    assert remarks(make, 16, horizon) == []


def test_the_limit_of_a_registered_environment_stands() -> None:
    assert [make_host("Pendulum-v1", [0], horizon).spec.horizon for horizon in (None, 50, 500)] == [200, 50, 200]
