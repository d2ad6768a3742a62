"""EMPO: without labels; a response is rewarded with the share of its group that gives the same answer.

That lowers the entropy over meanings: it moves a policy towards the answer that it gives most often, right or wrong.
Prompts about whose answer it is not at all unsure, or entirely, are left aside.

Source: Right Question is Already Half the Answer: Fully Unsupervised LLM Reasoning Incentivization (arXiv 2504.05812), in
the paper's form (`empo`) and in that of the earlier released code for mathematics (`empo_released`). The paper's two
thresholds have no published values; the defaults leave aside only what has no advantage anyway. In the later released code
they are not active.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.errors import ShapeError
from maxent_rl.settings import Fraction, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import GroupAdvantage, RewardStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.stage import Preset, Sampling
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

_WITHIN = 1e-6  # of the largest entropy, which single precision does not reach exactly


@struct.dataclass
class AgreementReward(RewardStage):
    """Takes the place of all rewards: how many of its group agree with a response.

    The batch's own rewards count only where they are not finite: such a response is no part of its group. Answers are
    `TokenBatch.answers`; where a test of equality is not transitive, `cluster_answers` makes them. An unread one, below 0,
    agrees with nobody.
    """

    needs: ClassVar[tuple[str, ...]] = ("answers",)
    agreement: Literal["prob", "logprob", "voting", "format"] = static("prob")
    """prob: the share p of its answer, the paper's. logprob: log p, for which the expected reward is minus the entropy.
    voting: 1 for the most frequent answer, and for all that are as frequent. format: 1 where an answer was read."""
    semantic_low: Weight = 1e-6
    """Prompts whose entropy over answers is not above this have no reward, in nats."""
    semantic_high: Weight | None = None
    """Nor have those whose entropy is not below this; None for the logarithm of the group's size, all answers different."""
    least_agreement: Fraction = 0.0
    """Nor those whose most frequent answer has a smaller share."""
    unread_reward: Literal["own", "zero"] = static("own")
    """Whether an unread answer is rewarded as one that nobody shares, or with 0."""

    def sampling(self, state: PyTree) -> Sampling:
        """Groups within the band teach, unless all answers are equally frequent."""
        return Sampling(teaches=self.teaches)

    def teaches(self, batch: TokenBatch) -> Array:
        """[N] bool: rows of groups that have rewards, and not all the same."""
        groups = Grouping.of(batch)
        return self.kept(batch, groups) & (groups.deviation(self.rewards(batch, groups)) > 0)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the rewards [N]."""
        groups = Grouping.of(batch)
        found = jnp.where(self.kept(batch, groups), self.rewards(batch, groups), 0.0)
        rewards = jnp.where(groups.valid, found, batch.outcomes)  # what could not be scored is not now
        return state, dataclasses.replace(batch, rewards=rewards, token_rewards=None)

    def rewards(self, batch: TokenBatch, groups: Grouping) -> Array:
        """[N] of responses in groups that are kept."""
        answers, share = _shares(batch, groups)
        found = {
            "prob": share,
            "logprob": jnp.log(jnp.where(share > 0, share, 1.0)),
            "voting": (share >= groups.largest(share)).astype(jnp.float32),
            "format": (answers >= 0).astype(jnp.float32),
        }[self.agreement]
        return jnp.where(answers < 0, 0.0, found) if self.unread_reward == "zero" else found

    def kept(self, batch: TokenBatch, groups: Grouping) -> Array:
        """[N] bool: rows of prompts within the thresholds."""
        _, share = _shares(batch, groups)
        entropy = semantic_entropy(share, groups)
        most = (
            jnp.log(jnp.maximum(groups.size, 1)) * (1.0 - _WITHIN) if self.semantic_high is None else self.semantic_high
        )
        sure = groups.largest(share) >= self.least_agreement
        return groups.valid & (entropy > self.semantic_low) & (entropy < most) & sure


def _shares(batch: TokenBatch, groups: Grouping) -> tuple[Array, Array]:
    """(answers [N], the share [N] of the group that gives the same)."""
    assert batch.answers is not None
    return batch.answers, groups.agreeing(batch.answers, batch.answers < 0) / jnp.maximum(groups.size, 1)


def semantic_entropy(share: Array, groups: Grouping) -> Array:
    """The entropy over the answers of each row's group, in nats, of the share [N] of each answer; 0 where not valid."""
    return jnp.maximum(-groups.mean(jnp.log(jnp.where(share > 0, share, 1.0))), 0.0)


def cluster_answers(equal: ArrayLike, read: ArrayLike | None = None) -> np.ndarray:
    """Groups answers by a test of equality that need not be transitive, in order.

    Each answer joins the first cluster whose first member it equals, or begins one of its own; so the order counts where a
    equals b and b equals c but a not c.

    Args:
      equal: [group, G, G] bool: whether the first of two answers, in the order of the responses, equals the second.
      read: [group, G] bool: where there is an answer; None for everywhere.

    Returns:
      [group, G] int32 for `TokenBatch.answers`, flattened: clusters from 0 in each group, -1 where there is no answer.

    Raises:
      ShapeError: the shapes do not fit.

    Source: arXiv 2504.05812, released code.
    """
    same = np.asarray(equal, bool)
    there = np.ones(same.shape[:2], bool) if read is None else np.asarray(read, bool)
    if same.ndim != 3 or same.shape[1] != same.shape[2] or there.shape != same.shape[:2]:
        raise ShapeError(
            f"equal must have shape (groups, G, G), and read (groups, G); got {same.shape} and {there.shape}."
        )
    found = np.full(there.shape, -1, np.int32)
    for group in range(len(same)):
        representatives: list[int] = []
        for row in np.flatnonzero(there[group]):
            joined = [cluster for cluster, first in enumerate(representatives) if same[group, first, row]]
            found[group, row] = joined[0] if joined else len(representatives)
            representatives += [] if joined else [int(row)]
    return found


_PAPER = "Right Question is Already Half the Answer, arXiv 2504.05812"
PRESETS: dict[str, Preset] = {
    "empo": Preset(
        "without labels: responses are rewarded with the share of their group that gives the same answer",
        _PAPER,
        (
            AgreementReward(),
            GroupAdvantage(),
            Clipped(clip_low=3e-4, clip_high=4e-4, sequence_ratio=True),
            Aggregate("seq-mean-token-mean"),
        ),
    ),
    "empo_released": Preset(
        "empo as in the earlier released code: no lower threshold, nothing for unread answers, ratios by token (TRL's grpo)",
        _PAPER,
        (
            AgreementReward(semantic_low=0.0, unread_reward="zero"),
            GroupAdvantage(group_epsilon=1e-4),
            Clipped(),
            Aggregate("seq-mean-token-mean", count_rows="all"),
        ),
    ),
}
