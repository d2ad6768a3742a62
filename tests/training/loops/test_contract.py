"""What an agent of one's own must give: every way not to is a sentence, said before anything is compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import pytest
from environments import DiscretePoint, Point
from flax import struct

from maxent_rl.agents import PPO, SAC
from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.settings import static
from maxent_rl.training.loops.contract import check_begin, check_examine, check_learning, check_update

SPEC = dataclasses.replace(Point().spec, num_envs=3)
DISCRETE = dataclasses.replace(DiscretePoint().spec, num_envs=3)


@struct.dataclass
class State:
    weights: jax.Array
    count: jax.Array


@struct.dataclass
class Own:
    """A right agent, in which one function can be another."""

    learns: ClassVar[str] = "replay"
    other: tuple[tuple[str, Callable[..., Any]], ...] = static(())
    rate: float = 0.5
    warm: bool = True

    def call(self, name, usual, *arguments):
        return dict(self.other).get(name, usual)(*arguments)

    def init(self, key, spec):
        return self.call("init", lambda: State(jnp.zeros(3), jnp.int32(0)))

    def act(self, state, observation, key):
        return self.call("act", lambda observation: observation, observation)

    def mode(self, state, observation):
        return self.call("mode", lambda observation: observation, observation)

    def update(self, state, batch, key):
        return self.call("update", lambda state, batch: (state, {"own/loss": batch.mean()}), state, batch)


def checked(spec=SPEC, **other):
    return check_update(Own(tuple(other.items())), spec, lambda agent, key: jnp.zeros(5))


def updated(change, metrics=None):
    return {
        "update": lambda state, batch: (
            change(state),
            {"own/loss": batch.mean()} if metrics is None else metrics(batch),
        )
    }


def same(state):
    return state


def test_what_is_right_gives_the_names_of_its_metrics():
    assert checked() == ("own/loss",)
    assert checked(**updated(same, lambda batch: {})) == ()
    assert checked(**updated(same, lambda batch: {"b": 1.0, "a": batch[0], "c": jnp.bool_(True)})) == ("a", "b", "c")
    assert checked(act=lambda seen: jnp.zeros(seen.shape, jnp.int32)) == ("own/loss",)  # as floats they are cast
    whole = {"act": lambda seen: jnp.zeros(seen.shape[:-1], jnp.int32), "mode": lambda seen: seen[..., 0]}
    assert checked(DISCRETE, **whole) == ("own/loss",)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"update": lambda state, batch: state}, "Own.update must return (state, metrics), got a State."),
        ({"update": lambda state, batch: None}, "must return (state, metrics), got None."),
        ({"update": lambda state, batch: (state, {}, 1)}, "got a tuple of 3."),
        ({"update": lambda state, batch: [state, {}]}, "got a list of 2."),
        ({"update": lambda state, batch: batch}, "got an array float32[5]."),
        (updated(lambda state: {"weights": state.weights}), "the structure that init gives, a State, got a dict."),
        (updated(lambda state: state.replace(count=None)), "a State, got a State without .count."),
        (updated(lambda state: state.replace(count=(state.count,) * 2)), "a State, got a State without .count."),
        (updated(lambda state: state.replace(weights=jnp.ones(4))), ".weights, which is float32[3], comes back as float32[4]"),
        (updated(lambda state: state.replace(count=1.0)), ".count, which is int32[], comes back as float32[]: start"),
        (updated(same, lambda batch: [1.0]), "The metrics of Own.update must be a dict of scalars, got a list of 1."),
        (updated(same, lambda batch: batch), "must be a dict of scalars, got an array float32[5]."),
        (updated(same, lambda batch: {"own/loss": batch}), "The metric 'own/loss' of Own.update must be a scalar"),
        (updated(same, lambda batch: {"own/loss": "low"}), "must be a scalar, a real number, got a str."),
        (updated(same, lambda batch: {"own/loss": 1j}), "got an array complex64[]."),
        (updated(same, lambda batch: {"own/loss": None}), "must be a scalar, a real number, got None."),
        (updated(same, lambda batch: {"seed": 1.0}), "such as 'critic/loss', got 'seed', which is a column"),
        (updated(same, lambda batch: {3: 1.0}), "names of their own, such as 'critic/loss', got 3."),
        ({"act": lambda seen: seen[..., :1]}, "Own.act must return actions [2], real numbers, for observations [2], got"),
        ({"act": lambda seen: (seen, 1)}, "Own.act must return one array of actions [2], got a tuple of 2."),
        ({"act": lambda seen: None}, "Own.act must return one array of actions [2], got None."),
        ({"act": lambda seen: seen > 0}, "got bool[2]."),
        ({"mode": lambda seen: jnp.zeros(2)}, "Own.mode must return actions [3, 2], real numbers, for"),
        ({"init": lambda: {"a": jnp.zeros(2), "b": "text"}}, "Own.init must return a pytree of arrays, got 'text' at ['b']."),
        ({"update": lambda state, batch: state.wieghts}, "Own.update fails when it is traced: AttributeError: 'State' object"),
        ({"init": lambda: jnp.zeros(2) @ jnp.zeros(3)}, "Own.init fails when it is traced: TypeError: dot_general requires"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_the_function_what_was_expected_and_what_came(other, words):
    with pytest.raises(InvalidSettingError) as caught:
        checked(**other)
    assert words in str(caught.value)


def test_discrete_actions_have_no_axis_of_their_own():
    with pytest.raises(InvalidSettingError, match=r"actions \[\], the numbers of 4 actions, .*got float32\[2\]"):
        checked(DISCRETE)


def test_errors_of_the_library_in_ones_own_code_come_through():
    def refuse():
        raise ShapeError("rows do not fit.")

    with pytest.raises(ShapeError, match=r"^rows do not fit\."):
        checked(init=refuse)


@pytest.mark.parametrize("field", ["rate", "warm"])
def test_numbers_that_decide_shapes_or_branches_must_be_static(field):
    """Loops trace them, so that they change without compiling anew."""

    @struct.dataclass
    class Deciding(Own):
        def init(self, key, spec):
            return jnp.zeros(int(self.rate * 4)) if field == "rate" else jnp.zeros(3 if self.warm else 4)

    words = r"Deciding.init fails when it is traced: .* must be a static field: `name: Count = static\(64\)`\."
    with pytest.raises(InvalidSettingError, match=words):
        check_update(Deciding(), SPEC, lambda agent, key: jnp.zeros(5))


def test_words_among_the_numbers_must_be_static():
    with pytest.raises(
        InvalidSettingError, match=r"Own.rate is 'fast', which is no number: declare it as a static field"
    ):
        check_update(Own(rate="fast"), SPEC, lambda agent, key: jnp.zeros(5))


@pytest.mark.parametrize("base", [SAC, PPO])
def test_small_changes_to_agents_of_the_library_pass(base):
    @struct.dataclass
    class Changed(base):
        def update(self, state, batch, key):
            return state, {"own/loss": jnp.mean(batch)}

    assert check_update(Changed(hidden_sizes=(4,)), SPEC, lambda agent, key: jnp.zeros(5)) == ("own/loss",)


def test_a_memory_keeps_its_form():
    @struct.dataclass
    class Forgetful(Own):
        learns: ClassVar[str] = "rollout"
        grows: bool = static(True)

        def memory(self, state, batch_shape):
            return jnp.zeros((*batch_shape, 2))

        def recalling(self, state, memory):
            return state

        def remember(self, state, memory, observation, action, reward):
            return jnp.concatenate([memory, observation], axis=-1) if self.grows else memory + observation

    def batch(agent, key):
        return jnp.zeros(5)

    assert check_update(Forgetful(grows=False), SPEC, batch) == ("own/loss",)
    with pytest.raises(InvalidSettingError, match=r"Forgetful.remember must return the memory in the structure"):
        check_update(Forgetful(), SPEC, batch)


def test_what_takes_something_from_data_is_checked_too():
    state = State(jnp.zeros(3), jnp.int32(0))
    agent = Own()
    with pytest.raises(InvalidSettingError, match=r"Own.prepare must return \(state, metrics\), got a State"):
        check_learning(agent, "prepare", lambda agent, state: state, state)

    @struct.dataclass
    class Beginning(Own):
        def begin(self, state, data):
            return state.replace(weights=data)

        def examine(self, state, held_out):
            return {"kl": held_out}

    check_begin(Beginning(), state, jnp.ones(3))
    check_examine(Beginning(), state, jnp.float32(1.0))
    with pytest.raises(
        InvalidSettingError, match=r"Beginning.begin must return the state .* comes back as float32\[4\]"
    ):
        check_begin(Beginning(), state, jnp.ones(4))
    with pytest.raises(InvalidSettingError, match=r"The metric 'kl' of Beginning.examine must be a scalar"):
        check_examine(Beginning(), state, jnp.ones(4))
