"""The exact state of a Gymnasium environment as JSON values and arrays, without pickle.

Three kinds of environments can be told: those that define `get_state()` and `set_state()` themselves, those on MuJoCo, and
those whose state is plain attributes (numbers, arrays, containers of them), as in Gymnasium's classic control. Random
generators and the plain attributes of every wrapper (elapsed steps and the like) are part of it in all three.
"""

from __future__ import annotations

import contextlib
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.envs.adapters.wrappers import layers

Env = gymnasium.Env[Any, Any]

_PASTS = ((0, 10), (1, 3))  # seed and steps, of different length: a hidden counter must not agree by chance
_FUTURE = 10  # steps, before a reset and after it
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
    state: dict[str, Any] = {"layers": [_attributes(layer, views) for layer in layers(env)]}
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
    for layer, attributes in zip(layers(env), state["layers"], strict=True):
        for name, value in attributes.items():
            _put(layer, name, _decode(value))
    if "own" in state:
        inner.set_state(_decode(state["own"]))
    elif "mujoco" in state:
        _set_mujoco_state(inner, state["mujoco"])


def can_snapshot(env: Env, other: Env) -> bool:
    """Whether a snapshot reproduces later steps, tried out by stepping; what comes next must be a reset with a seed.

    Args:
      env: an environment.
      other: another one; or the same again, where there is but one: it then goes back to what it was before.
    """
    with contextlib.suppress(Exception):  # a foreign environment may fail in any way; then its state cannot be told
        _live(env, *_PASTS[0])
        told, space = snapshot(env), env.action_space
        space.seed(0)
        actions = [space.sample() for _ in range(2 * _FUTURE)]
        expected = _go_on(env, actions)
        _live(other, *_PASTS[1])
        restore(other, told)
        found = _go_on(other, actions)
        return len(expected) == len(found) and all(map(np.array_equal, expected, found))
    return False


def _live(env: Env, seed: int, steps: int) -> None:
    """Gives an environment a past."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        _step(env, env.action_space.sample())


def _go_on(env: Env, actions: list[Any]) -> list[Any]:
    """All that an environment gives in steps before and after a reset."""
    half = len(actions) // 2
    before = [each for action in actions[:half] for each in _step(env, action)]
    start = env.reset()[0]
    return [*before, *_arrays_of(start), *(each for action in actions[half:] for each in _step(env, action))]


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
    return [np.copy(observation)]
