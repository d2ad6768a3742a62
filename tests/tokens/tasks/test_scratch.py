"""Sums with room to think: what counts as an answer, what demonstrations look like, and how hard problems are."""

import re

import jax
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.tasks import END_TOKEN, Scratch, make_task, response_mask

TASK = Scratch()
COUNT = 256
PROMPTS = np.asarray(TASK.prompts(jax.random.key(0), COUNT)[0])


def judged(prompt, texts):
    """(rewards, answers) of responses to one prompt."""
    prompts = TASK.encode_prompts([prompt] * COUNT)
    responses = np.resize(TASK.encode_responses(texts), (COUNT, TASK.response_length))
    mask = np.asarray(response_mask(responses))
    reward, answer = TASK.reward(prompts, responses, mask), TASK.parsed(prompts, responses, mask)
    return np.asarray(reward)[: len(texts)], np.asarray(answer)[: len(texts)]


def test_what_is_right_by_hand():
    texts = ["#10", "8,10#10", "+=,9#10", "#010", "8#11", "10", "#", "#10#10", "#1,0", "8,10#10,", "123456#00000010"]
    answers = [10, 10, 10, 10, 11, -1, -1, -1, -1, -1, 10]
    reward, found = judged("3+5+2=", texts)
    np.testing.assert_array_equal(found, answers)
    np.testing.assert_array_equal(reward, np.array(answers) == 10)


def test_every_short_text_is_judged_as_a_pattern_judges_it():
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("19+,#"), draw.integers(0, 7))) for _ in range(COUNT)]
    _, found = judged("9+9+1=", texts)
    matches = [re.fullmatch(r"[^#]*#(\d+)", text) for text in texts]
    np.testing.assert_array_equal(found, [int(match[1]) if match else -1 for match in matches])
    assert sum(match is not None for match in matches) > 10


def test_a_response_that_does_not_end_has_no_answer():
    responses = np.where(TASK.encode_responses(["8,10#10"]) == END_TOKEN, 2, TASK.encode_responses(["8,10#10"]))
    mask = np.ones(responses.shape, bool)
    assert TASK.parsed(TASK.encode_prompts(["3+5+2="]), responses, mask).tolist() == [-1]


@pytest.mark.slow
def test_demonstrations_are_right_and_of_all_lengths():
    responses, mask = TASK.demonstrations(jax.random.key(1), PROMPTS)
    assert np.all(np.asarray(TASK.reward(PROMPTS, responses, mask)) == 1)
    texts = [TASK.decode(response) for response in np.asarray(responses)]
    numbers = np.array([len([part for part in text.partition("#")[0].split(",") if part]) for text in texts])
    hard = np.asarray(TASK.difficulties(PROMPTS)).astype(int)
    assert np.all(numbers < hard)
    for operands in range(1, 7):  # each number of running sums is as likely
        assert set(numbers[hard == operands]) == set(range(operands))
    longest = TASK.encode_prompts(["9+9+9+9+9+9="])
    of_longest, right = TASK.answers(longest)
    assert np.asarray(right).all()
    assert TASK.decode(np.asarray(of_longest)[0, -1]) == "18,27,36,45,54#54"
    assert TASK.response_length == len("18,27,36,45,54#54") + 1


def test_prompts_say_what_is_to_be_added():
    for prompt, hard in zip(PROMPTS, np.asarray(TASK.difficulties(PROMPTS)), strict=True):
        operands = TASK.decode(prompt).removesuffix("=").split("+")
        assert len(operands) == hard and all(1 <= int(operand) <= 9 for operand in operands)
    assert np.asarray(TASK.is_held_out(TASK.encode_prompts(["3+5=", "5+3="]))).tolist() in ([True] * 2, [False] * 2)
    problems = np.asarray(TASK.problems(TASK.encode_prompts(["3+5=", "5+3=", "3+6="])))
    assert problems[0] == problems[1] != problems[2]


@pytest.mark.slow
def test_sizes_are_a_knob():
    task = make_task("scratch", least=3, most=4)
    hard = np.asarray(task.difficulties(task.prompts(jax.random.key(0), 64)[0]))
    assert set(hard) == {3, 4}
    with pytest.raises(InvalidSettingError, match="least=4 operands must not be more than most=3"):
        Scratch(least=4, most=3)
