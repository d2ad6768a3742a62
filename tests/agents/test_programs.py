"""Programs of agents are kept by the agent's class, which JAX does not tell from another class with as many fields."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import Point
from flax import struct

import maxent_rl
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.playing.choosing import choose_actions, most_likely
from maxent_rl.playing.evaluation import evaluate_device

PACKAGE = Path(maxent_rl.__file__).parent


def constant(number):
    """An agent of a class of its own, whose action is a number of the class."""

    @struct.dataclass
    class Constant:
        scale: float = 1.0

        def mode(self, state, observation):
            return jnp.full((*observation.shape[:-1], 2), self.scale * number)

    return Constant()


@pytest.mark.slow
def test_the_action_is_that_of_the_agents_own_class():
    """JAX's table finds an equal structure with another hash once in 128 entries looked at: 40 classes look at 780."""
    states, seen = jnp.zeros(1), jnp.zeros((1, 1, 3))
    assert jax.tree.structure(constant(0.0)) == jax.tree.structure(constant(1.0)), (
        "then nothing of this is needed any more"
    )
    for number in range(40):
        action, _ = choose_actions(constant(number / 64), states, (), seen, None, np.int32(0), most_likely)
        np.testing.assert_array_equal(action, np.full((1, 1, 2), number / 64))


@pytest.mark.slow
def test_an_evaluation_is_that_of_the_agents_own_class():
    env, played = Point(horizon=2), []
    for number in (0.0, 0.5):
        agent = constant(number)
        found = [evaluate_device(agent, jnp.zeros(1), jax.random.key(0)[None], 0, 1, env)[0].mean for _ in range(2)]
        assert found[0] == found[1]
        played.append(found[0])
    assert played[0] != played[1]


def test_arguments_may_be_named_and_left_out():
    @program_of_agent("times")
    def total(agent, values, times=2):
        return agent.scale * sum(values for _ in range(times))

    agent = constant(0.0)
    assert (total(agent, jnp.float32(3.0)), total(agent, times=3, values=jnp.float32(1.0))) == (6.0, 3.0)


def jitted_without_class(path):
    """Functions that `jax.jit` compiles for an agent without its class, which is in what loops call `learning`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and "agent" in {argument.arg for argument in node.args.args}:
            by = [ast.unparse(decorator) for decorator in node.decorator_list]
            yield from (f"{path.name}: {node.name}" for text in by if "jax.jit" in text and "learning" not in text)


@pytest.mark.slow
def test_no_program_of_the_package_is_kept_without_the_class():
    found = [each for path in PACKAGE.rglob("*.py") for each in jitted_without_class(path)]
    assert not found, "use agents.programs.program_of_agent, or pass a static Learning"
