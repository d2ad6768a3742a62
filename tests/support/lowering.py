"""Programs written out for accelerators on a machine that has none: traced and lowered, never compiled nor run."""

from __future__ import annotations

from typing import Any

import pytest
from jax import export

PLATFORMS = ("cuda", "tpu")
on_each_platform = pytest.mark.parametrize("platform", PLATFORMS)


def lower_for(platform: str, program: Any, *arguments: Any, **named: Any) -> str:
    """The program of a jitted function for a platform, as StableHLO.

    Args:
      platform: as JAX names it.
      program: a function that went through `jax.jit`; the second platform is lowered from the trace of the first.
      *arguments: arrays or their shapes; none is computed with.
      **named: likewise.

    Raises:
      NotImplementedError: an operation that the platform has not.
      ValueError: a call back to Python on the host, or to a library whose interface may change.
    """
    exported = export.export(program, platforms=(platform,))(*arguments, **named)
    assert exported.platforms == (platform,)
    return exported.mlir_module()
