"""Sources of prompts by name, as the command line gives them."""

import dataclasses
import re

import jax
import pytest
from agents_under_test import TOKEN_AGENTS_UNDER_TEST

from maxent_rl.envs.adapters.tokens import TokenEnv, make_tokens
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, UnknownNameError
from maxent_rl.tokens.prompts import (
    SOURCES,
    CurriculumPrompts,
    MixturePrompts,
    PoolPrompts,
    SynthesisPrompts,
    TaskPrompts,
    TemplatePrompts,
    make_source,
)
from maxent_rl.tokens.tasks import TASKS, Template, make_task

AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"]


def test_settings_make_sources():
    assert make_source("task") == TaskPrompts()
    assert make_source("pool", ("capacity=8", "keep=none", "filled=true", "share=1")) == PoolPrompts(
        8, 1, None, "none", True
    )
    given = make_source(
        "templates", ("template=b{}", "marker=#", "marker=+,", "form=tags", "template=={}", "prefill=#")
    )
    assert given == TemplatePrompts(given=(Template("b{}", "", ("#", "+,"), "tags"), Template("={}", "#")))
    over = make_source("templates", ("over=pool", "pool.capacity=9", "templates=4", "format-rewards=false"))
    assert over == TemplatePrompts(templates=4, format_rewards=False, over=PoolPrompts(capacity=9))
    mixed = make_source("mixture", ("sources=task,pool", "shares=1,2", "pool.share=1"))
    assert mixed == MixturePrompts((TaskPrompts(), PoolPrompts(share=1)), (1, 2))
    staged = make_source("curriculum", ("order=hard-to-easy", "stages=2", "thresholds=1.5", "theta=2", "kinds-stage=2"))
    assert staged == CurriculumPrompts("hard-to-easy", 2, (1.5,), theta=2, kinds_stage=2)
    assert make_source("synthesis", ("credit=immediate",)) == SynthesisPrompts(credit="immediate")
    assert hash(mixed) == hash(make_source("mixture", ("sources=task,pool", "shares=1,2", "pool.share=1")))
    assert set(SOURCES) == {"task", "templates", "pool", "curriculum", "mixture", "synthesis"}


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("pools", (), UnknownNameError, "Did you mean 'pool'"),
        ("pool", ("capcity=3",), UnknownNameError, "Did you mean 'capacity'"),
        ("pool", ("capacity",), InvalidSettingError, "--prompt-settings takes NAME=VALUE, got 'capacity'"),
        ("pool", ("capacity=0",), InvalidSettingError, "--capacity must be"),
        ("pool", ("capacity=many",), InvalidSettingError, "capacity must be a number, got 'many'"),
        ("pool", ("keep=few",), UnknownNameError, "few"),
        ("pool", ("share=0.1", "share=0.2"), InvalidSettingError, "gives share twice"),
        ("curriculum", ("order=easy",), UnknownNameError, "easy"),
        ("curriculum", ("thresholds=1,two",), InvalidSettingError, "thresholds must be a number, got 'two'"),
        ("task", ("share=0.1",), UnknownNameError, "share"),
        ("templates", ("template=b",), InvalidSettingError, "A template needs one slot {} for the problem, got 'b'"),
        ("templates", ("marker=#", "template={}"), InvalidSettingError, "write it behind its template"),
        ("templates", ("given=1",), UnknownNameError, "given"),
        ("mixture", (), InvalidSettingError, "needs its sources, as sources=task,pool"),
        ("mixture", ("sources=task,pol",), UnknownNameError, "Did you mean 'pool'"),
        ("mixture", ("sources=task,task",), InvalidSettingError, "has each source once"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(name, settings, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make_source(name, settings)


@pytest.mark.parametrize(
    ("settings", "task", "error", "words"),
    [
        ({"prompts": "templates"}, "countdown", InvalidSettingError, "countdown has no templates of its own"),
        (
            {"prompts": "synthesis"},
            "countdown",
            IncompatibleEnvironmentError,
            "such as tokens/contexts; countdown is none",
        ),
        ({"prompts": "synthesis"}, "contexts", InvalidSettingError, "use syn_grpo_style"),
        ({"prompts": "curriculum"}, "copy-reverse", InvalidSettingError, "does not say how hard its problems are"),
        ({"prompts": "templates"}, "look-up", InvalidSettingError, "no templates of its own"),
        ({"prompts": "pool", "prompt_settings": ("keep=none",)}, "contexts", InvalidSettingError, "stays empty"),
    ],
)
def test_an_agent_refuses_sources_that_do_not_fit(settings, task, error, words):
    spec = dataclasses.replace(TokenEnv(make_task(task)).spec, num_envs=32)
    with pytest.raises(error, match=re.escape(words)):
        AGENT.replace(**settings).check(spec, f"tokens/{task}")


@pytest.mark.slow
def test_conversations_begin_with_prompts_of_sources_that_pose_them_as_the_task_wrote_them():
    """A pool and a curriculum side by side; traced alone, as shapes are all that could differ."""
    task = make_task("look-up")
    agent = AGENT.replace(prompts="mixture", prompt_settings=("sources=pool,curriculum",))
    spec = dataclasses.replace(make_tokens("look-up").spec, num_envs=32)
    agent.check(spec, "tokens/look-up")

    def collected(key):
        state = agent.init(key, spec)
        batch, metrics = agent.collect(state, task, key, 32)
        return state.prompts, batch.context, metrics

    before, context, metrics = jax.eval_shape(collected, jax.random.key(0))
    assert len(before) == 2 and context.prompts.shape == (32, task.prompt_length)
    assert {"prompts/stage", "prompts/pooled"} <= set(metrics)


def test_the_defaults_of_every_source_are_whole():
    for name in TASKS:
        AGENT.check(dataclasses.replace(TokenEnv(make_task(name)).spec, num_envs=32), f"tokens/{name}")
