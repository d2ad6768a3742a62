"""The multimodal study: who runs with which flags, what counts as covered, going on where a study was stopped, the tables."""

from __future__ import annotations

import dataclasses
import json

import multimodal
import multimodal_figure
import multimodal_tables
import multimodal_toys
import numpy as np
import pytest
from common import BenchmarkError
from continued_run import read_rows
from multimodal_mujoco import read_seeds
from multimodal_study import Measured, Seed, Unit, is_done, show_mean, study

from maxent_rl.envs import make_device
from maxent_rl.pictures.landscapes import shares
from maxent_rl.playing.trajectories import Trajectory

PARTS = {"bandits": multimodal.Bandits(), "multigoal": multimodal.Multigoal(), "mujoco": multimodal.Mujoco()}
ORDER = tuple(multimodal.CONTENDERS)


@dataclasses.dataclass(frozen=True)
class Options:
    num_seeds: int = 2


def unit(contender, *flags, env="maxent/TwoOptima"):
    return Unit(env, contender, flags, {"episodes": 10})


@pytest.fixture
def measure():
    """A measurement that notes what it was asked for; contender "broken" fails, and "stop" is Ctrl-C."""

    def measured(unit):
        measured.asked.append(unit.contender)
        if unit.contender == "broken":
            raise BenchmarkError("It is broken.")
        if unit.contender == "stop":
            raise KeyboardInterrupt
        return Measured([Seed(seed, {"covered": 1.0 + seed}, {"shares": [0.5, 0.25]}) for seed in (0, 1)], {"jax": "1"})

    measured.asked = []
    return measured


@pytest.mark.parametrize("part", PARTS)
def test_the_flags_of_every_unit_are_flags_of_run(part):
    for unit in PARTS[part].units():
        parsed = multimodal_toys.command.parse(list(unit.flags))
        assert parsed.run.env == unit.env and parsed.run.num_seeds == PARTS[part].num_seeds
        if unit.contender == "uniform":
            continue
        assert (parsed.run.agent == "sac") == (unit.contender == "sac")
        _, _, count = unit.contender.partition("-k")
        if parsed.run.agent == "pmoe":
            assert parsed.hyper.num_experts == int(count or 4)
            assert parsed.hyper.router == unit.contender.split("-")[0]
            assert (parsed.hyper.density == "mixture") == ("mixture" in unit.contender)


def test_all_routers_meet_sac_with_equal_steps_and_updates():
    for part in PARTS.values():
        assert {"sac", *multimodal.ROUTERS} <= set(part.contenders)
        runs = [multimodal_toys.command.parse(list(unit.flags)) for unit in part.units() if unit.env == part.envs[0]]
        work = {(each.run.total_steps, each.run.num_envs, each.hyper.updates_per_step) for each in runs}
        assert len(work) == 1


def test_flags_of_the_study_come_after_those_of_the_table():
    part = multimodal.Bandits(total_steps=7, arguments="--batch-size 9", pmoe_arguments="--expert-spread 2")
    sac, pmoe = (
        multimodal_toys.command.parse(list(unit.flags))
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


def test_a_study_goes_on_where_it_was_stopped(tmp_path, measure):
    units = [unit("sac"), unit("stop"), unit("frequency")]
    stopped = study("study", units, measure, Options(), tmp_path)
    assert measure.asked == ["sac", "stop"] and not stopped["complete"]
    units[1] = unit("exact")
    done = study("study", units, measure, Options(), tmp_path)
    assert measure.asked == ["sac", "stop", "exact", "frequency"] and done["complete"]
    assert json.loads((tmp_path / "study.json").read_text()) == done
    assert done["summary"]["maxent/TwoOptima"]["sac"]["covered"] == {"median": 1.5, "min": 1.0, "max": 2.0, "count": 2}
    study("study", units, measure, Options(), tmp_path, fresh=True)
    assert measure.asked[4:] == ["sac", "exact", "frequency"]


def test_other_settings_are_measured_anew_and_take_the_place_of_the_old_runs(tmp_path, measure):
    study("study", [unit("sac"), unit("frequency")], measure, Options(), tmp_path)
    found = study("study", [unit("sac", "--seed", "7"), unit("frequency")], measure, Options(), tmp_path)
    assert measure.asked == ["sac", "frequency", "sac"]
    assert len(found["runs"]) == 4 and is_done(unit("sac", "--seed", "7"), found["runs"])
    assert not is_done(unit("sac"), found["runs"])


def test_a_failure_is_kept_and_tried_again(tmp_path, measure):
    units = [unit("broken"), unit("sac")]
    found = study("study", units, measure, Options(), tmp_path)
    assert found["runs"][0]["error"] == "It is broken." and not found["complete"]
    study("study", units, measure, Options(), tmp_path)
    assert measure.asked == ["broken", "sac", "broken"]


def test_means_come_with_the_standard_error_of_the_seeds():
    assert show_mean([1.0, 3.0]) == "2 ± 1"  # deviation sqrt(2), over sqrt(2)
    assert show_mean([5.0]) == "5" and show_mean([]) == ""


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
    return {"benchmark": "multimodal-bandits", "complete": True, "runs": runs}


def test_the_table_of_the_bandits(bandits):
    lines = multimodal_tables.table(bandits, ORDER).splitlines()
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


def test_tables_and_figure_are_written(bandits, tmp_path):
    curve = [[1000, 1.0], [2000, 3.0]]
    values = {"final": 3.0, "best": 3.0, "mean": 2.0, "steps_per_second": 50.0}
    runs = [toy_run("sac", seed, [0.0]) | {"env": "Hopper", "curve": curve, "values": values} for seed in (0, 1)]
    mujoco = {"benchmark": "multimodal-mujoco", "complete": False, "runs": runs}
    for result in (bandits, mujoco):
        (tmp_path / f"{result['benchmark']}.json").write_text(json.dumps(result))
    readme, figure = tmp_path / "README.md", tmp_path / "figure.png"
    readme.write_text("before\n{}\nold\n{}\nafter\n".format(*multimodal_tables.MARKERS))
    options = multimodal.Render(results=tmp_path, readme=readme, figure=figure)
    options.run()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| SAC | 3 ± 0 | 3 ± 0 | 2 ± 0 |" in text and "Not complete." in text
    assert figure.stat().st_size > 10_000


def test_kept_episodes_come_back_with_their_experts(bandits):
    trajectories, expertise = multimodal_figure.kept(bandits["runs"][0])
    assert len(trajectories) == 10 and trajectories[0].action.shape == (1, 1)
    np.testing.assert_array_equal(expertise.chosen, [0, 1] * 5)
    assert multimodal_figure.kept(bandits["runs"][1])[1] is None
