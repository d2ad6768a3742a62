"""Two marked numbers among others: labels that no context changes, answers, descriptions and what they render."""

import jax
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.prompts.synthesis import Describes
from maxent_rl.tokens.tasks import Contexts, ModularAddition, response_mask

TASK = Contexts()
COUNT = 256
PROMPTS = np.asarray(TASK.prompts(jax.random.key(0), COUNT)[0])
DESCRIPTIONS = np.asarray(TASK.descriptions(jax.random.key(1), COUNT))


def core(text):
    """The marked numbers of a prompt, by hand."""
    return [int(text[place + 1]) for place, character in enumerate(text) if character == "*"]


def judged(prompt, texts):
    prompts = np.resize(TASK.encode_prompts([prompt]), (COUNT, TASK.prompt_length))
    responses = np.resize(TASK.encode_responses(texts), (COUNT, TASK.response_length))
    mask = np.asarray(response_mask(responses))
    described, good = TASK.describe(responses, mask)
    found = TASK.reward(prompts, responses, mask), described, good, TASK.apart(responses, mask)
    return [np.asarray(each)[: len(texts)] for each in found]


@pytest.mark.slow
def test_the_label_is_that_of_the_core_in_whatever_context():
    """The oracle reads what is rendered; so does a parser that knows nothing of descriptions."""
    rendered = np.asarray(TASK.render(PROMPTS, DESCRIPTIONS))
    before, after = ([TASK.decode(row) for row in rows] for rows in (PROMPTS, rendered))
    assert [core(text) for text in before] == [core(text) for text in after]
    sums = [sum(core(text)) % 10 for text in after]
    np.testing.assert_array_equal(TASK.labels(rendered), sums)
    np.testing.assert_array_equal(TASK.labels(PROMPTS), sums)
    assert len(set(after)) > len(set(before)) / 2  # as many contexts as there are
    np.testing.assert_array_equal(TASK.difficulties(rendered), DESCRIPTIONS[:, 0])


def test_contexts_by_hand():
    descriptions = [[0, 3, 2, 2], [6, 0, 0, 0], [4, 1, 2, 0], [4, 2, 1, 1], [2, 2, 0, 2], [6, 0, 1, 1]]
    texts = ["*4*7=", "*4*7000000=", "4444*4*7=", "56*47*78=", "*456*7=", "000*40*700="]
    prompts = np.resize(TASK.encode_prompts(["*4*7="]), (COUNT, TASK.prompt_length))
    rendered = TASK.render(prompts, np.resize(descriptions, (COUNT, 4)))
    assert [TASK.decode(row) for row in np.asarray(rendered)[: len(texts)]] == texts


@pytest.mark.slow
def test_answers_count_by_themselves_and_descriptions_apart():
    texts = ["1;2102", "1", "1;", "1;9102", "1;21", "2;6322", "11", ";", "1;2142", "1;210"]
    reward, described, good, apart = judged("3*48*7=", texts)
    assert reward.tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 1, 1]
    assert np.flatnonzero(good).tolist() == [0, 5]
    assert described[0].tolist() == [2, 1, 0, 2] and described[5].tolist() == [6, 3, 2, 2]
    assert apart[0].tolist() == [False] * 2 + [True] * 5 and not apart[[1, 6, 7]].any()


def test_demonstrations_answer_and_describe():
    tokens, mask = TASK.demonstrations(jax.random.key(2), PROMPTS)
    assert np.all(np.asarray(TASK.reward(PROMPTS, tokens, mask)) == 1)
    described, good = TASK.describe(tokens, mask)
    assert np.asarray(good).all()
    for entry, most in zip(np.asarray(described).T, (7, 4, 3, 3), strict=True):
        assert set(entry) == set(range(most))


@pytest.mark.slow
def test_the_task_itself_poses_as_many_others_as_it_says():
    assert set(np.asarray(TASK.difficulties(PROMPTS))) == {0, 1}
    harder = Contexts(least=5, most=6)
    assert set(np.asarray(harder.difficulties(harder.prompts(jax.random.key(0), COUNT)[0]))) == {5, 6}
    with pytest.raises(InvalidSettingError, match="got least=3, most=2 and room=6"):
        Contexts(least=3, most=2)


def test_what_describes_and_what_does_not():
    assert isinstance(TASK, Describes) and not isinstance(ModularAddition(), Describes)
