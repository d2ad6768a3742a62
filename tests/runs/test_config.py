"""What names a run: its folder, and the titles of its figures."""

import dataclasses
import re
from pathlib import Path

import pytest

from maxent_rl.agents import agent_class
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
