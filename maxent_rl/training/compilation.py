"""How XLA compiles the training programs: a cache of compiled programs on disk, and options measured to be faster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax

_SHORTEST_CACHED_SECONDS = 0.1

# Flags that XLA knows change from version to version, and an unknown one is an error: only where they were measured.
_TESTED_VERSION = (0, 10)

# XLA's newer library for matrix products on CPUs divides products of 256 x 256 matrices badly between two threads; without
# it Eigen computes them (benchmarks/NOTES.md has the measurements). Other backends do not read the option.
_EIGEN_PRODUCTS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def compiler_options() -> dict[str, Any] | None:
    """Options for `jax.jit` of programs that spend their time in matrix products of a few hundred rows."""
    return dict(_EIGEN_PRODUCTS) if jax.__version_info__[:2] == _TESTED_VERSION else None


def cache_folder() -> Path:
    """Where compiled programs are kept unless JAX was told otherwise: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maxent_rl" / "xla"


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the next run of the same shapes begins at once.

    Does nothing where the user chose a folder (JAX_COMPILATION_CACHE_DIR, or JAX's configuration), switched the cache off
    (JAX_ENABLE_COMPILATION_CACHE=false), or where the folder cannot be made: a run must not fail for want of a cache.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST_CACHED_SECONDS)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)
