"""An eye on the first steps of host environments, for what makes numbers worth less than they look: a sentence each.

Two things are found here that no check of a single step finds: random numbers from Python's and NumPy's global generators,
which no seed of a run reaches, and changes that float32 is too coarse for (seconds since 1970). After the first steps nothing
is looked at any more, so that it costs nothing.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.horizon import Horizon

_STEPS = 64  # that are looked at
_FEW, _MANY = 8, 0.25  # changes that float32 lost: fewer are no habit, and a share of all changes
_LARGE = 2.0**14  # where float32's numbers lie a thousandth apart: what is lost below may well be noise of a solver
_NOTHING = contextlib.nullcontext()
_NOISE = 1e-12  # a relative change that double precision cannot tell from rounding


class Watch:
    """Watches environments of one kind."""

    def __init__(self, name: str, horizon: Horizon) -> None:
        """Begins to watch.

        Args:
          name: of the environment, for messages.
          horizon: after which its episodes are cut.
        """
        self._name, self._horizon = name, horizon
        self._left, self._said, self._waiting = _STEPS, set[str](), list[str]()
        self._lost: dict[str, _Lost] = {}

    def take(self) -> list[str]:
        """What was found since the last call, a sentence each; none comes twice."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def calls(self) -> AbstractContextManager[None]:
        """Surrounds calls of the environments, which should leave the global generators alone."""
        return self._looking() if self._left > 0 else _NOTHING

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        before = _generators()
        yield
        drawn = [name for name, state in _generators().items() if state != before[name]]
        if drawn:
            self._say(
                f"{self._name} draws from {' and '.join(drawn)}, which --seed does not reach: its numbers are other ones in "
                "every run, and depend on what is trained and evaluated beside it, until it draws from self.np_random instead."
            )

    def saw(self, observed: Any, reward: Any) -> None:
        """Looks at what the first environment gave in a step, before it becomes float32."""
        if self._left <= 0:
            return
        self._left -= 1
        for what, part in [*_parts(observed, "the observation"), ("reward", reward)]:
            self._lost.setdefault(what, _Lost()).add(part)
        if self._left:
            return
        for what, lost in self._lost.items():
            found = lost.worst()
            if found is not None:
                entry, size, change = found
                apart = np.spacing(np.float32(abs(size)))
                named = "The reward" if what == "reward" else f"Entry {entry} of {what}"
                self._say(
                    f"{named} of {self._name} changes by {change:.3g} at {size:.4g}, where the numbers of "
                    f"float32, in which agents compute, lie {apart:.3g} apart, so that many changes are lost: "
                    "subtract a fixed start from it."
                )

    def cut(self) -> None:
        """Is told that an episode was cut here that the environment did not end."""
        remark = self._horizon.remark(self._name)
        if remark is not None:
            self._say(remark)

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._waiting.append(sentence)


class _Lost:
    """Counts, for each entry of what comes step by step, the changes that are gone in float32."""

    def __init__(self) -> None:
        self._last: NDArray[Any] | None = None
        self._changes: Any = 0
        self._lost: Any = 0
        self._smallest: Any = np.inf

    def add(self, value: Any) -> None:
        """Takes in what one step gave; only numbers that have more digits than float32 count."""
        now = np.ravel(np.asarray(value))
        if now.dtype.kind not in "fiu" or np.can_cast(now.dtype, np.float32) or not np.isfinite(now).all():
            return
        last, self._last = self._last, now.copy()
        if last is None or last.shape != now.shape:
            return
        change = np.maximum(now, last) - np.minimum(
            now, last
        )  # whole numbers without a sign have no negative difference
        changed = change > (_NOISE * np.abs(now) if now.dtype.kind == "f" else 0)
        gone = changed & (now.astype(np.float32) == last.astype(np.float32)) & (np.abs(now) >= _LARGE)
        self._changes, self._lost = self._changes + changed, self._lost + gone
        self._smallest = np.minimum(self._smallest, np.where(gone, change, np.inf))

    def worst(self) -> tuple[int, float, float] | None:
        """The entry that lost most of its changes, its size, and the smallest one lost; None where none lost many."""
        if self._last is None or not np.any(self._lost):
            return None
        share = np.where(self._lost >= _FEW, self._lost / np.maximum(self._changes, 1), 0.0)
        entry = int(np.argmax(share))
        if share[entry] < _MANY:
            return None
        return entry, float(self._last[entry]), float(self._smallest[entry])


def _parts(observed: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays of an observation, with what to call them: there is one, or as many as a Dict or a Tuple holds."""
    if isinstance(observed, dict):
        for key, value in observed.items():
            yield from _parts(value, f"{key!r} in {name}")
    elif isinstance(observed, tuple):
        for index, value in enumerate(observed):
            yield from _parts(value, f"part {index} of {name}")
    else:
        yield name, observed


def _generators() -> dict[str, Any]:
    """The states of the global generators, by their names, as values that can be compared."""
    return {
        "NumPy's global generator (np.random)": _comparable(np.random.get_state(legacy=False)),  # noqa: NPY002
        "Python's global generator (random)": random.getstate(),
    }


def _comparable(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _comparable(value) for name, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state
