"""Every step of a host environment is checked: each fault, at a reset and in a step, is one sentence with place and time."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from maxent_rl.envs.adapters.checks import Checks
from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs, make_spec
from maxent_rl.envs.registry import make_host, make_single
from maxent_rl.errors import EnvironmentFailedError, IncompatibleEnvironmentError, MissingDependencyError

RIGHT = np.arange(3, dtype=np.float32)


class Cross(gymnasium.Env):
    """Gives what it should, but for one entry of what `step` or a later `reset` returns."""

    observation_space = Box(-9.0, 9.0, (3,), np.float32)
    action_space = Discrete(2)

    def __init__(self, where: str = "", entry: int = 0, value: Any = None) -> None:
        self.where, self.entry, self.value = where, entry, value
        self.elapsed = self.episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.elapsed, self.episodes = 0, self.episodes + 1
        return self._spoil((RIGHT.copy(), {}), self.where == "reset" and self.episodes == 2)

    def step(self, action: Any) -> Any:
        self.elapsed += 1
        given = (RIGHT.copy(), 1.0, self.elapsed == 3, False, {})
        return self._spoil(given, self.where == "step" and self.elapsed == 2)

    def _spoil(self, given: tuple[Any, ...], now: bool) -> Any:
        if not now:
            return given
        return (*given[: self.entry], self.value, *given[self.entry + 1 :])


def play(make: Callable[[], gymnasium.Env[Any, Any]], steps: int = 3) -> Any:
    """Plays two environments side by side; the last step."""
    envs = GymnasiumEnvs(make, [0, 1], "Crossing")
    envs.reset()
    return [envs.step(np.zeros(2)) for _ in range(steps)][-1]


OBSERVATIONS = {
    "one number": np.float32(7),
    "one entry": np.array([7.0], np.float32),
    "one entry with two axes": np.array([[7.0]]),
    "too few": np.zeros(2),
    "too many": np.zeros(4),
    "a column": np.zeros((3, 1)),
    "a row": np.zeros((1, 3)),
    "none": None,
    "texts": np.array(["1", "2", "3"]),
    "complex": np.ones(3) * 1j,
    "objects": np.array([1.0, None, 2.0]),
    "a list with a hole": [1.0, None, 2.0],
    "lists of different lengths": [[1.0], [2.0, 3.0], []],
    "a dict": {"position": RIGHT},
    "text": "abc",
}


@pytest.mark.parametrize("value", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize(
    ("where", "when"), [("step", "in step 2 of its episode"), ("reset", "at the start of an episode")]
)
def test_an_observation_of_another_shape_or_type_is_never_broadcast(value: Any, where: str, when: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError) as caught:
        play(partial(Cross, where, 0, value))
    sentence = str(caught.value)
    assert sentence.startswith(f"Crossing (environment 0 of 2), {when}, gave ") and "expected" in sentence
    assert ("an observation" in sentence and "(3,)" in sentence) or "leading axes" in sentence


REWARDS = {
    "none": None,
    "one entry": np.array([86.0]),
    "two entries": np.array([1.0, 2.0]),
    "text": "1.5",
    "complex": 1j,
    "a list": [1.0],
    "a dict": {},
}
FLAGS = {
    "none": None,
    "one entry": np.array([True]),
    "text": "False",
    "half": 0.5,
    "two": 2,
    "nan": float("nan"),
    "the info of old Gym": {"TimeLimit.truncated": False},
}


@pytest.mark.parametrize("value", REWARDS.values(), ids=REWARDS)
def test_a_reward_is_one_number(value: Any) -> None:
    with pytest.raises(
        IncompatibleEnvironmentError, match=r"as the reward in step 2 .*expected one number, such as float"
    ):
        play(partial(Cross, "step", 1, value))


@pytest.mark.parametrize("value", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize(("entry", "which"), [(2, "terminated"), (3, "truncated")])
def test_a_flag_is_true_or_false(value: Any, entry: int, which: str) -> None:
    with pytest.raises(
        IncompatibleEnvironmentError, match=f"as {which} in step 2 of its episode; expected True or False"
    ):
        play(partial(Cross, "step", entry, value))


@pytest.mark.parametrize(
    ("entry", "value", "field", "expected"),
    [
        (0, [1, 2, 3], "next_observation", [1, 2, 3]),
        (0, jnp.array([1.0, 2.0, 3.0]), "next_observation", [1, 2, 3]),
        (0, np.array([True, False, True]), "next_observation", [1, 0, 1]),
        (1, 2, "reward", 2),
        (1, True, "reward", 1),
        (1, np.array(2.5), "reward", 2.5),
        (1, np.float16(0.5), "reward", 0.5),
        (1, Fraction(1, 4), "reward", 0.25),
        (1, jnp.float32(2), "reward", 2),
        (2, 1, "terminated", True),
        (2, np.bool_(True), "terminated", True),
        (2, np.array(True), "terminated", True),
        (3, 1.0, "truncated", True),
    ],
)
def test_what_has_one_meaning_is_taken(entry: int, value: Any, field: str, expected: Any) -> None:
    step = play(partial(Cross, "step", entry, value), steps=2)
    np.testing.assert_array_equal(getattr(step, field)[0], expected)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda self, action: (RIGHT, 1.0, False, {}), "gave 4 values in step 1 .*five: .*old Gym's done"),
        (lambda self, action: None, "gave None in step 1 .*five"),
        (lambda self, action: (RIGHT, 1.0, False, False, {}, {}), "gave 6 values"),
        (lambda self, action: RIGHT, r"gave an array of shape \(3,\) in step 1"),
    ],
)
def test_a_step_gives_five_values(call: Any, words: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=rf"Crossing \(environment 0 of 2\) {words}"):
        play(type("Wrong", (Cross,), {"step": call}))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda self, *, seed=None, options=None: RIGHT, r"gave an array of shape \(3,\); expected two values"),
        (lambda self, *, seed=None, options=None: None, "gave None; expected two values"),
        (lambda self, *, seed=None, options=None: (RIGHT, 1, 2), "gave a tuple of 3; expected two values"),
        (lambda self: (RIGHT, {}), r"takes no seed; expected reset\(self, \*, seed=None, options=None\)"),
    ],
)
def test_a_reset_takes_a_seed_and_gives_two_values(call: Any, words: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=rf"The reset of Crossing \(environment 0 of 2\) {words}"):
        play(type("Wrong", (Cross,), {"reset": call}))


def failing(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [AssertionError("pole"), StopIteration(), ZeroDivisionError("x\ny"), KeyError("mass")]
)
@pytest.mark.parametrize(
    ("call", "when"), [("step", "in step 1 of its episode"), ("reset", "at the start of an episode")]
)
def test_what_an_environment_raises_is_one_sentence_and_its_cause(error: Exception, call: str, when: str) -> None:
    with pytest.raises(EnvironmentFailedError) as caught:
        play(type("Failing", (Cross,), {call: failing(error)}))
    assert str(caught.value).startswith(f"Crossing (environment 0 of 2) raised {type(error).__name__}")
    assert str(caught.value).endswith(f"{when}.") and "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("call", ["step", "reset"])
def test_an_interrupt_and_an_error_of_ours_go_through(call: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        play(type("Failing", (Cross,), {call: failing(KeyboardInterrupt())}))
    with pytest.raises(MissingDependencyError, match="drawn by hand"):
        play(type("Failing", (Cross,), {call: failing(MissingDependencyError("drawn by hand"))}))
    with pytest.raises(MissingDependencyError, match="needs a package that is not installed: No module named 'box2d'"):
        play(type("Failing", (Cross,), {call: failing(ModuleNotFoundError("No module named 'box2d'"))}))


def test_an_environment_of_the_old_kind_within_a_wrapper_is_told_what_a_step_gives() -> None:
    old = type("Old", (Cross,), {"step": lambda self, action: (RIGHT, 1.0, False, {})})
    with pytest.raises(EnvironmentFailedError, match="must give five values, where old Gym's done"):
        play(lambda: gymnasium.wrappers.TimeLimit(old(), 5))


@pytest.mark.parametrize(
    ("spaces", "words"),
    [
        ({"observation_space": Discrete}, "has the class Discrete as its observation_space; expected a space itself"),
        ({"action_space": Discrete}, "has the class Discrete as its action_space"),
        ({"action_space": 2}, "has 2 as its action_space; expected a space of Gymnasium's"),
        (
            {"observation_space": property(failing(ValueError("size")))},
            r"has no observation_space \(it raised ValueError",
        ),
    ],
)
def test_spaces_are_spaces(spaces: dict[str, Any], words: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=f"Crossing {words}"):
        play(type("Wrong", (Cross,), spaces))


def test_an_environment_without_spaces_is_told_which() -> None:
    with pytest.raises(IncompatibleEnvironmentError, match="Crossing has no observation_space; expected a space"):
        play(type("Bare", (gymnasium.Env,), {}))


def with_an_argument(size: int) -> Any:
    return Cross()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (failing(ValueError("no such file: model.xml")), r"it raised ValueError \(no such file: model\.xml\)"),
        (with_an_argument, "it raised TypeError .*missing 1 required positional argument"),
    ],
)
def test_what_fails_to_be_made_is_one_sentence(make: Any, words: str) -> None:
    with pytest.raises(EnvironmentFailedError, match=f"Crossing cannot be made: {words}"):
        play(make)


@pytest.mark.parametrize(
    ("field", "spaces", "words"),
    [
        ("action_space", [Box(-1.0, 1.0, (1,)), Box(-2.0, 2.0, (1,))], r"low .*action_space, \(-1.0,\) and \(-2.0,\)"),
        ("action_space", [Discrete(2), Discrete(3)], r"sizes .*action_space, \(2,\) and \(3,\)"),
        ("action_space", [Discrete(2), Discrete(2, start=1)], r"start .*action_space, \(0,\) and \(1,\)"),
        ("action_space", [Discrete(2), Box(-1.0, 1.0, (1,))], "kind .*action_space, discrete and box"),
        ("observation_space", [Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (3, 1))], r"shape .*, \(3,\) and \(3, 1\)"),
    ],
)
def test_environments_side_by_side_have_the_same_spaces(field: str, spaces: list[Any], words: str) -> None:
    different = iter(spaces)

    def make() -> gymnasium.Env[Any, Any]:
        env = Cross()
        setattr(env, field, next(different))
        return env

    with pytest.raises(IncompatibleEnvironmentError, match=f"environments that differ in the {words}"):
        play(make)


def test_an_attribute_that_is_called_spec_is_the_environments_own() -> None:
    class Weighed(Cross):
        def __init__(self) -> None:
            super().__init__()
            self.spec: Any = {"mass": 1.0}

    assert GymnasiumEnvs(Weighed, [0]).spec.horizon == 1000


def test_an_environment_that_fails_to_close_is_a_warning_and_the_others_are_closed() -> None:
    closed: list[int] = []

    class Closing(Cross):
        def close(self) -> None:
            closed.append(len(closed))
            if len(closed) == 1:
                raise OSError("the socket is gone")

    envs = GymnasiumEnvs(Closing, [0, 1, 2])
    with pytest.warns(RuntimeWarning, match=r"Closing raised OSError \(the socket is gone\) when it was closed"):
        envs.close()
    assert closed == [0, 1, 2]


PARTS = Dict({"goal": Box(-1.0, 1.0, (2,)), "pair": Tuple((Discrete(3, start=5), MultiBinary(2)))})
GOOD: dict[str, Any] = {"pair": (np.int64(7), np.array([0, 1])), "goal": np.zeros(2)}


def seen(space: gymnasium.Space[Any], value: Any) -> Any:
    """What agents see of a value that a step gives."""
    first = PARTS if space is PARTS else space
    first.seed(0)
    start = first.sample()

    class Parts(Cross):
        observation_space = space

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return start, {}

        def step(self, action: Any) -> Any:
            return value, 1.0, False, False, {}

    return play(Parts, steps=1).next_observation[0]


def test_all_parts_of_an_observation_are_looked_at() -> None:
    np.testing.assert_array_equal(seen(PARTS, GOOD), [0, 0, 0, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (PARTS, {**GOOD, "goal": np.zeros(3)}, r"the part 'goal' of an observation of shape \(3,\)"),
        (PARTS, {"goal": np.zeros(2)}, "a dict with goal as an observation; expected a dict with goal, pair"),
        (PARTS, {**GOOD, "pair": (7,)}, "tuple as the part 'pair' .*expected a tuple of 2 parts"),
        (
            PARTS,
            {**GOOD, "pair": (8, [0, 1])},
            "8 as the part 'pair.0' of an observation, which is none of its choices",
        ),
        (PARTS, {**GOOD, "pair": (6.5, [0, 1])}, "6.5 as the part 'pair.0' of an observation, which is none of its"),
        (PARTS, {**GOOD, "goal": None}, "NoneType as the part 'goal' of an observation; expected numbers"),
        (PARTS, GOOD["pair"], "tuple as an observation; expected a dict with goal, pair"),
        (Discrete(3), np.array([1]), r"observations with the leading axes \(1,\)"),
        (Discrete(3), 0.5, "0.5 as an observation, which is none of its choices"),
        (Discrete(3), float("nan"), "nan as an observation, which is none of its choices"),
        (MultiDiscrete([2, 3]), [[0, 1], [0, 1]], r"observations with the leading axes \(2,\); expected a single one"),
        (Box(0, 255, (4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), r"with the leading axes \(1,\)"),
        (Box(0, 255, (4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.uint8), r"of shape \(3, 4, 4\)"),
    ],
)
def test_an_observation_of_any_space_is_one_of_it(space: gymnasium.Space[Any], value: Any, words: str) -> None:
    where = r"^Crossing \(environment 0 of 2\), in step 1 of its episode, gave "
    with pytest.raises(IncompatibleEnvironmentError, match=f"{where}.*({words})"):
        seen(space, value)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"])
def test_what_gymnasiums_own_environments_give_passes_without_a_closer_look(name: str, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("looked closer")

    env = make_single(name)
    checks = Checks(name, [env], make_spec(env, name, 10).observation_space)
    assert checks.reset(0, seed=0).shape == env.observation_space.shape
    env.action_space.seed(0)
    for closer in ("_vector", "_number", "_flag"):
        monkeypatch.setattr(checks, closer, refuse)
    for _ in range(5):
        checks.step(0, env.action_space.sample())


class Plain(Cross):
    """Its constructor takes nothing, as those of many users."""

    def __init__(self) -> None:
        super().__init__()


@pytest.fixture
def plain_id() -> Any:
    gymnasium.register("Plain-v0", entry_point=Plain)
    yield "Plain-v0"
    del gymnasium.registry["Plain-v0"]


def test_a_registered_environment_need_not_know_of_render_modes(plain_id: str) -> None:
    assert make_host(plain_id, [0]).reset().shape == (1, 3)
    with pytest.raises(
        IncompatibleEnvironmentError, match="Plain-v0 cannot be drawn: its constructor takes no render_mode"
    ):
        make_single(plain_id, "rgb_array")
