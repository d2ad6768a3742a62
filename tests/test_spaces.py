"""What an environment writes and what agents have of it: over all spaces, in both directions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import hypothesis
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hypothesis import strategies as st

from maxent_rl.envs.adapters.spaces import action_space, observation_space
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.spaces import ActionRule, Space, flatten, to_agent, to_environment

HUGE = float(np.finfo(np.float32).max)
ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": Box(-1, 1, (3,), np.float32),
    "one number": Box(-3, 3, (), np.float64),
    "two axes": Box(-3, 2, (2, 3), np.float64),
    "asymmetric": Box(np.float32([-0.1, 1 / 3]), np.float32([0.7, 1e6])),
    "half": Box(-0.1, 0.3, (2,), np.float16),
    "no width": Box(np.float32([0, 2]), np.float32([1, 2])),
    "huge": Box(-HUGE, HUGE, (2,), np.float32),
    "huger": Box(-1e308, 1e308, (1,), np.float64),
    "discrete": Discrete(4),
    "from minus one": Discrete(3, start=-1),
    "small type": Discrete(3, start=5, dtype=np.int32),
    "several": MultiDiscrete([2, 3, 4]),
    "several from elsewhere": MultiDiscrete([2, 3], start=[-1, 7]),
    "several in two axes": MultiDiscrete([[2, 3], [4, 5]]),
    "bits": MultiBinary(3),
    "bits in two axes": MultiBinary([2, 2]),
}
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": Box(-1, 1, (3,), np.float32),
    "one number": Box(-1, 1, (), np.float64),
    "two axes": Box(-1, 1, (2, 3), np.float32),
    "whole": Box(0, 9, (2,), np.int64),
    "one hot": Discrete(4, start=2),
    "several hot": MultiDiscrete([2, 3]),
    "bits": MultiBinary([2, 2]),
    "dict": Dict({"b": Box(-1, 1, (2,)), "a": Discrete(3)}),
    "tuple": Tuple((Discrete(3), Box(-1, 1, (2, 2)))),
    "nested": Dict(
        {"x": Tuple((Discrete(2), Dict({"z": Box(0, 1, (1,)), "y": MultiBinary(2)}))), "w": Box(0, 1, (2,))}
    ),
}
FRAMES: dict[str, spaces.Space[Any]] = {
    "last": Box(0, 255, (4, 5, 3), np.uint8),
    "first": Box(0, 255, (3, 4, 5), np.uint8),
    "grey": Box(0, 255, (4, 5), np.uint8),
    "beside": Dict({"a picture": Box(0, 255, (1, 4, 5), np.uint8), "speed": Box(-1, 1, (2,)), "other": Discrete(2)}),
}


def agents_actions(space: Space, count: int, generator: np.random.Generator) -> Any:
    """[count, ...] actions that an agent could take, real ones reaching beyond [-1, 1]."""
    if space.kind == "box":
        return generator.uniform(-1.5, 1.5, (count, len(space.low))).astype(np.float32)
    choices = generator.integers(0, space.sizes, (count, len(space.sizes)))
    return (choices[:, 0] if space.kind == "discrete" else choices).astype(np.float32)


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_is_in_the_space_and_comes_back(name: str) -> None:
    space = ACTIONS[name]
    own = action_space(space, "Here")
    actions = agents_actions(own, 50, np.random.default_rng(0))
    if own.kind == "box":
        actions[0], actions[1] = -1.0, 1.0
    commands = to_environment(actions, own)
    assert commands.dtype == space.dtype and all(space.contains(command) for command in commands)
    # One alone is what it is among others.
    assert np.array_equal(to_environment(actions[3], own), commands[3])
    back = to_agent(commands, own)
    if own.kind != "box":
        np.testing.assert_array_equal(back, actions)
        return
    np.testing.assert_array_equal(commands[0], space.low)
    np.testing.assert_array_equal(commands[1], space.high)
    width = np.ravel(space.high).astype(float) / 2 - np.ravel(space.low).astype(float) / 2
    size = np.maximum(np.abs(np.ravel(space.low).astype(float)), np.abs(np.ravel(space.high).astype(float)))
    rounding = 4 * np.finfo(space.dtype).eps * size / np.where(width > 0, width, 1.0)
    wanted = np.where(width > 0, np.clip(actions, -1, 1), 0.0)
    assert (np.abs(back - wanted) <= rounding + 1e-6).all()


@hypothesis.given(
    low=st.floats(-1e6, 1e6, width=32),
    width=st.floats(0, 1e6, width=32),
    action=st.floats(-2, 2, width=32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_rounding_never_leaves_the_box(low: float, width: float, action: float, dtype: Any) -> None:
    box = Box(np.array([low], dtype), np.array([low], dtype) + np.array([width], dtype), dtype=dtype)
    assert box.contains(ActionRule(action_space(box, "Here")).to_environment(np.float32([action])))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_become_the_vector_that_gymnasium_makes_of_them(name: str) -> None:
    space = OBSERVATIONS[name]
    space.seed(0)
    own = observation_space(space, "Here")
    for _ in range(20):
        observed = space.sample()
        found = flatten(own, observed, "Here gave")
        assert found.shape == (own.size,) and found.dtype == np.float32
        np.testing.assert_array_equal(found, spaces.flatten(space, observed).astype(np.float32))


@pytest.mark.parametrize("name", FRAMES)
def test_images_come_last_and_have_their_channels_last(name: str) -> None:
    space = FRAMES[name]
    space.seed(0)
    own, observed = observation_space(space, "Here"), space.sample()
    found = flatten(own, observed, "Here gave")
    (height, width, channels) = own.frames[0]
    assert (height, width, own.size - found[: -height * width * channels].size) == (4, 5, 20 * channels)
    picture = observed["a picture"] if name == "beside" else observed
    if name in ("first", "beside"):
        picture = np.moveaxis(picture, 0, -1)
    np.testing.assert_array_equal(found[-20 * channels :], np.ravel(picture))
    if name == "beside":
        bits = np.eye(2)[observed["other"]]
        np.testing.assert_array_equal(found[:4], np.float32([*bits, *observed["speed"]]))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_batches_are_their_rows(name: str) -> None:
    space = OBSERVATIONS[name]
    space.seed(1)
    own, rows = observation_space(space, "Here"), [space.sample() for _ in range(6)]

    def stacked(parts: list[Any]) -> Any:
        if isinstance(parts[0], dict):
            return {key: stacked([part[key] for part in parts]) for key in parts[0]}
        if isinstance(parts[0], tuple):
            return tuple(stacked(list(each)) for each in zip(*parts, strict=True))
        array = np.stack(parts)
        return array.reshape(2, 3, *array.shape[1:])

    found = flatten(own, stacked(rows), "Here gave")
    wanted = np.stack([flatten(own, row, "Here gave") for row in rows])
    np.testing.assert_array_equal(found, wanted.reshape(2, 3, own.size))


@pytest.mark.parametrize("name", [*OBSERVATIONS, *FRAMES, *ACTIONS])
def test_a_space_survives_json(name: str) -> None:
    read, known = (action_space, ACTIONS) if name in ACTIONS else (observation_space, OBSERVATIONS | FRAMES)
    own = read(known[name], "Here")
    assert Space.of(json.loads(json.dumps(dataclasses.asdict(own)))) == own
    assert Space.of(dataclasses.asdict(own)) == own


NOT_OBSERVED = {
    "one number for three": (Box(-9, 9, (3,)), 7.0, r"shape \(\); expected .*\(3,\)"),
    "another size": (Box(-9, 9, (3,)), np.zeros(2), r"shape \(2,\); expected .*\(3,\)"),
    "a column": (Box(-9, 9, (3,)), np.zeros((3, 1)), r"shape \(3, 1\)"),
    "nothing": (Box(-9, 9, (3,)), None, "NoneType"),
    "text": (Box(-9, 9, (3,)), "abc", "str"),
    "ragged": (Box(-9, 9, (3,)), [[1.0], [1.0, 2.0]], "list"),
    "no choice": (Discrete(3), 3, "3 as an observation, which is none of its choices"),
    "no choice below": (Discrete(3, start=1), 0, "none of its choices"),
    "a missing key": (
        Dict({"a": Discrete(2), "b": Discrete(2)}),
        {"a": 0},
        "a dict with a as an observation; expected",
    ),
    "an array for a dict": (Dict({"a": Discrete(2)}), np.zeros(1), "ndarray as an observation; expected a dict with a"),
    "a dict for a tuple": (Tuple((Discrete(2),)), {"0": 1}, "expected a tuple of 1 parts"),
    "too few parts": (Tuple((Discrete(2), Discrete(2))), (0,), "expected a tuple of 2 parts"),
    "a part of another shape": (
        Dict({"a": Box(0, 1, (2,))}),
        {"a": np.zeros(3)},
        r"the part 'a' of an observation of shape",
    ),
}


@pytest.mark.parametrize("name", NOT_OBSERVED)
def test_what_is_not_of_the_space_is_refused_in_a_sentence(name: str) -> None:
    space, observed, words = NOT_OBSERVED[name]
    with pytest.raises(IncompatibleEnvironmentError, match=f"^Here gave .*{words}"):
        flatten(observation_space(space, "Here"), observed, "Here gave")


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "text": (observation_space, spaces.Text(3), "a Text space"),
    "a sequence within": (observation_space, Dict({"a": spaces.Sequence(Discrete(2))}), "as its part 'a'"),
    "empty": (observation_space, Box(-1, 1, (0,)), "not empty"),
    "empty dict": (observation_space, Dict({}), "a Dict space"),
    "a class": (observation_space, Discrete, "no space of Gymnasium's"),
    "none": (observation_space, None, "None, which is no space"),
    "text action": (action_space, spaces.Text(3), "a Text space"),
    "whole numbers": (action_space, Box(0, 9, (2,), np.int64), "expected a Box of real numbers"),
    "a dict": (action_space, Dict({"a": Discrete(2)}), "takes actions from a Dict space"),
    "no bounds": (action_space, Box(-np.inf, np.inf, (2,)), r"without finite bounds \(-inf to inf\)"),
    "half a bound": (action_space, Box(np.float32([0, 0]), np.float32([1, np.inf])), r"bounds \(0.0 to inf\)"),
    "no entries": (action_space, Box(-1, 1, (0,)), "without entries"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_spaces_that_are_not_handled_are_refused_by_name(name: str) -> None:
    read, space, words = REFUSED[name]
    with pytest.raises(IncompatibleEnvironmentError, match=f"^Crossing .*{words}"):
        read(space, "Crossing")


def test_an_inverted_box_is_refused() -> None:
    box = Box(-1, 1, (2,))
    box.low[1], box.high[1] = 2.0, 1.0
    with pytest.raises(IncompatibleEnvironmentError, match="entry 1 is at least 2 and at most 1"):
        action_space(box, "Crossing")


def test_without_a_space_agents_actions_stay_in_the_box_or_what_they_are() -> None:
    np.testing.assert_array_equal(to_environment(np.float32([2.0, -3.0, 0.5]), None), np.float32([1, -1, 0.5]))
    np.testing.assert_array_equal(to_environment(np.int32([2, 0]), None), [2, 0])
