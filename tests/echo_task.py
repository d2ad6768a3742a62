"""A token task for tests, and what they do with an agent on it: compiled once for the tests of a file."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from agents_under_test import NUM_RESPONSES

from maxent_rl.envs.token_envs import TokenEnv
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens.rollout import collect
from maxent_rl.tokens.tasks import END_TOKEN, PAD_TOKEN, TokenTask


class Word(NamedTuple):
    """One or two letters, -1 for none."""

    letters: jax.Array


@dataclasses.dataclass(frozen=True)
class Echo(TokenTask[Word]):
    """`ab` wants `ab`, `b` wants `b`: the smallest task with prompts and responses of several lengths."""

    name: ClassVar[str] = "echo"
    characters: ClassVar[str] = "abc"
    prompt_length: ClassVar[int] = 2
    response_length: ClassVar[int] = 3

    def draw(self, key):
        letters = jax.random.randint(key, (2,), 0, 3)
        return Word(letters.at[0].set(jnp.where(jax.random.bernoulli(key), letters[0], -1))), jnp.ones((), bool)

    def write(self, problem):
        return jnp.where(problem.letters < 0, PAD_TOKEN, problem.letters + 2).astype(jnp.int32)

    def read(self, prompt):
        return Word(jnp.where(prompt == PAD_TOKEN, -1, prompt - 2))

    def identity(self, problem):
        return problem.letters

    def candidates(self, problem):
        first, second = self.write(problem)
        long = jnp.stack([first, second, jnp.int32(END_TOKEN)])
        short = jnp.stack([second, jnp.int32(END_TOKEN), jnp.int32(PAD_TOKEN)])
        return jnp.where(first == PAD_TOKEN, short, long)[None], jnp.ones(1, bool)


TASK = Echo()
SPEC = dataclasses.replace(TokenEnv(TASK).spec, num_envs=NUM_RESPONSES)


@jax.jit
def init(agent, key):
    return agent.init(key, SPEC)


@jax.jit
def imitate(agent, state, key, step):
    return agent.imitate(state, TASK, key, NUM_RESPONSES, step)


@jax.jit
def collected(agent, state, key):
    return collect(agent, agent.build_objective(3), state, TASK, key, NUM_RESPONSES)


@jax.jit
def reinforce(agent, state, key):
    return agent.reinforce(state, TASK, key, NUM_RESPONSES)


@partial(jax.jit, static_argnums=(3, 4, 5))
def many(agent, state, key, kind, count, task=TASK):
    """64 steps of one kind, each with `count` responses: state, and metrics [step]."""

    def one(state, key):
        if kind == "imitate":
            return agent.imitate(state, task, key, count, 0)
        return agent.reinforce(state, task, key, count)

    return jax.lax.scan(one, state, jax.random.split(key, 64))


@jax.jit
def recomputed(agent, params, batch):
    return agent.statistics(params, batch.context, batch.tokens)


def warm_started(agent, steps, seed=0):
    """The states and losses of the first steps."""
    states, losses = [init(agent, jax.random.key(seed))], []
    for step in range(steps):
        state, metrics = imitate(agent, states[-1], jax.random.key(seed + step), step)
        states.append(state)
        losses.append(float(metrics["supervised/loss"]))
    return states, losses


def assert_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def rows(*groups):
    """A batch of groups given as (name, rewards)."""
    rewards = np.array([reward for _, values in groups for reward in values], np.float32)
    names = np.repeat(np.array([name for name, _ in groups], np.float32), len(groups[0][1]))[:, None]
    return TokenBatch(names, names > 0, rewards, len(groups[0][1]), tokens=names, context={"name": names})
