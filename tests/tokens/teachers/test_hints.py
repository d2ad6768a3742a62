"""What a teacher is told: which response of a group, where it stands, and that it changes what the teacher says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import TOKEN_AGENTS_UNDER_TEST
from echo_task import TASK

from maxent_rl.tokens import LanguageModel, Prompted, TokenBatch, vocabulary
from maxent_rl.tokens.tasks import END_TOKEN
from maxent_rl.tokens.teachers import with_answers, with_siblings

TOKENS = jnp.array([[2, END_TOKEN, 0], [3, END_TOKEN, 0], [4, 2, END_TOKEN], [4, 4, 4]] * 2)
MASK = jnp.cumsum(TOKENS == END_TOKEN, axis=1) - (TOKENS == END_TOKEN) == 0


def batch(rewards):
    prompts = jnp.tile(jnp.array([[2, 3]]), (8, 1))
    context = Prompted(prompts, prompts > 0, MASK)
    return TokenBatch(jnp.zeros((8, 3)), MASK, jnp.asarray(rewards, jnp.float32), 4, tokens=TOKENS, context=context)


@pytest.mark.slow
def test_each_row_is_told_the_first_other_response_that_is_right():
    """In the first group the second and the third row are right; in the other group the last alone, which is told nothing."""
    told = with_siblings(batch([0.0, 0.6, 1.0, np.nan, 0, np.nan, 0.4, 0.5]), 0.5)
    assert told.taught.tolist() == [True, True, True, True, True, True, True, False]
    expected = TOKENS[np.array([1, 2, 1, 1, 7, 7, 7])]
    np.testing.assert_array_equal(told.context.hints[:7], expected)
    np.testing.assert_array_equal(told.context.hint_mask[:7], MASK[np.array([1, 2, 1, 1, 7, 7, 7])])
    assert not told.context.hint_mask[7].any()
    assert not with_siblings(batch(np.zeros(8)), 0.5).taught.any()
    assert with_siblings(batch(np.ones(8)), 0.5).taught.all()


def test_right_answers_are_told_to_all():
    told = with_answers(batch(np.zeros(8)), TASK, jax.random.key(0))
    assert told.taught.all()
    np.testing.assert_array_equal(told.context.hints, [[2, 3, END_TOKEN]] * 8)


@pytest.mark.slow
def test_a_teacher_reads_its_hint_before_the_prompt_and_the_policy_does_not():
    config = TOKEN_AGENTS_UNDER_TEST["grpo"].build_config(TASK.vocabulary_size)
    model = LanguageModel.create(config, jax.random.key(1))
    model = model.having(jax.tree.map(lambda leaf: 3 * leaf, model.params))  # so that it minds what it reads
    told = with_siblings(batch([1.0, 0, 0, 0, 0, 0, 0, 0]), 0.5)

    @jax.jit
    def statistics(model):
        context, plain = told.context, batch(np.zeros(8)).context
        compared = {"teacher_log_prob": vocabulary.teacher_log_prob}
        long = jnp.concatenate([context.hints, context.prompts], axis=1)
        mask = jnp.concatenate([context.hint_mask, context.prompt_mask], axis=1)
        return (
            model.statistics(context, TOKENS, teacher=model, compared=compared),
            model.statistics(plain, TOKENS).logp,
            model.statistics(Prompted(long, mask, MASK), TOKENS).logp,
        )

    found, plain, hinted = statistics(model)
    np.testing.assert_allclose(found.logp, plain, atol=1e-6)
    np.testing.assert_allclose(found.extra["teacher_log_prob"], hinted, atol=1e-6)
    apart = np.abs(np.asarray(found.extra["teacher_log_prob"] - plain)) * np.asarray(MASK)
    assert apart[1:4].max() > 0.01
    np.testing.assert_allclose(apart[[0, 4, 5, 6, 7]], 0, atol=1e-5)  # who is told nothing knows nothing more
