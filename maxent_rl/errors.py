"""The exceptions of the library, and "did you mean" for names.

Every fault that a user can cause or meet has a type here. The command lines turn a `MaxentRLError` into one sentence and a
non-zero exit; a library user can catch exactly the one that matters.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable


class MaxentRLError(Exception):
    """Base of all errors that maxent_rl raises on purpose; its message is one sentence for the user.

    Attributes:
      place: (index, count) of what is at fault among things that lie side by side, those of the first seed before those of
        the second; None where that is not known.
    """

    place: tuple[int, int] | None = None


class UnknownNameError(MaxentRLError, ValueError):
    """A name of an agent, environment, backend or setting that does not exist."""


class InvalidSettingError(MaxentRLError, ValueError):
    """A number or a combination of settings that cannot work."""


class TooLargeError(InvalidSettingError):
    """A run, an evaluation or a data set for which there is not enough memory, known before anything is built."""


class IncompatibleEnvironmentError(MaxentRLError, ValueError):
    """An environment whose spaces or dynamics the agent or the library cannot handle."""


class EnvironmentFailedError(MaxentRLError, RuntimeError):
    """An exception that an environment raised of its own accord, when made, reset or stepped; it is the cause of this one."""


class ShapeError(MaxentRLError, ValueError):
    """Arrays whose shapes do not fit together."""


class MissingInputError(MaxentRLError, ValueError):
    """An array that a loss or an objective needs and that was not passed."""


class MissingDependencyError(MaxentRLError, ImportError):
    """An optional package (or system library) that the request needs and that is not installed."""


class NonFiniteError(MaxentRLError, FloatingPointError):
    """NaN or infinity in an observation, a reward, an action or a loss."""


class CheckpointError(MaxentRLError):
    """A checkpoint or run folder that is missing, damaged, or belongs to something else."""


class PolicyError(MaxentRLError):
    """A policy folder that is missing, damaged, or of an unknown format."""


class DataError(MaxentRLError, ValueError):
    """A data set to learn from that is missing, damaged, or of another environment."""


class StorageError(MaxentRLError, OSError):
    """A file or folder that cannot be written: no space, no permission, or in the way."""


class ProcessError(MaxentRLError):
    """Another process of a run that cannot be reached, or that has ended."""


def unknown_name(
    kind: str,
    name: object,
    known: Iterable[str],
    hint: str = "",
    meant: Iterable[str] = (),
    spelled: Callable[[str], str] = str,
) -> UnknownNameError:
    """Builds the error for a name that is not among `known`, with the nearest right ones.

    Args:
      kind: what is named, in lower case: "agent", "environment", "setting of SAC".
      name: what the user wrote.
      known: the names that exist.
      hint: a further sentence, optional.
      meant: names that the user may well have meant, in place of the most similar ones.
      spelled: how names are shown, where that is not as they are: as flags.

    Returns:
      The error, to be raised by the caller.
    """
    names = sorted(set(known))
    by_folded = {candidate.lower(): candidate for candidate in names}
    similar = difflib.get_close_matches(str(name).lower(), by_folded, n=3, cutoff=0.5)
    close = list(dict.fromkeys(meant))[:3] or [by_folded[match] for match in similar]
    message = f"Unknown {kind} {(spelled(name) if isinstance(name, str) else name)!r}."
    if close:
        message += " Did you mean " + " or ".join(repr(spelled(match)) for match in close) + "?"
    if 0 < len(names) <= 12:
        message += f" {_plural(kind)}: {', '.join(map(spelled, names))}."
    if hint:
        message += f" {hint}"
    return UnknownNameError(message)


def _plural(kind: str) -> str:
    """`setting of SAC` is one of `Settings of SAC`."""
    noun, which, rest = re.fullmatch(r"(.*?)(?:( of | for )(.*))?", kind).groups("")  # type: ignore[union-attr]
    return noun[0].upper() + noun[1:] + ("es" if noun.endswith("s") else "s") + which + rest


def run_command(command: Callable[[list[str]], int], arguments: list[str], stopped: str) -> int:
    """Runs a command line; a `MaxentRLError` becomes one sentence on standard error, an interrupt no traceback.

    Args:
      command: takes the arguments and returns the exit status.
      arguments: of the command line, without the program's name.
      stopped: what to say after an interrupt.

    Returns:
      The exit status: the command's own, 1 after an error, 130 after an interrupt.
    """
    try:
        return command(arguments)
    except MaxentRLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:  # one that says what is saved knows better than the command
        print(str(error) or stopped, file=sys.stderr)
        return 130
