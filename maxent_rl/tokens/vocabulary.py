"""What can be asked of a whole vocabulary at each token, for `token_statistics` and `Stage.statistics`.

Each function makes one of log-probabilities [..., V] and tokens [...]: computed chunk by chunk, constant as `extra` or with a
gradient as `differentiable`. Those of `teacher_...` are of a policy's and a teacher's log-probabilities, for `compared`, and
`Stage.teaching`.
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


def teacher_divergence(
    interpolation: float = 0.5, count: int | None = None, tail: bool = True
) -> Callable[[Array, Array, Array], Array]:
    """How far the policy is from its teacher: `losses.teacher_divergence`, of all choices or of the policy's likeliest.

    Args:
      interpolation: 0 for KL(teacher || policy), 1 for KL(policy || teacher), the divergence of Jensen and Shannon between.
      count: K, the policy's likeliest tokens, which are told apart; None for all.
      tail: whether all others are one choice more; without it both are renormalised.

    Returns:
      (log_probs [..., V] in nats, those of the teacher, tokens [...]) to [...] nats.

    Raises:
      InvalidSettingError: not even one token, or an interpolation that is not between 0 and 1.
    """
    if not 0 <= interpolation <= 1:
        raise InvalidSettingError(f"interpolation is {interpolation}; it must be from 0 to 1.")
    if count is not None:
        _check_count(count)

    def divergence(log_probs: Array, of_teacher: Array, tokens: Array) -> Array:
        if count is not None:
            log_probs, of_teacher = losses.likeliest_buckets(log_probs, of_teacher, count, tail)
        return losses.teacher_divergence(log_probs, of_teacher, interpolation)

    return divergence


def toward_policy(
    comparison: Callable[[Array, Array, Array], Array], share: float
) -> Callable[[Array, Array, Array], Array]:
    """The same comparison with a teacher that is moved towards the policy: its logits a share of the way, held constant.

    Args:
      comparison: of a policy and a teacher.
      share: from 0, the teacher as it is, to 1, the policy itself.

    Returns:
      (log_probs [..., V] in nats, those of the teacher, tokens [...]) to what the comparison gives.

    Raises:
      InvalidSettingError: a share that is not between 0 and 1.

    Source: SDPO (arXiv 2601.20802), released code, its trust-region teacher.
    """
    if not 0 <= share <= 1:
        raise InvalidSettingError(f"share is {share}; it must be from 0 to 1.")

    def of_both(log_probs: Array, of_teacher: Array, tokens: Array) -> Array:
        # Log-probabilities are logits, each up to a constant that the softmax takes away.
        between = (1.0 - share) * of_teacher + share * jax.lax.stop_gradient(log_probs)
        return comparison(log_probs, jax.nn.log_softmax(between), tokens)

    return of_both


def teacher_log_prob(log_probs: Array, of_teacher: Array, tokens: Array) -> Array:
    """The log-probability of each token under the teacher: [..., V], [..., V], [...] to [...] nats."""
    return jnp.take_along_axis(of_teacher, tokens[..., None], axis=-1)[..., 0]


def teacher_entropy(count: int | None = None, tail: bool = True) -> Callable[[Array, Array, Array], Array]:
    """The teacher's entropy, over all choices or over the policy's likeliest as `teacher_divergence` tells them apart.

    Args:
      count: K; None for all choices.
      tail: as of `teacher_divergence`.

    Returns:
      (log_probs [..., V] in nats, those of the teacher, tokens [...]) to [...] nats.

    Raises:
      InvalidSettingError: not even one token.
    """
    if count is not None:
        _check_count(count)

    def entropy(log_probs: Array, of_teacher: Array, tokens: Array) -> Array:
        if count is not None:
            _, of_teacher = losses.likeliest_buckets(log_probs, of_teacher, count, tail)
        return losses.softmax_entropy(of_teacher)

    return entropy


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
    least = jnp.take_along_axis(ordered, size, axis=-1)
    return log_probs >= least - log_rounding(log_probs)


def log_rounding(log_probs: Array) -> Array:
    """[..., 1] by how much log-probabilities [..., V] may differ that are one number.

    A compiler may work them out once to sort them and once to compare them, and round them apart: by as much as the largest
    logits of the row round, of which the least log-probability tells the size.
    """
    known = jnp.isfinite(log_probs)
    return losses.rounding_of(jnp.max(jnp.abs(log_probs), axis=-1, keepdims=True, where=known, initial=1.0))


def _check_count(count: int) -> None:
    if count < 1:
        raise InvalidSettingError(f"At least one token is needed, got {count}.")
