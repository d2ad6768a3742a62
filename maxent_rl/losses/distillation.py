"""Distillation: how far a student's distribution over choices is from a teacher's, and what brings it nearer.

P is the student, Q the teacher, which is always held constant. All is of normalised log-probabilities, per token, in nats.

Source: On-Policy Distillation of Language Models, GKD (arXiv 2306.13649); MiniLLM (arXiv 2306.08543); Reinforcement Learning
via Self-Distillation, SDPO (arXiv 2601.20802), whose released code has the buckets of the likeliest choices.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.policy_gradient import importance_ratio
from maxent_rl.losses.precision import in_single_precision

# The logarithm of what the likeliest choices have together is held below this, so that the others keep a logarithm.
_MOST_LOG_MASS = -1e-7


@in_single_precision
def forward_kl(log_probs: ArrayLike, teacher_log_probs: ArrayLike) -> Array:
    """KL(Q || P), which spreads the student over all that the teacher does.

    Args:
      log_probs: [..., choice] log P of the student, in nats.
      teacher_log_probs: [..., choice] log Q; held constant.

    Returns:
      [...] nats; infinite where the student rules out what the teacher does not.

    Source: GKD (arXiv 2306.13649), section 2.
    """
    return _relative_entropy(jax.lax.stop_gradient(jnp.asarray(teacher_log_probs)), jnp.asarray(log_probs))


@in_single_precision
def reverse_kl(log_probs: ArrayLike, teacher_log_probs: ArrayLike) -> Array:
    """KL(P || Q), which keeps the student to what the teacher holds likely.

    Args:
      log_probs: [..., choice] log P of the student, in nats.
      teacher_log_probs: [..., choice] log Q; held constant.

    Returns:
      [...] nats; infinite where the teacher rules out what the student does not.

    Source: MiniLLM (arXiv 2306.08543), equation 1.
    """
    return _relative_entropy(jnp.asarray(log_probs), jax.lax.stop_gradient(jnp.asarray(teacher_log_probs)))


@in_single_precision
def jensen_shannon(log_probs: ArrayLike, teacher_log_probs: ArrayLike, share: ArrayLike = 0.5) -> Array:
    """The generalised divergence of Jensen and Shannon: `(1 - share) KL(P || M) + share KL(Q || M)`.

    M is `(1 - share) P + share Q`. Divided by `share` it tends to KL(Q || P) for a share of 0, and divided by `1 - share` to
    KL(P || Q) for one of 1, where it is itself 0. Its gradient in log P is `(1 - share) P (log P - log M)`.

    Args:
      log_probs: [..., choice] log P of the student, in nats.
      teacher_log_probs: [..., choice] log Q; held constant.
      share: [] of the teacher in the mixture M, between 0 and 1; held constant.

    Returns:
      [...] nats, from 0 to the entropy of the share, ln 2 at most.

    Source: GKD (arXiv 2306.13649), equation 1, with its beta as `share`.
    """
    teacher = jax.lax.stop_gradient(jnp.asarray(teacher_log_probs))
    found: Array = _jensen_shannon(jnp.asarray(log_probs), teacher, jax.lax.stop_gradient(jnp.asarray(share)))
    return found


def teacher_divergence(log_probs: ArrayLike, teacher_log_probs: ArrayLike, interpolation: float = 0.5) -> Array:
    """From `forward_kl` at 0 over `jensen_shannon` to `reverse_kl` at 1.

    Args:
      log_probs: [..., choice] log P of the student, in nats.
      teacher_log_probs: [..., choice] log Q; held constant.
      interpolation: between 0 and 1; static. At the ends it is not the limit of what is between, which is 0 there.

    Returns:
      [...] nats.

    Source: SDPO (arXiv 2601.20802), released code; TRL's GKD trainer has the same ends.
    """
    if interpolation == 0:
        return forward_kl(log_probs, teacher_log_probs)
    if interpolation == 1:
        return reverse_kl(log_probs, teacher_log_probs)
    return jensen_shannon(log_probs, teacher_log_probs, interpolation)


@in_single_precision
def likeliest_buckets(
    log_probs: ArrayLike, teacher_log_probs: ArrayLike, count: int, tail: bool = True
) -> tuple[Array, Array]:
    """Student and teacher as those see them who tell apart the student's likeliest choices alone.

    A divergence of the two is not more than that of the whole distributions where all others are one bucket (`tail`); without
    it both are renormalised, and it may be more.

    Args:
      log_probs: [..., choice] log P of the student, in nats; the gradient flows through it, not through the choosing.
      teacher_log_probs: [..., choice] log Q; held constant.
      count: K, how many choices are told apart; all of fewer.
      tail: whether the others are one more bucket.

    Returns:
      (log P, log Q), [..., K + 1] each with a tail, [..., K] without.

    Source: SDPO (arXiv 2601.20802), released code; the logarithm of the mass of the K is held below -1e-7, as there.
    """
    student, teacher = jnp.asarray(log_probs), jax.lax.stop_gradient(jnp.asarray(teacher_log_probs))
    places = jax.lax.top_k(jax.lax.stop_gradient(student), min(count, student.shape[-1]))[1]
    student, teacher = (jnp.take_along_axis(each, places, axis=-1) for each in (student, teacher))
    return _closed(student, tail), _closed(teacher, tail)


@in_single_precision
def sampled_reverse_kl(log_prob: ArrayLike, teacher_log_prob: ArrayLike) -> Array:
    """A loss whose expected gradient, over tokens that the student draws, is that of KL(P || Q): `sg(log P - log Q) log P`.

    Args:
      log_prob: [...] log P of the token, in nats.
      teacher_log_prob: [...] log Q of the token; held constant.

    Returns:
      [...] a loss; its value is no divergence.

    Source: SDPO (arXiv 2601.20802), released code, for an interpolation of 1.
    """
    log_prob = jnp.asarray(log_prob)
    return jax.lax.stop_gradient(log_prob - jnp.asarray(teacher_log_prob)) * log_prob


@in_single_precision
def distillation_returns(
    log_prob: ArrayLike, teacher_log_prob: ArrayLike, mask: ArrayLike, normalize: bool = True
) -> Array:
    """How much likelier the teacher holds what follows each token: the sum of `log Q - log P` over all later tokens.

    The gradient of KL(P || Q) over whole responses is that of each token's own divergence, and beside it a policy gradient
    with minus this as the cost of each token.

    Args:
      log_prob: [..., T] log P of the tokens drawn, in nats.
      teacher_log_prob: [..., T] log Q of them.
      mask: [..., T] nonzero on the tokens of the response.
      normalize: take the mean over the later tokens, which keeps long responses from weighing more.

    Returns:
      [..., T] nats, constant; 0 at the last token and where masked.

    Source: MiniLLM (arXiv 2306.08543), section 2.2, R_{t+1} and its length normalisation.
    """
    there = jnp.asarray(mask) != 0
    gain = jnp.where(there, jnp.asarray(teacher_log_prob) - jnp.asarray(log_prob), 0.0)
    later = jnp.cumsum(gain[..., ::-1], axis=-1)[..., ::-1] - gain
    counts = jnp.cumsum(there[..., ::-1], axis=-1)[..., ::-1] - there
    later = later / jnp.maximum(counts, 1) if normalize else later
    return jax.lax.stop_gradient(jnp.where(there & (counts > 0), later, 0.0))


def truncated_weight(log_prob: ArrayLike, old_log_prob: ArrayLike, most: ArrayLike = 2.0) -> Array:
    """The importance weight of a token, held below a bound and constant: `sg(min(P / P_old, most))`.

    Args:
      log_prob: [...] log-probability of the token, in nats.
      old_log_prob: [...] the same under the policy that drew it.
      most: [] the bound.

    Returns:
      [...] weights; 1 on policy.

    Source: SDPO (arXiv 2601.20802), released code, with 2.
    """
    return jax.lax.stop_gradient(jnp.minimum(importance_ratio(log_prob, old_log_prob), most))


def _relative_entropy(log_first: Array, log_second: Array) -> Array:
    """KL(first || second), with 0 log 0 = 0, differentiable in both also where a probability is 0."""
    there = log_first > -math.inf
    first, second = jnp.where(there, log_first, 0.0), jnp.where(there, log_second, 0.0)
    return jnp.sum(jnp.where(there, jnp.exp(first) * (first - second), 0.0), axis=-1)


def _mixture(student: Array, teacher: Array, share: Array) -> Array:
    return jnp.logaddexp(jnp.log1p(-share) + student, jnp.log(share) + teacher)


@jax.custom_jvp
def _jensen_shannon(student: Array, teacher: Array, share: Array) -> Array:
    mixture = _mixture(student, teacher, share)
    of_student, of_teacher = _relative_entropy(student, mixture), _relative_entropy(teacher, mixture)
    return (1.0 - share) * of_student + share * of_teacher


@_jensen_shannon.defjvp
def _jensen_shannon_derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The closed form, which neither loses digits where the two agree, nor keeps what the mixture is made of."""
    student, teacher, share = primals
    there = student > -math.inf
    apart = jnp.where(there, student - _mixture(student, teacher, share), 0.0)
    pull = (1.0 - share) * jnp.where(there, jnp.exp(student) * apart, 0.0)
    return _jensen_shannon(student, teacher, share), jnp.sum(pull * tangents[0], axis=-1)


def _closed(log_probs: Array, tail: bool) -> Array:
    """[..., K] log-probabilities of some choices as a distribution: with what is left as one more, or renormalised."""
    mass = jax.nn.logsumexp(log_probs, axis=-1, keepdims=True)
    if not tail:
        return log_probs - mass
    left = jnp.log(-jnp.expm1(jnp.minimum(mass, _MOST_LOG_MASS)))
    return jnp.concatenate([log_probs, left], axis=-1)
