"""What is wrong with an environment of one's own ends a training in one sentence, before it has a folder where that can be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from environments import DiscretePoint, HostDiscretePoint

from maxent_rl.agents import BC, PPO
from maxent_rl.errors import EnvironmentFailedError, IncompatibleEnvironmentError, MaxentRLError, NonFiniteError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.trajectories import collect_trajectories
from maxent_rl.runs.policy import load_policy
from maxent_rl.training import runner
from maxent_rl.training.runner import train
from maxent_rl.types import Spec

SMALL: Any = PPO(rollout_size=8, minibatches=1, epochs=1, hidden_sizes=(4,))
SETTINGS: dict[str, Any] = {"total_steps": 8, "eval_episodes": 2, "progress": False}


def fails(*_: Any, **__: Any) -> Any:
    raise OSError("the socket is gone")


def of(**methods: Any) -> type[HostDiscretePoint]:
    return type("Faulty", (HostDiscretePoint,), methods)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (of(reset=fails), EnvironmentFailedError, r"raised OSError \(the socket is gone\) at the start"),
        (of(reset=lambda self, *, seed=None, options=None: np.zeros(2)), IncompatibleEnvironmentError, "expected two"),
        (type("Bare", (gymnasium.Env,), {}), IncompatibleEnvironmentError, "no observation_space"),
        (of(__init__=fails), EnvironmentFailedError, "Faulty cannot be made"),
        (DiscretePoint, IncompatibleEnvironmentError, "DiscretePoint gave a device environment"),
    ],
    ids=["a failing reset", "a wrong reset", "no spaces", "a failing constructor", "a device environment's class"],
)
@pytest.mark.parametrize("agent", [SMALL, BC()], ids=["acting", "offline"])
def test_what_shows_at_a_reset_leaves_no_folder(
    tmp_path: Path, agent: Any, make: Any, kind: type[MaxentRLError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        data = {} if agent is SMALL else {"dataset": "never_read.npz"}
        train(agent, make, output_dir=str(tmp_path / "runs"), **data, **SETTINGS)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        (
            lambda self, action: (np.zeros(2), 1.0, False, {}),
            IncompatibleEnvironmentError,
            r"Faulty .* gave 4 values in",
        ),
        (
            fails,
            EnvironmentFailedError,
            r"Faulty \(environment 0 of 1\) raised OSError \(the socket is gone\) in step 1",
        ),
    ],
    ids=["wrong", "failing"],
)
def test_a_fault_in_a_step_says_where_and_which_checkpoint_is_good(
    tmp_path: Path, step: Any, kind: type[MaxentRLError], words: str
) -> None:
    with pytest.raises(kind, match=rf"Environment step 1 \(seed 0\): {words}.* No checkpoint was saved\.") as caught:
        train(SMALL, of(step=step), output_dir=str(tmp_path), **SETTINGS)
    assert isinstance(caught.value.__cause__, OSError if step is fails else IncompatibleEnvironmentError)


@pytest.mark.slow
def test_a_reward_that_is_nan_names_the_seed_whose_environment_paid_it(tmp_path: Path) -> None:
    made: list[Any] = []

    class Third(HostDiscretePoint):
        """Pays NaN in its second step, if it is the third that was made: the first of the second seed."""

        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            self.steps = 0

        def step(self, action: Any) -> Any:
            observation, reward, *rest = super().step(action)
            self.steps += 1
            faulty = len(made) > 2 and self is made[2] and self.steps == 2
            return observation, np.nan if faulty else reward, *rest

    words = (
        r"Environment step 4 \(seed 6\): Third \(environment 2 of 4\) gave nan as the reward in step 2 of its episode"
    )
    with pytest.raises(NonFiniteError, match=words):
        more = {"num_seeds": 2, "num_envs": 2, "seed": 5, "eval_episodes": 0}
        train(SMALL, Third, output_dir=str(tmp_path), **SETTINGS | more)


@pytest.mark.slow
def test_environments_are_reset_before_they_are_stepped(tmp_path: Path) -> None:
    """Once to find out whether their state can be saved, and once to begin."""
    calls: list[str] = []

    class Told(HostDiscretePoint):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            calls.append("reset")
            return super().reset(seed=seed)

        def step(self, action: Any) -> Any:
            calls.append("step")
            raise OSError("enough")

    with pytest.raises(EnvironmentFailedError):
        train(SMALL, Told, output_dir=str(tmp_path), **SETTINGS)
    assert calls == 2 * ["reset", "step"]


@dataclasses.dataclass(frozen=True)
class Square(DiscretePoint):
    """The point seen as a square of whole numbers, with a wall of its own and a reward that is a truth value."""

    walls: Any = dataclasses.field(default_factory=lambda: np.ones((2, 2), np.int32))

    @property
    def spec(self) -> Spec:
        return Spec((2, 2), (), self.horizon, num_actions=4)

    def reset(self, key: Any) -> Any:
        return 0, jnp.asarray(self.walls)

    def step(self, state: Any, action: Any) -> Any:
        return state + 1, self.walls * state, state >= 0, 0


@pytest.mark.slow
def test_an_environment_looser_than_the_protocol_is_trained_evaluated_and_played(tmp_path: Path) -> None:
    result = train(SMALL, Square(horizon=5), output_dir=str(tmp_path), **SETTINGS)
    outcome = result.evaluations[-1][1][0]
    assert outcome.returns == [5.0, 5.0] and outcome.lengths == [5, 5]
    policy = load_policy(result.folder)
    assert policy.spec.observation_shape == (4,)
    assert policy(np.ones((2, 2), np.int32)).shape == ()  # as the environment gives it
    assert evaluate_policy(policy, 2, env=Square(horizon=5)).returns == [5.0, 5.0]
    assert [each.total for each in collect_trajectories(policy, 2, env=Square(horizon=5))] == [5.0, 5.0]


def test_a_device_environment_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    wrong = type("Wrong", (Square,), {"step": lambda self, state, action: (state, 1.0)})(horizon=5)
    with pytest.raises(IncompatibleEnvironmentError, match=r"Wrong\.step gave 2 values; expected four values"):
        train(SMALL, wrong, output_dir=str(tmp_path / "runs"), **SETTINGS)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_learning_curve_that_cannot_be_drawn_loses_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "draw_curves", fails)
    result = train(SMALL, Square(horizon=5), output_dir=str(tmp_path), **SETTINGS)
    assert result.step == 8 and (result.folder / "policy" / "policy.json").exists()
    assert list((result.folder / "checkpoints").iterdir())
