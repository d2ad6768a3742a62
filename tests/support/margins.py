"""How much of its tolerance each comparison uses, recorded on demand: `pytest --margins FILE`.

A green run says little about other processors: a comparison that used 0.9 of its tolerance here passes, and fails there.
With `--margins` every `numpy.testing.assert_allclose` and every `pytest.approx` writes one line of JSON: where it stands,
and the largest share of its tolerance that any entry used. `make test-portable` reads them.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

THIN = 0.25  # of its tolerance: four times as far off would fail
_TESTS = str(Path(__file__).parents[1])
_HELPERS = ("margins.py", "closeness.py")


def used_share(actual: Any, desired: Any, rtol: float, atol: float) -> float:
    """The largest |actual - desired| / (atol + rtol |desired|) among finite entries; 0 where both are equal."""
    try:
        actual, desired = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
        actual, desired = np.broadcast_arrays(actual, desired)
    except (TypeError, ValueError):
        return 0.0
    with np.errstate(all="ignore"):
        error = np.abs(actual - desired)
        share = np.where(error > 0, error / (atol + rtol * np.abs(desired)), 0.0)
    return float(np.max(share[np.isfinite(actual) & np.isfinite(desired)], initial=0.0))


class Recorder:
    """Wraps both ways of comparing, and appends a line for each comparison to a file."""

    def __init__(self, path: Path) -> None:
        """Args: path: where lines go; workers of one run append to the same file."""
        self._path = path
        self._lines: list[str] = []
        self.test = ""

    def note(self, share: float, rtol: float, atol: float) -> None:
        """One comparison, called from a test."""
        self._lines.append(
            json.dumps({"at": _caller(), "test": self.test, "used": share, "rtol": float(rtol), "atol": float(atol)})
        )

    def flush(self) -> None:
        """Appends in one write, so that lines of several workers do not mix."""
        if self._lines:
            with self._path.open("a") as file:
                file.write("\n".join(self._lines) + "\n")
            self._lines.clear()

    def install(self) -> None:
        """Wraps `numpy.testing.assert_allclose` and the equality of `pytest.approx`'s scalars."""
        np.testing.assert_allclose = self._wrapped_allclose(np.testing.assert_allclose)
        scalar = type(pytest.approx(1.0))
        scalar.__eq__ = self._wrapped_approx(scalar.__eq__)  # type: ignore[method-assign]

    def _wrapped_allclose(self, compare: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(compare)
        def wrapped(actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0.0, **rest: Any) -> None:
            self.note(used_share(actual, desired, rtol, atol), rtol, atol)
            compare(actual, desired, rtol=rtol, atol=atol, **rest)

        return wrapped

    def _wrapped_approx(self, equal: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
        @functools.wraps(equal)
        def wrapped(expected: Any, actual: Any) -> bool:
            if isinstance(expected.expected, (int, float)) and np.size(actual) == 1:
                tolerance = float(expected.tolerance)
                self.note(used_share(actual, expected.expected, 0.0, tolerance), 0.0, tolerance)
            return equal(expected, actual)

        return wrapped


def _caller() -> str:
    """File and line of the test that compares."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_TESTS) and not name.endswith(_HELPERS):
            return f"{os.path.relpath(name, _TESTS)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def thinnest(path: Path, least: float = THIN) -> Iterator[tuple[float, str, str]]:
    """Where comparisons used more than a share of their tolerance: (share, place, test), the thinnest first."""
    most: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        most[entry["at"]] = max(most[entry["at"]], (entry["used"], entry["test"]))
    for place, (share, test) in sorted(most.items(), key=lambda item: -item[1][0]):
        if share > least:
            yield share, place, test


if __name__ == "__main__":
    for share, place, test in thinnest(Path(sys.argv[1])):
        print(f"{share:8.3f} of its tolerance  {place}  {test}")
