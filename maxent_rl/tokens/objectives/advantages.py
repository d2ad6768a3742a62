"""Stages from rewards to advantages, and stages before them that change rewards or leave out responses.

Source: see `losses.groups`; DAPO (arXiv 2503.14476) for dynamic sampling, overlong shaping and filtering.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.losses.divergence import KLEstimator
from maxent_rl.settings import Count, Finite, Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.stage import Slot, Stage, Work
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import PyTree


class RewardStage(Stage):
    """A stage that changes rewards, or leaves out responses, before there are advantages."""

    slot: ClassVar[Slot] = "reward"


class AdvantageStage(Stage):
    """A stage that turns the rewards of a batch into advantages."""

    slot: ClassVar[Slot] = "advantage"


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
        found = relative_rewards(batch, self.scale, self.group_epsilon, self.leave_one_out)
        return state, dataclasses.replace(batch, advantages=found)


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
            returns = jnp.broadcast_to(relative_rewards(batch)[:, None], batch.mask.shape)
        else:
            returns = returns_to_go(batch, self.return_discount)
        scored = batch.mask & batch.scored[:, None]
        return state, dataclasses.replace(batch, advantages=losses.whiten(returns, scored))


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
        return state, less_divergence(batch, self.kl_reward_weight, self.kl_reward_estimator)


@struct.dataclass
class AdaptiveKLReward(RewardStage):
    """The same with a weight that grows while the divergence is above a target and falls while below.

    A batch is paid with the weight so far, and moves it for the next one (`losses.proportional_weight`). The weight is the
    state of the stage, so that it is saved with it.

    Source: Fine-Tuning Language Models from Human Preferences (arXiv 1909.08593), section 2.2; verl's `kl_ctrl`.
    """

    needs: ClassVar[tuple[str, ...]] = ("logp_ref",)
    adaptive_kl_reward_target: Positive = 0.1
    """The divergence to hold, in nats per token: the mean over responses of their mean."""
    adaptive_kl_reward_weight: Positive = 0.001
    """The weight of the first batch, in reward per nat."""
    adaptive_kl_reward_horizon: Positive = 10_000.0
    """Responses in which the weight changes by a fifth, if it is pushed as far as can be."""
    adaptive_kl_reward_estimator: KLEstimator = static("k1")
    """Which estimator, of what is subtracted and of what the weight is moved by."""

    def init(self, key: Array) -> PyTree:
        """The first weight."""
        return jnp.asarray(self.adaptive_kl_reward_weight, jnp.float32)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Lowers the tokens' rewards [N, T], and moves the weight."""
        paid = less_divergence(batch, state, self.adaptive_kl_reward_estimator)
        measured, count = drawn_divergence(batch, self.adaptive_kl_reward_estimator)
        target, horizon = self.adaptive_kl_reward_target, self.adaptive_kl_reward_horizon
        return losses.proportional_weight(state, measured, target, count, horizon), paid

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Measures the weight of the next batch."""
        return state, work.measure(**{"reference/kl_reward_weight": state})


@struct.dataclass
class OverlongPenalty(RewardStage):
    """Lowers the reward of responses near the length limit: by 0 up to `limit - margin`, then linearly to 1 at the limit.

    Without a limit there is no penalty: the columns of a batch are none, as they often follow its longest response.
    """

    overlong_limit: Count | None = static(None)
    """The length limit of sampling in tokens; None for no penalty."""
    overlong_margin: Count | None = static(None)
    """Tokens before the limit at which the penalty begins, not more than it has; None for a fifth of it."""
    overlong_weight: Weight = 1.0
    """The penalty at the limit, in units of reward."""

    def __post_init__(self) -> None:
        """Refuses a margin that begins before the first token; what is no number is `check_settings`' to refuse."""
        margin: Any = self.overlong_margin
        limit: Any = self.overlong_limit or 0
        if isinstance(margin, (int, float)) and isinstance(limit, (int, float)) and margin > limit:
            raise InvalidSettingError(
                f"--overlong-margin {self.overlong_margin} counts tokens before --overlong-limit, the length limit of "
                f"sampling, and cannot be more: got the limit {self.overlong_limit}."
            )

    @property
    def active(self) -> bool:
        """Whether there is a limit."""
        return self.overlong_limit is not None

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Lowers the rewards [N]."""
        assert self.overlong_limit is not None
        limit = self.overlong_limit
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

    Rewards that are not finite count in no group; a group of one response, which is compared with nothing, is kept (as verl's
    recipe does). A trainer that can sample more calls `informative_groups` and fills the batch before the objective sees it.
    """

    drop_uniform_groups: bool = static(True)
    """Mask groups of equal rewards."""

    @property
    def active(self) -> bool:
        """Whether it is switched on."""
        return self.drop_uniform_groups

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Masks their rows."""
        rewards, scored = batch.outcomes, batch.scored
        if batch.group_index is None:
            rewards, scored = (whole_groups(values, batch.group_size) for values in (rewards, scored))
        keep = losses.differing_groups(rewards, scored, batch.group_index).ravel()
        return state, leave_out(batch, ~keep)


def less_divergence(batch: TokenBatch, weight: ArrayLike, estimator: KLEstimator) -> TokenBatch:
    """The batch whose tokens pay for the divergence of the policy that drew them from the reference."""
    assert batch.logp_ref is not None
    divergence = losses.kl_estimate(batch.logp_old, batch.logp_ref, estimator)
    before = jnp.zeros(batch.mask.shape) if batch.token_rewards is None else batch.token_rewards
    return dataclasses.replace(batch, token_rewards=before - weight * divergence)


def drawn_divergence(batch: TokenBatch, estimator: KLEstimator) -> tuple[Array, Array]:
    """How far the policy that drew a batch is from the reference, in nats per token, and by how many responses that is known.

    The mean over responses of the mean over their tokens: ([], []).
    """
    assert batch.logp_ref is not None
    there = jnp.any(batch.mask, axis=-1)
    divergence = losses.kl_estimate(batch.logp_old, batch.logp_ref, estimator)
    return losses.masked_mean(jax.vmap(losses.masked_mean)(divergence, batch.mask), there), jnp.sum(there)


def informative_groups(rewards: Array, group_size: int) -> Array:
    """Which groups have rewards that differ (`losses.differing_groups`): [N] rewards to [N / group_size] bool.

    Raises:
      ShapeError: the rewards are not whole groups.

    Source: dynamic sampling of DAPO (arXiv 2503.14476).
    """
    groups = whole_groups(jnp.asarray(rewards, jnp.float32), group_size)
    return losses.differing_groups(groups, jnp.isfinite(groups))[:, 0]


def relative_rewards(
    batch: TokenBatch, scale: str = "none", epsilon: ArrayLike = 1e-6, leave_one_out: bool = False
) -> Array:
    """[N] how much better each response was than its group (`losses.group_advantages`), 0 where it could not be scored."""
    rewards, scored = batch.outcomes, batch.scored
    if batch.group_index is not None:
        return losses.group_advantages(rewards, scale, epsilon, leave_one_out, scored, batch.group_index)
    rewards, scored = (whole_groups(values, batch.group_size) for values in (rewards, scored))
    return losses.group_advantages(rewards, scale, epsilon, leave_one_out, scored).reshape(-1)


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


def token_rewards(batch: TokenBatch) -> Array:
    """What each token was paid, [N, T]: its own reward, and on the last token of each response the outcome.

    0 in responses that could not be scored.
    """
    mask = batch.mask
    later = jnp.cumsum(mask[:, ::-1], axis=-1)[:, ::-1] - mask
    last = mask & (later == 0)
    rewards = jnp.where(last, jnp.asarray(batch.rewards, jnp.float32)[:, None], 0.0)
    if batch.token_rewards is not None:
        rewards = rewards + jnp.where(mask, batch.token_rewards, 0.0)
    return jnp.where(batch.scored[:, None], rewards, 0.0)


def turn_rewards(batch: TokenBatch, turns: Turns) -> Array:
    """What each turn was paid, [N, K]: what it earned, the rewards of its tokens, and the last one what else the outcome has.

    0 in responses that could not be scored.
    """
    assert batch.turn_rewards is not None
    earned = turns.at_first(batch.turn_rewards)
    besides = jnp.asarray(batch.rewards, jnp.float32) - jnp.sum(earned, axis=-1)
    paid = earned + jnp.where(turns.last, besides[:, None], 0.0)
    if batch.token_rewards is not None:
        paid = paid + turns.total(jnp.asarray(batch.token_rewards))
    return jnp.where(turns.there & batch.scored[:, None], paid, 0.0)


def returns_to_go(batch: TokenBatch, discount: Finite) -> Array:
    """The sum of the rewards from each token on, [N, T]; 0 in responses that could not be scored."""
    return losses.response_advantages(token_rewards(batch), jnp.zeros(batch.mask.shape), batch.mask, discount, 1.0)
