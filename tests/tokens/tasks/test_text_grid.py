"""A grid world told in text: moves, walls and goals against a reference in Python, and shortest ways against a search."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.tasks import END_TOKEN, TextGrid, make_task
from maxent_rl.tokens.tasks.text_grid import Walk, Way

TASK = TextGrid()
ROWS = 256
PROMPTS = np.asarray(TASK.prompts(jax.random.key(0), ROWS)[0])
STEPS = {"n": (0, -1), "e": (1, 0), "s": (0, 1), "w": (-1, 0)}


@jax.jit
@jax.vmap
def walls_of(prompt):
    """[size + 2, size + 2] by (x, y), with those around the grid."""
    x, y = jnp.meshgrid(*[jnp.arange(-1, TASK.size + 1)] * 2, indexing="ij")
    return TASK._walls_at(TASK.read(prompt).maze, jnp.stack([x, y], axis=-1))


WALLS = np.asarray(walls_of(PROMPTS))


def read(text):
    """(place, goal, what is around) of a prompt, as people read it."""
    return tuple(map(int, text[5:7])), tuple(map(int, text[8:10])), text[10:]


def around(walls, place):
    return "".join("#" if walls[place[0] + x + 1, place[1] + y + 1] else "." for x, y in STEPS.values())


def shortest(walls, place, goal):
    """By breadth-first search; None where there is no way."""
    known, waiting = {place: 0}, collections.deque([place])
    while waiting:
        here = waiting.popleft()
        for x, y in STEPS.values():
            there = here[0] + x, here[1] + y
            if not walls[there[0] + 1, there[1] + 1] and there not in known:
                known[there] = known[here] + 1
                waiting.append(there)
    return known.get(goal)


@jax.jit
@jax.vmap
def play(prompt, lines, lengths):
    """What is told, earned and ended by lines [K, S]."""

    def turn(state, given):
        heard = TASK.reply(state, *given)
        return heard.state, (heard.tokens, heard.reward, heard.ended)

    return jax.lax.scan(turn, TASK.begin(TASK.read(prompt), jax.random.key(0)), (lines, lengths))[1]


def test_every_move_is_that_of_the_reference():
    texts = np.random.default_rng(0).choice(["n", "e", "s", "w", ".", ""], (ROWS, 8), p=[0.23] * 4 + [0.05, 0.03])
    lines = np.array([[[*TASK.encode(text), END_TOKEN, 0][:2] for text in row] for row in texts], np.int32)
    lengths = np.array([[len(text) + 1 for text in row] for row in texts])
    told, rewards, ended = jax.device_get(play(PROMPTS, lines, lengths))
    arrivals, bumps = 0, 0
    for row in range(ROWS):
        place, goal, _ = read(TASK.decode(PROMPTS[row]))
        for turn, text in enumerate(texts[row]):
            if text in STEPS:
                front = place[0] + STEPS[text][0], place[1] + STEPS[text][1]
                blocked = WALLS[row, front[0] + 1, front[1] + 1]
                bumps, place = bumps + blocked, place if blocked else front
            assert TASK.decode(told[row, turn]) == f"{place[0]}{place[1]}{around(WALLS[row], place)}"
            assert ended[row, turn] == (place == goal)
            expected = 1 - 0.9 * (turn + 1) / 8 if place == goal else 0.0
            assert abs(rewards[row, turn] - expected) < 1e-6
            if place == goal:
                arrivals += 1
                break
    assert arrivals > 20 and bumps > 100


def test_only_problems_that_have_a_way_of_the_right_length_are_posed():
    lengths = []
    for row in range(ROWS):
        place, goal, seen = read(TASK.decode(PROMPTS[row]))
        lengths.append(shortest(WALLS[row], place, goal))
        assert seen == around(WALLS[row], place)
    np.testing.assert_array_equal(TASK.difficulties(PROMPTS), lengths)
    assert set(lengths) == set(range(1, TASK.farthest + 1))
    assert WALLS[:, 0].all() and WALLS[:, :, -1].all()
    inside = WALLS[:, 1:-1, 1:-1]  # fewer than drawn, as much of a maze is free where there are ways
    assert 0.1 < inside.mean() < 0.25
    again = jax.jit(jax.vmap(lambda prompt: TASK.write(TASK.read(prompt))))(PROMPTS)
    np.testing.assert_array_equal(again, PROMPTS)


@pytest.mark.slow
def test_the_best_lines_are_shortest_ways_and_some_demonstrations_stray():
    @jax.jit
    def spoken(prompts, key):
        def best(prompt):
            problem = TASK.read(prompt)
            return TASK.spoken(jax.random.key(0), problem, *TASK.lines(None, problem))

        return jax.vmap(best)(prompts), TASK.transcripts(key, prompts)

    best, some = jax.device_get(spoken(PROMPTS, jax.random.key(1)))
    moves = TASK.difficulties(PROMPTS)
    assert best.ended.all()
    np.testing.assert_allclose(best.turn_rewards.sum(axis=1), 1 - 0.9 * moves / 8, atol=1e-6)
    np.testing.assert_array_equal(best.mask.sum(axis=1), 2 * moves)
    returns = some.turn_rewards.sum(axis=1)
    shortest_ones = np.isclose(returns, best.turn_rewards.sum(axis=1), atol=1e-6)
    np.testing.assert_array_equal(returns > 0, some.ended)
    # A stray has its first move at random with a chance of 1/2, so some reach the goal late and some never.
    assert 0.3 < shortest_ones.mean() < 0.8 and 0.02 < (~some.ended).mean() < 0.5
    assert ((returns > 0) & ~shortest_ones).any()


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(InvalidSettingError, match="--most-turns 4 are too few for ways of --farthest 5 moves"):
        make_task("text-grid", most_turns=4)


def test_whoever_stands_at_the_same_place_is_in_the_same_state():
    def anchor(x, y, turn):
        way = Way(np.int32(0), np.array([x, y], np.int32), np.zeros(2, np.int32))
        return int(TASK.anchor(Walk(way, turn), np.uint32(17 * turn)))

    anchors = {anchor(x, y, turn) for x in range(TASK.size) for y in range(TASK.size) for turn in (0, 3)}
    assert len(anchors) == TASK.size**2
