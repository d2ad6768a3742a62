"""The exact state of a Gymnasium environment as JSON values and arrays, without pickle.

Three kinds of environments can be told: those that define `get_state()` and `set_state()` themselves, those on MuJoCo, and
those whose state is plain attributes (numbers, arrays, containers of them), as in Gymnasium's classic control. Random
generators and the plain attributes of every wrapper (elapsed steps and the like) are part of it in all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Env = gymnasium.Env[Any, Any]

_PROBE_STEPS = (10, 3)  # pasts of different length: a hidden counter must not agree by chance
# Arrays that MuJoCo allocates anew in each step, as many as there are contacts and constraints just then.
_PER_STEP = ("efc_", "efm_", "iefc_", "iacc", "ifrc_", "island_", "map_")


def snapshot(env: Env) -> dict[str, Any]:
    """Tells everything that decides an environment's later steps.

    Args:
      env: an environment, with its wrappers.

    Returns:
      A tree of dicts, lists, arrays and JSON values.

    Raises:
      TypeError: the environment's own `get_state()` gave something else than plain values, or its MuJoCo model puts
        bodies to sleep, which no state of MuJoCo tells.
    """
    inner: Any = env.unwrapped
    # A view of MuJoCo's arrays follows them when they are restored; a copy in its place would stand still.
    views = list(_arrays(inner.data).values()) if _is_mujoco(inner) else []
    state: dict[str, Any] = {"layers": [_attributes(layer, views) for layer in _layers(env)]}
    if _tells_itself(inner):
        state["own"] = _encode(inner.get_state())
    elif _is_mujoco(inner):
        state["mujoco"] = _mujoco_state(inner)
    return state


def restore(env: Env, state: dict[str, Any]) -> None:
    """Takes back what `snapshot` told; later steps are then bit-identical.

    Args:
      env: an environment made in the same way, and reset once (the first reset may build what is restored here).
      state: of `snapshot`.
    """
    inner: Any = env.unwrapped
    for layer, attributes in zip(_layers(env), state["layers"], strict=True):
        for name, value in attributes.items():
            _put(layer, name, _decode(value))
    if "own" in state:
        inner.set_state(_decode(state["own"]))
    elif "mujoco" in state:
        _set_mujoco_state(inner, state["mujoco"])


def can_snapshot(make: Callable[[], Env]) -> bool:
    """Whether a snapshot reproduces later steps, tried out with two environments of different pasts.

    Args:
      make: makes one environment.
    """
    made: list[Env] = []
    try:
        for seed, steps in enumerate(_PROBE_STEPS):
            made.append(make())
            made[-1].reset(seed=seed)
            made[-1].action_space.seed(seed)
            for _ in range(steps):
                _step(made[-1], made[-1].action_space.sample())
        first, second = made
        restore(second, snapshot(first))
        return (
            _go_on_alike(first, second)
            and _equal(_arrays_of(first.reset()[0]), _arrays_of(second.reset()[0]))
            and _go_on_alike(first, second)
        )
    except Exception:  # a foreign environment may fail in any way; then its state cannot be told
        return False
    finally:
        for env in made:
            env.close()


def _layers(env: Env) -> Iterator[Any]:
    """The wrappers from the outside in, then the environment itself."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        yield layer
        layer = layer.env
    yield layer


def _attributes(layer: Any, views: list[NDArray[Any]]) -> dict[str, Any]:
    told = {}
    for name, value in vars(layer).items():
        if isinstance(value, np.ndarray) and any(np.may_share_memory(value, view) for view in views):
            continue
        try:
            told[name] = _encode(value)
        except TypeError:  # spaces, renderers, models: what the environment is made of, not its state
            continue
    return told


def _put(layer: Any, name: str, value: Any) -> None:
    old = getattr(layer, name, None)
    if isinstance(value, np.random.Generator) and isinstance(old, np.random.Generator):
        mine, new = old.bit_generator, value.bit_generator
        if type(mine) is type(new):  # parts of the environment may hold the same generator: it stays the same object
            mine.state = new.state
            return
    setattr(layer, name, value)


def _encode(value: Any) -> Any:
    """Writes plain values as a tree of dicts, lists, arrays and JSON values that keeps their exact types.

    Raises:
      TypeError: for anything else.
    """
    if isinstance(value, np.generic):
        return {"scalar": np.asarray(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return {"array": value.copy()}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encode(entry) for entry in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _encode(entry) for key, entry in value.items()}}
    if isinstance(value, np.random.Generator):
        return {"generator": _encode(value.bit_generator.state)}
    raise TypeError(f"a {type(value).__name__} is not plain")


def _decode(node: dict[str, Any]) -> Any:
    ((kind, value),) = node.items()
    if kind == "scalar":
        return np.asarray(value)[()]
    if kind == "array":
        return np.array(value)
    if kind in ("list", "tuple"):
        entries = [_decode(entry) for entry in value]
        return tuple(entries) if kind == "tuple" else entries
    if kind == "dict":
        return {key: _decode(entry) for key, entry in value.items()}
    if kind == "generator":
        state = _decode(value)
        bit_generator = _BIT_GENERATORS[state["bit_generator"]]()
        bit_generator.state = state
        return np.random.Generator(bit_generator)
    return value


_BIT_GENERATORS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}


def _tells_itself(inner: Any) -> bool:
    # Gymnasium's MuJoCo base class has a `set_state(qpos, qvel)` of another meaning, and no `get_state`.
    return callable(getattr(inner, "get_state", None)) and callable(getattr(inner, "set_state", None))


def _is_mujoco(inner: Any) -> bool:
    model, data = getattr(inner, "model", None), getattr(inner, "data", None)
    return type(model).__name__ == "MjModel" and type(data).__name__ == "MjData"


def _arrays(data: Any) -> dict[str, NDArray[Any]]:
    """All arrays of MjData, as views."""
    found = {name: getattr(data, name) for name in dir(data) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def _derived(data: Any) -> dict[str, NDArray[Any]]:
    """MuJoCo's derived quantities of fixed size.

    Environments read positions of bodies and the like before a step computes them anew, and after `mj_step` these stand
    one sub-step behind the state: a fresh `mj_forward` would give other numbers than were there. Of the integers only
    those of flexible bodies outlive a step; some others are addresses in memory.
    """
    return {
        name: value
        for name, value in _arrays(data).items()
        if value.size
        and not name.startswith(_PER_STEP)
        and (value.dtype == np.float64 or (name.startswith("flex") and value.dtype.kind in "biu"))
    }


def _mujoco_state(inner: Any) -> dict[str, Any]:
    import mujoco

    sleep = getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", 0)
    if inner.model.opt.enableflags & int(sleep):
        raise TypeError("a MuJoCo model whose bodies sleep is not plain")
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(inner.model, kind))
    mujoco.mj_getState(inner.model, inner.data, state, kind)
    return {"integration": state, "derived": {name: value.copy() for name, value in _derived(inner.data).items()}}


def _set_mujoco_state(inner: Any, state: dict[str, Any]) -> None:
    import mujoco

    # A forward pass finds the contacts, which no array tells. It starts a new warm start for the solver and leaves other
    # numbers in the derived quantities, so that all these are put in their places afterwards.
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(inner.model, inner.data, state["integration"], kind)
    mujoco.mj_forward(inner.model, inner.data)
    mujoco.mj_setState(inner.model, inner.data, state["integration"], kind)
    current = _arrays(inner.data)
    for name, value in state["derived"].items():
        if name in current and current[name].shape == value.shape:  # not so after an upgrade of MuJoCo
            current[name][...] = value


def _step(env: Env, action: Any) -> list[Any]:
    observation, reward, terminated, truncated, _ = env.step(action)
    given = [*_arrays_of(observation), reward, terminated, truncated]
    return [*given, *_arrays_of(env.reset()[0])] if terminated or truncated else given


def _arrays_of(observation: Any) -> list[NDArray[Any]]:
    """What an observation is made of, however deep; copies, as an environment may write into what it gave."""
    if isinstance(observation, dict):
        return [array for key in observation for array in _arrays_of(observation[key])]
    if isinstance(observation, tuple):
        return [array for part in observation for array in _arrays_of(part)]
    return [np.array(observation)]


def _equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _go_on_alike(first: Env, second: Env) -> bool:
    for _ in range(max(_PROBE_STEPS)):
        action = first.action_space.sample()
        if not _equal(_step(first, action), _step(second, action)):
            return False
    return True
