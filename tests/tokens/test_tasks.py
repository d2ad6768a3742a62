"""Token tasks: checkers against an independent reference, right answers, held-out problems, text and tokens."""

from __future__ import annotations

import ast
import collections
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens.tasks import (
    END_TOKEN,
    PAD_TOKEN,
    TASKS,
    CopyReverse,
    Countdown,
    ModularAddition,
    count_distinct,
    make_task,
    response_mask,
)

ALL = [ModularAddition(), CopyReverse(), Countdown(), Countdown(operands=4), Countdown(operands=4, largest=99)]
SMALLEST = [ModularAddition(10), CopyReverse(2, 4), Countdown(3, 5)]
every_task = pytest.mark.parametrize("task", ALL, ids=str)


# One size of batch for all tests, so that each task is compiled once.
COUNT = 1000


@functools.lru_cache
def posed(task, held_out=False):
    """Prompts [COUNT, P], the same for all tests."""
    return np.asarray(task.prompts(jax.random.key(0), COUNT, held_out)[0])


@functools.lru_cache
def answered(task):
    """Right answers [COUNT, T] to `posed`, with their mask."""
    responses, mask = task.demonstrations(jax.random.key(1), posed(task))
    return np.asarray(responses), np.asarray(mask)


def in_batches(function, *arrays):
    """Results of a function of batches for any number of rows."""
    count = len(arrays[0])
    padded = [np.resize(array, (-(-count // COUNT) * COUNT, *array.shape[1:])) for array in arrays]
    batches = [
        function(*(array[start : start + COUNT] for array in padded)) for start in range(0, len(padded[0]), COUNT)
    ]
    return np.concatenate(batches)[:count]


def check(task, prompts, tokens):
    return in_batches(task.reward, prompts, tokens, np.asarray(response_mask(tokens)))


def rewards(task, prompts, responses):
    """Rewards of response texts to prompt texts, one for each or all for one."""
    tokens = task.encode_responses(responses)
    prompts = np.broadcast_to(task.encode_prompts(prompts), (len(tokens), task.prompt_length))
    return check(task, prompts, tokens).tolist()


def held_out(task, prompts):
    return in_batches(task.is_held_out, task.encode_prompts(prompts))


def texts(task, tokens):
    return [task.decode(row) for row in np.asarray(tokens)]


# The reference: Python's own parser, with what the task forbids forbidden in the tree.


def value(node, operands):
    """Value of an expression that takes what it uses out of `operands`; None where the task forbids it."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
        left, right = value(node.left, operands), value(node.right, operands)
        if left is None or right is None:
            return None
        return {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[type(node.op)]
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and operands[node.value] > 0:
        operands[node.value] -= 1
        return node.value
    return None


def is_right(prompt, response):
    given, _, target = prompt.partition(">")
    if " " in response or ">" in response:
        return False
    try:
        tree = ast.parse(response, mode="eval")
    except SyntaxError:  # operators in a row, none or one at an end; 07
        return False
    return value(tree.body, collections.Counter(map(int, given.split()))) == int(target)


def mutate(random, task, text):
    """A response that is a few keystrokes from `text`, and fits."""
    characters = list(text)
    for _ in range(random.integers(1, 4)):
        kind, place = random.integers(4), random.integers(len(characters) + 1)
        near = task.characters[random.integers(len(task.characters))]
        if kind == 0:
            characters.insert(place, near)
        elif kind == 1 and place < len(characters):
            characters[place] = near
        elif kind == 2 and place < len(characters):
            del characters[place]
        elif kind == 3 and len(characters) > 1:
            first, second = random.choice(len(characters), 2, replace=False)
            characters[first], characters[second] = characters[second], characters[first]
    return "".join(characters)[: task.response_length - 1]


def a_random_expression(random, prompt):
    """All operands of a prompt in some order, with operators between them."""
    first, *others = random.permutation(re.findall(r"\d+", prompt)[:-1])
    return first + "".join(random.choice(list("+-*")) + number for number in others)


@pytest.mark.slow
@pytest.mark.parametrize("task", ALL[2:], ids=str)
def test_countdown_agrees_with_pythons_own_evaluation(task):
    random, asked, right = np.random.default_rng(0), texts(task, posed(task)), texts(task, answered(task)[0])
    expression = [a_random_expression(random, prompt) for prompt in asked]
    mutated = [mutate(random, task, text) for text in right]
    noise = ["".join(random.choice(list(task.characters), random.integers(task.response_length))) for _ in asked]
    for responses, least, most in ((right, 1, 1), (expression, 0.01, 0.4), (mutated, 0.03, 0.5), (noise, 0, 0.01)):
        expected = [is_right(*each) for each in zip(asked, responses, strict=True)]
        assert rewards(task, asked, responses) == expected
        assert least <= np.mean(expected) <= most


@pytest.mark.slow
def test_every_short_string_is_judged_as_python_judges_it():
    """All strings of up to five of these characters, which hold every kind of fault."""
    task, prompt = Countdown(), "2 3 2>8"
    every = ["".join(text) for size in range(6) for text in itertools.product("0238+-*", repeat=size)]
    judged = rewards(task, [prompt], every)
    assert judged == [is_right(prompt, text) for text in every]
    right = {text for text, reward in zip(every, judged, strict=True) if reward}
    assert right == {"2*3+2", "2+2*3", "2+3*2", "3*2+2"}
    responses, is_answer = task.answers(task.encode_prompts([prompt]))
    assert sorted(texts(task, responses[is_answer])) == sorted(right)


@pytest.mark.parametrize(
    ("prompt", "response", "right"),
    [
        ("3 5 7>22", "3*5+7", True),
        ("3 5 7>22", "7+5*3", True),
        ("3 5 7>8", "3+5", True),  # not all need be used
        ("3 5 7>36", "3+5*7", False),  # 38: precedence
        ("3 5 7>0", "7-3-5", False),  # -1: from the left
        ("3 5 7>5", "7-5+3", True),  # 5, and not 7 - (5 + 3)
        ("3 5 7>10", "5+5", False),  # used twice
        ("5 5 7>10", "5+5", True),  # given twice
        ("3 5 7>9", "4+5", False),  # not given
        ("3 5 7>8", "3++5", False),
        ("3 5 7>2", "-3+5", False),
        ("3 5 7>8", "3+5+", False),
        ("3 5 7>8", "03+5", False),
        ("3 5 7>8", "3+05", False),
        ("3 5 7>8", "3 +5", False),
        ("3 5 7>35", "35", False),  # two numbers written as one
        ("3 5 7>8", "", False),
    ],
)
def test_countdown_by_hand(prompt, response, right):
    assert rewards(Countdown(), [prompt], [response]) == [right]


def test_a_number_too_large_for_a_machine_word_is_no_operand():
    task = Countdown(operands=4, largest=99)
    for wrapped in ("4294967303", "42949672967", "18446744073"):
        assert rewards(task, ["7 13 20 4>7"], [wrapped]) == [0]


@pytest.mark.parametrize(
    ("task", "prompt", "right", "wrong"),
    [
        (ModularAddition(), "37+85=", "25", ["24", "52", "2", "", "+2"]),
        (ModularAddition(), "3+4=", "7", ["07", "7=", "8"]),
        (ModularAddition(), "96+1=", "0", ["97", "00"]),
        (ModularAddition(101), "100+9=", "8", ["08", "109"]),
        (CopyReverse(), "abca>", "abca", ["acba", "abc", "abcaa", "abca>"]),
        (CopyReverse(), "abca<", "acba", ["abca", "acb"]),
        (CopyReverse(), "hgfedcba<", "abcdefgh", ["hgfedcba"]),
        (CopyReverse(), "c<", "c", ["", "<", "cc"]),
    ],
)
def test_tasks_of_one_right_answer_by_hand(task, prompt, right, wrong):
    assert rewards(task, [prompt], [right]) == [1]
    assert rewards(task, [prompt], wrong) == [0] * len(wrong)


@pytest.mark.slow
@every_task
def test_demonstrations_are_right_and_random_responses_are_not(task):
    prompts, (responses, mask) = posed(task), answered(task)
    assert responses.shape == mask.shape == (COUNT, task.response_length)
    assert (responses.dtype, mask.dtype) == (np.int32, bool)
    np.testing.assert_array_equal(mask, response_mask(responses))
    np.testing.assert_array_equal(responses[~mask], PAD_TOKEN)
    np.testing.assert_array_equal(task.reward(prompts, responses, mask), 1.0)
    noise = np.random.default_rng(0).integers(task.vocabulary_size, size=responses.shape).astype(np.int32)
    assert check(task, prompts, noise).mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("task", ALL[:3], ids=str)
def test_a_right_answer_is_right_only_with_its_end_and_nothing_else(task):
    prompts, (responses, mask) = posed(task), answered(task)
    check = functools.partial(task.reward, prompts)
    outside = np.where(mask, responses, 5)
    np.testing.assert_array_equal(check(outside, mask), 1.0)
    np.testing.assert_array_equal(check(outside, mask.astype(np.float32)), 1.0)
    np.testing.assert_array_equal(check(responses, mask & (responses != END_TOKEN)), 0.0)
    np.testing.assert_array_equal(check(np.where(responses == END_TOKEN, PAD_TOKEN, responses), mask), 0.0)
    hole = mask.copy()
    hole[:, 0] = False
    np.testing.assert_array_equal(check(responses, hole), 0.0)
    # Responses may be longer than any right answer, and shorter.
    tokens, shown = np.pad(responses, ((0, 0), (0, 1))), np.pad(mask, ((0, 0), (0, 1)))
    np.testing.assert_array_equal(check(tokens, shown), 1.0)
    for after in (3, END_TOKEN):
        tokens[:, -1], shown[:, -1] = after, True
        np.testing.assert_array_equal(check(tokens, shown), 0.0)
    late = np.pad(responses, ((0, 0), (1, 0))), np.pad(mask, ((0, 0), (1, 0)), constant_values=True)
    np.testing.assert_array_equal(check(*late), 0.0)
    np.testing.assert_array_equal(check(responses[:, :1], mask[:, :1]), 0.0)


def test_demonstrations_take_every_right_answer_as_often():
    task, prompt = Countdown(), "2 3 2>8"
    prompts = np.repeat(task.encode_prompts([prompt]), COUNT, axis=0)
    drawn = collections.Counter(texts(task, task.demonstrations(jax.random.key(0), prompts)[0]))
    assert set(drawn) == {"2*3+2", "2+2*3", "2+3*2", "3*2+2"}
    assert all(abs(count - COUNT / 4) < 60 for count in drawn.values())


@pytest.mark.slow
def test_a_prompt_without_a_right_answer_has_an_empty_demonstration():
    task = Countdown()
    prompts = task.encode_prompts(["1 1 1>99", "1 1 1>2"])
    responses, mask = task.demonstrations(jax.random.key(0), prompts)
    assert not mask[0].any() and not responses[0].any()
    assert task.reward(prompts, responses, mask).tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("task", [*ALL, *SMALLEST], ids=str)
def test_held_out_prompts_never_coincide_with_training_prompts(task):
    training, others = posed(task), posed(task, held_out=True)
    assert not set(texts(task, training)) & set(texts(task, others))
    assert not task.is_held_out(training).any() and task.is_held_out(others).all()


def test_a_problem_is_held_out_in_every_form():
    task = Countdown()
    for operands in [(1, 2, 3), (4, 4, 9), (2, 7, 8)]:
        forms = [f"{' '.join(map(str, order))}>17" for order in itertools.permutations(operands)]
        assert len(set(held_out(task, forms).tolist())) == 1
    task, words = CopyReverse(), ("ab", "b", "hagc", "abcdefgh")
    np.testing.assert_array_equal(*(held_out(task, [word + marker for word in words]) for marker in "><"))
    pairs = list(itertools.product(range(97), repeat=2))
    sums = held_out(ModularAddition(), [f"{left}+{right}=" for left, right in pairs]).reshape(97, 97)
    np.testing.assert_array_equal(sums, sums.T)
    # One in eight, spread over the table, and the same on every machine and in every version.
    assert sums.sum() == 1213 and abs(sums.mean() - 1 / 8) < 0.01
    assert sums.any(axis=0).all() and not sums.all(axis=0).any()


@pytest.mark.slow
@every_task
def test_prompts_are_padded_on_the_left_and_follow_from_the_key(task):
    tokens, mask = task.prompts(jax.random.key(0), COUNT)
    assert tokens.shape == mask.shape == (COUNT, task.prompt_length)
    assert (tokens.dtype, mask.dtype) == (jnp.int32, bool)
    np.testing.assert_array_equal(mask, tokens != PAD_TOKEN)
    assert (np.diff(np.asarray(mask).astype(int), axis=1) >= 0).all() and mask.all(axis=1).any()
    np.testing.assert_array_equal(tokens, posed(task))
    assert (tokens != task.prompts(jax.random.key(1), COUNT)[0]).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(task.encode_prompts(texts(task, tokens)), tokens)


@pytest.mark.slow
@pytest.mark.parametrize("task", ALL[:3], ids=str)
def test_tasks_run_within_jit_and_vmap(task):
    def score(key):
        prompts, _ = task.prompts(key, 8)
        return task.reward(prompts, *task.demonstrations(key, prompts))

    np.testing.assert_array_equal(jax.jit(jax.vmap(score))(jax.random.split(jax.random.key(0), 3)), np.ones((3, 8)))
    assert hash(task) == hash(type(task)(**vars(task)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "median", "tenth", "ninetieth"), [(Countdown(), 4, 2, 8), (Countdown(operands=4), 14, 6, 32)], ids=str
)
def test_most_countdown_problems_have_several_right_answers(task, median, tenth, ninetieth):
    """What the docstring of the task reports."""
    prompts = posed(task)
    counts = np.asarray(task.answers(prompts)[1]).sum(axis=1)
    assert counts.min() >= 1
    np.testing.assert_allclose(np.percentile(counts, [10, 50, 90]), [tenth, median, ninetieth], atol=1)
    given = [re.findall(r"\d+", text) for text in texts(task, prompts)]
    targets = np.array([int(numbers[-1]) for numbers in given])
    assert targets.min() == 0 and targets.max() < 100 and len(set(targets.tolist())) > 75
    assert not any(numbers[-1] in numbers[:-1] for numbers in given)


def test_copied_strings_have_every_length():
    words = [text[:-1] for text in texts(CopyReverse(), posed(CopyReverse()))]
    lengths = np.bincount([len(word) for word in words])
    assert lengths[0] == 0 and (np.abs(lengths[1:] - COUNT / 8) < 45).all()
    assert set("".join(words)) == set("abcdefgh")


@every_task
def test_text_becomes_tokens_and_text_again(task):
    assert task.vocabulary_size == 2 + len(task.characters) and len(set(task.characters)) == len(task.characters)
    tokens = task.encode(task.characters)
    np.testing.assert_array_equal(tokens, np.arange(2, task.vocabulary_size))
    assert task.decode(tokens) == task.characters
    assert task.encode_prompts([]).shape == (0, task.prompt_length)
    assert task.encode_responses([""]).tolist() == [[END_TOKEN] + [PAD_TOKEN] * (task.response_length - 1)]
    assert task.decode([0, 0, *tokens[:3], 1, *tokens[:2]]) == task.characters[:3]
    with pytest.raises(InvalidSettingError, match=f"{task.name} has no character '%'; its characters are"):
        task.encode("%")
    with pytest.raises(InvalidSettingError, match=f"tokens from 0 to {task.vocabulary_size - 1}, got 99"):
        task.decode([99])
    with pytest.raises(InvalidSettingError, match=f"too long for a prompt of {task.name}"):
        task.encode_prompts([task.characters[0] * (task.prompt_length + 1)])
    with pytest.raises(InvalidSettingError, match=f"which has {task.response_length} tokens"):
        task.encode_responses([task.characters[0] * task.response_length])


def test_masks_end_with_the_first_end_token():
    responses = jnp.array([[5, 1, 1, 4], [1, 0, 0, 0], [3, 0, 4, 5]])
    np.testing.assert_array_equal(response_mask(responses), [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])


def test_distinct_right_answers_are_counted_within_groups():
    responses = jnp.array([[5, 1, 9], [5, 1, 8], [6, 1, 0], [7, 1, 0], [5, 1, 0], [5, 6, 1], [5, 1, 0], [4, 4, 4]])
    rewarded = jnp.array([1, 1, 1, 0, 1, 1, 0, 0])
    counted = jax.jit(count_distinct, static_argnums=3)(responses, response_mask(responses), rewarded, 4)
    assert counted.tolist() == [2, 2] and counted.dtype == jnp.int32
    assert count_distinct(responses, response_mask(responses), jnp.ones(8), 8).tolist() == [5]
    assert count_distinct(responses, response_mask(responses), jnp.zeros(8), 1).tolist() == [0] * 8
    with pytest.raises(InvalidSettingError, match="8 responses cannot be divided into groups of 3"):
        count_distinct(responses, response_mask(responses), rewarded, 3)


def test_tasks_are_made_by_name():
    assert {name: make_task(name).name for name in TASKS} == {name: name for name in TASKS}
    assert make_task("countdown", operands=4) == Countdown(operands=4)
    with pytest.raises(UnknownNameError, match=r"Unknown task 'countdwn'. Did you mean 'countdown'"):
        make_task("countdwn")
    with pytest.raises(UnknownNameError, match=r"Unknown size of countdown 'operand'. Did you mean 'operands'"):
        make_task("countdown", operand=4)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("countdown", {"operands": 5}, "--operands must be at least 3 and at most 4, got 5"),
        ("countdown", {"largest": 100}, "--largest must be at least 5 and at most 99, got 100"),
        ("modular-addition", {"modulus": 2}, "--modulus must be at least 10"),
        ("modular-addition", {"modulus": 9.5}, "--modulus must be a whole number"),
        ("copy-reverse", {"letters": 27}, "--letters must be at least 2 and at most 26"),
        ("copy-reverse", {"longest": 1}, "--longest must be at least 4"),
    ],
)
def test_impossible_sizes_are_refused(name, sizes, words):
    with pytest.raises(InvalidSettingError, match=words):
        make_task(name, **sizes)
