"""`GymnasiumEnvs` keeps termination, truncation, final observations and new episodes apart: probes of known values."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from environments import HostPoint
from gymnasium.spaces import Box, Discrete, Text

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.adapters.horizon import DEFAULT_HORIZON
from maxent_rl.envs.host import HostStep
from maxent_rl.errors import CheckpointError, IncompatibleEnvironmentError, NonFiniteError

UNIT = Box(-1.0, 1.0, (1,), np.float32)


class Walk(gymnasium.Env):
    """Observes [random start, steps taken], pays the steps taken, and keeps every action that it was given."""

    def __init__(
        self,
        terminates_at: int = 0,
        truncates_at: int = 0,
        action_space: gymnasium.Space[Any] = UNIT,
        observation_space: gymnasium.Space[Any] | None = None,
    ) -> None:
        self.terminates_at, self.truncates_at, self.action_space = terminates_at, truncates_at, action_space
        self.observation_space = observation_space or Box(-np.inf, np.inf, (2,), np.float32)
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.start, self.elapsed = self.np_random.uniform(), 0
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([self.start, self.elapsed], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.taken.append(action)
        self.elapsed += 1
        ended, cut = self.elapsed == self.terminates_at, self.elapsed == self.truncates_at
        return self.observe(), float(self.elapsed), ended, cut, {"is_success": self.elapsed % 2 == 0}


def roll(envs: GymnasiumEnvs, steps: int, low: float = -1.0) -> tuple[np.ndarray, HostStep]:
    """(first observation [N, ...], fields of all steps [time, N, ...]) under random actions, the same in each column."""
    first = envs.reset()
    random = np.random.default_rng(0)
    shape = (envs.num_envs, *envs.spec.action_shape)
    taken = [envs.step(np.broadcast_to(random.uniform(low, 1.0, shape[1:]), shape)) for _ in range(steps)]
    envs.close()
    return first, HostStep(*(np.stack(field) for field in zip(*taken, strict=True)))


def test_next_observation_is_the_true_final_one_and_observation_starts_the_new_episode() -> None:
    first, steps = roll(GymnasiumEnvs(partial(Walk, terminates_at=3), [7]), 4)
    start = first[0, 0]
    np.testing.assert_array_equal(steps.next_observation[:3, 0], [[start, 1], [start, 2], [start, 3]])
    np.testing.assert_array_equal(steps.observation[:2], steps.next_observation[:2])
    assert steps.observation[2, 0, 0] != start and steps.observation[2, 0, 1] == 0


def test_after_an_end_the_next_row_is_the_first_step_of_the_new_episode_and_no_fake_one() -> None:
    _, steps = roll(GymnasiumEnvs(partial(Walk, terminates_at=2), [7]), 5)
    np.testing.assert_array_equal(steps.reward[:, 0], [1, 2, 1, 2, 1])
    np.testing.assert_array_equal(steps.next_observation[:, 0, 1], [1, 2, 1, 2, 1])
    for before, after in [(0, 1), (2, 3)]:
        assert steps.next_observation[before, 0, 0] == steps.next_observation[after, 0, 0]
    assert len({*steps.next_observation[:, 0, 0]}) == 3


@pytest.mark.parametrize(
    ("ends", "terminated", "truncated"),
    [
        ({"terminates_at": 2}, [False, True, False, True], [False] * 4),
        ({"truncates_at": 2}, [False] * 4, [False, True, False, True]),
        ({"terminates_at": 2, "truncates_at": 2}, [False, True, False, True], [False] * 4),
    ],
    ids=["terminated", "truncated", "both: terminated wins"],
)
def test_the_two_kinds_of_ends_stay_apart(ends: dict[str, int], terminated: list[bool], truncated: list[bool]) -> None:
    _, steps = roll(GymnasiumEnvs(partial(Walk, **ends), [7]), 4)
    np.testing.assert_array_equal(steps.terminated[:, 0], terminated)
    np.testing.assert_array_equal(steps.truncated[:, 0], truncated)


def test_termination_wins_in_the_very_step_of_the_horizon() -> None:
    _, steps = roll(GymnasiumEnvs(partial(Walk, terminates_at=2), [7], horizon=2), 2)
    assert steps.terminated[1, 0] and not steps.truncated[1, 0]


def test_the_horizon_given_cuts_where_the_environment_has_none() -> None:
    envs = GymnasiumEnvs(Walk, [7], horizon=3)
    assert envs.spec.horizon == 3
    _, steps = roll(envs, 7)
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, False, True, False, False, True, False])
    np.testing.assert_array_equal(steps.next_observation[:, 0, 1], [1, 2, 3, 1, 2, 3, 1])


@pytest.mark.parametrize(
    ("make", "given", "horizon"),
    [
        (Walk, None, DEFAULT_HORIZON),
        (lambda: gymnasium.wrappers.TimeLimit(Walk(), 5), None, 5),
        (lambda: gymnasium.wrappers.TimeLimit(Walk(), 5), 3, 3),
        (lambda: gymnasium.wrappers.TimeLimit(Walk(), 5), 9, 5),
    ],
    ids=["none", "its own", "a shorter one", "a longer one"],
)
def test_the_horizon_is_the_shortest_limit(make: Any, given: int | None, horizon: int) -> None:
    envs = GymnasiumEnvs(make, [7], horizon=given)
    assert envs.spec.horizon == horizon
    if horizon < DEFAULT_HORIZON:
        _, steps = roll(envs, horizon)
        assert steps.truncated[-1, 0] and not steps.truncated[:-1].any()


def test_an_environment_that_ends_does_not_disturb_the_others() -> None:
    lengths = iter([2, 3])
    first, steps = roll(GymnasiumEnvs(lambda: Walk(terminates_at=next(lengths)), [1, 2]), 3)
    np.testing.assert_array_equal(steps.next_observation[:, :, 1], [[1, 1], [2, 2], [1, 3]])
    np.testing.assert_array_equal(steps.observation[:, :, 1], [[1, 1], [0, 2], [1, 0]])
    assert (steps.next_observation[:, 1, 0] == first[1, 0]).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_an_environment_does_alone_what_it_does_among_others(workers: int) -> None:
    make = partial(Walk, terminates_at=4)
    among_first, among = roll(GymnasiumEnvs(make, [5, 6, 7, 8], workers=workers), 30)
    for index, seed in enumerate([5, 6, 7, 8]):
        alone_first, alone = roll(GymnasiumEnvs(make, [seed]), 30)
        np.testing.assert_array_equal(among_first[index], alone_first[0])
        for company, lonely in zip(among, alone, strict=True):
            np.testing.assert_array_equal(company[:, index], lonely[:, 0])


def test_reset_starts_from_the_seeds_again() -> None:
    envs = GymnasiumEnvs(partial(Walk, terminates_at=2), [5, 6])
    first = envs.reset()
    for _ in range(3):
        envs.step(np.zeros((2, 1)))
    np.testing.assert_array_equal(envs.reset(), first)
    assert envs.step(np.zeros((2, 1))).reward.tolist() == [1, 1]


def test_what_was_given_out_is_never_written_into_again() -> None:
    envs = GymnasiumEnvs(partial(Walk, terminates_at=2), [5])
    given = [envs.reset(), *(each for _ in range(3) for each in envs.step(np.zeros((1, 1))))]
    copies = [each.copy() for each in given]
    envs.step(np.zeros((1, 1)))
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def taken(space: gymnasium.Space[Any], action: Any) -> Any:
    """What an environment with this action space is given for an agent's action."""
    made: list[Walk] = []

    def make() -> Walk:
        made.append(Walk(action_space=space))
        return made[-1]

    envs = GymnasiumEnvs(make, [0])
    envs.reset()
    envs.step(np.asarray(action))
    return made[0].taken[0]


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ([[-1.0, -1.0]], [0.0, -2.0]),
        ([[1.0, 1.0]], [10.0, 4.0]),
        ([[0.0, 0.5]], [5.0, 2.5]),
        ([[2.0, -7.0]], [10.0, -2.0]),
    ],
)
def test_actions_are_rescaled_to_the_box_and_stay_within_it(action: list[list[float]], command: list[float]) -> None:
    space = Box(np.array([0.0, -2.0], np.float32), np.array([10.0, 4.0], np.float32))
    given = taken(space, action)
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, np.float32(command))
    spec = GymnasiumEnvs(partial(Walk, action_space=space), [0]).spec
    assert (spec.action_shape, spec.action_space.low, spec.action_space.high) == ((2,), (0.0, -2.0), (10.0, 4.0))


def test_the_bounds_are_met_exactly_whatever_the_rounding() -> None:
    low, high = np.float32([-0.1, 1 / 3]), np.float32([0.7, 1e6])
    np.testing.assert_array_equal(taken(Box(low, high), [[-1.0, -1.0]]), low)
    np.testing.assert_array_equal(taken(Box(low, high), [[1.0, 1.0]]), high)


def test_a_box_with_two_axes_gets_its_shape_back() -> None:
    given = taken(Box(-3.0, 3.0, (2, 2), np.float64), [[-1.0, 0.0, 0.5, 1.0]])
    np.testing.assert_array_equal(given, [[-3.0, 0.0], [1.5, 3.0]])


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_discrete_actions_are_counted_from_where_the_environment_counts(kind: Any) -> None:
    space = Discrete(3, start=5)
    spec = GymnasiumEnvs(partial(Walk, action_space=space), [0]).spec
    assert (spec.num_actions, spec.action_shape, spec.action_space.low) == (3, (), None)
    assert [int(taken(space, np.array([action], kind))) for action in range(3)] == [5, 6, 7]


@pytest.mark.parametrize("space", ["observation_space", "action_space"])
def test_what_cannot_work_is_refused_at_the_door_by_name(space: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=r"Crossing .* Text space"):
        GymnasiumEnvs(partial(Walk, **{space: Text(3)}), [0], name="Crossing")


def test_an_environment_without_a_given_name_is_called_by_its_class() -> None:
    with pytest.raises(IncompatibleEnvironmentError, match="Walk takes actions"):
        GymnasiumEnvs(partial(Walk, action_space=Text(3)), [0])


def test_one_environment_given_twice_is_refused() -> None:
    env = Walk()
    with pytest.raises(IncompatibleEnvironmentError, match="same environment twice"):
        GymnasiumEnvs(lambda: env, [0, 1])


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=r"gave a dict; expected a gymnasium\.Env"):
        GymnasiumEnvs(dict, [0])


class Faulty(Walk):
    """Observes `value` in entry 1 from step `at` of an episode on."""

    def __init__(self, value: float, at: int) -> None:
        super().__init__()
        self.value, self.at = value, at

    def observe(self) -> Any:
        return np.array([0.0, self.value if self.elapsed >= self.at else 0.0], np.float32)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda index: HostPoint(fault_at=2 if index == 1 else 0), "gave nan as the reward in step 2"),
        (lambda index: Faulty(np.nan, 2 if index == 1 else 9), "gave nan as entry 1 of the observation in step 2"),
        (lambda index: Faulty(-np.inf, 2 if index == 1 else 9), "gave -inf as entry 1 of the observation in step 2"),
    ],
    ids=["reward", "observation", "infinity"],
)
def test_nan_is_reported_with_environment_entry_and_step(make: Any, words: str) -> None:
    index = iter(range(3))
    envs = GymnasiumEnvs(lambda: make(next(index)), [0, 1, 2], name="Crossing")
    action = np.zeros((3, *envs.spec.action_shape))
    envs.reset()
    envs.step(action)
    with pytest.raises(NonFiniteError) as caught:
        envs.step(action)
    assert str(caught.value) == f"Crossing (environment 1 of 3) {words} of its episode."


def test_nan_in_the_very_first_observation_is_reported() -> None:
    envs = GymnasiumEnvs(lambda: Faulty(np.nan, 0), [0], name="Crossing")
    with pytest.raises(NonFiniteError, match="entry 1 of the observation at the start of an episode"):
        envs.reset()


def test_the_state_of_another_number_of_environments_is_refused() -> None:
    state = GymnasiumEnvs(Walk, [0]).get_state()
    assert state is None or len(state["envs"]) == 1
    with pytest.raises(CheckpointError, match="holds 5 environments of Walk, expected 2"):
        GymnasiumEnvs(Walk, [0, 1]).set_state({"envs": [None] * 5})
