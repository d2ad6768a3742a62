"""The exact state of a Gymnasium environment as JSON values and arrays, without pickle.

Three kinds of environments can be told: those that define `get_state()` and `set_state()` themselves, those on MuJoCo, and
those whose state is plain attributes (numbers, arrays, lists of them), as in Gymnasium's classic control. For the last two
the random generator and the plain attributes of every wrapper (elapsed steps and the like) are part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Env = gymnasium.Env[Any, Any]

_PLAIN = (bool, int, float, str, np.ndarray, np.generic, type(None))
_RANDOM = "_np_random"
_PROBE_STEPS = 5


def snapshot(env: Env) -> dict[str, Any]:
    """Tells everything that decides an environment's later steps.

    Args:
      env: an environment, with its wrappers.

    Returns:
      A tree of dicts, lists, arrays and JSON values.
    """
    inner = env.unwrapped
    state: dict[str, Any] = {"layers": [_plain_attributes(layer) for layer in _layers(env)]}
    generator = getattr(inner, _RANDOM, None)
    state["random"] = None if generator is None else generator.bit_generator.state
    if _tells_itself(inner):
        state["own"] = inner.get_state()  # type: ignore[attr-defined]
    elif _is_mujoco(inner):
        state["mujoco"] = _mujoco_state(inner)
    return state


def restore(env: Env, state: dict[str, Any]) -> None:
    """Takes back what `snapshot` told, in an environment made in the same way; later steps are bit-identical."""
    inner = env.unwrapped
    for layer, attributes in zip(_layers(env), state["layers"], strict=True):
        for name, value in attributes.items():
            old = getattr(layer, name, None)
            restored = tuple(value) if isinstance(old, tuple) else value
            setattr(layer, name, restored.copy() if isinstance(restored, np.ndarray) else restored)
    if state["random"] is not None:
        inner.np_random.bit_generator.state = _random_state(state["random"])
    if "own" in state:
        inner.set_state(state["own"])  # type: ignore[attr-defined]
    elif "mujoco" in state:
        _set_mujoco_state(inner, state["mujoco"])


def can_snapshot(make: Callable[[], Env]) -> bool:
    """Whether a snapshot reproduces later steps: known for MuJoCo, tried out once for all others."""
    first, second = make(), make()
    try:
        if _is_mujoco(first.unwrapped) and not _tells_itself(first.unwrapped):
            return True
        first.reset(seed=1)
        first.action_space.seed(1)
        second.reset(seed=2)
        actions = [first.action_space.sample() for _ in range(2 * _PROBE_STEPS)]
        for action in actions[:_PROBE_STEPS]:
            _step(first, action)
        restore(second, snapshot(first))
        return all(_equal(_step(first, action), _step(second, action)) for action in actions[_PROBE_STEPS:])
    except Exception:  # a foreign environment may fail in any way; then its state cannot be told
        return False
    finally:
        first.close()
        second.close()


def _layers(env: Env) -> Iterator[Any]:
    """The wrappers from the outside in, then the environment itself."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        yield layer
        layer = layer.env
    yield layer


def _plain_attributes(layer: Any) -> dict[str, Any]:
    return {name: _copy(value) for name, value in vars(layer).items() if name != _RANDOM and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(entry) for entry in value)
    return isinstance(value, _PLAIN) and not (isinstance(value, np.ndarray) and value.dtype.hasobject)


def _copy(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_copy(entry) for entry in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _tells_itself(inner: Any) -> bool:
    # Gymnasium's MuJoCo base class has a `set_state(qpos, qvel)` of another meaning, and no `get_state`.
    return callable(getattr(inner, "get_state", None)) and callable(getattr(inner, "set_state", None))


def _is_mujoco(inner: Any) -> bool:
    model = getattr(inner, "model", None)
    return type(model).__name__ == "MjModel" and type(getattr(inner, "data", None)).__name__ == "MjData"


def _derived(data: Any) -> dict[str, NDArray[Any]]:
    """MuJoCo's derived quantities.

    Environments read positions of bodies and the like before the first step computes them anew, and after `mj_step` these
    stand one sub-step behind the state: a fresh `mj_forward` would give other numbers than were there.
    """
    found = {}
    for name in dir(data):
        if (
            not name.startswith("_")
            and isinstance(value := getattr(data, name), np.ndarray)
            and value.dtype.kind in "fiu"
        ):
            found[name] = value
    return found


def _mujoco_state(inner: Any) -> dict[str, Any]:
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(inner.model, kind))
    mujoco.mj_getState(inner.model, inner.data, state, kind)
    derived = {name: value.copy() for name, value in _derived(inner.data).items() if value.dtype == np.float64}
    return {"integration": state, "derived": derived}


def _set_mujoco_state(inner: Any, state: dict[str, Any]) -> None:
    import mujoco

    # A forward pass allocates what depends on contacts; the exact values then replace what it computed.
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(inner.model, inner.data, state["integration"], kind)
    mujoco.mj_forward(inner.model, inner.data)
    current = _derived(inner.data)
    for name, value in state["derived"].items():
        if name in current and current[name].shape == value.shape:
            current[name][...] = value
    mujoco.mj_setState(inner.model, inner.data, state["integration"], kind)


def _random_state(state: Any) -> Any:
    """Integers come back from JSON as they were; NumPy's generators with array states need arrays."""
    if isinstance(state, dict):
        return {name: _random_state(value) for name, value in state.items()}
    return np.asarray(state, np.uint64) if isinstance(state, list) else state


def _step(env: Env, action: Any) -> tuple[Any, ...]:
    observation, reward, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        observation, _ = env.reset()
    return np.asarray(observation), reward, terminated, truncated


def _equal(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
