"""The command lines on token tasks: experiments/run.py, evaluate.py and sweep.py."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from agents_under_test import TOKEN_AGENTS_UNDER_TEST
from run_processes import assert_same, finish, kill_at, start_run

from maxent_rl import RunConfig, load_policy
from maxent_rl.envs import make_device
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.config import describe
from maxent_rl.runs.policy import export_policy, policy_arrays
from maxent_rl.runs.records import read_csv
from maxent_rl.sweep import expand

ENV, NAME = "tokens/modular-addition", "grpo"
AGENT = TOKEN_AGENTS_UNDER_TEST[NAME]


def command(name):
    path = Path(__file__).parents[1] / "experiments" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--agent grpo --env HalfCheetah --num-envs 16",
            "HalfCheetah-v5 is no task of tokens: use one such as tokens/",
        ),
        ("--agent sac --env tokens/countdown", "tokens/countdown wants sequences of 6 tokens; use --agent lm."),
        ("--agent grpo --objective dapoo", "Unknown objective 'dapoo'. Did you mean 'dapo'"),
        ("--agent grpo --objective-settings clip-lwo=0.1", "Did you mean 'clip_low'"),
        ("--agent grpo --env tokens/count-down", "Did you mean 'tokens/countdown'"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, capfd, flags, words):
    assert command("run").main([*shlex.split(flags), "--output-dir", str(tmp_path), "--total-steps", "5000"]) == 1
    error = capfd.readouterr().err
    assert words in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


SIZES = (
    "--hidden-size 16 --num-layers 1 --num-heads 2 --num-key-value-heads 1 --intermediate-size 16 --group-size 4 "
    "--eval-samples 3 --warm-start-steps 64 --num-envs 16 --eval-episodes 4 --log-every 32 --checkpoint-every 64 "
    "--eval-every 128 --num-seeds 2"
)


# One with a teacher that follows the policy and is told right responses, beside a stage with a state.
TAUGHT = (
    "srpo --objective-settings target_entropy=0.5 --teacher-rate 0.3 --warm-start-hints 0.5 "
    "--warm-start-objective entropy-sft"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective", [TAUGHT, *(pytest.param(name, marks=pytest.mark.matrix) for name in ("dapo", "clip_cov"))]
)
def test_the_command_trains_and_goes_on_after_a_kill(tmp_path, objective):
    flags = shlex.split(f"--agent grpo --env {ENV} --objective {objective} {SIZES} --output-dir {tmp_path}")
    finish(start_run(*flags, "--total-steps", "320", "--name", "whole"))
    whole, part = (tmp_path / "tokens-modular-addition" / NAME / name for name in ("whole", "part"))
    kill_at(start_run(*flags, "--total-steps", "320", "--name", "part"), part, step=128, delay=0.0)
    finish(start_run("--resume", str(part)))
    assert_same(part, whole)
    for row in read_csv(whole / "metrics.csv")[-2:]:
        assert np.isfinite([value for name, value in row.items() if name != "supervised/loss"]).all()


@pytest.mark.slow
def test_the_command_evaluates_policies_that_write(tmp_path, capsys):
    spec = make_device(ENV).spec
    states = jax.jit(jax.vmap(lambda key: AGENT.init(key, spec)))(jax.random.split(jax.random.key(0), 2))
    description = describe(RunConfig(agent=NAME, env=ENV, num_seeds=2), AGENT)
    export_policy(tmp_path, description, policy_arrays(AGENT, states), spec, step=0)
    main = command("evaluate").main
    page = tmp_path / "here.html"
    flags = ["--episodes", "4", "--transcripts", "2"]
    assert main([str(tmp_path), *flags, "--json", "--transcripts-page", str(page)]) == 0
    result = json.loads(capsys.readouterr().out)
    for row in result["seeds"]:
        assert row["returns"] == evaluate_policy(load_policy(tmp_path, seed=row["seed"]), 4).returns
        assert [each["return"] for each in row["transcripts"]] == row["returns"][:2]
    assert result["transcripts_page"] == str(page) and page.is_file()
    assert main([str(tmp_path), *flags]) == 0
    assert (tmp_path / "transcripts.html").read_text().count("<article>") == 2 * 2
    told = capsys.readouterr().out
    assert "seed 1:\nepisode 0: " in told and "  turn 0  model  " in told and "Transcripts page: " in told
    assert result["seeds"][0]["transcripts"][0]["prompt"] in told
    assert main([str(tmp_path), "--episodes", "4", "--stochastic"]) == 0
    capsys.readouterr()
    assert main([str(tmp_path), "--transcripts-page", "here.html"]) == 1
    assert (
        "--transcripts-page has no effect here: it is used only with --transcripts above 0" in capsys.readouterr().err
    )
    assert main([str(tmp_path), "--episodes", "1", "--video", "here.mp4"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_sweep_of_objectives_is_a_job_for_each_with_the_agents_own_defaults():
    parse = command("sweep").parse
    flags = f"--agents grpo --envs {ENV} --num-seeds 2 --set objective=grpo,dapo learning-rate=1e-3,1e-4"
    _, jobs = expand(parse(shlex.split(flags))[1])
    defaults = type(AGENT).run_defaults
    for job, objective in zip(jobs, ("grpo", "dapo"), strict=True):
        assert job.agent.objective == objective and job.run.variants == {"learning_rate": (1e-3, 1e-4)}
        assert (job.run.num_envs, job.run.total_steps) == (defaults["num_envs"], defaults["total_steps"])
        job.agent.check(dataclasses.replace(make_device(ENV).spec, num_envs=job.run.num_envs), ENV)
    assert parse(shlex.split(f"{flags} --num-envs 64"))[1].run.num_envs == 64
    assert parse(shlex.split("--agents grpo sac --envs Pendulum"))[1].run.num_envs == RunConfig().num_envs
