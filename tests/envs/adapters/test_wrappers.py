"""Wrappers that learn are refused, whoever wrote them; every other one passes."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from environments import HostDiscretePoint, HostPoint
from gymnasium import wrappers

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.adapters.wrappers import refuse_learning_wrappers
from maxent_rl.envs.registry import make_host
from maxent_rl.errors import IncompatibleEnvironmentError

LEARNING = {"NormalizeObservation": "observations", "NormalizeReward": "rewards"}
# What the constructors of Gymnasium's wrappers ask for besides the environment.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AddWhiteNoise": {"probability_of_noise_per_pixel": 0.5},
    "ClipReward": {"min_reward": -1.0},
    "DelayObservation": {"delay": 2},
    "DiscretizeAction": {"bins": 3},
    "DiscretizeObservation": {"bins": 3},
    "DtypeObservation": {"dtype": np.float64},
    "FilterObservation": {"filter_keys": ["a"]},
    "FrameStackObservation": {"stack_size": 2},
    "ObstructView": {"obstructed_pixels_ratio": 0.5, "obstruction_width": 2},
    "RecordVideo": {"video_folder": "videos"},
    "RepeatAction": {"num_repeats": 2},
    "RescaleAction": {"min_action": -1.0, "max_action": 1.0},
    "RescaleObservation": {"min_obs": -1.0, "max_obs": 1.0},
    "ReshapeObservation": {"shape": (2, 1)},
    "ResizeObservation": {"shape": (4, 4)},
    "StickyAction": {"repeat_action_probability": 0.25},
    "TimeLimit": {"max_episode_steps": 5},
    "TransformAction": {"func": abs, "action_space": None},
    "TransformObservation": {"func": abs, "observation_space": None},
    "TransformReward": {"func": abs},
}


class Picture(HostPoint):
    """Renders, and observes what it is told to observe."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  # as Gymnasium has it
    render_mode = "rgb_array"

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        super().__init__()
        self.observation_space = space

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


BOX = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
BASES: dict[str, Any] = {
    "TimeAwareObservation": lambda: wrappers.TimeLimit(Picture(BOX), 5),
    "FilterObservation": partial(Picture, gymnasium.spaces.Dict({"a": BOX, "b": BOX})),
    **dict.fromkeys(
        ("GrayscaleObservation", "ResizeObservation"),
        partial(Picture, gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)),
    ),
}


def wrapped(name: str) -> gymnasium.Env[Any, Any]:
    """A small environment in a wrapper of Gymnasium, made or skipped with the reason why it cannot be made here."""
    try:
        wrapper = getattr(wrappers, name)
        return wrapper(BASES.get(name, partial(Picture, BOX))(), **ARGUMENTS.get(name, {}))
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        pytest.skip(f"{name}: {error}")


# One wraps games of Atari alone; vector environments are none.
@pytest.mark.parametrize("name", sorted(set(wrappers.__all__) - {"AtariPreprocessing", "vector"}))
def test_of_gymnasiums_wrappers_just_those_that_learn_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = wrapped(name)
    if name in LEARNING:
        with pytest.raises(IncompatibleEnvironmentError, match=f"^Walk scales {LEARNING[name]} by .*{name}"):
            refuse_learning_wrappers(env, "Walk")
    else:
        refuse_learning_wrappers(env, "Walk")


@pytest.mark.parametrize("name", LEARNING)
def test_a_frozen_wrapper_scales_by_fixed_numbers_and_passes(name: str) -> None:
    def make() -> gymnasium.Env[Any, Any]:
        env = getattr(wrappers, name)(HostPoint())
        env.update_running_mean = False
        return env

    GymnasiumEnvs(make, [0, 1]).close()


def test_a_vector_environment_is_refused_whatever_wraps_it() -> None:
    def make() -> Any:
        return wrappers.vector.NormalizeObservation(gymnasium.vector.SyncVectorEnv([HostPoint]))

    with pytest.raises(IncompatibleEnvironmentError, match="gave a NormalizeObservation; expected a gymnasium"):
        GymnasiumEnvs(make, [0])


class Statistics:
    """Running statistics as many scripts have them."""

    def __init__(self) -> None:
        self.mean, self.var, self.count = np.zeros(2), np.ones(2), 1e-4


class RunningNorm:
    """Statistics whose parts have names of their own."""


def layer(name: str, base: type[Any] = gymnasium.Wrapper, **attributes: Any) -> Any:
    """A class of wrappers with these attributes; a callable one makes the attribute."""

    def __init__(self: Any, env: gymnasium.Env[Any, Any]) -> None:
        base.__init__(self, env)
        for key, value in attributes.items():
            setattr(self, key, value() if inspect.isclass(value) else value)

    return type(name, (base,), {"__init__": __init__})


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (layer("VecNormalize", obs_rms=Statistics, ret_rms=Statistics), "observations and rewards"),
        (layer("Normalized", _obs_mean=0.0, _obs_var=1.0, _obs_alpha=0.001), "observations"),
        (layer("Scale", reward_mean=0.0, reward_std=1.0, reward_count=0), "rewards"),
        (layer("Whiten", mean=np.zeros(2), var=np.ones(2), n=0), "observations"),
        (layer("Whiten", gymnasium.RewardWrapper, mean=0.0, std=1.0, n=0), "rewards"),
        (layer("EachKey", statistics={"position": Statistics(), "velocity": Statistics()}), "observations"),
        (layer("RewardScaling", running_ms=RunningNorm), "rewards"),
        (layer("Anything", scaler=RunningNorm), "observations"),
        (layer("Torch", running_mean=np.zeros(2)), "observations"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_running_statistics_of_others_are_known_by_what_they_hold(made: Any, what: str) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=f"^Walk scales {what} by running statistics"):
        refuse_learning_wrappers(wrappers.TimeLimit(made(HostPoint()), 5), "Walk")


@pytest.mark.parametrize(
    "made",
    [
        layer("NormalizeObservation", obs_mean=np.zeros(2), obs_std=np.ones(2)),
        layer("Scaled", mean=0.0, std=1.0),
        layer("NoisyObservation", mean=0.0, std=0.1, n=2),
        layer("Noisy", noise=SimpleNamespace(mean=0.0, std=0.1)),
        layer("Counter", count=0, n=3, running=True, episodes=[1.0] * 100),
        layer("Frozen", training=False, obs_rms=Statistics),
        layer("Array", table=np.arange(3.0)),
    ],
    ids=lambda value: value.__name__,
)
def test_fixed_numbers_noise_and_counters_are_no_running_statistics(made: Any) -> None:
    refuse_learning_wrappers(made(HostPoint()), "Walk")


class Bandit(HostDiscretePoint):
    """Its arms have a mean and a deviation, and were pulled so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std, self.count, self.arms = np.zeros(4), np.ones(4), np.zeros(4), [Statistics()] * 4


class Outside(HostPoint):
    """Wraps an environment without being a `gymnasium.Wrapper`."""

    def __init__(self) -> None:
        super().__init__()
        self.env = wrappers.NormalizeObservation(HostPoint())


def test_an_environments_own_means_are_its_business_and_what_it_holds_inside_is_found() -> None:
    refuse_learning_wrappers(Bandit(), "Bandit")
    with pytest.raises(IncompatibleEnvironmentError, match="NormalizeObservation"):
        refuse_learning_wrappers(Outside(), "Outside")


def test_the_sentence_says_what_to_do_instead() -> None:
    def scaled() -> gymnasium.Env[Any, Any]:
        return wrappers.NormalizeReward(wrappers.NormalizeObservation(HostPoint()))

    with pytest.raises(IncompatibleEnvironmentError) as caught:
        make_host(scaled, [0])
    assert str(caught.value) == (
        "scaled scales observations and rewards by running statistics (NormalizeReward, NormalizeObservation), which "
        "evaluation, the exported policy and a resumed run would begin without: leave that out and pass "
        "--normalize-observations (an agent without it: fixed numbers in gymnasium.wrappers.TransformObservation), and let "
        "PPO scale rewards (--normalize-rewards; other agents: a fixed factor in gymnasium.wrappers.TransformReward)."
    )
