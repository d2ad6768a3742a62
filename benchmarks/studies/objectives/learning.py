"""A small language model and how it learns by any objective, in programs of which most are the same for all objectives.

It does what `TokenAgent.reinforce` does, number for number. There an objective is compiled together with model and task, for
half a minute on one core; here it is a program of its own, from what the policy says of the tokens to the slope in that, which
takes a second or two and serves all tasks: responses and prompts are filled up to the widest task's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.tokens import objectives
from maxent_rl.tokens.agent import TokenAgent, TokenState
from maxent_rl.tokens.batch import Prompted, TokenBatch, TokenOutputs, columns
from maxent_rl.tokens.objectives import Objective, Stage, chain
from maxent_rl.tokens.rollouts import Groups, examine, gather
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.training.compilation import compiler_options
from maxent_rl.types import Array, PyTree

SAMPLES = 8
"""Responses to each prompt of an examination: the k of pass@k."""
COURSE = ("episode/return", "episode/length", "actor/entropy")
"""What is kept of each iteration."""


@struct.dataclass
class AllColumns(Stage):
    """Asks for every column that costs next to nothing, so that one program draws for all objectives that want no more."""

    slot: ClassVar[Any] = "shape"
    needs: ClassVar[tuple[str, ...]] = (
        "entropy_old",
        "problem",
        "task",
        "answers",
        "difficulty",
        "logp_drawn",
        "reward_parts",
    )


_SHARED = chain(*objectives.make("reinforce").stages, AllColumns(), name="all columns")
_FREE = {*AllColumns.needs, "tokens", "truncated", "entropy"}


class Widths(NamedTuple):
    """Columns of prompts and of responses to which batches are filled up."""

    prompt: int
    response: int


class Lanes(NamedTuple):
    """What differs between the policies that learn side by side.

    Attributes:
      start: parameters [lane, ...] from which each begins.
      rates: [lane] learning rates.
      keys: [lane] random keys: equal ones pose equal prompts.
    """

    start: PyTree
    rates: Array
    keys: Array


class Learned(NamedTuple):
    """What learning gave.

    Attributes:
      params: [lane, ...].
      course: by name of `COURSE`, [lane, iteration].
    """

    params: PyTree
    course: dict[str, Array]


def widest(tasks: Sequence[TokenTask[Any]]) -> Widths:
    """The widths that all these tasks fit in."""
    return Widths(max(task.prompt_length for task in tasks), max(task.response_length for task in tasks))


@partial(jax.jit, static_argnames=("task", "count"), compiler_options=compiler_options())
def warmed(agent: TokenAgent, task: TokenTask[Any], keys: Array, count: int) -> tuple[PyTree, Array]:
    """Imitates right answers from scratch, `count` at a time, until the agent's `warm_start_loss` or `warm_start_steps`.

    Returns:
      (parameters [lane, ...], batches that it took [lane]) with each of keys [lane].
    """
    spec = dataclasses.replace(TokenEnv(task).spec, num_envs=count)

    def one(key: Array) -> tuple[PyTree, Array]:
        init_key, learn_key = jax.random.split(key)

        def step(carry: tuple[TokenState, Array]) -> tuple[TokenState, Array]:
            state, taken = carry
            state, _ = agent.imitate(state, task, jax.random.fold_in(learn_key, taken), count, taken)
            return state, taken + 1

        begin = agent.init(init_key, spec), jnp.zeros((), jnp.int32)
        state, taken = jax.lax.while_loop(lambda carry: carry[0].warm, step, begin)
        return state.params, taken

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames=("task", "prompts"), compiler_options=compiler_options())
def examined(agent: TokenAgent, task: TokenTask[Any], params: PyTree, keys: Array, prompts: int) -> dict[str, Array]:
    """Answers held-out prompts with each of the parameters [lane, ...]: numbers [lane] by name."""

    def one(params: PyTree, key: Array) -> dict[str, Array]:
        found = examine(agent.model(params), task, key, prompts, task.response_length, SAMPLES)
        right = found["sampled_reward"] > 0
        return {
            "greedy": jnp.mean(found["reward"]),
            "pass@1": jnp.mean(right),
            f"pass@{SAMPLES}": jnp.mean(jnp.any(right, axis=-1)),
            "entropy": found["entropy"],
            "distinct": found["distinct_answers"],
            "length": found["sampled_length"],
        }

    return jax.vmap(one)(params, keys)


def learn(
    agent: TokenAgent, task: TokenTask[Any], lanes: Lanes, count: int, iterations: int, widths: Widths
) -> Learned:
    """Learns by the agent's objective, all lanes side by side.

    Args:
      agent: with the objective; its learning rate is not used.
      task: that poses prompts and checks.
      lanes: where each policy begins, and what it does.
      count: responses of an iteration.
      iterations: how many.
      widths: to which batches are filled up.
    """
    objective = agent.build_objective(task.response_length, task.vocabulary_size)
    keys = jax.vmap(lambda key: jax.random.split(key, iterations + 1))(lanes.keys)
    if _learns_beside(agent, objective):
        return _learned_whole(agent, task, lanes, keys, count)
    own = jax.vmap(objective.init)(keys[:, 0])
    params, adam = lanes.start, jax.vmap(_adam(agent).init)(lanes.start)
    reference = lanes.start if any("logp_ref" in stage.inputs for stage in objective.stages) else None
    special = reference is not None or _is_special(objective, own)
    drawing = (objective, own) if special else (_SHARED, ())
    shape = (agent.num_epochs, agent.num_minibatches)
    course: list[dict[str, Array]] = []
    plain = dataclasses.replace(agent, objective="grpo", objective_settings=None)  # one program for all objectives
    for index in range(iterations):
        drawing = (objective, own) if special else drawing
        batch, learn_keys, found = _drawn(plain, task, params, reference, *drawing, keys[:, index + 1], count, widths)
        own, batch, orders = _prepared(objective, own, batch, learn_keys, shape)
        for place in range(shape[0] * shape[1]):
            rows = orders[:, place]
            outputs, back = _said(plain, task, objective.whole_groups, params, batch, rows)
            own, slopes = _slopes(objective, own, outputs, batch, rows)
            params, adam = _stepped(plain, params, adam, lanes.rates, back, slopes)
        course.append(found)
    return Learned(params, {name: jnp.stack([found[name] for found in course], axis=1) for name in COURSE})


def _adam(agent: TokenAgent) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(agent.max_gradient_norm), optax.scale_by_adam())


def _is_special(objective: Objective, state: PyTree) -> bool:
    """Whether it wants more of sampling than columns that cost next to nothing."""
    one = jax.tree.map(lambda leaf: leaf[0], state)
    wanted = objective.sampling(one)
    asks = wanted.side is not None or wanted.temperature is not None or bool(objective.statistics(one))
    return asks or not {name for stage in objective.stages for name in stage.inputs} <= _FREE


def _learns_beside(agent: TokenAgent, objective: Objective) -> bool:
    """Whether it learns from more than what the policy says of its tokens, such as a teacher."""
    needed = {name for stage in objective.stages for name in stage.inputs}
    beside = columns(TokenOutputs).keys() - {"logp", "entropy", "logits"}
    return agent.build_teacher(objective) is not None or bool(needed & beside)


def _learned_whole(agent: TokenAgent, task: TokenTask[Any], lanes: Lanes, keys: Array, count: int) -> Learned:
    """As `learn`, by the library's own iteration, with keys [lane, 1 + iteration]: half a minute to compile."""
    states, course = _begun(agent, task, lanes.start, keys[:, 0], count), []
    for index in range(1, keys.shape[1]):
        states, found = _reinforced(agent, task, states, lanes.rates, keys[:, index], count)
        course.append(found)
    return Learned(states.params, {name: jnp.stack([found[name] for found in course], axis=1) for name in COURSE})


@partial(jax.jit, static_argnames=("task", "count"), compiler_options=compiler_options())
def _begun(agent: TokenAgent, task: TokenTask[Any], start: PyTree, keys: Array, count: int) -> TokenState:
    """States [lane] as the warm start leaves them, with the parameters of `start`."""
    spec = dataclasses.replace(TokenEnv(task).spec, num_envs=count)

    def one(params: PyTree, key: Array) -> TokenState:
        state = dataclasses.replace(agent.init(key, spec), params=params)
        return agent._begin(state)

    return jax.vmap(one)(start, keys)


@partial(jax.jit, static_argnames=("task", "count"), compiler_options=compiler_options())
def _reinforced(
    agent: TokenAgent, task: TokenTask[Any], states: TokenState, rates: Array, keys: Array, count: int
) -> tuple[TokenState, dict[str, Array]]:
    def one(state: TokenState, rate: Array, key: Array) -> tuple[TokenState, dict[str, Array]]:
        state, metrics = dataclasses.replace(agent, learning_rate=rate).reinforce(state, task, key, count)
        return state, {name: metrics[name] for name in COURSE}

    return jax.vmap(one)(states, rates, keys)


@partial(jax.jit, static_argnames=("task", "count", "widths"), compiler_options=compiler_options())
def _drawn(
    agent: TokenAgent,
    task: TokenTask[Any],
    params: PyTree,
    reference: PyTree | None,
    objective: Objective,
    own: PyTree,
    keys: Array,
    count: int,
    widths: Widths,
) -> tuple[TokenBatch, Array, dict[str, Array]]:
    """A batch of each policy [lane, ...], keys [lane] to learn from it by, and what is kept of it."""
    groups = Groups(agent.group_size, task.response_length)

    def one(params: PyTree, reference: PyTree | None, own: PyTree, key: Array) -> tuple[TokenBatch, Array, Any]:
        collect_key, learn_key = jax.random.split(key)
        model = agent.model(params)
        anchor = None if reference is None else model.having(reference)
        _, batch, metrics = gather(model, task, collect_key, count, groups, objective, own, anchor)
        return _widened(batch, widths), learn_key, {name: metrics[name] for name in COURSE}

    return jax.vmap(one)(params, reference, own, keys)


@partial(jax.jit, static_argnames="shape", compiler_options=compiler_options())
def _prepared(
    objective: Objective, own: PyTree, batch: TokenBatch, keys: Array, shape: tuple[int, int]
) -> tuple[PyTree, TokenBatch, Array]:
    """States, prepared batches, and which rows (or groups) each step learns from, [lane, step, part]."""
    epochs, parts = shape

    def one(own: PyTree, batch: TokenBatch, key: Array) -> tuple[PyTree, TokenBatch, Array]:
        own, batch = objective.prepare(own, batch)
        rows = batch.mask.shape[0]
        size = rows // batch.group_size if objective.whole_groups else rows
        orders = jax.vmap(lambda key: jax.random.permutation(key, size))(jax.random.split(key, epochs))
        return own, batch, orders[:, : size - size % parts].reshape(epochs * parts, -1)

    return jax.vmap(one)(own, batch, keys)


@partial(jax.jit, static_argnames=("task", "whole"), compiler_options=compiler_options())
def _said(
    agent: TokenAgent, task: TokenTask[Any], whole: bool, params: PyTree, batch: TokenBatch, index: Array
) -> tuple[TokenOutputs, Any]:
    """What the policies say of the rows (or groups) at index [lane, part], and how slopes in that go back to parameters."""

    def one(params: PyTree, batch: TokenBatch, index: Array) -> tuple[TokenOutputs, Any]:
        part = batch.groups(index) if whole else batch._cut(index)
        width, context = task.response_length, cast(Prompted, part.context)
        prompts, prompt_mask = (rows[:, -task.prompt_length :] for rows in (context.prompts, context.prompt_mask))
        prompted = Prompted(prompts, prompt_mask, context.response_mask[:, :width])
        beyond = ((0, 0), (0, part.mask.shape[1] - width))

        def say(params: PyTree) -> TokenOutputs:
            found = agent.model(params).statistics(prompted, cast(Array, part.tokens)[:, :width])
            return TokenOutputs(jnp.pad(found.logp, beyond), jnp.pad(found.entropy, beyond))

        return jax.vjp(say, params)

    return jax.vmap(one)(params, batch, index)


@partial(jax.jit, compiler_options=compiler_options())
def _slopes(
    objective: Objective, own: PyTree, outputs: TokenOutputs, batch: TokenBatch, index: Array
) -> tuple[PyTree, TokenOutputs]:
    """States after a step of the rows (or groups) at index [lane, part], and slopes of the loss in the outputs."""

    def one(own: PyTree, outputs: TokenOutputs, batch: TokenBatch, index: Array) -> tuple[PyTree, TokenOutputs]:
        part = (batch.groups if objective.whole_groups else batch.rows)(index).as_step()

        def loss(outputs: TokenOutputs) -> tuple[Array, PyTree]:
            value, aux = objective(own, outputs, part)
            return value, aux.state

        slopes, after = jax.grad(loss, has_aux=True)(outputs)
        return after, slopes

    return jax.vmap(one)(own, outputs, batch, index)


@partial(jax.jit, compiler_options=compiler_options())
def _stepped(
    agent: TokenAgent, params: PyTree, adam: PyTree, rates: Array, back: Any, slopes: TokenOutputs
) -> tuple[PyTree, PyTree]:
    """One step of Adam of each policy: parameters and its state [lane, ...]."""

    def one(params: PyTree, adam: PyTree, rate: Array, back: Any, slopes: TokenOutputs) -> tuple[PyTree, PyTree]:
        updates, adam = _adam(agent).update(back(slopes)[0], adam, params)
        return jax.tree.map(lambda old, update: old - rate * update, params, updates), adam

    return jax.vmap(one)(params, adam, rates, back, slopes)


def _widened(batch: TokenBatch, widths: Widths) -> TokenBatch:
    """A batch filled up with masked columns: of prompts on the left, of responses on the right."""

    def wide(values: Array, to: int, left: bool, filling: Any = 0) -> Array:
        more = to - values.shape[1]
        return jnp.pad(values, ((0, 0), (more, 0) if left else (0, more)), constant_values=filling)

    changed: dict[str, Any] = {}
    for name, declared in columns(TokenBatch).items():
        values = getattr(batch, name)
        if values is not None and declared.axes == ("token",):
            changed[name] = jax.tree.map(lambda leaf: wide(leaf, widths.response, False), values)
    if batch.logp_prompt is not None:
        changed["logp_prompt"] = wide(batch.logp_prompt, widths.prompt, True, jnp.nan)
    context = cast(Prompted, batch.context)
    changed["context"] = Prompted(
        wide(context.prompts, widths.prompt, True),
        wide(context.prompt_mask, widths.prompt, True),
        wide(context.response_mask, widths.response, False),
    )
    side = None if batch.side is None else _widened(batch.side, widths)
    return dataclasses.replace(batch, **changed, side=side)
