"""The data set study's statistics, on results made up so that the findings hold, or do not."""

import json

import numpy as np
import pytest

from benchmarks.studies.dataset import claims as dataset_claims
from benchmarks.studies.dataset.__main__ import STUDY
from benchmarks.studies.dataset.claims import bootstrap, findings, points, rank_correlation, spearman
from benchmarks.studies.dataset.figure import draw, figures
from benchmarks.studies.dataset.measure import as_text
from benchmarks.studies.dataset.setting import AGENTS, DATA, FAMILIES, KINDS, DatasetPerspective
from benchmarks.studies.dataset.tables import tables

PLACES = {"random": (0.0, 0.9), "replay": (0.5, 1.0), "mixed": (0.1, 0.5), "noisy": (0.75, 0.8), "expert": (0.9, 0.2)}
SEEDS, EVALUATIONS = 2, 4


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(dataset_claims, "RESAMPLES", 100)


def made_up(score, envs=("maxent/A", "maxent/B"), behaviours=3):
    """Results in which `score(family, tq, saco)` is what the agents of a family reach."""
    generator = np.random.default_rng(0)
    data, learned = [], {}
    for env in envs:
        for behaviour in range(behaviours):
            for kind in KINDS:
                tq, saco = np.array(PLACES[kind]) + generator.normal(0.0, 0.03, 2)
                name = f"{env}/{behaviour}/{kind}"
                values = {"tq": tq, "saco": saco, "random_return": -10.0, "expert_return": 90.0}
                more = {"name": name, "behaviour": behaviour, "kind": kind, "seconds": 1.0}
                data.append({"env": env, "contender": DATA, "repeat": len(data), "values": values} | more)
                for family, agents in FAMILIES.items():
                    for agent in agents:
                        reached = -10.0 + 100.0 * (score(family, tq, saco) + generator.normal(0.0, 0.01))
                        curve = as_text(np.linspace(-10.0, reached, EVALUATIONS).tolist())
                        learned.setdefault((env, agent), {})[name] = curve
    runs = data + [
        {"env": env, "contender": agent, "repeat": seed, "values": {}, "returns": dict(curves), "seconds": 2.0}
        for (env, agent), curves in learned.items()
        for seed in range(SEEDS)
    ]
    settings = {"size": 100, "updates": 10, "batch_size": 4}
    return {"settings": settings, "runs": [run | {"machine": "2-core CPU", "busy_before": 0.0} for run in runs]}


def as_claimed(family, tq, saco):
    return {"cloning": tq, "DQN family": saco, "constrained": max(tq, saco), "values of the data": 0.5}[family]


def test_omega_is_the_best_evaluation_of_the_mean_over_seeds_between_random_and_expert():
    result = made_up(as_claimed)
    one, other = [run for run in result["runs"] if (run["env"], run["contender"]) == ("maxent/A", "bc")]
    name = "maxent/A/0/replay"
    one["returns"][name], other["returns"][name] = "0.0 90.0 0.0 0.0", "0.0 0.0 30.0 0.0"
    (point,) = [point for point in points(result) if f"{point.env}/{point.behaviour}/{point.kind}" == name]
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


@pytest.mark.slow
def test_data_sets_without_tq_and_unfinished_ones_are_left_out_and_said_to_be():
    result = made_up(as_claimed)
    for data in result["runs"][:5]:
        data["values"]["expert_return"] = data["values"]["random_return"]
    for run in result["runs"]:
        if (run["env"], run["contender"]) == ("maxent/B", "crr"):
            del run["returns"]["maxent/B/2/expert"]
    assert len(points(result)) == 30 - 6
    assert "6 data sets are left out" in tables({"dataset": result})


@pytest.mark.slow
def test_tables_and_figure_say_what_was_measured(tmp_path):
    results = {"dataset": made_up(as_claimed)}
    text = tables(results)
    for agent in AGENTS:
        assert agent.split("-")[0].upper() in text
    assert "high less low SACo" in text and "30 data sets of 100 transitions" in text
    (picture,) = figures(results, tmp_path).values()
    assert picture.stat().st_size > 10_000


def test_a_figure_of_some_agents_alone_can_be_drawn(tmp_path):
    result = made_up(as_claimed)
    result["runs"] = [run for run in result["runs"] if run["contender"] in (DATA, "bc", "dqn")]
    draw(points(result), tmp_path / "few.png")
    assert (tmp_path / "few.png").exists()


@pytest.mark.slow
def test_a_small_study_from_online_runs_to_the_end_and_only_what_is_missing_again(tmp_path, capsys):
    plan = DatasetPerspective(
        size=300, behaviours=1, num_seeds=2, updates=20, evaluations=2, episodes=2, hidden_sizes=(8,),
        envs=("maxent/MountainCar",), agents=("bc", "dqn"),
    )  # fmt: skip
    result = STUDY.run(plan, tmp_path)
    by_kind = {run["kind"]: run for run in result["runs"] if run["contender"] == DATA}
    assert result["complete"] and list(by_kind) == list(KINDS)
    assert all(data["size"] == 300 for data in by_kind.values())
    assert by_kind["replay"]["values"]["saco"] == 1.0
    assert by_kind["random"]["values"]["return_mean"] == by_kind["random"]["values"]["random_return"]
    learned = [run for run in result["runs"] if "returns" in run]
    assert [run["contender"] for run in learned] == ["bc", "bc", "dqn", "dqn"]
    assert all(run["steps"] == "10 20" and len(run["returns"]) == 5 for run in learned)
    path = tmp_path / "dataset.json"
    missing = [run for run in result["runs"] if run["contender"] == "dqn"]
    path.write_text(json.dumps(result | {"runs": [run for run in result["runs"] if run["contender"] != "dqn"]}))
    (tmp_path / "work" / "data" / "MountainCar-0-expert.npz").unlink()  # made again, to the bit
    capsys.readouterr()
    again = [run for run in STUDY.run(plan, tmp_path)["runs"] if run["contender"] == "dqn"]
    assert capsys.readouterr().err.count("done before") == 2
    assert [run["returns"] for run in again] == [run["returns"] for run in missing]
