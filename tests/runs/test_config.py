"""What names a run: its folder, and the titles of its figures."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from maxent_rl.agents import agent_class
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.config import RunConfig, config_from, default_name, describe, method_name, run_folder

TIME = r"\d{8}-\d{6}"


@pytest.mark.parametrize(
    ("agent", "settings", "name", "title"),
    [
        ("sac", {}, "seed3", "sac"),
        ("lm", {}, "grpo-seed3", "lm \u00b7 grpo"),
        ("lm", {"objective": "clip_cov"}, "clip_cov-seed3", "lm \u00b7 clip_cov"),
        ("grpo", {}, "seed3", "grpo"),  # which says it already
        ("grpo", {"objective": "clip_cov"}, "clip_cov-seed3", "grpo \u00b7 clip_cov"),
    ],
)
def test_a_run_is_named_by_the_objective_of_a_language_model(agent, settings, name, title):
    hyper = dataclasses.replace(agent_class(agent)(), **settings)
    run = RunConfig(agent=agent, env="tokens/countdown", seed=3)
    assert re.fullmatch(f"{name}-{TIME}", default_name(run, hyper))
    config = describe(run, hyper)
    assert method_name(config) == title and config_from(config) == (run, hyper)
    assert run_folder(run, "x") == Path("runs") / "tokens-countdown" / agent / "x"


def test_several_seeds_stand_in_the_name():
    run = RunConfig(agent="lm", seed=3, num_seeds=4)
    assert re.fullmatch(f"grpo-seeds3-6-{TIME}", default_name(run, agent_class("lm")()))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 1_000),
        ({"total_steps": 9_990}, 999),
        ({"total_steps": 300}, 30),
        ({"total_steps": 5}, 1),
        ({"total_steps": 2_000_000, "num_envs": 1_024}, 20_480),
        ({"total_steps": 20_480, "num_envs": 1_024}, 2_048),
        ({"total_steps": 300, "log_every": 1_000}, 1_000),
    ],
)
def test_a_run_has_ten_lines_at_least_unless_it_says_how_many(settings, steps):
    assert RunConfig(**settings).log_period == steps


def test_whole_floats_numpy_and_paths_are_taken_for_what_they_say(tmp_path):
    run = RunConfig(
        total_steps=1e5, seed=np.int64(3), output_dir=tmp_path, variants={"learning-rate": [np.float64(1e-3), 1e-4]}
    )
    assert run == RunConfig(
        total_steps=100_000, seed=3, output_dir=str(tmp_path), variants={"learning_rate": (1e-3, 1e-4)}
    )
    run.check()
    assert json.loads(json.dumps(describe(run, agent_class("sac")())))["run"]["output_dir"] == str(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variants": 0.1}, "--variants must be a dictionary"),
        ({"variants": {"learning_rate": 0.1}}, "--learning-rate must be several values, got 0.1"),
        ({"variants": {"learning_rate": ("a",)}}, "--learning-rate must be a number, got 'a'"),
        ({"env": 5}, "--env must be text, got 5"),
        ({"wandb": True}, "--wandb must be text, got True"),
        ({"total_steps": "100"}, "--total-steps must be a whole number, got '100'"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(settings, words):
    with pytest.raises(InvalidSettingError, match=words):
        RunConfig(**settings).check()
