"""The data set study's statistics, on results made up so that the findings hold, or do not."""

import json

import dataset_claims
import numpy as np
import pytest
from common import BenchmarkError
from dataset_claims import AGENTS, FAMILIES, bootstrap, findings, points, rank_correlation, spearman
from dataset_study import KINDS, Settings, Study
from dataset_tables import draw, render, tables

PLACES = {"random": (0.0, 0.9), "replay": (0.5, 1.0), "mixed": (0.1, 0.5), "noisy": (0.75, 0.8), "expert": (0.9, 0.2)}
SEEDS, EVALUATIONS = 2, 4


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(dataset_claims, "RESAMPLES", 100)


def made_up(score, envs=("maxent/A", "maxent/B"), behaviours=3):
    """Results in which `score(family, tq, saco)` is what the agents of a family reach."""
    generator = np.random.default_rng(0)
    datasets, runs = [], []
    for env in envs:
        for behaviour in range(behaviours):
            for kind in KINDS:
                tq, saco = np.array(PLACES[kind]) + generator.normal(0.0, 0.03, 2)
                name = f"{env}/{behaviour}/{kind}"
                datasets.append(
                    {"name": name, "env": env, "behaviour": behaviour, "kind": kind, "tq": tq, "saco": saco, "seconds": 1.0,
                     "random_return": -10.0, "expert_return": 90.0}
                )  # fmt: skip
                for family, agents in FAMILIES.items():
                    for agent in agents:
                        reached = -10.0 + 100.0 * (score(family, tq, saco) + generator.normal(0.0, 0.01))
                        curve = np.linspace(-10.0, reached, EVALUATIONS)
                        run = {"data": name, "agent": agent, "steps": [1, 2, 3, 4], "seconds": 2.0}
                        runs.append(run | {"returns": [curve.tolist()] * SEEDS})
    settings = {"size": 100, "updates": 10, "batch_size": 4}
    return {"settings": settings, "hardware": {"summary": "2-core CPU"}, "datasets": datasets, "runs": runs}


def as_claimed(family, tq, saco):
    return {"cloning": tq, "DQN family": saco, "constrained": max(tq, saco), "values of the data": 0.5}[family]


def test_omega_is_the_best_evaluation_of_the_mean_over_seeds_between_random_and_expert():
    result = made_up(as_claimed)
    run = next(run for run in result["runs"] if run["agent"] == "bc")
    run["returns"] = [[0.0, 90.0, 0.0, 0.0], [0.0, 0.0, 30.0, 0.0]]
    (point,) = [point for point in points(result) if f"{point.env}/{point.behaviour}/{point.kind}" == run["data"]]
    assert point.best["bc"] == pytest.approx((45.0 + 10.0) / 100.0)
    assert point.last["bc"] == pytest.approx((60.0 / 3 + 10.0) / 100.0)


def test_findings_hold_where_they_were_planted():
    found = findings(points(made_up(as_claimed)))
    assert [each.holds for each in found] == ["yes", "yes", "yes"]
    assert all(number.low > 0 for each in found for number in each.numbers.values())


def test_findings_fail_where_all_methods_are_the_other_way_round():
    turned = {"cloning": "DQN family", "DQN family": "cloning"}
    found = findings(points(made_up(lambda family, tq, saco: as_claimed(turned.get(family, family), tq, saco))))
    assert found[0].holds == found[2].holds == "no"


def test_nothing_holds_where_the_data_makes_no_difference():
    found = findings(points(made_up(lambda family, tq, saco: 0.5)))
    assert found[0].holds == "no" and abs(found[0].numbers["rank correlation with SACo"].estimate) < 0.5


def test_rank_correlations_are_those_of_ranks():
    data = points(made_up(as_claimed))
    assert rank_correlation("dqn", lambda point: point.saco)(data) > 0.9
    assert spearman([1.0, 2.0, 3.0], [1.0, 10.0, 1000.0]) == pytest.approx(1.0)
    assert np.isnan(spearman([1.0, 1.0], [1.0, 2.0]))
    found = bootstrap(data, rank_correlation("bc", lambda point: point.tq))
    assert found.low <= found.estimate <= found.high and found.low > 0.8
    assert bootstrap(data, rank_correlation("bc", lambda point: point.tq)) == found


def test_data_sets_without_tq_and_unfinished_ones_are_left_out_and_said_to_be():
    result = made_up(as_claimed)
    for data in result["datasets"][:5]:
        data["expert_return"] = data["random_return"]
    result["runs"].pop()
    assert len(points(result)) == 30 - 6
    assert "6 data sets are left out" in tables(result)


def test_tables_and_figure_go_into_the_readme(tmp_path):
    readme, results = tmp_path / "README.md", tmp_path / "study.json"
    readme.write_text("before\n<!-- dataset-study:begin -->\nREPLACED\n<!-- dataset-study:end -->\nafter\n")
    results.write_text(json.dumps(made_up(as_claimed)))
    render(results, readme, tmp_path / "figure.png")
    text = readme.read_text()
    assert "REPLACED" not in text and text.startswith("before") and text.endswith("after\n")
    for agent in AGENTS:
        assert agent.split("-")[0].upper() in text
    assert "high less low SACo" in text and "30 data sets of 100 transitions" in text
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_figure_of_some_agents_alone_can_be_drawn(tmp_path):
    result = made_up(as_claimed)
    result["runs"] = [run for run in result["runs"] if run["agent"] in ("bc", "dqn")]
    draw(points(result), tmp_path / "few.png")
    assert (tmp_path / "few.png").exists()


@pytest.mark.slow
def test_a_small_study_from_online_runs_to_the_end_and_only_what_is_missing_again(tmp_path, capsys):
    settings = Settings(size=300, behaviours=1, num_seeds=2, updates=20, evaluations=2, episodes=2, hidden_sizes=(8,))
    study = Study(settings, envs=("maxent/MountainCar",), agents=("bc", "dqn"), output=tmp_path)
    assert study.run() == 0
    path = tmp_path / "dataset_study.json"
    result = json.loads(path.read_text())
    by_kind = {data["kind"]: data for data in result["datasets"]}
    assert result["complete"] and list(by_kind) == list(KINDS)
    assert all(data["size"] == 300 for data in result["datasets"])
    assert by_kind["replay"]["saco"] == 1.0 and by_kind["random"]["return_mean"] == by_kind["random"]["random_return"]
    assert [run["steps"] for run in result["runs"]] == [[10, 20]] * 10
    assert all(np.shape(run["returns"]) == (2, 2) for run in result["runs"])
    missing = result["runs"].pop()
    path.write_text(json.dumps(result))
    capsys.readouterr()
    assert study.run() == 0
    again = json.loads(path.read_text())["runs"][-1]
    assert capsys.readouterr().err.count("best") == 1
    assert {**again, "seconds": 0} == {**missing, "seconds": 0}
    with pytest.raises(BenchmarkError, match="other settings"):
        Study(Settings(size=301), output=tmp_path).run()
