"""The multimodal study: who runs with which flags, what counts as covered, going on where a study was stopped, the tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.runs import read_rows
from benchmarks.lab.study import Unit
from benchmarks.studies.multimodal import figure as multimodal_figure
from benchmarks.studies.multimodal import setting as multimodal
from benchmarks.studies.multimodal import tables as multimodal_tables
from benchmarks.studies.multimodal import toys as multimodal_toys
from benchmarks.studies.multimodal.__main__ import STUDY
from benchmarks.studies.multimodal.mujoco import read_seeds
from experiments import run as command
from maxent_rl.envs import make_device
from maxent_rl.pictures.landscapes import shares
from maxent_rl.playing.trajectories import Trajectory

PARTS = {"bandits": multimodal.Bandits(), "multigoal": multimodal.Multigoal(), "mujoco": multimodal.Mujoco()}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_the_flags_of_every_unit_are_flags_of_run(part):
    for unit in PARTS[part].units():
        parsed = command.parse(list(unit.flags))
        assert parsed.run.env == unit.env and parsed.run.num_seeds == PARTS[part].num_seeds
        if unit.contender == "uniform":
            continue
        assert (parsed.run.agent == "sac") == (unit.contender == "sac")
        _, _, count = unit.contender.partition("-k")
        if parsed.run.agent == "pmoe":
            assert parsed.hyper.num_experts == int(count or 4)
            assert parsed.hyper.router == unit.contender.split("-")[0]
            assert (parsed.hyper.density == "mixture") == ("mixture" in unit.contender)


@pytest.mark.slow
def test_all_routers_meet_sac_with_equal_steps_and_updates():
    for part in PARTS.values():
        assert {"sac", *multimodal.ROUTERS} <= set(part.contenders)
        runs = [command.parse(list(unit.flags)) for unit in part.units() if unit.env == part.envs[0]]
        work = {(each.run.total_steps, each.run.num_envs, each.hyper.updates_per_step) for each in runs}
        assert len(work) == 1


def test_flags_of_the_study_come_after_those_of_the_table():
    part = multimodal.Bandits(total_steps=7, arguments="--batch-size 9", pmoe_arguments="--expert-spread 2")
    sac, pmoe = (
        command.parse(list(unit.flags))
        for unit in part.units()
        if unit.env == "maxent/FourOptima" and unit.contender in ("sac", "frequency")
    )
    assert sac.run.total_steps == pmoe.run.total_steps == 7 and sac.hyper.batch_size == pmoe.hyper.batch_size == 9
    assert pmoe.hyper.expert_spread == 2.0


def test_unknown_contenders_and_environments_are_named():
    with pytest.raises(BenchmarkError, match="Unknown contender 'sacc'; there are: uniform, sac"):
        multimodal.Bandits(contenders=("sacc",)).units()
    with pytest.raises(BenchmarkError, match="Unknown environment 'maxent/Five'"):
        multimodal.Bandits(envs=("maxent/Five",)).units()
    with pytest.raises(BenchmarkError, match="'uniform' is a contender of bandits and multigoal alone"):
        multimodal.Mujoco(contenders=("uniform",)).units()


@pytest.mark.parametrize(
    ("reached", "least", "count"),
    [([0.1, 0.0999, 0.5, 0.0], 0.1, 2), ([0.25] * 4, 0.1, 4), ([0.0, 0.0], 0.05, 0), ([0.01, 0.0], 0.005, 1)],
)
def test_an_optimum_is_covered_from_its_least_share_on(reached, least, count):
    assert multimodal_toys.covered(reached, least) == count


def test_shares_are_those_of_the_bandit():
    env = make_device("maxent/FourOptima")
    actions = np.random.default_rng(0).uniform(-1, 1, (400, 1, 2)).astype(np.float32)
    episodes = [Trajectory(np.zeros((2, 1), np.float32), action, np.zeros(1, np.float32)) for action in actions]
    np.testing.assert_allclose(shares(env.reward_map, episodes)[:-1], env.shares(actions[:, 0]), atol=1e-7)


def test_uniform_actions_cover_two_wide_optima_by_chance_and_the_shares_tell():
    measured = multimodal_toys.uniform(
        Unit("maxent/TwoOptima", "uniform", (), {"episodes": 2000, "least_share": 0.1}), [3]
    )
    (seed,) = measured.seeds
    assert seed.values["covered"] == 2
    np.testing.assert_allclose(seed.more["shares"], 0.2, atol=0.04)
    np.testing.assert_allclose(seed.values["entropy"], np.log(2), rtol=1e-6)


def toy_run(contender, seed, shares, **values):
    counted = {"covered": sum(share >= 0.1 for share in shares), "once": 2.0, "somewhere": sum(shares)}
    found = counted | {"return": 0.5, "return_mode": 1.0, "entropy": -0.25, "steps_per_second": 100.0} | values
    settings = {"flags": "--total-steps 10 --total-steps 20"}
    common = {"env": "maxent/TwoOptima", "machine": "2-core x86-64 CPU", "settings": settings}
    return common | {"contender": contender, "repeat": seed, "values": found, "shares": shares}


@pytest.fixture
def bandits():
    collapsed = {"router_entropy": 0.5, "collapsed": 1.0}
    runs = [
        toy_run("exact-mixture-k2", 0, [0.5, 0.4], **collapsed),
        toy_run("sac", 0, [0.9, 0.05]),
        toy_run("sac", 1, [0.2, 0.1], entropy=0.25),
    ]
    kept = [{"observation": "0, 0", "action": "0.6", "expert": str(index % 2)} for index in range(10)]
    runs[0] |= {"usage": [0.5, 0.5], "kept": kept}
    runs[1]["kept"] = [{"observation": "0, 0", "action": "0.5"}]
    return {"complete": True, "runs": runs}


def test_the_table_of_the_bandits(bandits):
    lines = multimodal_tables.table("bandits", bandits).splitlines()
    assert lines[0].startswith(
        "| maxent/TwoOptima | optima covered (each seed) | reached at all | share at each | at any"
    )
    assert lines[2] == "| SAC | 1.5 of 2 (1 2) | 2 ± 0 | 55% 8% | 62% | 0.5 ± 0 | 1 ± 0 | 0 ± 0.25 |  |  | 100 ± 0 |"
    assert lines[3].startswith("| exact, mixture density, K = 2 | 2 of 2 (2) | 2 | 50% 40% | 90% |")
    assert lines[3].endswith("| 0.5 | 1 of 1 | 100 |")
    assert lines[-1] == "Mean ± standard error of 1 to 2 seeds, 20 steps each; 2-core x86-64 CPU."


def test_records_of_a_run_become_returns_entropy_and_collapse(tmp_path):
    (tmp_path / "eval.csv").write_text(
        "step,seed,return_mean,returns\n10,0,1.0,1 1\n10,1,2.0,2 2\n20,0,5.0,5 5\n20,1,1.0,1 1\n30,0,3"
    )
    (tmp_path / "metrics.csv").write_text(
        "step,seed,updates,steps_per_second,actor/entropy,router/collapsed\n"
        "10,0,0,900,,\n20,0,5,10,1.0,0\n30,0,9,200,-2.0,1\n20,1,5,10,3.0,\n30,1,9,100,4.0,\n"
    )
    first, second = read_seeds(read_rows(tmp_path / "metrics.csv"), read_rows(tmp_path / "eval.csv"))
    expected = {"final": 5.0, "best": 5.0, "mean": 3.0, "entropy": -2.0, "collapsed": 1.0, "steps_per_second": 200.0}
    assert first.values == expected and first.more["curve"] == [(10, 1.0), (20, 5.0)]
    assert second.values["final"] == 1.0 and second.values["best"] == 2.0 and "collapsed" not in second.values


@pytest.mark.slow
def test_tables_and_figure_are_written(bandits, tmp_path):
    curve = [[1000, 1.0], [2000, 3.0]]
    values = {"final": 3.0, "best": 3.0, "mean": 2.0, "steps_per_second": 50.0}
    runs = [toy_run("sac", seed, [0.0]) | {"env": "Hopper", "curve": curve, "values": values} for seed in (0, 1)]
    mujoco = {"complete": False, "runs": runs}
    for part, result in (("bandits", bandits), ("mujoco", mujoco)):
        (tmp_path / f"{part}.json").write_text(json.dumps(result))
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n## Results\n\nold\n\n## After\n\nafter\n")
    STUDY.render(tmp_path, readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| SAC | 3 ± 0 | 3 ± 0 | 2 ± 0 |" in text and "Not complete." in text
    assert "| Final return: interquartile mean | Hopper |" in text and "| SAC | 3 (3 to 3) |" in text
    assert (tmp_path / "multimodal.png").stat().st_size > 10_000


def test_kept_episodes_come_back_with_their_experts(bandits):
    trajectories, expertise = multimodal_figure.kept(bandits["runs"][0])
    assert len(trajectories) == 10 and trajectories[0].action.shape == (1, 1)
    np.testing.assert_array_equal(expertise.chosen, [0, 1] * 5)
    assert multimodal_figure.kept(bandits["runs"][1])[1] is None
