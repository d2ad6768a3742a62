"""A run that is resumed goes on bit by bit: the state of host environments, through a checkpoint's bytes, into new ones."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from environments import HostPoint
from gymnasium.spaces import Box

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.adapters.snapshot import can_snapshot, restore, snapshot
from maxent_rl.envs.host import HostEnvs, HostStep
from maxent_rl.envs.registry import make_host
from maxent_rl.storage.arrays import pack, unpack

UNIT = Box(-1.0, 1.0, (1,), np.float32)
PLANE = Box(-np.inf, np.inf, (1,), np.float32)


def go_on(envs: HostEnvs, steps: int, seed: int) -> HostStep:
    """Fields of `steps` steps [time, N, ...] under random actions."""
    actions = np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, envs.num_envs, envs.spec.action_size))
    return HostStep(*(np.stack(field) for field in zip(*map(envs.step, actions), strict=True)))


def assert_resumes(killed: HostEnvs, resumed: HostEnvs, before: int, after: int) -> HostStep:
    """Steps `before`, moves the state over as bytes, and compares `after` steps of both."""
    killed.reset()
    go_on(killed, before, seed=1)
    state = killed.get_state()
    assert state is not None
    saved = pack(state)
    whole = go_on(killed, after, seed=2)
    resumed.set_state(unpack(saved))
    for one, other in zip(whole, go_on(resumed, after, seed=2), strict=True):
        np.testing.assert_array_equal(one, other)
    killed.close()
    resumed.close()
    return whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "ends"),
    [
        ("HalfCheetah", 850, "truncated"),
        ("Hopper", 37, "terminated"),
        ("Walker2d", 37, "terminated"),
        ("Ant", 37, "terminated"),
        ("Humanoid", 37, "terminated"),
        ("InvertedPendulum", 5, "terminated"),
        ("Pendulum", 73, "truncated"),
    ],
)
def test_new_environments_go_on_bit_by_bit_beyond_the_end_of_an_episode(name: str, before: int, ends: str) -> None:
    steps = assert_resumes(make_host(name, [3, 4]), make_host(name, [3, 4]), before, 250)
    assert getattr(steps, ends).any(), "no episode ended, so that the resets were not tested"


def test_the_seeds_of_the_new_environments_do_not_matter() -> None:
    assert_resumes(make_host("Hopper", [3]), make_host("Hopper", [99]), 20, 100)


def test_environments_that_have_run_already_forget_their_past() -> None:
    used = make_host("Walker2d", [3])
    used.reset()
    go_on(used, 60, seed=5)
    assert_resumes(make_host("Walker2d", [3]), used, 20, 100)


def test_telling_the_state_changes_nothing() -> None:
    asked, left_alone = make_host("Hopper", [3]), make_host("Hopper", [3])
    for envs in (asked, left_alone):
        envs.reset()
        go_on(envs, 10, seed=1)
    asked.get_state()
    for one, other in zip(go_on(asked, 60, seed=2), go_on(left_alone, 60, seed=2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_state_told_does_not_move_with_the_environments() -> None:
    envs = make_host("Hopper", [3])
    envs.reset()
    state: Any = envs.get_state()
    before = pack(state).tobytes()
    go_on(envs, 5, seed=1)
    assert pack(state).tobytes() == before


def test_plain_attributes_are_told() -> None:
    steps = assert_resumes(GymnasiumEnvs(HostPoint, [3, 4]), GymnasiumEnvs(HostPoint, [3, 4]), 7, 60)
    assert steps.truncated.any()


def test_the_horizon_of_our_own_goes_on_where_it_was() -> None:
    """The environment has no limit here: the steps taken stand in `GymnasiumEnvs` alone."""
    make = partial(HostPoint, horizon=10**9)
    steps = assert_resumes(GymnasiumEnvs(make, [3], horizon=10), GymnasiumEnvs(make, [3], horizon=10), 7, 15)
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated[:, 0]), [2, 12])


def test_wrappers_with_a_state_of_their_own_are_told() -> None:
    def make() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.TimeLimit(gymnasium.wrappers.RescaleAction(HostPoint(10**9), -1.0, 1.0), 10)

    steps = assert_resumes(GymnasiumEnvs(make, [3]), GymnasiumEnvs(make, [3]), 7, 15)
    np.testing.assert_array_equal(np.flatnonzero(steps.truncated[:, 0]), [2, 12])


class Hidden(gymnasium.Env[Any, Any]):
    """Counts in a generator, which nobody can look into."""

    observation_space, action_space = PLANE, UNIT

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.counter = iter(self.np_random.uniform(size=1000))
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.float32([next(self.counter)]), 0.0, False, False, {}


class Telling(Hidden):
    """The same, but it can tell how far it is."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.values, self.position = self.np_random.uniform(size=1000), 0
        self.counter = iter(self.values)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.position += 1
        return super().step(action)

    def get_state(self) -> dict[str, Any]:
        return {"values": self.values, "position": self.position, "pair": (1, 2.5, None)}

    def set_state(self, state: dict[str, Any]) -> None:
        assert state["pair"] == (1, 2.5, None)
        self.values, self.position = state["values"], state["position"]
        self.counter = iter(self.values[self.position :])


def test_an_environment_with_get_state_and_set_state_tells_itself() -> None:
    assert can_snapshot(Telling(), Telling())
    assert_resumes(GymnasiumEnvs(Telling, [3, 4], horizon=30), GymnasiumEnvs(Telling, [3, 4], horizon=30), 12, 60)


def test_an_environment_whose_state_cannot_be_told_gives_none() -> None:
    assert not can_snapshot(Hidden(), Hidden())
    envs = GymnasiumEnvs(Hidden, [3])
    envs.reset()
    assert envs.get_state() is None


def test_an_environment_that_fails_when_tried_out_gives_none() -> None:
    class Fragile(HostPoint):
        def step(self, action: Any) -> Any:
            raise RuntimeError("not today")

    assert not can_snapshot(Fragile(), Fragile())


class Alone(HostPoint):
    """Only one may be open."""

    open = 0

    def __init__(self) -> None:
        super().__init__()
        assert not Alone.open, "there is one already"
        Alone.open += 1

    def close(self) -> None:
        Alone.open -= 1


class AloneAndHidden(Hidden):
    """Another one that can be had once, whose state nobody can tell."""

    def __init__(self) -> None:
        assert not Alone.open, "there is one already"
        Alone.open += 1

    def close(self) -> None:
        Alone.open -= 1


@pytest.mark.parametrize(("kind", "tells"), [(Alone, True), (AloneAndHidden, False)])
def test_an_environment_of_which_only_one_may_be_open_is_tried_out_itself_before_it_begins(
    kind: type[gymnasium.Env[Any, Any]], tells: bool
) -> None:
    with contextlib.closing(GymnasiumEnvs(kind, [3])) as tried:
        tried.try_state()
        first = tried.reset()
        steps = go_on(tried, 5, seed=1)
        assert (tried.get_state() is not None) == tells
    with contextlib.closing(GymnasiumEnvs(kind, [3])) as left_alone:
        np.testing.assert_array_equal(left_alone.reset(), first)
        for one, other in zip(steps, go_on(left_alone, 5, seed=1), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not Alone.open


@pytest.mark.parametrize("name", ["HalfCheetah", "Hopper", "Humanoid", "Pendulum"])
def test_environments_that_were_tried_out_do_what_fresh_ones_do(name: str) -> None:
    fresh, tried = make_host(name, [3]), make_host(name, [3])
    tried.try_state()
    np.testing.assert_array_equal(fresh.reset(), tried.reset())
    for one, other in zip(go_on(fresh, 30, seed=1), go_on(tried, 30, seed=1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert tried.get_state() is not None


def test_parts_that_share_a_random_generator_share_it_after_a_restore() -> None:
    class Sharing(HostPoint):
        def reset(self, **options: Any) -> Any:
            result = super().reset(**options)
            self.noise = self.np_random
            return result

    first, second = Sharing(), Sharing()
    for env, seed in ((first, 1), (second, 2)):
        env.reset(seed=seed)
    restore(second, unpack(pack(snapshot(first))))
    assert second.noise is second.np_random
    assert second.noise.uniform() == first.noise.uniform()
    assert second.np_random.uniform() == first.np_random.uniform()


def test_exact_types_survive() -> None:
    first, second = HostPoint(), HostPoint()
    values = {"count": 3, "small": np.float32(0.1), "flag": True, "text": "x", "tree": {"a": [1, (2.0, None)]}}
    for env in (first, second):
        env.reset(seed=0)
    for name, value in values.items():
        setattr(first, name, value)
    restore(second, unpack(pack(snapshot(first))))
    for name, value in values.items():
        assert getattr(second, name) == value
        assert type(getattr(second, name)) is type(value)
    assert second.position.dtype == np.float32
