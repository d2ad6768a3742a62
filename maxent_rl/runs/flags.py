"""How command lines read their flags: numbers as people write them, and one sentence for what is wrong.

Values are read leniently here (`values.read_value`), and then checked against the annotations of their fields, so that a
command line refuses them in the same words as the library does.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from maxent_rl.errors import InvalidSettingError, UnknownNameError, unknown_name
from maxent_rl.runs.values import is_number, read_value, value_text
from maxent_rl.settings import check_value, field_hints, flag, unknown_setting
from maxent_rl.usage import flags_in, refuse_unused, sentence

Command = TypeVar("Command")

_READING = ConstructorRegistry()


def read_flags(
    command: type[Command] | Callable[..., Command],
    arguments: Sequence[str],
    description: str | None = None,
    *,
    default: Any = tyro.MISSING_NONPROP,
    explain: Callable[[str], str] = lambda name: "",
    prog: str | None = None,
) -> Command:
    """Reads a command line into a dataclass; fields that are dataclasses themselves are groups of flags.

    Args:
      command: the dataclass, or what `tyro.cli` takes else.
      arguments: of the command line, without the program's name.
      description: what `--help` says first; None for the docstring.
      default: an instance whose values are the defaults.
      explain: what else to say of a flag that does not exist, by its name, or of a value that belongs to none.
      prog: the program's name; None for that of the script.

    Raises:
      UnknownNameError: a flag that does not exist, with the nearest right ones, or a choice that is none.
      InvalidSettingError: a value that does not fit its flag.
    """
    parsed, unknown = tyro.cli(
        command,
        prog=prog,
        args=arguments,
        description=description,
        default=default,
        registry=_READING,
        config=(tyro.conf.OmitArgPrefixes,),
        return_unknown_args=True,
    )
    if unknown:
        raise _not_understood(unknown[0], arguments, parsed, explain)
    _check(parsed)
    refuse_useless(parsed, arguments)
    return parsed


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for its flags alone."""
    return any(argument in ("-h", "--help", "-H", "--help-verbose") for argument in arguments)


def refuse_useless(command: Any, arguments: Sequence[str], **known: Any) -> None:
    """Refuses flags that have no effect in their combination; arguments and errors are those of `usage.refuse_unused`.

    Args:
      command: as `read_flags` gives it.
      arguments: of the command line.
      **known: what has become known since.
    """
    refuse_unused(flags_in(arguments, _names(command)), [_parts(command)], **known)


def _parts(command: Any) -> list[Any]:
    """A dataclass, and those among its fields."""
    values = [getattr(command, field.name) for field in dataclasses.fields(command)]
    return [command, *(part for value in values if dataclasses.is_dataclass(value) for part in _parts(value))]


def read_command(
    commands: Mapping[str, type[Any]], arguments: Sequence[str], program: str, description: str | None
) -> Any:
    """Reads a command line that begins with the name of a command, each of which has its own flags; as `read_flags`.

    Args:
      commands: the dataclass of each.
      arguments: of the command line.
      program: its name, for `--help`.
      description: what `--help` says first.

    Raises:
      UnknownNameError, InvalidSettingError: as `read_flags`, also for a command that does not exist.
    """
    if not arguments or arguments[0].startswith("-"):  # help, or that a command is missing
        return tyro.extras.subcommand_cli_from_dict(dict(commands), args=arguments, description=description)
    name, *rest = arguments
    if name not in commands:
        raise unknown_name("command", name, commands)
    return read_flags(commands[name], rest, prog=f"{program} {name}")


def with_rules(command: type[Command]) -> type[Command]:
    """Lets `--help` say of each flag of a dataclass when it has an effect; for those whose flags have rules."""
    kind: Any = command
    hints, texts = field_hints(kind), meanings(kind)
    for field in dataclasses.fields(kind):
        if words := sentence(kind, field.name):
            told = tyro.conf.arg(help=texts[field.name] + words)
            kind.__annotations__[field.name] = Annotated[hints[field.name], told]
    return command


@functools.cache
def meanings(kind: Any) -> dict[str, str]:
    """What each field of a dataclass means: the string below it, of the class or of one that it is made from."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError):  # no source: of Python itself, or made as it runs
            continue
        for field, text in itertools.pairwise(body):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if is_text and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _check(parsed: Any) -> None:
    """Checks every value that is not its field's default, which may say that nothing was given."""
    hints = field_hints(type(parsed))
    for field in dataclasses.fields(parsed):
        value = getattr(parsed, field.name)
        if dataclasses.is_dataclass(value):
            _check(value)
        elif value != field.default:
            check_value(field.name, value, hints[field.name])


_NO_FLAGS = (tyro.conf.Suppress, tyro.conf.Positional)


def _names(parsed: Any) -> dict[str, Any]:
    """Every flag by the name of its field, with its value."""
    found: dict[str, Any] = {}
    hints = field_hints(type(parsed))
    for field in dataclasses.fields(parsed):
        value = getattr(parsed, field.name)
        if dataclasses.is_dataclass(value):
            found |= _names(value)
        elif not any(marker in typing.get_args(hints[field.name]) for marker in _NO_FLAGS):
            found[field.name] = value
    return found


def _not_understood(
    argument: str, arguments: Sequence[str], parsed: Any, explain: Callable[[str], str]
) -> UnknownNameError | InvalidSettingError:
    """The error for the first thing on a command line that no flag takes."""
    names = _names(parsed)
    if argument.startswith("--"):
        name = argument[2:].partition("=")[0].replace("-", "_")
        return unknown_setting("flag", name, names, explain(name), spelled=flag)
    place = arguments.index(argument) if argument in arguments else 0
    before = arguments[place - 1] if place else ""
    if isinstance(names.get(before.removeprefix("--").removeprefix("no-").replace("-", "_")), bool):
        bare = before.removeprefix("--").removeprefix("no-")
        return InvalidSettingError(f"{before} takes no value, got {argument!r}: write --{bare} or --no-{bare}.")
    advice = explain(argument) or "A value follows the flag that it is for, such as --seed 1."
    return InvalidSettingError(f"{argument!r} belongs to no flag. {advice}")


@_READING.primitive_rule
def _read_plainly(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Numbers, choices and None: what cannot be read stays text, for `check_settings` to refuse."""
    if info.type is type(None):
        return _spec("None", _read_none, lambda value: value is None)
    if info.type in (int, float):
        return _spec(
            info.type.__name__.upper(),
            lambda words: read_value(words[0], info.type),
            lambda value: isinstance(value, (int, float)),
        )
    origin: Any = info.type_origin
    if origin is Literal:
        choices = typing.get_args(info.type)
        return _spec(
            "{" + ",".join(map(str, choices)) + "}",
            lambda words: read_value(words[0], info.type),
            lambda value: value in choices,
        )
    return None


@_READING.primitive_rule
def _read_several(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Several numbers: `64 64`, `64,64` or `64x64`."""
    kinds = typing.get_args(info.type)
    if info.type_origin is not tuple or kinds[-1] is not Ellipsis or not is_number(kinds[0]):
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="N [N ...]",
        instance_from_str=lambda words: read_value(" ".join(words), info.type),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: list(map(value_text, value)),
    )


@_READING.primitive_rule
def _read_variants(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Names with several numbers each: `learning-rate 1e-3 3e-4 discount 0.9 0.99`."""
    kinds = typing.get_args(info.type)
    if info.type_origin is not dict or typing.get_origin(kinds[1]) is not tuple:
        return None

    def read(words: list[str]) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for word in words:
            value = read_value(word, float)
            if isinstance(value, str):
                found[word] = ()
            elif not found:
                raise ValueError(f"the name of a hyper-parameter comes before its values, got {word!r}")
            else:
                found[list(found)[-1]] += (value,)
        return found

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME N [N ...]",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [
            word for name, values in value.items() for word in (name, *map(value_text, values))
        ],
    )


def _read_none(words: list[str]) -> None:
    if words[0].lower() != "none":
        raise ValueError(f"{words[0]!r} is not None")


def _spec(
    metavar: str, read: Callable[[list[str]], Any], is_instance: Callable[[Any], bool]
) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=read,
        is_instance=is_instance,
        str_from_instance=lambda value: [str(value)],
    )
