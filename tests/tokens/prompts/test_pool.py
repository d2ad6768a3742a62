"""Rings and pools: what comes first goes first, what is too old goes, and what is posed again is what taught something."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from echo_task import SPEC, TASK

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.prompts import MixturePrompts, PoolPrompts, Ring, SynthesisPrompts, TaskPrompts, TemplatePrompts

GROUP = 4


@jax.jit
def pushed(ring, values, valid, step):
    return ring.pushed(values, valid, step)


def held(ring):
    """What it holds, the oldest first."""
    places, there = ring.oldest(ring.capacity)
    return np.asarray(ring.at(places))[np.asarray(there)].tolist()


@pytest.mark.slow
def test_a_ring_keeps_the_last_that_came_in_their_order():
    """Against a list, over random pushes."""
    draw, listed = np.random.default_rng(0), []
    ring = Ring.create(5, jax.ShapeDtypeStruct((), jnp.int32))
    for step in range(40):
        values, valid = draw.integers(0, 1000, 7), draw.random(7) < 0.3
        ring = pushed(ring, values, valid, step)
        listed = [*listed, *((value, step) for value, is_valid in zip(values, valid, strict=True) if is_valid)][-5:]
        ring = ring.without_old(jnp.asarray(step), 3)
        listed = [each for each in listed if step - each[1] <= 3]
        assert held(ring) == [value for value, _ in listed]
        if step % 4 == 0:
            places, there = ring.oldest(2)
            ring, listed = ring.without(places, there), listed[2:]
    assert int(ring.total) > 40


def test_more_than_a_ring_holds():
    ring = pushed(Ring.create(3, jax.ShapeDtypeStruct((), jnp.int32)), np.arange(7), np.ones(7, bool), 0)
    assert held(ring) == [4, 5, 6]
    places, there = ring.oldest(7)
    assert places.shape == (7,) and np.asarray(there).tolist() == [True] * 3 + [False] * 4


def test_an_empty_ring_gives_nothing():
    ring = Ring.create(3, jax.ShapeDtypeStruct((), jnp.int32))
    assert not np.asarray(ring.sampled(jax.random.key(0), 2)[1]).any() and held(ring) == []


def told(source, state, posed, rewards):
    """The state after each prompt's group was rewarded with `rewards` [B, G]."""
    rows = posed.repeated(GROUP)
    count = rows.prompts.shape[0]
    context = Prompted(rows.prompts, rows.prompt_mask, jnp.ones((count, 3), bool), rows.problems, rows.notes)
    rewards = jnp.asarray(rewards, jnp.float32).reshape(-1)
    tokens = jnp.ones((count, 3), jnp.int32)
    batch = TokenBatch(
        jnp.zeros((count, 3)), jnp.ones((count, 3), bool), rewards, GROUP, tokens=tokens, context=context
    )
    own = jnp.ones(count // GROUP, bool)
    state, _, metrics = source.feedback(TASK, state, jax.random.key(9), batch, own, posed.notes, None)
    return state, metrics


MIXED, SAME = [1, 0, 0, 1], [1, 1, 1, 1]


@pytest.mark.slow
def test_problems_that_divide_come_back_and_the_others_do_not():
    source = PoolPrompts(capacity=6, share=0.5)
    state, first = source.draw(TASK, source.init(jax.random.key(0), SPEC), jax.random.key(1), 4)
    np.testing.assert_array_equal(first.prompts, TASK.prompts(jax.random.key(1), 4)[0])  # an empty pool: the task's
    state, _ = told(source, state, first, [SAME, MIXED, SAME, MIXED])
    state, second = source.draw(TASK, state, jax.random.key(2), 4)
    np.testing.assert_array_equal(second.prompts[:2], first.prompts[jnp.array([1, 3])])
    np.testing.assert_array_equal(second.prompts[2:], TASK.prompts(jax.random.key(2), 4)[0][2:])
    assert np.asarray(second.notes["age"]).tolist() == [1, 1, -1, -1]
    state, metrics = told(source, state, second, [SAME, MIXED, SAME, SAME])
    assert float(metrics["prompts/again"]) == 0.5 and float(metrics["prompts/age"]) == 1
    state, third = source.draw(TASK, state, jax.random.key(3), 4)
    assert np.asarray(third.notes["age"]).tolist() == [1, -1, -1, -1]  # the other one was posed, and divides no more
    np.testing.assert_array_equal(third.prompts[0], first.prompts[3])


@pytest.mark.slow
def test_what_is_too_old_is_not_posed():
    source = PoolPrompts(capacity=6, share=0.25, staleness=1)
    state, posed = source.draw(TASK, source.init(jax.random.key(0), SPEC), jax.random.key(1), 4)
    state, _ = told(source, state, posed, [MIXED] * 4)
    ages = []
    for step in range(3):
        state, posed = source.draw(TASK, state, jax.random.key(step), 4)
        ages.append(np.asarray(posed.notes["age"])[0])
        state, _ = told(source, state, posed, [SAME] * 4)
    assert ages == [1, -1, -1]


@pytest.mark.slow
def test_a_fixed_set_stays_as_it_was():
    source = PoolPrompts(capacity=3, share=1.0, keep="none", filled=True)
    state, seen = source.init(jax.random.key(0), SPEC), set()
    for step in range(6):
        state, posed = source.draw(TASK, state, jax.random.key(step), 4)
        seen |= {tuple(row) for row in np.asarray(posed.prompts)}
        state, _ = told(source, state, posed, [MIXED] * 4)
    held = {tuple(row) for row in np.asarray(state.ring.entries)}
    assert seen <= held and len(held) <= 3


@pytest.mark.slow
def test_a_mixture_poses_shares_and_tells_each_source_of_its_own():
    pool = PoolPrompts(capacity=6, share=1.0)
    source = MixturePrompts(sources=(TaskPrompts(), pool), shares=(1.0, 3.0))
    assert source.counts(4) == (1, 3) and MixturePrompts((TaskPrompts(), pool), (1.0, 1.0)).counts(5) == (3, 2)
    state, posed = source.draw(TASK, source.init(jax.random.key(0), SPEC), jax.random.key(1), 4)
    assert np.asarray(posed.notes["source"]).tolist() == [0, 1, 1, 1]
    state, _ = told(source, state, posed, [MIXED, MIXED, SAME, SAME])
    assert state[0] is None and int(state[1].ring.total) == 1
    np.testing.assert_array_equal(state[1].ring.entries[0], posed.problems[1])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (PoolPrompts(keep="none"), "A pool that keeps none and does not begin filled stays empty"),
        (PoolPrompts(keep="none", filled=True, staleness=3), "is empty for good after its staleness"),
        (MixturePrompts((TaskPrompts(), PoolPrompts()), (1.0,)), "got 2 sources and 1 shares"),
        (MixturePrompts((TaskPrompts(),), (0.0,)), "one is above 0"),
        (TemplatePrompts(over=PoolPrompts(keep="none")), "stays empty"),
    ],
)
def test_a_source_that_has_no_prompts_is_refused(source, words):
    with pytest.raises(InvalidSettingError, match=re.escape(words)):
        source.check(TASK)


def test_a_pool_needs_room():
    with pytest.raises(InvalidSettingError, match="--capacity must be"):
        PoolPrompts(capacity=0)
    with pytest.raises(InvalidSettingError, match="--share must be"):
        dataclasses.replace(SynthesisPrompts(), share=1.5)
