"""Which settings have an effect in which combination, declared beside each: what does nothing is refused, not passed over.

A setting says so in its field, `anchor_decay: Fraction = setting(0.99, used_when=when(anchor="ema"))`; one that says nothing
always has an effect. `--help` shows the rules, `refuse_unused` keeps them, and a test compares them with traced programs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import flag

Values: TypeAlias = Mapping[str, Any]
"""Settings by name; of what else is known "spec", an environment's, and "on_device", whether it runs there."""


@dataclasses.dataclass(frozen=True)
class When:
    """Combinations of settings, in which another one has an effect; `&` and `|` make further ones.

    Attributes:
      words: that follow "used only": "with --anchor ema".
      holds: whether settings are such a combination; true where what decides is not known yet.
    """

    words: str
    holds: Callable[[Values], bool]

    def __and__(self, other: When) -> When:
        """Both at once."""
        return When(f"{self.words} and {other.words}", lambda values: self.holds(values) and other.holds(values))

    def __or__(self, other: When) -> When:
        """Either of them."""
        return When(f"{self.words}, or {other.words}", lambda values: self.holds(values) or other.holds(values))


def when(**accepted: Any) -> When:
    """Settings that have a value, or one of a tuple's: `when(anchor="ema")`."""
    choices = {name: value if isinstance(value, tuple) else (value,) for name, value in accepted.items()}
    words = " and ".join(f"with {_spelled(name, values)}" for name, values in choices.items())
    return When(words, lambda values: all(values[name] in wanted for name, wanted in choices.items()))


def unless(**refused: Any) -> When:
    """Settings that have another value than this: `unless(temperature_mode="fixed")`."""
    words = " and ".join(f"with another {flag(name)} than {value}" for name, value in refused.items())
    return When(words, lambda values: all(values[name] != value for name, value in refused.items()))


def given(name: str) -> When:
    """A setting that is not None."""
    return When(f"with {flag(name)}", lambda values: values[name] is not None)


def not_given(name: str) -> When:
    """A setting that is None."""
    return When(f"without {flag(name)}", lambda values: values[name] is None)


def above(**bounds: float) -> When:
    """Settings that are larger than a number: `above(num_critics=1)`."""
    words = " and ".join(f"with {flag(name)} above {bound:g}" for name, bound in bounds.items())

    def holds(values: Values) -> bool:
        return all(bool(np.any(np.asarray(values[name]) > bound)) for name, bound in bounds.items())

    return When(words, holds)


ALWAYS = When("", lambda values: True)
"""In any combination: for a subclass whose setting has an effect where that of its base has none."""
NEVER = When("by other agents", lambda values: False)
"""In no combination: for a subclass that does without a setting of its base."""
CONTINUOUS = When(
    "with continuous actions", lambda values: values.get("spec") is None or bool(values["spec"].is_continuous)
)
"""An environment whose actions are vectors."""
NUMBERS = When("with observations that are not images alone", lambda values: _has_numbers(values.get("spec")))
"""An environment whose observations have numbers beside images, or no images."""
ON_HOST = When("with environments on the host", lambda values: not values.get("on_device"))
"""An environment that Python steps."""


def rule(kind: type[Any], name: str) -> When | None:
    """When a setting of a dataclass has an effect: what the nearest class says that declares it with a rule."""
    for each in kind.__mro__:
        field = vars(each).get("__dataclass_fields__", {}).get(name)
        if field is not None and (found := field.metadata.get("used_when")) is not None:
            return found  # type: ignore[no-any-return]
    return None


def sentence(kind: type[Any], name: str) -> str:
    """The sentence of `--help` on when a setting has an effect; empty where it always has one."""
    found = rule(kind, name)
    return "" if found is None or not found.words else f" Used only {found.words}."


def unused(*settings: Any, **known: Any) -> dict[str, When]:
    """The settings that have no effect, with what they would need.

    Args:
      *settings: instances of dataclasses that decide together, such as a run's settings and its agent.
      **known: what else is known, as `Values` has it.
    """
    values = known | {field.name: getattr(each, field.name) for each in settings for field in dataclasses.fields(each)}
    found = {}
    for each in settings:
        for field in dataclasses.fields(each):
            needed = rule(type(each), field.name)
            if needed is not None and not needed.holds(values):
                found[field.name] = needed
    return found


def refuse_unused(by_hand: Iterable[str], combinations: Iterable[Sequence[Any]], **known: Any) -> None:
    """Refuses what somebody set and what has no effect.

    Args:
      by_hand: the names of settings that were given, not left at a default or taken from a preset.
      combinations: of settings, each as `unused` takes them: variants of a run, jobs of a sweep. One in which a setting has
        an effect will do.
      **known: as of `unused`.

    Raises:
      InvalidSettingError: naming the setting, and what it would need.
    """
    for name, needed in unused_in(by_hand, combinations, **known).items():
        raise InvalidSettingError(
            f"{flag(name)} has no effect here: it is used only {needed.words}. Leave it out, or change that."
        )


def unused_in(by_hand: Iterable[str], combinations: Iterable[Sequence[Any]], **known: Any) -> dict[str, When]:
    """What `refuse_unused` refuses, with what it would need."""
    found = [unused(*settings, **known) for settings in combinations]
    return {name: found[0][name] for name in by_hand if found and all(name in each for each in found)}


def changed(settings: Any) -> tuple[str, ...]:
    """The settings that differ from the defaults of their class: those that a user of the library has set."""
    found = []
    for field in dataclasses.fields(settings):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = getattr(settings, field.name)
        if default is dataclasses.MISSING or not (value is default or bool(np.array_equal(value, default))):
            found.append(field.name)
    return tuple(found)


def flags_in(arguments: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """The settings, of those with such names, that a command line gives as flags."""
    known, found = set(names), []
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].partition("=")[0].replace("-", "_")
            found += [each for each in (name, name.removeprefix("no_")) if each in known][:1]
    return tuple(dict.fromkeys(found))


def _has_numbers(spec: Any) -> bool:
    return spec is None or bool(spec.observation_size - spec.image_size)


def _spelled(name: str, values: tuple[Any, ...]) -> str:
    if values in ((True,), (False,)):
        return f"--{'' if values[0] else 'no-'}{name.replace('_', '-')}"
    return f"{flag(name)} {' or '.join(map(str, values))}"
