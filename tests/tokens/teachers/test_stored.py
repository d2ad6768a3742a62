"""Policies of other runs: read, averaged, begun from; and what cannot be a teacher, in one sentence each."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST

from maxent_rl import RunConfig, load_policy
from maxent_rl.agents import check_agent
from maxent_rl.envs import make_device
from maxent_rl.errors import InvalidSettingError, PolicyError, ShapeError
from maxent_rl.runs.config import describe
from maxent_rl.runs.policy import export_policy, policy_arrays
from maxent_rl.tokens.teachers import StoredModel

ENV = "tokens/modular-addition"
SPEC = dataclasses.replace(make_device(ENV).spec, num_envs=NUM_RESPONSES)
AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"]


def export(folder, agent, env=ENV, seeds=2):
    spec = make_device(env).spec
    states = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.split(jax.random.key(0), seeds))
    description = describe(RunConfig(agent="grpo", env=env, num_seeds=seeds), agent)
    export_policy(folder / "policy", description, policy_arrays(agent, states), spec, step=0)
    return states.params


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder of a run of two seeds, their parameters)"""
    folder = tmp_path_factory.mktemp("run")
    return folder, jax.tree.map(np.asarray, export(folder, AGENT))


@pytest.mark.slow
def test_one_is_read_and_several_are_averaged(run):
    folder, params = run
    agent = AGENT.replace(objective="gkd", initial_policy=f"{folder}:1")
    for policies, expected in (
        ((f"{folder}:1",), jax.tree.map(lambda leaf: leaf[1], params)),
        ((str(folder), f"{folder}:1"), jax.tree.map(lambda leaf: leaf.mean(axis=0), params)),
    ):
        taught = agent.replace(teacher_policies=policies)
        check_agent(taught, SPEC, ENV)
        states = jax.jit(jax.vmap(lambda key, agent=taught: agent.init(key, SPEC)))(
            jax.random.split(jax.random.key(9), 2)
        )
        for seed in range(2):  # both begin with the same
            for found, wanted in zip(jax.tree.leaves(states.teacher.params), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(found[seed], wanted, atol=1e-7)
            for found, wanted in zip(jax.tree.leaves(states.params), jax.tree.leaves(params), strict=True):
                np.testing.assert_array_equal(found[seed], wanted[1])


@pytest.mark.slow
def test_a_policy_that_was_taught_is_loaded_without_its_teacher(tmp_path):
    teacher, own = tmp_path / "teacher", tmp_path / "own"
    export(teacher, AGENT, seeds=1)
    taught = AGENT.replace(objective="gkd", teacher_policies=(str(teacher),), initial_policy=str(teacher))
    export(own, taught, seeds=1)
    shutil.rmtree(teacher)
    assert load_policy(own).agent.teacher_policies == (str(teacher),)
    with pytest.raises(PolicyError, match=r"There is no policy in .*teacher: policy\.json is missing"):
        check_agent(taught, SPEC, ENV)
    with pytest.raises(Exception, match=r"There is no policy in .*teacher"):  # nobody learns from what is not there
        jax.block_until_ready(taught.init(jax.random.key(0), SPEC).teacher.params)


@pytest.mark.slow
def test_what_cannot_teach_or_be_begun_from_is_refused_in_one_sentence(run, tmp_path):
    folder, _ = run
    small, other = tmp_path / "small", tmp_path / "other"
    export(small, AGENT.replace(hidden_size=8), seeds=1)
    export(other, AGENT, "tokens/copy-reverse", seeds=1)

    def check(**settings):
        check_agent(AGENT.replace(objective="gkd", **settings), SPEC, ENV)

    with pytest.raises(ShapeError, match=r"averages networks of one shape: .* has hidden_size 16 and .* 8"):
        check(teacher_policies=(str(folder), str(small)))
    with pytest.raises(InvalidSettingError, match=r"has a vocabulary of \d+ tokens and tokens/modular-addition one of"):
        check(teacher_policies=(str(other),))
    with pytest.raises(InvalidSettingError, match=r"has seeds \[0, 1\], not 7"):
        check(teacher_policies=(f"{folder}:7",))
    with pytest.raises(InvalidSettingError, match=r"has another shape than this run's: .*--hidden-size 8"):
        check(initial_policy=str(small))
    check(teacher_policies=(str(small),))  # a teacher may be of any size
    stored = StoredModel.find(str(folder))
    same = dataclasses.replace(stored, env="tokens/countdown")
    with pytest.raises(
        InvalidSettingError, match=r"writes '.*' \(tokens/countdown\) and tokens/modular-addition is written"
    ):
        same.check_vocabulary(ENV, SPEC.num_actions)
