"""Weighted sums of losses on pairs, and the likelihood of the chosen responses, which is most often one of them."""

from __future__ import annotations

from typing import ClassVar, cast

import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import static
from maxent_rl.tokens.batch import TokenOutputs
from maxent_rl.tokens.preferences.batch import Average, Pairs, PreferenceAux, PreferenceBatch
from maxent_rl.tokens.preferences.losses import PairLoss, PreferenceLoss


@struct.dataclass
class Likelihood(PairLoss):
    """Minus the log-likelihood of the chosen responses (TRL's sft)."""

    reference: ClassVar[bool] = False
    likelihood_average: Average = static("response")
    """The mean over the tokens of each response; batch: over all chosen tokens of the batch (TRL's); none: the sum."""

    def of_pairs(self, pairs: Pairs) -> Array:
        """The loss [B]."""
        return -pairs.likelihood(self.likelihood_average)

    def rewards(self, pairs: Pairs) -> Array:
        """Log-probabilities per token [B, 2]."""
        return pairs.mean_log_prob


@struct.dataclass
class Mixture(PreferenceLoss):
    """A weighted sum of losses on pairs, as of MPO; rewards and what counts are those of the first that needs the reference.

    Attributes:
      parts: the losses.
      weights: [part] of each.
    """

    parts: tuple[PairLoss, ...]
    weights: tuple[ArrayLike, ...]

    @property
    def title(self) -> str:
        """Its name in messages."""
        return "Mixture of " + ", ".join(part.title for part in self.parts)

    @property
    def whole_batch(self) -> bool:
        """Whether any part does."""
        return any(part.whole_batch for part in self.parts)

    def __call__(
        self, outputs: ArrayLike | TokenOutputs, batch: PreferenceBatch, mismatched_logp: ArrayLike | None = None
    ) -> tuple[Array, PreferenceAux]:
        """The loss of each pair: see `preference_loss`."""
        found = [part(outputs, batch) for part in self.parts]
        leading = next((aux for part, (_, aux) in zip(self.parts, found, strict=True) if part.reference), found[0][1])
        total = sum(jnp.asarray(weight) * loss for weight, (loss, _) in zip(self.weights, found, strict=True))
        loss = jnp.where(leading.counts, total, 0.0)
        metrics = leading.metrics | {"preference/loss": losses.masked_mean(loss, leading.counts)}
        return loss, PreferenceAux(metrics, leading.counts, leading.rewards)


def mixture(*parts: tuple[PreferenceLoss, ArrayLike]) -> Mixture:
    """A weighted sum of losses: `mixture((make("dpo"), 1.0), (make("likelihood"), 0.5))`.

    Args:
      *parts: each loss, from `make`, with its weight.

    Raises:
      InvalidSettingError: nothing to sum, or a loss that is not on pairs.
    """
    if not parts:
        raise InvalidSettingError("A mixture needs at least one loss.")
    for part, _ in parts:
        if not isinstance(part, PairLoss):
            title = type(part).__name__
            raise InvalidSettingError(f"A mixture is of losses on pairs, as make gives them, and {title} is none.")
    return Mixture(tuple(cast(PairLoss, part) for part, _ in parts), tuple(weight for _, weight in parts))
