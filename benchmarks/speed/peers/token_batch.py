"""What the losses over tokens are computed of, the same numbers for ours and for the peers (NumPy only)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SEQUENCES = GROUP = 8  # one prompt and its responses


class Batch(NamedTuple):
    """Eight responses to one prompt, as they come from a policy that was a little different.

    Attributes:
      hidden: [N, T, D] float32.
      unembedding: [V, D] float32, as PyTorch and models with tied embeddings have it. Logits have a deviation of 1.
      tokens: [N, T] int64.
      logp_old: [N, T] float32, in nats.
      mask: [N, T] float32; the sequences have different lengths.
      rewards: [N] float32.
    """

    hidden: np.ndarray
    unembedding: np.ndarray
    tokens: np.ndarray
    logp_old: np.ndarray
    mask: np.ndarray
    rewards: np.ndarray


def make_batch(tokens: int, vocabulary: int, width: int, seed: int) -> Batch:
    """Draws a batch with `tokens` tokens in all."""
    if tokens % SEQUENCES:
        raise SystemExit(f"error: --tokens {tokens} is not a multiple of {SEQUENCES}.")
    random, length = np.random.default_rng(seed), tokens // SEQUENCES
    shape = SEQUENCES, length
    # Of logits with a deviation of 1 the normaliser is log V + 1/2.
    old = random.normal(-np.log(vocabulary) - 0.5, 1.0, shape)
    return Batch(
        hidden=random.standard_normal((*shape, width), np.float32),
        unembedding=random.standard_normal((vocabulary, width), np.float32) / np.float32(np.sqrt(width)),
        tokens=random.integers(0, vocabulary, shape),
        logp_old=old.astype(np.float32),
        mask=(np.arange(length) < random.integers(length // 2, length + 1, (SEQUENCES, 1))).astype(np.float32),
        rewards=(np.arange(SEQUENCES) % 3 == 0).astype(np.float32),
    )
