"""From one value per token to one number: the five ways in which trainers of language models average or sum.

Source: verl's aggregation modes (https://github.com/volcengine/verl); TRL's loss types are noted where they differ.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.losses.precision import in_single_precision
from maxent_rl.losses.rounding import apart, without_rounding

Aggregation: TypeAlias = Literal[
    "token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
]


@in_single_precision
def masked_mean(values: ArrayLike, mask: ArrayLike) -> Array:
    """The mean of the valid values, 0 where there are none; what is masked may be NaN.

    Args:
      values: [...].
      mask: [...] where a value counts.

    Returns:
      [].
    """
    valid = jnp.asarray(mask, bool)
    return jnp.sum(jnp.where(valid, jnp.asarray(values), 0.0)) / jnp.maximum(jnp.sum(valid), 1)


@in_single_precision
def masked_deviation(values: ArrayLike, mask: ArrayLike) -> Array:
    """How far each valid value lies from their mean; exactly 0 where that is not more than rounding, as where all are equal.

    Args:
      values: [...].
      mask: [...] where a value counts.

    Returns:
      [...]; 0 where masked.
    """
    valid, values = jnp.asarray(mask, bool), jnp.asarray(values)
    below = jnp.where(valid, values - jnp.max(values, initial=-jnp.inf, where=valid), 0.0)
    deviation = below - masked_mean(below, valid)
    size = jnp.max(jnp.abs(values), initial=0.0, where=valid)
    return jnp.where(valid, without_rounding(deviation, size), 0.0)


@in_single_precision
def masked_quantile(values: ArrayLike, mask: ArrayLike, quantile: ArrayLike) -> Array:
    """The quantile of the valid values, linearly interpolated; 0 where there are none.

    Args:
      values: [...].
      mask: [...] where a value counts.
      quantile: [] between 0 and 1.

    Returns:
      [].
    """
    valid = jnp.asarray(mask, bool).ravel()
    ordered = jnp.sort(jnp.where(valid, jnp.ravel(jnp.asarray(values)), jnp.inf))
    last = jnp.maximum(jnp.sum(valid) - 1, 0)
    position = jnp.asarray(quantile) * last
    # A product that rounds to beside a whole number is that number: the quantile is one of the values, and not above it.
    whole = jnp.round(position)
    position = jnp.where(apart(position, whole), position, whole)
    low = jnp.floor(position).astype(jnp.int32)
    high = jnp.minimum(low + 1, last)
    below, above = (jnp.where(jnp.any(valid), ordered[index], 0.0) for index in (low, high))
    return below + (position - low) * (above - below)


@in_single_precision
def aggregate(
    values: ArrayLike,
    mask: ArrayLike,
    mode: Aggregation = "token-mean",
    *,
    count: ArrayLike | None = None,
    length: ArrayLike | None = None,
    rows: Literal["valid", "all"] = "valid",
    num_rows: ArrayLike | None = None,
    divide_rows: bool = False,
) -> Array:
    """Reduces per-token values to a loss.

    Args:
      values: [row, token]; masked ones may hold anything.
      mask: [row, token] where a token counts.
      mode: "token-mean": the sum over the number of tokens. "token-sum": the sum, divided by nothing. "seq-mean-token-mean":
        each row's mean, then the mean of the rows. "seq-mean-token-sum": each row's sum, then the mean of the rows.
        "seq-mean-token-sum-norm": the sum over a constant length.
      count: [] tokens to divide by under "token-mean" (of a whole batch that is learned from in slices); None for the mask's.
      length: [] the constant of "seq-mean-token-sum-norm"; None for the number of columns.
      rows: whether rows without a valid token count as rows ("all", as in TRL) or not ("valid", as in verl).
      num_rows: [] rows to divide by (of a whole batch that is learned from in slices); None for those here.
      divide_rows: divide "seq-mean-token-sum-norm" by the number of rows too: as TRL's `dr_grpo`, and as verl since its pull
        request 6157 of 2026; before, verl divided the sum by the length alone, which is what False says.

    Returns:
      [] 0 for an empty mask.

    Raises:
      ValueError: there is no such mode.
    """
    if mode not in get_args(Aggregation):
        raise ValueError(f"Unknown aggregation {mode!r}; there are {', '.join(get_args(Aggregation))}.")
    valid = jnp.asarray(mask, bool)
    kept = jnp.where(valid, jnp.asarray(values), 0.0)
    lengths = jnp.sum(valid, axis=-1)
    if num_rows is None:
        num_rows = jnp.sum(lengths > 0) if rows == "valid" else valid.shape[0]
    num_rows = jnp.maximum(jnp.asarray(num_rows), 1)
    if mode == "token-mean":
        return jnp.sum(kept) / jnp.maximum(jnp.sum(valid) if count is None else jnp.asarray(count), 1)
    if mode == "token-sum":
        return jnp.sum(kept)
    if mode == "seq-mean-token-sum-norm":
        total = jnp.sum(kept) / (valid.shape[-1] if length is None else jnp.asarray(length))
        return total / num_rows if divide_rows else total
    sums = jnp.sum(kept, axis=-1)
    return jnp.sum(sums / jnp.maximum(lengths, 1) if mode == "seq-mean-token-mean" else sums) / num_rows
