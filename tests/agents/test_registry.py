"""The names of agents, and what every one of them refuses."""

import dataclasses
import re

import pytest
from agents_under_test import (
    AGENTS_UNDER_TEST,
    NUM_ENVS,
    NUM_RESPONSES,
    OFFLINE_AGENTS_UNDER_TEST,
    PREPARING_AGENTS_UNDER_TEST,
    TOKEN_AGENTS_UNDER_TEST,
)
from environments import DiscretePoint, Point

from maxent_rl import agents
from maxent_rl.agents import AGENTS, agent_class, agent_name, check_agent
from maxent_rl.envs import make_device
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError


def spec_of(discrete):
    return dataclasses.replace((DiscretePoint() if discrete else Point()).spec, num_envs=NUM_ENVS)


def test_every_agent_of_the_registry_is_put_to_the_tests_of_all_agents():
    """Each to those of its kind, and to no others."""
    kinds = {name: agent_class(name).learns for name in AGENTS}
    writing, offline = ({name for name in AGENTS if kinds[name] == kind} for kind in ("task", "data"))
    assert (set(TOKEN_AGENTS_UNDER_TEST), set(OFFLINE_AGENTS_UNDER_TEST)) == (writing, offline)
    preparing = {name for name in AGENTS if hasattr(agent_class(name), "prepares_from")}
    assert set(PREPARING_AGENTS_UNDER_TEST) == preparing
    assert set(AGENTS_UNDER_TEST) == set(AGENTS) - writing - offline - preparing
    rows = AGENTS_UNDER_TEST | OFFLINE_AGENTS_UNDER_TEST
    tested = {name: row.agent for name, row in rows.items()} | TOKEN_AGENTS_UNDER_TEST | PREPARING_AGENTS_UNDER_TEST
    assert {name: agent_name(agent) for name, agent in tested.items()} == {name: name for name in AGENTS}


def test_every_agent_is_found_by_its_class_too():
    for name, target in AGENTS.items():
        own = target.partition(":")[2]
        assert getattr(agents, own) is agent_class(name) and own in dir(agents)


@pytest.mark.parametrize("name", AGENTS_UNDER_TEST)
def test_settings_that_cannot_work_are_refused(name):
    row = AGENTS_UNDER_TEST[name]
    check_agent(row.agent, spec_of(row.discrete), "test")
    settings, words = row.refused
    for wrong, said in ((settings, words), ({"learning_rate": -1.0}, "--learning-rate must be")):
        with pytest.raises(InvalidSettingError) as caught:
            check_agent(row.agent.replace(**wrong), spec_of(row.discrete), "test")
        assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", AGENTS_UNDER_TEST)
def test_actions_of_the_wrong_kind_are_refused_naming_agents_that_fit(name):
    row = AGENTS_UNDER_TEST[name]
    other = spec_of(not row.discrete)
    if row.both:
        check_agent(row.agent, other, "Maze-v0")
        return
    with pytest.raises(IncompatibleEnvironmentError, match="Maze-v0") as caught:
        check_agent(row.agent, other, "Maze-v0")
    fitting = re.findall(r"--agent ([\w-]+)", str(caught.value))
    assert fitting
    for fits in fitting:
        check_agent(agent_class(fits)(), other, "Maze-v0")


@pytest.mark.parametrize("name", TOKEN_AGENTS_UNDER_TEST)
def test_agents_that_write_responses_take_tasks_of_tokens_alone(name):
    agent = TOKEN_AGENTS_UNDER_TEST[name]
    check_agent(agent, dataclasses.replace(make_device("tokens/countdown").spec, num_envs=NUM_RESPONSES), "test")
    for discrete in (True, False):
        with pytest.raises(IncompatibleEnvironmentError) as caught:
            check_agent(agent, spec_of(discrete), "Maze-v0")
        assert str(caught.value) == "Maze-v0 is no task of tokens: use one such as tokens/modular-addition."
