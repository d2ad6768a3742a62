"""ARES: the number of uncertain stretches in a response is rewarded by how hard its prompt is, and they are held less.

A stretch is a window of tokens whose mean entropy is above a threshold that follows the batch. Easy prompts should need few
of them, hard ones many; in them the divergence from the reference weighs less, and how much it weighs at all is controlled
for easy, medium and hard prompts apart.

Source: ARES: Multimodal Adaptive Reasoning via Difficulty-Aware Token-Level Entropy Shaping (arXiv 2510.08457), in the
paper's form (`ares`) and in that of the released code (`ares_released`), which differ in windows, threshold, reward and
control. The paper's reward compares with a target of its own batch, which is 0 always: here the target is that of the batch
before (our reading). Not confirmed, as the text has no values: how much windows are relaxed, the controllers' constants,
the reward's epsilon; the token bonus, of which two parts are not defined, is left out, and so is branching, which the code
does not do.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import MissingInputError
from maxent_rl.settings import Count, Finite, Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import DynamicSampling, GroupAdvantage, RewardStage, leave_out
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.regularisers import KLPenalty
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Statistic, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.tokens.vocabulary import likeliest, top_entropy
from maxent_rl.tokens.windows import window_means
from maxent_rl.types import PyTree

EASY, MEDIUM, HARD = range(3)
_WINDOW, _BUCKET = "ares_window", "ares_bucket"  # where `prepare` leaves what the steps read
_LIKELIEST, _TOP_ENTROPY = "ares_likeliest", "ares_entropy"
_KEPT = (0.01, 0.99)  # means of shaped rewards of groups that the released code keeps

# Of the released code, for easy, medium and hard prompts.
_MARGIN = np.array([0.15, 0.25, 0.35], np.float32)
_HUBER = np.array([2.0, 3.0, 4.0], np.float32)
_SIGMOID = np.array([2.0, 2.5, 3.0], np.float32)
_SCALE = np.array([1.0, 1.0, 1.2], np.float32)
_WRONG = np.array([0.6, 0.8, 1.0], np.float32)
_DIRECTION = np.array([1.0, 1.0, -1.0], np.float32)
_STRENGTH_STEP, _STRENGTH_MOST = 0.05, 2.0


@struct.dataclass
class AresCounts:
    """What is carried from batch to batch.

    Attributes:
      threshold: [] nats, of the released code.
      begun: [] bool: whether there is one.
      target: [3] the count of windows that prompts of each difficulty are compared with.
      known: [3] bool: whether there is one.
      strength: [3] of the reward, of the released code.
    """

    threshold: Array
    begun: Array
    target: Array
    known: Array
    strength: Array


@struct.dataclass
class AresReward(RewardStage):
    """Counts the windows of high entropy in each response, and rewards fewer on easy prompts and more on hard ones.

    A prompt is easy if at least two thirds of its responses are right, medium if at least a third are.
    """

    ares_reward: Literal["lagged", "huber", "none"] = static("lagged")
    """lagged: the paper's, which takes from wrong responses alone, by the counts of the batch before; huber: the released
    code's; none: rewards as they are, for the windows alone."""
    ares_right_above: Finite = 0.0
    """A response is right whose reward is larger than this; it is then rewarded with 1."""
    ares_window: Count = static(4)
    """Tokens in a window."""
    ares_threshold: Literal["tokens", "windows"] = static("tokens")
    """What must be exceeded: the mean over the batch of each response's quantile of token entropies; or the running median of
    its quantile of windows after a token, in the released code."""
    ares_quantile: Fraction = 0.95
    """That quantile."""
    ares_forgetting: Fraction = 0.01
    """How much of the running threshold each batch replaces."""
    ares_top: Count | None = static(None)
    """Entropies of so many likeliest tokens and one for all others, as the released code has them; None for exact ones."""
    reasoning_tokens: tuple[int, ...] | None = static(None)
    """Count only windows where the likeliest token is one of these; None for all windows (the code's list is of words)."""
    ares_epsilon: Positive = 1e-6
    """Added to the variance of the counts."""
    ares_filter: bool = static(False)
    """Leave out groups whose mean reward is not between 0.01 and 0.99 once it is shaped, as the released code does."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The entropies of the policy that drew the tokens."""
        return () if self.ares_top else ("entropy_old",)

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """Entropies of the likeliest tokens and what is likeliest, where these are asked for."""
        found: dict[str, Statistic] = {_TOP_ENTROPY: top_entropy(self.ares_top)} if self.ares_top else {}
        return found | ({_LIKELIEST: likeliest} if self.reasoning_tokens else {})

    def init(self, key: jax.Array) -> PyTree:
        """No threshold and no targets yet."""
        nothing = jnp.zeros(3)
        return AresCounts(jnp.zeros(()), jnp.zeros((), bool), nothing, nothing > 0, jnp.full(3, 0.5))

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Changes the rewards [N], and says where windows stand and how hard prompts are [N, T]."""
        groups = Grouping.of(batch)
        there = groups.valid & jnp.any(batch.mask, axis=-1)  # not what a stage before has left out
        window, state = self.windows(state, batch, there)
        count = jnp.sum(window, axis=-1).astype(jnp.float32)
        right = groups.valid & (batch.outcomes > self.ares_right_above)
        bucket = buckets(groups.total(right), groups.size, groups.valid)
        if self.ares_reward == "lagged":
            state, rewards = self.lagged(state, count, right, jnp.where(there, bucket, -1))
        elif self.ares_reward == "huber":
            state, rewards = self.huber(state, count, right, jnp.where(there, bucket, -1), groups)
        else:
            rewards = batch.outcomes
        statistics = batch.statistics | {
            _WINDOW: window.astype(jnp.float32),
            _BUCKET: jnp.broadcast_to(bucket[:, None], window.shape).astype(jnp.float32),
        }
        rewards = jnp.where(groups.valid, rewards, batch.outcomes)  # what has no reward gets none
        batch = dataclasses.replace(batch, rewards=rewards, token_rewards=None, statistics=statistics)
        if self.ares_filter:
            mean = groups.mean(jnp.where(groups.valid, rewards, 0.0))
            batch = leave_out(batch, groups.valid & ~((mean > _KEPT[0]) & (mean < _KEPT[1])))
        return state, batch

    def windows(self, state: AresCounts, batch: TokenBatch, valid: Array) -> tuple[Array, AresCounts]:
        """(where windows of high entropy begin [N, T] bool, state with the threshold of the next batch)."""
        after = self.ares_threshold == "windows"
        entropy = batch.statistics[_TOP_ENTROPY] if self.ares_top else batch.entropy_old
        assert entropy is not None
        means, whole = window_means(entropy, batch.mask, self.ares_window, after)
        of_rows = jax.vmap(losses.masked_quantile, (0, 0, None))
        if after:
            any_whole = jnp.any(whole, axis=-1)
            usual = jax.vmap(losses.masked_mean)(means, whole)[:, None]
            quantile = of_rows(jnp.where(whole, means, usual), batch.mask, self.ares_quantile)
            counted = valid & any_whole
            now = losses.masked_quantile(quantile, counted, 0.5)
            threshold = jnp.where(state.begun, state.threshold, now)
            moved = threshold + self.ares_forgetting * (now - threshold)
            some = jnp.any(counted)
            state = dataclasses.replace(
                state, threshold=jnp.where(some, moved, state.threshold), begun=state.begun | some
            )
        else:
            threshold = losses.masked_mean(of_rows(entropy, batch.mask, self.ares_quantile), valid)
        # A window of equal entropies has their value, but for rounding.
        high = whole & (means >= threshold - losses.rounding_of(threshold))
        if self.reasoning_tokens:
            high = high & jnp.isin(batch.statistics[_LIKELIEST], jnp.asarray(self.reasoning_tokens, jnp.float32))
        return high, state

    def lagged(self, state: AresCounts, count: Array, right: Array, bucket: Array) -> tuple[AresCounts, Array]:
        """The targets of the next batch, and the paper's reward [N], of counts [N]; rows of bucket -1 count nowhere."""
        member = bucket[:, None] == jnp.arange(3)
        rows = jnp.maximum(jnp.sum(member, axis=0), 1)
        mean = jnp.sum(jnp.where(member, count[:, None], 0.0), axis=0) / rows
        variance = jnp.sum(jnp.where(member, (count[:, None] - mean) ** 2, 0.0), axis=0) / rows
        weight = jnp.maximum((mean - state.target) / (variance + self.ares_epsilon), 0.0)
        # Of equal counts the variance is 0, and the weight would be of the order of 1 / epsilon.
        weight = jnp.where(state.known & (variance > 0), weight, 0.0)
        beyond = count - state.target[bucket]
        missed = jnp.where(bucket == EASY, jnp.maximum(beyond, 0.0), jnp.abs(beyond))
        missed = jnp.where(bucket == HARD, jnp.maximum(-beyond, 0.0), missed)
        rewards = jnp.where(right, 1.0, -weight[bucket] * missed)
        there = jnp.any(member, axis=0)
        target = jnp.where(there, mean, state.target)
        return dataclasses.replace(state, target=target, known=state.known | there), rewards

    def huber(
        self, state: AresCounts, count: Array, right: Array, bucket: Array, groups: Grouping
    ) -> tuple[AresCounts, Array]:
        """This batch's targets and strengths, and the released code's reward [N]; rows of bucket -1 count nowhere."""
        member = groups.first[:, None] & (bucket[:, None] == jnp.arange(3))  # a prompt each
        prompts = jnp.sum(member, axis=0)
        mean = jnp.sum(jnp.where(member, groups.mean(count)[:, None], 0.0), axis=0) / jnp.maximum(prompts, 1)
        target = jnp.where(prompts > 0, jnp.round(mean), state.target)
        moved = state.strength + _STRENGTH_STEP * _DIRECTION * (mean - target)
        strength = jnp.where(prompts > 0, jnp.clip(moved, 0.0, _STRENGTH_MOST), state.strength)
        state = dataclasses.replace(state, target=target, known=state.known | (prompts > 0), strength=strength)
        return state, shaped_reward(count, right, bucket, target[bucket], strength[bucket])


def buckets(right: Array, size: Array, valid: Array) -> Array:
    """How hard each row's prompt is: [N] int32, EASY, MEDIUM or HARD, MEDIUM where not valid.

    Args:
      right: [N] right responses of its group.
      size: [N] responses of its group.
      valid: [N] bool.
    """
    found = jnp.where(3 * right >= 2 * size, EASY, jnp.where(3 * right >= size, MEDIUM, HARD))
    return jnp.where(valid, found, MEDIUM)


def shaped_reward(count: Array, right: Array, bucket: Array, target: Array, strength: Array) -> Array:
    """The released code's reward: 1 for right responses, and what their windows add.

    Args:
      count: [...] windows.
      right: [...] bool.
      bucket: [...] int32, EASY, MEDIUM or HARD.
      target: [...] windows that are aimed at.
      strength: [...] of what is added.

    Returns:
      [...] within `strength * 1.2` of 1, or of 0 for wrong responses.

    Source: arXiv 2510.08457, released code (its score of the form is computed there and not added).
    """
    beyond = count - target
    margin = jnp.maximum(1.0, jnp.asarray(_MARGIN)[bucket] * jnp.maximum(target, 1.0))
    width, slope = jnp.asarray(_HUBER)[bucket], jnp.asarray(_SIGMOID)[bucket]
    cap = strength * jnp.asarray(_SCALE)[bucket]

    def penalty(distance: Array) -> Array:
        size = jnp.maximum(distance, 0.0)
        huber = jnp.where(size <= width, 0.5 * size**2 / width, size - 0.5 * width)
        return huber / (margin + width) * cap

    few = jnp.where(bucket == EASY, beyond, jnp.abs(beyond)) - margin
    enough = beyond >= -margin
    many = jnp.where(
        enough, jax.nn.sigmoid((beyond + margin) / slope) * cap, -jnp.minimum(cap, 0.5 * penalty(-beyond - margin))
    )
    of_right = jnp.where(bucket == HARD, many, -jnp.minimum(cap, penalty(few)))
    of_wrong = jax.nn.sigmoid(jnp.maximum(beyond - margin, 0.0) / slope) * cap * jnp.asarray(_WRONG)[bucket]
    return jnp.where(right, 1.0 + of_right, of_wrong)


@struct.dataclass
class AresControl:
    """What is carried from step to step, for easy, medium and hard prompts, [3] each.

    Attributes:
      weight: of the divergence.
      mean: its running mean, of the released code.
      known: bool: whether there is one.
      error: its running distance from the target.
      steps: [] int32 that there were.
    """

    weight: Array
    mean: Array
    known: Array
    error: Array
    steps: Array


@struct.dataclass
class AresKL(Shape):
    """Weighs the divergence from the reference by how hard prompts are, and less where windows of high entropy begin.

    It stands in a chain with `AresReward`, which finds these, and `KLPenalty`, whose weight it multiplies.
    """

    needs: ClassVar[tuple[str, ...]] = ("logp_ref",)
    ares_control: Literal["step", "average", "none"] = static("step")
    """How weights are controlled: at each step by the divergence of the tokens without windows (the paper's); or now and then
    by its running average (the released code's)."""
    ares_relaxation: Fraction = 0.5
    """The factor in windows; no value is published. 1 as in the released code for none."""
    ares_relaxed: Literal["start", "window"] = static("start")
    """Whether the first token of a window is relaxed, as printed, or all of it."""
    ares_kl_width: Count = static(4)
    """Tokens in a window, for the latter."""
    ares_kl_start: Positive = 0.01
    """The weight before the first step (1 in the released code, beside a fixed coefficient of 0.01)."""
    ares_kl_least: Positive = 1e-4
    """The least weight."""
    ares_kl_most: Positive = 1.0
    """The largest (100 in the released code)."""
    ares_kl_target: Positive = 0.01
    """The divergence that is aimed at, in nats per token."""
    ares_kl_rate: Weight = 0.1
    """How fast the paper's control moves; no value is published."""
    ares_kl_every: Count = static(100)
    """Steps between the moves of the released control."""

    def init(self, key: jax.Array) -> PyTree:
        """The weights that the control begins with."""
        nothing = jnp.zeros(3)
        start = jnp.full(3, jnp.asarray(self.ares_kl_start, jnp.float32))
        return AresControl(start, nothing, nothing > 0, nothing, jnp.zeros((), jnp.int32))

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Moves the weights by the divergence of the step, and finds that of each token [N, T]."""
        assert work.batch.logp_ref is not None
        if _BUCKET not in work.batch.statistics:
            raise MissingInputError("AresKL needs the windows and difficulties that AresReward finds: chain it before.")
        window, bucket = work.batch.statistics[_WINDOW] > 0, work.batch.statistics[_BUCKET]
        divergence = jax.lax.stop_gradient(losses.kl_estimate(work.outputs.logp, work.batch.logp_ref, "k3"))
        if self.ares_control != "none":
            mean, there = self.measured(divergence, work.mask, window, bucket)
            state = (
                self.stepped(state, mean, there) if self.ares_control == "step" else self.averaged(state, mean, there)
            )
        weight = state.weight[bucket.astype(jnp.int32)]
        relaxed = window if self.ares_relaxed == "start" else _spread(window, work.mask, self.ares_kl_width)
        work = work.measure(
            **{f"ares/kl_{name}": state.weight[index] for index, name in enumerate(("easy", "medium", "hard"))}
        )
        return state, work.replace(found=jnp.where(relaxed, weight * self.ares_relaxation, weight))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the weight of the divergence [N, T]."""
        weight = work.found
        assert weight is not None
        work = work.measure(**{"ares/windows": losses.masked_mean(work.batch.statistics[_WINDOW], work.mask)})
        return state, work.replace(kl_weight=weight if work.kl_weight is None else work.kl_weight * weight)

    def measured(self, divergence: Array, mask: Array, window: Array, bucket: Array) -> tuple[Array, Array]:
        """([3] the divergence of each difficulty, [3] whether there is any)."""
        if self.ares_control == "step":
            member = (mask & ~window)[..., None] & (bucket[..., None] == jnp.arange(3))
            count = jnp.sum(member, axis=(0, 1))
            total = jnp.sum(jnp.where(member, divergence[..., None], 0.0), axis=(0, 1))
        else:
            rows = jax.vmap(losses.masked_mean)(divergence, mask)
            # Of a masked token the statistic is 0: a row's largest is its own.
            member = jnp.any(mask, axis=-1)[:, None] & (jnp.max(bucket, axis=-1)[:, None] == jnp.arange(3))
            count, total = jnp.sum(member, axis=0), jnp.sum(jnp.where(member, rows[:, None], 0.0), axis=0)
        return total / jnp.maximum(count, 1), count > 0

    def stepped(self, state: AresControl, mean: Array, there: Array) -> AresControl:
        """The paper's control."""
        moved = state.weight * (1.0 + self.ares_kl_rate * (mean / self.ares_kl_target - 1.0))
        moved = jnp.clip(moved, self.ares_kl_least, self.ares_kl_most)
        return dataclasses.replace(state, weight=jnp.where(there, moved, state.weight), steps=state.steps + 1)

    def averaged(self, state: AresControl, mean: Array, there: Array) -> AresControl:
        """The released code's control."""
        followed = jnp.where(state.known, 0.97 * state.mean + 0.03 * mean, mean)
        average = jnp.where(there, followed, state.mean)
        known, steps = state.known | there, state.steps + 1
        distance = average / self.ares_kl_target - 1.0
        moves = there & (jnp.abs(distance) >= 0.02) & (steps % self.ares_kl_every == 0)
        error = jnp.where(moves, 0.03 * distance + 0.97 * state.error, state.error)
        factor = jnp.exp(0.05 * jnp.clip(error, -0.2, 0.2))
        weight = jnp.clip(state.weight * factor, self.ares_kl_least, self.ares_kl_most)
        return AresControl(jnp.where(moves, weight, state.weight), average, known, error, steps)


def _spread(window: Array, mask: Array, width: int) -> Array:
    """[N, T] bool: all tokens of the windows that begin where `window` [N, T] is."""
    place = jnp.cumsum(mask, axis=-1)
    last = jax.lax.cummax(jnp.where(window, place, -width), axis=1)
    return mask & (place - last < width)


_PAPER = "ARES: Difficulty-Aware Token-Level Entropy Shaping, arXiv 2510.08457"
PRESETS: dict[str, Preset] = {
    "ares": Preset(
        "windows of high entropy are rewarded by how hard prompts are, and held less to the reference",
        _PAPER,
        (
            DynamicSampling(),
            AresReward(),
            GroupAdvantage(),
            AresKL(),
            Clipped(clip_low=0.2, clip_high=0.3, dual_clip=3.0),
            KLPenalty(kl_weight=1.0),
            Aggregate("seq-mean-token-mean"),
        ),
    ),
    "ares_released": Preset(
        "ares with the released code's windows, running threshold, reward and control",
        _PAPER,
        (
            AresReward("huber", ares_threshold="windows", ares_top=10, ares_filter=True),
            GroupAdvantage(),
            AresKL("average", ares_relaxation=1.0, ares_kl_start=1.0, ares_kl_most=100.0),
            Clipped(clip_low=0.2, clip_high=0.3, dual_clip=3.0),
            KLPenalty(kl_weight=0.01),
            Aggregate(),
        ),
    ),
}
