"""Offline agents on data of our own: what is run, and what the tables say."""

import dataclasses

import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.speed.offline_probes import write_random
from benchmarks.studies.offline_control import setting as offline_control
from benchmarks.studies.offline_control import tables as offline_control_tables
from maxent_rl.data.datasets.files import read_dataset, write_npz


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "random.npz"
    write_random(path, 2_000)
    write_npz(dataclasses.replace(read_dataset(path), env="HalfCheetah-v5"), path)
    return path


def test_random_data_has_whole_episodes_with_the_shapes_of_halfcheetah(data):
    found = read_dataset(data)
    assert (found.observation.shape, found.action.shape) == ((2_000, 17), (2_000, 6))
    assert list(found.episodes.length) == [1_000, 1_000] and found.episodes.complete.all()


def test_a_study_measures_references_first_and_gives_cql_its_own_updates(data):
    options = offline_control.OfflineControl(
        data=(f"medium={data}",), expert=("HalfCheetah-v5=5000",), updates=100, cql_updates=20, cql_actions=3
    )
    units = options.units()
    assert [unit.contender for unit in units] == ["random", "expert", "data", "bc", "td3-bc", "iql", "cql"]
    assert {unit.env for unit in units} == {"HalfCheetah-v5 medium"}
    iql, cql = (" ".join(unit.flags) for unit in units[-2:])
    assert "--total-steps 100" in iql and "--sampled-actions" not in iql
    assert "--total-steps 20" in cql and "--sampled-actions 3" in cql


def test_what_a_study_lacks_is_named(data):
    for given, words in (
        ({"data": ("medium",), "expert": ()}, "--data takes NAME=VALUE, got 'medium'"),
        ({"data": ("medium=nowhere.npz",), "expert": ()}, "there is no nowhere.npz"),
        ({"data": (f"medium={data}",), "expert": ("Hopper-v5=1",)}, "--expert has no HalfCheetah-v5"),
    ):
        with pytest.raises(BenchmarkError, match=words):
            offline_control.OfflineControl(**given).units()


def test_scores_are_0_for_random_actions_and_100_for_the_expert():
    settings = {"cql_updates": None, "updates": 9, "cql_actions": 2, "batch_size": 8, "hidden_sizes": [8]}
    returns = {"random": [-100.0], "expert": [900.0], "data": [400.0], "iql": [300.0, 500.0]}
    runs = [
        {"env": "Env", "contender": name, "values": {"return": value}, "machine": "CPU"}
        for name, values in returns.items()
        for value in values
    ]
    result = {"runs": runs, "settings": settings | {"eval_episodes": 1}, "complete": True}
    assert offline_control_tables.scores(result, "Env", "iql") == [40.0, 60.0]
    assert offline_control_tables.scores(result, "Env", "random") == [0.0]
    assert "| Env | 50 ± 10 | 50 | -100 | 900 |" in offline_control_tables.table(result)
    text = offline_control_tables.tables({"offline_control": result})
    assert "| IQL | 50 (40 to 60) | 50 (40 to 60) |" in text
