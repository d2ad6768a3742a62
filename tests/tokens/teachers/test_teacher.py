"""Teachers in training: how their weights follow the policy's, what they say of it, and warm starts with hints."""

import jax
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from echo_task import SPEC, TASK, assert_equal, imitate, init, reinforce

from maxent_rl.agents import check_agent
from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens import LanguageModel, Prompted
from maxent_rl.tokens.teachers import Teacher
from maxent_rl.tokens.warm_start import WarmStart, hinted
from maxent_rl.usage import unused

AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"].replace(num_minibatches=1, num_epochs=1, warm_start_steps=1)
CONFIG = AGENT.build_config(TASK.vocabulary_size)


@pytest.fixture(scope="module")
def begun():
    """The states of an agent that distils, before and after its warm start of one step."""
    agent = AGENT.replace(objective="gkd", teacher_kind="ema", teacher_rate=0.25, learning_rate=1e-2)
    first = init(agent, jax.random.key(0))
    return agent, first, imitate(agent, first, jax.random.key(1), 0)[0]


@pytest.mark.slow
def test_an_average_begins_with_reinforcement_and_follows_each_step(begun):
    agent, first, state = begun
    assert_equal(first.teacher.params, first.params)
    assert_equal(state.teacher.params, state.params)
    after, metrics = reinforce(agent, state, jax.random.key(2))
    again, _ = reinforce(agent, after, jax.random.key(3))
    # The teacher is the policy still: nothing pulls.
    assert abs(float(metrics["teacher/divergence"])) < 1e-6 and metrics["teacher/unknown"] == 0
    for old, new, teacher in zip(
        *(jax.tree.leaves(each) for each in (after.teacher.params, again.params, again.teacher.params)), strict=True
    ):
        np.testing.assert_allclose(teacher, 0.75 * old + 0.25 * new, atol=1e-7)


@pytest.mark.matrix
def test_seeds_side_by_side_are_each_alone():
    """SRPO with its average and its hints: what one seed learns does not depend on who learns beside it."""
    agent = AGENT.replace(objective="srpo", warm_start_hints=0.5, learning_rate=1e-2, warm_start_steps=NUM_RESPONSES)

    def learned(key):
        state = imitate(agent, init(agent, key), key, 0)[0]
        return reinforce(agent, state, key)[0]

    keys = jax.random.split(jax.random.key(4), 2)
    together = jax.jit(jax.vmap(learned))(keys)
    for seed, key in enumerate(keys):
        for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(jax.jit(learned)(key)), strict=True):
            np.testing.assert_allclose(np.asarray(one)[seed], other, atol=1e-5)


@pytest.mark.slow
def test_the_rate_freezes_or_copies():
    model = LanguageModel.create(CONFIG, jax.random.key(0))
    moved = jax.tree.map(lambda leaf: leaf + 1.0, model.params)
    for rate, expected in ((0.0, model.params), (1.0, moved)):
        teacher = Teacher("ema", rate)
        assert_equal(teacher.follow(teacher.init(model), moved).params, expected)
    frozen, itself = Teacher("frozen"), Teacher("self")
    assert_equal(frozen.follow(frozen.init(model), moved).params, model.params)
    assert_equal(frozen.begin(frozen.init(model), moved).params, moved)
    assert itself.init(model).params is None
    assert_equal(itself.model(itself.init(model), model.having(moved)).params, moved)


def test_a_teacher_is_the_reference_where_nobody_is_taught():
    """Of an objective that is taught it is not: that has the policy as it began."""
    agent = AGENT.replace(objective="salsa", teacher_kind="ema")
    state = jax.eval_shape(lambda key: agent.init(key, SPEC), jax.random.key(0))
    assert state.reference is None and state.teacher is not None
    both = agent.replace(objective="sdpo", objective_settings=("kl_weight=0.1",))
    state = jax.eval_shape(lambda key: both.init(key, SPEC), jax.random.key(0))
    assert state.reference is not None and state.teacher is not None
    plain = agent.replace(objective="grpo", teacher_kind="ema")
    assert jax.eval_shape(lambda key: plain.init(key, SPEC), jax.random.key(0)).teacher is None


@pytest.mark.parametrize("hint", ["none", "answer"])
def test_other_hints_are_granted(hint):
    """Traced alone: what an objective wants, or what is said in its place, is in the batch."""
    agent = AGENT.replace(objective="srpo", teacher_hint=hint, teacher_kind="self")
    check_agent(agent, SPEC, "echo")
    state = jax.eval_shape(lambda key: agent.init(key, SPEC), jax.random.key(0))
    batch, _ = jax.eval_shape(lambda s: agent.collect(s, TASK, jax.random.key(0), NUM_RESPONSES), state)
    assert batch.taught.shape == (NUM_RESPONSES,) and (batch.context.hints is None) == (hint == "none")


@pytest.mark.slow
def test_entropy_sft_learns_the_hardest_tokens_and_shows_all():
    prompts, prompt_mask = TASK.prompts(jax.random.key(0), 16)
    tokens, mask = TASK.demonstrations(jax.random.key(1), prompts)
    answers, model = Prompted(prompts, prompt_mask, mask), LanguageModel.create(CONFIG, jax.random.key(2))

    @jax.jit
    def losses_of(model):
        logp = -model.statistics(answers, tokens).logp
        whole, half = (WarmStart("entropy-sft", share, 0.0).loss(model, answers, tokens) for share in (1.0, 0.5))
        told = hinted(jax.random.key(3), answers, tokens, 0.5)
        return logp, WarmStart().loss(model, answers, tokens), whole, half, WarmStart().loss(model, told, tokens), told

    logp, plain, whole, half, with_hints, told = losses_of(model)
    every = np.sort(np.asarray(logp)[np.asarray(mask)])
    assert plain[0] == plain[1] == pytest.approx(every.mean(), rel=1e-6) and whole[0] == pytest.approx(float(plain[0]))
    assert half[0] == pytest.approx(every[-(len(every) // 2) :].mean(), rel=1e-6) and half[1] == pytest.approx(
        float(plain[0])
    )
    alone = ~np.asarray(told.hint_mask).any(axis=1)
    assert 0 < alone.sum() < 16
    assert with_hints[1] == pytest.approx(np.asarray(logp)[alone][np.asarray(mask)[alone]].mean(), rel=1e-5)


def test_settings_of_a_teacher_that_have_no_effect_are_found():
    def of(**settings):
        names = ("teacher_kind", "teacher_rate", "teacher_policies", "teacher_hint", "warm_start_token_share")
        return {name for name in unused(AGENT.replace(**settings)) if name in names}

    assert of() == {"teacher_kind", "teacher_rate", "teacher_policies", "teacher_hint", "warm_start_token_share"}
    assert of(objective="srpo", warm_start_objective="entropy-sft") == set()
    assert of(objective="grpo", objective_settings=("kl_weight=0.1",), teacher_kind="ema") == {
        "teacher_hint",
        "warm_start_token_share",
    }
    assert of(objective="srpo", teacher_policies=("run",)) == {"teacher_kind", "teacher_rate", "warm_start_token_share"}
    assert "teacher_rate" in of(objective="gkd")


def test_teachers_that_cannot_be_are_refused():
    with pytest.raises(InvalidSettingError, match="needs the folders of one or more runs, got none"):
        Teacher("policies")
    with pytest.raises(UnknownNameError, match="Did you mean 'ema'"):
        check_agent(AGENT.replace(objective="gkd", teacher_kind="emaa"), SPEC, "echo")
