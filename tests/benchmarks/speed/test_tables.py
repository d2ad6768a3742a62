"""The table and the figure, from synthetic results."""

from __future__ import annotations

import json

import pytest

from benchmarks.lab import measure
from benchmarks.lab.measure import Ratio
from benchmarks.speed import tables
from benchmarks.speed.figure import draw


def result(values, ratios=(), versions=None, **more):
    """A benchmark's results with one metric: {contender: {metric: [value of each repeat]}}."""
    runs = [
        {"contender": contender, "repeat": repeat, "values": {name: series[repeat] for name, series in metrics.items()}}
        for contender, metrics in values.items()
        for repeat in range(len(next(iter(metrics.values()))))
    ]
    found = {f"{ratio.title}: {ratio.metric}": measure.compare(runs, ratio) for ratio in ratios}
    hardware = {"summary": "2-core x86-64 CPU"}
    return {
        "complete": True,
        "hardware": hardware,
        "runs": runs,
        "versions": versions or {},
        "settings": {},
        "summary": measure.summary(runs),
        "ratios": found,
    } | more


@pytest.fixture
def results():
    speed, seconds = "steps_per_second", "seconds_to_1000"
    host = {"maxent_rl": {speed: [260.0, 250.0, 255.0]}, "sbx": {speed: [130.0, 125.0, 120.0]}}
    time = {"fast": {seconds: [60.0]}, "sbx": {seconds: [120.0]}}
    timed = result(time, [Ratio(seconds, "fast", ("sbx",))], settings={"thresholds": [1000.0], "env": "HalfCheetah-v5"})
    for run in timed["runs"]:
        run["curve"] = [{"step": 5000, "seconds": 30.0, "return_mean": 10.0}]
    return {
        "throughput-host": result(host, [Ratio(speed, "maxent_rl", ("sbx",))], {"sbx": {"sbx-rl": "0.28.0"}}),
        "time_to_return": timed,
    }


def test_the_table_has_medians_ranges_ratios_machine_and_versions(results):
    assert tables.render_table(results).splitlines() == [
        "| What | maxent_rl | Compared with | Ratio |",
        "| --- | --- | --- | --- |",
        "| SAC on HalfCheetah-v5 | 255 (250 to 260) steps/s | SBX: 125 (120 to 130) steps/s | 2 (2 to 2.12) |",
        "| Return 1,000 on HalfCheetah-v5, fast | 60 s | SBX: 120 s | 0.5 |",
        "",
        "Median (smallest to largest) of 1 to 3 alternating runs on a 2-core x86-64 CPU. Versions: SBX: sbx-rl 0.28.0.",
    ]


def test_the_table_shows_ppo_and_experts():
    speed = "steps_per_second"
    ppo = {"maxent_rl": {speed: [3000.0]}, "brax": {speed: [2000.0]}}
    host = {"maxent_rl": {speed: [3000.0]}, "sb3": {speed: [1000.0]}}
    experts = {"sac": {speed: [200.0]}, "pmoe 1": {speed: [200.0]}, "pmoe 4": {speed: [150.0]}}
    results = {
        "throughput-ppo": result(ppo, [Ratio(speed, "maxent_rl", ("brax",))], settings={"num_envs": 64}),
        "throughput-ppo-host": result(host, [Ratio(speed, "maxent_rl", ("sb3",))], settings={"num_envs": 8}),
        "throughput-experts": result(
            experts,
            [Ratio(speed, name, ("sac",)) for name in ("pmoe 1", "pmoe 4")],
            settings={"contenders": list(experts)},
        ),
    }
    assert tables.render_table(results).splitlines()[2:6] == [
        "| PPO on brax/halfcheetah, spring, 64 environments | 3,000 steps/s | Brax's PPO: 2,000 steps/s | 1.5 |",
        "| PPO on HalfCheetah-v5, 8 environments | 3,000 steps/s | Stable-Baselines3: 1,000 steps/s | 3 |",
        "| PMOE on HalfCheetah-v5, 1 expert | 200 steps/s | SAC: 200 steps/s | 1 |",
        "| PMOE on HalfCheetah-v5, 4 experts | 150 steps/s | SAC: 200 steps/s | 0.75 |",
    ]


def test_the_figure_shows_ppo_and_experts(tmp_path):
    speed = {"steps_per_second": [200.0]}
    measured = {
        "throughput-ppo": result({"maxent_rl": speed, "brax": speed}),
        "throughput-ppo-host": result({"maxent_rl": speed, "sb3": speed}),
        "throughput-experts": result({"sac": speed, "pmoe 4": speed}),
    }
    assert draw(measured, tmp_path / "three.png")


def test_a_return_that_not_every_seed_passed_says_so(results):
    timed = results["time_to_return"]
    timed["runs"].append(timed["runs"][1] | {"repeat": 1, "values": {}, "curve": [{"step": 5000, "seconds": 700.0}]})
    table = tables.render_table(results)
    assert "| 60 s | SBX: 120 s in 1 of 2 seeds, else not within 700 s | 0.5 |" in table
    del timed["summary"]["sbx"]["seconds_to_1000"], timed["runs"][1]["values"]["seconds_to_1000"], timed["ratios"]
    assert "| 60 s | SBX: not within 365 (30 to 700) s |  |" in tables.render_table(results)


def test_an_interrupted_benchmark_is_named(results):
    results["throughput-host"]["complete"] = False
    assert "Interrupted before all repeats were done: throughput-host." in tables.render_table(results)


def test_what_was_not_measured_is_left_out_and_named(results, tmp_path):
    for name, value in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    found, missing = tables.load(tmp_path)
    assert found == results
    assert tables.tables(found) == tables.render_table(results)
    assert missing == [
        name for name in (*tables.SECTIONS, tables.LIGER, tables.OFFLINE, tables.ACCELERATOR) if name not in results
    ]


def test_the_figure_has_a_panel_for_each_benchmark(results, tmp_path):
    from matplotlib import image

    assert draw(results, tmp_path / "two.png")
    assert draw({"throughput-host": results["throughput-host"]}, tmp_path / "one.png")
    two, one = (image.imread(tmp_path / name) for name in ("two.png", "one.png"))
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=2)
    assert not draw({}, tmp_path / "none.png")
