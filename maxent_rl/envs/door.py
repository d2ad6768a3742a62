"""The door for device environments of one's own: they are traced before anything is compiled, and refused in one sentence.

What is looser than the protocol of `device.DeviceEnv` and has one meaning is let in: observations of whole numbers, of truth
values or of several axes, rewards and flags of any kind of number, states with Python's numbers, arrays in fields. Tracing
computes nothing: no step is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.envs.contents import contents
from maxent_rl.envs.device import DeviceEnv, PaysForGoals
from maxent_rl.envs.told import raised, told
from maxent_rl.envs.tracing import check_functions
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.spaces import Space
from maxent_rl.types import Array, PyTree, Spec


def is_device_env(env: Any) -> bool:
    """Whether that is meant as a device environment, which may be callable too, and not as what makes an environment."""
    if isinstance(env, type):
        return False
    try:
        return isinstance(env.spec, Spec) or not callable(env)
    except Exception:  # a `spec` that fails is a fault of a device environment
        return not callable(env)


def admit(env: Any) -> DeviceEnv:
    """Checks a device environment of one's own, by tracing a reset and a step of two of them side by side.

    Args:
      env: the environment.

    Returns:
      It, or where it is not what loops need as it stands, an `OwnEnv` of it.

    Raises:
      IncompatibleEnvironmentError: what `spec`, `reset` or `step` gives, and what was expected.
    """
    name = type(env).__name__
    spec = checked_spec(env, name)
    check_functions(env, name, spec)
    if len(spec.observation_shape) != 1:
        seen = jax.eval_shape(lambda key: jnp.asarray(env.reset(key)[1]), jax.random.key(0))
        space = Space("box", spec.observation_shape, seen.dtype.name)
        spec = dataclasses.replace(spec, observation_shape=(space.size,), observation_space=space)
    if repr(spec) == repr(env.spec) and _is_value(env) and not callable(env):
        admitted: DeviceEnv = env
        return admitted
    return OwnEnv(env, spec, contents(env))


@dataclasses.dataclass(frozen=True, eq=False)
class OwnEnv:
    """An environment of one's own as loops need it: with a `spec` of one axis, and compared by what it holds.

    Arrays cannot be hashed, and what is compared by its identity would keep its compiled program when its fields change. The
    observations themselves become flat in `device.reset_within` and `step_within`.

    Attributes:
      inner: the environment.
      spec: with one axis of observations.
      holds: its `contents`.
    """

    inner: Any
    spec: Spec
    holds: Hashable

    def __hash__(self) -> int:
        """Of what it holds."""
        return hash((self.spec, self.holds))

    def __eq__(self, other: object) -> bool:
        """Whether the other holds the same."""
        return self is other or (isinstance(other, OwnEnv) and (self.spec, self.holds) == (other.spec, other.holds))

    def reset(self, key: Array) -> tuple[PyTree, Array]:
        """As the environment's own."""
        started: tuple[PyTree, Array] = self.inner.reset(key)
        return started

    def step(self, state: PyTree, action: Array) -> tuple[PyTree, Array, Array, Array]:
        """As the environment's own."""
        stepped: tuple[PyTree, Array, Array, Array] = self.inner.step(state, action)
        return stepped


def pays_for_goals(env: DeviceEnv, name: str) -> PaysForGoals:
    """What of a device environment with goals says what they pay, which is traced.

    Args:
      env: the environment.
      name: for messages.

    Raises:
      IncompatibleEnvironmentError: it does not say, or gives something else than a number for each goal.
    """
    own = env.inner if isinstance(env, OwnEnv) else env
    space = env.spec.observation_space
    if not isinstance(own, PaysForGoals) or space is None or space.goals is None:
        raise IncompatibleEnvironmentError(
            f"{name} lacks compute_reward(achieved, desired) or compute_terminated of the same, by which relabelled steps are "
            "paid; give it both, or leave --goal-relabel out."
        )
    first, last = space.goals.desired
    goals = np.zeros((2, last - first), np.float32)
    for method, kind in (("compute_reward", "a number"), ("compute_terminated", "a truth value")):
        try:
            found = jax.eval_shape(getattr(own, method), goals, goals)
        except Exception as error:  # whatever foreign code raises
            raise IncompatibleEnvironmentError(f"{name}.{method} raised {raised(error)}.") from error
        if getattr(found, "shape", None) != (2,) or (kind == "a truth value") != (found.dtype == bool):
            came = f"an array of shape {found.shape} of {found.dtype}" if hasattr(found, "shape") else told(found)
            raise IncompatibleEnvironmentError(
                f"{name}.{method} gave {came} for two goals; expected {kind} for each, in an array."
            )
    return own


def checked_spec(env: Any, name: str) -> Spec:
    """The `spec` of a device environment, in plain numbers and tuples.

    Raises:
      IncompatibleEnvironmentError: it has none, or one that cannot be.
    """
    if isinstance(env, gymnasium.Env):
        raise IncompatibleEnvironmentError(
            "The environment was given as an instance; give a function that makes it, as every seed needs its own."
        )
    try:
        spec = getattr(env, "spec", None)
    except Exception as error:  # whatever foreign code raises
        raise IncompatibleEnvironmentError(f"{name}.spec raised {raised(error)}.") from error
    if not isinstance(spec, Spec):
        raise IncompatibleEnvironmentError(f"{name} is neither a function nor a device environment with a `spec`.")
    sizes, space = spec.choices, spec.observation_space
    plain = spec.num_actions is not None and sizes is None
    checks: list[tuple[str, bool, str]] = [
        ("observation_shape", _is_shape(spec.observation_shape), "a tuple of whole numbers from 1, such as (3,)"),
        (
            "action_shape",
            _is_shape(spec.action_shape) and len(spec.action_shape) in ((0, 1) if plain else (1,)),
            "() for discrete actions or (length,) for sequences of them" if plain else "(size,) with a size from 1",
        ),
        ("horizon", _is_count(spec.horizon), "a whole number of steps from 1"),
        ("num_actions", spec.num_actions is None or _is_count(spec.num_actions), "None, or a whole number from 1"),
        (
            "choices",
            sizes is None or (_is_shape(sizes) and (len(sizes),) == tuple(spec.action_shape)),
            f"None, or a whole number from 1 for each entry of the action_shape {spec.action_shape!r}",
        ),
        (
            "observation_space",
            space is None or (space.kind in ("box", "dict") and (space.size,) == tuple(spec.observation_shape)),
            f"None, or a box or a dict with the entries of the observation_shape {spec.observation_shape!r}",
        ),
        ("action_space", spec.action_space is None, "None, as device environments take what agents give"),
    ]
    for field, fits, expected in checks:
        if not fits:
            raise IncompatibleEnvironmentError(
                f"{name}.spec has the {field} {getattr(spec, field)!r}; expected {expected}."
            )
    return dataclasses.replace(
        spec,
        observation_shape=tuple(map(int, spec.observation_shape)),
        action_shape=tuple(map(int, spec.action_shape)),
        horizon=int(spec.horizon),
        num_actions=None if spec.num_actions is None else int(spec.num_actions),
        choices=None if sizes is None else tuple(map(int, sizes)),
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(map(_is_count, value))


def _is_value(env: Any) -> bool:
    """Whether an environment is compared by what it holds, as a frozen dataclass of plain fields is."""
    by_identity: Any = object.__hash__
    if type(env).__hash__ in (None, by_identity):
        return False
    try:
        hash(env)
    except TypeError:
        return False
    return not any(isinstance(value, (np.ndarray, jax.Array)) for value in getattr(env, "__dict__", {}).values())
