"""`experiments/run.py`: what its flags resolve to, and its errors in one sentence. Trainings themselves: tests/training."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from maxent_rl.agents import SAC
from maxent_rl.agents.registry import agent_class
from maxent_rl.errors import InvalidSettingError
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
    assert "Unknown preset 'fsat'. Did you mean 'fast'?" in capsys.readouterr().err
    config = tmp_path / "config.json"
    config.write_text(json.dumps(describe(RunConfig(), SAC())))
    assert command.main(["--preset", "fast", "--config", str(config)]) == 1
    assert "--preset does not go with" in capsys.readouterr().err
