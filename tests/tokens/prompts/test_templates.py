"""Prompt augmentation: what templates pay, worked numbers, prompts around problems, and training with one template."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.prompts import TaskPrompts, TemplateBank, TemplatePrompts, augment, format_reward, wrap
from maxent_rl.tokens.tasks import CopyReverse, Layouts, Scratch, Template

TASK = Scratch()
TEMPLATES = (
    Template(),
    Template("#{}"),
    Template("+{}", prefill="#", form="phrase", markers=("1,2",)),
    Template("{},", form="tags", markers=("+", ",,", "12", "#")),
    Template("+{},", prefill="+1", form="tags", markers=("+", ",,", "12", "#")),
)
BANK = TemplateBank.of(TEMPLATES, TASK)
COUNT, PAID = 128, jax.jit(format_reward)


def paid(template, texts):
    """What a template pays for texts."""
    tokens = np.resize(TASK.encode_responses(texts), (COUNT, TASK.response_length))
    mask = np.asarray(tokens != 0)
    dirty = np.where(mask, tokens, TASK.encode("#")[0])  # what stands behind a response is not looked at
    found = PAID(dirty, mask, np.full(COUNT, template), BANK)
    return np.asarray(found)[: len(texts)].tolist()


def test_the_three_families():
    assert paid(0, ["", "#1", "##"]) == [1, 1, 1]
    assert paid(2, ["1,2", "31,2#4", "1,21,2", "1,", "", "12"]) == [1, 1, 0, 0, 0, 0]
    texts = ["", "+", "+,,", "+,,12#", "++,,12#", "+,,,12#", "#12,,+", "####"]
    assert paid(3, texts) == [0, 0.25, 0.5, 1, 0.75, 0.75, 1, 0]  # in whatever order; two of them are none
    thirds = np.array([0, 0, 1, 3, 3, 2, 3, 0], np.float32) / 3
    np.testing.assert_allclose(paid(4, texts), thirds, atol=1e-7)  # of the three that are not filled in


def test_every_text_is_paid_as_python_counts():
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("12+,#"), draw.integers(0, 9))) for _ in range(COUNT)]
    for index in (3, 4):
        asked = TEMPLATES[index].asked
        # str.count does not count runs that overlap
        wanted = [np.mean([len(re.findall(f"(?={re.escape(one)})", text)) == 1 for one in asked]) for text in texts]
        np.testing.assert_allclose(paid(index, texts), wanted, atol=1e-6)


def test_problems_stand_in_their_templates_and_padding_before_them():
    problems = TASK.encode_prompts(["3+5=", "1=", "9+9+9+9+9+9=", "2=", "4="])
    tokens, mask = wrap(problems, jnp.arange(5), BANK)
    shown = [TASK.decode(row) for row in np.asarray(tokens)]
    assert shown == ["3+5=", "#1=", "+9+9+9+9+9+9=#", "2=,", "+4=,+1"]
    np.testing.assert_array_equal(mask, np.sort(mask, axis=1))  # on the right
    np.testing.assert_array_equal(mask, np.asarray(tokens) != 0)


def test_templates_are_drawn_evenly_and_a_batch_of_128_has_all_of_13():
    bank = TemplateBank.of((Template(),) * 13, TASK)
    drawn = np.asarray(jax.jit(augment)(jax.random.key(0), np.ones((13 * 400, 2), np.int32), bank)[2])
    counts = np.bincount(drawn, minlength=13)
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400)
    alternating = [(-1) ** k * functools.reduce(lambda a, i: a * (13 - i) // (i + 1), range(k), 1) for k in range(14)]
    every = sum(sign * (1 - k / 13) ** 128 for k, sign in enumerate(alternating))
    assert every == pytest.approx(0.999538, abs=1e-5)


def advantages(rewards):
    """Of one group, as GRPO has them."""
    batch = TokenBatch(jnp.zeros((8, 1)), jnp.ones((8, 1), bool), jnp.asarray(rewards, jnp.float32), 8)
    return np.asarray(objectives.make("grpo", clip_high=0.28, dual_clip=3.0).prepare((), batch)[1].advantages)[:, 0]


RIGHT = np.array([1, 0, 1, 0, 0, 1, 0, 0], np.float32)
FORM = np.array([1, 1, 0.5, 0.25, 1, 1, 0, 0.75], np.float32)


def test_worked_numbers():
    wanted = [1.265150, -0.084343, 0.590404, -1.096464, -0.084343, 1.265150, -1.433837, -0.421717]
    np.testing.assert_allclose(advantages(RIGHT + FORM), wanted, atol=1e-5)
    np.testing.assert_allclose(advantages(RIGHT + 1), np.where(RIGHT, 1.207612, -0.724567), atol=1e-5)
    np.testing.assert_array_equal(advantages(RIGHT + 1), advantages(RIGHT))  # halves and eighths: no rounding
    assert np.abs(advantages(1 + FORM)).max() > 1  # where all are right, form is learned
    assert not advantages(np.ones(8)).any()  # (1, 0) and (0, 1) are worth the same


@pytest.mark.slow
def test_one_template_that_asks_for_nothing_is_the_task_itself_to_the_bit():
    task, key = Layouts(), jax.random.key(3)
    source = TemplatePrompts(templates=1)
    _, plain = TaskPrompts().draw(task, None, key, 16)
    _, posed = source.draw(task, None, key, 16)
    np.testing.assert_array_equal(posed.prompts[:, -task.prompt_length :], plain.prompts)
    assert not np.asarray(posed.prompt_mask)[:, : -task.prompt_length].any()
    tokens, mask = task.demonstrations(key, plain.prompts)
    tokens = jnp.where(jnp.arange(16)[:, None] % 2 == 0, tokens, 2)
    own, augmented = (
        TaskPrompts().reward_parts(task, plain, tokens, mask),
        source.reward_parts(task, posed, tokens, mask),
    )
    assert augmented.shape == (16, 2) and np.all(np.asarray(augmented)[:, 1] == 1)
    np.testing.assert_array_equal(augmented[:, 0], own[:, 0])


@pytest.mark.slow
def test_the_template_changes_no_label_and_warm_starts_show_each_layout():
    task, source = Layouts(), TemplatePrompts(noise=0.5)
    _, posed = source.draw(task, None, jax.random.key(0), 64)
    assert len(set(np.asarray(posed.notes["template"]))) == 8
    np.testing.assert_array_equal(posed.problems, task.prompts(jax.random.key(0), 64)[0])
    shown, tokens = source.demonstrations(task, jax.random.key(0), jax.random.key(1), 256)
    letters = [text[0] for text in map(task.decode, np.asarray(shown.prompts)) if text[0].isalpha()]
    assert set(letters) == set("bcdefghijklmno")
    share = np.mean(np.asarray(task.reward(shown.prompts, tokens, shown.response_mask)))
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 256)


@pytest.mark.slow
def test_templates_that_are_given_wrap_right_answers():
    source = TemplatePrompts(given=TEMPLATES)
    shown, tokens = source.demonstrations(TASK, jax.random.key(0), jax.random.key(1), 256)
    problems, _ = TASK.prompts(jax.random.key(0), 256)
    assert np.all(np.asarray(TASK.reward(problems, tokens, shown.response_mask)) == 1)
    assert shown.prompts.shape[1] > problems.shape[1]


def test_what_is_filled_in_has_no_gradient():
    """It stands in the prompt: neither among the tokens nor in the mask."""
    tokens, _ = wrap(TASK.encode_prompts(["3+5="]), jnp.array([4]), BANK)
    assert TASK.decode(np.asarray(tokens)[0]).endswith("+1")
    assert losses.group_advantages(jnp.ones((1, 8))).shape == (1, 8)  # of responses alone


@pytest.mark.parametrize(
    ("source", "task", "words"),
    [
        (TemplatePrompts(), CopyReverse(), "copy-reverse has no templates of its own: give some, as in template='{}'"),
        (TemplatePrompts(templates=9), Layouts(), "layouts has 8 templates of its own, got templates=9"),
        (TemplatePrompts(given=(Template("z{}"),)), Layouts(), "layouts has no character 'z'"),
        (TemplatePrompts(given=(Template(),), templates=1), Layouts(), "leave out how many"),
        (TemplatePrompts(given=(Template(),), noise=0.5), Scratch(), "scratch shows right answers alone"),
    ],
)
def test_templates_that_do_not_fit_the_task_are_refused(source, task, words):
    with pytest.raises(InvalidSettingError, match=re.escape(words)):
        source.check(task)
