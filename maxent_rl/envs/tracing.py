"""A trace of a device environment of one's own, which computes nothing: what its functions give, and whether they are pure."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from maxent_rl.envs.contents import contents
from maxent_rl.envs.device import keeps_type, settled_reset, settled_step, within
from maxent_rl.envs.told import raised, told
from maxent_rl.errors import IncompatibleEnvironmentError, MaxentRLError
from maxent_rl.types import Array, PyTree, Spec, check_state


def check_functions(env: Any, name: str, spec: Spec) -> None:
    """Traces `reset` and `step`, of two environments side by side; twice, as what is traced once must hold for good.

    Raises:
      IncompatibleEnvironmentError: they fail, give something else than they should, or something else the second time.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    actions = jax.eval_shape(lambda: jnp.zeros((2, *spec.action_shape)))

    def reset() -> tuple[Any, PyTree]:
        with _tracing(env, name, "reset"):
            found = jax.make_jaxpr(jax.vmap(lambda key: _reset(env, name, spec, key)), return_shape=True)(keys)
        return found[0], found[1][0]

    def step(states: PyTree) -> Any:
        with _tracing(env, name, "step"):
            return jax.make_jaxpr(jax.vmap(lambda *inputs: _step(env, name, spec, *inputs)))(states, actions)

    (first, states), holds = (reset(), None)
    programs = {"reset": first, "step": step(states)}
    holds = contents(env)
    again = {"step": step(states), "reset": reset()[0]}
    for call, program in programs.items():
        if not _same_constants(program, again[call]):
            raise IncompatibleEnvironmentError(
                f"{name}.{call} uses other numbers each time that it is traced, which it is once for many steps; expected "
                "random numbers from the key alone (jax.random), and all else that changes in the state."
            )
    if contents(env) != holds:
        raise IncompatibleEnvironmentError(
            f"{name} changes attributes of its own when it is traced, which happens once for many steps; expected pure "
            "functions: what changes belongs into the state."
        )


def _reset(env: Any, name: str, spec: Spec, key: Array) -> tuple[PyTree, Array]:
    result = env.reset(key)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise IncompatibleEnvironmentError(
            f"{name}.reset gave {_values(result)}; expected two values: state and observation."
        )
    state, observation = result
    _check(observation, f"{name}.reset", "the observation", own_shape(spec), "its spec says")
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if _aval(leaf) is None:
            raise IncompatibleEnvironmentError(
                f"{name}.reset gave a state that holds {told(leaf)} (state{jax.tree_util.keystr(path)}); expected arrays "
                "and numbers alone."
            )
    return settled_reset(spec, state, observation)


def _step(env: Any, name: str, spec: Spec, state: PyTree, action: Array) -> tuple[PyTree, Array, Array, Array]:
    result = env.step(state, within(spec, action))
    if not isinstance(result, (tuple, list)) or len(result) != 4:
        raise IncompatibleEnvironmentError(
            f"{name}.step gave {_values(result)}; expected four values: state, observation, reward and terminated, as time "
            "limits are the horizon's business."
        )
    following, observation, reward, terminated = result
    _check(observation, f"{name}.step", "the observation", own_shape(spec), "its spec says")
    _check(reward, f"{name}.step", "the reward", (), "one number has")
    _check(terminated, f"{name}.step", "terminated", (), "one truth value has")
    arrays = jax.tree.map(lambda leaf: leaf if (aval := _aval(leaf)) is None else aval, following)
    check_state(f"{name}.step", "reset", state, arrays, IncompatibleEnvironmentError, keeps_type)
    return settled_step(spec, state, following, observation, reward, terminated)


def own_shape(spec: Spec) -> tuple[int, ...]:
    """The shape of an observation as the environment itself gives it."""
    # What has parts comes as the vector that they become; the space says where in it they stand.
    space = spec.observation_space
    return spec.observation_shape if space is None or space.parts else space.shape


def _check(value: Any, gave: str, what: str, shape: tuple[int, ...], why: str) -> None:
    aval = _aval(value)
    if aval is None or aval.shape != shape:
        came = told(value) if aval is None else f"an array of shape {aval.shape}"
        raise IncompatibleEnvironmentError(f"{gave} gave {came} as {what}; expected the shape {shape}, as {why}.")
    if not jnp.issubdtype(aval.dtype, jnp.bool_) and not _is_real(aval.dtype):
        raise IncompatibleEnvironmentError(f"{gave} gave the type {aval.dtype} as {what}; expected real numbers.")


def _aval(value: Any) -> Any:
    """The value as an array, traced or not; None where it is none."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        return None


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _values(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, (tuple, list)) else told(result)


_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (
        jax.errors.TracerBoolConversionError,
        "decides in Python (if, while, and) by a value that is known only when it runs; expected jnp.where or jax.lax.cond",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "gives NumPy a value that is known only when it runs; expected jax.numpy in place of numpy",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "takes a value that is known only when it runs as an index or a length in Python; expected a jnp array to be indexed",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "needs the number of a value that is known only when it runs (float(), int(), a shape); expected jnp functions of it",
    ),
    (
        jax.errors.UnexpectedTracerError,
        "uses a value that an earlier trace left behind; expected pure functions: what changes belongs into the state",
    ),
)


@contextlib.contextmanager
def _tracing(env: Any, name: str, call: str) -> Iterator[None]:
    """Turns what a function raises when it is traced into one sentence, with the line where it happened."""
    try:
        yield
    except IncompatibleEnvironmentError as error:
        raise IncompatibleEnvironmentError(
            str(error)
        ) from None  # without what JAX adds to an error that passes through it
    except MaxentRLError:
        raise
    except Exception as error:  # whatever foreign code raises
        place = _place(error, getattr(type(env), call, None))
        for kind, advice in _ADVICE:
            if isinstance(error, kind):
                raise IncompatibleEnvironmentError(f"{name}.{call}{place} {advice}.") from error
        raise IncompatibleEnvironmentError(
            f"{name}.{call}{place} raised {raised(error)} when it was traced."
        ) from error


def _place(error: BaseException, function: Any) -> str:
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    place, frame = "", error.__traceback__
    while frame is not None and code is not None:
        if frame.tb_frame.f_code.co_filename == code.co_filename:
            place = f" ({Path(code.co_filename).name}, line {frame.tb_lineno})"
        frame = frame.tb_next
    return place


def _same_constants(first: Any, second: Any) -> bool:
    """Whether two traces have the same numbers in them."""
    one, two = (list(_constants(closed)) for closed in (first, second))
    return len(one) == len(two) and all(map(_is_same_array, one, two))


def _constants(program: Any) -> Iterator[Any]:
    """All numbers and arrays in a program and in those within it, in order; by attributes, as JAX hides its types."""
    yield from getattr(program, "consts", ())
    jaxpr = getattr(program, "jaxpr", program)
    for equation in getattr(jaxpr, "eqns", ()):
        yield from (each.val for each in equation.invars if hasattr(each, "val"))
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                    yield from _constants(part)
    yield from (each.val for each in getattr(jaxpr, "outvars", ()) if hasattr(each, "val"))


def _is_same_array(one: Any, two: Any) -> bool:
    if one is two:
        return True
    return contents(one) == contents(two)
