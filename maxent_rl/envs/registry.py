"""From an environment's name to the environment: the prefix says the backend, no prefix means Gymnasium."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import gymnasium

from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs
from maxent_rl.envs.mujoco_log import quiet_mujoco
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, MissingDependencyError, unknown_name

Factory: TypeAlias = Callable[[], gymnasium.Env[Any, Any]]

_VERSION = re.compile(r"(?P<base>.+)-v(?P<version>\d+)")


def _make_brax(name: str, backend: str | None) -> DeviceEnv:
    from maxent_rl.envs.brax_envs import make_brax

    return make_brax(name, backend)


def _make_playground(name: str, backend: str | None) -> DeviceEnv:
    from maxent_rl.envs.playground_envs import make_playground

    if backend is not None:
        raise InvalidSettingError(
            f"--backend chooses the physics of brax/ environments; playground/{name} has one only."
        )
    return make_playground(name)


# Each device backend is one line here.
DEVICE_BACKENDS: dict[str, Callable[[str, str | None], DeviceEnv]] = {
    "brax": _make_brax,
    "playground": _make_playground,
}
HOST_BACKENDS = ("envpool",)


def canonical_name(name: str) -> str:
    """The full name of an environment: `HalfCheetah` is the newest version that Gymnasium has.

    Args:
      name: a Gymnasium id, with or without version, or `backend/name`, which the backend checks when it is made.

    Raises:
      UnknownNameError: naming the nearest right ones.
    """
    prefix, slash, rest = name.partition("/")
    if slash and (prefix in DEVICE_BACKENDS or prefix in HOST_BACKENDS):
        if prefix in HOST_BACKENDS and not _VERSION.fullmatch(rest):
            return f"{prefix}/{canonical_name(rest)}"
        return name
    known = _gymnasium_ids()
    if name in known:
        return name
    versions = [int(match["version"]) for match in map(_VERSION.fullmatch, known) if match and match["base"] == name]
    if versions:
        return f"{name}-v{max(versions)}"
    bases = {match["base"] for match in map(_VERSION.fullmatch, known) if match}
    hint = f"Other backends: {', '.join(f'{backend}/NAME' for backend in (*DEVICE_BACKENDS, *HOST_BACKENDS))}."
    raise unknown_name("environment", name, {*known, *bases}, hint)


def is_device(name: str) -> bool:
    """Whether an environment runs on the device, inside the jitted loop."""
    return name.partition("/")[0] in DEVICE_BACKENDS and "/" in name


def make_device(name: str, backend: str | None = None) -> DeviceEnv:
    """Makes a device environment.

    Args:
      name: `brax/halfcheetah`, `playground/CheetahRun`.
      backend: the physics, where there is a choice; None for the default.

    Raises:
      UnknownNameError: no such environment or backend.
      MissingDependencyError: the backend is an extra that is not installed.
    """
    prefix, _, rest = name.partition("/")
    return DEVICE_BACKENDS[prefix](rest, backend)


def make_host(env: str | Factory, seeds: Sequence[int]) -> HostEnvs:
    """Makes host environments side by side.

    Args:
      env: a Gymnasium id (a name as for `canonical_name`), `envpool/ID`, or a function that makes one environment.
      seeds: one for each.

    Raises:
      UnknownNameError: no such environment.
      IncompatibleEnvironmentError: spaces that the library does not handle, or an environment that cannot be made.
      MissingDependencyError: a package that the environment needs is not installed.
    """
    from maxent_rl.envs.gymnasium_envs import GymnasiumEnvs

    if isinstance(env, str) and env.startswith("envpool/"):
        from maxent_rl.envs.envpool_envs import EnvpoolEnvs

        return EnvpoolEnvs(canonical_name(env).removeprefix("envpool/"), seeds)
    if isinstance(env, str):
        name = canonical_name(env)
        return GymnasiumEnvs(lambda: make_single(name), seeds, name)
    quiet_mujoco()
    return GymnasiumEnvs(env, seeds, str(getattr(env, "__name__", "the environment")))


def make_single(env: str | Factory, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Makes one Gymnasium environment, for instance to render it.

    Args:
      env: as for `make_host`, `envpool/ID` being taken as the Gymnasium id.
      render_mode: "rgb_array", or None.
    """
    quiet_mujoco()
    if not isinstance(env, str):
        return env()
    name = canonical_name(env.removeprefix("envpool/"))
    try:
        return gymnasium.make(name, render_mode=render_mode, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingDependencyError(f"{name} needs a package that is not installed: {error}.") from error
    except (gymnasium.error.Error, ImportError, TypeError, AttributeError, FileNotFoundError) as error:
        raise IncompatibleEnvironmentError(f"{name} cannot be made with the installed Gymnasium: {error}.") from error


def _gymnasium_ids() -> set[str]:
    return set(gymnasium.registry)
