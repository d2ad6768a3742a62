"""`usage`: when settings have an effect, in words, kept, and shown by `--help`; of agents: agents/test_used_settings.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset import main as dataset
from environments import DiscretePoint, Point
from flax import struct

from maxent_rl import train
from maxent_rl.agents import SAC
from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import RunConfig
from maxent_rl.settings import Settings, setting, static
from maxent_rl.sweep.jobs import Sweep, expand
from maxent_rl.usage import (
    ALWAYS,
    CONTINUOUS,
    ON_HOST,
    above,
    changed,
    flags_in,
    given,
    not_given,
    refuse_unused,
    rule,
    sentence,
    unless,
    unused,
    when,
)

VALUES: dict[str, Any] = {"anchor": "ema", "on": True, "count": 2, "target": None}


@pytest.mark.parametrize(
    ("needed", "holds", "words"),
    [
        (when(anchor="ema"), True, "with --anchor ema"),
        (when(anchor=("copy", "kl")), False, "with --anchor copy or kl"),
        (when(anchor="ema", on=False), False, "with --anchor ema and with --no-on"),
        (when(on=True), True, "with --on"),
        (unless(anchor="ema"), False, "with another --anchor than ema"),
        (given("target"), False, "with --target"),
        (not_given("target"), True, "without --target"),
        (above(count=1), True, "with --count above 1"),
        (above(count=1) & given("target"), False, "with --count above 1 and with --target"),
        (above(count=1) | given("target"), True, "with --count above 1, or with --target"),
        (CONTINUOUS, True, "with continuous actions"),
        (ON_HOST, True, "with environments on the host"),
    ],
)
def test_a_rule_holds_and_says_what_it_needs(needed, holds, words):
    assert needed.holds(VALUES) is holds and needed.words == words


def test_what_is_known_later_decides_later():
    assert CONTINUOUS.holds({"spec": Point().spec}) and not CONTINUOUS.holds({"spec": DiscretePoint().spec})
    assert ON_HOST.holds({"on_device": False}) and not ON_HOST.holds({"on_device": True})


def test_one_value_of_several_members_is_enough():
    assert above(weight=0).holds({"weight": np.array([0.0, 0.1])})
    assert not above(weight=0).holds({"weight": np.array([0.0, 0.0])})


@struct.dataclass
class Base(Settings):
    kind: str = static("plain")
    decay: float = setting(0.9, used_when=when(kind="slow"))
    sizes: tuple[int, ...] = static((1,), used_when=when(kind="slow"))


@struct.dataclass
class Child(Base):
    decay: float = 0.5
    sizes: tuple[int, ...] = static((2,), used_when=ALWAYS)


def test_a_subclass_keeps_a_rule_with_another_default_and_may_have_its_own():
    assert rule(Child, "decay") is rule(Base, "decay") and rule(Child, "sizes") is ALWAYS and rule(Base, "kind") is None
    assert list(unused(Base())) == ["decay", "sizes"] and list(unused(Child())) == ["decay"]
    assert not unused(Child(kind="slow"))
    assert sentence(Child, "decay") == " Used only with --kind slow." and sentence(Child, "sizes") == ""


def test_what_was_given_by_hand_and_does_nothing_in_any_combination_is_refused():
    refuse_unused(("kind",), [(Base(),)])
    refuse_unused(("decay",), [(Base(),), (Base(kind="slow"),)])
    with pytest.raises(InvalidSettingError) as caught:
        refuse_unused(("kind", "decay"), [(Base(),), (Base(kind="fast"),)])
    assert str(caught.value) == (
        "--decay has no effect here: it is used only with --kind slow. Leave it out, or change that."
    )


def test_what_differs_from_the_defaults_was_given_by_hand():
    assert changed(Base()) == () and changed(Base(kind="plain", decay=0.8)) == ("decay",)
    assert changed(Base(decay=np.array([0.9, 0.8]))) == ("decay",)
    assert changed(RunConfig(variants={"discount": (0.9,)})) == ("variants",)


def test_flags_are_found_in_a_command_line():
    arguments = ["--learning-rate", "1", "--no-target-network", "--seed=3", "-x", "seed", "--num_envs", "2", "--other"]
    names = ("seed", "num_envs", "target_network", "learning_rate", "env")
    assert flags_in(arguments, names) == ("learning_rate", "target_network", "seed", "num_envs")


@pytest.mark.parametrize("name", AGENTS)
def test_every_rule_of_an_agent_can_be_asked_and_shown(name):
    agent = agent_class(name)()
    run = RunConfig(agent=name)
    found = unused(run, agent, spec=Point().spec, on_device=True)
    assert set(found) <= {field.name for each in (run, agent) for field in dataclasses.fields(each)}
    assert not set(unused(run, agent)) - set(found)  # what is not known yet speaks for a setting
    for field in dataclasses.fields(agent):
        words = sentence(type(agent), field.name)
        assert not words or (words.startswith(" Used only ") and words.endswith("."))


def test_help_says_when_a_flag_has_an_effect(capsys):
    for arguments, words in (
        (["--agent", "adpo-online", "--help"], "Used only with --anchor ema."),
        (["--agent", "sac", "--help"], "Used only with --target-network."),
        (["--help"], "Used only with --eval-episodes above 0"),
    ):
        with pytest.raises(SystemExit):
            parse(arguments)
        assert words in _plain(capsys.readouterr().out)
    with pytest.raises(SystemExit):
        dataset(["collect", "--help"])
    assert "Used only with --kind noisy." in _plain(capsys.readouterr().out)


def _plain(text: str) -> str:
    """Help without the frames and line breaks of its columns."""
    return " ".join(text.replace("│", " ").split())


def test_a_file_of_before_may_hold_what_has_no_effect(tmp_path: Path):
    from maxent_rl.runs.config import describe
    from maxent_rl.storage.files import write_json

    write_json(tmp_path / "config.json", describe(RunConfig(env="Pendulum-v1"), SAC(target_update_rate=0.1)))
    assert parse(["--resume", str(tmp_path)]).by_hand == ()
    repeated = parse(["--config", str(tmp_path), "--no-target-network"])
    assert repeated.by_hand == ("target_network",) and repeated.hyper.target_update_rate == 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "settings", "words"),
    [
        (SAC(temperature_mode="fixed", target_entropy=5.0), {}, "--target-entropy has no effect here"),
        (SAC(), {"eval_num_envs": 2, "eval_episodes": 0}, "--eval-num-envs has no effect here"),
        (SAC(), {"eval_num_envs": 2}, "with environments on the host"),
        (SAC(), {"variants": {"scheduled_updates": (1, 2)}}, "--scheduled-updates has no effect here"),
    ],
)
def test_the_library_refuses_it_too(tmp_path: Path, agent, settings, words):
    with pytest.raises(InvalidSettingError, match=words):
        train(agent, Point(), output_dir=str(tmp_path), progress=False, total_steps=10, **settings)
    assert not list(tmp_path.iterdir())


def test_a_sweep_may_cross_settings_as_long_as_each_has_an_effect_somewhere():
    values = {"temperature_mode": ("log", "fixed"), "target_entropy": (-1.0,)}
    assert len(expand(Sweep(RunConfig(), envs=("Pendulum",), values=values))[1]) == 2
    with pytest.raises(InvalidSettingError, match="--target-entropy has no effect here"):
        expand(Sweep(RunConfig(), envs=("Pendulum",), values=values | {"temperature_mode": ("fixed",)}))
