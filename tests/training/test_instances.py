"""Environments of which few may be open, evaluation that is switched off, and limits of episodes: whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from environments import HostDiscretePoint, Point

from maxent_rl import RunConfig, load_policy, resume, train
from maxent_rl.agents import PPO
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, MaxentRLError
from maxent_rl.reports.runs import find_runs
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import describe
from maxent_rl.storage.files import write_json
from maxent_rl.training.display import Display

AGENT = PPO(rollout_size=32, minibatches=2, epochs=1, hidden_sizes=(8,))


class Simulator(HostDiscretePoint):
    """Owns a port: only so many can be open at once."""

    limit, open, most = 1, 0, 0

    def __init__(self) -> None:
        if Simulator.open >= Simulator.limit:
            raise OSError("address already in use: port 5005")
        super().__init__()
        Simulator.open += 1
        Simulator.most = max(Simulator.most, Simulator.open)

    def close(self) -> None:
        Simulator.open -= 1


class Endless(HostDiscretePoint):
    """Tells no limit, and has none."""

    def __init__(self) -> None:
        super().__init__(horizon=10**9)


def run(folder: Path, env: Any = Simulator, limit: int = 99, **settings: Any) -> Any:
    Simulator.limit, Simulator.open, Simulator.most = limit, 0, 0
    fixed: dict[str, Any] = {"total_steps": 64, "progress": False, "output_dir": str(folder), "checkpoint_every": 32}
    return train(AGENT, env, **(fixed | settings))


@pytest.mark.slow
def test_one_simulator_for_training_and_one_for_evaluation_are_enough(tmp_path: Path) -> None:
    free = run(tmp_path, eval_episodes=5, eval_every=32, eval_num_envs=5)
    assert Simulator.most == 6
    bound = run(tmp_path, limit=2, eval_episodes=5, eval_every=32)
    assert Simulator.most == 2 and Simulator.open == 0
    assert bound.evaluations == free.evaluations and len(free.evaluations) == 2


@pytest.mark.slow
def test_a_single_simulator_trains_without_evaluation(tmp_path: Path) -> None:
    result = run(tmp_path, limit=1, eval_episodes=0)
    assert Simulator.most == 1 and Simulator.open == 0 and result.evaluations == []
    names = {path.name for path in result.folder.iterdir()}
    assert {"policy", "checkpoints", "metrics.csv"} <= names and not {"eval.csv", "learning_curve.png"} & names
    policy = result.policy()
    assert policy.step == 64 and int(policy(np.zeros(2))) in range(4)
    with pytest.raises(MaxentRLError, match="it has no evaluation"):
        find_runs([tmp_path])
    more = resume(result.folder, env=Simulator, total_steps=96, progress=False)
    assert more.step == 96 and load_policy(result.folder).step == 96 and Simulator.most == 1


def test_without_room_for_evaluation_a_run_says_so_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleEnvironmentError, match=r"needs 1 of these .* besides the 1 .*--eval-episodes 0"):
        run(tmp_path, limit=1)
    assert not list(tmp_path.iterdir()) and Simulator.open == 0


@pytest.mark.slow
def test_two_runs_that_begin_in_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxent_rl.training.runner.default_name", lambda *_: "now")
    folders = [run(tmp_path, eval_episodes=0, total_steps=1).folder.name for _ in range(3)]
    assert folders == ["now", "now-2", "now-3"]


@pytest.mark.slow
def test_a_run_says_that_episodes_are_cut_and_another_limit_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Display, "message", lambda self, text: told.append(text))
    monkeypatch.setattr("maxent_rl.envs.adapters.horizon.DEFAULT_HORIZON", 16)
    run(tmp_path, Endless, eval_episodes=1)
    cut = [text for text in told if "was cut" in text]
    assert len(cut) == 1 and cut[0].startswith("An episode of Endless was cut after 16 steps")
    told.clear()
    monkeypatch.undo()
    monkeypatch.setattr(Display, "message", lambda self, text: told.append(text))
    result = run(tmp_path, Endless, eval_episodes=1, max_episode_steps=16)
    assert not told and result.evaluations[-1][1][0].lengths == [16]
    config = json.loads((result.folder / "config.json").read_text())
    assert config["run"]["max_episode_steps"] == result.policy().max_episode_steps == result.policy().spec.horizon == 16


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Point(), "is for host environments; Point runs on the device"),
        ("maxent/CartPole", "is for host environments"),
        ("CartPole", "CartPole-v1 ends its episodes itself after 500 steps, before --max-episode-steps 600"),
    ],
    ids=["device", "by name", "shorter by itself"],
)
def test_a_limit_that_would_change_nothing_is_refused(tmp_path: Path, env: Any, words: str) -> None:
    with pytest.raises(InvalidSettingError, match=words):
        run(tmp_path, env, max_episode_steps=600)
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_may_be_evaluated_otherwise_but_its_episodes_stay_as_long(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", describe(RunConfig("ppo", "CartPole-v1", eval_episodes=0), AGENT))
    free = ["--eval-episodes", "2", "--eval-num-envs", "1"]
    assert parse(["--resume", str(tmp_path), *free]).run.eval_num_envs == 1
    with pytest.raises(InvalidSettingError, match="cannot change --max-episode-steps"):
        parse(["--resume", str(tmp_path), "--max-episode-steps", "9"])
