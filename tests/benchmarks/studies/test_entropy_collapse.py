"""The study of entropy collapse: who runs with which settings, what is read from the records, the tables and figures."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.lab.measure import BenchmarkError, new_result
from benchmarks.lab.runs import measure_run, read_rows
from benchmarks.lab.study import WORK, Measured, Seed
from benchmarks.studies.entropy_collapse import setting as entropy_collapse
from benchmarks.studies.entropy_collapse import tables as entropy_collapse_tables
from benchmarks.studies.entropy_collapse.__main__ import STUDY
from benchmarks.studies.entropy_collapse.measure import course, measure, read_seeds
from experiments import run as command

PARTS = {"objectives": entropy_collapse.Objectives(), "targets": entropy_collapse.Targets()}
GRPO = "tokens/countdown", "grpo"

METRICS = """step,seed,steps_per_second,supervised/loss,episode/return,actor/entropy
100,0,10,2.0,,
100,1,10,2.0,,
200,0,10,1.0,0.9,9.0
200,1,10,1.0,0.9,9.0
300,0,1,,0.1,0.8
300,1,1,,0.0,0.4
400,0,20,,0.2,0.6
400,1,20,,0.0,0.4
500,0,40,,0.3,0.4
500,1,40,,0.0,0.4
600,0,60,,0.5,0.2
600,1,60,,1.0,0.2
"""
EVALUATIONS = """step,seed,return_mean,pass@1,pass@8,distinct_answers,returns
100,0,0.0,0.0,0.0,0.0,0 0
100,1,0.0,0.0,0.0,0.0,0 0
200,0,0.5,0.25,0.5,1.0,1 0
200,1,0.5,0.25,0.5,1.0,1 0
400,0,0.5,0.5,0.5,2.0,1 0
400,1,0.5,0.5,0.5,2.0,1 0
600,0,0.5,0.75,0.8,3.0,1 0
600,1,1.0,1.0,1.0,1.0,1 1
"""


@pytest.fixture
def records(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "eval.csv").write_text(EVALUATIONS)
    return read_rows(tmp_path / "metrics.csv"), read_rows(tmp_path / "eval.csv")


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_the_flags_of_every_unit_are_flags_of_run_and_its_settings_those_of_the_objective(part):
    for unit in PARTS[part].units():
        parsed = command.parse(list(unit.flags))
        assert parsed.run.env == "tokens/countdown" and parsed.run.num_seeds == 3
        stages = parsed.hyper.build_objective().stages
        found = {field.name: getattr(stage, field.name) for stage in stages for field in dataclasses.fields(stage)}
        for text in PARTS[part].objectives()[unit.contender].split()[1:]:
            name, _, value = text.partition("=")
            assert str(found[name]) == value


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_everyone_has_the_same_budget_and_the_same_warm_start(part):
    budgets = set()
    for unit in PARTS[part].units():
        run, hyper = (getattr(command.parse(list(unit.flags)), side) for side in ("run", "hyper"))
        learning = (
            hyper.num_minibatches,
            hyper.num_epochs,
            hyper.group_size,
            hyper.sampling_rounds,
            hyper.learning_rate,
        )
        warm = (hyper.warm_start_steps, hyper.warm_start_loss, hyper.warm_start_learning_rate)
        budgets.add((run.total_steps, run.num_envs, run.seed, *learning, *warm, hyper.hidden_size))
    assert budgets == {(220_000, 256, 0, 4, 1, 8, 1, 3e-4, 102_400, 0.0, 1e-3, 64)}


def test_flags_of_the_study_come_after_those_of_the_table():
    part = entropy_collapse.Objectives(contenders=("grpo",), total_steps=7, arguments="--eval-episodes 2")
    (unit,) = part.units()
    parsed = command.parse(list(unit.flags))
    assert parsed.run.total_steps == 7 and parsed.run.eval_episodes == 2


def test_targets_are_asked_of_those_who_hold_one():
    found = entropy_collapse.Targets(targets=(0.3, 1.0), low_targets=(0.2,)).objectives()
    assert list(found) == [
        "grpo",
        "entropy_target@0.3",
        "entropy_target@1.0",
        "aepo_arbitrary@0.2",
    ]
    assert found["entropy_target@1.0"].startswith("entropy_target target_entropy=1")
    with pytest.raises(BenchmarkError, match="'clip_b' holds no target; those that do: dcpo, aepo_arbitrary"):
        entropy_collapse.Targets(contenders=("clip_b",)).units()
    with pytest.raises(BenchmarkError, match="Unknown contender 'grpoo'; there are: grpo, clip_higher"):
        entropy_collapse.Objectives(contenders=("grpoo",)).units()


def test_records_become_reward_variety_and_entropy_after_the_warm_start(records):
    first, second = read_seeds(*records)
    # Steps 200 to 600 are the phase: its last tenth is the row of 600, its second half the rows of 500 and 600. The row
    # of 200, which holds the end of the warm start, does not count.
    assert first.values == {
        "reward": 0.5,
        "entropy_first": 0.8,
        "entropy_last": 0.2,
        "entropy_half": pytest.approx(0.3),
        "steps_per_second": 40.0,
        "greedy": 0.5,
        "pass@1": 0.5,
        "pass@8": pytest.approx(0.6),
        "distinct": 2.0,
    }
    assert second.values["reward"] == 1.0 and second.values["greedy"] == pytest.approx(2 / 3)
    assert course(first.more["trained"]) == {
        "step": [100, 200, 300, 400],
        "reward": [0.1, 0.2, 0.3, 0.5],
        "entropy": [0.8, 0.6, 0.4, 0.2],
    }
    assert course(first.more["evaluated"])["step"] == [0, 200, 400]
    assert course(second.more["evaluated"])["pass@8"] == [0.5, 0.5, 1.0]


def test_a_run_that_is_all_warm_start_has_no_reward(records):
    metrics, evaluations = ([row for row in rows if row["step"] <= 100] for rows in records)
    (first, _) = read_seeds(metrics, evaluations)
    assert set(first.values) == {"greedy", "pass@1", "pass@8", "distinct"}
    assert first.more["trained"] == {"step": "", "reward": "", "entropy": ""}


def test_what_one_part_has_measured_the_other_takes_over(tmp_path, monkeypatch):
    asked = []

    def measured(runs, read, unit):
        asked.append(unit.contender)
        return Measured([Seed(0, {"reward": 1.0}, {"trained": {}, "machine": "a quiet CPU"})], {"jax": "1"})

    monkeypatch.setattr("benchmarks.studies.entropy_collapse.measure.measure_run", measured)
    monkeypatch.setattr("benchmarks.lab.study._SAMPLE_SECONDS", 0.0)
    first = STUDY.run(entropy_collapse.Objectives(contenders=("grpo", "entropy_target")), tmp_path)
    second = STUDY.run(entropy_collapse.Targets(contenders=("entropy_target",), targets=(0.3, 0.6)), tmp_path)
    assert asked == ["grpo", "entropy_target", "entropy_target@0.3"] and first["complete"] and second["complete"]
    taken = next(run for run in second["runs"] if run["contender"] == "entropy_target@0.6")
    own = next(run for run in first["runs"] if run["contender"] == "entropy_target")
    assert taken == own | {"contender": "entropy_target@0.6"}
    assert second["versions"]["entropy_target@0.6"] == {"jax": "1"}
    assert str(tmp_path) not in (tmp_path / "targets.json").read_text()


def test_a_failed_run_is_not_taken_over(tmp_path, monkeypatch):
    def fail(runs, read, unit):
        raise BenchmarkError("It is broken.")

    monkeypatch.setattr("benchmarks.studies.entropy_collapse.measure.measure_run", fail)
    plan = entropy_collapse.Objectives(contenders=("grpo",))
    STUDY.run(plan, tmp_path)
    (unit,) = plan.units()
    with pytest.raises(BenchmarkError, match="It is broken"):
        measure(unit, entropy_collapse.Targets(), tmp_path / WORK)


def test_an_interrupted_run_is_gone_on_with(tmp_path, monkeypatch):
    commands = []

    class Process:
        def __init__(self, given, folder):
            commands.append(given)
            self.run = folder / "runs" / "tokens-countdown" / "grpo" / "seed0"

        def wait(self, meanwhile):
            if len(commands) == 1:
                (self.run / "checkpoints" / "512").mkdir(parents=True)
                raise KeyboardInterrupt
            (self.run / "config.json").write_text(json.dumps({"versions": {"jax": "1"}}))
            (self.run / "metrics.csv").write_text(METRICS)
            (self.run / "eval.csv").write_text(EVALUATIONS)

    monkeypatch.setattr("benchmarks.lab.runs.Process", Process)
    (unit,) = entropy_collapse.Objectives(contenders=("grpo",)).units()
    with pytest.raises(KeyboardInterrupt):
        measure_run(tmp_path, read_seeds, unit)
    found = measure_run(tmp_path, read_seeds, unit)
    assert [seed.seed for seed in found.seeds] == [0, 1] and found.versions == {"jax": "1"}
    assert commands[0][2:-3] == list(unit.flags) and commands[1][2] == "--resume"
    assert list(tmp_path.iterdir()) == []  # a finished run leaves its numbers alone


def fabricated(part, records):
    """Results of a part in which every contender has the same records, but for one that failed."""
    result = new_result(part.part, part) | {"complete": True}
    for unit in part.units():
        common = {
            "env": unit.env,
            "contender": unit.contender,
            "settings": unit.settings,
            "machine": "2-core x86-64 CPU",
        }
        if unit.contender == "steer":
            result["runs"].append(common | {"repeat": 0, "error": "It is broken."})
            continue
        seeds = [{"repeat": seed.seed, "values": seed.values} | seed.more for seed in read_seeds(*records)]
        result["runs"] += [common | seed for seed in seeds]
    return result


def test_the_table_of_the_objectives(records):
    result = fabricated(PARTS["objectives"], records)
    result["runs"].reverse()  # what is measured again comes last; the order of the table stays
    lines = entropy_collapse_tables.table("objectives", result).splitlines()
    assert lines[0].startswith(
        "| tokens/countdown | reward | greedy | pass@1 | pass@8 | right answers | entropy, first tenth"
    )
    assert lines[2].startswith(
        "| GRPO | 0.75 ± 0.25 | 0.583 ± 0.0833 | 0.542 ± 0.0417 | 0.633 ± 0.0333 | 1.67 ± 0.333 |"
    )
    assert [line.split(" | ")[0] for line in lines[3:6]] == ["| clip-higher", "| entropy bonus", "| Clip-Cov"]
    assert lines[-1].endswith("220,000 steps each; 2-core x86-64 CPU. Failed: STEER.")


def test_the_table_of_the_targets(records):
    lines = entropy_collapse_tables.table("targets", fabricated(PARTS["targets"], records)).splitlines()
    assert lines[2].startswith("| GRPO |  | 0.3 ± 8.33e-17 (0.3 0.3) |  |") or lines[2].startswith(
        "| GRPO |  | 0.3 ± 0"
    )
    held = next(line for line in lines if line.startswith("| entropy target, 0.6 nats | 0.6 |"))
    assert "| 50.0% (50.0%) |" in held
    assert any("| AEPO, 0.3 nats | 0.3 |" in line and "| 0.0% (0.0%) |" in line for line in lines)


@pytest.mark.slow
def test_tables_and_figures_are_written(records, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n## Results\n\nold\n\n## After\n\nafter\n")
    for part in PARTS.values():
        (tmp_path / f"{part.part}.json").write_text(json.dumps(fabricated(part, records)))
    STUDY.render(tmp_path, readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| Share of right answers: interquartile mean | reward | greedy | pass@1 | pass@8 |" in text
    for part in PARTS.values():
        assert f"]({tmp_path.name}/{part.part}.png)" in text and (tmp_path / f"{part.part}.png").stat().st_size > 10_000
