"""From an environment's name to the environment: the prefix says the backend, no prefix means Gymnasium."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium

from maxent_rl.envs.adapters.checks import MISSING, making
from maxent_rl.envs.adapters.mujoco_log import quiet_mujoco
from maxent_rl.envs.adapters.robotics import PACKAGE, is_robotics, register_robotics
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs
from maxent_rl.envs.told import said
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
        backend's takes that name, the seeds and the horizon or None.
      on_device: whether they are pure JAX functions.
      has_physics: whether `make` takes the name of a physics backend, or None, as its second argument.
      loads_slowly: whether importing and making one takes so long that a user should be told.
    """

    make: str
    on_device: bool = True
    has_physics: bool = False
    loads_slowly: bool = False

    def load(self) -> Callable[..., Any]:
        """Imports the function."""
        module, _, function = self.make.partition(":")
        made: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return made


BACKENDS = {
    "brax": Backend("maxent_rl.envs.adapters.brax:make_brax", has_physics=True, loads_slowly=True),
    "playground": Backend("maxent_rl.envs.adapters.playground:make_playground", loads_slowly=True),
    "envpool": Backend("maxent_rl.envs.adapters.envpool:EnvpoolEnvs", on_device=False),
    "maxent": Backend("maxent_rl.envs.maxent:make_maxent"),
    "tokens": Backend("maxent_rl.envs.adapters.tokens:make_tokens"),
}

_VERSION = re.compile(r"(?P<base>.+)-v(?P<version>\d+)")


# Environments of packages that register them when they are imported: how their names begin, the package, its module.
_ELSEWHERE = (
    (("ALE/",), "ale-py", "ale_py"),
    (("MiniGrid-", "BabyAI-"), "minigrid", "minigrid"),
    (("dm_control/",), "shimmy[dm-control]", "shimmy"),
    (("Meta-World/",), "metaworld", "metaworld"),
    (("highway-", "roundabout-", "parking-", "racetrack-"), "highway-env", "highway_env"),
    (("Panda",), "panda-gym", "panda_gym"),
)  # fmt: skip


def canonical_name(name: str, backend: str | None = None) -> str:
    """The full name of an environment: `HalfCheetah` is the newest version that Gymnasium has.

    Args:
      name: a Gymnasium id, with or without version; `module:id` for one that is registered when `module` is imported; or
        `backend/name`, which the backend checks when it is made.
      backend: the physics that was asked for with it, from which an error guesses what was meant.

    Raises:
      UnknownNameError: naming the nearest right ones.
      MissingDependencyError: it is known to be of a package that is not installed.
    """
    if not isinstance(name, str):
        raise unknown_name("environment", name, (), "Expected a name, such as 'HalfCheetah'.")
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
    if is_robotics(name) and name not in gymnasium.registry and name not in _newest():
        register_robotics(name)
    newest = _newest()
    if name in gymnasium.registry:
        return name
    if name in newest:
        return newest[name]
    raise _unknown(name, newest, backend)


def has_name(env: str) -> bool:
    """Whether that is an environment's name, not what a function or an object of the user's own is called."""
    try:
        canonical_name(env)
    except (UnknownNameError, MissingDependencyError):
        return False
    return True


def check_named(env: str, what: str) -> None:
    """Refuses to look for an environment of the user's own, of which a file knows no more than what it was called.

    Args:
      env: what it was called.
      what: was trained in it, as messages begin: "The policy".

    Raises:
      InvalidSettingError: there is no environment of that name, or it would import a module (see `check_import`).
      MissingDependencyError: there is, in a package that is not installed.
    """
    check_import(env, what)
    try:
        canonical_name(env)
    except UnknownNameError as error:
        meant = re.search(r"Did you mean [^?]*\?", str(error))
        raise InvalidSettingError(
            f"{what} was trained in an environment of its own, {env}, which no name stands for: pass env=."
            + (f" {meant[0]}" if meant else "")
        ) from error


def check_import(env: str, what: str) -> None:
    """Refuses a name of a file that would import a module: files do not decide which code runs.

    Args:
      env: the name, such as `module:Id`; one whose module has been imported by somebody else is none to refuse.
      what: was trained in it, as messages begin: "The policy".

    Raises:
      InvalidSettingError: its module has not been imported.
    """
    module, colon, _ = env.partition(":")
    if colon and module != PACKAGE and module not in sys.modules:
        raise InvalidSettingError(
            f"{what} names the environment {env!r}, which imports the Python module {module!r}: allow it, if you trust it, "
            f"with --allow-env-import, or in Python with import {module}."
        )


def is_device(name: str) -> bool:
    """Whether an environment runs on the device, inside the jitted loop."""
    prefix, _ = _split(name)
    return prefix is not None and BACKENDS[prefix].on_device


def loads_slowly(name: str) -> bool:
    """Whether an environment takes so long to load that a user should be told."""
    prefix, _ = _split(name)
    return prefix is not None and BACKENDS[prefix].loads_slowly


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
        raise no_physics(name)
    if home is None or not home.on_device:
        raise InvalidSettingError(f"{name} runs on the host; make it with `make_host`.")
    made: DeviceEnv = home.load()(rest, backend) if home.has_physics else home.load()(rest)
    return made


def no_physics(name: str) -> InvalidSettingError:
    """The error for a `backend` that an environment has not, to be raised by the caller."""
    bare = _VERSION.fullmatch(name)
    meant = f" Did you mean {_of_brax(bare['base'])}?" if bare else ""
    return InvalidSettingError(
        f"--backend chooses the physics of brax/ environments; {name} has none to choose.{meant}"
    )


def make_host(env: str | Factory, seeds: Sequence[int], horizon: int | None = None) -> HostEnvs:
    """Makes host environments side by side.

    Args:
      env: a name as for `canonical_name`, of an environment that runs on the host; or a function that makes one.
      seeds: one for each.
      horizon: the most steps of an episode; None for the environment's own limit, or 1,000 where it tells none.

    Raises:
      UnknownNameError: no such environment.
      InvalidSettingError: a name of an environment that runs on the device.
      IncompatibleEnvironmentError: spaces that the library does not handle, or an environment that cannot be made.
      MissingDependencyError: a package that the environment needs is not installed.
    """
    from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs

    if not hasattr(seeds, "__len__"):
        raise InvalidSettingError(f"Expected a seed for each environment, [0] for a single one, got {seeds!r}.")
    if not isinstance(env, str) and callable(env):
        quiet_mujoco()
        return GymnasiumEnvs(env, seeds, _factory_name(env), horizon=horizon)
    name = canonical_name(env)
    prefix, rest = _split(name)
    if prefix is None:
        return GymnasiumEnvs(lambda: make_single(name), seeds, name, horizon=horizon)
    if BACKENDS[prefix].on_device:
        raise InvalidSettingError(f"{name} runs on the device; make it with `make_device`.")
    made: HostEnvs = BACKENDS[prefix].load()(rest, seeds, horizon)
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
      EnvironmentFailedError: the function, or the environment, raised an exception of its own.
      MissingDependencyError: a package that the environment needs is not installed.
    """
    quiet_mujoco()
    # Only what is wanted is passed on: constructors need not have a render mode.
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if not isinstance(env, str):
        maker: Callable[..., gymnasium.Env[Any, Any]] = env
        with making(_factory_name(env) or "The function that makes the environment"):
            return maker(**options) if _takes_render_mode(env) else maker()
    if is_device(env):
        raise InvalidSettingError(f"{env} runs on the device; make it with `make_device`.")
    name = canonical_name(env.removeprefix("envpool/"))
    with making(name):
        try:
            return gymnasium.make(name, disable_env_checker=True, **options)
        except MISSING:
            raise
        except (gymnasium.error.Error, ImportError, TypeError, AttributeError, FileNotFoundError) as error:
            if options and "unexpected keyword argument 'render_mode'" in str(error):
                raise IncompatibleEnvironmentError(
                    f"{name} cannot be drawn: its constructor takes no render_mode, which was asked for as {render_mode!r}."
                ) from error
            raise IncompatibleEnvironmentError(
                f"{name} cannot be made with the installed Gymnasium: {said(error)}."
            ) from error


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


def _of_brax(name: str) -> str:
    """What Brax calls an environment that Gymnasium has: `HalfCheetah` is `brax/halfcheetah`."""
    return f"brax/{name.lower()}"


def _unknown(name: str, newest: dict[str, str], backend: str | None) -> UnknownNameError | MissingDependencyError:
    for beginnings, package, module in _ELSEWHERE:
        if name.startswith(beginnings):
            return _of_package(name, package, module)
    hint = f"Environments of other backends: {', '.join(f'{prefix}/NAME' for prefix in BACKENDS)}."
    if backend is not None and "/" not in name:
        meant = _of_brax(name.partition("-v")[0])
        return unknown_name("environment", name, [meant, *newest.values()], hint, meant=[meant])
    _, slash, rest = name.partition("/")
    if slash:
        # The prefix is what is wrong; the backend would check the rest.
        return unknown_name(
            "environment", name, [f"{prefix}/{rest}" for prefix in BACKENDS] + list(newest.values()), hint
        )
    return unknown_name("environment", name, newest.values(), hint)


def _of_package(name: str, package: str, module: str) -> UnknownNameError | MissingDependencyError:
    if importlib.util.find_spec(module) is None:
        return MissingDependencyError(
            f"{name} is an environment of the package {package}, which is not installed: pip install {package}, then name it "
            f"{module}:{name}."
        )
    return UnknownNameError(
        f"Unknown environment {name!r}: {package} registers it when it is imported; name it {module}:{name}."
    )


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
