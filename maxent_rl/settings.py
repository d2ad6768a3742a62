"""Settings as dataclass fields that know their bounds, so that impossible numbers are refused before anything is built.

A field says its bounds in its annotation (`learning_rate: Positive = 3e-4`), its meaning in the string below it (which
the command line shows), and whether it is structural: `static(...)` fields decide shapes and programs, all others are
pytree leaves that change without compiling anew.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

import jax
import numpy as np
from flax import struct

from maxent_rl.errors import InvalidSettingError, UnknownNameError, unknown_name

AnySettings = TypeVar("AnySettings")


@dataclasses.dataclass(frozen=True)
class Interval:
    """Bounds of a number; an open end excludes the bound itself."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether `value` is a finite number within the bounds."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        """The bounds in words, to follow "must be"."""
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'greater than' if self.low_open else 'at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'less than' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(parts) or "finite"


Finite: TypeAlias = Annotated[float, Interval()]
Positive: TypeAlias = Annotated[float, Interval(0, low_open=True)]
Weight: TypeAlias = Annotated[float, Interval(0)]
Fraction: TypeAlias = Annotated[float, Interval(0, 1)]
Count: TypeAlias = Annotated[int, Interval(1)]
NonNegative: TypeAlias = Annotated[int, Interval(0)]


# What other libraries call the same thing, for those who write their names out of habit.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "gamma": ("discount",),
    "gae_lambda": ("trace_decay",),
    "lam": ("trace_decay",),
    "tau": ("target_update_rate",),
    "polyak": ("target_update_rate",),
    "alpha": ("initial_temperature",),
    "ent_coef": ("entropy_bonus", "initial_temperature"),
    "vf_coef": ("value_weight",),
    "clip_range": ("clip_low", "clip_high"),
    "clip_epsilon": ("clip_low", "clip_high"),
    "max_grad_norm": ("max_gradient_norm",),
    "buffer_size": ("replay_size",),
    "memory_size": ("replay_size",),
    "learning_starts": ("start_steps",),
    "warmup_steps": ("start_steps",),
    "gradient_steps": ("updates_per_step",),
    "train_freq": ("updates_per_step",),
    "utd_ratio": ("updates_per_step",),
    "n_steps": ("rollout_size", "n_step"),
    "num_steps": ("rollout_size", "total_steps"),
    "n_epochs": ("epochs",),
    "net_arch": ("hidden_sizes",),
    "policy_kwargs": ("hidden_sizes",),
    "total_timesteps": ("total_steps",),
    "num_timesteps": ("total_steps",),
    "max_steps": ("total_steps",),
    "steps": ("total_steps",),
    "n_envs": ("num_envs",),
    "env_id": ("env",),
    "env_name": ("env",),
    "task": ("env",),
    "algo": ("agent",),
    "algorithm": ("agent",),
    "seeds": ("num_seeds",),
    "eval_freq": ("eval_every",),
    "n_eval_episodes": ("eval_episodes",),
    "save_freq": ("checkpoint_every",),
    "log_interval": ("log_every",),
    "log_dir": ("output_dir",),
    "run_name": ("name",),
}
_VALUES_ELSEWHERE = {"cuda": "gpu", "metal": "gpu"}


class Settings:
    """A base for dataclasses of settings: a name that they do not have is refused, with the nearest right ones.

    So are the names that `replace` and `dataclasses.replace` are given, and those of subclasses.
    """

    def __new__(cls, *values: Any, **settings: Any) -> Self:
        """Makes what the dataclass then fills.

        Raises:
          UnknownNameError: there is no such setting.
          InvalidSettingError: there are not as many settings as values.
        """
        made: Any = cls
        names = [field.name for field in dataclasses.fields(made)] if hasattr(cls, "__dataclass_fields__") else []
        for name in settings:
            if name not in names:
                raise unknown_setting(f"setting of {cls.__name__}", name, names)
        if len(values) > len(names):
            raise InvalidSettingError(
                f"{cls.__name__} has {len(names)} settings, got {len(values)} values: give settings by their names."
            )
        return super().__new__(cls)


def static(default: Any, *, used_when: Any = None) -> Any:
    """A structural field: part of the program, not of the data. It must be hashable.

    Args:
      default: its default.
      used_when: in which combinations it has an effect (`usage.When`); None for all.
    """
    rules = {} if used_when is None else {"used_when": used_when}
    return struct.field(pytree_node=False, default=default, metadata=rules)  # type: ignore[no-untyped-call]


def setting(default: Any, *, used_when: Any) -> Any:
    """A field that is a number, or of a dataclass that is no pytree, with an effect in some combinations alone.

    Args:
      default: its default.
      used_when: the combinations, as for `static`.
    """
    return struct.field(default=default, metadata={"used_when": used_when})  # type: ignore[no-untyped-call]


def unknown_setting(
    kind: str, name: str, known: Iterable[str], hint: str = "", spelled: Callable[[str], str] = str
) -> UnknownNameError:
    """The error for a setting that does not exist, to be raised by the caller; as `errors.unknown_name`.

    Args:
      kind: "setting", "setting of SAC".
      name: what the user wrote.
      known: the names of the settings that there are.
      hint: a further sentence, optional.
      spelled: how names are shown: as they are, or as flags.
    """
    bare, names = name.strip("-").replace("-", "_").lower(), sorted(set(known))
    initials = [
        each for each in names if len(bare) > 1 and "".join(word[0] for word in each.split("_") if word) == bare
    ]
    meant = [each for each in (*ELSEWHERE.get(bare, ()), *initials) if each in names]
    return unknown_name(kind, name, names, hint, meant, spelled)


def as_declared(settings: AnySettings) -> AnySettings:
    """The same settings in the types that their annotations declare, where nothing is lost by that.

    Whole floats (`1e5`) become whole numbers, NumPy's and JAX's scalars Python's, lists tuples, and paths text. What does
    not fit stays for `check_settings` to refuse.

    Args:
      settings: an instance of a dataclass.
    """
    changes = declared_changes(settings)
    return dataclasses.replace(settings, **changes) if changes else settings  # type: ignore[type-var]


def declared_changes(settings: Any) -> dict[str, Any]:
    """What `as_declared` changes, by name."""
    changes = {}
    for name, hint in field_hints(type(settings)).items():
        value = getattr(settings, name)
        declared = _declared(value, hint)
        if declared is not value:
            changes[name] = declared
    return changes


def check_settings(settings: Any) -> None:
    """Checks every field of a dataclass instance against its annotation.

    Args:
      settings: an agent or a run configuration.

    Raises:
      InvalidSettingError: for a number out of bounds, or a value of the wrong kind.
      UnknownNameError: for a name that is not among a field's choices.
    """
    for name, hint in field_hints(type(settings)).items():
        check_value(name, getattr(settings, name), hint)


def field_hints(kind: type[Any]) -> dict[str, Any]:
    """The annotation of each field of a dataclass; Any where it names what only the function around the class knows."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError:
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(kind)}


def check_value(name: str, value: Any, hint: Any) -> None:
    """Checks one value of a setting; raises as `check_settings` does."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        check_value(name, value, arguments[0])
        for bounds in (extra for extra in arguments[1:] if isinstance(extra, Interval)):
            _check_number(name, value, arguments[0], bounds)
    elif origin is Literal:
        _check_choice(name, value, arguments)
    elif origin is tuple:
        _check_several(name, value, arguments)
    elif origin is dict:
        if not isinstance(value, dict):
            wanted = "a dictionary, such as {'learning_rate': (1e-3, 3e-4)}"
            raise InvalidSettingError(f"{flag(name)} must be {wanted}, got {value!r}.")
        for key, each in value.items():
            check_value(str(key), each, arguments[1])
    elif origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not types.NoneType]
        if len(options) == 1 and not (value is None and types.NoneType in arguments):
            check_value(name, value, options[0])
    elif hint in (int, float):
        _check_number(name, value, hint, Interval())
    elif hint in _WORDS:
        allowed, wanted = _WORDS[hint]
        if not isinstance(value, allowed):
            raise InvalidSettingError(f"{flag(name)} must be {wanted}, got {value!r}.")


_WORDS: dict[Any, tuple[tuple[type[Any], ...], str]] = {
    bool: ((bool, np.bool_), "true or false"),
    str: ((str,), "text"),
    Path: ((str, os.PathLike), "a path"),
}


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if isinstance(value, (str, int, types.NoneType)) and value in choices:
        return
    names = list(map(str, choices))
    meant = [word for word in (_VALUES_ELSEWHERE.get(str(value).lower()),) if word in names]
    raise unknown_name(f"value for {flag(name)}", value, names, meant=meant)


def _check_several(name: str, value: Any, kinds: tuple[Any, ...]) -> None:
    if not isinstance(value, (tuple, list)):
        raise InvalidSettingError(f"{flag(name)} must be several values, got {value!r}.")
    if kinds[-1] is Ellipsis:
        if not value:
            raise InvalidSettingError(f"{flag(name)} needs at least one value.")
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise InvalidSettingError(f"{flag(name)} must be {len(kinds)} values, got {len(value)}.")
    for entry, kind in zip(value, kinds, strict=True):
        check_value(name, entry, kind)


_MOST = 10**300


def _check_number(name: str, value: Any, kind: Any, bounds: Interval) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hasattr(value, "dtype"):  # an array of values, one for each member of a vmapped sweep
        is_number = value.ndim == 0
        value = value.item() if is_number else value
        if not is_number:
            for entry in value.ravel().tolist():
                _check_number(name, entry, kind, bounds)
            return
    if isinstance(value, int) and abs(value) > _MOST:  # more than a float can be
        raise InvalidSettingError(f"{flag(name)} must be a finite number, got one of {len(str(abs(value)))} digits.")
    if not is_number or (kind is int and math.isfinite(value) and int(value) != value):
        wanted = "a whole number" if kind is int else "a number"
        raise InvalidSettingError(f"{flag(name)} must be {wanted}, got {value!r}.")
    if not math.isfinite(value):
        raise InvalidSettingError(f"{flag(name)} must be a finite number, got {value}.")
    if value not in bounds:
        raise InvalidSettingError(f"{flag(name)} must be {bounds}, got {value:g}.")


def _declared(value: Any, hint: Any) -> Any:
    """A value in the type of its annotation, and the very same one where it has that already or cannot have it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _declared(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not types.NoneType]
        return _declared(value, options[0]) if len(options) == 1 and value is not None else value
    if origin is tuple and isinstance(value, (tuple, list)):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            return value
        entries = tuple(_declared(entry, kind) for entry, kind in zip(value, kinds, strict=True))
        same = isinstance(value, tuple) and all(new is old for new, old in zip(entries, value, strict=True))
        return value if same else entries
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer):
        value = value.item() if value.ndim == 0 and getattr(value.dtype, "kind", "") in "biuf" else value
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def flag(name: str) -> str:
    """The command-line spelling of a field's name: `learning_rate` is `--learning-rate`."""
    return "--" + name.replace("_", "-")
