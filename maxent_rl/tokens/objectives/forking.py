"""The stage that has conversations continued twice where the model was unsure, in place of all from their beginning.

Source: Agentic Entropy-Balanced Policy Optimization (arXiv 2510.14545); see `maxent_rl.tokens.branching`.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from flax import struct

from maxent_rl.settings import Finite, Fraction, Weight, static
from maxent_rl.tokens.branching import Branching
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Sampling, Work
from maxent_rl.types import PyTree


@struct.dataclass
class Forking(Shape):
    """Some of a group's conversations begin at the prompt, the others are continued from these; it asks that of the rollout.

    Where a task does not reply there is nothing to be continued, and it changes nothing.
    """

    fork_conversations: bool = static(True)
    """Whether any are."""
    fork_root_share: Fraction = 0.5
    """The share of a group's conversations that begin at the prompt, at least one."""
    fork_sensitivity: Weight | None = None
    """In place of it, how much the share follows from the entropies of one more conversation with each prompt, which is
    tried first and teaches nothing (0.5 in the released code); None for fork_root_share."""
    fork_entropy_slope: Finite = 0.2
    """How much likelier a fork is for each unit of entropy above the first turn's."""
    fork_round_penalty: Fraction = 0.05
    """How much less likely with each round in a row in which a prompt has forked; 0 for none."""
    fork_shared: Literal["each", "once"] = static("each")
    """each: a token that several conversations share counts in each of them; once: with the mean of their advantages, each
    of k copies by 1 / k. The loss is divided by all tokens either way."""

    @property
    def active(self) -> bool:
        """Whether it asks for anything."""
        return self.fork_conversations

    @property
    def inputs(self) -> tuple[str, ...]:
        """How many conversations share a token, if that matters."""
        return ("copies",) if self.fork_shared == "once" else ()

    def sampling(self, state: PyTree) -> Sampling:
        """That conversations branch."""
        branching = Branching(
            self.fork_root_share, self.fork_sensitivity, self.fork_entropy_slope, self.fork_round_penalty
        )
        return Sampling(branching=branching)

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the weight [N, T] of shared tokens."""
        if self.fork_shared == "each":
            return state, work
        assert work.batch.copies is not None
        share = 1.0 / jnp.maximum(work.batch.copies, 1)
        return state, work.replace(weight=share if work.weight is None else work.weight * share)
