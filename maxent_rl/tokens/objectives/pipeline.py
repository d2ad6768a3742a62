"""The pipeline that every objective is: reward -> advantage -> credit -> shape -> surrogate -> regulariser -> aggregate.

A stage is a frozen dataclass of hyper-parameters. Once for each batch of responses `prepare` turns rewards into advantages
and does what else must see the whole batch; at each optimiser step the stages are called in order on one `Work`, which may
be a part of the step: what they divide by is then that of the whole (`maxent_rl.tokens.whole`), and what they must choose
among all its tokens is chosen before by `survey`. What a stage carries from step to step is in the state that goes in and
comes out, as in optax. A stage names the slot it stands in, so that any paper's stage can be combined with any other's.
"""

from __future__ import annotations

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError
from maxent_rl.settings import check_settings
from maxent_rl.tokens.batch import (
    Aux,
    TokenBatch,
    TokenOutputs,
    check_batch,
    check_outputs,
    cleaned,
    columns,
    how_to_pass,
    token_advantages,
    without_masked,
    without_unscored,
)
from maxent_rl.tokens.objectives.metrics import step_metrics
from maxent_rl.tokens.objectives.stage import Sampling, Slot, Stage, Statistic, Teaching, Work
from maxent_rl.tokens.whole import Whole
from maxent_rl.types import PyTree


@struct.dataclass
class Objective:
    """A chain of stages: a loss of responses, with its state.

    It is a pytree: the numbers in its stages can change, and vary over a vmapped axis, without compiling anew.

    Attributes:
      stages: in order.
      name: for messages.
    """

    stages: tuple[Stage, ...]
    name: str = struct.field(pytree_node=False, default="chain")  # type: ignore[no-untyped-call]

    @property
    def whole_groups(self) -> bool:
        """Whether minibatches must be whole groups (`TokenBatch.groups`)."""
        return any(stage.whole_groups for stage in self.stages)

    @property
    def surveys(self) -> bool:
        """Whether a step that is learned from in parts must be looked at as a whole first (`survey`)."""
        return any(stage.surveys for stage in self.stages)

    def init(self, key: Array | None = None) -> PyTree:
        """The state before the first batch.

        Args:
          key: [] random key, for objectives that draw; None for that of seed 0.

        Returns:
          The states of those stages that have one; () for a stateless objective.
        """
        key = jax.random.key(0) if key is None else key
        keys = jax.random.split(key, len(self.stages))
        return tuple(stage.init(one) for stage, one in zip(self.stages, keys, strict=True) if _has_state(stage))

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """What must be computed of the whole vocabulary of the policy that draws the responses, at the sampling temperature.

        Its values are functions `(log_probs [..., V], tokens [...]) -> [...]`, as `token_statistics(..., extra=)` takes
        them; what comes out belongs into `TokenBatch.statistics`.
        """
        return {
            name: statistic for stage, own in self._pairs(state) for name, statistic in stage.statistics(own).items()
        }

    def sampling(self, state: PyTree) -> Sampling:
        """What the objective wants of how the next batch is drawn: further responses, temperatures, which groups count."""
        wanted = Sampling()
        for stage, own in self._pairs(state):
            wanted = wanted.joined(stage.sampling(own))
        return wanted

    def teaching(self, state: PyTree) -> Teaching:
        """What the objective wants of a teacher at each optimiser step; `compared` is empty where it has none.

        Its functions `(log_probs [..., V], the teacher's [..., V], tokens [...]) -> [...]` are what
        `token_statistics(..., teacher=, compared=)` takes; what comes out belongs into `TokenOutputs.compared`.
        """
        wanted = Teaching()
        for stage, own in self._pairs(state):
            wanted = wanted.joined(stage.teaching(own))
        return wanted

    def replayed(self, state: PyTree) -> Objective | None:
        """What learns from responses of earlier iterations, where it wants them (`Sampling.replay`); None for nothing.

        Its own surrogate and aggregate with what the wish adds. It has a state of its own, and its batches bring their
        advantages.
        """
        wish = self.sampling(state).replay
        if wish is None:
            return None
        own = [stage for stage in self.stages if stage.slot in ("surrogate", "aggregate")]
        return chain(*own, *wish.stages, name=f"{self.name}, replayed")

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Does once what must see the whole batch: advantages, and what follows from them.

        A trainer that learns from a batch in several steps, or in several parts, calls this first and cuts the result
        (`TokenBatch.rows`, or `TokenBatch.groups` where `whole_groups`): the mean over equal parts of their losses is that of
        the whole, and `part.as_step()` is a minibatch, which has an optimiser step of its own. Without it each call of the
        objective prepares what it is given, but for objectives that move rows (AEPO): then `source` is set, and the policy
        must score the batch that comes out.

        Args:
          state: of the objective.
          batch: all responses, in whole groups.

        Returns:
          (state, batch with `advantages` [N, T] set); a batch that is prepared already comes back as it is. Advantages
          that the caller has given stay, and the stages that would make them of rewards are passed over; those that spread
          them over tokens (credit) are not. Tokens without a finite log-probability have left the mask, and are counted.

        Raises:
          ShapeError: arrays that do not fit together.
          MissingInputError: a stage needs what the batch does not have.
        """
        check_batch(batch)
        if batch.prepared:
            return state, batch
        given = batch.advantages is not None
        batch = jax.lax.stop_gradient(
            self._with_statistics(state, cleaned(without_unscored(_begun(batch), self._to_be_known(state))))
        )
        states = []
        for stage, own in self._pairs(state):
            if not (given and stage.slot == "advantage"):
                _check_needs(stage, batch, None)
                own, batch = stage.prepare(own, batch)
            states += [own] if _has_state(stage) else []
        batch = dataclasses.replace(
            batch,
            advantages=token_advantages(batch),
            logits_old=None,
            side=None,
            prepared=True,
            whole_groups=self.whole_groups,
        )
        return tuple(states), jax.lax.stop_gradient(self._counted(batch))

    def survey(self, state: PyTree, outputs: TokenOutputs, batch: TokenBatch) -> tuple[TokenBatch, Aux]:
        """Looks at all tokens of an optimiser step that is then learned from in parts, where the objective `surveys`.

        Clip-Cov draws among all tokens of a step, STEER scales by the largest change of any, a temperature moves once. What is
        found so goes with the rows; the loss of a part is then a function of its own outputs.

        Args:
          state: of the objective.
          outputs: what the policy that learns says of the whole step, before it: one pass forward, without gradient. For the
            first step on a batch, when that is the policy that drew it, `TokenOutputs(batch.logp_old, batch.entropy_old)`.
          batch: a whole step: a prepared batch, or a minibatch (`TokenBatch.as_step`).

        Returns:
          (batch to take `rows` or `groups` of, aux): its `state` goes into the first part's call, that of each part into the
          next one's; its metrics are those of the whole step.

        Raises:
          ShapeError: arrays that do not fit together.
          MissingInputError: a stage needs what is not there, or the batch is a part.
        """
        state, batch = self._ready(state, batch)
        assert batch.whole is not None
        unseen = dataclasses.replace(batch, whole=dataclasses.replace(batch.whole, found={}))
        state, _, found, work = self._run(state, jax.lax.stop_gradient(outputs), unseen)
        step = dataclasses.replace(batch, whole=dataclasses.replace(batch.whole, found=found))
        return step, _aux(state, work)

    def __call__(self, state: PyTree, outputs: TokenOutputs, batch: TokenBatch) -> tuple[Array, Aux]:
        """The loss of one optimiser step, or of a part of one.

        Args:
          state: of the objective.
          outputs: what the policy that learns says of the tokens.
          batch: prepared responses, rows of them, or responses as they were drawn. Of a part of a step the loss is such that
            the mean over equal parts is that of the whole, whichever rows they hold and however they are filled up.

        Returns:
          (loss [], aux).

        Raises:
          ShapeError: arrays that do not fit together.
          MissingInputError: a stage needs what is not there, or a part of a step was not surveyed.
        """
        state, batch = self._ready(state, batch)
        _, state, _, work = self._run(state, outputs, batch)
        return work.total, _aux(state, work)

    def merge(self, before: PyTree, after: PyTree, axis_name: str) -> PyTree:
        """The state after a step of which each device has seen a part, as after the same parts one after the other.

        Args:
          before: the state that went into every device's first part.
          after: what came out of this device's last one, `Aux.state`.
          axis_name: of the devices, as in `jax.lax.psum`.
        """

        def joined(before: Array, after: Array) -> Array:
            if not jnp.issubdtype(jnp.asarray(after).dtype, jnp.number):
                return after  # keys and flags, which parts leave as they are
            moved = jnp.where(after == before, 0, after - before)
            total: Array = before + jax.lax.psum(moved, axis_name)  # type: ignore[no-untyped-call]
            return total

        merged: PyTree = jax.tree.map(joined, before, after)
        return merged

    def _ready(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Prepared, if it is not yet."""
        unprepared = not batch.prepared
        state, batch = self.prepare(state, batch)
        if unprepared and batch.source is not None:
            raise MissingInputError(
                f"The objective {self.name!r} moves rows: call prepare(state, batch) first, and let the policy score the "
                "batch that it returns, whose `source` says which response each row holds."
            )
        if batch.share > 1:
            raise ShapeError(
                f"{len(batch.mask)} rows are no part of the {batch.mask.shape[0] / batch.share:.0f} that were prepared "
                "together: fill a batch up before prepare, or take rows that repeat as a step of their own by as_step()."
            )
        return state, batch

    def _run(
        self, state: PyTree, outputs: TokenOutputs, batch: TokenBatch
    ) -> tuple[PyTree, PyTree, dict[str, Array], Work]:
        """Calls the stages on a prepared batch: (state after surveys alone, state after the step, what was found, work)."""
        check_outputs(outputs, batch)
        self._check_statistics(state, batch)
        self._check_compared(state, outputs)
        assert batch.whole is not None
        surveyed, after, found, work = [], [], {}, self._begin(outputs, batch)
        for place, (stage, own) in enumerate(self._pairs(state)):
            _check_needs(stage, work.batch, work.outputs)
            if stage.surveys:
                name = f"{place} {stage.title}"
                if name in batch.whole.found:
                    work = work.replace(found=batch.whole.found[name])
                else:
                    _check_whole_step(stage, batch)
                    own, work = stage.survey(own, work)
                    assert work.found is not None
                    found[name] = jax.lax.stop_gradient(work.found)
                    work = work.replace(found=found[name])
            surveyed += [own] if _has_state(stage) else []
            own, work = stage(own, work)
            after += [own] if _has_state(stage) else []
        return tuple(surveyed), tuple(after), found, work

    def _counted(self, batch: TokenBatch) -> TokenBatch:
        """With what each row adds to the counts of a step, once all that is left out has been."""
        assert batch.whole is not None
        lengths = jnp.sum(batch.mask, axis=-1)
        counts = batch.whole.adds | {"tokens": lengths, "sequences": (lengths > 0).astype(jnp.int32)}
        for stage in self.stages:
            counts = stage.counts(batch, counts)
        return dataclasses.replace(batch, whole=batch.whole.counted(counts))

    def _begin(self, outputs: TokenOutputs, batch: TokenBatch) -> Work:
        batch = jax.lax.stop_gradient(cleaned(batch))
        mask = batch.mask
        outputs = without_masked(jax.tree.map(jnp.asarray, outputs), mask)
        entropy = None if outputs.entropy is None else losses.at_least_single(outputs.entropy)
        outputs = dataclasses.replace(
            outputs,
            logp=losses.at_least_single(outputs.logp),
            entropy=entropy,
            compared={name: losses.at_least_single(values) for name, values in outputs.compared.items()},
            value=None if outputs.value is None else losses.at_least_single(outputs.value),
        )
        if outputs.entropy is None and outputs.logits is not None:
            outputs = dataclasses.replace(outputs, entropy=losses.softmax_entropy(outputs.logits))
        zeros = jnp.zeros(mask.shape)
        return Work(
            outputs=outputs,
            batch=batch,
            mask=mask,
            advantages=token_advantages(batch),
            ratio=losses.importance_ratio(outputs.logp, batch.logp_old),
            loss=zeros,
            clipped=zeros.astype(jnp.int32),
            penalty=zeros,
            extra=jnp.zeros(()),
            total=jnp.zeros(()),
        )

    def _with_statistics(self, state: PyTree, batch: TokenBatch) -> TokenBatch:
        """Computes from the logits, where those are given, what the stages ask of them and is missing."""
        side = None if batch.side is None else self._with_statistics(state, batch.side)
        wanted = self.statistics(state)
        statistics, entropy = dict(batch.statistics), batch.entropy_old
        if batch.logits_old is not None:
            log_probs = jax.nn.log_softmax(losses.at_least_single(batch.logits_old))
            entropy = without_masked(losses.softmax_entropy(log_probs), batch.mask) if entropy is None else entropy
            if batch.tokens is not None:
                missing = [name for name in wanted if name not in statistics]
                found = {name: wanted[name](log_probs, batch.tokens) for name in missing}
                statistics |= without_masked(found, batch.mask)
        batch = dataclasses.replace(batch, statistics=statistics, entropy_old=entropy, side=side)
        self._check_statistics(state, batch)
        return batch

    def _to_be_known(self, state: PyTree) -> set[str]:
        """The columns by token, and the statistics, that a token must have a finite number in."""
        needed = {name for stage in self.stages for name in stage.inputs}
        return (
            {"logp_old"} | (needed & {"logp_ref", "logp_drawn", "entropy_old", "values"}) | set(self.statistics(state))
        )

    def _check_statistics(self, state: PyTree, batch: TokenBatch) -> None:
        missing = [name for name in self.statistics(state) if name not in batch.statistics]
        if missing:
            names = " and ".join(repr(name) for name in missing)
            raise MissingInputError(
                f"The objective {self.name!r} needs {names} of the policy that drew the responses, over its whole "
                "vocabulary: pass TokenBatch(statistics=token_statistics(hidden, unembedding, tokens, "
                "extra=objective.statistics(state)).extra), or TokenBatch(logits_old=[N, T, V], tokens=[N, T])."
            )

    def _check_compared(self, state: PyTree, outputs: TokenOutputs) -> None:
        missing = [name for name in self.teaching(state).compared if name not in outputs.compared]
        if missing:
            names = " and ".join(repr(name) for name in missing)
            raise MissingInputError(
                f"The objective {self.name!r} needs {names} of the policy beside a teacher, at each optimiser step: pass "
                "TokenOutputs(compared=token_statistics(hidden, unembedding, tokens, teacher=TeacherStates(...), "
                "compared=objective.teaching(state).compared).extra)."
            )

    def _pairs(self, state: PyTree) -> list[tuple[Stage, PyTree]]:
        expected = sum(map(_has_state, self.stages))
        if len(state) != expected:
            raise ShapeError(
                f"The state of the objective {self.name!r} has {expected} parts, got {len(state)}: "
                "pass what its init(), or the call before, has given."
            )
        states = iter(state)
        return [(stage, next(states) if _has_state(stage) else ()) for stage in self.stages]


def chain(*stages: Stage, name: str = "chain") -> Objective:
    """Combines stages into an objective.

    Args:
      *stages: in any order between slots (they are sorted by slot), in the order that matters within one.
      name: for messages.

    Raises:
      InvalidSettingError: not exactly one surrogate and one aggregate, or a hyper-parameter out of its bounds.
    """
    slots = get_args(Slot)
    for stage in stages:
        if not isinstance(stage, Stage):
            raise InvalidSettingError(f"An objective is made of stages, got {stage!r}.")
        if not any(
            isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(stage)
        ):  # under jit, no value to check
            check_settings(stage)
    for slot in ("surrogate", "aggregate"):
        found = [stage.title for stage in stages if stage.slot == slot]
        if len(found) != 1:
            listed = ", ".join(found) or "none"
            raise InvalidSettingError(f"The objective {name!r} needs exactly one {slot} stage; it has {listed}.")
    active = (stage for stage in stages if stage.active)
    return Objective(tuple(sorted(active, key=lambda stage: slots.index(stage.slot))), name)


def _begun(batch: TokenBatch) -> TokenBatch:
    """A batch that knows which of its rows are responses, as they came."""
    side = None if batch.side is None else _begun(batch.side)
    return dataclasses.replace(batch, whole=Whole.begin(jnp.asarray(batch.mask, bool)), side=side)


def _aux(state: PyTree, work: Work) -> Aux:
    metrics = jax.lax.stop_gradient(step_metrics(work) | work.metrics)
    return Aux(jax.lax.stop_gradient(state), metrics, work.advantages, work.mask)


def _check_whole_step(stage: Stage, batch: TokenBatch) -> None:
    if batch.share != 1:
        raise MissingInputError(
            f"{stage.title} looks at all tokens of an optimiser step, and these {len(batch.mask)} rows are a part of one: "
            "take rows of what objective.survey(state, outputs, batch) gives for the whole step, or, for a minibatch that has "
            "a step of its own, batch.rows(...).as_step()."
        )


def _has_state(stage: Stage) -> bool:
    return type(stage).init is not Stage.init


def _check_needs(stage: Stage, batch: TokenBatch, outputs: TokenOutputs | None) -> None:
    for name in stage.inputs:
        of_outputs = name in columns(TokenOutputs)
        if of_outputs and outputs is None:
            continue  # asked when the outputs are there
        if getattr(outputs if of_outputs else batch, name) is None:
            raise missing_input(stage.title, name)


def missing_input(title: str, name: str) -> MissingInputError:
    """The error for a column of the batch or of the outputs that the stage `title` needs, to be raised by the caller."""
    kind = TokenOutputs if name in columns(TokenOutputs) else TokenBatch
    return MissingInputError(f"{title} needs {name}: {how_to_pass(kind, name)}.")
