"""Curricula: buckets, shares of stages, and stages that only go forward."""

import dataclasses
import re
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from echo_task import TASK

from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.prompts import CurriculumPrompts, MixturePrompts, buckets_of, difficulty_thresholds
from maxent_rl.tokens.prompts.curriculum import next_stage
from maxent_rl.tokens.tasks import TokenTask
from maxent_rl.tokens.tasks.writing import FIRST_CHARACTER

GROUP, BATCH, DRAWS = 4, 64, 8


class Number(NamedTuple):
    digits: jax.Array


@dataclasses.dataclass(frozen=True)
class Rated(TokenTask[Number]):
    """`417`: as hard as its first digit says, of two kinds by its last."""

    name: ClassVar[str] = "rated"
    characters: ClassVar[str] = "0123456789"
    prompt_length: ClassVar[int] = 3
    response_length: ClassVar[int] = 1

    def draw(self, key):
        return Number(jax.random.randint(key, (3,), 0, 10)), jnp.ones((), bool)

    def write(self, problem):
        return problem.digits + FIRST_CHARACTER

    def read(self, prompt):
        return Number(prompt - FIRST_CHARACTER)

    def identity(self, problem):
        return problem.digits

    def candidates(self, problem):
        return jnp.ones((1, 1), jnp.int32), jnp.ones(1, bool)

    def difficulty(self, problem):
        return problem.digits[0].astype(jnp.float32)

    def kind(self, problem):
        return (problem.digits[2] < 3).astype(jnp.int32)


RATED = Rated()
SPEC = TokenEnv(RATED).spec
SOURCE = CurriculumPrompts(mix=0.25, problems=512, thresholds=(2.0, 5.0), window=BATCH)  # one program for several tests


@partial(jax.jit, static_argnames=("source", "task"))
def drawn(source, state, key, task=RATED):
    return source.draw(task, state, key, BATCH)


@partial(jax.jit, static_argnames=("source", "task"))
def told(source, state, posed, rewards, task=RATED):
    """The state after the prompts' groups had these rewards [B, G], and the metrics."""
    rows = posed.repeated(GROUP)
    count = rows.prompts.shape[0]
    mask = jnp.ones((count, 3), bool)
    context = Prompted(rows.prompts, rows.prompt_mask, mask, rows.problems, rows.notes)
    batch = TokenBatch(jnp.zeros((count, 3)), mask, rewards.reshape(-1).astype(jnp.float32), GROUP, context=context)
    state, _, metrics = source.feedback(task, state, jax.random.key(0), batch, jnp.ones(BATCH, bool), posed.notes, None)
    return state, metrics


def at(source, stage):
    return dataclasses.replace(source.init(jax.random.key(0), SPEC), stage=jnp.asarray(stage, jnp.int32))


def rewards(share):
    """As large a share of right responses in every group."""
    return np.tile(np.arange(GROUP) < share * GROUP, (BATCH, 1))


def test_tertiles_of_the_sheet():
    lengths = np.array([5, 1, 2, 15, 3, 4, 6, 12, 8, 9], np.float32)
    for difficulties in (lengths, jnp.asarray(lengths)):
        thresholds = difficulty_thresholds(difficulties, 3)
        assert np.asarray(thresholds).tolist() == [4, 8]
        assert np.bincount(np.asarray(buckets_of(difficulties, thresholds))).tolist() == [4, 3, 3]
    assert difficulty_thresholds(lengths, 1).shape == (0,) and not np.any(buckets_of(lengths, np.zeros(0)))


def test_stages_without_problems_are_left_out():
    there = jnp.array([False, True, False, True, False])
    assert [int(next_stage(jnp.asarray(stage), there)) for stage in range(6)] == [1, 1, 3, 3, 3, 3]
    assert int(next_stage(jnp.asarray(2), jnp.zeros(3, bool))) == 0


@pytest.mark.slow
@pytest.mark.parametrize("order", ["easy-to-hard", "hard-to-easy"])
def test_a_stage_poses_its_own_and_a_share_of_earlier_ones_and_nothing_later(order):
    source = dataclasses.replace(SOURCE, order=order)
    number = DRAWS * BATCH
    for stage in range(3):
        rank = []
        for seed in range(DRAWS):
            _, posed = drawn(source, at(source, stage), jax.random.key(seed))
            bucket = np.asarray(buckets_of(RATED.difficulties(posed.prompts), np.array(source.thresholds)))
            np.testing.assert_array_equal(bucket, posed.notes["bucket"])
            rank.append(2 - bucket if order == "hard-to-easy" else bucket)
        rank = np.concatenate(rank)
        np.testing.assert_array_equal(np.asarray(posed.notes["own"]), rank[-BATCH:] == stage)
        own, share = np.mean(rank == stage), 0.75 if stage else 1.0
        assert rank.max() <= stage and abs(own - share) <= 4.5 * np.sqrt(share * (1 - share) / number)
    again = drawn(source, at(source, 2), jax.random.key(DRAWS - 1))[1]
    np.testing.assert_array_equal(posed.prompts, again.prompts)
    if order == "easy-to-hard":
        assert {0, 1} <= set(rank)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"order": "uniform"}, {"stages": 1}])
def test_without_stages_problems_are_those_of_the_task(settings):
    """As likely as among the task's own, and none of them twice."""
    source = CurriculumPrompts(problems=512, **settings)
    state = source.init(jax.random.key(0), SPEC)
    counts = np.zeros(10)
    for seed in range(6):
        state, posed = drawn(source, state, jax.random.key(seed))
        counts += np.bincount(np.asarray(RATED.difficulties(posed.prompts)).astype(int), minlength=10)
        state, metrics = told(source, state, posed, rewards(1.0))
        assert len(set(np.asarray(posed.notes["place"]).tolist())) == BATCH
    assert float(metrics["prompts/stage"]) == 1 and int(state.stage) == 0
    every = np.asarray(RATED.difficulties(RATED.prompts(jax.random.key(9), 4096)[0])).astype(int)
    share = np.bincount(every, minlength=10) / 4096
    expected = counts.sum() * share
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected * (1 - share)) + 1)


def played(source, shares, task=RATED):
    """Stages by iteration, where each group has so large a share of right responses."""
    state, stages, metrics = source.init(jax.random.key(0), SPEC), [], None
    for step, share in enumerate(shares):
        state, posed = drawn(source, state, jax.random.key(step), task)
        state, metrics = told(source, state, posed, rewards(share), task)
        stages.append(int(metrics["prompts/stage"]))
    return stages, state, metrics


def test_a_stage_ends_when_its_last_groups_succeed_and_never_comes_back():
    """A window of a batch of groups; in the second stage some are of the first, so that two batches fill it."""
    stages, _, metrics = played(SOURCE, [0.5, 0.75, 1.0, 1.0, 0.0, 0.25])
    assert stages == [1, 1, 2, 2, 3, 3]
    assert [float(metrics[f"prompts/success_{bucket}"]) for bucket in (1, 2, 3)] == [0.25, 0.25, 0.25]
    assert 0.5 < float(metrics["prompts/own"]) < 1 and float(metrics["prompts/dead"]) == 0


@pytest.mark.slow
def test_above_1_the_threshold_leaves_it_to_the_iterations():
    source = CurriculumPrompts(theta=1.5, window=4, cap=2, problems=256, thresholds=(4.0, 4.0))
    assert played(source, [1.0] * 6)[0] == [1, 1, 3, 3, 3, 3]  # nobody is in the second bucket


def test_groups_that_could_not_be_scored_are_not_heard():
    state, posed = drawn(SOURCE, SOURCE.init(jax.random.key(0), SPEC), jax.random.key(1))
    lost = np.where(np.arange(BATCH)[:, None] < BATCH // 2, np.nan, rewards(0.5))
    state, metrics = told(SOURCE, state, posed, lost)
    assert int(state.ring.total) == BATCH // 2 and float(metrics["prompts/success_1"]) == 0.5
    assert float(metrics["prompts/dead"]) == 0 and all(np.isfinite(value) for value in metrics.values())
    state, metrics = told(SOURCE, state, posed, np.full((BATCH, GROUP), np.nan))
    assert int(state.ring.total) == BATCH // 2 and float(metrics["prompts/success_1"]) == 0.5


def test_further_kinds_have_a_bucket_of_their_own():
    source = CurriculumPrompts(kinds_stage=2, problems=256, mix=0.0)
    kinds = [
        np.asarray(RATED.kinds(drawn(source, at(source, stage), jax.random.key(2))[1].prompts)) for stage in range(3)
    ]
    assert not kinds[0].any() and kinds[1].any() and not kinds[2].any()


@pytest.mark.slow
def test_what_is_hard_is_learned_from_the_first_responses_to_a_fixed_set():
    """First all of them are posed once; what failed then is what comes last."""
    source = CurriculumPrompts(difficulty="pass-rate", fresh=False, problems=150, stages=2, mix=0.0, window=500)
    state, seen = source.init(jax.random.key(0), SPEC), []
    for step in range(5):
        state, posed = drawn(source, state, jax.random.key(step))
        place = np.asarray(posed.notes["place"])
        seen.append(place)
        right = np.arange(GROUP)[None] < np.where(place < 75, 4, 1)[:, None]
        state, metrics = told(source, state, posed, right)
        assert float(metrics["prompts/stage"]) == 1 and int(state.step) == max(0, step - 2)
    assert sorted(set(np.concatenate(seen[:3]).tolist())) == list(range(150))
    assert all(np.max(place) < 75 for place in seen[3:])
    tried = np.asarray(state.tried)
    assert set(tried.tolist()) <= {GROUP, 2 * GROUP, 3 * GROUP} and tried.sum() == 3 * BATCH * GROUP
    np.testing.assert_array_equal(np.asarray(state.right) / tried, np.where(np.arange(150) < 75, 1.0, 0.25))


@pytest.mark.slow
def test_seeds_are_in_stages_of_their_own():
    """And each is what it is in other company."""
    source = CurriculumPrompts(window=8, cap=4, problems=256, theta=0.6)

    def run(key, share):
        def one(state, number):
            state, posed = source.draw(RATED, state, jax.random.fold_in(key, number), BATCH)
            state, metrics = told(source, state, posed, jnp.tile(jnp.arange(GROUP) < share * GROUP, (BATCH, 1)))
            return state, (posed.prompts, metrics["prompts/stage"])

        return jax.lax.scan(one, source.init(key, SPEC), jnp.arange(6))

    run = jax.jit(jax.vmap(run))
    among, others = (run(jax.vmap(jax.random.key)(jnp.array([3, seed])), jnp.array([0.0, 1.0])) for seed in (4, 5))
    assert among[1][1].tolist() == [[1, 1, 1, 1, 2, 2], [1, 2, 3, 3, 3, 3]]
    for one, other in zip(jax.tree.leaves(among), jax.tree.leaves(others), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize(
    ("settings", "task", "words"),
    [
        ({}, TASK, "echo does not say how hard its problems are: set difficulty=pass-rate fresh=false"),
        ({"difficulty": "pass-rate"}, RATED, "set fresh=false"),
        ({"difficulty": "pass-rate", "fresh": False, "thresholds": (1.0, 2.0)}, RATED, "finds its thresholds itself"),
        ({"thresholds": (1.0,)}, RATED, "of 3 stages has 2 thresholds in ascending order, got 1"),
        ({"thresholds": (2.0, 1.0)}, RATED, "in ascending order, got 2, 1"),
        ({"kinds_stage": 4}, RATED, "has no kinds_stage=4"),
    ],
)
def test_a_curriculum_that_cannot_be_is_refused(settings, task, words):
    source = CurriculumPrompts(**settings)
    with pytest.raises(InvalidSettingError, match=re.escape(words)):
        source.check(task)
    with pytest.raises(InvalidSettingError, match=re.escape(words)):
        MixturePrompts((source,), (1.0,)).check(task)
