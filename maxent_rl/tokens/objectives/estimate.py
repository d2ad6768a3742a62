"""The entropy that controllers look at: that of the steps since the last batch was prepared.

Source: DCPO (arXiv 2601.12730) and AEPO (arXiv 2510.08141), step "entropy estimate for the next rollout" of the released code.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.tokens.objectives.pipeline import missing_input
from maxent_rl.tokens.objectives.stage import Work

Source: TypeAlias = Literal["sampled", "vocabulary"]


@struct.dataclass
class EntropyEstimate:
    """The mean entropy over the optimiser steps since the last `restart`, each weighing the same.

    Attributes:
      before: [] nats, what it was at the last `restart`; 0 at the start.
      total: [] sum over the steps since, in nats.
      steps: [] how many there were; a part of a step counts by its share of the rows.
    """

    before: Array
    total: Array
    steps: Array

    @classmethod
    def create(cls) -> EntropyEstimate:
        """The estimate before any step: 0, so that the first batch is answered with more entropy."""
        return cls(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

    @property
    def value(self) -> Array:
        """[] nats, with all steps so far."""
        any_step = self.steps > 0
        return jnp.where(any_step, self.total / jnp.where(any_step, self.steps, 1.0), self.before)

    def restart(self) -> EntropyEstimate:
        """Holds the value and counts steps anew."""
        return EntropyEstimate(self.value, jnp.zeros(()), jnp.zeros(()))

    def add(self, work: Work, mask: Array, counted_as: str, source: Source, title: str) -> EntropyEstimate:
        """Counts a step, or a part of one.

        Args:
          work: of the step.
          mask: [N, T] the tokens that count; a step without any is passed over.
          counted_as: the name of their count in the whole step.
          source: "sampled" for `-log pi` of the tokens (the paper's), "vocabulary" for the entropy, which has less noise.
          title: of the stage, for the error.

        Raises:
          MissingInputError: "vocabulary" without the entropy.
        """
        if source == "vocabulary" and work.outputs.entropy is None:
            raise missing_input(title, "entropy")
        values = -work.outputs.logp if source == "sampled" else work.outputs.entropy
        assert values is not None
        count = work.batch.count(counted_as, jnp.sum(mask))
        added = jnp.sum(jnp.where(mask, jax.lax.stop_gradient(values), 0.0)) / jnp.maximum(count, 1)
        return EntropyEstimate(self.before, self.total + added, self.steps + work.batch.share * (count > 0))
