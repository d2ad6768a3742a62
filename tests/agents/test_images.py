"""Which agents read images, and that those which do learn from them with the same state before and after."""

import re

import jax
import jax.numpy as jnp
import pytest
from agents_under_test import AGENTS_UNDER_TEST, OFFLINE_AGENTS_UNDER_TEST, PREPARING_AGENTS_UNDER_TEST

from maxent_rl.agents import acting_state, agent_class, check_agent
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.runs.buffers import make_layout
from maxent_rl.spaces import Space
from maxent_rl.training.loops.memory import start_memory, update_recalling
from maxent_rl.types import Spec

SPACE = Space("tuple", parts=(Space("box", (2,)), Space("box", (3, 7, 5), "uint8"), Space("box", (4, 3), "uint8")))
ACTING = {name: row.agent for name, row in AGENTS_UNDER_TEST.items()}
OTHERS = {name: row.agent for name, row in OFFLINE_AGENTS_UNDER_TEST.items()} | PREPARING_AGENTS_UNDER_TEST
SEEING = [name for name, row in AGENTS_UNDER_TEST.items() if row.images]


def spec_of(discrete):
    actions = {"action_shape": (), "num_actions": 3} if discrete else {"action_shape": (2,)}
    return Spec((SPACE.size,), horizon=20, observation_space=SPACE, num_envs=2, **actions)


def seeing(name):
    agent = ACTING[name]
    return agent.replace(history="none") if name == "subpo" else agent


@pytest.mark.parametrize("name", [*ACTING, *OTHERS])
def test_images_are_read_or_refused_in_one_sentence_that_names_agents_which_read_them(name):
    rows = AGENTS_UNDER_TEST | OFFLINE_AGENTS_UNDER_TEST
    spec = spec_of(name in rows and rows[name].discrete)
    if name in SEEING:
        check_agent(seeing(name), spec, "Maze-v0")
        return
    with pytest.raises(IncompatibleEnvironmentError) as caught:
        check_agent((ACTING | OTHERS)[name], spec, "Maze-v0")
    said = str(caught.value)
    assert "Maze-v0 shows images of 7 x 5 x 3 and 4 x 3 x 1: " in said and "\n" not in said
    for fits in re.findall(r"--agent ([\w-]+)", said):
        check_agent(agent_class(fits)(), spec, "Maze-v0")


def test_a_history_of_images_is_refused():
    with pytest.raises(IncompatibleEnvironmentError, match=r"--history recurrent reads numbers, .*: leave it out"):
        check_agent(ACTING["subpo"], spec_of(discrete=False), "Maze-v0")


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEING)
def test_an_update_keeps_the_structure_and_what_is_exported_has_the_frames(name):
    agent, spec = seeing(name), spec_of(AGENTS_UNDER_TEST[name].discrete)
    layout = make_layout(agent, spec)

    def learn(key):
        state = agent.init(key, spec)
        batch = layout.unpack(jnp.zeros((*layout.batch_shape, layout.width)))
        after, metrics = update_recalling(agent, None, state, start_memory(agent, state, spec.num_envs), batch, key)
        seen = jnp.zeros((4, *spec.observation_shape))
        return state, after, metrics, agent.act(after, seen, key), agent.mode(after, seen), acting_state(agent, after)

    before, after, metrics, drawn, mode, acting = jax.eval_shape(learn, jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert jax.tree.leaves(before) == jax.tree.leaves(after)
    assert all(value.shape == () for value in metrics.values())
    assert drawn.shape == mode.shape == (4, *spec.action_shape)
    kept = {leaf.shape for path, leaf in jax.tree.leaves_with_path(acting) if "frame_" in jax.tree_util.keystr(path)}
    assert kept == {(7, 5, 3, 0), (4, 3, 1, 0)}
