"""What must hold of every agent by itself, without a loop: one compiled update of four members for each.

A new agent is one more row in `agents_under_test.py`. What loops do with agents is tested with few of them
(`tests/training`), and with all of them by `pytest -m matrix`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
from support.lowering import PLATFORMS, lower_for

from maxent_rl.agents.base import BeginsFromData, acting_state, fresh_memory, recalling
from maxent_rl.agents.registry import AGENTS as REGISTERED
from maxent_rl.agents.registry import agent_class
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.variants import can_vary
from maxent_rl.sources.load import load_data
from maxent_rl.spaces import Space
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.training.loops.memory import start_memory, update_recalling
from maxent_rl.types import Transition

PLAIN, SECOND, VARIED, POISONED = range(4)  # members: another seed, other hyper-parameters, and one that meets NaN
SEEDS = (0, 1, 0, 2)
KEYS = jax.vmap(jax.random.key)(np.array(SEEDS))

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


def varied(agent: Any) -> Any:
    """The agent with every number changed that may differ between members of one program."""
    values = {name: getattr(agent, name) for name in can_vary(agent)}
    numbers = {name: value for name, value in values.items() if isinstance(value, (int, float)) and value is not None}
    return agent.replace(
        **{name: value + 1 if isinstance(value, int) else 0.9 * value + 0.01 for name, value in numbers.items()}
    )


def stacked(*trees: Any) -> Any:
    """The members side by side, made by NumPy, which compiles nothing."""

    def stack(*leaves: Any) -> Any:
        found = np.stack(leaves)
        return found.astype(jax.dtypes.canonicalize_dtype(found.dtype))

    return jax.tree.map(stack, *trees)


def member(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


FLAGS = (
    "mask",
    "future",
    "terminated",
    "truncated",
    "steps",
    "followed",
    "drawn",
    "label",
)  # made here, never measured


def poisoned(batch: Any) -> Any:
    """The batches with NaN for the last member in all that environments or models have given."""

    def poison(path: Any, leaf: Any) -> Any:
        flag = any(jax.tree_util.keystr(path).endswith(f".{name}") for name in FLAGS)
        if flag or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        members = np.arange(len(SEEDS)).reshape(-1, *[1] * (leaf.ndim - 1))
        return np.where(members == POISONED, np.float32(np.nan), leaf)

    return jax.tree_util.tree_map_with_path(poison, batch)


@dataclasses.dataclass(frozen=True)
class Found:
    """What one compiled update gave: for all members, with NaN for one of them, and for copies of the first member."""

    kind: Kind
    before: Any
    together: Any
    with_nan: Any
    copies: Any


EVERY = [
    *AGENTS_UNDER_TEST, *PREPARING_AGENTS_UNDER_TEST, *OFFLINE_AGENTS_UNDER_TEST, *TOKEN_AGENTS_UNDER_TEST,
    *(name + SEEING for name in ("sac", "ppo")),
]  # fmt: skip


@pytest.fixture(scope="module", params=EVERY)
def found(request, tmp_path_factory):
    kind = kind_of(request.param, tmp_path_factory.mktemp(request.param))
    agents = stacked(kind.agent, kind.agent, varied(kind.agent), kind.agent)
    states = jax.device_get(jax.jit(jax.vmap(kind.begin))(agents, KEYS))
    batches = stacked(*(kind.batch(seed) for seed in SEEDS))
    update = jax.jit(jax.vmap(kind.update))
    given = (agents, states, batches, KEYS), (agents, states, poisoned(batches), KEYS)
    copies = (
        *(stacked(*[member(tree, PLAIN)] * len(SEEDS)) for tree in (agents, states, batches)),
        KEYS[jnp.zeros(4, int)],
    )
    return Found(kind, states, *(jax.device_get(update(*each)) for each in (*given, copies)))


def floats(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def test_an_update_keeps_the_states_structure_and_all_is_finite(found):
    after, metrics = found.together
    assert jax.tree.structure(after) == jax.tree.structure(found.before)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(found.before), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
    assert all(np.isfinite(leaf).all() for leaf in floats(after))
    assert metrics and all(value.shape == (len(SEEDS),) and np.isfinite(value).all() for value in metrics.values())


def test_a_member_learns_among_others_what_it_learns_among_copies_of_itself(found):
    """The same program, so that it is the same to the bit. What `vmap` makes of the program of one is JAX's to test."""
    for one, other in zip(jax.tree.leaves(found.together), jax.tree.leaves(found.copies), strict=True):
        np.testing.assert_array_equal(one[PLAIN], other[PLAIN])


def test_nan_of_one_member_shows_in_its_metrics_and_touches_no_other(found):
    """The same program twice, so that the others are equal to the bit."""
    (after, metrics), (_, faulty) = found.together, found.with_nan
    for index in (PLAIN, SECOND, VARIED):
        for one, other in zip(
            jax.tree.leaves(member(found.with_nan, index)),
            jax.tree.leaves(member((after, metrics), index)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    assert [name for name, value in faulty.items() if not np.isfinite(value[POISONED])]


def test_seeds_and_numbers_decide_what_is_learned(found):
    after, _ = found.together
    for other in (SECOND, VARIED):
        assert any(not np.array_equal(leaf[PLAIN], leaf[other]) for leaf in floats(after))


def test_what_is_exported_is_enough_to_act_and_holds_nothing_that_only_learning_needs(found):
    kind, (after, _) = found.kind, found.together
    acting = acting_state(kind.agent, after)
    arrays = to_arrays(acting)
    assert arrays and not [name for name in arrays for word in kind.learning if word in name]
    rebuilt = from_arrays(acting, arrays)
    size = NUM_RESPONSES if kind.spec is TOKEN_SPEC else NUM_ENVS
    observation = np.full((len(SEEDS), size, *kind.spec.observation_shape), 0.3, np.float32)

    def both(state: Any, observation: Any, key: Any) -> Any:
        memory = fresh_memory(kind.agent, state, (size,))
        state = recalling(kind.agent, state, memory)
        drawn = jax.vmap(lambda key: kind.agent.act(state, observation, key))(jax.random.split(key, 4))
        return kind.agent.mode(state, observation), drawn

    mode, drawn = jax.jit(jax.vmap(both))(rebuilt, observation, KEYS)
    assert mode.shape == (len(SEEDS), size, *kind.spec.action_shape)
    assert drawn.shape == (len(SEEDS), 4, size, *kind.spec.action_shape)
    if kind.spec.num_actions is not None:
        for actions in (mode, drawn):
            np.testing.assert_array_equal(actions, np.round(actions))
            assert np.min(actions) >= 0 and np.max(actions) < kind.spec.num_actions
    assert np.isfinite(mode).all() and np.isfinite(drawn).all()


def test_a_state_goes_through_arrays_and_comes_back_to_the_bit(found):
    after, _ = found.together
    rebuilt = from_arrays(found.before, to_arrays(after))
    assert jax.tree.structure(rebuilt) == jax.tree.structure(after)
    for one, other in zip(to_arrays(rebuilt).values(), to_arrays(after).values(), strict=True):
        np.testing.assert_array_equal(one, other)


QUICK = ("sac", "ppo")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in EVERY])
def test_an_update_can_be_written_out_for_accelerators(name, tmp_path):
    """Lowered, not compiled: nothing of it needs the host, nor an operation that a platform has not."""
    kind = kind_of(name, tmp_path)
    state = jax.eval_shape(kind.begin, kind.agent, jax.random.key(0))
    arguments = kind.agent, state, kind.batch(0), jax.random.key(0)
    assert "func.func public @main" in lower_for(PLATFORMS, jax.jit(kind.update), *arguments)


def test_every_registered_agent_is_one_of_those_tested():
    rows = [*AGENTS_UNDER_TEST.values(), *OFFLINE_AGENTS_UNDER_TEST.values()]
    agents = [*(row.agent for row in rows), *PREPARING_AGENTS_UNDER_TEST.values(), *TOKEN_AGENTS_UNDER_TEST.values()]
    assert {agent_class(name) for name in REGISTERED} == {type(agent) for agent in agents}
