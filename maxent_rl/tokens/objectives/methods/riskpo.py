"""RiskPO: questions are bundled, and bundles answered badly weigh more than those answered well.

One response to each of several questions makes a paper; its score is the sum of their rewards. What is raised is not the mean
score but a risk measure: the lower tail counts more, what is above an upper quantile not at all.

Source: RiskPO: Risk-based Policy Optimization via Verifiable Reward for LLM Post-Training (arXiv 2510.00911): the paper's
form (`riskpo`) and that of the released code (`riskpo_released`, with the credit of its script for hard problems). That
code forgets its quantiles at each batch, so that what it says it tracks are quantiles of each bundle
(`risk_quantiles="bundle"`); here tracking is true tracking. Not confirmed: whether the paper centres its advantages, which
are never above 0.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.settings import Count, Fraction, Weight, static
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.objectives.advantages import AdvantageStage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.stage import Preset, Sampling
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

_EPSILON, _LEAST_SPREAD, _LEAST_SUM = 1e-6, 1e-3, 1e-6


@struct.dataclass
class RiskState:
    """The tracked quantiles [2], lower and upper; whether there are any, bool []; the key that bundles are drawn with."""

    quantiles: Array
    begun: Array
    key: Array


class Papers(NamedTuple):
    """Who answers which paper.

    Attributes:
      paper: [N] int32 from 0 to N - 1, equal for the responses of a paper; N for those that are in none.
      bundle: [N] int32, equal for the responses of a bundle; N for those that are in none.
      questions: [N] how many questions a row's bundle has.
    """

    paper: Array
    bundle: Array
    questions: Array


@struct.dataclass
class RiskAdvantage(AdvantageStage):
    """The slope of a risk measure in the score of each response's paper."""

    risk_low: Fraction = 0.2
    """alpha: scores below this quantile are the lower tail."""
    risk_high: Fraction = 0.8
    """beta: scores above this quantile do not count."""
    tail_weight: Weight = 0.5
    """omega of the paper's form: how much more the lower tail counts."""
    bundle_size: Count = static(5)
    """Questions of a bundle; the last one has what is left."""
    bundle_order: Literal["drawn", "given"] = static("drawn")
    """Bundle questions and pair responses at random, or as they stand."""
    risk_form: Literal["paper", "mixed", "seeking"] = static("paper")
    """The paper's; the released code's, in which the tail has a weight of its own; or its control, which prefers the upper
    tail."""
    mix_weight: Weight = 1.5
    """Weight of the tail in the forms mixed and seeking."""
    natural_baseline: bool = static(False)
    """In those, count down from the upper quantile and not up from the lower one."""
    risk_scale: Literal["none", "bundle"] = static("none")
    """Divide by the deviation of the scores of a bundle."""
    risk_credit: Literal["uniform", "score", "std", "sum-mean"] = static("uniform")
    """How a paper's advantage is divided among its responses: alike; half for right ones and one and a half for wrong ones;
    by the deviation of the question's rewards; or by each reward's distance from its question's mean."""
    risk_quantiles: Literal["tracked", "batch", "bundle", "mixed"] = static("tracked")
    """Quantiles that follow slowly, those of all papers of the batch, those of each bundle, or the mean of the first and
    last."""
    quantile_rate: Weight = 0.1
    """How fast tracked quantiles follow."""
    risk_centre: bool = static(False)
    """Subtract the mean over the responses of the batch."""

    def init(self, key: Array) -> PyTree:
        """No quantiles yet."""
        return RiskState(jnp.zeros(2), jnp.zeros((), bool), key)

    def sampling(self, state: PyTree) -> Sampling:
        """All groups teach: a wrong one makes its papers worse."""
        return Sampling(teaches=lambda batch: batch.scored)

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N]; they use the quantiles from before this batch, if there are any."""
        groups = Grouping.of(batch)
        key, now = jax.random.split(state.key)
        papers = self.papers(groups, now)
        rewards = jnp.where(groups.valid, batch.outcomes, 0.0)
        rows = rewards.shape[0]
        scores = jax.ops.segment_sum(rewards, papers.paper, rows + 1)[:rows]
        is_paper = jax.ops.segment_sum(jnp.ones(rows), papers.paper, rows + 1)[:rows] > 0
        levels = jnp.stack([jnp.asarray(level, jnp.float32) for level in (self.risk_low, self.risk_high)])
        sampled = jax.vmap(losses.masked_quantile, (None, None, 0))(scores, is_paper, levels)
        before = jnp.where(state.begun, state.quantiles, sampled)
        score = jnp.append(scores, 0.0)[papers.paper]
        low, high = self.quantiles(papers, score, before, sampled, levels)
        advantages = self.advantages(score, low, high)
        if self.risk_scale == "bundle":
            advantages = advantages / self._spread(papers, score)
        advantages = self.credited(advantages, rewards, groups, papers)
        inside = papers.paper < rows
        if self.risk_centre:
            advantages = advantages - losses.masked_mean(advantages, inside)
        state = self.tracked(state, before, scores, is_paper, levels)
        state = dataclasses.replace(state, key=key)
        return state, dataclasses.replace(batch, advantages=jnp.where(inside, advantages, 0.0))

    def papers(self, groups: Grouping, key: Array) -> Papers:
        """Bundles questions, and gives one response of each to every paper; responses that are left over are in none."""
        rows = groups.valid.shape[0]
        question_key, response_key = jax.random.split(key)
        if self.bundle_order == "drawn":
            of_question = _drawn(question_key, groups.group)
            of_response = _drawn(response_key, groups.response)
        else:
            of_question, of_response = groups.group.astype(jnp.float32), groups.response.astype(jnp.float32)
        # The rank of a question among all: of one response of each.
        order = jnp.lexsort((groups.group, of_question, ~groups.first))
        rank = jnp.zeros(rows, jnp.int32).at[order].set(jnp.arange(rows, dtype=jnp.int32))
        rank = groups.total(jnp.where(groups.first, rank, 0)).astype(jnp.int32)
        bundle = jnp.where(groups.valid, rank // self.bundle_size, rows)
        place, size = groups.place(of_response), groups.size
        number = jax.ops.segment_min(jnp.where(groups.valid, size, jnp.inf), bundle, rows + 1)[:rows]
        number = jnp.where(jnp.isfinite(number), number, 0).astype(jnp.int32)
        begin = jnp.append(jnp.cumsum(number) - number, 0)
        inside = groups.valid & (place < jnp.append(number, 0)[bundle])
        questions = jax.ops.segment_sum(groups.first.astype(jnp.float32), bundle, rows + 1)[bundle]
        return Papers(jnp.where(inside, begin[bundle] + place, rows), jnp.where(inside, bundle, rows), questions)

    def quantiles(
        self, papers: Papers, score: Array, before: Array, sampled: Array, levels: Array
    ) -> tuple[Array, Array]:
        """The lower and the upper quantile that each row is held against, [N] or [] each."""
        if self.risk_quantiles == "tracked":
            return before[0], before[1]
        if self.risk_quantiles == "batch":
            return sampled[0], sampled[1]
        own = bundle_quantiles(score, papers, levels)
        if self.risk_quantiles == "mixed":
            own = (own + before[:, None]) / 2.0
        return own[0], own[1]

    def advantages(self, score: Array, low: ArrayLike, high: ArrayLike) -> Array:
        """[...] of scores [...] and the quantiles that they are held against."""
        tail, between = jnp.maximum(low - score, 0.0), jnp.clip(score, low, high) - high
        if self.risk_form == "paper":
            return between - (1.0 + self.tail_weight) * tail
        between = between if self.natural_baseline else between - (low - jnp.asarray(high))
        between = between / (self.risk_high - self.risk_low + _EPSILON)
        if self.risk_form == "mixed":
            tail = -tail / (self.risk_low + _EPSILON)
        else:
            tail = jnp.maximum(score - high, 0.0) / (1.0 - self.risk_high + _EPSILON)
        return (self.mix_weight * tail + between) / (self.mix_weight + 1.0)

    def credited(self, advantages: Array, rewards: Array, groups: Grouping, papers: Papers) -> Array:
        """The advantage of each response [N], of those of their papers [N]."""
        if self.risk_credit == "score":
            return advantages * jnp.where(rewards > 0, 0.5, 1.5)
        if self.risk_credit == "std":
            spread = groups.deviation(rewards)
            return advantages / (jnp.where(spread > _LEAST_SPREAD, spread, 1.0) + _EPSILON)
        if self.risk_credit == "sum-mean":
            distance = rewards - groups.mean(rewards)
            total = jax.ops.segment_sum(distance, papers.paper, rewards.shape[0] + 1)[papers.paper]
            divides = jnp.abs(total) > _LEAST_SUM
            share = distance / jnp.where(divides, total, 1.0)
            return advantages * jnp.where(divides, share, 1.0 / jnp.maximum(papers.questions, 1))
        return advantages

    def tracked(self, state: RiskState, before: Array, scores: Array, is_paper: Array, levels: Array) -> RiskState:
        """The state with quantiles that have followed the scores of this batch; the first ones are those of the batch."""
        below = jnp.stack([losses.masked_mean(scores < quantile, is_paper) for quantile in before])
        moved = jnp.where(state.begun, before + self.quantile_rate * (levels - below), before)
        some = jnp.any(is_paper)
        quantiles = jnp.where(some, moved, state.quantiles)
        return dataclasses.replace(state, quantiles=quantiles, begun=state.begun | some)

    def _spread(self, papers: Papers, score: Array) -> Array:
        """[N] the deviation of the scores of a row's bundle, 1 where there is none to speak of."""
        rows = score.shape[0]
        inside = papers.paper < rows
        weight = jnp.where(
            inside, 1.0 / jnp.maximum(papers.questions, 1), 0.0
        )  # each paper has a row for each question

        def total(values: Array) -> Array:
            return jax.ops.segment_sum(jnp.where(inside, weight * values, 0.0), papers.bundle, rows + 1)[papers.bundle]

        number = total(jnp.ones(rows))
        distance = score - total(score) / jnp.maximum(number, 1)
        spread = jnp.sqrt(total(distance**2) / jnp.maximum(number - 1, 1))
        return jnp.where((number > 1.5) & (spread >= _LEAST_SPREAD), spread, 1.0) + _EPSILON


def bundle_quantiles(score: Array, papers: Papers, levels: Array) -> Array:
    """The quantiles of the scores of each row's bundle, linearly interpolated: scores [N], levels [2] to [2, N]."""
    rows = score.shape[0]
    # Papers have a row for each question; one of these stands for it.
    first = jax.ops.segment_min(jnp.arange(rows), papers.paper, rows + 1)[papers.paper] == jnp.arange(rows)
    stands = first & (papers.paper < rows)
    bundle = jnp.where(stands, papers.bundle, rows)
    order = jnp.lexsort((score, bundle))
    ordered, position = score[order], jnp.zeros(rows, jnp.int32).at[order].set(jnp.arange(rows, dtype=jnp.int32))
    begin = jax.ops.segment_min(jnp.where(stands, position, rows), bundle, rows + 1)[papers.bundle]
    last = jax.ops.segment_sum(stands.astype(jnp.int32), bundle, rows + 1)[papers.bundle] - 1

    def at(level: Array) -> Array:
        place = level * jnp.maximum(last, 0)
        whole = jnp.round(place)
        place = jnp.where(losses.apart(place, whole), place, whole)
        low = jnp.floor(place).astype(jnp.int32)
        high = jnp.minimum(low + 1, jnp.maximum(last, 0))
        below, above = (ordered[jnp.clip(begin + index, 0, rows - 1)] for index in (low, high))
        return below + (place - low) * (above - below)

    return jax.vmap(at)(levels)


def _drawn(key: Array, number: Array) -> Array:
    """[N] from 0 to 1, drawn for each number [N] of its own."""
    return jax.vmap(lambda one: jax.random.uniform(jax.random.fold_in(key, one)))(number)


_PAPER = "RiskPO: Risk-based Policy Optimization via Verifiable Reward, arXiv 2510.00911"
PRESETS: dict[str, Preset] = {
    "riskpo": Preset(
        "bundles of questions that are answered badly weigh more; the ratio of the whole response is clipped",
        _PAPER,
        (RiskAdvantage(), Clipped(sequence_ratio=True), Aggregate("seq-mean-token-mean")),
    ),
    "riskpo_released": Preset(
        "riskpo as the released code has it: another weight of the tail, credit within bundles, ratios by token",
        _PAPER,
        (
            RiskAdvantage(bundle_order="given", risk_form="mixed", risk_scale="bundle", risk_credit="sum-mean"),
            Clipped(dual_clip=3.0),
            Aggregate(),
        ),
    ),
}
