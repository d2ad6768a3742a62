"""Videos: what is drawn, what is said where it cannot be drawn, and that no half-written file is left."""

from __future__ import annotations

import builtins
import dataclasses
import os
import sys

import jax
import numpy as np
import pytest
from environments import HostPoint, Point

from maxent_rl import envs
from maxent_rl.agents import SAC
from maxent_rl.errors import (
    EnvironmentFailedError,
    IncompatibleEnvironmentError,
    InvalidSettingError,
    MissingDependencyError,
    StorageError,
)
from maxent_rl.playing import video
from maxent_rl.playing.video import record_video
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, load_policy, policy_arrays
from maxent_rl.seeds.streams import EVALUATION, environment_seed

AGENT = SAC(hidden_sizes=(8,))


def policy_of(folder, env, spec):
    states = jax.jit(jax.vmap(lambda key: AGENT.init(key, spec)))(jax.random.split(jax.random.key(0), 1))
    export_policy(folder, describe(RunConfig(env=env), AGENT), policy_arrays(AGENT, states), spec, step=0)
    return load_policy(folder)


class DrawnPoint(HostPoint):
    """Draws nothing but a grey that says how many steps were taken."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012 - as Gymnasium has it
    render_mode = "rgb_array"

    def render(self):
        return np.full((48, 64, 3), 10 * self.elapsed, np.uint8)


@pytest.fixture
def policy(tmp_path):
    return policy_of(tmp_path / "policy", "HostPoint", envs.make_host(HostPoint, [0]).spec)


def frames_of(path):
    import imageio.v2

    with imageio.v2.get_reader(path, format="FFMPEG") as reader:
        return reader.get_meta_data(), np.stack([frame for frame in reader])  # noqa: C416 - its length is infinite


def needs_ffmpeg():
    pytest.importorskip("imageio_ffmpeg", reason="the video extra is not installed")


@pytest.fixture
def opengl(monkeypatch):
    needs_ffmpeg()
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", ""))
    try:
        video.choose_gl()
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_video_has_the_speed_and_the_frames_of_the_environment(policy, tmp_path):
    needs_ffmpeg()
    path = record_video(policy, tmp_path / "new" / "point.mp4", episodes=2, max_steps=3, env=DrawnPoint)
    meta, frames = frames_of(path)
    assert meta["fps"] == 7 and frames.shape == (8, 48, 64, 3)  # the start and three steps, twice
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [0, 10, 20, 30] * 2, atol=3)
    assert [file.name for file in path.parent.iterdir()] == ["point.mp4"]


def test_the_video_starts_where_the_evaluation_starts(policy, tmp_path):
    needs_ffmpeg()
    starts = []

    class Watched(DrawnPoint):
        def reset(self, *, seed=None, options=None):
            starts.append(seed)
            return super().reset(seed=seed)

    record_video(policy, tmp_path / "point.mp4", episodes=2, seed=5, max_steps=1, env=Watched)
    assert starts == [environment_seed(5, EVALUATION, 0, index) for index in range(2)]


def test_a_failure_on_the_way_leaves_the_older_video_and_nothing_else(policy, tmp_path):
    needs_ffmpeg()

    class Failing(DrawnPoint):
        def render(self):
            if self.elapsed == 2:
                raise RuntimeError("lost the screen")
            return super().render()

    path = tmp_path / "videos" / "point.mp4"
    path.parent.mkdir()
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="lost the screen"):
        record_video(policy, path, env=Failing)
    assert path.read_bytes() == b"older" and list(path.parent.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_said(policy, tmp_path):
    needs_ffmpeg()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "file" / "a.mp4", tmp_path / "folder.mp4"):
        with pytest.raises(StorageError, match="Cannot write the video"):
            record_video(policy, path, env=DrawnPoint)


@pytest.mark.parametrize("settings", [{"episodes": 0}, {"max_steps": 0}, {"seed": -1}])
def test_numbers_that_cannot_work_are_refused(policy, tmp_path, settings):
    with pytest.raises(InvalidSettingError):
        record_video(policy, tmp_path / "a.mp4", env=DrawnPoint, **settings)


def test_what_cannot_be_drawn_is_refused(policy, tmp_path):
    needs_ffmpeg()
    with pytest.raises(IncompatibleEnvironmentError, match="render mode"):
        record_video(policy, tmp_path / "a.mp4", env=HostPoint)
    with pytest.raises(IncompatibleEnvironmentError, match="no renderer"):
        record_video(policy, tmp_path / "a.mp4", env=Point())


@pytest.mark.parametrize("drawn", [None, "a picture", np.zeros(3), [[None]]])
def test_what_is_no_picture_is_refused(policy, tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(video, "_imageio", lambda: None)  # nothing is encoded
    with pytest.raises(IncompatibleEnvironmentError, match=r"HostPoint drew .*expected a picture \[height, width, 3\]"):
        record_video(policy, tmp_path / "a.mp4", env=type("Odd", (DrawnPoint,), {"render": lambda self: drawn}))


def test_what_a_renderer_or_a_step_raises_is_one_sentence(policy, tmp_path, monkeypatch):
    def fail(self, *_):
        raise OSError("lost the screen")

    monkeypatch.setattr(video, "_imageio", lambda: None)
    with pytest.raises(EnvironmentFailedError, match=r"HostPoint raised OSError \(lost the screen\) when it was drawn"):
        record_video(policy, tmp_path / "a.mp4", env=type("Odd", (DrawnPoint,), {"render": fail}))
    play = video._Play(policy, 1, 0, 2, False)
    with pytest.raises(EnvironmentFailedError, match=r"HostPoint .* raised OSError .* in step 1 of its episode"):
        list(video._host_frames(play, type("Odd", (DrawnPoint,), {"step": fail})(), policy.spec))


def test_a_missing_encoder_names_the_extra(policy, tmp_path, monkeypatch):
    found = builtins.__import__

    def without(name, *rest):
        if name.startswith("imageio_ffmpeg"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return found(name, *rest)

    monkeypatch.delitem(sys.modules, "imageio_ffmpeg", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r'pip install "maxent_rl\[video\]"'):
        record_video(policy, tmp_path / "a.mp4", env=DrawnPoint)


def test_without_opengl_the_packages_are_named(monkeypatch):
    monkeypatch.setattr(video.platform, "system", lambda: "Linux")
    monkeypatch.setattr(video, "_can_draw", lambda backend: False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(MissingDependencyError, match=r"apt-get install libegl1 libgl1.*libosmesa6"):
        video.choose_gl()
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(MissingDependencyError, match="MUJOCO_GL is 'osmesa'"):
        video.choose_gl()


@pytest.mark.parametrize(
    ("works", "display", "expected"),
    [("egl osmesa", "", "egl"), ("osmesa", "", "osmesa"), ("glfw egl", ":0", "glfw"), ("egl", ":0", "egl")],
)
def test_the_first_opengl_that_works_is_taken(monkeypatch, works, display, expected):
    taken = []
    monkeypatch.setattr(video.platform, "system", lambda: "Linux")
    monkeypatch.setattr(video, "_can_draw", lambda backend: backend in works.split())
    monkeypatch.setattr(video, "_use", taken.append)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    video.choose_gl()
    assert taken == [expected]


@pytest.mark.usefixtures("opengl")
def test_mujoco_draws_a_robot(tmp_path):
    policy = policy_of(tmp_path / "policy", "HalfCheetah-v5", envs.make_host("HalfCheetah-v5", [0]).spec)
    meta, frames = frames_of(record_video(policy, tmp_path / "a.mp4", max_steps=2))
    assert meta["fps"] == 20 and frames.shape == (3, 480, 480, 3)
    assert frames[0].std() > 10


@pytest.mark.slow
@pytest.mark.usefixtures("opengl")
def test_brax_draws_a_robot(tmp_path):
    env = envs.make_device("brax/inverted_pendulum")
    policy = policy_of(tmp_path / "policy", "brax/inverted_pendulum", env.spec)
    short = dataclasses.replace(env, horizon=2)
    meta, frames = frames_of(record_video(policy, tmp_path / "a.mp4", env=short))
    assert meta["fps"] == 50 and frames.shape == (3, 480, 640, 3)
    assert frames[0].std() > 10
