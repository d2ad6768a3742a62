"""What agents rely on in a policy's distribution, whatever its kind."""

from __future__ import annotations

from typing import Protocol

from jax import Array


class Distribution(Protocol):
    """A distribution over actions at each of [...] observations. Every implementation is a pytree."""

    def sample(self, key: Array) -> Array:
        """Draws actions: [..., action]; [...] for single choices."""
        ...

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws the actions that `sample` draws from the same key, with their log-probabilities [...] in nats."""
        ...

    def log_prob(self, action: Array) -> Array:
        """Log-probability (or log-density) of given actions: [...] in nats."""
        ...

    def entropy(self, key: Array) -> Array:
        """Entropy [...] in nats: exact where there is a closed form, else an estimate from one sample."""
        ...

    def mode(self) -> Array:
        """The action to take where none is to be drawn: [..., action]."""
        ...
