"""Programs written out for accelerators on a machine that has none: traced and lowered, never compiled nor run."""

from __future__ import annotations

from typing import Any

import pytest
from jax import export

PLATFORMS = ("cuda", "tpu")
on_each_platform = pytest.mark.parametrize("platform", PLATFORMS)


def lower_for(platforms: str | tuple[str, ...], program: Any, *arguments: Any, **named: Any) -> str:
    """The program of a jitted function for a platform, or one for several of them, as StableHLO.

    Args:
      platforms: as JAX names them; of several, one program is written, which holds what each needs of its own.
      program: a function that went through `jax.jit`.
      *arguments: arrays or their shapes; none is computed with.
      **named: likewise.

    Raises:
      NotImplementedError: an operation that one of the platforms has not, or a call back to Python where they are several.
      ValueError: a call back to Python on the host, or to a library whose interface may change.
    """
    platforms = (platforms,) if isinstance(platforms, str) else platforms
    exported = export.export(program, platforms=platforms)(*arguments, **named)
    assert exported.platforms == platforms
    return exported.mlir_module()
