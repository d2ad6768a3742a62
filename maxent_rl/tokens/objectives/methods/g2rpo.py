"""G2RPO: rewards become quantiles of a normal distribution by their ranks, so that tasks of any scale weigh the same.

Beside it, for each task, a reward for a length within bounds and a loss where the mean entropy leaves a band.

Source: OpenVLThinkerV2: A Generalist Multimodal Reasoning Model for Multi-domain Visual Tasks (arXiv 2604.08539). Not
confirmed, as the text has no values: all thresholds, the weights of both terms, the clip width and the group size; whether
a mean or a sum over tasks is taken; the released code was not available. The text has the entropy of a task as the mean of
`-log p` of the sampled tokens, whose expected gradient is 0 at the first step on a batch (`band_from="sampled"`); the
default here is the entropy itself. (Neither G2RPO-A nor G^2RPO has to do with it.)
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Weight, static
from maxent_rl.tokens.batch import TokenBatch, drawn_lengths
from maxent_rl.tokens.objectives.advantages import AdvantageStage, DynamicSampling, RewardStage
from maxent_rl.tokens.objectives.aggregates import Aggregate, of_part
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.pipeline import missing_input
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class GaussianAdvantage(AdvantageStage):
    """The normal quantile of each reward's rank, equal rewards sharing the mean of theirs (`gaussian_ranks`)."""

    ranked_over: Literal["group", "task"] = static("group")
    """Rank the responses to one prompt, as the paper's derivation has it, or all of a task in the batch, as its text may be
    read."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tasks, if these are ranked over."""
        return ("task",) if self.ranked_over == "task" else ()

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]."""
        if self.ranked_over == "task":
            assert batch.task is not None
            groups = Grouping.by(batch, batch.task)
        else:
            groups = Grouping.of(batch)
        rewards = jnp.where(groups.valid, batch.outcomes, 0.0)
        return state, dataclasses.replace(batch, advantages=gaussian_ranks(rewards, groups))


def gaussian_ranks(rewards: Array, groups: Grouping) -> Array:
    """The normal quantile at (rank - 1/2) / size of each reward in its group.

    Equal rewards share the mean of their quantiles, so that those of a group sum to 0, and none is beyond the quantile at
    1 - 1 / (2 size), whatever the reward is.

    Args:
      rewards: [N].
      groups: who is ranked with whom.

    Returns:
      [N]; exactly 0 in groups of equal rewards, and where not valid.

    Source: arXiv 2604.08539, equations 5 to 8.
    """
    size = jnp.maximum(groups.size, 1)
    place = groups.place(rewards) + 0.5
    # From the nearer end: the quantiles of a group are then opposite in pairs, to the bit.
    quantile = jax.scipy.special.ndtri(jnp.minimum(place, size - place) / size)
    quantile = jnp.where(2 * place == size, 0.0, jnp.where(2 * place < size, quantile, -quantile))
    quantile = jnp.where(groups.valid, quantile, 0.0)
    alike = jnp.maximum(groups.among_equals(jnp.ones(rewards.shape), rewards), 1)
    shared = groups.among_equals(quantile, rewards) / alike
    return jnp.where(alike == size, 0.0, shared)


@struct.dataclass
class TaskLengthReward(RewardStage):
    """Adds to the reward for a length that suits the task: 0 outside two bounds, 1 between two others, lines between.

    Off without bounds, for which the paper has no values.
    """

    length_bounds: tuple[tuple[float, float, float, float], ...] | None = static(None)
    """In tokens, for each task by its number: least, where the plateau begins, where it ends, most."""
    length_weight: Weight = 0.1
    """What a length on the plateau is worth; no value is published."""

    @property
    def active(self) -> bool:
        """Whether there are bounds."""
        return self.length_bounds is not None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tasks."""
        return ("task",)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Raises the rewards [N]."""
        assert batch.task is not None and self.length_bounds is not None
        bounds = jnp.asarray(self.length_bounds, jnp.float32)[batch.task]
        added = self.length_weight * length_reward(drawn_lengths(batch), bounds)
        return state, dataclasses.replace(batch, rewards=jnp.asarray(batch.rewards, jnp.float32) + added)


def length_reward(length: Array, bounds: Array) -> Array:
    """A trapezium: [...] from 0 to 1, of lengths [...] in tokens and bounds [..., 4]; arXiv 2604.08539, equation 9."""
    least, low, high, most = jnp.moveaxis(bounds, -1, 0)
    rising = (length - least) / jnp.where(low > least, low - least, 1.0)
    falling = (most - length) / jnp.where(most > high, most - high, 1.0)
    found = jnp.where(length < low, rising, jnp.where(length > high, falling, 1.0))
    return jnp.where((length < least) | (length > most), 0.0, found)


@struct.dataclass
class TaskEntropyBand(Regulariser):
    """Adds how far the mean entropy of each task is outside a band, averaged over the tasks of the step."""

    needs: ClassVar[tuple[str, ...]] = ("task",)
    band_weight: Weight = 0.1
    """Weight of the term; no value is published."""
    band_low: Weight = 0.05
    """The least mean entropy, in nats per token; no value is published: set both around that of the policy before
    learning."""
    band_high: Weight = 2.0
    """The largest."""
    band_from: Literal["full", "sampled"] = static("full")
    """The entropy over the vocabulary; or `-log p` of the sampled tokens, the text's, which has no gradient on average where
    the policy that learns is the one that drew them."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tasks, and the entropy, if that counts."""
        return ("task", "entropy") if self.band_from == "full" else ("task",)

    def __post_init__(self) -> None:
        """Refuses a band that ends before it begins, where its bounds are numbers."""
        low: Any = self.band_low
        high: Any = self.band_high
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            raise InvalidSettingError(f"--band-low {low:g} must not be above --band-high {high:g}.")

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the weight of each token's entropy [N, T]: above 0 in a task above the band, below 0 in one below it."""
        task, mask = work.batch.task, work.mask
        assert task is not None
        entropy = jax.lax.stop_gradient(self.entropy(work))
        rows = task.shape[0]
        _, member = jnp.unique(task, return_inverse=True, size=rows)
        count = jax.ops.segment_sum(jnp.sum(mask, axis=-1), member, rows)
        mean = jax.ops.segment_sum(jnp.sum(jnp.where(mask, entropy, 0.0), axis=-1), member, rows) / jnp.maximum(
            count, 1
        )
        sign = jnp.where(mean > self.band_high, 1.0, jnp.where(mean < self.band_low, -1.0, 0.0))
        weight = sign / jnp.maximum(count, 1) / jnp.maximum(jnp.sum(count > 0), 1)
        work = work.measure(**{"band/outside": losses.masked_mean(sign != 0, count > 0)})
        return state, work.replace(found=jnp.where(mask, weight[member][:, None], 0.0))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds the term, to which each token gives its share."""
        weight = work.found
        assert weight is not None
        bound = jnp.where(weight > 0, self.band_high, self.band_low)
        term = jnp.sum(jnp.where(work.mask, weight * (self.entropy(work) - bound), 0.0))
        return state, work.replace(extra=work.extra + self.band_weight * of_part(term, work.batch))

    def entropy(self, work: Work) -> Array:
        """[N, T] nats, what the band is about."""
        if self.band_from == "sampled":
            return -work.outputs.logp
        if work.outputs.entropy is None:
            raise missing_input(self.title, "entropy")
        return work.outputs.entropy


PRESETS: dict[str, Preset] = {
    "g2rpo": Preset(
        "rewards become normal quantiles by their ranks; the mean entropy of each task is kept in a band",
        "OpenVLThinkerV2: A Generalist Multimodal Reasoning Model, arXiv 2604.08539",
        (
            DynamicSampling(),
            TaskLengthReward(),
            GaussianAdvantage(),
            Clipped(),
            TaskEntropyBand(),
            Aggregate("seq-mean-token-mean"),
        ),
    ),
}
