"""A curriculum: problems by stages of difficulty, from one to the next when the groups of a stage succeed.

After CRAFT-GUI (arXiv 2508.11360), of which nothing beyond the abstract could be confirmed: buckets, the mixture of earlier
ones and the rule of transition are a proposed form.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Count, Fraction, Positive, Weight
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.prompts.ring import Ring
from maxent_rl.tokens.prompts.source import Answer, Posed, PromptSource
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import PAD_TOKEN
from maxent_rl.types import Array, Metrics, PyTree, Spec

_ROUNDING = 1e-5  # relative, of a reward that is a sum of parts
_FIXED_SEED = 20_508_113  # of the problems whose difficulties make thresholds, the same in every run


@struct.dataclass
class CurriculumState:
    """Where a curriculum is.

    Attributes:
      stage: [] int32 from 0, which never falls.
      step: [] int32 iterations of this stage so far.
      ring: the last successes of the stage's own groups.
      levels: [Z] the latest success of each bucket, the easiest first; 0 before there was one.
      right: [C] how many of the first responses to each problem of a fixed set were right; None where the task says what is
        hard.
      tried: [C] how many there were; 0 for a problem that has not been posed. None likewise.
    """

    stage: Array
    step: Array
    ring: Ring
    levels: Array
    right: Array | None
    tried: Array | None


def difficulty_thresholds(difficulties: Any, stages: int) -> Any:
    """Thresholds that divide problems into buckets of about the same size; for three stages, tertiles.

    Args:
      difficulties: [C], of NumPy or of JAX.
      stages: Z.

    Returns:
      [Z - 1] likewise, ascending: the k-th is the least difficulty that a share of k / Z of the problems does not exceed.
    """
    count = difficulties.shape[0]
    places = np.array([-(-k * count // stages) - 1 for k in range(1, stages)], int)
    in_order = np.sort(difficulties) if isinstance(difficulties, np.ndarray) else jnp.sort(difficulties)
    return in_order[places]


def buckets_of(difficulties: Any, thresholds: Any) -> Any:
    """[...] int32: how many thresholds [Z - 1] lie below each difficulty [...], so that ties go to the easier bucket."""
    return (difficulties[..., None] > thresholds).sum(-1).astype(np.int32)


def next_stage(stage: Array, there: Array) -> Array:
    """The stage, or the first one after it that has problems; where there is none, the last before it.

    Args:
      stage: [] int32, from 0 to Z.
      there: [Z] bool: which stages have problems.

    Returns:
      [] int32; 0 where no stage has any.
    """
    number = jnp.arange(there.shape[0])
    later = there & (number >= stage)
    last = jnp.max(jnp.where(there & (number < stage), number, 0))
    return jnp.where(jnp.any(later), jnp.argmax(later), last).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class CurriculumPrompts(PromptSource):
    """Problems of one bucket of difficulty after the other, with a share of those that came before.

    Each prompt is a problem of the stage's own bucket, or, with probability `mix`, of any earlier one. A stage ends when the
    last groups of its own succeeded often enough, or after so many iterations; it never comes back. Stages without problems
    are left out. Where groups are drawn again (`--sampling-rounds`), only those that came into the batch are heard.
    """

    name: ClassVar[str] = "curriculum"
    poses_as_written: ClassVar[bool] = True

    order: Literal["easy-to-hard", "hard-to-easy", "uniform"] = "easy-to-hard"
    """Which bucket comes first; uniform poses all problems from the first iteration on."""
    stages: Count = 3
    """Z, how many buckets there are."""
    thresholds: tuple[float, ...] | None = None
    """Difficulties up to which the buckets reach, one fewer than stages; None for buckets of about the same size."""
    mix: Fraction = 0.2
    """Share of the prompts that come from earlier buckets, against forgetting."""
    success: Positive = 1.0
    """Reward from which on a response has succeeded."""
    theta: Weight = 0.7
    """A stage ends when the mean success of its last groups is above this; where it is above 1, with its iterations alone."""
    window: Count = 50
    """M, how many groups those are."""
    cap: Count = 100
    """Iterations after which a stage ends at the latest."""
    difficulty: Literal["task", "pass-rate"] = "task"
    """What is hard: what the task says, or what the first responses to each problem of a fixed set failed at."""
    problems: Count = 1024
    """C, problems among which those of an iteration are chosen."""
    fresh: bool = True
    """Whether these are new in every iteration; otherwise they are a fixed set, the same for all seeds."""
    kinds_stage: Count | None = None
    """The bucket, from 1, of problems of other kinds than the task's first (`TokenTask.kinds`); None for that of their
    difficulty."""

    def check(self, task: TokenTask[Any]) -> None:
        """Refuses tasks without difficulty, and settings that do not fit together.

        Raises:
          InvalidSettingError: why not.
        """
        by_rate, given = self.difficulty == "pass-rate", self.thresholds
        if by_rate and self.fresh:
            raise InvalidSettingError("A curriculum by pass-rate learns how hard a fixed set is: set fresh=false.")
        if by_rate and given is not None:
            raise InvalidSettingError("A curriculum by pass-rate finds its thresholds itself: leave them out.")
        if given is not None and (len(given) != self.stages - 1 or list(given) != sorted(given)):
            raise InvalidSettingError(
                f"A curriculum of {self.stages} stages has {self.stages - 1} thresholds in ascending order, got "
                f"{', '.join(f'{each:g}' for each in given) or 'none'}."
            )
        if self.kinds_stage is not None and self.kinds_stage > self.stages:
            raise InvalidSettingError(f"A curriculum of {self.stages} stages has no kinds_stage={self.kinds_stage}.")
        if not by_rate and type(task).difficulty is TokenTask.difficulty:
            raise InvalidSettingError(
                f"{task.name} does not say how hard its problems are: set difficulty=pass-rate fresh=false."
            )

    def init(self, key: Array, spec: Spec) -> CurriculumState:
        """The first stage."""
        nothing = jnp.zeros((), jnp.int32)
        found = jnp.zeros(self.problems) if self.difficulty == "pass-rate" else None
        ring = Ring.create(self.window, jnp.zeros(()))
        return CurriculumState(nothing, nothing, ring, jnp.zeros(self.stages), found, found)

    def draw(
        self, task: TokenTask[Any], state: CurriculumState, key: Array, count: int
    ) -> tuple[CurriculumState, Posed]:
        """Chooses problems of the stage, none of them twice where there are enough."""
        draw_key, mix_key, order_key = jax.random.split(key, 3)
        if self.fresh:
            prompts, _ = task.prompts(draw_key, self.problems)
            bucket = self._fresh_buckets(task, prompts)
        else:
            prompts = jnp.asarray(_fixed(task, self.problems).prompts)
            bucket = jnp.asarray(self._fixed_buckets(task, state))
        rank, stage = self._stage_of(bucket), next_stage(state.stage, self._there(task, state))
        own, before = _or(rank == stage, rank <= stage), rank < stage
        mixes = jnp.any(before)
        if state.tried is not None:  # each problem of the fixed set is first posed once
            own, mixes = _or(state.tried == 0, own), mixes & ~_surveying(state)
        earlier = jax.random.bernoulli(mix_key, self.mix, (count,)) & mixes
        order = jnp.argsort(jax.random.bits(order_key, (self.problems,)))
        place = jnp.where(earlier, _dealt(order, before, earlier), _dealt(order, own, ~earlier))
        posed = prompts[place]
        notes = {"bucket": bucket[place], "own": rank[place] == stage, "place": place}
        return dataclasses.replace(state, stage=stage), Posed(posed, posed != PAD_TOKEN, None, notes)

    def feedback(
        self,
        task: TokenTask[Any],
        state: CurriculumState,
        key: Array,
        batch: TokenBatch,
        own: Array,
        notes: PyTree,
        answer: Answer,
    ) -> tuple[CurriculumState, TokenBatch, Metrics]:
        """Hears how often each group succeeded, and goes on to the next stage where that is time."""
        heard = _hear(batch, own, self.success)
        surveying = jnp.zeros((), bool) if state.tried is None else _surveying(state)
        counts = heard.there & notes["own"] & ~surveying
        stage, levels = state.stage, _levels(state.levels, heard, notes["bucket"])
        state = _surveyed(state, heard, own & surveying, notes["place"])
        ring = state.ring.pushed(heard.success, counts, state.step)
        step = state.step + ~surveying
        state = self._moved(task, dataclasses.replace(state, ring=ring, step=step, levels=levels), surveying)
        metrics = {
            "prompts/stage": stage + 1.0,
            "prompts/own": jnp.sum(counts) / jnp.maximum(jnp.sum(heard.there), 1),
            "prompts/dead": jnp.sum(counts & heard.dead) / jnp.maximum(jnp.sum(counts), 1),
        }
        metrics |= {f"prompts/success_{number + 1}": levels[number] for number in range(self.stages)}
        return state, batch, metrics

    def _moved(self, task: TokenTask[Any], state: CurriculumState, surveying: Array) -> CurriculumState:
        """In the next stage, if this one is done and there is one."""
        ring = state.ring
        succeeds = jnp.all(ring.filled) & (jnp.mean(ring.entries) > self.theta)
        done = (succeeds | (state.step >= self.cap)) & ~surveying
        later = next_stage(state.stage + 1, self._there(task, state))
        moves = done & (later > state.stage)
        return dataclasses.replace(
            state,
            stage=jnp.where(moves, later, state.stage),
            step=jnp.where(moves, 0, state.step).astype(jnp.int32),
            ring=dataclasses.replace(ring, filled=ring.filled & ~moves),
        )

    # Of the fixed problems and the task's own difficulties all of this is NumPy's, and no part of a program.

    def _stage_of(self, bucket: Any) -> Any:
        """In which stage, from 0, buckets are the own one."""
        if self.order == "uniform":
            return bucket * 0
        return self.stages - 1 - bucket if self.order == "hard-to-easy" else bucket

    def _there(self, task: TokenTask[Any], state: CurriculumState) -> Array:
        """[Z] which stages have problems."""
        stage = self._stage_of(self._fixed_buckets(task, state))
        return jnp.asarray((stage[:, None] == np.arange(self.stages)).any(0))

    def _fixed_buckets(self, task: TokenTask[Any], state: CurriculumState) -> Any:
        """[C] the bucket of each of the fixed problems."""
        difficulties, kinds = self._difficulties(task, state)
        return self._bucket(difficulties, kinds, self._thresholds(task, state))

    def _fresh_buckets(self, task: TokenTask[Any], prompts: Array) -> Array:
        """[C] the bucket of each of other problems."""
        kinds = None if self.kinds_stage is None else task.kinds(prompts)
        found: Array = self._bucket(task.difficulties(prompts), kinds, self._thresholds(task, None))
        return found

    def _bucket(self, difficulties: Any, kinds: Any, thresholds: Any) -> Any:
        bucket = buckets_of(difficulties, thresholds)
        if self.kinds_stage is None:
            return bucket
        first = kinds == 0
        return bucket * first + (self.kinds_stage - 1) * ~first

    def _difficulties(self, task: TokenTask[Any], state: CurriculumState | None) -> tuple[Any, np.ndarray]:
        """[C] those of the fixed problems, and their kinds."""
        fixed = _fixed(task, self.problems)
        if state is None or state.tried is None or state.right is None:
            return fixed.difficulties, fixed.kinds
        return 1.0 - (state.right + 1.0) / (state.tried + 2.0), fixed.kinds

    def _thresholds(self, task: TokenTask[Any], state: CurriculumState | None) -> Any:
        """[Z - 1]; where further kinds have a bucket of their own, by the first kind alone."""
        if self.thresholds is not None:
            return np.asarray(self.thresholds, np.float32)
        difficulties, kinds = self._difficulties(task, state)
        alone = self.kinds_stage is not None and np.any(kinds == 0)
        return difficulty_thresholds(difficulties[kinds == 0] if alone else difficulties, self.stages)


class _Fixed(NamedTuple):
    """C problems that are the same in every run: numbers, and no part of a program."""

    prompts: np.ndarray
    difficulties: np.ndarray
    kinds: np.ndarray


@lru_cache(maxsize=32)
def _fixed(task: TokenTask[Any], count: int) -> _Fixed:
    def drawn() -> _Fixed:
        prompts = task.prompts(jax.random.key(_FIXED_SEED), count)[0]
        return _Fixed(*(np.asarray(each) for each in (prompts, task.difficulties(prompts), task.kinds(prompts))))

    # Asked for while a program is traced. What JAX traces is a thread's own, so that in another one this is computed at once
    # (`jax.ensure_compile_time_eval` does not reach into what the lowering of random keys calls, and fails there).
    with ThreadPoolExecutor(1) as another:
        return another.submit(drawn).result()


class _Heard(NamedTuple):
    """What came of B groups: [B] each.

    Attributes:
      there: bool: whether any response could be scored.
      right: responses that succeeded.
      number: responses that could be scored.
      dead: bool: whether all of their rewards are equal.
    """

    there: Array
    right: Array
    number: Array
    dead: Array

    @property
    def success(self) -> Array:
        """Share of the responses that succeeded."""
        return self.right / jnp.maximum(self.number, 1.0)


def _hear(batch: TokenBatch, own: Array, success: float) -> _Heard:
    count = own.shape[0]
    rows = count * batch.group_size
    rewards, scored = (each[:rows].reshape(count, -1) for each in (batch.outcomes, batch.scored))
    right = scored & (rewards >= success * (1.0 - _ROUNDING))
    dead = ~losses.differing_groups(rewards, scored)[:, 0]
    number = jnp.sum(scored, axis=-1)
    return _Heard(own & (number > 0), jnp.sum(right, axis=-1).astype(jnp.float32), number.astype(jnp.float32), dead)


def _levels(levels: Array, heard: _Heard, bucket: Array) -> Array:
    """[Z] the mean success of the groups of each bucket, or the level before where there are none."""
    of = (bucket[:, None] == jnp.arange(levels.shape[0])) & heard.there[:, None]
    number = jnp.sum(of, axis=0)
    mean = jnp.sum(jnp.where(of, heard.success[:, None], 0.0), axis=0) / jnp.maximum(number, 1)
    return jnp.where(number > 0, mean, levels)


def _surveying(state: CurriculumState) -> Array:
    """[] bool: whether some problem of the fixed set has never been posed."""
    return jnp.any(jnp.asarray(state.tried) == 0)


def _surveyed(state: CurriculumState, heard: _Heard, counts: Array, place: Array) -> CurriculumState:
    """With the first responses to problems of the fixed set; one whose responses have no reward counts as failed once."""
    if state.tried is None or state.right is None:
        return state
    place = jnp.where(counts & (state.tried[place] == 0), place, state.tried.shape[0])
    return dataclasses.replace(
        state,
        right=state.right.at[place].add(heard.right, mode="drop"),
        tried=state.tried.at[place].add(jnp.maximum(heard.number, 1.0), mode="drop"),
    )


def _or(wanted: Array, otherwise: Array) -> Array:
    """What is wanted [C], where any is."""
    return jnp.where(jnp.any(wanted), wanted, otherwise)


def _dealt(order: Array, allowed: Array, takes: Array) -> Array:
    """[B] int32: to each prompt that takes one, the next allowed problem; from the first one on again after the last.

    Args:
      order: [C] int32 a permutation.
      allowed: [C] bool; all are where none is.
      takes: [B] bool.
    """
    allowed = allowed | ~jnp.any(allowed)
    in_order = allowed[order]
    place = jnp.where(in_order, jnp.cumsum(in_order) - 1, order.shape[0])
    ranked = jnp.zeros_like(order).at[place].set(order, mode="drop")
    return ranked[(jnp.cumsum(takes) - 1) % jnp.sum(allowed)]
