"""The study of rewards with diminishing returns: what is measured, bounds, shares of the optimum, tables and labels."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
from support.closeness import rounding

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.study import is_done
from benchmarks.studies.submodular import bounds, speed, tables, tasks
from benchmarks.studies.submodular import figure as figures
from benchmarks.studies.submodular import measure as runs
from benchmarks.studies.submodular import setting as submodular
from benchmarks.studies.submodular.__main__ import STUDY
from maxent_rl.envs.submodular import planning
from maxent_rl.envs.submodular.named import grid_coverage
from maxent_rl.errors import IncompatibleEnvironmentError


def run_of(env, contender, sampled, likely=None, repeat=0, **more):
    values = {"sampled": sampled, "most_likely": sampled if likely is None else likely, "seconds": 2.0}
    curve = [[100, sampled / 2, 0.0], [1_000, values["sampled"], values["most_likely"]]]
    return {"env": env, "contender": contender, "repeat": repeat, "values": values, "curve": curve} | _MACHINE | more


def references_of(env, lookahead=3, **values):
    run = {
        "env": env,
        "contender": tasks.REFERENCES,
        "repeat": 0,
        "values": values,
        "settings": {"lookahead": lookahead},
    }
    return run | _MACHINE


_MACHINE = {"machine": "2-core CPU"}
TREE = "maxent/SteinerTree"


@pytest.fixture
def result():
    found = [
        references_of(
            TREE, random=1.5, greedy=2.0, greedy_best=3.0, deep=4.0, deep_best=4.0, optimum=5.0, guarantee=2.5
        )
    ]
    found += [run_of(TREE, "subpo", value, 5.0, seed) for seed, value in enumerate((4.9, 5.0, 4.0))]
    found += [run_of(TREE, "modpo", value, repeat=seed) for seed, value in enumerate((2.0, 2.2, 1.8))]
    found += [references_of("maxent/GridCoverage", random=40.0, greedy=150.0, greedy_best=160.0, bound=164.0)]
    found += [run_of("maxent/GridCoverage", "subpo", 120.0), run_of("maxent/GridCoverage", "modpo", 60.0)]
    found += [references_of("small/Grid4x4", random=5.0, greedy=9.0, greedy_best=10.0, optimum=10.0)]
    found += [run_of("small/Grid4x4", "subpo", 9.4, 10.0), run_of("small/Grid4x4", "modpo", 6.0)]
    return {"complete": True, "runs": found}


def test_curves_that_are_equal_to_the_last_digit_are_not_rendered(result):
    tables.refuse_equal(result)
    for run in result["runs"]:
        if run["env"] == TREE and run["contender"] != tasks.REFERENCES:
            run["curve"] = [[100, 1.0, 1.0]]
    result["runs"] = [run for run in result["runs"] if not (run["env"] == TREE and run.get("repeat") == 2)]
    with pytest.raises(BenchmarkError, match="same curves on maxent/SteinerTree"):
        tables.refuse_equal(result)


class TestUnits:
    def test_everyone_in_an_environment_has_the_same_steps_and_settings(self):
        units = submodular.Learning().units()
        for env, task in tasks.TASKS.items():
            mine = {unit.contender: unit for unit in units if unit.env == env}
            assert list(mine) == ["references", *task.contenders]
            flags = [" ".join(mine[name].flags).split(" --agent ")[0].split(" ", 2)[2] for name in task.contenders]
            assert len(set(flags)) == 1 and f"--total-steps {task.steps} --num-seeds 5" in flags[0]
            own = {" ".join(mine[name].flags).split(" --agent ")[1] for name in ("modpo", "subpo")}
            assert own == {"modpo", "subpo"}
            assert len({json.dumps(mine[name].measured) for name in task.contenders}) == 1

    def test_clipped_steps_are_those_of_the_preset(self):
        from maxent_rl.runs.presets import PRESETS

        words = tasks.CLIPPED.split()
        assert words[-1] == "--no-entropy-annealing"
        given = dict(zip(words[:4:2], words[1:4:2], strict=True)) | dict(zip(words[5:-1:2], words[6:-1:2], strict=True))
        preset = PRESETS["subpo-clipped"].agents["subpo"]
        assert words[4] == "--normalize-advantages" and preset["normalize_advantages"]
        found = {name[2:].replace("-", "_"): float(value) for name, value in given.items()}
        assert found == {name: value for name, value in preset.items() if name != "normalize_advantages"}

    def test_history_is_asked_for_where_the_paper_needs_it_and_the_visited_set_by_the_environments_name(self):
        units = submodular.Learning(envs=("maxent/TwoRooms",)).units()
        by_name = {unit.contender: " ".join(unit.flags) for unit in units}
        assert "--env maxent/TwoRooms-visited " in by_name["subpo-visited"]
        assert "--history recurrent" in by_name["subpo-recurrent"]
        assert "--history" not in by_name["subpo"] and "--env maxent/TwoRooms " in by_name["subpo"]

    def test_unknown_names_are_refused(self):
        with pytest.raises(BenchmarkError, match="Unknown environment 'maxent/Nowhere'"):
            submodular.Learning(envs=("maxent/Nowhere",)).units()
        with pytest.raises(BenchmarkError, match="Unknown contender 'dqn'"):
            submodular.Learning(contenders=("dqn",)).units()

    @pytest.mark.slow
    def test_all_flags_parse_for_the_agents_they_name(self):
        for unit in submodular.Learning().units():
            if unit.flags:
                parsed = runs.command.parse([*unit.flags])
                parsed.run.check()
                assert parsed.run.num_seeds == 5


class TestBounds:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["Grid4x4", "Items4x4", "Field4x4"])
    def test_no_walk_exceeds_the_bound_which_tightens_with_what_is_remembered(self, name):
        env = tasks.make_env(f"small/{name}")
        best = float(planning.best_plan(env, jax.random.key(0)).objective)
        found = [bounds.upper_bound(env, remembered) for remembered in (1, 2, 3)]
        assert all(before >= after - 1e-4 for before, after in itertools.pairwise(found))
        assert found[-1] >= best - 1e-4

    @pytest.mark.slow
    def test_with_all_of_a_walk_remembered_it_is_the_optimum(self):
        env = grid_coverage(np.random.default_rng(0).uniform(0.1, 1.0, (3, 3)), 4, 0)
        best = float(planning.best_plan(env, jax.random.key(0)).objective)
        assert bounds.upper_bound(env, 4) == pytest.approx(best, rel=1e-5) and bounds.upper_bound(env, 1) > best + 0.01

    @pytest.mark.slow
    def test_coverage_of_equal_cells_gains_at_most_two_a_step(self):
        assert bounds.upper_bound(grid_coverage(np.ones((8, 8)), 9, 9)) == pytest.approx(4 + 2 * 9)

    @pytest.mark.slow
    def test_the_start_and_a_horizon_shorter_than_what_is_remembered(self):
        env = grid_coverage(np.arange(9.0).reshape(3, 3), 1, 4)
        best = float(planning.best_plan(env, jax.random.key(0)).objective)
        assert bounds.upper_bound(env) == pytest.approx(best)


class TestRuns:
    @pytest.mark.slow
    def test_the_references_of_the_bandit_are_exact_and_half_of_the_optimum_is_guaranteed(self):
        settings = {"episodes": 64, "keys": 2, "deep_keys": 1, "lookahead": 1, "samples": 4}
        env = tasks.make_env("maxent/EpsilonBandit-0.1")
        found = runs.references(env, "maxent/EpsilonBandit-0.1", settings)
        best = planning.best_time_policy(env)
        assert found["optimum"] == pytest.approx(float(best.objective)) and found["guarantee"] == found["optimum"] / 2
        assert "greedy_best" not in found and found["random"] < found["optimum"]

    def test_starts_count_and_scales_do_not(self):
        env = grid_coverage(np.ones((5, 5)), 3, 6)
        assert runs.start_value(env) == 4.0
        assert runs.start_value(dataclasses.replace(env, scale=0.1)) == pytest.approx(4.0)

    def test_plans_of_a_point_robot_go_in_eight_directions(self):
        env = tasks.make_env("maxent/PointCoverage")
        compass = tasks.discrete(env)
        state, _ = compass.reset(jax.random.key(0))
        for action, (x, y) in ((0, (-1, -1)), (4, (0, 0)), (7, (1, 0))):
            after = compass.step(state, jax.numpy.int32(action))[0]
            np.testing.assert_allclose(after.place, np.array([x, y]) * env.motion.speed, rtol=rounding(4))
        assert tasks.discrete(tasks.make_env(TREE)) is tasks.make_env(TREE)

    def test_there_are_no_plans_for_many_torques(self):
        @dataclasses.dataclass(frozen=True)
        class Torques:
            action_size: int = 8
            num_actions: None = None
            visits_start: bool = True
            observation_size: int = 1

        env = grid_coverage(np.ones((2, 2)), 3, 0)
        with pytest.raises(IncompatibleEnvironmentError, match="8 continuous actions"):
            tasks.discrete(dataclasses.replace(env, motion=Torques()))

    @pytest.mark.matrix  # that studies go on is the lab's, and tested with that of data sets
    def test_what_was_measured_is_not_measured_again_and_every_seed_has_its_curve(self, tmp_path, capsys):
        envs = ("small/Items4x4", "maxent/EpsilonBandit-0.1")
        # With policies of time alone, as the optimum of the bandit is theirs.
        plan = submodular.Learning(
            envs=envs, contenders=("modpo", "subpo"), share=0.02, num_seeds=2, keys=1, deep_keys=1
        )
        result = STUDY.run(plan, tmp_path)
        assert result["complete"] and all(is_done(unit, result["runs"]) for unit in plan.units())
        learned = [run for run in result["runs"] if run["contender"] != "references"]
        assert len(learned) == 2 * 4
        for run in learned:
            steps = [row[0] for row in run["curve"]]
            assert len(steps) == 20 and steps == sorted(set(steps)) and "actor/loss" in run["training"]
            assert run["curve"][-1][1:] == [run["values"]["sampled"], run["values"]["most_likely"]]
            assert run["values"]["sampled"] <= tables.references(result, run["env"])["optimum"] + 1e-4
        capsys.readouterr()
        assert STUDY.run(plan, tmp_path)["runs"] == result["runs"]
        assert capsys.readouterr().err.count("done before") == 6


class TestSpeed:
    def test_rates_are_work_by_time(self, monkeypatch):
        clock = [0.0]

        def work(rounds):
            clock[0] += 0.5 * rounds

        monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
        assert speed.rates(work, each=10, windows=3, seconds=4.0) == [20.0, 20.0, 20.0]

    @pytest.mark.slow
    def test_stepping_goes_on_from_where_it_was_and_counts_all_steps(self):
        env = tasks.make_env("small/Grid4x4")
        envs = speed.reset_batch(env, jax.random.split(jax.random.key(0), (1, 3)))
        after, total = speed._steps(env, envs, np.int32(4), jax.random.key(1))
        assert np.all(after.elapsed == 4) and float(total) > 0
        after, _ = speed._steps(env, after, np.int32(env.horizon), jax.random.key(1))
        assert np.all(after.elapsed == 4) and np.all(after.episode == 1)
        work, each = speed._stepping(env, 3)
        work(2)
        assert each == 3 * env.horizon

    @pytest.mark.slow
    @pytest.mark.parametrize("name", list(speed.FUNCTIONS))
    def test_every_function_takes_the_visits_that_are_measured(self, name):
        work, each = speed._visiting(speed.FUNCTIONS[name](), trajectories=2, elements=3)
        work(1)
        assert each == 6

    def test_covering_is_by_two_by_two_cells(self):
        function = speed._coverage()
        assert float(function.single(jax.numpy.int32(0))) == 4.0
        assert float(function.single(jax.numpy.int32(899))) == 1.0


class TestTables:
    def test_references_show_means_and_the_best(self, result):
        lines = tables.references_table(result).splitlines()
        assert lines[2] == "| SteinerTree | 1.5 | 2 (3) | 4 (4), 3 steps | 5 |  |"
        assert lines[3] == "| GridCoverage | 40 | 150 (160) |  |  | 164 |"

    def test_columns_in_which_nothing_stands_are_left_out(self, result):
        head, _, tree, grid = tables.learned_table(result, "sampled", "F").splitlines()
        assert head == "| F | additive rewards (modpo) | subpo | subpo / modpo |"
        assert tree == "| SteinerTree | 2 ± 0.115 | 4.63 ± 0.318 | 2.32 ± 0.21 |"
        assert grid == "| GridCoverage | 60 | 120 | 2.00 |"

    def test_shares_of_the_optimum_are_counted_seed_by_seed(self, result):
        lines = tables.small_table(result).splitlines()
        assert lines[2] == "| SteinerTree | 5 | 98 100 80 | 100 100 100 | 2 of 3, 3 of 3 | 40 44 36 | 50%: kept |"
        assert lines[3] == "| Grid4x4, small | 10 | 94 | 100 | 0 of 1, 1 of 1 | 60 |  |"
        assert len(lines) == 4

    def test_a_share_just_below_is_not_enough_and_a_guarantee_can_be_broken(self):
        assert tables.reached([0.95, 0.9499, 1.0]) == "2 of 3"
        assert tables.kept([0.5, 0.7], 0.5) == "kept" and tables.kept([0.49, 0.7], 0.5) == "broken"

    def test_no_guarantee_is_broken_by_rounding(self):
        """Of a function without curvature the optimum is guaranteed, and what reaches it is a last bit below or above it."""
        assert tables.kept([1.0, 1 - 1e-7], 1.0) == "kept" and tables.kept([1 - 1e-5], 1.0) == "broken"

    def test_failures_are_named(self, result):
        result["runs"].append({"env": TREE, "contender": "subpo-visited", "error": "NaN"} | _MACHINE)
        assert "| failed |" in tables.learned_table(result, "sampled", "F")

    def test_ratios_need_both(self, result):
        assert tables.ratio(result, "maxent/GridCoverage", "sampled") == "2.00"
        assert tables.ratio(result, "maxent/TwoRooms", "sampled") == ""

    def test_speeds_are_medians_and_held_against_what_is_asked(self):
        def measured(env, part, speeds):
            settings = {"flags": "--agent subpo --num-envs 128"}
            return [
                {"env": env, "contender": part, "repeat": index, "values": {"per_second": each}, "settings": settings}
                | _MACHINE
                for index, each in enumerate(speeds)
            ]

        found = measured(tables.BAR_ENV, "training", [240_000.0, 250_000.0, 300_000.0])
        found += measured(tables.BAR_ENV, "stepping", [1e6]) + measured("Coverage", "visits", [5e6])
        text = tables.speed_tables({"complete": True, "runs": found})
        assert "| BimodalCoverage | 128 | 250,000 (240,000 to 300,000) | 1,000,000 |" in text
        assert "measured: 250,000, 2.5 times as many." in text and "| Coverage | 5,000,000 |" in text

    @pytest.mark.slow
    def test_rendering_writes_tables_and_figures(self, tmp_path, result):
        (tmp_path / "learning.json").write_text(json.dumps(result))
        text = STUDY.render(tmp_path)
        assert "| SteinerTree | 5 | 98 100 80 |" in text and "SteinerTree.png)" in text
        assert {path.name for path in tmp_path.glob("*.png")} == {"overview.png", "SteinerTree.png", "GridCoverage.png"}


class TestFigures:
    def test_labels_keep_their_order_and_their_distance(self):
        found = figures.spaced([1.0, 1.05, 5.0, 0.9], 0.5)
        assert found[2] == 5.0 and found[3] < found[0] < found[1]
        assert np.min(np.diff(np.sort(found))) >= 0.5 - 1e-6
        assert figures.spaced([1.0, 2.0], 0.5) == [1.0, 2.0]

    def test_shares_are_of_the_optimum_or_of_the_best_plan(self, result):
        assert figures.scale(result, TREE) == 5.0
        assert figures.scale(result, "maxent/GridCoverage") == 160.0
        assert figures.scale(result, "maxent/TwoRooms") is None

    def test_positions_are_read_as_they_were_kept(self):
        path = np.array([[0.0, 3.25], [12.0, 0.5]])
        walk = figures.walked(runs._text(path))
        np.testing.assert_array_equal(walk.observation, path)
        assert walk.length == 1

    def test_cells_reached_are_those_of_the_positions(self):
        env = grid_coverage(np.ones((4, 4)), 3, 0)
        reached = figures.field_of(env).reached(np.array([[0.0, 0.0], [2.0, 1.0]]))
        np.testing.assert_array_equal(
            np.argwhere(reached), [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [1, 3], [2, 2], [2, 3]]
        )
