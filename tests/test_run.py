"""`experiments/run.py`: what its flags resolve to, and its errors in one sentence. Trainings themselves: tests/training."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from maxent_rl import resume
from maxent_rl.agents import SAC
from maxent_rl.agents.registry import agent_class
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.presets import PRESETS, apply_preset
from maxent_rl.settings import check_settings


@pytest.fixture(scope="module")
def command():
    path = Path(__file__).parents[1] / "experiments" / "run.py"
    spec = importlib.util.spec_from_file_location("experiments_run", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("agent", ["sac", "pmoe"])
def test_a_preset_stands_in_for_the_defaults_and_flags_change_it(command, agent):
    parsed = command.parse(["--agent", agent, "--preset", "fast", "--learning-rate", "5e-4"])
    preset = PRESETS["fast"]
    assert preset.agents["pmoe"] == preset.agents["sac"]
    for name, value in preset.run.items():
        assert getattr(parsed.run, name) == value != getattr(RunConfig(), name)
    for name, value in preset.agents[agent].items():
        assert getattr(parsed.hyper, name) == (5e-4 if name == "learning_rate" else value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_pass_the_checks_of_run_and_agent(name):
    for agent in PRESETS[name].agents:
        default = agent_class(agent)()
        run, hyper = apply_preset(name, RunConfig(agent=agent), default)
        run.check()
        check_settings(hyper)
        assert describe(run, hyper)["agent"] != describe(run, default)["agent"]


def test_an_agent_that_a_preset_does_not_know_is_refused():
    with pytest.raises(
        InvalidSettingError, match=r"--preset fast has no settings for the agent 'mine', only for: pmoe, sac"
    ):
        apply_preset("fast", RunConfig(agent="mine"), SAC())


def test_wrong_presets_are_one_sentence(command, capsys, tmp_path):
    assert command.main(["--preset", "fsat"]) == 1
    assert "Unknown preset 'fsat'. Did you mean 'fast'" in capsys.readouterr().err
    config = tmp_path / "config.json"
    config.write_text(json.dumps(describe(RunConfig(), SAC())))
    assert command.main(["--preset", "fast", "--config", str(config)]) == 1
    assert "--preset does not go with" in capsys.readouterr().err


REFUSED = [
    ("--agent sac --env CartPole-v1", "SAC needs continuous actions"),
    ("--env Pendulum --target-critics 3", "--target-critics (3) must be at most --num-critics (2)"),
    ("--agent ppo --env Pendulum --minibatches 3", "--minibatches 3 cannot share the 2048 steps"),
    ("--agent ppo --env maxent/Nothing", "Did you mean"),
    ("--agent dt --env Pendulum", "pass --dataset PATH"),
    ("--agent iql --env Pendulum --dataset nowhere.npz", "nowhere.npz"),
    ("--agent adpo --env Pendulum", "pass --teacher RUN"),
    ("--agent sac-preference --env Pendulum", "pass --dataset PATH"),
    ("--env Pendulum --teacher x", "reads no --teacher"),
    ("--agent lm --objective grp --num-envs 8", "Did you mean 'grpo'"),
    ("--env Pendulum --backend spring", "Did you mean brax/pendulum?"),
    ("--env halfcheetah --backend spring", "Did you mean 'brax/halfcheetah'?"),
    ("--env ALE/Pong-v5", "pip install ale-py, then name it ale_py:ALE/Pong-v5"),
    ("--env Pendulum --replay-size 1e12", "it would fit with --replay-size at most 2"),
    ("--env Pendulum --num-seeds 1e9", "it would fit with --num-seeds at most 2"),
    ("--env Pendulum --wandb p", "Weights & Biases is not installed"),
    ("--env Pendulum --num-processes 2", "go with --coordinator HOST:PORT"),
    ("--env Pendulum --output-dir file", "Cannot make the folder"),
    (
        "--env Pendulum --temperature-mode fixed --target-entropy 5",
        "--target-entropy has no effect here: it is used only with another --temperature-mode than fixed.",
    ),
    ("--env Pendulum --temperature-mode fixed --temperature-sample fresh", "--temperature-sample has no effect here"),
    ("--agent ppo --env Pendulum --initial-temperature 1", "used only with --target-entropy."),
    ("--agent pmoe --env Pendulum --relaxation 2", "and with --router gumbel or straight_through."),
    ("--agent subpo --env Pendulum --num-envs 8 --trust-region 1", "used only with --natural-gradient."),
    ("--agent subpo --env Pendulum --num-envs 8 --history-size 8", "--history-size has no effect here"),
    ("--agent subpo --env Pendulum --num-envs 8 --clip-low 0.1", "--clip-low has no effect here"),
    ("--agent subpo --env Pendulum --num-envs 8 --entropy-annealing", "and with --entropy-bonus above 0."),
    ("--env Pendulum --num-bins 51", "--num-bins has no effect here: it is used only with --critic-value categorical."),
    ("--env Pendulum --no-target-network --target-update-rate 0.1", "--target-update-rate has no effect here"),
    ("--env Pendulum --eval-every 5 --eval-episodes 0", "--eval-every has no effect here"),
    ("--env maxent/MultiGoal --eval-num-envs 3", "with environments on the host."),
    ("--env Pendulum --variants scheduled-updates 3 4", "--scheduled-updates has no effect here"),
]


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "run"])
@pytest.mark.parametrize(("flags", "words"), REFUSED, ids=[flags for flags, _ in REFUSED])
def test_a_dry_run_refuses_what_a_run_refuses_and_neither_leaves_anything(
    command, capsys, tmp_path, monkeypatch, flags, words, dry
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("maxent_rl.training.loops.size.free_memory", lambda: 10**9)
    (tmp_path / "file").write_text("in the way")
    assert command.main([*flags.split(), "--total-steps", "10", *["--dry-run"] * dry]) == 1
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_dry_run_prints_the_settings_alone_and_what_is_to_be_known_beside(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(["--env", "Pendulum", "--total-steps", "1e2", "--batch-size", "1e1", "--dry-run"]) == 0
    told = capsys.readouterr()
    config = json.loads(told.out)
    assert (config["run"]["total_steps"], config["agent"]["batch_size"]) == (100, 10)
    assert "This run learns nothing in its 100 steps" in told.err and not list(tmp_path.iterdir())
    assert "It takes at least" in told.err and "of memory (buffers" in told.err


def test_scripts_may_give_flags_without_effect_which_is_said(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--env", "Pendulum", "--no-target-network", "--target-update-rate", "0.1", "--allow-unused", "--dry-run"]
    assert command.main(flags) == 0
    told = capsys.readouterr()
    assert "--target-update-rate has no effect in this run." in told.err
    assert json.loads(told.out)["agent"]["target_update_rate"] == 0.1


def test_resuming_is_checked_dry_too(command, capsys, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(describe(RunConfig(env="Pendulum-v1"), SAC())))
    for flags, words in (
        (["--resume", str(tmp_path), "--config", str(config)], "leave one of them out"),
        (["--resume", str(tmp_path / "nowhere")], "There is no run at"),
        (["--resume", str(tmp_path), "--seed", "3"], "A resumed run cannot change --seed"),
        (["--resume", str(tmp_path), "--name", "b"], "--resume goes on in the run's own folder: leave --name out"),
        (["--resume", str(tmp_path), "--output-dir=b"], "leave --output-dir out"),
    ):
        assert command.main([*flags, "--dry-run"]) == 1
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_one_command_line_begins_a_run_and_goes_on_with_it(command, capsys, tmp_path):
    """As job scripts on machines that may be taken away repeat it."""
    flags = f"--env Pendulum --name job --output-dir {tmp_path} --resume-or-start --seed 3".split()
    assert parse(flags).start.resume is None
    folder = tmp_path / "Pendulum-v1" / "sac" / "job"
    folder.mkdir(parents=True)
    assert parse(flags).start.resume is None  # killed before it wrote its configuration
    (folder / "config.json").write_text(json.dumps(describe(RunConfig(env="Pendulum-v1", seed=3), SAC())))
    assert parse([*flags, "--total-steps", "7"]).start.resume == folder
    for more, words in (
        (["--seed", "4"], "A resumed run cannot change --seed (it is 3, not 4)"),
        (["--batch-size", "7"], "A resumed run cannot change --batch-size"),
        (["--name", "other", "--resume", str(folder)], "does not go with --resume"),
        (["--from-step", "4"], "--from-step goes with --resume"),
    ):
        assert command.main([*flags, *more, "--dry-run"]) == 1
        assert words in capsys.readouterr().err


def test_a_file_does_not_decide_where_things_are_written(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(describe(RunConfig(output_dir="/elsewhere", seed=5), SAC())))
    run = parse(["--config", str(tmp_path)]).run
    assert (run.output_dir, run.seed) == ("runs", 5)
    assert parse(["--config", str(tmp_path), "--output-dir", "mine"]).run.output_dir == "mine"


def test_a_file_does_not_decide_what_is_imported(command, capsys, tmp_path, monkeypatch):
    (tmp_path / "of_somebody_else.py").write_text("raise SystemError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    env = "of_somebody_else:Pendulum-v1"
    (tmp_path / "config.json").write_text(json.dumps(describe(RunConfig(env=env), SAC())))
    for flag in ("--config", "--resume"):
        assert command.main([flag, str(tmp_path), "--dry-run"]) == 1
        told = capsys.readouterr().err
        assert "imports the Python module 'of_somebody_else'" in told and "--allow-env-import" in told
    with pytest.raises(InvalidSettingError, match="imports the Python module"):
        resume(tmp_path)
    for allowed in (["--allow-env-import"], ["--env", env]):
        with pytest.raises(SystemError, match="it ran"):
            command.main(["--config", str(tmp_path), *allowed, "--dry-run"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--name", ".."], "--name must be a plain folder name"),
        (["--name", "."], "--name must be a plain folder name"),
        (["--resume", ""], "--resume needs the folder of a run"),
        (["--config="], "--config needs the folder of a run"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(command, capsys, tmp_path, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    assert command.main([*flags, "--env", "Pendulum", "--dry-run"]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_processes_that_could_not_be_joined(command, capsys):
    for flags, words in (
        (["--coordinator", "somewhere"], "--coordinator must be HOST:PORT or auto, got 'somewhere'"),
        (["--coordinator", "host:1"], "needs --num-processes and --process-id too"),
        (["--coordinator", "host:1", "--num-processes", "2", "--process-id", "2"], "--process-id must be from 0 to 1"),
    ):
        assert command.main(["--env", "Pendulum", "--dry-run", *flags]) == 1
        assert words in capsys.readouterr().err
