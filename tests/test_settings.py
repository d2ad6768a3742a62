"""Settings: names and values that cannot be are refused in a sentence, of every agent, stage, loss and configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.errors import InvalidSettingError, MaxentRLError, UnknownNameError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.runs.config import RunConfig
from maxent_rl.settings import Settings, as_declared, check_settings, field_hints, flag, static
from maxent_rl.sweep import Sweep
from maxent_rl.tokens import objectives, preferences

FAMILY = {
    **{name: agent_class(name)() for name in AGENTS},
    **{type(stage).__name__: stage for preset in objectives.PRESETS.values() for stage in preset.stages},
    **{f"preference {name}": loss for name, loss in preferences.LOSSES.items()},
    "RunConfig": RunConfig(),
}


@pytest.mark.parametrize("settings", FAMILY.values(), ids=FAMILY)
def test_a_name_that_does_not_exist_is_answered_by_the_nearest_one(settings):
    names = [field.name for field in dataclasses.fields(settings)]
    for name in names:
        misspelled = name[:-1] + name[-2:]  # its last letter but one once more
        for make in (type(settings), lambda **values: dataclasses.replace(settings, **values)):
            with pytest.raises(UnknownNameError, match=rf"Unknown setting of \w+ '{misspelled}'.*'{name}'"):
                make(**{misspelled: 1})
    with pytest.raises(InvalidSettingError, match=f"has {len(names)} settings, got {len(names) + 1} values"):
        type(settings)(*range(len(names) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("settings", FAMILY.values(), ids=FAMILY)
def test_a_value_of_the_wrong_kind_is_refused_by_name_in_every_field(settings):
    check_settings(settings)
    for name in field_hints(type(settings)):
        for wrong in (object(), [object()], {"a": object()}):
            with pytest.raises(MaxentRLError) as caught:
                check_settings(dataclasses.replace(settings, **{name: wrong}))
            assert flag(name) in str(caught.value) or isinstance(wrong, dict)  # which names its entry


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("sac", "lr", "learning_rate"), ("sac", "gamma", "discount"), ("sac", "tau", "target_update_rate"),
        ("sac", "buffer_size", "replay_size"), ("sac", "bs", "batch_size"), ("sac", "learning_starts", "start_steps"),
        ("ppo", "clip_range", "clip_low"), ("ppo", "n_steps", "rollout_size"), ("ppo", "gae_lambda", "trace_decay"),
        ("dqn", "LR", "learning_rate"),
    ],
)  # fmt: skip
def test_what_other_libraries_call_it_is_understood(kind, name, meant):
    with pytest.raises(UnknownNameError, match=rf"'{name}'\. Did you mean '{meant}'"):
        agent_class(kind)(**{name: 1})


def test_subclasses_of_ones_own_refuse_likewise_and_keep_their_signature():
    @struct.dataclass
    class Smooth(agent_class("sac")):
        smoothness: float = 0.1

    with pytest.raises(UnknownNameError, match=r"setting of Smooth 'smoothnes'\. Did you mean 'smoothness'"):
        Smooth(smoothnes=1)
    assert Smooth(smoothness=1.0, learning_rate=1e-2).replace(discount=0.5).smoothness == 1.0
    with pytest.raises(UnknownNameError, match="Did you mean 'hidden_size'"):
        TransformerConfig(hiden_size=3)
    with pytest.raises(UnknownNameError, match=r"setting of Sweep 'rnu'\. Did you mean 'run'"):
        Sweep(rnu=RunConfig())


@struct.dataclass
class Every(Settings):
    """A field of each kind."""

    number: float = 1.0
    count: int = 1
    option: int | None = None
    sizes: tuple[int, ...] = static((1,))
    pair: tuple[float, float] = static((0.0, 1.0))
    on: bool = static(False)
    word: str = static("a")
    place: Path = static(Path())


@pytest.mark.parametrize(
    ("name", "given", "declared"),
    [
        ("count", 1e5, 100_000), ("count", np.int64(3), 3), ("count", np.float32(4), 4), ("count", 2.5, 2.5),
        ("option", 3.0, 3), ("option", None, None), ("number", np.float32(0.5), 0.5), ("number", jnp.float32(0.5), 0.5),
        ("number", 3, 3), ("sizes", [4, 5.0], (4, 5)), ("sizes", (np.int32(4),), (4,)), ("pair", [1, 2], (1, 2)),
        ("word", Path("a/b"), "a/b"), ("word", 3, 3), ("on", "yes", "yes"), ("sizes", 4, 4),
    ],
)  # fmt: skip
def test_values_become_what_is_declared_where_nothing_is_lost(name, given, declared):
    found = getattr(as_declared(Every(**{name: given})), name)
    assert found == declared and type(found) is type(declared)


def test_settings_that_are_as_declared_stay_the_same_object():
    agent = agent_class("ppo")()
    assert as_declared(agent) is agent
    vmapped = agent.replace(learning_rate=np.array([1e-3, 1e-4]))  # of the members of a sweep
    assert as_declared(vmapped) is vmapped
    check_settings(vmapped)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 2.5}, "--count must be a whole number, got 2.5."), ({"count": "3"}, "must be a whole number, got '3'"),
        ({"count": True}, "must be a whole number, got True"), ({"count": float("inf")}, "must be a finite number"),
        ({"number": "auto"}, "--number must be a number, got 'auto'."), ({"number": float("nan")}, "a finite number"),
        ({"option": "none"}, "--option must be a whole number"), ({"sizes": ()}, "--sizes needs at least one value"),
        ({"sizes": 4}, "--sizes must be several values, got 4"), ({"sizes": "44"}, "must be several values"),
        ({"pair": (1.0,)}, "--pair must be 2 values, got 1"), ({"on": "no"}, "--on must be true or false, got 'no'"),
        ({"word": 5}, "--word must be text, got 5"), ({"place": 5}, "--place must be a path, got 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_what_would(values, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_settings(Every(**values))
    assert words in str(caught.value)


def test_annotations_that_only_a_function_knows_are_passed_over():
    local = int

    @dataclasses.dataclass
    class Hidden:
        number: local = 3

    assert local is int
    check_settings(Hidden("anything"))
