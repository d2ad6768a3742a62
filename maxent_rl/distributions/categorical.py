"""A distribution over finitely many actions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.losses.entropy import softmax_entropy


@struct.dataclass
class Categorical:
    """Probabilities proportional to `exp(logits)`; a logit of -inf rules an action out.

    Attributes:
      logits: [..., choice] logarithms of the probabilities, up to a constant.
    """

    logits: Array

    @property
    def log_probs(self) -> Array:
        """[..., choice] log-probabilities of all choices, in nats."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Array) -> Array:
        """Draws choices: [...] int32."""
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws choices [...] int32 and their log-probabilities [...] in nats."""
        choice = self.sample(key)
        return choice, self.log_prob(choice)

    def log_prob(self, action: Array) -> Array:
        """Log-probability [...] of given choices [...], in nats."""
        index = jnp.asarray(action, jnp.int32)[..., None]
        return jnp.take_along_axis(self.log_probs, index, axis=-1)[..., 0]

    def entropy(self, key: Array | None = None) -> Array:
        """Exact entropy, [...] in nats, with `0 log 0 = 0`; the key is not used."""
        return softmax_entropy(self.logits)

    def divergence(self, other: Categorical) -> Array:
        """Exact KL(self || other), [...] in nats, with `0 log 0 = 0`."""
        own = jnp.exp(self.log_probs)
        gap = jnp.where(own > 0, self.log_probs - other.log_probs, 0.0)
        return jnp.sum(own * gap, axis=-1)

    def mode(self) -> Array:
        """The likeliest choice (the first of equals), [...] int32."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)
