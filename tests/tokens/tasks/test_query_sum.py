"""A sum of operands that are told on request: every reply against a reference in Python, queries counted, guesses in vain."""

import functools

import jax
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.tasks import END_TOKEN, QuerySum, make_task

TASK = QuerySum(operands=3)
ROWS = 64
TURNS = ["?", "?", "?", "!0", "!7", "!3", "", "!", "7", "?5", "??", ".", "!12", "?:?", "!4"]


@functools.cache
def prompts():
    return np.asarray(TASK.prompts(jax.random.key(0), ROWS)[0])


@functools.cache
def posed():
    """[(case, operands)] of the prompts, read as people would."""
    return [tuple(map(int, TASK.decode(prompt).rstrip("=").split(":"))) for prompt in prompts()]


def operands(case, count):
    """By the hash in Python's own numbers."""

    def one(index):
        mixed = sum((value + 1) * pow(0x9E3779B1, power, 2**32) for power, value in enumerate((case, index), 1)) % 2**32
        mixed = (mixed ^ (mixed >> 16)) * 0x85EBCA6B % 2**32
        mixed = (mixed ^ (mixed >> 13)) * 0xC2B2AE35 % 2**32
        return (mixed ^ (mixed >> 16)) % 10

    return [one(index) for index in range(count)]


def line(text):
    """[S] of what was said; a text that fills the room has no end."""
    tokens = [*TASK.encode(text), END_TOKEN][: TASK.turn_length]
    return np.pad(tokens, (0, TASK.turn_length - len(tokens))).astype(np.int32), len(tokens)


@jax.jit
@jax.vmap
def play(prompt, lines, lengths):
    """Replies to all lines [K, S], one after the other, also after the end."""

    def turn(state, given):
        heard = TASK.reply(state, *given)
        return heard.state, (heard.tokens[0], heard.reward, heard.ended, TASK.calls(*given))

    return jax.lax.scan(turn, TASK.begin(TASK.read(prompt), jax.random.key(0)), (lines, lengths))[1]


def test_every_reply_is_that_of_the_reference():
    random = np.random.default_rng(0)
    texts = random.choice(TURNS, (ROWS, 8))
    texts[:20, -1] = [f"!{sum(operands(*one)) % 10}" for one in posed()[:20]]
    lines, lengths = zip(*(zip(*map(line, row), strict=True) for row in texts), strict=True)
    told, rewards, ended, calls = jax.device_get(play(prompts(), np.array(lines), np.array(lengths)))
    right = 0
    for row, (case, count) in enumerate(posed()):
        hidden, asked = operands(case, count), 0
        for turn, text in enumerate(texts[row]):
            answers = len(text) == 2 and text[0] == "!" and text[1].isdigit()
            says = "."
            if text == "?" and asked < count:
                says, asked = str(hidden[asked]), asked + 1
            earned = answers and int(text[1]) == sum(hidden) % 10
            right += earned
            expected = TASK.encode(says)[0], float(earned), answers, text == "?"
            assert (told[row, turn], rewards[row, turn], ended[row, turn], calls[row, turn]) == expected, (row, turn)
    assert right >= 20


def test_problems_are_read_as_they_were_written_and_as_hard_as_their_operands_are_many():
    again = jax.jit(jax.vmap(lambda prompt: TASK.write(TASK.read(prompt))))(prompts())
    np.testing.assert_array_equal(again, prompts())
    counts = [count for _, count in posed()]
    np.testing.assert_array_equal(TASK.difficulties(prompts()), counts)
    assert set(counts) == {1, 2, 3}
    # Held out by the case alone, however many operands are asked for.
    forms = TASK.encode_prompts([f"{case:04d}:{count}=" for case in range(20) for count in (1, 2, 3)])
    held_out = np.resize(TASK.is_held_out(np.resize(forms, (ROWS, 7))), 60).reshape(20, 3)
    assert held_out.any() and not held_out.all() and np.all(held_out == held_out[:, :1])


@pytest.mark.slow
def test_the_best_lines_are_right_and_demonstrations_guess_as_often_as_they_should():
    @jax.jit
    def spoken(prompts, key):
        def best(prompt):
            problem = TASK.read(prompt)
            return TASK.spoken(jax.random.key(0), problem, *TASK.lines(None, problem))

        return jax.vmap(best)(prompts), TASK.transcripts(key, prompts)

    best, some = jax.device_get(spoken(prompts(), jax.random.key(1)))
    assert best.ended.all() and np.all(best.turn_rewards.sum(axis=1) == 1)
    texts = [TASK.decode(best.tokens[0][best.mask[0] & (best.turns[0] == turn)]) for turn in range(TASK.max_turns)]
    case, count = posed()[0]
    answer = f"!{sum(operands(case, count)) % 10}"
    assert texts[: count + 1] == ["?"] * count + [answer] and not any(texts[count + 1 :])
    # 0.3 are right, and 0.7 guess with a chance of 0.1: five deviations of 64 draws.
    assert some.ended.all() and abs(some.turn_rewards.sum(axis=1).mean() - 0.37) < 5 * np.sqrt(0.37 * 0.63 / ROWS)


def test_sizes_out_of_their_bounds_are_refused():
    with pytest.raises(InvalidSettingError, match="--modulus must be at least 2 and at most 10, got 11"):
        make_task("query-sum", modulus=11)
