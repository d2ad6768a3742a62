"""A device environment of one's own is traced at the door: what has one meaning is let in, all else is one sentence."""

from __future__ import annotations

import dataclasses
import random
from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from maxent_rl.envs.contents import contents
from maxent_rl.envs.device import reset_within, step_within
from maxent_rl.envs.door import OwnEnv, admit, is_device_env
from maxent_rl.envs.registry import make_device
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.spaces import Space, flatten
from maxent_rl.types import Spec


@dataclasses.dataclass(frozen=True)
class Walk:
    """Counts its steps, and observes three times their number."""

    horizon: int = 10

    @property
    def spec(self) -> Any:
        return Spec((3,), (), self.horizon, num_actions=2)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(3)

    def step(self, state: Any, action: Any) -> Any:
        return state + 1, jnp.ones(3) * state, 1.0, False


def of(**members: Any) -> Any:
    """A walk with other members."""
    return type("Odd", (Walk,), members)()


def stepping(state: Any = 1, observation: Any = None, reward: Any = 1.0, terminated: Any = False) -> Any:
    """A walk whose step gives this; functions are given the state."""
    given = (state, jnp.ones(3) if observation is None else observation, reward, terminated)

    def step(self: Any, before: Any, action: Any) -> Any:
        following, *others = (value(before) if callable(value) else value for value in given)
        return (before + following, *others)

    return of(step=step)


def starting(state: Any, observation: Any, **members: Any) -> Any:
    """A walk that begins with this, and stays as it is."""
    members = {"step": lambda self, before, action: (before, observation, 1.0, False)} | members
    return of(reset=lambda self, key: (state, observation), **members)


def specified(**fields: Any) -> Any:
    """A walk with another spec."""
    return of(spec=property(lambda self: dataclasses.replace(Walk().spec, **fields)))


@pytest.mark.parametrize(
    ("env", "observation", "reward", "terminated"),
    [
        (Walk(), [2, 2, 2], 1.0, False),
        (stepping(observation=lambda state: jnp.full(3, state)), [2, 2, 2], 1.0, False),
        (stepping(observation=lambda state: jnp.full(3, state > 1)), [1, 1, 1], 1.0, False),
        (stepping(observation=lambda state: jnp.full(3, state, jnp.uint8)), [2, 2, 2], 1.0, False),
        (stepping(observation=lambda state: jnp.full(3, state, jnp.bfloat16)), [2, 2, 2], 1.0, False),
        (stepping(observation=lambda state: [state, 0.5, True]), [2, 0.5, 1], 1.0, False),
        (stepping(observation=np.arange(3.0)), [0, 1, 2], 1.0, False),
        (stepping(reward=lambda state: state > 1), [1, 1, 1], 1.0, False),
        (stepping(reward=lambda state: state), [1, 1, 1], 2.0, False),
        (stepping(reward=3), [1, 1, 1], 3.0, False),
        (stepping(terminated=lambda state: state), [1, 1, 1], 1.0, True),
        (stepping(terminated=lambda state: 0.5 * state), [1, 1, 1], 1.0, True),
        (stepping(terminated=0), [1, 1, 1], 1.0, False),
        (of(step=lambda self, state, action: [state + 1, jnp.ones(3) * state, 1.0, False]), [2, 2, 2], 1.0, False),
        (of(reset=lambda self, key: (0, jnp.zeros(3))), [2, 2, 2], 1.0, False),
    ],
    ids=["as it should be", "whole numbers", "truth values", "bytes", "half precision", "a list", "NumPy", "a truth value "
         "as reward", "a whole number as reward", "a Python number as reward", "a whole number as flag", "a half as flag",
         "a Python number as flag", "a list of four", "a Python number as state"],
)  # fmt: skip
def test_what_has_one_meaning_is_let_in_and_comes_as_float32_and_bool(
    env: Any, observation: Any, reward: float, terminated: bool
) -> None:
    admitted = admit(env)
    state, first = reset_within(admitted, jax.random.key(0))
    for _ in range(3):
        state, seen, paid, ended = step_within(admitted, state, jnp.float32(1))
    assert (first.dtype, seen.dtype, paid.dtype, ended.dtype) == (jnp.float32, jnp.float32, jnp.float32, jnp.bool_)
    assert not state.weak_type and not seen.weak_type and not paid.weak_type
    np.testing.assert_array_equal(seen, np.asarray(observation, np.float32))
    assert (float(paid), bool(ended)) == (reward, terminated)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8])
@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 5), (5, 2, 3), ()])
def test_observations_of_other_axes_become_vectors_by_the_rule_of_spaces(shape: tuple[int, ...], dtype: Any) -> None:
    seen = jnp.arange(np.prod(shape, dtype=int), dtype=dtype).reshape(shape)
    admitted = admit(starting(0, seen, spec=Spec(shape, (), 10, num_actions=2)))
    space = admitted.spec.observation_space
    assert space == Space("box", shape, np.dtype(dtype).name) and admitted.spec.observation_shape == (space.size,)
    state, first = reset_within(admitted, jax.random.key(0))
    expected = flatten(space, np.asarray(seen), "It gave")
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(step_within(admitted, state, jnp.int32(0))[1], expected)


SHAPES = [(jnp.zeros(()), "()"), (jnp.zeros(1), "(1,)"), (jnp.zeros((3, 1)), "(3, 1)"), (jnp.zeros(4), "(4,)")]
ODD: list[tuple[Any, str]] = [
    *((value, f"an array of shape {shape} as the observation; expected the shape (3,)") for value, shape in SHAPES),
    (None, "None as the observation"),
    ("text", "'text' as the observation"),
    ({"position": jnp.zeros(3)}, "a dict of 1 as the observation"),
    (jnp.zeros(3) * 1j, "the type complex64 as the observation; expected real numbers"),
]


@pytest.mark.parametrize("call", ["reset", "step"])
@pytest.mark.parametrize(("value", "words"), ODD, ids=[words.split(" as ")[0] for _, words in ODD])
def test_an_observation_is_what_the_spec_says(call: str, value: Any, words: str) -> None:
    wrong: Any = (
        starting(0, value) if call == "reset" else of(step=lambda self, state, action: (state, value, 1.0, False))
    )
    with pytest.raises(IncompatibleEnvironmentError) as caught:
        admit(wrong)
    assert str(caught.value).startswith(f"Odd.{call} gave {words}")


@pytest.mark.parametrize("which", ["reward", "terminated"])
@pytest.mark.parametrize("value", [jnp.zeros(1), jnp.zeros((2, 1)), None, "x", {}, 1j * jnp.ones(())], ids=repr)
def test_rewards_and_flags_are_one_real_number(which: str, value: Any) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=rf"Odd\.step gave .* as (the )?{which}; expected"):
        admit(stepping(**{which: lambda state: value}))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (of(step=lambda self, *_: (0, jnp.ones(3), 1.0, False, {})), "step gave 5 values; expected four values"),
        (of(step=lambda self, *_: jnp.ones(4)), r"step gave an array of shape \(4,\); expected four values"),
        (of(reset=lambda self, key: jnp.ones(2)), r"reset gave an array of shape \(2,\); expected two values"),
        (of(reset=lambda self, key: (0, jnp.ones(3), {})), "reset gave 3 values; expected two values"),
        (of(reset=lambda self: (0, jnp.ones(3))), r"reset .*raised TypeError .*1 positional argument but 2 were given"),
        (starting({"name": "walk"}, jnp.ones(3)), r"reset gave a state that holds 'walk' \(state\['name'\]\)"),
        (stepping(state=0.5), r"step must .* but it, which is int32\[\], comes back as float32\[\]: start"),
        (stepping(state=jnp.ones(2, jnp.int32)), r"step must .* but it, which is int32\[\], comes back as int32\[2\]"),
        (of(step=lambda *_: ({}, jnp.ones(3), 1.0, False)), r"step must .* reset gives, an array int32\[\], got a dict"),
        (of(reset=lambda self, key: ({"t": jnp.zeros(())}, jnp.zeros(3)),
            step=lambda self, s, a: ({"t": s["time"]}, jnp.ones(3), 1.0, False)), r"step .*raised KeyError \('time'\)"),
    ],
)  # fmt: skip
def test_results_and_states_keep_their_form(env: Any, words: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=rf"^Odd\.{words}"):
        admit(env)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (
            lambda self, s, a: (s + 1 if a == 1 else s, jnp.ones(3), 1.0, False),
            "decides in Python .* expected jnp.where",
        ),
        (lambda self, s, a: (s, jnp.ones(3), float(s), False), r"needs the number .*\(float\(\), int\(\), a shape\)"),
        (lambda self, s, a: (s, jnp.ones(3), np.array(s), False), "gives NumPy a value .* expected jax.numpy"),
        (lambda self, s, a: (s, jnp.ones(3), [1.0, 2.0][a], False), "takes a value .* as an index or a length"),
    ],
    ids=["if", "float", "NumPy", "index"],
)
def test_what_cannot_be_traced_is_told_what_to_write_and_where(step: Any, words: str) -> None:
    line = step.__code__.co_firstlineno
    with pytest.raises(
        IncompatibleEnvironmentError, match=rf"^Odd\.step \(test_door\.py, line {line}\) {words}"
    ) as caught:
        admit(of(step=step))
    assert caught.value.__cause__ is not None and "\n" not in str(caught.value)


def counting(self: Any, state: Any, action: Any) -> Any:
    object.__setattr__(self, "steps", getattr(self, "steps", 0) + 1)
    return state, jnp.ones(3), 1.0, self.steps >= 3


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (of(step=counting), "Odd changes attributes of its own"),
        (stepping(reward=lambda state: float(np.random.uniform())), r"Odd\.step uses other numbers each time"),  # noqa: NPY002
        (stepping(reward=lambda state: random.random()), r"Odd\.step uses other numbers each time"),
        (
            stepping(reward=lambda state: jax.lax.cond(state > 0, lambda: random.random(), lambda: 0.0)),
            r"Odd\.step uses",
        ),
        (
            of(reset=lambda self, key: (0, jnp.asarray(np.random.default_rng().normal(size=3)))),
            r"Odd\.reset uses other",
        ),
    ],
    ids=["a counter", "np.random", "random", "within a branch", "a generator of its own"],
)
def test_functions_that_are_not_pure_are_refused_as_they_are_traced_once(env: Any, words: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=words):
        admit(env)


def test_what_is_kept_on_first_use_is_no_change() -> None:
    class Lazy(Walk):
        def step(self, state: Any, action: Any) -> Any:
            if not hasattr(self, "walls"):
                object.__setattr__(self, "walls", np.ones(3))
            return state + 1, self.walls * state, 1.0, False

    assert isinstance(admit(Lazy()), OwnEnv)  # it holds an array by now


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"observation_shape": 3}, r"observation_shape 3; expected a tuple of whole numbers from 1"),
        ({"observation_shape": (0,)}, r"observation_shape \(0,\)"),
        ({"action_shape": (2, 2), "num_actions": None}, r"action_shape \(2, 2\); expected \(size,\)"),
        ({"num_actions": None}, r"action_shape \(\); expected \(size,\)"),
        ({"horizon": 0}, "horizon 0; expected a whole number of steps from 1"),
        ({"horizon": 10.0}, "horizon 10.0"),
        ({"num_actions": 0}, "num_actions 0"),
        (
            {"action_space": Space("discrete", sizes=(2,), start=(5,))},
            "action_space .* None, as device environments",
        ),
        ({"choices": (2, 3), "num_actions": None}, r"action_shape \(\); expected \(size,\)"),
        (
            {"choices": (2, 3), "num_actions": None, "action_shape": (3,)},
            r"choices \(2, 3\); expected None, or a whole",
        ),
        (
            {"observation_space": Space("box", (2, 2))},
            "observation_space .*expected None, or a box or a dict with the entries of",
        ),
        (
            {"observation_space": Space("discrete", sizes=(3,), start=(0,))},
            "observation_space .*expected None, or a box",
        ),
    ],
)
def test_a_spec_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=rf"^Odd\.spec has the {words}"):
        admit(specified(**fields))


@pytest.mark.parametrize(
    "fields", [{"observation_shape": [3]}, {"horizon": np.int64(10)}, {"num_actions": np.int32(2)}]
)
def test_a_spec_of_lists_and_numpys_numbers_becomes_one_of_pythons(fields: dict[str, Any]) -> None:
    assert repr(admit(specified(**fields)).spec) == repr(Walk().spec)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (gymnasium.Env(), "given as an instance; give a function that makes it"),
        (None, "NoneType is neither a function nor a device environment"),
        (of(spec=property(lambda self: 1 / 0)), r"Odd\.spec raised ZeroDivisionError"),
    ],
)
def test_what_is_no_device_environment_says_so(env: Any, words: str) -> None:
    assert is_device_env(env)
    with pytest.raises(IncompatibleEnvironmentError, match=words):
        admit(env)


def test_functions_and_classes_make_environments_and_callable_ones_are_such_themselves() -> None:
    callable_env = of(__call__=lambda self: None)
    assert not is_device_env(Walk) and not is_device_env(lambda: Walk()) and not is_device_env(partial(Walk, 3))
    assert is_device_env(Walk()) and is_device_env(callable_env)
    assert not callable(admit(callable_env))


def test_an_environment_as_it_should_be_is_admitted_as_it_is() -> None:
    env = Walk()
    assert admit(env) is env


@dataclasses.dataclass(frozen=True)
class Walled(Walk):
    walls: Any = None


@struct.dataclass
class Flax:
    walls: Any
    spec = Spec((3,), (), 10, num_actions=2)
    reset, step = Walk.reset, Walk.step


class Plain:
    spec, reset = Spec((3,), (), 10, num_actions=2), Walk.reset

    def __init__(self, walls: Any) -> None:
        self.walls = walls

    def step(self, state: Any, action: Any) -> Any:
        return state, jnp.ones(3), jnp.sum(jnp.asarray(self.walls)), False


@pytest.mark.parametrize("make", [lambda walls: Walled(walls=walls), Flax, Plain], ids=["frozen", "flax", "plain"])
@pytest.mark.parametrize("array", [jnp.asarray, np.asarray, list], ids=["jax", "numpy", "list"])
def test_environments_that_hold_arrays_are_equal_where_these_are(make: Any, array: Any) -> None:
    one, same, other = (admit(make(array(values))) for values in ([1.0, 2.0], [1.0, 2.0], [1.0, 3.0]))
    assert isinstance(one, OwnEnv)
    assert one == same and hash(one) == hash(same) and one != other


def test_an_object_that_changes_is_not_what_it_was_so_that_no_program_of_before_is_kept() -> None:
    env = Plain([1.0])
    reward = jax.jit(lambda env: step_within(env, jnp.int32(0), jnp.int32(0))[2], static_argnums=0)
    assert float(reward(admit(env))) == 1.0
    env.walls = [5.0]
    assert float(reward(admit(env))) == 5.0


def test_contents_tell_types_apart_and_end() -> None:
    different: list[Any] = [1, 1.0, True, np.float32(1), np.ones(1), jnp.ones(1), "1", (1,), [1], {"a": 1}, None, len]
    assert len({contents(value) for value in different}) == len(different)
    assert contents(jax.random.key(1)) == contents(jax.random.key(1)) != contents(jax.random.key(2))
    assert contents(np.array([None, 1])) == contents(np.array([None, 1])) != contents(np.array([None, 2]))
    unhashable = {1, 2}
    assert contents([unhashable]) == contents([unhashable]) != contents([{1, 2}])


@pytest.mark.parametrize(
    "name",
    ["CartPole", "LavaGap", "TwoOptima", "FrozenLake-0.33", "SteinerTree", "PointCoverage", "GridCoverage-visited"],
)
def test_our_own_environments_are_admitted_as_they_are(name: str) -> None:
    env = make_device(f"maxent/{name}")
    assert admit(env) is env
