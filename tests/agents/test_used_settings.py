"""Which settings have an effect: what agents declare (`used_when`) against the programs that they trace to.

A setting that counts as used must change something of what an agent does and learns: its first state, its actions, the state
after an update, the plan of its loop. One that counts as unused must change nothing. Metrics, which are for people, are left
out. Nothing is compiled.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_kinds import Kind, kind_of
from agents_under_test import (
    AGENTS_UNDER_TEST,
    NUM_ENVS,
    OFFLINE_AGENTS_UNDER_TEST,
    PREPARING_AGENTS_UNDER_TEST,
    TOKEN_AGENTS_UNDER_TEST,
)
from echo_task import TASK
from jax.interpreters import partial_eval

from maxent_rl.agents.base import Remembers, Watches, check_agent
from maxent_rl.errors import MaxentRLError
from maxent_rl.runs.buffers import make_layout
from maxent_rl.settings import field_hints
from maxent_rl.training.loops.plan import Schedule
from maxent_rl.types import Transition
from maxent_rl.usage import unused

OUTSIDE = {
    **dict.fromkeys(("num_states", "held_out_states", "num_candidates"), "how much is read of a teacher"),
    **dict.fromkeys(("proposal", "data_seed", "teacher_seed"), "what is read of a teacher"),
    **dict.fromkeys(("reward_updates", "reward_learning_rate", "reward_batch_size"), "before the first step"),
    **dict.fromkeys(("objective", "objective_settings"), "what else is learned: tests of objectives"),
    **dict.fromkeys(("prompts", "prompt_settings"), "which prompts come: tests of their sources"),
    "eval_samples": "how tasks are evaluated",
    **dict.fromkeys(("initial_policy", "teacher_policies"), "read from folders: tests/tokens/teachers/test_stored.py"),
    "goal_relabel": "wants an environment of goals: data/buffers/test_hindsight.py",
    "goal_relabel_share": "as goal_relabel",
    "context": "a bound that longer episodes would meet, or what is read of data",
}
"""Settings that act outside of the program of an update, and where."""

NUMERICALLY = {
    "entropy_annealing": "of a bonus of 0",
    "sampled_actions": "of a penalty whose weight is 0",
    **dict.fromkeys(("clip_low", "clip_high", "value_clip"), "of a ratio of exactly 1"),
    **dict.fromkeys(("target_value", "actor_value"), "the least of one value is their mean"),
    **dict.fromkeys(("divergence_bound", "initial_divergence_weight"), "of a weight that nothing reads"),
    **dict.fromkeys(("divergence_samples", "reverse_divergence"), "as that"),
    **dict.fromkeys(("alpha", "bias", "bc_coefficient", "reference"), "of a loss that is not chosen"),
    **dict.fromkeys(("bc_steps", "warmup_steps", "warmup_multiplier"), "of a phase that never comes"),
    **dict.fromkeys(
        (
            "warm_start_loss",
            "warm_start_learning_rate",
            "warm_start_prompts",
            "warm_start_objective",
            "warm_start_hints",
        ),
        "of a phase that never comes",
    ),
    "max_gradient_norm": "of an optimiser whose steps are not taken",
    "target_return": "of a return that nobody is told",
    "reward_levels": "the length of an array that nothing reads",
}
"""Settings whose rules go by numbers, or by what nobody reads, of which a program says nothing."""

READ_FROM_DATA = ("batch_size", "context", "ahead", "discount")
"""Settings of agents on fixed data by which that is read, so that programs for other values have other batches."""

PLANNED = ("start_steps", "most_start_steps", "updates_per_step")
"""Numbers that the loop's plan has, and no program reads."""

_NO_VALUE: dict[str, Any] = {"baseline": "none", "rollout_size": 40}
COMBINATIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "sac": (
        {"temperature_mode": "fixed"}, {"target_entropy": -1.0}, {"target_network": False}, {"start_steps": None},
        {"learning_rate_schedule": "cosine", "scheduled_updates": 100}, {"critic_value": "categorical"},
        {"critic_value": "quantile"}, {"critic_value": "quantile", "target_value": "mean"}, {"reward_scale": "bound"},
        {"critic_norm": "batch"}, {"policy_norm": "layer"}, {"network": "simba"}, {"num_critics": 1, "target_critics": 1},
    ),
    "sac-discrete": ({"temperature_mode": "fixed"}, {"target_entropy": 0.5}),
    "pmoe": ({"num_experts": 1}, {"router": "gumbel"}, {"router": "attention"}),
    "adpo-online": ({"anchor": "copy"}, {"anchor": "kl"}, {"anchor": "uniform"}),
    "cql": ({"conservative_weight": 0.0, "lagrange_threshold": None},),
    "ppo": (
        {"target_entropy": -1.0}, {"action_distribution": "tanh_gaussian"},
        {"epochs": 1, "minibatches": 1, "normalize_observations": False},
    ),
    "pmoe-ppo": ({"num_experts": 1}, {"router": "policy_gradient"}),
    "subpo": (
        {"natural_gradient": True}, {"natural_gradient": True} | _NO_VALUE,
        {"linear": True} | _NO_VALUE, {"history": "none"}, {"history": "transformer", "history_size": 8},
        {"horizon": "myopic"} | _NO_VALUE, {"epochs": 1, "minibatches": 1},
    ),
    "reppo": ({"divergence_use": "none"},),
    "adpo": ({"method": "kd"}, {"method": "bc"}, {"anchor": "copy"}, {"anchor": "kl"}, {"target": "teacher"}),
    "cpl": ({"method": "bc", "reference": False}, {"method": "sft", "reference": False}, {"density": "deterministic"}),
    "doc": ({"future_vae": True}, {"adversary": "reversal"}, {"outcomes": "rewards"}, {"layers": 1}),
    "dt": ({"condition": "none"}, {"layers": 0}),
    "grpo": ({"warm_start_steps": 0},),
}  # fmt: skip
"""Combinations in which rules say otherwise than for the agents under test themselves."""


def everything(kind: Kind, agent: Any, key: Any, batch: Any) -> Any:
    """What an agent does and learns."""
    spec, state = kind.spec, kind.begin(agent, key)
    if agent.learns == "task":
        return state, agent.imitate(state, TASK, key, 16, 0)[0], kind.update(agent, state, batch, key)[0]
    seen = jnp.zeros((NUM_ENVS, *spec.observation_shape))
    found = [state, agent.act(state, seen, key), agent.mode(state, seen), kind.update(agent, state, batch, key)[0]]
    if isinstance(agent, Remembers):
        memory = agent.memory(state, (NUM_ENVS,))
        recalling = agent.recalling(state, memory)
        action = agent.act(recalling, seen, key)
        found += [memory, action, agent.remember(recalling, memory, seen, action, jnp.zeros(NUM_ENVS))]
    if agent.learns == "replay" and isinstance(agent, Watches):
        numbers = jnp.zeros(NUM_ENVS)
        action = jnp.zeros((NUM_ENVS, *spec.action_shape), jnp.int32 if spec.num_actions else jnp.float32)
        step = Transition(seen, action, numbers, seen, numbers, numbers, numbers)
        found.append(agent.watch(state, step, key))
    return found


def plan(kind: Kind, agent: Any) -> str:
    """What the loop takes of an agent's settings."""
    if agent.learns not in ("replay", "rollout"):
        return ""
    return f"{Schedule.create(agent, kind.spec, NUM_ENVS)} {make_layout(agent, kind.spec)}"


def traced(kind: Kind, agent: Any) -> tuple[str, dict[str, bool]]:
    """The program without what no output needs, as text, and which numbers of the agent it reads."""
    batch = kind.batch(0) if kind.agent.learns != "replay" else transitions_of(kind, agent)
    closed = jax.make_jaxpr(lambda *given: everything(kind, *given))(agent, jax.random.key(0), batch)
    program, read = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    names = [jax.tree_util.keystr(path).strip(".") for path, _ in jax.tree_util.tree_leaves_with_path(agent)]
    shapes = [str(constant) if np.size(constant) < 1_000 else np.shape(constant) for constant in closed.consts]
    text = re.sub(r"0x[0-9a-f]+", "", f"{program} {shapes} {plan(kind, agent)}")
    return text, dict(zip(names, read, strict=False))


def transitions_of(kind: Kind, agent: Any) -> Any:
    layout = make_layout(agent, kind.spec)
    like = jax.eval_shape(layout.unpack, jax.ShapeDtypeStruct((*layout.batch_shape, layout.width), np.float32))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)


def others(value: Any, hint: Any) -> Iterator[Any]:
    """Other values of a setting."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        yield from others(value, arguments[0])
    elif origin is Literal:
        yield from (choice for choice in arguments if choice != value)
    elif type(None) in arguments:
        inner = next(each for each in arguments if each is not type(None))
        yield from others(_BEGIN.get(_plain(inner), (4, 4)) if value is None else value, inner)
        yield from () if value is None else (None,)
    elif origin is tuple:
        yield tuple(2 * each for each in value)
    elif hint is bool:
        yield not value
    elif hint is int:
        yield from (value + 1, 1, max(value - 1, 0))
    elif hint is float:
        yield from (0.5 * value + 0.01, value - 1.0)


_BEGIN: dict[Any, Any] = {int: 3, float: 0.1}


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def changed(kind: Kind, agent: Any, name: str) -> Iterator[Any]:
    """The agent with other values of a setting that it accepts."""
    for value in others(getattr(agent, name), field_hints(type(agent))[name]):
        if value == getattr(agent, name):
            continue
        other = dataclasses.replace(agent, **{name: value})
        try:
            check_agent(other, kind.spec, "Env")
        except MaxentRLError:
            continue
        yield other


def with_effect(kind: Kind, agent: Any, names: list[str]) -> dict[str, bool]:
    """Whether each setting has an effect; those that cannot have another value are left out."""
    text, read = traced(kind, agent)
    found = {name: True for name in names if read.get(name)}
    for name in names:
        if name in found:
            continue
        for other in itertools.islice(changed(kind, agent, name), 2):
            found[name] = traced(kind, other)[0] != text
            if found[name]:
                break
    return found


def names_of(kind: Kind, agent: Any) -> list[str]:
    """The settings that a program can tell about."""
    outside = set(OUTSIDE) | (set(READ_FROM_DATA) if agent.learns == "data" else set())
    return [field.name for field in dataclasses.fields(agent) if field.name not in outside]


def wrong_rules(kind: Kind, agent: Any, names: list[str]) -> list[str]:
    """Settings that have an effect and should have none, or the other way round."""
    needs = unused(agent, spec=kind.spec)
    wrong = []
    for name, acts in with_effect(kind, agent, names).items():
        if acts and name in needs and name not in NUMERICALLY:
            wrong.append(f"{name} has an effect, but should have one only {needs[name].words}")
        if not acts and name not in needs:
            wrong.append(f"{name} has no effect: say when it has one (used_when), or where (OUTSIDE)")
    return wrong


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    """How agents are built, by name: those that a test has asked for."""

    class Kinds(dict[str, Kind]):
        def __missing__(self, name: str) -> Kind:
            self[name] = kind_of(name, tmp_path_factory.mktemp(name))
            return self[name]

    return Kinds()


EVERY = (
    *AGENTS_UNDER_TEST,
    *OFFLINE_AGENTS_UNDER_TEST,
    *PREPARING_AGENTS_UNDER_TEST,
    *TOKEN_AGENTS_UNDER_TEST,
)


def marked(name: str, *values: Any) -> Any:
    """A case: one agent of each kind among the slow tests, the others on request, as rules are mostly their families'."""
    mark = pytest.mark.slow if name in ("sac", "ppo", "iql", "grpo") else pytest.mark.matrix
    return pytest.param(name, *values, marks=mark)


@pytest.mark.parametrize("name", [marked(name) for name in EVERY])
def test_numbers_have_an_effect_where_they_are_said_to(kinds: dict[str, Kind], name: str) -> None:
    """By one program for each agent: it reads them, or it does not."""
    kind = kinds[name]
    _, read = traced(kind, kind.agent)
    needs = unused(kind.agent, spec=kind.spec)
    names = [each for each in names_of(kind, kind.agent) if each in read and each not in PLANNED]
    assert [each for each in names if read[each] == (each in needs) and each not in NUMERICALLY] == []


@pytest.mark.matrix
@pytest.mark.parametrize("name", EVERY)
def test_every_setting_has_an_effect_where_it_is_said_to(kinds: dict[str, Kind], name: str) -> None:
    kind = kinds[name]
    assert wrong_rules(kind, kind.agent, names_of(kind, kind.agent)) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        marked(name, each) if number < 3 else pytest.param(name, each, marks=pytest.mark.matrix)
        for name, values in COMBINATIONS.items()
        for number, each in enumerate(values)
    ],
)
def test_what_decides_of_others_whether_they_have_an_effect(
    kinds: dict[str, Kind], name: str, values: dict[str, Any]
) -> None:
    kind = kinds[name]
    agent = dataclasses.replace(kind.agent, **values)
    check_agent(agent, kind.spec, "Env")
    before, after = (set(unused(each, spec=kind.spec)) for each in (kind.agent, agent))
    turned = [each for each in names_of(kind, agent) if each in before ^ after]
    assert turned
    assert wrong_rules(kind, agent, turned) == []
