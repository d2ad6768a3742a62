"""Videos of a policy at work, drawn by the environment's own renderer, on a screen or without one.

Frames go to the encoder as they come, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import itertools
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import jax
import numpy as np
from numpy.typing import NDArray

from maxent_rl import envs as environments
from maxent_rl.envs.device import DeviceEnv, reset_within, step_within
from maxent_rl.envs.door import admit, is_device_env
from maxent_rl.envs.env import Env
from maxent_rl.envs.told import REAL_KINDS, as_array, raised, told
from maxent_rl.errors import (
    EnvironmentFailedError,
    IncompatibleEnvironmentError,
    InvalidSettingError,
    MaxentRLError,
    MissingDependencyError,
    StorageError,
)
from maxent_rl.playing.opening import check_spec
from maxent_rl.runs.policy import Policy
from maxent_rl.seeds.streams import EVALUATION, environment_seed
from maxent_rl.storage.files import storage_errors
from maxent_rl.types import Spec

Frame: TypeAlias = NDArray[np.uint8]

_HEIGHT, _WIDTH = 480, 640
_DEFAULT_FPS = 30.0
# Renderers of device environments take lists of states; one renderer is made for each list.
_STATES_AT_ONCE = 100


def record_video(
    policy: Policy,
    path: str | Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    max_steps: int | None = None,
    stochastic: bool = False,
    env: Env | None = None,
) -> Path:
    """Plays episodes and writes them, one after another, as one H.264 video in the environment's own speed.

    The start states are those of `evaluate_policy` with the same seed. Where there is no screen, MuJoCo is made to draw
    with EGL or, if that fails, OSMesa, whichever works (`MUJOCO_GL`, if set, is kept).

    Args:
      policy: as from `load_policy`.
      path: the .mp4 to write; its folder is made if missing, and the file appears whole or not at all.
      episodes: how many.
      seed: decides the start states, and the actions where they are sampled.
      max_steps: the most steps of each episode; None for the environment's own limit.
      stochastic: sample the actions instead of taking the most likely ones.
      env: the environment, where it was not trained on one with a name. A function must make it with
        `render_mode="rgb_array"`.

    Returns:
      The path.

    Raises:
      MissingDependencyError: the encoder, a renderer's package or a system library is not installed.
      IncompatibleEnvironmentError: the environment cannot be drawn, or is not what the policy was trained on.
      StorageError: the path cannot be written.
      InvalidSettingError: not an .mp4, or a number that cannot work.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InvalidSettingError(f"A video is written as .mp4, got {str(path)!r}.")
    if episodes < 1 or seed < 0 or (max_steps is not None and max_steps < 1):
        raise InvalidSettingError(
            f"Expected at least 1 episode, a seed from 0 and at least 1 step, got {episodes}, {seed} and {max_steps}."
        )
    imageio = _imageio()
    if os.environ.get("MUJOCO_GL"):  # with one that does not work, not even MuJoCo itself can be imported
        choose_gl()
    source = policy.env if env is None else env
    play = _Play(policy, episodes, seed, max_steps, stochastic)
    on_device = environments.is_device(source) if isinstance(source, str) else is_device_env(source)
    with _partial(path) as unfinished, _on_device(play, source) if on_device else _on_host(play, source) as scene:
        frames = iter(scene.frames)
        # Whatever is missing for drawing shows here, and is no fault of the file.
        first = next(frames)
        with storage_errors(f"write the video {path}"):
            # H.264 needs even sides; imageio's own default would blow them up to multiples of 16.
            writer = imageio.get_writer(
                unfinished, format="FFMPEG", mode="I", fps=scene.fps, codec="libx264", macro_block_size=2, quality=8
            )
        try:
            for frame in itertools.chain([first], frames):
                with storage_errors(f"write the video {path}"):
                    writer.append_data(frame)
        finally:
            with storage_errors(f"write the video {path}"):
                writer.close()
    return path


class _Play(NamedTuple):
    """Who plays, and how much."""

    policy: Policy
    episodes: int
    seed: int
    max_steps: int | None
    stochastic: bool

    def action(self, observation: Any, episode: int, step: int, memory: Any) -> NDArray[Any]:
        key = None
        if self.stochastic:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), episode), step)
        return self.policy(observation, key, memory=memory)


class _Scene(NamedTuple):
    """What there is to see, and how many frames are one second."""

    fps: float
    frames: Iterator[Frame]


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A name to write to, in the same folder; the file moves to `path` if all goes well, and goes away otherwise."""
    if path.is_dir():
        raise StorageError(f"Cannot write the video {path}: it is a folder.")
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
    with storage_errors(f"write the video {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    try:
        yield unfinished
        with storage_errors(f"write the video {path}"):
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _imageio() -> Any:
    # Else imageio forks with a Python function in between, which can deadlock beside JAX's threads.
    os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")
    try:
        import imageio.v2
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise MissingDependencyError(
            f'Videos need imageio with ffmpeg ({error}). Install them with: pip install "maxent_rl[video]".'
        ) from error
    return imageio.v2


@contextlib.contextmanager
def _on_host(play: _Play, source: Any) -> Iterator[_Scene]:
    name = play.policy.env
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen, but complains
    env = environments.make_single(source, render_mode="rgb_array")
    try:
        if env.render_mode != "rgb_array":
            raise IncompatibleEnvironmentError(
                f"{name} cannot be recorded: its render mode is {env.render_mode!r}, expected 'rgb_array'."
            )
        spec = _host_spec(env, play)
        check_spec(play.policy, spec)
        if hasattr(env.unwrapped, "mujoco_renderer"):
            choose_gl()
        yield _Scene(float(env.metadata.get("render_fps") or _DEFAULT_FPS), _host_frames(play, env, spec))
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingDependencyError(
            f"Drawing {name} needs a package that is not installed: {str(error).rstrip('.')}."
        ) from error
    finally:
        env.close()


def _host_spec(env: gymnasium.Env[Any, Any], play: _Play) -> Spec:
    from maxent_rl.envs.adapters.gymnasium import make_spec
    from maxent_rl.envs.adapters.horizon import horizon_of

    return make_spec(env, play.policy.env, horizon_of(env, play.policy.max_episode_steps).steps)


def _host_frames(play: _Play, env: gymnasium.Env[Any, Any], spec: Spec) -> Iterator[Frame]:
    from maxent_rl.envs.adapters.checks import Checks

    step = 0
    checks = Checks(play.policy.env, [env], None, lambda _: step)
    most = play.max_steps or spec.horizon
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    for episode in range(play.episodes):
        observation = checks.reset_raw(0, environment_seed(play.seed, EVALUATION, 0, episode))
        memory = play.policy.memory()
        yield _frame(env, play.policy.env)
        for step in range(most):
            action, before = play.action(observation, episode, step, memory), observation
            command = action.item() if discrete else action
            observation, reward, terminated, truncated, _ = checks.step_raw(0, command)
            memory = play.policy.remember(memory, before, action, float(reward))
            yield _frame(env, play.policy.env)
            if terminated or truncated:
                break


def _frame(env: gymnasium.Env[Any, Any], name: str) -> Frame:
    try:
        drawn: Any = env.render()
    except (gymnasium.error.DependencyNotInstalled, MaxentRLError):
        raise
    except Exception as error:  # whatever a foreign environment raises
        raise EnvironmentFailedError(f"{name} raised {raised(error)} when it was drawn.") from error
    frame = as_array(drawn)
    if frame is None or frame.ndim not in (2, 3) or frame.dtype.kind not in REAL_KINDS:
        raise IncompatibleEnvironmentError(
            f"{name} drew {told(drawn)}; expected a picture [height, width, 3] of whole numbers from 0 to 255."
        )
    return frame.astype(np.uint8)


@contextlib.contextmanager
def _on_device(play: _Play, source: Any) -> Iterator[_Scene]:
    env = environments.make_device(source, play.policy.backend) if isinstance(source, str) else admit(source)
    check_spec(play.policy, env.spec)
    simulator, model, visible = _simulator(env, play.policy.env)
    choose_gl()
    size = {
        "height": min(_HEIGHT, int(model.vis.global_.offheight)),
        "width": min(_WIDTH, int(model.vis.global_.offwidth)),
        "camera": _following_camera(model),
    }

    def draw() -> Iterator[Frame]:
        states = _device_states(play, env)
        while chunk := list(itertools.islice(states, _STATES_AT_ONCE)):
            with contextlib.redirect_stderr(io.StringIO()):  # Playground shows a progress bar of its own
                frames = simulator.render([visible(state) for state in chunk], **size)
            yield from frames

    yield _Scene(round(1.0 / float(simulator.dt), 3), draw())


def _device_states(play: _Play, env: DeviceEnv) -> Iterator[Any]:
    reset, advance = jax.jit(partial(reset_within, env)), jax.jit(partial(step_within, env))
    root = jax.random.fold_in(jax.random.fold_in(jax.random.key(play.seed), EVALUATION), 0)
    for episode, key in enumerate(jax.random.split(root, play.episodes)):
        state, observation = reset(key)
        memory = play.policy.memory()
        yield state
        for step in range(play.max_steps or env.spec.horizon):
            action, before = play.action(observation, episode, step, memory), observation
            state, observation, reward, terminated = advance(state, action)
            memory = play.policy.remember(memory, before, action, reward)
            yield state
            if terminated:
                break


def _simulator(env: DeviceEnv, name: str) -> tuple[Any, Any, Callable[[Any], Any]]:
    """The simulator's own environment, its MuJoCo model, and what of a state its `render` takes."""
    from maxent_rl.envs.adapters import brax as brax_envs
    from maxent_rl.envs.adapters import playground as playground_envs

    if isinstance(env, playground_envs.PlaygroundEnv):
        simulator = playground_envs._load(env.name).env
        return simulator, simulator.mj_model, lambda state: state
    if isinstance(env, brax_envs.BraxEnv):
        simulator = brax_envs._load(env.name, env.backend).env
        if hasattr(simulator, "sys"):
            return simulator, simulator.sys.mj_model, lambda state: jax.device_get(state.pipeline_state)
    raise IncompatibleEnvironmentError(f"{name} has no renderer, so no video of it can be recorded.")


def _following_camera(model: Any) -> str | None:
    """The first camera that moves with a body, so that a runner does not leave the picture; None for the free one."""
    import mujoco

    following = {int(mujoco.mjtCamLight.mjCAMLIGHT_TRACK), int(mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM)}
    names = (model.camera(index).name for index in range(model.ncam) if int(model.cam_mode[index]) in following)
    return next((str(name) for name in names if name), None)


def choose_gl() -> None:
    """Makes MuJoCo draw with an OpenGL that works here: the screen's if there is one, else EGL, else OSMesa.

    Raises:
      MissingDependencyError: none works, or the one that `MUJOCO_GL` names does not.
    """
    if platform.system() != "Linux":
        return
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    screen = ("glfw",) if os.environ.get("DISPLAY") else ()
    for backend in (wanted,) if wanted else (*screen, "egl", "osmesa"):
        if _can_draw(backend):
            _use(backend)
            return
    found = f"MUJOCO_GL is {wanted!r}, which does not work here." if wanted else "Neither EGL nor OSMesa works here."
    raise MissingDependencyError(
        f"MuJoCo needs OpenGL to draw. {found} On Debian or Ubuntu, install one of them with "
        "'apt-get install libegl1 libgl1' (EGL; quick on a GPU) or 'apt-get install libosmesa6' (OSMesa)."
    )


# An empty scene, but a real context: a library can be there and find no device to draw on.
_TRIAL = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).render()"


@functools.cache
def _can_draw(backend: str) -> bool:
    """Tries in a process of its own: in this one, a failed import of OpenGL would spoil the next attempt."""
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo leaves a log of its errors in the working directory
        try:
            done = subprocess.run(
                [sys.executable, "-c", _TRIAL],
                env={**os.environ, "MUJOCO_GL": backend},
                cwd=folder,
                capture_output=True,
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


def _use(backend: str) -> None:
    if os.environ.get("MUJOCO_GL") == backend:
        return
    os.environ["MUJOCO_GL"] = backend
    # MuJoCo chooses when it is first imported, which is long past: let it choose again. (The second name is MuJoCo 3's.)
    for name in ("mujoco.rendering.classic.gl_context", "mujoco.gl_context"):
        if name in sys.modules:
            importlib.reload(sys.modules[name])
