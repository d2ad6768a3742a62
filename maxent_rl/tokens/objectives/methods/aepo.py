"""AEPO: hold the entropy at a target by REINFORCE on right answers drawn at another temperature.

While the entropy is not above its target, further responses to some prompts are drawn hotter, otherwise colder; right ones
among them are learned from with advantage 1. They are scored at the temperature of the batch, without correction: the
distribution that they come from is the control.

Source: Arbitrary Entropy Policy Optimization (arXiv 2510.08141), in the form of the released code: they replace rows of the
batch. The paper adds the term with a coefficient alpha, whose value could not be confirmed; `side_mode="add"` does that with
`side_responses / N`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.settings import Finite, Interval, NonNegative, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch, columns, responses, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage, relative_rewards
from maxent_rl.tokens.objectives.aggregates import Aggregate, of_part
from maxent_rl.tokens.objectives.estimate import EntropyEstimate, Source
from maxent_rl.tokens.objectives.regularisers import Regulariser
from maxent_rl.tokens.objectives.stage import Preset, Sampling, Side, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

Share: TypeAlias = Annotated[float, Interval(0, 1, low_open=True)]


@struct.dataclass
class AEPOState:
    """Its estimate of the entropy, the random key [] of the shuffle, and the term's `weight` [] in the last batch."""

    estimate: EntropyEstimate
    key: Array
    weight: Array


@struct.dataclass
class AEPO(Regulariser):
    """Puts right responses from another temperature among the batch's, or adds a term of theirs to the loss.

    `prepare` moves rows: a trainer must call it before the policy scores the batch. What it keeps in `TokenBatch.context`
    moves along; what it holds elsewhere it brings into the same order by `TokenBatch.source`.
    """

    target_entropy: Weight = 0.5
    """The entropy to hold, in nats per token (the paper's best: 0.75)."""
    hot_temperature: Positive = 1.2
    """Temperature of the further responses while the entropy is not above its target."""
    cold_temperature: Positive = 0.8
    """And while it is."""
    side_responses: NonNegative = static(60)
    """The most of them that are learned from; half as many while the entropy is above its target; 0 for none."""
    side_share: Share = static(0.25)
    """For which share of the prompts they are drawn, at least for one."""
    side_mode: Literal["replace", "add"] = static("replace")
    """replace: they take the place of the batch's first responses; add: a term of their own beside the whole batch."""
    side_select: Literal["advantage", "reward"] = static("advantage")
    """Which are right: by advantage in their group, so that wholly solved groups have none, or by reward."""
    side_above: Finite = 0.05
    """Right is an advantage, or a reward, larger than this."""
    side_weight: Weight | None = None
    """add: weight of the term, half of it while the entropy is above its target; None for side_responses over the rows."""
    side_loss: Literal["reinforce", "surrogate"] = static("reinforce")
    """add: minus the mean log-probability of each response, or the mean of the surrogate with advantage 1."""
    side_shuffle: bool = static(False)
    """Shuffle the rows, so that not all of them fall in the first (add: last) minibatch."""
    estimate_from: Source = static("sampled")
    """Estimate the entropy from the sampled tokens, or from the whole vocabulary (less noise)."""
    estimate_rows: Literal["all", "main"] = static("all")
    """Of all rows as in the released code, or without the further responses, which shift it towards their temperature."""

    def init(self, key: Array) -> PyTree:
        """An entropy of 0: the first further responses are drawn hot."""
        return AEPOState(EntropyEstimate.create(), key, jnp.zeros(()))

    def sampling(self, state: PyTree) -> Sampling:
        """Further responses at the temperature that moves the entropy towards its target."""
        if not self.side_responses:
            return Sampling()
        hotter = state.estimate.value <= self.target_entropy
        return Sampling(Side(self.side_share, jnp.where(hotter, self.hot_temperature, self.cold_temperature)))

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Takes rows of `batch.side` into the batch and sets their advantages to 1."""
        estimate = state.estimate.restart()
        if not self.side_responses:
            return dataclasses.replace(state, estimate=estimate), batch
        side = _checked(batch)
        index, count = self.choose(side, estimate.value)
        rows, added = len(batch.mask), jnp.arange(len(index)) < count
        of_side = index - len(side.mask)  # counted from the end of both together
        came = responses(batch)
        if self.side_mode == "replace":
            place = jnp.cumsum(came) - 1  # among the responses: rows that hold none are not the first of them
            taken = came & (place < count)
            order = jnp.where(taken, of_side[jnp.clip(place, 0, len(index) - 1)], jnp.arange(rows))
            valid = jnp.ones(rows, bool)
        else:
            order = jnp.concatenate([jnp.arange(rows), of_side])
            valid = jnp.concatenate([jnp.ones(rows, bool), added])
        key, now = jax.random.split(state.key)
        if self.side_shuffle:
            shuffled = jax.random.permutation(now, len(order))
            order, valid = order[shuffled], valid[shuffled]
        num_responses = jnp.maximum(jnp.sum(came), 1)
        weight = jnp.asarray(self.side_responses / num_responses if self.side_weight is None else self.side_weight)
        weight = jnp.where(estimate.value <= self.target_entropy, weight, 0.5 * weight)
        return AEPOState(estimate, key, weight), _reordered(batch, side, order, valid)

    def choose(self, side: TokenBatch, entropy: Array) -> tuple[Array, Array]:
        """Which of the further responses are learned from.

        Args:
          side: S responses in whole groups.
          entropy: [] nats.

        Returns:
          (rows [min(S, side_responses)] int32 of the right ones in order, then others; how many of these count []).
        """
        scores = side.outcomes
        if self.side_select == "advantage":
            scores = relative_rewards(side, "group")
        right = side.scored & (scores > self.side_above)
        most = min(self.side_responses, len(right))
        count = jnp.minimum(most, jnp.sum(right))
        count = jnp.where(entropy <= self.target_entropy, count, count // 2)
        return jnp.argsort(~right, stable=True)[:most], count

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """The tokens of the estimate; in the mode add, the further responses, which stand beside the average over the rest."""
        lengths = jnp.sum(batch.mask, axis=-1)
        of_side = jnp.zeros(lengths.shape, bool) if batch.source is None else batch.source < 0
        counted = lengths if self.estimate_rows == "all" else jnp.where(of_side, 0, lengths)
        if self.side_mode == "add":
            counts = {name: jnp.where(of_side, 0, values) for name, values in counts.items()}
            counts["side"] = (of_side & (lengths > 0)).astype(jnp.int32)
        return counts | {"aepo": counted}

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds the step to the estimate of the entropy, and the term to the loss in the mode add."""
        source, mask = work.batch.source, work.mask
        of_side = mask & (jnp.zeros(len(mask), bool) if source is None else source < 0)[:, None]
        counted = mask if self.estimate_rows == "all" else mask & ~of_side
        estimate = state.estimate.add(work, counted, "aepo", self.estimate_from, self.title)
        measured = {
            "entropy/estimate": estimate.before,
            "side/share": losses.masked_mean(jnp.any(of_side, axis=-1), jnp.any(mask, axis=-1)),
        }
        work = work.measure(**measured)
        if self.side_mode == "add":
            values = -work.outputs.logp if self.side_loss == "reinforce" else work.loss
            rows = work.batch.count("side", jnp.sum(jnp.any(of_side, axis=-1)))
            term = losses.aggregate(values, of_side, "seq-mean-token-mean", num_rows=rows)
            term = state.weight * of_part(term, work.batch)
            work = work.replace(extra=work.extra + term, mask=mask & ~of_side)
        return dataclasses.replace(state, estimate=estimate), work


def _checked(batch: TokenBatch) -> TokenBatch:
    """The further responses, if they are there and fit the batch."""
    if batch.side is None:
        raise MissingInputError(
            "AEPO needs side: draw responses to the first `objective.sampling(state).side.share` of the prompts, at the "
            "temperature `objective.sampling(state).side.temperature`, as many to each and as long as in the batch, take "
            "their log-probabilities at the temperature of the batch, and pass TokenBatch(side=TokenBatch(logp_old, mask, "
            "rewards, group_size))."
        )
    if batch.side.mask.shape[1] != batch.mask.shape[1] or len(batch.side.mask) > len(batch.mask):
        raise ShapeError(
            f"side must have {batch.mask.shape[1]} columns, as the batch, and not more than its {len(batch.mask)} rows; "
            f"got {batch.side.mask.shape}."
        )
    return batch.side


def _reordered(batch: TokenBatch, side: TokenBatch, order: Array, valid: Array) -> TokenBatch:
    """Rows `order` of the batch and its side responses together; of the latter, those that are not `valid` are masked."""
    batch, side = _alike(batch, side)

    def together(main: Array, others: Array) -> Array:
        return jnp.concatenate([jnp.asarray(main), jnp.asarray(others)])[order]

    fields: dict[str, Any] = {}
    for name in columns(batch):
        main, others = getattr(batch, name), getattr(side, name)
        if main is not None and others is None:
            raise MissingInputError(
                f"side must have all that the batch has: pass TokenBatch(side=TokenBatch({name}=...))."
            )
        if main is not None:
            fields[name] = jax.tree.map(together, main, others)
    mask = fields["mask"] & valid[:, None]
    fields |= {"mask": mask, "advantages": jnp.where(mask, fields["advantages"], 0.0)}
    return dataclasses.replace(batch, **fields, side=None)


def _alike(batch: TokenBatch, side: TokenBatch) -> tuple[TokenBatch, TokenBatch]:
    """Both with the columns that a row has whether or not it was given them, and without those that only one can have."""
    rows = len(batch.mask)
    known = {name: value for name, value in batch.statistics.items() if name in side.statistics}
    token_rewards = side.token_rewards
    if batch.token_rewards is not None and token_rewards is None:
        token_rewards = jnp.zeros(side.mask.shape)
    batch = dataclasses.replace(
        batch,
        advantages=token_advantages(batch),
        statistics=known,
        source=jnp.arange(rows) if batch.source is None else batch.source,
        logits_old=None,
        group_index=None,  # advantages are there, and groups have been read
    )
    side = dataclasses.replace(
        side,
        advantages=jnp.ones(side.mask.shape),
        token_rewards=token_rewards,
        statistics={name: side.statistics[name] for name in known},
        source=jnp.arange(-len(side.mask), 0),
    )
    return batch, side


PRESETS: dict[str, Preset] = {
    "aepo_arbitrary": Preset(
        "entropy held at a target by right answers drawn at another temperature",
        "Arbitrary Entropy Policy Optimization, arXiv 2510.08141",
        (GroupAdvantage(), Clipped(dual_clip=3.0), AEPO(), Aggregate()),
    ),
}
