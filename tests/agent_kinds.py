"""How agents under test are built and what they learn from, for tests that take them all alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from agents_under_test import (
    AGENTS_UNDER_TEST,
    NUM_ENVS,
    NUM_RESPONSES,
    OFFLINE_AGENTS_UNDER_TEST,
    PREPARING_AGENTS_UNDER_TEST,
    TOKEN_AGENTS_UNDER_TEST,
)
from echo_task import SPEC as TOKEN_SPEC
from echo_task import TASK
from environments import DiscretePoint, Point

from maxent_rl.agents.base import BeginsFromData
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.sources.load import load_data
from maxent_rl.spaces import Space
from maxent_rl.training.loops.memory import start_memory, update_recalling
from maxent_rl.types import Transition

# Two of the agents also with an image beside the numbers; that all others trace is tested in `test_images.py`.
SEEING = ", of images"
SEEN = Space("tuple", parts=(Space("box", (2,)), Space("box", (3, 4, 3), "uint8")))


@dataclasses.dataclass(frozen=True)
class Kind:
    """How agents of one kind are built and what they learn from.

    Attributes:
      agent: the agent.
      spec: of its environment.
      begin: the state of one seed, from an agent and a key.
      batch: what one member learns from, from a number; None where the agent makes it itself.
      update: `(agent, state, batch, key) -> (state, metrics)`.
      learning: words in the names of arrays that only learning needs.
    """

    agent: Any
    spec: Any
    begin: Callable[[Any, jax.Array], Any]
    batch: Callable[[int], Any]
    update: Callable[..., Any]
    learning: tuple[str, ...] = ()


def transitions(agent: Any, spec: Any, number: int) -> Transition:
    """A batch as the agent's buffer gives it, drawn by the number; a fifth of it ends episodes, half of that by truncation."""
    layout, random = make_layout(agent, spec), np.random.default_rng(number)
    shape = layout.batch_shape
    action = random.integers(spec.num_actions, size=shape) if spec.num_actions else random.uniform(-1, 1, (*shape, 2))
    ends = random.uniform(size=shape)

    def seen() -> Any:
        numbers = random.uniform(-1, 1, (*shape, 2))
        return np.concatenate([numbers, random.integers(0, 256, (*shape, spec.image_size))], axis=-1)

    batch = Transition(
        observation=seen(),
        action=action,
        reward=random.normal(size=shape),
        next_observation=seen(),
        terminated=ends < 0.1,
        truncated=(ends >= 0.1) & (ends < 0.2),
        steps=np.ones(shape),
    )
    like = jax.eval_shape(layout.unpack, jax.ShapeDtypeStruct((*shape, layout.width), np.float32))
    return jax.tree.map(lambda leaf, wanted: jnp.asarray(leaf, wanted.dtype), batch, like)


def acting_kind(agent: Any, discrete: bool, learning: tuple[str, ...], images: bool = False) -> Kind:
    """An agent that learns from what it does; with images beside the numbers that it observes."""
    spec = dataclasses.replace((DiscretePoint() if discrete else Point()).spec, num_envs=NUM_ENVS)
    if images:
        spec = dataclasses.replace(spec, observation_shape=(SEEN.size,), observation_space=SEEN)

    def update(agent: Any, state: Any, batch: Any, key: Any) -> Any:
        return update_recalling(agent, None, state, start_memory(agent, state, NUM_ENVS), batch, key)

    return Kind(
        agent, spec, lambda agent, key: agent.init(key, spec), partial(transitions, agent, spec), update, learning
    )


def offline_kind(name: str, folder: Any) -> Kind:
    """An agent that learns from fixed data, made for it."""
    row = OFFLINE_AGENTS_UNDER_TEST[name]
    env, run = row.env("device"), RunConfig(agent=name, env=row.env_name, **{row.source: row.make(folder)})
    data, _ = load_data(run, row.agent, env.spec, env)

    def begin(agent: Any, key: Any) -> Any:
        state = agent.init(key, env.spec)
        return agent.begin(state, data) if isinstance(agent, BeginsFromData) else state

    def batch(number: int) -> Any:
        return data.sample(jax.random.key(number), row.agent.batch_size)

    def update(agent: Any, state: Any, batch: Any, key: Any) -> Any:
        return agent.update(state, batch, key)

    return Kind(row.agent, env.spec, begin, batch, update, row.learning)


def token_kind(agent: Any) -> Kind:
    """An agent that writes what it learns from; its batch is a number that is added to its parameters."""

    def update(agent: Any, state: Any, added: Any, key: Any) -> Any:
        state = dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf + added, state.params))
        return agent.reinforce(state, TASK, key, NUM_RESPONSES)

    return Kind(
        agent, TOKEN_SPEC, lambda agent, key: agent.init(key, TOKEN_SPEC), lambda number: jnp.float32(0), update
    )


def kind_of(name: str, folder: Any) -> Kind:
    if name in OFFLINE_AGENTS_UNDER_TEST:
        return offline_kind(name, folder)
    if name in TOKEN_AGENTS_UNDER_TEST:
        return token_kind(TOKEN_AGENTS_UNDER_TEST[name])
    if name in PREPARING_AGENTS_UNDER_TEST:
        return acting_kind(PREPARING_AGENTS_UNDER_TEST[name], False, ("critic", "optimizer", "log_alpha"))
    row = AGENTS_UNDER_TEST[name.removesuffix(SEEING)]
    return acting_kind(row.agent, row.discrete, row.learning, images=name.endswith(SEEING))
