"""From an environment's name to the environment: the prefix says the backend, no prefix means Gymnasium."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium

from maxent_rl.envs.adapters.mujoco_log import quiet_mujoco
from maxent_rl.envs.adapters.robotics import PACKAGE, is_robotics, register_robotics
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs
from maxent_rl.errors import (
    IncompatibleEnvironmentError,
    InvalidSettingError,
    MissingDependencyError,
    UnknownNameError,
    unknown_name,
)

Factory: TypeAlias = Callable[[], gymnasium.Env[Any, Any]]


class Backend(NamedTuple):
    """Where the environments of one prefix come from.

    Attributes:
      make: `module:function`, imported when first used. A device backend's takes the name after the prefix; a host
        backend's takes that name and the seeds.
      on_device: whether they are pure JAX functions.
      has_physics: whether `make` takes the name of a physics backend, or None, as its second argument.
    """

    make: str
    on_device: bool = True
    has_physics: bool = False

    def load(self) -> Callable[..., Any]:
        """Imports the function."""
        module, _, function = self.make.partition(":")
        made: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return made


BACKENDS = {
    "brax": Backend("maxent_rl.envs.adapters.brax:make_brax", has_physics=True),
    "playground": Backend("maxent_rl.envs.adapters.playground:make_playground"),
    "envpool": Backend("maxent_rl.envs.adapters.envpool:EnvpoolEnvs", on_device=False),
    "maxent": Backend("maxent_rl.envs.maxent:make_maxent"),
    "tokens": Backend("maxent_rl.envs.adapters.tokens:make_tokens"),
}

_VERSION = re.compile(r"(?P<base>.+)-v(?P<version>\d+)")


def canonical_name(name: str) -> str:
    """The full name of an environment: `HalfCheetah` is the newest version that Gymnasium has.

    Args:
      name: a Gymnasium id, with or without version; `module:id` for one that is registered when `module` is imported; or
        `backend/name`, which the backend checks when it is made.

    Raises:
      UnknownNameError: naming the nearest right ones.
      MissingDependencyError: it is known to be an environment of a package that is not installed.
    """
    prefix, rest = _split(name)
    if prefix is not None:
        if prefix != "envpool":
            return name
        # envpool has Gymnasium's names and many more; of the former, the version that stands for the bare name.
        return f"{prefix}/{_newest().get(rest, rest)}"
    if ":" in name:
        _import_environments(name)
        known = name.partition(":")[2]
        return name if known in gymnasium.registry else f"{name.partition(':')[0]}:{canonical_name(known)}"
    if is_robotics(name) and name not in gymnasium.registry:
        register_robotics(name)
    newest = _newest()
    if name in gymnasium.registry:
        return name
    if name in newest:
        return newest[name]
    raise _unknown(name, newest)


def has_name(env: str) -> bool:
    """Whether that is an environment's name, not what a function or an object of the user's own is called."""
    try:
        canonical_name(env)
    except UnknownNameError:
        return False
    except MissingDependencyError:  # a name of something
        return True
    return True


def is_device(name: str) -> bool:
    """Whether an environment runs on the device, inside the jitted loop."""
    prefix, _ = _split(name)
    return prefix is not None and BACKENDS[prefix].on_device


def make_device(name: str, backend: str | None = None) -> DeviceEnv:
    """Makes a device environment.

    Args:
      name: `brax/halfcheetah`, `playground/CheetahRun`.
      backend: the physics, where there is a choice; None for the default.

    Raises:
      UnknownNameError: no such environment or backend.
      InvalidSettingError: a `backend` where there is no choice, or a name of an environment that runs on the host.
      MissingDependencyError: the backend is an extra that is not installed.
    """
    name = canonical_name(name)
    prefix, rest = _split(name)
    home = BACKENDS[prefix] if prefix is not None else None
    if backend is not None and (home is None or not home.has_physics):
        raise InvalidSettingError(f"--backend chooses the physics of brax/ environments; {name} has none to choose.")
    if home is None or not home.on_device:
        raise InvalidSettingError(f"{name} runs on the host; make it with `make_host`.")
    made: DeviceEnv = home.load()(rest, backend) if home.has_physics else home.load()(rest)
    return made


def make_host(env: str | Factory, seeds: Sequence[int]) -> HostEnvs:
    """Makes host environments side by side.

    Args:
      env: a name as for `canonical_name`, of an environment that runs on the host; or a function that makes one.
      seeds: one for each.

    Raises:
      UnknownNameError: no such environment.
      InvalidSettingError: a name of an environment that runs on the device.
      IncompatibleEnvironmentError: spaces that the library does not handle, or an environment that cannot be made.
      MissingDependencyError: a package that the environment needs is not installed.
    """
    from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs

    if not isinstance(env, str):
        quiet_mujoco()
        return GymnasiumEnvs(env, seeds, _factory_name(env))
    name = canonical_name(env)
    prefix, rest = _split(name)
    if prefix is None:
        return GymnasiumEnvs(lambda: make_single(name), seeds, name)
    if BACKENDS[prefix].on_device:
        raise InvalidSettingError(f"{name} runs on the device; make it with `make_device`.")
    made: HostEnvs = BACKENDS[prefix].load()(rest, seeds)
    return made


def make_single(env: str | Factory, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """Makes one Gymnasium environment, for instance to render it.

    Args:
      env: as for `make_host`; `envpool/ID` is taken as the Gymnasium id.
      render_mode: "rgb_array", or None; passed on to a function that takes it.

    Raises:
      UnknownNameError: no such environment.
      InvalidSettingError: a name of an environment that runs on the device.
      IncompatibleEnvironmentError: it cannot be made with the installed Gymnasium.
      MissingDependencyError: a package that the environment needs is not installed.
    """
    quiet_mujoco()
    if not isinstance(env, str):
        maker: Callable[..., gymnasium.Env[Any, Any]] = env
        return maker(render_mode=render_mode) if render_mode is not None and _takes_render_mode(env) else maker()
    if is_device(env):
        raise InvalidSettingError(f"{env} runs on the device; make it with `make_device`.")
    name = canonical_name(env.removeprefix("envpool/"))
    try:
        return gymnasium.make(name, render_mode=render_mode, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        reason = str(error).rstrip(".")
        raise MissingDependencyError(f"{name} needs a package that is not installed: {reason}.") from error
    except (gymnasium.error.Error, ImportError, TypeError, AttributeError, FileNotFoundError) as error:
        reason = str(error).rstrip(".")
        raise IncompatibleEnvironmentError(f"{name} cannot be made with the installed Gymnasium: {reason}.") from error


def _split(name: str) -> tuple[str | None, str]:
    """Prefix and rest; Gymnasium has ids with slashes of its own, whose prefix is None."""
    prefix, slash, rest = name.partition("/")
    return (prefix, rest) if slash and prefix in BACKENDS else (None, name)


def _newest() -> dict[str, str]:
    """Names without version, and the newest id of each."""
    versions: dict[str, int] = {}
    for match in map(_VERSION.fullmatch, gymnasium.registry):
        if match:
            versions[match["base"]] = max(int(match["version"]), versions.get(match["base"], 0))
    return {base: f"{base}-v{version}" for base, version in versions.items()}


def _unknown(name: str, newest: dict[str, str]) -> UnknownNameError:
    hint = f"Environments of other backends: {', '.join(f'{prefix}/NAME' for prefix in BACKENDS)}."
    _, slash, rest = name.partition("/")
    if slash:
        # The prefix is what is wrong; the backend would check the rest.
        return unknown_name(
            "environment", name, [f"{prefix}/{rest}" for prefix in BACKENDS] + list(newest.values()), hint
        )
    return unknown_name("environment", name, newest.values(), hint)


def _import_environments(name: str) -> None:
    module, _, known = name.partition(":")
    if module == PACKAGE:
        register_robotics(known)
        return
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UnknownNameError(
            f"Unknown environment {name!r}: {module!r}, which should register it, cannot be imported ({error})."
        ) from error


def _factory_name(make: Factory) -> str | None:
    """How messages name what a function makes; None where only the environment itself can tell."""
    function: Any = make.func if isinstance(make, functools.partial) else make
    name = getattr(function, "__name__", None)
    return None if name in (None, "<lambda>", gymnasium.make.__name__) else str(name)


def _takes_render_mode(make: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # made in C
        return False
    # `functools.partial(gymnasium.make, ...)` takes it as one of its **kwargs.
    return "render_mode" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
