"""What an agent's functions must give: found by tracing them as a loop is planned, before anything is compiled or written.

Loops carry the state through compiled programs, so that it must come back from every update in the same structure, shapes and
types. What is wrong about one's own agent is said in a sentence that names the function, what was expected and what came.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.errors
import jax.numpy as jnp
import numpy as np

from maxent_rl.agents.base import Remembers, fresh_memory, recalling
from maxent_rl.agents.registry import AGENTS, agent_name
from maxent_rl.errors import InvalidSettingError, MaxentRLError
from maxent_rl.storage.files import first_line
from maxent_rl.training.loops.memory import keeps_memory
from maxent_rl.types import Array, PyTree, Spec, check_state, form_of, kind_of

_COLUMNS = ("step", "seed", "seconds", "steps_per_second", "updates")
_COLUMNS_OF_ACTING = ("episode/return", "episode/length")


def check_update(agent: Any, spec: Spec, batch: Callable[[Any, Array], PyTree]) -> tuple[str, ...]:
    """Traces an agent's functions, `update` among them, on shapes alone.

    Args:
      agent: one that acts or learns from fixed data.
      spec: of the environment, with the number of environments.
      batch: what `update` learns from, of the agent and a random key.

    Returns:
      The names of the update's metrics, sorted.

    Raises:
      InvalidSettingError: a function gives what loops cannot work with, or fails.
    """
    state = (
        check_acting(agent, spec)
        if is_own(agent)
        else _traced(agent, "init", lambda agent, key: agent.init(key, spec), _key())
    )

    def update(agent: Any, state: PyTree, key: Array) -> Any:
        if keeps_memory(agent):
            state = agent.recalling(state, fresh_memory(agent, state, (spec.num_envs,)))
        return agent.update(state, batch(agent, key), key)

    found = _traced(agent, "update", update, state, _key())
    after, metrics = _pair(agent, "update", found)
    if keeps_memory(agent):
        after = _traced(agent, "recalling", lambda agent, state: agent.recalling(state, None), after)
    _check_state(agent, "update", state, after)
    return _check_metrics(agent, "update", metrics)


def is_own(agent: Any) -> bool:
    """Whether an agent is a user's own; of registered ones tests have shown that they act in all ways that the loops want."""
    return agent_name(agent) not in AGENTS


def check_acting(agent: Any, spec: Spec) -> PyTree:
    """Traces `init`, `act` and `mode`, for one observation and for a batch; the state of one seed, as shapes.

    Raises:
      InvalidSettingError: actions that are none of the environment's, or a function that fails.
    """
    state = _traced(agent, "init", lambda agent, key: agent.init(key, spec), _key())
    for path, leaf in jax.tree.leaves_with_path(state):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            where = jax.tree_util.keystr(path)
            raise InvalidSettingError(
                f"{_of(agent, 'init')} must return a pytree of arrays, got {leaf!r} at {where or 'its root'}."
            )
    for shape in ((), (spec.num_envs,)):
        observation = _abstract((*shape, *spec.observation_shape))

        def act(agent: Any, state: PyTree, observation: Array, key: Array) -> Any:
            return agent.act(_remembering(agent, state, observation, spec), observation, key)

        def mode(agent: Any, state: PyTree, observation: Array) -> Any:
            return agent.mode(_remembering(agent, state, observation, spec), observation)

        _check_action(agent, "act", _traced(agent, "act", act, state, observation, _key()), shape, spec)
        _check_action(agent, "mode", _traced(agent, "mode", mode, state, observation), shape, spec)
        _check_memory(agent, state, observation, shape, spec)
    return state


def check_learning(agent: Any, name: str, function: Callable[..., Any], *arguments: Any) -> tuple[str, ...]:
    """Traces a function (state, ...) to (state, metrics) of an agent; the names of its metrics, sorted.

    Args:
      agent: the agent.
      name: of the function.
      function: to be traced; it takes the agent, and then the arguments.
      *arguments: the state and what else it takes, as arrays or shapes.

    Raises:
      InvalidSettingError: it gives something else, or fails.
    """
    after, metrics = _pair(agent, name, _traced(agent, name, function, *arguments))
    _check_state(agent, name, arguments[0], after)
    return _check_metrics(agent, name, metrics)


def check_begin(agent: Any, state: PyTree, data: PyTree) -> None:
    """Traces `begin` of an agent that `BeginsFromData`; raises as `check_learning` does."""
    _check_state(agent, "begin", state, _traced(agent, "begin", lambda agent, *rest: agent.begin(*rest), state, data))


def check_examine(agent: Any, state: PyTree, held_out: PyTree) -> None:
    """Traces `examine` of an agent that `ExaminesData`; raises as `check_learning` does."""
    _check_metrics(
        agent, "examine", _traced(agent, "examine", lambda agent, *rest: agent.examine(*rest), state, held_out)
    )


def _key() -> Array:
    return jax.random.key(0)


def _remembering(agent: Any, state: PyTree, observation: Array, spec: Spec) -> PyTree:
    """The state to act with at the start of episodes."""
    batch_shape = observation.shape[: observation.ndim - len(spec.observation_shape)]
    return recalling(agent, state, fresh_memory(agent, state, batch_shape))


def _traced(agent: Any, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes that a function of the agent gives; what is no array in it stays as it is.

    The agent's numbers are traced, too, as they are in loops, where they change without compiling anew.
    """
    found: list[Any] = []
    numbers = jax.tree_util.tree_map_with_path(partial(_number, type(agent).__name__), agent)

    def run(agent: Any, *arguments: Any) -> None:
        leaves, structure = jax.tree.flatten(function(agent, *arguments))
        found.append(jax.tree.unflatten(structure, [_shape(leaf) for leaf in leaves]))

    try:
        jax.eval_shape(run, numbers, *arguments)
    except MaxentRLError:
        raise
    except Exception as error:
        if not is_own(agent):
            raise  # our fault: with all that Python says of it
        told = first_line(error)
        advice = ""
        if isinstance(error, jax.errors.JAXTypeError) or "concrete values" in told:
            advice = " What decides shapes and branches must be a static field: `name: Count = static(64)`."
        raise InvalidSettingError(
            f"{_of(agent, name)} fails when it is traced: {type(error).__name__}: {told}.{advice}"
        ) from error
    return found[0]


def _number(name: str, path: Any, leaf: Any) -> Array:
    if not isinstance(leaf, (bool, int, float, np.ndarray, np.generic, jax.Array)):
        raise InvalidSettingError(
            f"{name}{jax.tree_util.keystr(path)} is {leaf!r}, which is no number: declare it as a static field."
        )
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _shape(leaf: Any) -> Any:
    array = jnp.asarray(leaf) if isinstance(leaf, (bool, int, float, complex)) else leaf
    is_array = hasattr(array, "shape") and hasattr(array, "dtype")
    return _abstract(array.shape, array.dtype) if is_array else leaf


def _abstract(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def _pair(agent: Any, name: str, found: Any) -> tuple[Any, Any]:
    if not isinstance(found, tuple) or len(found) != 2:
        raise InvalidSettingError(f"{_of(agent, name)} must return (state, metrics), got {kind_of(found)}.")
    return found[0], found[1]


def _check_state(agent: Any, name: str, before: PyTree, after: PyTree) -> None:
    check_state(_of(agent, name), "init", before, after, InvalidSettingError)


def _check_metrics(agent: Any, name: str, metrics: Any) -> tuple[str, ...]:
    """Metrics are scalars by names that are no other column's."""
    if not isinstance(metrics, dict):
        raise InvalidSettingError(
            f"The metrics of {_of(agent, name)} must be a dict of scalars, got {kind_of(metrics)}."
        )
    taken = _COLUMNS + (_COLUMNS_OF_ACTING if agent.learns in ("replay", "rollout") else ())
    for key, value in metrics.items():
        if not isinstance(key, str) or key in taken:
            raise InvalidSettingError(
                f"The metrics of {_of(agent, name)} must have names of their own, such as 'critic/loss', got {key!r}"
                f"{', which is a column of the tables already' if key in taken else ''}."
            )
        is_scalar = isinstance(value, jax.ShapeDtypeStruct) and value.shape == () and value.dtype.kind not in "cV"
        if not is_scalar:
            raise InvalidSettingError(
                f"The metric {key!r} of {_of(agent, name)} must be a scalar, a real number, got {kind_of(value)}."
            )
    return tuple(sorted(metrics))


def _check_action(agent: Any, name: str, action: Any, shape: tuple[int, ...], spec: Spec) -> None:
    wanted = (*shape, *spec.action_shape)
    if not isinstance(action, jax.ShapeDtypeStruct):
        raise InvalidSettingError(
            f"{_of(agent, name)} must return one array of actions {list(wanted)}, got {kind_of(action)}."
        )
    is_number = jnp.issubdtype(action.dtype, jnp.floating) or jnp.issubdtype(action.dtype, jnp.integer)
    if action.shape != wanted or not is_number:
        kind = f"the numbers of {spec.num_actions} actions" if spec.num_actions is not None else "real numbers"
        raise InvalidSettingError(
            f"{_of(agent, name)} must return actions {list(wanted)}, {kind}, for observations "
            f"{[*shape, *spec.observation_shape]}, got {form_of(action)}."
        )


def _check_memory(agent: Any, state: PyTree, observation: Any, shape: tuple[int, ...], spec: Spec) -> None:
    """A memory keeps its form from step to step."""
    if not isinstance(agent, Remembers):
        return
    memory = _traced(agent, "memory", lambda agent, state: agent.memory(state, shape), state)
    action = _abstract((*shape, *spec.action_shape))
    reward = _abstract(shape)
    after = _traced(
        agent, "remember", lambda agent, *rest: agent.remember(*rest), state, memory, observation, action, reward
    )
    forms = [(jax.tree.structure(each), list(map(form_of, jax.tree.leaves(each)))) for each in (memory, after)]
    if forms[0] != forms[1]:
        raise InvalidSettingError(
            f"{_of(agent, 'remember')} must return the memory in the structure, shapes and types in which memory() begins it, "
            f"got {kind_of(after)}."
        )


def _of(agent: Any, name: str) -> str:
    return f"{type(agent).__name__}.{name}"
