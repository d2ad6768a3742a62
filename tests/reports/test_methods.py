"""Methods: what is pooled, what is told apart, and how curves of different lengths meet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_run

from maxent_rl.reports.methods import align, make_study
from maxent_rl.reports.runs import find_runs


def study_of(folder):
    return make_study(find_runs([folder])[0])


def test_seeds_of_several_runs_are_one_method(tmp_path):
    make_run(tmp_path / "a", {0: [1.0, 2.0], 1: [3.0, 4.0]})
    make_run(tmp_path / "b", {7: [5.0, 6.0]}, name="again", eval_episodes=50, device="cpu")
    study = study_of(tmp_path)
    assert (study.envs, study.methods, study.left_out) == (("Pendulum-v1",), ("sac",), ())
    group = study.groups["Pendulum-v1", "sac"]
    assert [member.seed for member in group.members] == [0, 1, 7]
    np.testing.assert_array_equal(group.values, [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(group.steps, [1000, 2000])


def test_only_what_differs_between_runs_of_an_agent_is_in_the_name(tmp_path):
    make_run(tmp_path / "a", {0: [1.0]}, agent={"learning_rate": 1e-3, "hidden_sizes": [64, 64]})
    make_run(tmp_path / "b", {0: [1.0]}, agent={"learning_rate": 1e-4, "hidden_sizes": [256, 256]})
    make_run(tmp_path / "c", {0: [1.0]}, agent={"learning_rate": 1e-3, "normalize_observations": True}, num_envs=4)
    other = make_run(tmp_path / "d", {0: [1.0]}, agent={"learning_rate": 0.5})
    (other / "config.json").write_text((other / "config.json").read_text().replace('"sac"', '"mine"'))
    assert list(study_of(tmp_path).methods) == [
        "mine",
        "sac num_envs=1 hidden_sizes=256x256 learning_rate=0.0001 normalize_observations=off",
        "sac num_envs=1 hidden_sizes=64x64 learning_rate=0.001 normalize_observations=off",
        "sac num_envs=4 hidden_sizes=64x64 learning_rate=0.001 normalize_observations=on",
    ]


def test_variants_within_a_run_are_methods_in_the_order_of_their_values(tmp_path):
    make_run(tmp_path / "sweep", {(0, 1e-2): [1.0], (0, 3e-4): [2.0], (1, 1e-2): [3.0], (1, 3e-4): [4.0]})
    make_run(tmp_path / "alone", {2: [5.0]})  # at 3e-4
    study = study_of(tmp_path)
    assert study.methods == ("sac learning_rate=0.0003", "sac learning_rate=0.01")
    np.testing.assert_array_equal(study.groups["Pendulum-v1", study.methods[0]].values, [[2], [4], [5]])
    np.testing.assert_array_equal(study.groups["Pendulum-v1", study.methods[1]].values, [[1], [3]])


def test_values_that_went_through_single_precision_are_the_same_method(tmp_path):
    make_run(tmp_path / "sweep", {(0, float(np.float32(3e-4))): [1.0]})
    make_run(tmp_path / "alone", {1: [5.0]})
    assert study_of(tmp_path).methods == ("sac",)


def test_the_same_seed_twice_counts_once_the_longer_one(tmp_path):
    make_run(tmp_path / "a", {0: [1.0], 1: [2.0]}, total=2000)
    make_run(tmp_path / "b", {0: [3.0, 4.0]})
    make_run(tmp_path / "c", {0: [5.0, 6.0]})
    study = study_of(tmp_path)
    np.testing.assert_array_equal(study.groups["Pendulum-v1", "sac"].values, [[3, 4]])
    found = [(entry.folder.name, entry.reason) for entry in study.left_out]
    assert found[:2] == [
        ("a", f"seed 0 of sac on Pendulum-v1 is also in {tmp_path / 'b'}, and counts once."),
        ("c", f"seed 0 of sac on Pendulum-v1 is also in {tmp_path / 'b'}, and counts once."),
    ]
    assert found[2][0] == "a" and found[2][1].startswith("seed 1 of sac on Pendulum-v1: unfinished (1,000 of 2,000")


def test_unfinished_runs_count_where_there_are_no_finished_ones_as_far_as_all_have_come(tmp_path):
    make_run(tmp_path / "a", {0: [1.0, 2.0, 3.0]}, total=9000)
    make_run(tmp_path / "b", {1: [4.0, 5.0]}, total=9000)
    study = study_of(tmp_path)
    group = study.groups["Pendulum-v1", "sac"]
    np.testing.assert_array_equal(group.values, [[1, 2], [4, 5]])
    assert group.unfinished == 2 and study.left_out == ()


def test_a_seed_that_ended_before_another_was_first_evaluated_is_left_out(tmp_path):
    make_run(tmp_path / "a", {0: [1.0, 2.0]}, every=100, total=9000)
    make_run(tmp_path / "b", {1: [3.0]}, every=1000, total=9000)
    study = study_of(tmp_path)
    np.testing.assert_array_equal(study.groups["Pendulum-v1", "sac"].values, [[3]])
    assert [entry.reason for entry in study.left_out] == [
        "seed 0 ended at step 200, before the first evaluation of others."
    ]


def test_unequal_grids_meet_at_the_last_evaluation_at_or_before():
    steps, values = align(
        [np.array([1000.0, 2000, 3000, 4000]), np.array([1500.0, 3000, 6000])],
        [np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 30])],
    )
    np.testing.assert_array_equal(steps, [1500, 2000, 3000, 4000])
    np.testing.assert_array_equal(values, [[1, 2, 3, 4], [10, 10, 20, 20]])


curve = st.lists(st.integers(0, 50), min_size=1, max_size=12, unique=True).map(sorted)


@given(st.lists(curve, min_size=1, max_size=4))
def test_aligned_values_were_measured_and_are_the_newest_known(positions):
    positions = [np.array(own, float) for own in positions]
    common, values = align(positions, positions)  # each value says where it was measured
    assert values.shape == (len(positions), len(common))
    for own, row in zip(positions, values, strict=True):
        assert set(row) <= set(own)
        for step, value in zip(common, row, strict=True):
            assert value == max(point for point in own if point <= step)


def test_a_single_curve_stays_as_it_is():
    own = np.array([1.0, 5.0, 7.0])
    steps, values = align([own], [own * 2])
    np.testing.assert_array_equal(steps, own)
    np.testing.assert_array_equal(values, [own * 2])


@pytest.mark.parametrize("value", [None, "simba", [1], {"a": 1}])
def test_settings_of_any_kind_have_a_name(tmp_path, value):
    make_run(tmp_path / "a", {0: [1.0]}, agent={"extra": value})
    make_run(tmp_path / "b", {0: [1.0]}, agent={"extra": 2})
    assert len(study_of(tmp_path).methods) == 2
