"""`experiments/experts.py`: what it prints and writes, and its errors in one sentence."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import jax
import pytest

from maxent_rl import envs
from maxent_rl.agents import SAC
from maxent_rl.agents.registry import agent_name
from maxent_rl.agents.soft.pmoe import PMOE
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, policy_arrays


@pytest.fixture(scope="module")
def main():
    path = Path(__file__).parents[1] / "experiments" / "experts.py"
    spec = importlib.util.spec_from_file_location("experiments_experts", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.main


def untrained(folder, env, agent, seeds=1):
    spec = envs.make_device(env).spec if envs.is_device(env) else envs.make_host(env, [0]).spec
    states = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.split(jax.random.key(0), seeds))
    config = describe(RunConfig(agent=agent_name(agent), env=env, num_seeds=seeds, seed=3), agent)
    export_policy(folder / "policy", config, policy_arrays(agent, states), spec, step=7)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    agent = PMOE(hidden_sizes=(8,), num_experts=3)
    return untrained(tmp_path_factory.mktemp("run"), "maxent/MultiGoal", agent, seeds=2)


@pytest.mark.slow
def test_every_seed_has_a_table_and_a_folder_of_pictures(main, run, capsys):
    assert main([str(run), "--episodes", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("mean weight") == 2 and printed.count("of log 3 = 1.099 at most") == 2
    assert printed.count("usage.png is not drawn") == 2
    for seed in (3, 4):
        pictures = sorted(path.name for path in (run / "experts" / f"seed_{seed}").iterdir())
        assert pictures == ["landscape.png", "states.png", "timeline.png"]
        assert all(str(run / "experts" / f"seed_{seed}" / name) in printed for name in pictures)


@pytest.mark.slow
def test_one_seed_goes_where_it_is_told_and_the_policy_folder_will_do(main, run, tmp_path, capsys):
    flags = ["--episodes", "2", "--seed", "4", "--output", str(tmp_path / "here"), "--no-stochastic"]
    assert main([str(run / "policy"), *flags]) == 0
    assert (tmp_path / "here" / "timeline.png").exists()
    assert "seed 4" in capsys.readouterr().out


@pytest.mark.slow
def test_an_agent_without_experts_gets_its_landscape_and_a_sentence(main, tmp_path, capsys):
    untrained(tmp_path, "maxent/TwoOptima", SAC(hidden_sizes=(8,)))
    assert main([str(tmp_path), "--episodes", "50"]) == 0
    printed = capsys.readouterr().out
    assert "agent sac, which has no experts" in printed and "only the landscape is drawn" in printed
    assert [path.name for path in (tmp_path / "experts").iterdir()] == ["landscape.png"]


def test_without_experts_and_landscape_there_is_nothing_to_draw(main, tmp_path, capsys):
    untrained(tmp_path, "Pendulum-v1", SAC(hidden_sizes=(8,)))
    assert main([str(tmp_path)]) == 1
    fails_in_one_line(capsys, "no experts to look at: train one with --agent pmoe")
    assert not (tmp_path / "experts").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "9"], "has seeds [3, 4], not 9"),
        (["--episodes", "0"], "--episodes must be at least 1"),
        (["--eval-seed", "-1"], "--eval-seed"),
        (["--variant", "2"], "not 2"),
    ],
)
def test_a_setting_that_cannot_work_is_one_sentence(main, run, capsys, flags, message):
    assert main([str(run), *flags]) == 1
    fails_in_one_line(capsys, message)


@pytest.mark.slow
def test_a_missing_run_and_a_folder_in_the_way_are_one_sentence(main, run, tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 1
    fails_in_one_line(capsys, "There is no policy")
    (tmp_path / "timeline.png").mkdir()
    assert main([str(run), "--seed", "3", "--episodes", "1", "--output", str(tmp_path)]) == 1
    fails_in_one_line(capsys, "Cannot write")


def fails_in_one_line(capsys, message):
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1 and "Traceback" not in err
