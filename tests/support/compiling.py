"""What tests do most of, at a lower price: importing, and compiling thousands of small programs that run once."""

from __future__ import annotations

import gc
import itertools
from importlib.metadata import version
from typing import Any

PROGRAMS = 200  # in one context, which keeps types and constants of all of them


def share_contexts() -> None:
    """Has JAX write programs into a common MLIR context, where it makes one for each otherwise.

    Making and freeing one takes 5 ms, more than all else of writing the program of a single operation: a sixth of the
    time of `tests/losses`. This is inside JAX: in versions other than the one looked at everything stays as it is.
    """
    if not version("jax").startswith("0.10."):
        return
    from jax._src.interpreters import mlir

    make, calls, current = mlir.make_ir_context, itertools.count(), []

    def shared() -> Any:
        if next(calls) % PROGRAMS == 0:
            current[:] = [make()]
        return current[0]

    mlir.make_ir_context = shared


def collect_rarely() -> None:
    """Has Python look for garbage less often than at every 700th object, and never among modules and tests.

    Hundreds of thousands of objects stay until the end: looking through them took a third of the time of importing.
    """
    gc.enable()
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)
