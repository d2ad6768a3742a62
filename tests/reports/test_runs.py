"""Reading runs: which folders are runs, what is left out and why, and what a seed's curve is."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from run_folders import make_run

from maxent_rl.errors import CheckpointError, UnknownNameError
from maxent_rl.reports.runs import find_runs


def reasons(left_out):
    return {entry.folder.name: entry.reason for entry in left_out}


def test_runs_are_found_at_any_depth_and_once(tmp_path):
    one = make_run(tmp_path / "a" / "sac" / "one", {0: [1.0]})
    two = make_run(tmp_path / "b" / "two", {0: [2.0]})
    (one / "checkpoints" / "1000").mkdir(parents=True)
    shutil.copy(one / "config.json", one / "checkpoints")  # a run holds no runs
    runs, left_out = find_runs([tmp_path, one, tmp_path / "b"])
    assert [run.folder for run in runs] == [one, two]
    assert left_out == []


def test_a_seed_has_steps_values_and_the_seconds_at_them(tmp_path):
    make_run(tmp_path / "run", {3: [1.0, 2.0], 5: [-1.0, 4.0]}, every=500, seconds_per_step=0.02)
    ((run,), _) = find_runs([tmp_path])
    assert [member.seed for member in run.members] == [3, 5]
    for member, values in zip(run.members, ([1, 2], [-1, 4]), strict=True):
        np.testing.assert_array_equal(member.steps, [500, 1000])
        np.testing.assert_array_equal(member.values, values)
        np.testing.assert_allclose(member.seconds, [10, 20])
    assert (run.agent, run.env, run.finished, run.last_step, run.seconds) == ("sac", "Pendulum-v1", True, 1000, 20)
    assert run.steps_per_second == 100  # two seeds


def test_other_physics_are_another_environment(tmp_path):
    make_run(tmp_path / "run", {0: [1.0]}, env="brax/halfcheetah", backend="mjx")
    assert find_runs([tmp_path])[0][0].env == "brax/halfcheetah (mjx)"


def test_a_killed_run_is_read_up_to_its_last_whole_line(tmp_path):
    folder = make_run(tmp_path / "run", {0: [1.0, 2.0], 1: [3.0, 4.0]}, total=9000)
    for name in ("eval.csv", "metrics.csv"):
        with (folder / name).open("a") as file:
            file.write("3000,0,7.0,200.0\n3000,1,8." if name == "eval.csv" else "3000,0")
    ((run,), _) = find_runs([tmp_path])
    assert [list(member.steps) for member in run.members] == [[1000, 2000, 3000], [1000, 2000]]
    assert run.last_step == 2000 and not run.finished
    np.testing.assert_array_equal(run.members[0].seconds, [10, 20, np.nan])  # nothing is made up


def test_without_times_the_returns_are_still_read(tmp_path):
    make_run(tmp_path / "run", {0: [1.0]}, seconds_per_step=None)
    ((run,), _) = find_runs([tmp_path])
    assert np.isnan(run.seconds) and np.isnan(run.steps_per_second) and np.isnan(run.members[0].seconds).all()


def test_an_evaluation_without_a_number_is_none_and_a_repeated_one_replaces_the_first(tmp_path):
    folder = make_run(tmp_path / "run", {0: [1.0, float("nan"), 3.0]})
    with (folder / "eval.csv").open("a") as file:
        file.write("3000,0,5.0,200.0\n,0,6.0,200.0\n")
    member = find_runs([tmp_path])[0][0].members[0]
    assert (list(member.steps), list(member.values)) == ([1000, 3000], [1, 5])


def test_hyper_parameters_that_vary_within_a_run_make_members_of_their_own(tmp_path):
    make_run(tmp_path / "run", {(0, 1e-3): [1.0], (0, 1e-4): [2.0], (1, 1e-3): [3.0]})
    members = find_runs([tmp_path])[0][0].members
    assert [(member.seed, member.settings["learning_rate"], member.values[0]) for member in members] == [
        (0, 1e-3, 1.0),
        (0, 1e-4, 2.0),
        (1, 1e-3, 3.0),
    ]


def test_a_setting_that_an_older_run_does_not_name_has_its_default(tmp_path):
    make_run(tmp_path / "run", {0: [1.0]})
    settings = find_runs([tmp_path])[0][0].members[0].settings
    assert settings["discount"] == 0.99 and settings["num_envs"] == 1
    assert settings["hidden_sizes"] == [64, 64]
    assert "seed" not in settings and "total_steps" not in settings and "env" not in settings


def test_what_is_left_out_is_said_with_its_reason(tmp_path):
    make_run(tmp_path / "good", {0: [1.0]})
    empty = make_run(tmp_path / "empty", {0: [1.0]})
    (empty / "eval.csv").write_text("step,seed,return_mean\n")
    (make_run(tmp_path / "missing", {0: [1.0]}) / "eval.csv").unlink()
    (make_run(tmp_path / "bare", {0: [1.0]}) / "config.json").unlink()
    (make_run(tmp_path / "torn", {0: [1.0]}) / "config.json").write_text('{"run": ')
    odd = make_run(tmp_path / "odd", {0: [1.0]})
    (odd / "config.json").write_text(json.dumps({"run": {}, "agent": "sac"}))
    other = make_run(tmp_path / "other", {0: [1.0]})
    (other / "eval.csv").write_text("step,seed,reward\n1000,0,1.0\n")
    (tmp_path / "notes.txt").write_text("")
    runs, left_out = find_runs([tmp_path, tmp_path / "notes.txt"])
    assert [run.folder.name for run in runs] == ["good"]
    found = reasons(left_out)
    assert set(found) == {"empty", "missing", "bare", "torn", "odd", "other", "notes.txt"}
    assert found["empty"] == found["missing"] == "it has no evaluation yet."
    assert "no config.json" in found["bare"]
    assert "cannot be read as a run's configuration" in found["torn"]
    assert "no hyper-parameters" in found["odd"]
    assert "no column 'return_mean'" in found["other"]
    assert "it is a file" in found["notes.txt"]


def test_what_cannot_be_found_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no folder .*nowhere"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(CheckpointError, match="No runs found below"):
        find_runs([tmp_path])
    (make_run(tmp_path / "run", {0: [1.0]}) / "eval.csv").unlink()
    with pytest.raises(CheckpointError, match=r"No run with an evaluation .*run was left out"):
        find_runs([tmp_path])


def test_a_wrong_metric_gets_the_nearest_right_one(tmp_path):
    make_run(tmp_path / "run", {0: [1.0]})
    assert find_runs([tmp_path], "length_mean")[0][0].members[0].values[0] == 200
    with pytest.raises(UnknownNameError, match=r"Unknown metric 'return_men'\. Did you mean 'return_mean'"):
        find_runs([tmp_path], "return_men")
