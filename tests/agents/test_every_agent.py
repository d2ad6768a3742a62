"""What must hold of every agent by itself, without a loop: one compiled update of four members for each.

A new agent is one more row in `agents_under_test.py`. What loops do with agents is tested with few of them
(`tests/training`), and with all of them by `pytest -m matrix`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_kinds import SEEING, Kind, kind_of
from agents_under_test import (
    AGENTS_UNDER_TEST,
    NUM_ENVS,
    NUM_RESPONSES,
    OFFLINE_AGENTS_UNDER_TEST,
    PREPARING_AGENTS_UNDER_TEST,
    TOKEN_AGENTS_UNDER_TEST,
)
from echo_task import SPEC as TOKEN_SPEC
from support.lowering import PLATFORMS, lower_for

from maxent_rl.agents.base import acting_state, fresh_memory, recalling
from maxent_rl.agents.registry import AGENTS as REGISTERED
from maxent_rl.agents.registry import agent_class
from maxent_rl.seeds.variants import can_vary
from maxent_rl.storage.arrays import from_arrays, to_arrays

PLAIN, SECOND, VARIED, POISONED = range(4)  # members: another seed, other hyper-parameters, and one that meets NaN
SEEDS = (0, 1, 0, 2)
KEYS = jax.vmap(jax.random.key)(np.array(SEEDS))


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
# One of each family stands for its kind in the quick tests.
KINDS = ("sac", "sac-discrete", "ppo", "subpo", "adpo", "dqn", "iql", "dt", "grpo")


@pytest.fixture(
    scope="module", params=[pytest.param(each, marks=[pytest.mark.slow] * (each not in KINDS)) for each in EVERY]
)
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
