"""Rollouts that branch: by the sheet's rule, within their budget, and with prefixes that are their parents'."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import ShapeError
from maxent_rl.networks.transformer import Transformer, TransformerConfig
from maxent_rl.tokens.branching import (
    Branching,
    Forks,
    Growth,
    branch_metrics,
    fork_probability,
    root_budget,
    turn_entropies,
    unbranched,
)
from maxent_rl.tokens.conversing import Conversations, converse, filled
from maxent_rl.tokens.sampling import Responses
from maxent_rl.tokens.tasks.look_up import LookUp

TASK = LookUp()
MODEL = Transformer(TransformerConfig(TASK.vocabulary_size, 16, 1, 2, 1, 8, 32))
SIZE, PROMPTS = 6, 5


@pytest.mark.slow
def test_budgets_and_chances_are_those_of_the_sheet():
    found = root_budget(16, jnp.array([0.30, 2.0]), jnp.array([0.50, 0.4]))
    np.testing.assert_array_equal(found, [8, 12])
    assert root_budget(12, 1.0, 1.0) == 7 and root_budget(4, 100.0, 0.0) == 4 and root_budget(4, 0.0, 100.0) == 1
    chances = fork_probability(jnp.array([0, 2, 5, 10, 11, 25]), 0.5)
    np.testing.assert_allclose(chances, [0.6, 0.544444, 0.433333, 0.1, 0.0, 0.0], atol=1e-6)
    assert fork_probability(0, 0.0, 0.0, 0.0) == 0.5 and np.all(fork_probability(jnp.arange(10, 30), 0.0) < 1e-6)


def test_forks_happen_as_often_as_they_should():
    forks = Forks(size=2, roots=1)
    chance = jnp.linspace(0.0, 1.0, 10_001)
    for rounds, change in ((0, 0.5), (5, 0.5), (3, -0.4)):
        share = np.mean(Growth.draws(forks, chance, jnp.asarray(change), jnp.asarray(rounds)) >= 0.5)
        assert share == pytest.approx(float(fork_probability(rounds, change)), abs=2e-4)


@pytest.mark.slow
def test_rooms_are_taken_in_order_and_rounds_are_counted():
    forks = Forks(size=4, roots=2, entropy_slope=0.0, round_penalty=0.0)
    growth = Growth.begin(forks, 8)
    np.testing.assert_array_equal(growth.free, [False, False, True, True] * 2)
    waits = jnp.array([True, True, False, False, False, False, False, False])
    sources, seen = set(), 0
    for number in range(40):
        grown, source = growth.fork(forks, waits, jax.random.key(number))
        np.testing.assert_array_equal(source[4:], np.arange(4, 8))  # nobody of that prompt was replied to
        sources.add(tuple(int(row) for row in source[:4]))
        created = int(np.sum(np.asarray(source[:4]) != np.arange(4)))
        assert int(grown.rounds[0]) == (created > 0) and int(grown.rounds[1]) == 0
        assert int(np.sum(growth.free)) - int(np.sum(grown.free)) == created
        seen += created
    assert sources == {(0, 1, 2, 3), (0, 1, 0, 3), (0, 1, 1, 3), (0, 1, 0, 1)} and 25 < seen < 55


def test_what_was_said_is_found_with_those_who_said_it():
    """Row 1 forks from 0 after the first place, and row 2 from 1 after the second."""
    sources = jnp.array([[0, 0, 2], [0, 1, 1], [0, 1, 2]])
    np.testing.assert_array_equal(unbranched(sources), [[0, 0, 0], [0, 1, 1], [0, 1, 2]])


@functools.cache
def grown(roots=2, slope=0.0, penalty=0.0):
    prompts, mask = (jnp.repeat(rows, SIZE, axis=0) for rows in TASK.prompts(jax.random.key(0), PROMPTS))
    params = MODEL.init(jax.random.key(0), prompts[:1], mask[:1])["params"]
    forks = Forks(size=SIZE, roots=roots, entropy_slope=slope, round_penalty=penalty)
    run = jax.jit(lambda key, forks: converse(MODEL, params, TASK, prompts, mask, key, forks=forks))
    return jax.device_get(run(jax.random.key(3), forks))


@pytest.mark.slow
def test_a_fork_has_its_parents_beginning_and_goes_its_own_way():
    found = grown()
    forked = np.flatnonzero(found.parent >= 0)
    assert len(forked) > 5
    ways = 0
    for row in forked:
        parent = found.parent[row]
        assert parent // SIZE == row // SIZE
        same = found.said.tokens[row] == found.said.tokens[parent]
        first = TASK.turn_length  # whoever forks has had a turn
        assert same[:first].all() and found.said.mask[row, :first].any()
        np.testing.assert_array_equal(found.said.logp[row, :first], found.said.logp[parent, :first])
        ways += not same.all()
    assert ways > len(forked) // 2
    assert not found.there[found.free].any() and np.all(found.there[~found.free, 0])


@pytest.mark.slow
def test_tokens_know_in_how_many_conversations_they_stand():
    found = grown()
    tokens, logp, copies = found.said.tokens, found.said.logp, found.copies
    for place in range(tokens.shape[1]):
        for first in range(0, len(tokens), SIZE):
            rows = slice(first, first + SIZE)
            alike = [
                np.sum(np.all((tokens[rows, : place + 1] == tokens[row, : place + 1]), axis=1))
                for row in range(first, first + SIZE)
            ]
            assert np.all(copies[rows, place] <= alike)  # others may have said the same by chance
    shared = (copies > 1) & found.said.mask
    assert shared[:, 0].sum() > 5
    for row, place in np.argwhere(shared):
        group = np.arange(len(tokens)) // SIZE == row // SIZE
        same = group & (copies[:, place] == copies[row, place]) & (logp[:, place] == logp[row, place])
        assert same.sum() >= copies[row, place] and np.all(tokens[same, place] == tokens[row, place])
    np.testing.assert_array_equal(grown(roots=SIZE).copies, 1)


def test_how_unsure_turns_are_by_hand():
    """In units of 2 nats: 0.5 and 2 in the first turn, 3 and 4 nats in two later ones; another has only a first turn."""
    entropy = jnp.array([[1.0, 7, 2, 1, 4], [0.5, 0.5, 7, 7, 7]])
    turns = jnp.array([[0, 0, 1, 1, 2], [0, 0, 0, 0, 0]])
    mask = jnp.array([[1, 0, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
    entropies = jax.jit(turn_entropies)
    first, later = entropies(entropy, turns, mask, 2.0)
    np.testing.assert_allclose(first, [0.5, 0.5])
    np.testing.assert_allclose(later, [1.75, 0.5])
    long = entropies(jnp.ones((1, 50)), jnp.arange(50)[None] // 25, jnp.ones((1, 50), bool), 1.0)
    np.testing.assert_allclose(jnp.concatenate(long), [20.0, 20.0])


def test_roots_are_a_share_or_follow_from_entropies():
    nobody = pytest.fail
    assert int(Branching(0.5).forks(12, nobody).roots) == 6 and int(Branching(0.3).forks(10, nobody).roots) == 3
    assert int(Branching(0.0).forks(12, nobody).roots) == 1 and int(Branching(1.0).forks(12, nobody).roots) == 12
    found = Branching(sensitivity=0.5).forks(16, lambda: (jnp.array([0.3, 2.0]), jnp.array([0.5, 0.4])))
    np.testing.assert_array_equal(found.roots, [8, 12])


@pytest.mark.slow
def test_branches_are_counted_by_where_they_began():
    """Two prompts of five: rows 1 and 2 come of 0, 3 of 2, and 4 begins; of the other four begin, and row 9 comes of 8."""
    parent = jnp.array([-1, 0, 0, 2, -1, -1, -1, -1, -1, 8])
    tokens = jnp.array([[1, 2], [1, 3], [1, 2], [1, 9], [1, 9], [5, 5], [6, 6], [7, 7], [8, 8], [8, 9]])
    mask = jnp.ones((10, 2), bool).at[3:5, 1].set(jnp.array([False, True]))
    measured = jax.jit(branch_metrics, static_argnums=3)
    found = measured(parent, tokens, mask, 5)
    assert found["rollout/branches"] == 2 and found["rollout/branches_on_three"] == 1
    assert found["rollout/distinct"] == (4 + 5) / 2
    spread = measured(jnp.array([-1, -1, -1, -1, 0, 1, 2, 3]), jnp.arange(8)[:, None], jnp.ones((8, 1), bool), 8)
    assert spread["rollout/branches_on_three"] == 0.75
    none = measured(jnp.full(4, -1), jnp.zeros((4, 1), int), jnp.ones((4, 1), bool), 2)
    assert none["rollout/branches_on_three"] == 0 and none["rollout/distinct"] == 1


def talk_of(value, free):
    """Conversations in which every number is the same."""
    numbers = jnp.full((4, 2), value)
    said = Responses(**{field.name: numbers for field in dataclasses.fields(Responses)})
    row, own = numbers[:, 0], jnp.full(4, -1)
    return Conversations(said, numbers, numbers, numbers, row, row, row, own, jnp.array(free), numbers, None)


def test_rooms_that_no_fork_has_taken_are_filled_and_no_others():
    fill = jax.jit(lambda found: filled(found, lambda free: talk_of(7, free)))
    some, none = fill(talk_of(3, [False, True, False, True])), fill(talk_of(3, [False] * 4))
    for field in ("there", "turns", "turn_rewards", "ended", "calls", "fault"):
        assert getattr(some, field).reshape(4, -1)[:, 0].tolist() == [3, 7, 3, 7]
        assert np.all(getattr(none, field) == 3)
    assert some.said.tokens[:, 1].tolist() == [3, 7, 3, 7] and not some.free.any()
    assert np.all(some.copies == 3) and np.all(some.parent == -1)


@pytest.mark.slow
def test_without_rooms_there_are_no_forks_and_conversations_are_what_they_were():
    found = grown(roots=SIZE)
    assert not found.free.any() and np.all(found.parent == -1)
    prompts, mask = (jnp.repeat(rows, SIZE, axis=0) for rows in TASK.prompts(jax.random.key(0), PROMPTS))
    params = MODEL.init(jax.random.key(0), prompts[:1], mask[:1])["params"]
    plain = jax.jit(lambda key: converse(MODEL, params, TASK, prompts, mask, key))(jax.random.key(3))
    np.testing.assert_array_equal(plain.said.tokens, found.said.tokens)
    with pytest.raises(ShapeError, match="30 rows are no whole prompts of 4"):
        converse(MODEL, params, TASK, prompts, mask, jax.random.key(0), forks=Forks(size=4))


@pytest.mark.slow
def test_a_penalty_spreads_forks_over_rounds():
    free, held = grown(), grown(penalty=0.5)
    assert np.sum(held.parent >= 0) < np.sum(free.parent >= 0)
