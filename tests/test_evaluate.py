"""`experiments/evaluate.py`: its numbers are those of the library, its errors are one sentence."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, every_agent

from maxent_rl import envs
from maxent_rl.agents.on_policy.subpo import SubPO
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.playing.evaluation import evaluate_device, evaluate_host, evaluate_policy
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, load_policy, policy_arrays
from maxent_rl.storage.lock import only_one

AGENT = AGENTS_UNDER_TEST["sac"].agent
SEEDS = 2


@pytest.fixture(scope="module")
def main():
    path = Path(__file__).parents[1] / "experiments" / "evaluate.py"
    spec = importlib.util.spec_from_file_location("experiments_evaluate", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module.main


def untrained(folder, env, spec, agent=AGENT, name="sac"):
    states = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.split(jax.random.key(0), SEEDS))
    description = describe(RunConfig(agent=name, env=env, num_seeds=SEEDS, seed=3), agent)
    export_policy(folder, description, policy_arrays(agent, states), spec, step=7)
    return states


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a policy of two seeds, and their states."""
    folder = tmp_path_factory.mktemp("run")
    return folder, untrained(folder / "policy", "Pendulum-v1", envs.make_host("Pendulum-v1", [0]).spec)


@pytest.mark.slow
def test_the_numbers_are_those_of_evaluate_host(main, run, capsys):
    folder, states = run
    assert main([str(folder), "--episodes", "3", "--eval-seed", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for index, row in enumerate(result["seeds"]):
        state = jax.tree.map(lambda leaf: leaf[index : index + 1], states)  # noqa: B023 - used at once
        (expected,) = evaluate_host(AGENT, state, (5,), 0, 3, lambda seeds: envs.make_host("Pendulum-v1", seeds))
        assert row["seed"] == 3 + index
        assert (row["returns"], row["lengths"]) == (expected.returns, expected.lengths)
        assert row["return_mean"] == np.mean(expected.returns)
    assert result["return_mean"] == pytest.approx(np.mean([row["return_mean"] for row in result["seeds"]]))
    assert (result["env"], result["step"]) == ("Pendulum-v1", 7)


@pytest.mark.slow
def test_one_seed_alone_has_the_numbers_it_has_among_others_and_the_table_shows_them(main, run, capsys):
    folder, _ = run
    main([str(folder / "policy"), "--episodes", "2", "--json"])
    among = json.loads(capsys.readouterr().out)["seeds"][1]
    main([str(folder), "--episodes", "2", "--json", "--seed", "4"])
    assert json.loads(capsys.readouterr().out)["seeds"] == [among]
    assert main([str(folder), "--episodes", "2", "--seed", "4"]) == 0
    table = capsys.readouterr().out
    assert all(f"{among[f'return_{name}']:,.2f}" in table for name in ("mean", "std", "min", "max"))


@pytest.mark.slow
def test_sampled_actions_repeat_under_one_eval_seed_and_differ_from_the_most_likely_ones(main, run, capsys):
    def returns(*flags):
        main([str(run[0]), "--episodes", "2", "--seed", "3", "--json", *flags])
        return json.loads(capsys.readouterr().out)["seeds"][0]["returns"]

    sampled = returns("--stochastic")
    assert sampled == returns("--stochastic")
    assert sampled != returns()
    assert returns() != returns("--eval-seed", "1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "9"], "has seeds [3, 4], not 9"),
        (["--episodes", "0"], "--episodes must be at least 1"),
        (["--eval-seed", "-1"], "--eval-seed"),
        (["--video", "here.gif"], ".mp4"),
        (["--picture", "here.pdf"], ".png"),
        (["--picture", "here.png"], "Pendulum-v1 cannot be drawn"),
    ],
)
def test_a_setting_that_cannot_work_is_one_sentence(main, run, capsys, flags, message):
    assert main([str(run[0]), *flags]) == 1
    fails_in_one_line(capsys, message)


def test_a_run_that_another_process_trains_can_be_evaluated(main, run, capsys):
    with only_one(run[0] / "run.lock", "The run"):
        assert main([str(run[0]), "--episodes", "1", "--seed", "3"]) == 0


def test_a_missing_run_is_one_sentence(main, tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 1
    fails_in_one_line(capsys, "There is no policy")


def test_a_damaged_policy_is_one_sentence(main, run, tmp_path, capsys):
    (tmp_path / "policy.json").write_bytes((run[0] / "policy" / "policy.json").read_bytes())
    (tmp_path / "arrays.npz").write_bytes((run[0] / "policy" / "arrays.npz").read_bytes()[:200])
    assert main([str(tmp_path)]) == 1
    fails_in_one_line(capsys, "damaged")


@pytest.mark.parametrize(("env", "message"), [("Pendulumm-v1", "Did you mean"), ("CartPole-v1", "was trained on")])
def test_an_environment_that_does_not_fit_is_one_sentence(main, run, tmp_path, capsys, env, message):
    for name in ("policy.json", "arrays.npz"):
        content = (run[0] / "policy" / name).read_bytes()
        (tmp_path / name).write_bytes(content.replace(b'"Pendulum-v1"', f'"{env}"'.encode()))
    assert main([str(tmp_path), "--episodes", "1"]) == 1
    fails_in_one_line(capsys, message)


def fails_in_one_line(capsys, message):
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--stochastic"]])
def test_a_picture_is_written_and_the_output_says_where(main, tmp_path, capsys, flags):
    spec = envs.make_device("maxent/SteinerTree").spec
    untrained(tmp_path / "policy", "maxent/SteinerTree", spec, SubPO(hidden_sizes=(8,)), "subpo")
    picture = tmp_path / "trajectories.png"
    assert main([str(tmp_path), "--episodes", "2", "--picture", str(picture), *flags]) == 0
    assert f"Picture: {picture}\n" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([str(tmp_path), "--episodes", "2", "--picture", str(picture), "--json", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["picture"] == str(picture)
    assert main([str(tmp_path), "--picture", str(picture / "in-a-file.png"), *flags]) == 1
    fails_in_one_line(capsys, "Cannot write")


@pytest.mark.slow
@every_agent("sac", "sac-discrete")
def test_policies_of_a_function_and_of_a_device_environment_are_evaluated_in_them(tmp_path, name):
    row = AGENTS_UNDER_TEST[name]
    host, device = row.env("host"), row.env("device")
    untrained(tmp_path, "point", envs.make_host(host, [0]).spec, row.agent, name)
    policy = load_policy(tmp_path)
    assert evaluate_policy(policy, 2, env=host).lengths == [20, 20]

    states = jax.tree.map(lambda leaf: leaf[None], policy.state)
    (expected,) = evaluate_device(row.agent, states, jax.random.key(1)[None], 0, 2, device)
    assert evaluate_policy(policy, 2, seed=1, env=device) == expected
    sampled = evaluate_policy(policy, 2, seed=1, env=device, stochastic=True)
    assert sampled == evaluate_policy(policy, 2, seed=1, env=device, stochastic=True)
    assert sampled.returns != expected.returns
    with pytest.raises(IncompatibleEnvironmentError, match="trained on"):
        evaluate_policy(policy, 2, env="Pendulum-v1" if row.discrete else "CartPole-v1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sac-discrete", "ppo"])
def test_the_command_evaluates_policies_for_discrete_actions(main, tmp_path, capsys, name):
    untrained(tmp_path, "CartPole-v1", envs.make_host("CartPole-v1", [0]).spec, AGENTS_UNDER_TEST[name].agent, name)
    for flags in ([], ["--stochastic"]):
        assert main([str(tmp_path), "--episodes", "3", "--json", *flags]) == 0
        result = json.loads(capsys.readouterr().out)
        assert [row["returns"] == row["lengths"] for row in result["seeds"]] == [True] * SEEDS  # 1 for every step
