"""Several tasks in one: each problem is judged as its own task judges it, and pays on that task's scale."""

import jax
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.tasks import CopyReverse, Mixture, ModularAddition, response_mask

TASK = Mixture((CopyReverse(3, 4), ModularAddition(10)), (0.5, 20.0))
PROMPTS = np.asarray(TASK.prompts(jax.random.key(0), 128)[0])
KINDS = np.asarray(TASK.kinds(PROMPTS))


def test_prompts_begin_with_the_letter_of_their_task():
    texts = [TASK.decode(prompt) for prompt in PROMPTS]
    assert all(text[0] == "AB"[kind] for text, kind in zip(texts, KINDS, strict=True))
    assert 40 < KINDS.sum() < 88
    assert TASK.characters == "abc><0123456789+=AB"


@pytest.mark.slow
def test_right_answers_are_worth_what_their_scale_says():
    responses, mask = TASK.demonstrations(jax.random.key(1), PROMPTS)
    np.testing.assert_array_equal(TASK.reward(PROMPTS, responses, mask), np.where(KINDS == 0, 0.5, 20.0))
    for prompt, response in zip(PROMPTS, np.asarray(responses), strict=True):
        text, answer = TASK.decode(prompt)[1:], TASK.decode(response)
        if text[-1] in "><":
            assert answer == (text[:-1] if text[-1] == ">" else text[-2::-1])
        else:
            left, right = text[:-1].split("+")
            assert answer == str((int(left) + int(right)) % 10)


@pytest.mark.slow
def test_each_problem_is_judged_by_its_own_task():
    prompts = TASK.encode_prompts(["Aab>", "Aab<", "B3+9=", "B3+9="])
    responses = TASK.encode_responses(["ab", "ab", "2", "ab"])
    mask = np.asarray(response_mask(responses))
    np.testing.assert_array_equal(TASK.reward(prompts, responses, mask), [0.5, 0, 20, 0])
    answers = np.asarray(TASK.parsed(prompts, responses, mask))
    assert answers[0] == answers[1] != answers[2] and (answers >= 0).all()


@pytest.mark.slow
def test_held_out_problems_stay_apart():
    held_out = np.asarray(TASK.prompts(jax.random.key(0), 128, held_out=True)[0])
    assert not set(map(bytes, held_out)) & set(map(bytes, PROMPTS))
    assert np.asarray(TASK.is_held_out(held_out)).all() and not np.asarray(TASK.is_held_out(PROMPTS)).any()


def test_scales_and_letters_must_fit():
    with pytest.raises(InvalidSettingError, match="a scale for each; got 2 tasks and 1 scales"):
        Mixture(scales=(1.0,))
