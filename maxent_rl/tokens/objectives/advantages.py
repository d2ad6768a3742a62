"""Stages from rewards to advantages, and stages before them that change rewards or leave out responses.

Source: see `losses.groups`; DAPO (arXiv 2503.14476) for dynamic sampling, overlong shaping and filtering.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import ShapeError
from maxent_rl.losses.divergence import KLEstimator
from maxent_rl.settings import Count, Finite, Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.pipeline import Slot, Stage
from maxent_rl.types import PyTree


class RewardStage(Stage):
    """A stage that changes rewards, or leaves out responses, before there are advantages."""

    slot: ClassVar[Slot] = "reward"


class AdvantageStage(Stage):
    """A stage that turns the rewards of a batch into advantages."""

    slot: ClassVar[Slot] = "advantage"


@struct.dataclass
class Baseline(AdvantageStage):
    """Rewards less a baseline (REINFORCE): the batch's mean, or a fixed number."""

    baseline: Finite | None = None
    """What is subtracted from every reward; None for the mean of the batch."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        rewards = batch.outcomes
        if self.baseline is not None:
            return state, dataclasses.replace(batch, advantages=rewards - self.baseline)
        advantages = losses.masked_deviation(rewards, jnp.ones(rewards.shape, bool))  # 0 where only rounding differs
        return state, dataclasses.replace(batch, advantages=advantages)


@struct.dataclass
class GroupAdvantage(AdvantageStage):
    """Each reward against those of the responses to the same prompt (`losses.group_advantages`)."""

    scale: Literal["group", "batch", "none"] = static("group")
    """Divide by the standard deviation of the group, of the batch, or by nothing."""
    group_epsilon: Positive = 1e-6
    """Added to the standard deviation: 1e-6 as in verl, 1e-4 as in TRL."""
    leave_one_out: bool = static(False)
    """Compare with the mean of the other responses (RLOO)."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        found = losses.group_advantages(by_group(batch), self.scale, self.group_epsilon, self.leave_one_out)
        return state, dataclasses.replace(batch, advantages=found.reshape(-1))


@struct.dataclass
class NonzeroScale(AdvantageStage):
    """Rewards less their group's mean, scaled up by the share of responses without reward (GPG).

    Source: GPG (arXiv 2504.02546), in the form of the sheet: `N / max(number of nonzero rewards, 1)`.
    """

    gpg_normalizer: Positive = 1.0
    """What the advantages are divided by."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        rewards = by_group(batch)
        factor = rewards.size / jnp.maximum(jnp.sum(rewards != 0), 1) / self.gpg_normalizer
        found = factor * losses.group_advantages(rewards, "none")
        return state, dataclasses.replace(batch, advantages=found.reshape(-1))


@struct.dataclass
class WhitenedReturns(AdvantageStage):
    """Sums of later rewards at each token, whitened over all tokens of the batch (REINFORCE++).

    Source: REINFORCE++ (arXiv 2501.03262).
    """

    return_discount: Fraction = 1.0
    """Factor by token."""
    group_baseline: bool = static(False)
    """Subtract the mean reward of the group first (REINFORCE++-baseline)."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N, T]."""
        if self.group_baseline:
            centred = losses.group_advantages(by_group(batch), "none").reshape(-1)
            returns = jnp.broadcast_to(centred[:, None], batch.mask.shape)
        else:
            returns = returns_to_go(batch, self.return_discount)
        return state, dataclasses.replace(batch, advantages=losses.whiten(returns, batch.mask))


@struct.dataclass
class KLReward(RewardStage):
    """Subtracts the divergence from the reference policy from the rewards of single tokens (as PPO for language models)."""

    needs: ClassVar[tuple[str, ...]] = ("logp_ref",)
    kl_reward_weight: Weight = 0.05
    """Weight of the divergence, in reward per nat."""
    kl_reward_estimator: KLEstimator = static("k1")
    """Which estimator of the divergence."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Lowers the tokens' rewards [N, T]."""
        assert batch.logp_ref is not None
        divergence = losses.kl_estimate(batch.logp_old, batch.logp_ref, self.kl_reward_estimator)
        before = jnp.zeros(batch.mask.shape) if batch.token_rewards is None else batch.token_rewards
        return state, dataclasses.replace(batch, token_rewards=before - self.kl_reward_weight * divergence)


@struct.dataclass
class OverlongPenalty(RewardStage):
    """Lowers the reward of responses near the length limit: by 0 up to `limit - margin`, then linearly to 1 at the limit."""

    overlong_limit: Count | None = static(None)
    """The length limit in tokens; None for the columns of the batch: set it where those follow the longest response."""
    overlong_margin: Count | None = static(None)
    """Tokens before the limit at which the penalty begins; None for a fifth of the limit."""
    overlong_weight: Weight = 1.0
    """The penalty at the limit, in units of reward."""

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Lowers the rewards [N]."""
        limit = self.overlong_limit or batch.mask.shape[-1]
        margin = self.overlong_margin or max(limit // 5, 1)
        over = (jnp.sum(batch.mask, axis=-1) - (limit - margin)) / margin
        penalty = self.overlong_weight * jnp.clip(over, 0.0, 1.0)
        return state, dataclasses.replace(batch, rewards=jnp.asarray(batch.rewards, jnp.float32) - penalty)


@struct.dataclass
class OverlongFilter(RewardStage):
    """Masks responses that were cut at the length limit; their rewards still count in their group."""

    needs: ClassVar[tuple[str, ...]] = ("truncated",)
    mask_truncated: bool = static(True)
    """Leave such responses out of the loss."""

    @property
    def active(self) -> bool:
        """Whether it is switched on."""
        return self.mask_truncated

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks their rows."""
        return state, leave_out(batch, jnp.asarray(batch.truncated, bool))


@struct.dataclass
class DynamicSampling(RewardStage):
    """Leaves out groups of equal rewards, which teach nothing, so that they do not dilute the average over tokens.

    A trainer that can sample more calls `informative_groups` and fills the batch before the objective sees it.
    """

    drop_uniform_groups: bool = static(True)
    """Mask groups of equal rewards."""

    @property
    def active(self) -> bool:
        """Whether it is switched on."""
        return self.drop_uniform_groups

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks their rows."""
        keep = jnp.repeat(informative_groups(batch.outcomes, batch.group_size), batch.group_size)
        return state, leave_out(batch, ~keep)


def informative_groups(rewards: Array, group_size: int) -> Array:
    """Which groups have rewards that differ, by more than rounding: [N] rewards to [N / group_size] bool.

    Raises:
      ShapeError: the rewards are not whole groups.

    Source: dynamic sampling of DAPO (arXiv 2503.14476).
    """
    groups = whole_groups(jnp.asarray(rewards), group_size)
    return jnp.any(losses.apart(groups, groups[:, :1]), axis=-1)


def by_group(batch: TokenBatch) -> Array:
    """The whole rewards of a batch as [group, response]."""
    return whole_groups(batch.outcomes, batch.group_size)


def whole_groups(values: Array, group_size: int) -> Array:
    """[N] as [group, response].

    Raises:
      ShapeError: there are not whole groups.
    """
    if group_size < 1 or values.shape[0] % group_size:
        raise ShapeError(f"{values.shape[0]} responses are not whole groups of {group_size}.")
    return values.reshape(-1, group_size)


def leave_out(batch: TokenBatch, rows: Array) -> TokenBatch:
    """The batch with the `rows` [N] masked; what their tokens were rewarded with stays in their outcomes."""
    rewards = jnp.where(rows, batch.outcomes, jnp.asarray(batch.rewards, jnp.float32))
    return dataclasses.replace(batch, mask=batch.mask & ~rows[:, None], rewards=rewards)


def returns_to_go(batch: TokenBatch, discount: Finite) -> Array:
    """The sum of the rewards from each token on, [N, T]; the outcome stands on the last token of each response."""
    mask = batch.mask
    later = jnp.cumsum(mask[:, ::-1], axis=-1)[:, ::-1] - mask
    last = mask & (later == 0)
    rewards = jnp.where(last, jnp.asarray(batch.rewards, jnp.float32)[:, None], 0.0)
    if batch.token_rewards is not None:
        rewards = rewards + jnp.where(mask, batch.token_rewards, 0.0)

    def step(carry: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, valid = now
        found = jnp.where(valid, reward + discount * carry, carry)  # masked tokens are passed over
        return found, found

    _, returns = jax.lax.scan(step, jnp.zeros(mask.shape[0]), (rewards.T, mask.T), reverse=True)
    return jnp.where(mask, returns.T, 0.0)
