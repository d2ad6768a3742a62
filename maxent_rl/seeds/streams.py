"""A seed's streams of random numbers, one for each thing that is drawn, so that none disturbs another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.types import Array

# Streams of random numbers that a seed's root key is folded with; their order is part of what a checkpoint means.
INIT, ACT, LEARN, ENVIRONMENT, EVALUATION, PREPARE, WATCH = range(7)


def seed_keys(seeds: tuple[int, ...]) -> Array:
    """The root keys of the seeds: [seed]."""
    return jnp.stack([jax.random.key(seed) for seed in seeds])


def environment_seed(seed: int, stream: int, *numbers: int) -> int:
    """A 32-bit seed for a host environment that is independent between streams and their numbers."""
    return int(np.random.SeedSequence([seed, stream, *numbers]).generate_state(1)[0])
