"""Rewards of several parts, of which a later one counts only where those before it are right.

Source: after CRAFT-GUI (arXiv 2508.11360), of which nothing beyond the abstract could be confirmed: the parts, the gates and
the weights are a proposed form.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision


@in_single_precision
def gated_reward(
    form: ArrayLike, kind: ArrayLike, parameter: ArrayLike, weights: tuple[ArrayLike, ...] = (0.1, 0.3, 0.6)
) -> Array:
    """What an action earns: `w_f form + w_k form kind + w_p form kind parameter`.

    Args:
      form: [...] from 0 to 1: whether it can be read as one action.
      kind: [...] from 0 to 1: whether that is an action of the right kind; matters only where the form is not 0.
      parameter: [...] from 0 to 1: how right its parameters are; matters only where form and kind are not 0.
      weights: w_f, w_k, w_p, each [...]; their sum is what an action earns that is right in all.

    Returns:
      [...] from 0 to the sum of the weights.
    """
    of_form, of_kind, of_parameter = weights
    form = jnp.asarray(form)
    # What lies behind a closed gate may be anything, NaN included.
    kind = form * jnp.where(form == 0, 0.0, kind)
    parameter = kind * jnp.where(kind == 0, 0.0, parameter)
    return jnp.asarray(of_form) * form + jnp.asarray(of_kind) * kind + jnp.asarray(of_parameter) * parameter


@in_single_precision
def judged_reward(form: ArrayLike, judgement: ArrayLike, form_weight: ArrayLike = 0.1) -> Array:
    """What an answer earns that a judge looks at: `w_f form + (1 - w_f) form judgement`.

    Args:
      form: [...] from 0 to 1: whether it can be read as one answer.
      judgement: [...] from 0 to 1: what the judge says; matters only where the form is not 0.
      form_weight: w_f, [...].

    Returns:
      [...] from 0 to 1.
    """
    return gated_reward(form, judgement, 0.0, (form_weight, 1.0 - jnp.asarray(form_weight), 0.0))


def token_f1(tokens: ArrayLike, reference: ArrayLike, mask: ArrayLike, reference_mask: ArrayLike) -> Array:
    """How many tokens two texts share, in whatever order: the harmonic mean of precision and recall.

    Args:
      tokens: [..., T] whole numbers.
      reference: [..., S] whole numbers.
      mask: [..., T] the tokens of the first text.
      reference_mask: [..., S] those of the second.

    Returns:
      [...] from 0 to 1, without gradient; a token that both have several times is shared as often as the text has it that
      has it less often. 1 for two texts without tokens.
    """
    tokens, reference = jnp.asarray(tokens), jnp.asarray(reference)
    mask, reference_mask = jnp.asarray(mask, bool), jnp.asarray(reference_mask, bool)
    same = (tokens[..., :, None] == tokens[..., None, :]) & mask[..., None, :]
    earlier = jnp.tril(jnp.ones((tokens.shape[-1],) * 2, bool), -1)
    before = jnp.sum(same & earlier, axis=-1)
    there = jnp.sum((tokens[..., :, None] == reference[..., None, :]) & reference_mask[..., None, :], axis=-1)
    shared = jnp.sum(mask & (before < there), axis=-1)
    lengths = jnp.sum(mask, axis=-1) + jnp.sum(reference_mask, axis=-1)
    return jnp.where(lengths == 0, 1.0, 2.0 * shared / jnp.maximum(lengths, 1))
