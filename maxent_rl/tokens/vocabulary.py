"""What can be asked of a whole vocabulary at each token, for `token_statistics` and `Stage.statistics`.

Each function makes one of log-probabilities [..., V] and tokens [...]: computed chunk by chunk, constant as `extra` or with a
gradient as `differentiable`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError


def top_log_probs(count: int) -> Callable[[Array, Array], Array]:
    """The log-probabilities of the likeliest tokens, the likeliest first.

    Args:
      count: K, how many; all of a smaller vocabulary.

    Returns:
      (log_probs [..., V] in nats, tokens [...]) to [..., min(K, V)] nats.

    Raises:
      InvalidSettingError: not even one.
    """
    _check_count(count)

    def of_top(log_probs: Array, tokens: Array) -> Array:
        found: Array = jax.lax.top_k(log_probs, min(count, log_probs.shape[-1]))[0]
        return found

    return of_top


def top_entropy(count: int) -> Callable[[Array, Array], Array]:
    """The entropy as those see it who are told the likeliest tokens alone: all others count as one choice.

    Args:
      count: K, the likeliest tokens that are told apart.

    Returns:
      (log_probs [..., V] in nats, tokens [...]) to [...] nats, not more than the entropy.

    Raises:
      InvalidSettingError: not even one.

    Source: ARES (arXiv 2510.08457), released code, with K = 10.
    """
    of_top = top_log_probs(count)

    def entropy(log_probs: Array, tokens: Array) -> Array:
        best = of_top(log_probs, tokens)
        probs = jnp.exp(best)
        # Where nothing is left, 1 - S is rounding.
        rest = losses.without_rounding(1.0 - jnp.sum(probs, axis=-1), 1.0)
        left = jnp.where(rest > 0, rest, 1.0)
        told = jnp.sum(jnp.where(probs > 0, probs * best, 0.0), axis=-1)
        return -told - left * jnp.log(left)

    return entropy


def likeliest(log_probs: Array, tokens: Array) -> Array:
    """The likeliest token (the first of equals), as a float: [..., V], [...] to [...]; exact for vocabularies up to 2^24."""
    return jnp.argmax(log_probs, axis=-1).astype(log_probs.dtype)


def nucleus_log_prob(top_p: float) -> Callable[[Array, Array], Array]:
    """The log-probability of each token in the nucleus, the smallest set of likeliest tokens with the mass `top_p`.

    Args:
      top_p: the mass, from 0 to 1; one token is always in.

    Returns:
      (log_probs [..., V] in nats, tokens [...]) to [...] nats, minus infinity for tokens outside: what a sampler with top-p
      draws from, exactly. The gradient is that of the renormalised distribution.

    Source: The Curious Case of Neural Text Degeneration (arXiv 1904.09751), section 3.1.
    """

    def log_prob(log_probs: Array, tokens: Array) -> Array:
        inside = _nucleus(log_probs, top_p)
        mass = jax.nn.logsumexp(log_probs, axis=-1, where=inside)
        taken = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        is_in = jnp.take_along_axis(inside, tokens[..., None], axis=-1)[..., 0]
        return jnp.where(is_in, taken - mass, -jnp.inf)

    return log_prob


def nucleus_entropy(top_p: float) -> Callable[[Array, Array], Array]:
    """The entropy of the nucleus, renormalised.

    Args:
      top_p: the mass, from 0 to 1; one token is always in.

    Returns:
      (log_probs [..., V] in nats, tokens [...]) to [...] nats.
    """

    def entropy(log_probs: Array, tokens: Array) -> Array:
        inside = _nucleus(log_probs, top_p)
        mass = jax.nn.logsumexp(log_probs, axis=-1, where=inside, keepdims=True)
        own = jnp.where(inside, log_probs - mass, 0.0)
        return -jnp.sum(jnp.where(inside, jnp.exp(own) * own, 0.0), axis=-1)

    return entropy


def _nucleus(log_probs: Array, top_p: float) -> Array:
    """[..., V] bool: which choices are in. Of equally likely ones at its edge all are, where a sampler takes the first."""
    ordered = jnp.sort(jax.lax.stop_gradient(log_probs), axis=-1, descending=True)
    before = jnp.cumsum(jnp.exp(ordered), axis=-1)[..., :-1]
    size = jnp.sum(before < top_p - losses.rounding_of(top_p), axis=-1, keepdims=True)
    return log_probs >= jnp.take_along_axis(ordered, size, axis=-1)


def _check_count(count: int) -> None:
    if count < 1:
        raise InvalidSettingError(f"At least one token is needed, got {count}.")
