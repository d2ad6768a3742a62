"""ADPO: a target over the responses of a group, matched by the policy's likelihoods relative to an anchor.

A response is a candidate, its log-likelihood the sum over its tokens; better ones are to be likelier than under the anchor by
as much as the target says, at an anchoring temperature. With the policy that drew them as anchor the first step is a policy
gradient with bounded advantages; how far the later ones go is held by the anchor instead of a clip.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913). Losses and targets are those of
`losses.anchored` and `losses.candidate_targets`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError
from maxent_rl.settings import Count, Fraction, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage, leave_out, whole_groups
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Surrogate
from maxent_rl.types import PyTree

_OF_ROWS = "anchor_temperature"  # where `prepare` leaves the temperatures that the steps read


@struct.dataclass
class ADPO(Surrogate):
    """Moves the policy towards a target over each group, relative to an anchor; to be aggregated by seq-mean-token-mean.

    The loss is then the mean over groups (those with a response in the loss), and its gradient in the log-probability of each
    token of response i is `(p_i - q_i) / (tau B)`: listwise, p the softmax of the anchored logits, q the target. What is
    compared are the advantages, one for each response: `scale="group"` standardises them. A response without tokens, or
    without a finite reward, is no candidate. Every step needs whole groups, side by side: unequal ones are filled up.
    """

    whole_groups: ClassVar[bool] = True
    adpo_loss: Literal["listwise", "pairwise", "pairwise-hard", "plackett-luce"] = static("listwise")
    """The target as a whole; every pair, with soft or with hard labels (a tie then is no pair); or the whole ranking, which
    ranks equal rewards in the order of the rows and passes over groups in which all are equal."""
    adpo_target: Literal["softmax", "kde", "rank"] = static("softmax")
    """The target of listwise: softmax of the advantages, of their places in a smoothed distribution, or of their ranks."""
    adpo_anchor: Literal["sampling", "reference"] = static("sampling")
    """The policy that drew the responses, renewed with each batch, or the reference, which stays."""
    anchor_temperature: Positive = 0.8
    """tau: the smaller, the nearer the policy stays to the anchor. 1 / beta of DPO."""
    reward_temperature: Positive = 0.5
    """beta_r: the smaller, the more of the target (or of a soft label) goes to the best."""
    kde_bandwidth: Positive = 1.0
    """Times Silverman's, of the target kde."""
    length_normalize: bool = static(False)
    """Take the mean over the tokens of a response in place of the sum (the authors' later code)."""
    log_ratio_most: Positive | None = static(None)
    """Clip the log-ratio of a response to +-this, in nats; None for no clip."""
    anchored_most: Positive | None = static(None)
    """Clip the anchored logits to +-this; None for no clip."""
    ranking_top: Count | None = static(None)
    """Only the first so many places of the ranking count; None for all."""
    ranking_smoothing: Fraction = 0.0
    """Share of each place's term that goes to all that are left alike."""
    ranking_poly: Weight = 0.0
    """Weight of PolyLoss's term beside each of the ranking's."""
    temperature_rule: Literal["fixed", "falling", "smooth"] = static("fixed")
    """anchor_temperature as it is; less where the target spreads; or more where the policy that drew is uncertain or, certain,
    does badly."""
    temperature_entropy_weight: Weight | None = None
    """How much entropy counts in the rule; None for the paper's: 1 (falling), 0.5 (smooth)."""
    temperature_reward_weight: Weight = 1.0
    """How much a low reward counts in the rule smooth."""
    temperature_least: Positive = 0.1
    """The least temperature of a rule."""
    temperature_most: Positive = 5.0
    """The largest of the rule smooth."""
    vocabulary_size: Count | None = static(None)
    """V, of which the rule smooth needs the largest entropy; None for that of the batch's logits."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The reference, if it is the anchor."""
        return ("logp_ref",) if self.adpo_anchor == "reference" else ()

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Leaves out responses that could not be scored, which are no candidates.

        For the rule smooth it sets each group's temperature, which depends on the rewards of all groups.
        """
        _check_layout(batch)
        batch = leave_out(batch, ~batch.scored)
        if self.temperature_rule != "smooth":
            return state, batch
        found = jnp.repeat(self.smooth_temperatures(batch), batch.group_size)[:, None]
        statistics = batch.statistics | {_OF_ROWS: jnp.broadcast_to(found, batch.mask.shape)}
        return state, dataclasses.replace(batch, statistics=statistics)

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """The groups with a response in the loss, and the pairs, each counted at one row of its group."""
        there = whole_groups(jnp.any(batch.mask, axis=-1), batch.group_size)
        scores = whole_groups(_of_responses(token_advantages(batch), batch.mask), batch.group_size)
        first = there & (jnp.cumsum(there, axis=-1) == 1)
        pairs = jnp.where(first, self.num_pairs(scores, there)[:, None], 0)
        return counts | {"groups": first.ravel().astype(jnp.int32), "pairs": pairs.ravel()}

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the loss [N, T]: each token has its share of the group's, and the gradient of its own log-probability."""
        _check_groups(work)
        size, lengths = work.batch.group_size, jnp.sum(work.mask, axis=-1, keepdims=True)
        there = whole_groups(lengths[:, 0] > 0, size)
        num_groups = jnp.maximum(work.batch.count("groups", jnp.sum(jnp.any(there, axis=-1))), 1)
        scores = whole_groups(_of_responses(work.advantages, work.mask), size)
        target = self.target(scores, there)
        pairs = work.batch.count("pairs", jnp.sum(self.num_pairs(scores, there))) / num_groups
        temperature = self.temperature(work, target)
        anchor = work.batch.logp_old if self.adpo_anchor == "sampling" else work.batch.logp_ref
        assert anchor is not None
        # Differences before sums: of two sums over many tokens little would be left in single precision.
        log_ratio = jnp.sum(jnp.where(work.mask, jax.lax.stop_gradient(work.outputs.logp) - anchor, 0.0), axis=-1)
        log_ratio = log_ratio / jnp.maximum(lengths[:, 0], 1) if self.length_normalize else log_ratio

        def of_groups(log_ratio: Array) -> tuple[Array, tuple[Array, Array]]:
            logits = losses.anchored_logits(
                log_ratio, 0.0, temperature, largest_ratio=self.log_ratio_most, largest=self.anchored_most
            )
            loss = self.group_losses(logits, scores, target, there, pairs)
            return jnp.sum(loss), (loss, logits)

        log_ratio = whole_groups(log_ratio, size)
        (_, (loss, logits)), slope = jax.value_and_grad(of_groups, has_aux=True)(log_ratio)
        share = loss[:, None] / jnp.maximum(jnp.sum(there, axis=-1, keepdims=True), 1)
        own = work.outputs.logp - jax.lax.stop_gradient(work.outputs.logp)
        own = own if self.length_normalize else own * lengths
        tokens = jnp.broadcast_to(share, there.shape).reshape(-1, 1) + slope.reshape(-1, 1) * own
        work = work.measure(**_metrics(logits, log_ratio, target, temperature, there))
        return state, work.replace(loss=tokens * work.batch.count("sequences", jnp.sum(there)) / num_groups)

    def target(self, scores: Array, there: Array) -> Array:
        """q: [group, response] probabilities from scores."""
        if self.adpo_target == "kde":
            return losses.kde_target(scores, self.reward_temperature, self.kde_bandwidth, there)
        if self.adpo_target == "rank":
            return losses.rank_target(scores, self.reward_temperature, there)
        return losses.softmax_target(scores, self.reward_temperature, mask=there)

    def group_losses(self, logits: Array, scores: Array, target: Array, there: Array, pairs: ArrayLike = 1.0) -> Array:
        """[group] losses whose mean over the groups of a step is ADPO's, of arrays [group, response].

        Of the pairwise forms it is the mean over all pairs of the step, as in the authors' code: a group has `pairs` [] on
        average.
        """
        if self.adpo_loss == "listwise":
            return losses.anchored_loss(logits, target, there)
        if self.adpo_loss == "plackett-luce":
            found = losses.plackett_luce_loss(
                logits, scores, self.ranking_top, self.ranking_smoothing, self.ranking_poly, there
            )
            highest = jnp.max(scores, axis=-1, initial=-jnp.inf, where=there)
            differ = losses.apart(highest, jnp.min(scores, axis=-1, initial=jnp.inf, where=there))
            return jnp.where(differ, found, 0.0)  # where all are equal, but for rounding, there is nothing to rank
        loss, _ = losses.anchored_pair_loss(logits, scores, self._label_temperature, there)
        return jnp.sum(loss, axis=-1) / jnp.where(jnp.asarray(pairs) > 0, pairs, 1.0)

    def num_pairs(self, scores: Array, there: Array) -> Array:
        """[group] pairs that count in the pairwise forms, of arrays [group, response]; 0 in the others."""
        if not self.adpo_loss.startswith("pairwise"):
            return jnp.zeros(scores.shape[:1])
        _, weight = losses.anchored_pair_loss(jnp.zeros(scores.shape), scores, self._label_temperature, there)
        return jnp.sum(weight, axis=-1)

    def temperature(self, work: Work, target: Array) -> Array:
        """tau: [group, 1]."""
        base = jnp.broadcast_to(self.anchor_temperature, (len(target), 1))
        if self.temperature_rule == "falling":
            weight = 1.0 if self.temperature_entropy_weight is None else self.temperature_entropy_weight
            return losses.falling_temperature(target, self.anchor_temperature, weight, self.temperature_least)
        if self.temperature_rule == "smooth":
            of_rows = jnp.max(work.batch.statistics[_OF_ROWS], axis=-1)  # a masked token has 0
            of_groups = jnp.max(whole_groups(of_rows, work.batch.group_size), axis=-1, keepdims=True)
            return jnp.where(of_groups > 0, of_groups, base)
        return base

    def smooth_temperatures(self, batch: TokenBatch) -> Array:
        """tau: [group] of the rule smooth, from how certain the policy was that drew the responses, and their rewards."""
        lengths = jnp.sum(batch.mask, axis=-1)
        there = whole_groups(lengths > 0, batch.group_size)
        surprise = -jnp.sum(jnp.where(batch.mask, batch.logp_old, 0.0), axis=-1) / jnp.maximum(lengths, 1)
        count = jnp.maximum(jnp.sum(there, axis=-1), 1)
        entropy, reward = (
            jnp.sum(jnp.where(there, whole_groups(values, batch.group_size), 0.0), axis=-1) / count
            for values in (surprise, batch.outcomes)
        )
        counts = jnp.any(there, axis=-1)
        least = jnp.min(reward, initial=jnp.inf, where=counts)
        highest = jnp.max(reward, initial=-jnp.inf, where=counts)
        spread = losses.apart(highest, least)  # means of equal rewards, over more or fewer of them, round differently
        scaled = jnp.where(spread, (reward - least) / jnp.where(spread, highest - least, 1.0), 0.5)
        return losses.smooth_temperature(
            entropy / jnp.log(jnp.float32(self._vocabulary(batch))),
            jnp.clip(scaled, 0.0, 1.0),
            self.anchor_temperature,
            0.5 if self.temperature_entropy_weight is None else self.temperature_entropy_weight,
            self.temperature_reward_weight,
            (self.temperature_least, self.temperature_most),
        )

    @property
    def _label_temperature(self) -> Positive | None:
        """That of a pair's soft label; None for a hard one."""
        return None if self.adpo_loss == "pairwise-hard" else self.reward_temperature

    def _vocabulary(self, batch: TokenBatch) -> int:
        if self.vocabulary_size is not None:
            return self.vocabulary_size
        if batch.logits_old is None:
            raise MissingInputError(
                "ADPO's temperature_rule 'smooth' needs the size of the vocabulary: set vocabulary_size, or pass "
                "TokenBatch(logits_old=[N, T, V])."
            )
        return batch.logits_old.shape[-1]


def _check_layout(batch: TokenBatch) -> None:
    if batch.group_index is not None:
        raise ShapeError(
            "ADPO lays groups of one size side by side, which a group_index does not: fill them up with rows of an empty mask "
            "and a reward of NaN, next to the other responses to the prompt, and pass group_size."
        )


def _check_groups(work: Work) -> None:
    rows, size = work.mask.shape[0], work.batch.group_size
    if rows % size:
        raise ShapeError(
            f"{rows} rows are not whole groups of {size}, and ADPO compares the responses of a group at every step: cut a "
            "prepared batch by TokenBatch.groups(indices)."
        )
    if work.batch.source is not None:
        raise InvalidSettingError("ADPO compares the rows of a group, and another stage (AEPO) has moved rows.")


def _of_responses(values: Array, mask: Array) -> Array:
    """[N] means over tokens, exact where all are equal: rounding must not turn equal rewards into a ranking."""
    first = jnp.take_along_axis(values, jnp.argmax(mask, axis=-1, keepdims=True), axis=-1)
    beyond = jnp.sum(jnp.where(mask, values - first, 0.0), axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1), 1)
    return first[:, 0] + beyond


def _metrics(logits: Array, log_ratio: Array, target: Array, temperature: Array, there: Array) -> dict[str, Array]:
    counts = jnp.any(there, axis=-1)
    entropy = losses.probability_entropy(target)
    return {
        "adpo/divergence": losses.masked_mean(losses.anchored_loss(logits, target, there) - entropy, counts),
        "adpo/log_ratio": losses.masked_mean(jnp.abs(log_ratio), there),
        "adpo/target_entropy": losses.masked_mean(entropy, counts),
        "adpo/temperature": losses.masked_mean(temperature[:, 0], counts),
    }


PRESETS: dict[str, Preset] = {
    "adpo": Preset(
        "the group's likelihoods relative to those under the policy that drew it are moved to a softmax of the rewards",
        "ADPO: Anchored Direct Preference Optimization, arXiv 2510.18913",
        (GroupAdvantage("none"), ADPO(), Aggregate("seq-mean-token-mean")),
    ),
    "adpo_pair": Preset(
        "adpo for every pair of a group: each a logistic regression with a soft label",
        "ADPO: Anchored Direct Preference Optimization, arXiv 2510.18913",
        (GroupAdvantage("none"), ADPO("pairwise"), Aggregate("seq-mean-token-mean")),
    ),
    "adpo_verl": Preset(
        "adpo on the ranking of a group's best, by likelihoods per token, clipped (the authors' later code)",
        "ADPO: Anchored Direct Preference Optimization, arXiv 2510.18913",
        (
            GroupAdvantage("none"),
            ADPO(
                "plackett-luce",
                anchor_temperature=0.5,
                reward_temperature=0.3,
                length_normalize=True,
                log_ratio_most=5.0,
                anchored_most=10.0,
                ranking_top=3,
                ranking_smoothing=0.1,
                ranking_poly=1.0,
                temperature_least=0.2,
                temperature_most=1.5,
            ),
            Aggregate("seq-mean-token-mean"),
        ),
    ),
}

# What TRL and verl call its settings.
ELSEWHERE: dict[str, str] = {
    "tau": "anchor_temperature",
    "beta_reward": "reward_temperature",
}
