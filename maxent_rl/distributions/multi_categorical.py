"""A distribution over several choices that are made at once, independently of each other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.distributions.categorical import Categorical


@struct.dataclass
class MultiCategorical:
    """The product of one `Categorical` for each entry of an action.

    Attributes:
      entries: the distribution of each entry, with the same leading axes [...].
    """

    entries: tuple[Categorical, ...]

    def sample(self, key: Array) -> Array:
        """Draws choices: [..., entry] int32."""
        keys = jax.random.split(key, len(self.entries))
        return jnp.stack([entry.sample(each) for entry, each in zip(self.entries, keys, strict=True)], axis=-1)

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws choices [..., entry] int32 and their log-probabilities [...] in nats."""
        choice = self.sample(key)
        return choice, self.log_prob(choice)

    def log_prob(self, action: Array) -> Array:
        """Log-probability [...] of given choices [..., entry], in nats."""
        found = [entry.log_prob(action[..., index]) for index, entry in enumerate(self.entries)]
        return jnp.sum(jnp.stack(found), axis=0)

    def entropy(self, key: Array | None = None) -> Array:
        """Exact entropy, [...] in nats; the key is not used."""
        return jnp.sum(jnp.stack([entry.entropy() for entry in self.entries]), axis=0)

    def divergence(self, other: MultiCategorical) -> Array:
        """Exact KL(self || other), [...] in nats."""
        pairs = zip(self.entries, other.entries, strict=True)
        return jnp.sum(jnp.stack([own.divergence(its) for own, its in pairs]), axis=0)

    def mode(self) -> Array:
        """The likeliest choice of each entry (the first of equals), [..., entry] int32."""
        return jnp.stack([entry.mode() for entry in self.entries], axis=-1)
