"""How command lines are read: numbers as people write them, and one sentence for what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
import tyro

from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.errors import InvalidSettingError, MaxentRLError, UnknownNameError
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.flags import meanings, read_command, read_flags
from maxent_rl.runs.values import parse_value, read_value
from maxent_rl.settings import Count, Positive, flag
from maxent_rl.tokens import objectives


@dataclasses.dataclass(frozen=True)
class Command:
    """What is asked for."""

    steps: Count = 3
    """How many
    of them."""
    most: Count | None = None
    rate: Positive = 0.5
    sizes: tuple[Count, ...] = (4,)
    kind: Literal["one", "two"] = "one"
    on: bool = False
    hidden: tyro.conf.Suppress[str] = ""
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Placed(Command):
    """The same, somewhere."""

    places: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),)
    """Where."""


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--steps 1e5", "steps", 100_000), ("--steps 2_000", "steps", 2_000), ("--steps 7", "steps", 7),
        ("--most 1e2", "most", 100), ("--most none", "most", None), ("--most None", "most", None),
        ("--rate 3e-4", "rate", 3e-4), ("--rate 1", "rate", 1.0), ("--sizes 64 64", "sizes", (64, 64)),
        ("--sizes 64x32", "sizes", (64, 32)), ("--sizes 64,32", "sizes", (64, 32)), ("--kind two", "kind", "two"),
        ("--on", "on", True), ("--names 1x2 a,b", "names", ("1x2", "a,b")),
    ],
)  # fmt: skip
def test_values_are_read_as_they_are_written(line, name, value):
    found = getattr(read_flags(Command, line.split()), name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--steps abc", "--steps must be a whole number, got 'abc'."),
        ("--steps 2.5", "--steps must be a whole number, got 2.5."),
        ("--steps 0", "--steps must be at least 1, got 0."),
        ("--most some", "--most must be a whole number, got 'some'."),
        ("--rate fast", "--rate must be a number, got 'fast'."),
        ("--sizes 64y64", "--sizes must be a whole number, got '64y64'."),
        ("--kind tow", "Unknown value for --kind 'tow'. Did you mean 'two'? Values for --kind: one, two."),
        ("--on true", "--on takes no value, got 'true': write --on or --no-on."),
        ("--stesp 3", "Unknown flag '--stesp'. Did you mean '--steps'"),
        ("--most-steps=3", "Unknown flag '--most-steps'. Did you mean '--steps'"),
        ("a b", "'a' belongs to no flag."),
    ],
)
def test_what_cannot_be_read_is_one_sentence(line, words):
    with pytest.raises(MaxentRLError) as caught:
        read_flags(Command, line.split())
    assert words in str(caught.value)


def test_only_what_is_a_flag_is_named():
    with pytest.raises(UnknownNameError) as caught:
        read_flags(Placed, ["--hiden"])
    assert "Flags: --kind, --most, --names, --on, --rate, --sizes, --steps." in str(caught.value)


def test_what_stands_without_a_flag_is_a_place():
    assert read_flags(Placed, ["a/b", "c"]).places == (Path("a/b"), Path("c"))
    assert read_flags(Placed, ["--steps", "4"]).places == (Path("runs"),)


def test_commands_have_names_of_their_own():
    assert read_command({"make": Command}, ["make", "--steps", "4"], "test", None).steps == 4
    with pytest.raises(UnknownNameError, match=r"Unknown command 'mkae'\. Did you mean 'make'"):
        read_command({"make": Command}, ["mkae"], "test", None)


def test_the_string_below_a_field_is_its_meaning():
    assert meanings(Placed) == {"places": "Where.", "steps": "How many of them."}
    for kind in (RunConfig, agent_class("sac"), agent_class("lm")):
        assert set(meanings(kind)) >= {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("true", bool, True), ("maybe", bool, "maybe"), ("1e3", int, 1000), ("inf", int, float("inf")), ("3", float, 3.0),
        ("(64 64)", tuple[Count, ...], (64, 64)), ("none", Count | None, None), ("none", str, "none"), ("2", Literal[1, 2], 2),
    ],
)  # fmt: skip
def test_values_by_their_annotation(text, hint, value):
    assert read_value(text, hint) == value


def test_a_value_by_itself_is_checked_by_name():
    assert parse_value("batch_size", "1e2", Count) == 100
    with pytest.raises(InvalidSettingError, match="--batch-size must be at least 1, got 0"):
        parse_value("batch_size", "0", Count)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_without_flags_a_run_has_the_defaults_of_its_agent(name):
    flags = parse(["--agent", name])
    assert (flags.run, flags.hyper) == (RunConfig.of(name), agent_class(name)())


def test_every_setting_of_a_run_and_an_agent_is_a_flag_with_its_meaning(capsys):
    with pytest.raises(SystemExit):
        parse(["--agent", "lm", "--help"])
    told = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    for kind in (RunConfig, agent_class("lm")):
        for field in dataclasses.fields(kind):
            assert flag(field.name) in told
    for group in ("run", "lm", "network", "evaluation", "records", "machine", "start", "processes"):
        assert f" {group} options " in told
    for name in AGENTS:
        assert f" {name} " in told
    assert "Below are the flags of --agent lm: --agent NAME --help shows another's." in told
    assert all(name in told for name in objectives.names())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--lr 1e-3", "Unknown flag '--lr'. Did you mean '--learning-rate'?"),
        ("--n-envs 4", "Unknown flag '--n-envs'. Did you mean '--num-envs'?"),
        ("--clip-low 0.1", "It is a flag of --agent modpo, pmoe-ppo, ppo, subpo, not of sac."),
        ("--agent ppo --replay-size 10", "not of ppo."),
        ("sac", "'sac' belongs to no flag. Write --agent sac."),
        ("Pendulum --seed 1", "'Pendulum' belongs to no flag. Write --env Pendulum."),
        ("--agent=", "Unknown agent ''."),
        ("--agent sca", "Unknown agent"),
        ("--device cuda", "Did you mean 'gpu'?"),
        ("--resume a --config b", "leave one of them out"),
        ("--variants 1e-3 learning-rate", "comes before its values"),
        ("--variants learning-rate", "--learning-rate needs at least one value"),
    ],
)
def test_flags_of_a_run_that_do_not_exist_or_do_not_go_together(line, words, capsys):
    try:
        with pytest.raises(MaxentRLError) as caught:
            parse(line.split())
        told = str(caught.value)
    except SystemExit:
        told = " ".join(capsys.readouterr().err.split())
    assert words in told


def test_variants_are_names_with_their_values():
    flags = parse(["--variants", "learning-rate", "1e-3", "3e-4", "discount", "0.9", "0.99", "--seed", "1"])
    assert flags.run.variants == {"learning_rate": (1e-3, 3e-4), "discount": (0.9, 0.99)} and flags.run.seed == 1
