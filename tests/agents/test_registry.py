"""The names of agents, and what every one of them refuses."""

import dataclasses
import re

import pytest
from agents_under_test import AGENTS_UNDER_TEST, NUM_ENVS
from environments import DiscretePoint, Point

from maxent_rl.agents import AGENTS, agent_class, agent_name, check_agent
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError


def spec_of(discrete):
    return dataclasses.replace((DiscretePoint() if discrete else Point()).spec, num_envs=NUM_ENVS)


def test_every_agent_of_the_registry_is_put_to_the_tests_of_all_agents():
    assert set(AGENTS_UNDER_TEST) == set(AGENTS)
    assert {name: agent_name(row.agent) for name, row in AGENTS_UNDER_TEST.items()} == {name: name for name in AGENTS}


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
