"""Ctrl-C and SIGTERM as a request to stop at the next step, so that nothing is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def catch_interrupts(notify: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Within the block, the first SIGINT or SIGTERM only sets a flag; the second acts as usual.

    Args:
      notify: called once with a sentence for the user when the first signal comes.

    Yields:
      A function that says whether a signal came. Outside the main thread no signal can be caught: it stays False.
    """
    came = threading.Event()
    previous: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        came.set()
        for caught, handler in previous.items():
            signal.signal(caught, handler)
        notify(f"{signal.Signals(number).name}: saving a checkpoint, then stopping. Once more to stop at once.")

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handle)
    try:
        yield came.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
