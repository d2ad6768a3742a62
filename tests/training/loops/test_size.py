"""Memory that a run takes, known before it is built: as much as is then there, and a sentence where there is too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import pytest
from environments import HostPoint, Point
from teachers import make_teacher

from maxent_rl.agents import PPO, SAC
from maxent_rl.errors import InvalidSettingError, TooLargeError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.size import free_memory, in_words, tree_bytes
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.policy import load_policy
from maxent_rl.sources.transitions import Collecting, collect
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.training.loops.make import make_loop, plan_loop
from maxent_rl.training.loops.size import Room, Size

SMALL: Any = SAC(hidden_sizes=(8,), batch_size=16, replay_size=200)


@pytest.fixture
def a_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is free, whatever machine this is."""
    for where in ("training.loops", "playing"):
        monkeypatch.setattr(f"maxent_rl.{where}.size.free_memory", lambda: 10**9)
    monkeypatch.setattr("maxent_rl.sources.transitions.free_memory", lambda: 10**9)


@pytest.mark.slow
def test_what_is_estimated_is_what_a_loop_then_holds() -> None:
    run = RunConfig(num_seeds=3, num_envs=2, variants={"discount": (0.9, 0.99)})
    size = plan_loop(run, SMALL, Point(), jax.local_devices()).size
    seeds = make_loop(run, SMALL, Point(), jax.local_devices()).learner.seeds
    assert size is not None and size.on_devices["buffers"] == seeds.rows.nbytes
    assert size.on_devices["parameters and optimisers"] == tree_bytes(seeds.agent)


HUGE = {
    "seeds": (RunConfig(num_seeds=10**9), SMALL, Point(), "num_seeds"),
    "seeds on the host": (RunConfig(num_seeds=10**9), SMALL, HostPoint, "num_seeds"),
    "environments": (RunConfig(num_envs=10**9, total_steps=10**9), PPO(), Point(), "num_envs"),
    "environments on the host": (RunConfig(num_envs=10**9, total_steps=10**9), SMALL, HostPoint, "num_envs"),
    "episodes": (RunConfig(eval_episodes=10**9), SMALL, Point(), "eval_episodes"),
    "episodes on the host": (RunConfig(eval_episodes=10**9), SMALL, HostPoint, "eval_episodes"),
    "replay": (RunConfig(), SMALL.replace(replay_size=10**12), Point(), "replay_size"),
    "a window": (RunConfig(), PPO(rollout_size=10**11), Point(), "rollout_size"),
    "units": (RunConfig(), SMALL.replace(hidden_sizes=(10**9, 10**9)), Point(), "hidden_sizes"),
    "responses": (
        RunConfig("lm", "tokens/modular-addition", num_envs=10**9, total_steps=10**9),
        TokenAgent(), "tokens/modular-addition", "num_envs",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("run", "agent", "env", "setting"), HUGE.values(), ids=HUGE)
def test_what_is_a_thousand_million_times_too_large_is_a_sentence_with_what_would_fit(
    a_gigabyte: None, run: RunConfig, agent: Any, env: Any, setting: str
) -> None:
    """Nothing of that size is made: neither lists of members nor environments nor arrays."""
    with pytest.raises(TooLargeError) as caught:
        plan_loop(run, agent, env, jax.local_devices())
    told = str(caught.value)
    assert isinstance(caught.value, InvalidSettingError) and "1.0 GB are free" in told
    assert f"--{setting.replace('_', '-')} at most " in told, told


@pytest.mark.slow
def test_the_largest_that_is_said_to_fit_does(a_gigabyte: None) -> None:
    devices = jax.local_devices()
    with pytest.raises(TooLargeError, match=r"it would fit with --replay-size at most ([\d,]+)\.") as caught:
        plan_loop(RunConfig(), SMALL.replace(replay_size=10**12), Point(), devices)
    most = int(str(caught.value).split("at most ")[1].strip(".").replace(",", ""))
    planned = plan_loop(RunConfig(), SMALL.replace(replay_size=most), Point(), devices)
    assert planned.size is not None and 0.9e9 < planned.size.total <= 1e9
    with pytest.raises(TooLargeError):
        plan_loop(RunConfig(), SMALL.replace(replay_size=round(1.12 * most)), Point(), devices)


def test_episodes_and_data_that_memory_does_not_hold_are_refused(a_gigabyte: None, tmp_path: Path) -> None:
    policy = load_policy(make_teacher(tmp_path))
    with pytest.raises(TooLargeError, match=r"1,000,000,000 episodes take at least .* --episodes may be at most"):
        evaluate_policy(policy, 10**9, env=Point())
    with pytest.raises(TooLargeError, match=r"transitions take at least .* --size may be at most"):
        collect(Collecting(kind="random", env="maxent/MultiGoal", size=10**12))


def test_accelerators_have_a_memory_of_their_own() -> None:
    size = Size({"buffers": 3 * 10**9}, {"environments": 10**9})
    assert str(size) == "4.0 GB of memory (buffers 3.0 GB, environments 1.0 GB)"
    assert Room(None, 5 * 10**9).holds(size) and not Room(None, 3 * 10**9).holds(size)
    assert Room(4 * 10**9, 2 * 10**9).holds(size) and not Room(2 * 10**9, 9 * 10**9).holds(size)
    assert Room(None, None).holds(size) and not Room(4 * 10**9, 10**8).holds(size)


def test_free_memory_is_told_in_words() -> None:
    free = free_memory()
    assert free is None or free > 10**6
    assert (in_words(2.25e9), in_words(2e6)) == ("2.2 GB", "2.0 MB")
