"""Answers in several layouts: what counts as right, what demonstrations look like, and what each template asks for."""

import re

import jax
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens.tasks import END_TOKEN, Layouts, Template, response_mask

TASK = Layouts(modulus=97)
COUNT = 64
PROMPTS = np.asarray(TASK.prompts(jax.random.key(0), COUNT)[0])
ASKED = ["", "b", "c", "d", "e", "f", "g", "h", "i", "o"]
SHOWN = ["#25", "37+85#25", "~52", ":122#25", "#25!25", "37+85~52", "37+85#25!25", ":122#25!25", "#25", "#25"]


def with_letters(letters, prompts):
    """Prompts, one wider, with a letter each."""
    wide = np.pad(prompts, ((0, 0), (1, 0)))
    for row, letter in enumerate(letters):
        if letter:
            wide[row, np.flatnonzero(wide[row])[0] - 1] = TASK.encode(letter)[0]
    return wide


def judged(prompt, texts):
    prompts = TASK.encode_prompts([prompt] * COUNT)
    responses = np.resize(TASK.encode_responses(texts), (COUNT, TASK.response_length))
    mask = np.asarray(response_mask(responses))
    reward, answer = TASK.reward(prompts, responses, mask), TASK.parsed(prompts, responses, mask)
    return np.asarray(reward)[: len(texts)], np.asarray(answer)[: len(texts)]


def demonstrated(task, prompts, key=0):
    tokens, mask = task.demonstrations(jax.random.key(key), prompts)
    return np.asarray(tokens), np.asarray(mask)


@pytest.mark.slow
def test_each_letter_shows_its_layout_and_all_of_them_are_right():
    prompts = with_letters(np.resize(ASKED, COUNT), np.resize(TASK.encode_prompts(["37+85="]), (COUNT, 6)))
    tokens, mask = demonstrated(TASK, prompts)
    assert [TASK.decode(row) for row in tokens[: len(ASKED)]] == SHOWN
    assert np.all(np.asarray(TASK.reward(prompts, tokens, mask)) == 1)


def test_what_is_right_by_hand():
    texts = ["#25", "~52", "1#2~52", "#24!25", "#025", "~520", "#25!24", "25", "#", "#2b", "~25", "#25#", "!25", "#5!"]
    answers = [25, 25, 25, 25, 25, 25, 24, -1, -1, -1, 52, -1, 25, -1]
    reward, found = judged("37+85=", texts)
    np.testing.assert_array_equal(found, answers)
    np.testing.assert_array_equal(reward, np.array(answers) == 25)


def test_every_short_text_is_judged_as_a_pattern_judges_it():
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("12#~!b"), draw.integers(0, 7))) for _ in range(COUNT)]
    _, found = judged("9+9=", texts)
    matches = [re.fullmatch(r".*([#~!])(\d+)", text) for text in texts]
    wanted = [int(match[2][:: -1 if match[1] == "~" else 1]) if match else -1 for match in matches]
    np.testing.assert_array_equal(found, wanted)
    assert 10 < sum(match is not None for match in matches) < COUNT - 10


def test_a_response_that_does_not_end_has_no_answer():
    tokens = np.where(TASK.encode_responses(["#25"]) == END_TOKEN, 2, TASK.encode_responses(["#25"]))
    assert TASK.parsed(TASK.encode_prompts(["37+85="]), tokens, np.ones(tokens.shape, bool)).tolist() == [-1]


def test_the_largest_numbers_fit_in_every_layout():
    prompts = with_letters(np.resize(ASKED, COUNT), np.resize(TASK.encode_prompts(["96+96="]), (COUNT, 6)))
    tokens, mask = demonstrated(TASK, prompts)
    assert (tokens == END_TOKEN).any(axis=1).all() and np.all(np.asarray(TASK.reward(prompts, tokens, mask)) == 1)
    assert mask.sum(axis=1).max() <= TASK.response_length


@pytest.mark.slow
def test_noise_is_in_the_number_alone():
    """Of 64, the share of wrong ones lies within four deviations of the noise."""
    noisy = Layouts(modulus=97, noise=0.7)
    tokens, mask = demonstrated(noisy, with_letters(["d"] * COUNT, PROMPTS))
    wrong = 1 - np.mean(np.asarray(noisy.reward(PROMPTS, tokens, mask)))
    assert abs(wrong - 0.7) < 4 * np.sqrt(0.7 * 0.3 / COUNT)
    left, right = (np.array([re.split(r"[+=]", TASK.decode(row))[i] for row in PROMPTS], int) for i in (0, 1))
    sums = [int(re.fullmatch(r":(\d+)#\d+", TASK.decode(row))[1]) for row in tokens]
    np.testing.assert_array_equal(sums, left + right)


def test_templates_ask_for_the_markers_that_their_layout_has():
    for template, shown in zip(TASK.templates, SHOWN, strict=False):
        assert all(shown.count(marker) == 1 for marker in template.markers)
    assert len(TASK.templates) == len({each.text for each in TASK.templates}) == 8
    assert {each.form for each in TASK.synonyms} == {"none"} and len({each.text for each in TASK.synonyms}) == 8


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"text": "b"}, InvalidSettingError, "A template needs one slot {} for the problem, got 'b'"),
        ({"text": "{}{}"}, InvalidSettingError, "needs one slot"),
        ({"form": "tag", "markers": ("#",)}, UnknownNameError, "'tags'"),
        ({"form": "tags"}, InvalidSettingError, "has no marker to pay for"),
        ({"form": "tags", "markers": ("#",), "prefill": "1#"}, InvalidSettingError, "has no marker to pay for"),
        ({"markers": ("#",)}, InvalidSettingError, "has markers, which it pays nothing for"),
        ({"markers": ("",), "form": "tags"}, InvalidSettingError, "is empty"),
    ],
)
def test_a_template_that_cannot_be_is_refused(fields, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Template(**fields)
