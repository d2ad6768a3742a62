"""What an objective is given: a batch of sampled responses, and what the policy that learns says of their tokens.

Shapes: N responses in rows, T tokens, V vocabulary. The responses to one prompt, `group_size` of them, stand in rows next
to each other; where there are not equally many to each, `group_index` says which rows belong together. Masked positions may
hold anything, NaN included: they never change a loss or a gradient.

What could not be scored takes nothing else with it. A response whose reward is not finite counts in no statistic of its group
or of the batch and has the advantage 0. A token whose log-probability, or what else an objective asks of it, is not finite is
left out as if it were masked. Both are counted in the metrics of each step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens.whole import Whole
from maxent_rl.types import Metrics, PyTree

Axes: TypeAlias = Literal["token", "row", "prompt", "part", "vocabulary", "context"]
_SHAPES: dict[Axes, str] = {
    "token": "[N, T]",
    "row": "[N]",
    "prompt": "[N, P]",
    "part": "[N, K]",
    "vocabulary": "[N, T, V]",
    "context": "[N, ...]",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """What a field of a batch declares of its array: cleaning, checks, moves of rows and messages follow from it.

    Attributes:
      axes: "token" for [N, T], "row" for [N], "prompt" for [N, P], "part" for [N, K], "vocabulary" for [N, T, V], "context"
        for a pytree of [N, ...] that nobody looks into; several where it may have any of these shapes. A dict has such an
        array under each name.
      about: what it is and what can take its place, for the error where it is missing.
      read: the policy reads it, at masked positions too: they are not cleaned.
    """

    axes: tuple[Axes, ...]
    about: str = ""
    read: bool = False

    @property
    def masked(self) -> bool:
        """Whether it has an entry for every token, so that what stands at masked positions must be cleaned away."""
        return not self.read and all(axis in ("token", "vocabulary") for axis in self.axes)

    @property
    def shape(self) -> str:
        """Its shape, in words."""
        return " or ".join(_SHAPES[axis] for axis in self.axes)


def column(*axes: Axes, about: str = "", read: bool = False, **options: Any) -> Any:
    """Declares a field as a column of a batch; `options` are those of `dataclasses.field`."""
    return struct.field(metadata={"column": Column(axes, about, read)}, **options)  # type: ignore[no-untyped-call]


def columns(kind: Any) -> dict[str, Column]:
    """The columns that a class of batches declares, by name, in order."""
    return {each.name: each.metadata["column"] for each in dataclasses.fields(kind) if "column" in each.metadata}


@struct.dataclass
class TokenBatch:
    """Sampled responses, with what the policy that drew them said of them; all of it is constant to every loss.

    A new column is one line here: it is checked, cleaned, cut and moved as it declares itself.

    Attributes:
      logp_old: [N, T] log-probability of each token under the policy that drew it, in nats; NaN, or infinite, where the
        sampler did not say it.
      mask: [N, T] True (or 1) on the tokens of the response, its end token included; 0 on prompts, tool results, padding.
      rewards: [N] outcome of each response; NaN where it could not be scored.
      group_size: responses to each prompt; 1 where there are no groups.
      group_index: [N] whole numbers, equal for the responses to one prompt, in place of `group_size` where there are not
        equally many to each; the rows of a group need not stand together.
      tokens: [N, T] int32 the tokens; needed where statistics are computed from logits. They stay as they are where they
        are masked: what an environment said, or a token that the sampler has not scored, is read by what comes after it.
      logp_ref: [N, T] log-probability under a reference policy, in nats.
      token_rewards: [N, T] rewards of single tokens, beside the outcome.
      advantages: [N] or [N, T]; None for those that the objective makes of the rewards. Given by the caller (those of a
        critic, say) they are used as they are, and rewards then count only for what leaves out whole groups.
      entropy_old: [N, T] entropy of the policy that drew the token, at its position, in nats.
      logits_old: [N, T, V] its logits; only a source for what else is missing, never needed where that is given.
      statistics: what objectives ask of its whole vocabulary (`Objective.statistics`), each [N, T].
      truncated: [N] True where a response was cut at the length limit.
      problem: [N] whole numbers, equal where the same problem is posed, in this batch or another.
      task: [N] whole numbers, equal for problems of one task, whose rewards are on one scale.
      answers: [N] whole numbers, equal for responses of a group that give the same final answer, however it is written; below
        0 where none could be read.
      difficulty: [N] how hard each problem is, in whatever unit its task has.
      logp_prompt: [N, P] log-probability of each token of the prompt after those before it, in nats; NaN at padding, and at
        the first token, which nothing predicts.
      logp_drawn: [N, T] log-probability of each token under the distribution that it was drawn from, where that was not the
        policy's own at its temperature (`Sampling.temperature`).
      greedy_rewards: [N] the reward of the policy's most likely response to the same prompt.
      turns: [N, T] int32 which turn of a conversation each token belongs to, from 0; what the environment said is masked.
      turn_rewards: [N, T] what each token's turn earned, the same at all tokens of a turn; the outcome is their sum over
        turns and what is paid besides, at the end.
      anchors: [N, T] whole numbers, equal where turns of responses to one prompt began in the same state, the same at all
        tokens of a turn.
      copies: [N, T] whole numbers: in how many responses each token stands, where they were continued from one another.
      calls: [N] how many turns of each conversation called a tool.
      reward_parts: [N, K] the K rewards that an outcome is made of, where they are to be normalised apart.
      span: [N, T] True on tokens that are no part of the answer and are credited apart from it.
      span_advantages: [N] the advantage of those tokens of each response.
      values: [N, T] what a critic said of what stood before each token, in units of reward.
      value_targets: [N, T] what it should have said; set by `Objective.prepare`, where a stage makes them of the values.
      dropped: [N] True where the whole group of a response has been taken out of the batch: it counts in nothing that is
        remembered of it, either.
      taught: [N] True where the teacher knows what the policy does not, such as another response that is right
        (`Teaching.hint`).
      context: what else belongs to each row and no objective reads, such as its prompt: a pytree of [N, ...].
      side: responses drawn besides the batch (`Objective.side`), or None.
      source: [N] int32 which response each row holds, once `Objective.prepare` has moved any: below 0 it is of `side`, so
        that `concatenate([mine, mine_of_side])[source]` brings what a trainer holds of them elsewhere into the same order.
        None where each row is where it was.
      unscored: [N] set by `Objective.prepare`: how many tokens of each response it has left out, as their log-probability (or
        what else it asks of them) is not finite.
      whole: set by it too: what the rows are parts of.
      prepared: likewise: what is done once to a whole batch has been done.
      whole_groups: likewise: the objective compares the responses of a group at each step.
    """

    logp_old: Array = column("token")
    mask: Array = column("token")
    rewards: Array = column("row")
    group_size: int = struct.field(pytree_node=False, default=1)  # type: ignore[no-untyped-call]
    group_index: Array | None = column("row", about="equal whole numbers for the responses to one prompt", default=None)
    tokens: Array | None = column("token", read=True, default=None)
    logp_ref: Array | None = column("token", about="log-probabilities under the reference policy", default=None)
    token_rewards: Array | None = column("token", default=None)
    advantages: Array | None = column("token", "row", default=None)
    entropy_old: Array | None = column(
        "token", about="the entropy when the responses were drawn, or logits_old [N, T, V]", default=None
    )
    logits_old: Array | None = column("vocabulary", default=None)
    statistics: dict[str, Array] = column("token", default_factory=dict)
    truncated: Array | None = column("row", about="True where a response was cut at the length limit", default=None)
    problem: Array | None = column("row", about="equal whole numbers where the same problem is posed", default=None)
    task: Array | None = column("row", about="equal whole numbers for the problems of one task", default=None)
    answers: Array | None = column(
        "row", about="equal whole numbers for responses with the same final answer, below 0 for none", default=None
    )
    difficulty: Array | None = column("row", about="how hard each problem is", default=None)
    logp_prompt: Array | None = column(
        "prompt", about="log-probabilities of the prompt's tokens, NaN where there is none", default=None
    )
    logp_drawn: Array | None = column(
        "token", about="log-probabilities under the distribution that each token was drawn from", default=None
    )
    greedy_rewards: Array | None = column(
        "row", about="the reward of the policy's most likely response to the same prompt", default=None
    )
    turns: Array | None = column(
        "token", about="the turn of the conversation that each token belongs to, from 0", default=None
    )
    turn_rewards: Array | None = column("token", about="what the turn of each token earned", default=None)
    anchors: Array | None = column(
        "token",
        about="whole numbers, equal where turns of responses to one prompt began in the same state",
        default=None,
    )
    copies: Array | None = column("token", about="in how many responses each token stands", default=None)
    calls: Array | None = column("row", about="how many turns of each conversation called a tool", default=None)
    reward_parts: Array | None = column("part", about="the rewards that each outcome is made of", default=None)
    span: Array | None = column("token", about="True on tokens that are credited apart from the answer", default=None)
    span_advantages: Array | None = column("row", about="the advantage of the tokens of its span", default=None)
    values: Array | None = column("token", about="what the critic said of what stood before each token", default=None)
    value_targets: Array | None = column(
        "token", about="what the critic should have said, which critic_advantage makes of rewards", default=None
    )
    dropped: Array | None = column("row", about="True where its whole group is no part of the batch", default=None)
    taught: Array | None = column("row", about="True where the teacher is told what the policy is not", default=None)
    context: PyTree | None = column("context", default=None)
    side: TokenBatch | None = None
    source: Array | None = column("row", default=None)
    unscored: Array | None = column("row", default=None)
    whole: Whole | None = column("context", default=None)
    prepared: bool = struct.field(pytree_node=False, default=False)  # type: ignore[no-untyped-call]
    whole_groups: bool = struct.field(pytree_node=False, default=False)  # type: ignore[no-untyped-call]

    def rows(self, index: Any) -> TokenBatch:
        """The responses at `index` (a slice, or whole numbers), as a part of a prepared batch.

        The mean over equal parts of their losses, or gradients, is that of the whole; over unequal ones it is the mean
        weighted by `share`. A part that has an optimiser step of its own is a minibatch: `rows(index).as_step()`.
        `side` stays whole.

        Raises:
          ShapeError: there are no such rows; or they are not whole groups, or cannot be looked at as they are traced, where
            advantages are still to be made of rewards by groups, or the objective compares groups at each step.
        """
        if self.whole_groups or (not self.prepared and self.advantages is None and self._has_groups):
            _check_whole(self, index)
        elif not isinstance(index, jax.core.Tracer):
            _chosen(index, self.mask.shape[0], "rows")
        return self._cut(index)

    def groups(self, index: Any) -> TokenBatch:
        """The groups at `index` [K], whole numbers: all responses to the K prompts.

        Raises:
          ShapeError: there are no such groups, or `group_index` says what they are and is traced.
        """
        if self.group_index is not None:
            return self._cut(_rows_of(self.group_index, index))
        if not isinstance(index, jax.core.Tracer):
            _chosen(index, self.mask.shape[0] // self.group_size, "groups")
        first = jnp.asarray(index)[:, None] * self.group_size
        return self._cut((first + jnp.arange(self.group_size)).ravel())

    @property
    def scored(self) -> Array:
        """[N] whether each row is a response that has a reward: one that is finite; a row without tokens is none."""
        return responses(self) & jnp.isfinite(self.outcomes)

    def as_step(self) -> TokenBatch:
        """These rows of a prepared batch as a minibatch, the whole of an optimiser step of their own.

        Its loss divides by the counts of these rows, and stages look at these rows alone, as they do in verl; the advantages
        stay those of the batch. Rows of it are parts of this step. It counts anew, too, where the mask has changed since the
        batch was prepared. A batch that is not prepared is returned as it is.
        """
        if self.whole is None:
            return self
        lengths = jnp.sum(jnp.asarray(self.mask, bool), axis=-1)
        return dataclasses.replace(self, whole=self.whole.anew(lengths))

    @property
    def share(self) -> float:
        """The share of the rows of its whole (of the prepared batch, or of the minibatch) that these are; 1 for a whole."""
        return 1.0 if self.whole is None else self.mask.shape[0] / max(self.whole.rows, 1)

    def count(self, name: str, here: ArrayLike) -> Array:
        """[] so many are in the whole that these rows are of: `here`, counted in them, where they are all of it.

        Raises:
          MissingInputError: the objective that prepared the batch counts no such thing, and these rows are a part of it.
        """
        if self.whole is None or self.share == 1:
            return jnp.asarray(here)
        if name not in self.whole.counts:
            raise MissingInputError(
                f"The batch that these rows are a part of has no count {name!r}: let the objective that learns from it "
                "prepare it."
            )
        return self.whole.count(name)

    @property
    def longest(self) -> Array:
        """[] tokens of the longest response of the batch that was prepared, or of these rows, if it was not."""
        if self.whole is None:
            return jnp.max(jnp.sum(self.mask, axis=-1), initial=0)
        return self.whole.count("longest")

    @property
    def outcomes(self) -> Array:
        """[N] the whole reward of each response: its outcome and its tokens' rewards."""
        rewards = jnp.asarray(self.rewards, jnp.float32)
        if self.token_rewards is None:
            return rewards
        return rewards + jnp.sum(jnp.where(self.mask, self.token_rewards, 0.0), axis=-1)

    @property
    def _has_groups(self) -> bool:
        return self.group_size > 1 or self.group_index is not None

    def _cut(self, index: Any) -> TokenBatch:
        index = index if isinstance(index, slice) else jnp.asarray(index)
        cut: TokenBatch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], dataclasses.replace(self, side=None))
        return dataclasses.replace(cut, side=self.side)


@struct.dataclass
class Prompted:
    """What stands before and beside the responses of a batch, row by row.

    Attributes:
      prompts: [N, P] int32, padded on either side.
      prompt_mask: [N, P] bool.
      response_mask: [N, T] bool: where a response has tokens, whatever an objective leaves out of its loss.
      problems: [N, Q] the task's own prompts, where a source of prompts has changed them; None where it has not.
      notes: pytree of [N, ...]: what a source of prompts noted of them.
      hints: [N, H] int32 what stands before the prompt for those who are told more than the policy; None for nothing.
      hint_mask: [N, H] bool; False for padding, and in rows without a hint.
      said: [N, T] bool: what of it the model said itself, where others spoke too; None for all.
    """

    prompts: Array
    prompt_mask: Array
    response_mask: Array
    problems: Array | None = None
    notes: PyTree = None
    hints: Array | None = None
    hint_mask: Array | None = None
    said: Array | None = None

    @property
    def own(self) -> Array:
        """[N, T] bool: where the model has said something."""
        return self.response_mask if self.said is None else self.said

    @property
    def checked(self) -> Array:
        """[N, Q] the task's own prompts, by which responses are checked."""
        return self.prompts if self.problems is None else self.problems

    def hinted(self) -> Prompted:
        """The same responses after prompts that begin with their hints, [N, H + P]; without hints, itself."""
        if self.hints is None or self.hint_mask is None:
            return self
        prompts = jnp.concatenate([self.hints, self.prompts], axis=1)
        return Prompted(prompts, jnp.concatenate([self.hint_mask, self.prompt_mask], axis=1), self.response_mask)


@struct.dataclass
class TokenOutputs:
    """What the policy that learns says of the tokens of a batch; the gradient flows through it.

    Attributes:
      logp: [N, T] log-probability of each token, in nats.
      entropy: [N, T] entropy at its position, in nats; None where neither the objective nor its metrics need it.
      logits: [N, T, V] for those who hold them; where `entropy` is None it is computed from these.
      value: [N, T] what the critic that learns says of what stands before each token, in units of reward; None without one.
      compared: what objectives ask of the policy beside a teacher (`Objective.teaching`), each [N, T].
    """

    logp: Array = column("token")
    entropy: Array | None = column(
        "token", about="as token_statistics gives it, or TokenOutputs(logits=[N, T, V])", default=None
    )
    logits: Array | None = column("vocabulary", default=None)
    value: Array | None = column(
        "token", about="what the critic that learns says of what stands before each token", default=None
    )
    compared: dict[str, Array] = column("token", default_factory=dict)


@struct.dataclass
class Aux:
    """What an objective gives beside its loss.

    Attributes:
      state: of the objective, for the next call.
      metrics: scalars.
      advantages: [N, T] that the loss used.
      mask: [N, T] tokens that the loss used.
    """

    state: PyTree
    metrics: Metrics
    advantages: Array
    mask: Array


def check_batch(batch: TokenBatch) -> None:
    """Compares all shapes with that of `logp_old`, and looks at the mask and the groups where those can be looked at.

    Raises:
      ShapeError: naming the array, what was expected and what came.
    """
    shape = jnp.shape(batch.logp_old)
    if len(shape) != 2:
        raise ShapeError(f"logp_old must have shape [N, T], one row for each response; got {shape}.")
    _check_columns(batch, shape)
    check_mask(batch.mask)
    if batch.group_index is not None:
        if batch.group_size != 1:
            raise ShapeError(
                f"group_index and group_size={batch.group_size} both say which rows belong together: give one."
            )
        if not np.issubdtype(batch.group_index.dtype, np.integer):
            raise _no_ids("group_index", batch.group_index)
    for name in ("problem", "task", "answers", "turns", "anchors", "copies"):
        values = getattr(batch, name)
        if values is not None and not np.issubdtype(values.dtype, np.integer):
            raise _no_ids(name, values)
    if batch.group_size < 1 or (batch.advantages is None and shape[0] % batch.group_size):
        raise ShapeError(
            f"{shape[0]} rows are not whole groups of {batch.group_size}: "
            "group_size must divide the number of rows, unless advantages are given."
        )
    if batch.side is not None:
        check_batch(batch.side)


def _no_ids(name: str, values: Any) -> ShapeError:
    return ShapeError(
        f"{name} must be whole numbers, got {values.dtype}: of other ids, np.unique(ids, return_inverse=True)[1]."
    )


def check_outputs(outputs: TokenOutputs, batch: TokenBatch) -> None:
    """Compares the shapes of what the policy says with those of the batch.

    Raises:
      ShapeError: naming the array, what was expected and what came.
    """
    _check_columns(outputs, jnp.shape(batch.logp_old))


def check_mask(mask: Any) -> None:
    """Refuses a mask of anything but booleans, zeros and ones, where it can be looked at: all else would count as a one.

    Raises:
      ShapeError: it holds labels (such as -100), weights, or NaN.
    """
    if isinstance(mask, jax.core.Tracer) or mask.dtype == bool:
        return
    values = np.asarray(mask)
    odd = values[(values != 0) & (values != 1)]
    if odd.size:
        raise ShapeError(
            f"The mask must be booleans, or zeros and ones, got {odd.min()}: labels or weights are no mask."
        )


def _chosen(index: Any, count: int, what: str) -> np.ndarray:
    """Which of `count` an index means; NumPy refuses what JAX would take for the last one."""
    try:
        return np.arange(count)[index if isinstance(index, slice) else np.asarray(index)]
    except IndexError as error:
        raise ShapeError(f"The batch has {count} {what}, which the indices go beyond: {error}.") from None


def _check_whole(batch: TokenBatch, index: Any) -> None:
    why = (
        "the objective compares the responses of a group at every step: cut the batch by TokenBatch.groups(indices)"
        if batch.whole_groups
        else "the batch is not prepared, so that they would be compared with responses to other prompts: cut what "
        "objective.prepare(state, batch) returns, or by TokenBatch.groups(indices)"
    )
    unseen = [value for value in (index, batch.group_index) if isinstance(value, jax.core.Tracer)]
    if unseen:
        raise ShapeError(f"Whether traced rows are whole groups cannot be seen, and {why}.")
    count, size = batch.mask.shape[0], batch.group_size
    rows = _chosen(index, count, "rows")
    if batch.group_index is not None:
        groups, sizes = np.unique(np.asarray(batch.group_index), return_counts=True)
        taken, numbers = np.unique(np.asarray(batch.group_index)[rows], return_counts=True)
        whole = np.array_equal(sizes[np.isin(groups, taken)], numbers)
        sort = "whole groups"
    else:
        groups = rows // size
        whole = len(rows) % size == 0 and bool(np.all(groups.reshape(-1, size) == groups[::size, None]))
        sort = f"whole groups of {size}"
    if not whole:
        raise ShapeError(f"These {len(rows)} rows are not {sort}, and {why}.")


def _rows_of(group_index: Array, groups: Any) -> np.ndarray:
    """The rows of the groups, in the order of the batch."""
    if isinstance(group_index, jax.core.Tracer) or isinstance(groups, jax.core.Tracer):
        raise ShapeError(
            "How many rows the groups of a traced group_index have cannot be seen: cut them outside of jit."
        )
    known, wanted = np.asarray(group_index), np.asarray(groups)
    missing = wanted[~np.isin(wanted, known)]
    if missing.size:
        raise ShapeError(f"The batch has no group {missing[0]}: TokenBatch.groups takes numbers of its group_index.")
    return np.flatnonzero(np.isin(known, wanted))


def _check_columns(given: TokenBatch | TokenOutputs, shape: tuple[int, ...]) -> None:
    for name, declared in columns(given).items():
        if declared.axes == ("context",):
            continue
        values = getattr(given, name)
        named = (
            {f"{name}[{key!r}]": value for key, value in values.items()} if isinstance(values, dict) else {name: values}
        )
        for full_name, value in named.items():
            if value is not None:
                _check(full_name, declared, jnp.shape(value), shape)


def _check(name: str, declared: Column, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Compares the shape of an array with what it declares, where there are `shape` rows and tokens."""
    right = {
        "token": found == shape,
        "row": found == shape[:1],
        "prompt": len(found) == 2 and found[:1] == shape[:1],
        "part": len(found) == 2 and found[:1] == shape[:1],
        "vocabulary": found[:-1] == shape,
    }
    if any(right[axis] for axis in declared.axes):
        return
    wanted = {
        ("token",): f"{shape}, as logp_old says",
        ("vocabulary",): f"{shape} and a last axis for the vocabulary, as logp_old says",
        ("row",): f"{shape[:1]}, one entry for each row",
        ("prompt",): f"({shape[0]}, P), one row for each response",
        ("part",): f"({shape[0]}, K), K rewards of each response",
        ("token", "row"): f"{shape} or {shape[:1]}",
    }[declared.axes]
    raise ShapeError(f"{name} must have shape {wanted}; got {found}.")


def how_to_pass(kind: Any, name: str) -> str:
    """What to do where the column `name` of a class of batches is missing, for an error."""
    declared = columns(kind)[name]
    return f"pass {kind.__name__}({name}={declared.shape})" + (f", {declared.about}" if declared.about else "")


def token_advantages(batch: TokenBatch) -> Array:
    """The advantages so far, for each token: [N, T], 0 where masked; where there are none yet, the rewards, 0 for none."""
    if batch.advantages is None:
        advantages = jnp.where(batch.scored, batch.outcomes, 0.0)
    else:
        advantages = jnp.asarray(batch.advantages, jnp.float32)
    return jnp.where(batch.mask, advantages[:, None] if advantages.ndim == 1 else advantages, 0.0)


def responses(batch: TokenBatch) -> Array:
    """Which rows are responses, whatever has been left out of the loss since: [N] bool; a row without tokens is none."""
    came = jnp.any(jnp.asarray(batch.mask, bool), axis=-1)
    return came if batch.whole is None else batch.whole.adds["responses"] > 0


def drawn_lengths(batch: TokenBatch) -> Array:
    """How many tokens each response has, whatever has been left out of the loss since: [N]."""
    return jnp.sum(jnp.asarray(batch.mask, bool), axis=-1) if batch.whole is None else batch.whole.adds["drawn"]


def without_masked(tree: PyTree, mask: Array) -> PyTree:
    """The arrays with 0 wherever a position [N, T] is masked; their gradient there is 0 too."""

    def clean(leaf: Array) -> Array:
        kept = mask.reshape(mask.shape + (1,) * (leaf.ndim - 2))
        return jnp.where(kept, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(clean, tree)


def without_unscored(batch: TokenBatch, needed: Collection[str]) -> TokenBatch:
    """The batch without the tokens of which something is not finite, and with their number in each row; `side` likewise.

    A log-probability of minus infinity, of a sampler that rules tokens out before it reports them, would make the token's
    ratio infinite, and NaN its loss; what the policy thought of it is not known.

    Args:
      batch: as it was drawn.
      needed: the columns by token, and statistics, that must be finite, of those that there are.
    """
    mask = jnp.asarray(batch.mask, bool)
    known = jnp.ones(mask.shape, bool)
    for name in needed:
        values = batch.statistics.get(name) if name not in columns(batch) else getattr(batch, name)
        known = known if values is None else known & jnp.isfinite(jnp.asarray(values))
    side = None if batch.side is None else without_unscored(batch.side, needed)
    return dataclasses.replace(batch, mask=mask & known, unscored=jnp.sum(mask & ~known, axis=-1), side=side)


def cleaned(batch: TokenBatch) -> TokenBatch:
    """The batch with a mask of bool, and 0 at masked positions of every column by token but the tokens; its side batch, too.

    Numbers of half precision become single, but for those over the vocabulary, which are many.
    """
    mask = jnp.asarray(batch.mask, bool)
    fields = {}
    for name, declared in columns(batch).items():
        if declared.axes == ("context",):
            continue
        exact = jnp.asarray if "vocabulary" in declared.axes else losses.at_least_single
        values = jax.tree.map(exact, getattr(batch, name))
        fields[name] = without_masked(values, mask) if declared.masked else values
    side = None if batch.side is None else cleaned(batch.side)
    return dataclasses.replace(batch, **fields | {"mask": mask, "side": side})
