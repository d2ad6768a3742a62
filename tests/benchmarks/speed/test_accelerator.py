"""The benchmark of accelerators: what it plans, how it keeps to its budget, and that every path of it runs."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap

import jax
import numpy as np
import pytest
from support.lowering import lower_for

from benchmarks.lab import measure
from benchmarks.speed import accelerator, accelerator_figure, accelerator_probes, accelerator_tables
from benchmarks.speed.accelerator import Accelerator, LeftOut, Measurement, Probes, Small
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.training.loops.make import plan_loop

# Answers with what it is asked for, after as long as it is told.
ECHO = """
    import json, sys, time
    device = {"platform": "gpu", "kind": "Echo 1", "count": 1, "memory_gb": 8.0}
    print(json.dumps({"device": device, "versions": {"jax": "1"}}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        if question.get("ends"):
            sys.exit("error: out of sorts")
        time.sleep(question.get("takes", 0))
        print(json.dumps(question["answer"]), flush=True)
"""


@pytest.fixture
def probes(tmp_path):
    made = Probes(tmp_path, [sys.executable, "-c", textwrap.dedent(ECHO)])
    yield made
    made.close()


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures a list of questions and gives what was written."""

    def measured(questions, **options):
        command = [sys.executable, "-c", textwrap.dedent(ECHO)]
        monkeypatch.setattr(accelerator, "Probes", lambda folder: Probes(folder, command))
        monkeypatch.setattr(accelerator, "plan", lambda options: [Measurement(*each) for each in questions.items()])
        return accelerator.measure_all(Accelerator(output=tmp_path, **options))

    return measured


def values(*speeds, metric="steps_per_second"):
    return {"answer": {"values": [{metric: speed} for speed in speeds]}}


def test_everything_is_planned_once_and_what_tells_most_comes_first():
    names = [measurement.name for measurement in accelerator.plan(Accelerator())]
    assert names[:5] == ["ppo envs=2048", "reppo envs=2048", "flashsac envs=2048", "sac seeds=1", "ppo seeds=1"]
    assert len(set(names)) == len(names)
    assert {f"{agent} seeds={count}" for agent in ("sac", "ppo") for count in (1, 8, 64, 256)} <= set(names)
    assert {f"loss {how} {tokens}x151936" for how in ("maxent_rl", "all-logits") for tokens in (16384, 65536)} <= set(
        names
    )
    assert {"generation small", "generation 0.5B", "brax-ppo envs=2048", "brax-sac seeds=1"} <= set(names)
    assert [measurement.name for measurement in accelerator.plan(Accelerator(seeds=(4,)))][3:5] == [
        "sac seeds=4", "ppo seeds=4",
    ]  # fmt: skip


def test_brax_does_the_work_that_ours_does():
    by_name = {measurement.name: measurement for measurement in accelerator.plan(Accelerator())}
    settings, (_, work) = by_name["ppo envs=2048"].question["settings"], by_name["brax-ppo envs=2048"].driver
    for name in ("rollout_size", "epochs", "minibatches"):
        assert settings[name] == getattr(work, name)
    assert settings["hidden_sizes"] == list(work.hidden_sizes) and work.rollout_size == 2048 * 20
    assert work.window_steps // work.warmup_steps == Accelerator.repeats
    settings, (_, work) = by_name["sac seeds=1"].question["settings"], by_name["brax-sac seeds=1"].driver
    for name in ("batch_size", "replay_size", "start_steps"):
        assert settings[name] == getattr(work, name)


def test_medians_ranges_and_ratios_are_written_with_the_device(measured, tmp_path):
    result = measured(
        {
            "ppo envs=2048": values(8.0, 10.0, 12.0),
            "brax-ppo envs=2048": values(4.0, 5.0, 6.0),
            "loss maxent_rl 64x512": values(30.0, metric="tokens_per_second"),
            "loss all-logits 64x512": values(20.0, metric="tokens_per_second"),
        }
    )
    assert json.loads((tmp_path / "accelerator.json").read_text()) == json.loads(json.dumps(result))
    assert result["complete"] and result["hardware"]["summary"].startswith("Echo 1 (8 GB) beside ")
    assert result["summary"]["ppo envs=2048"]["steps_per_second"] == {
        "median": 10.0,
        "min": 8.0,
        "max": 12.0,
        "count": 3,
    }
    found = {title: ratio["median"] for title, ratio in result["ratios"].items()}
    assert found == {
        "ppo envs=2048 / brax-ppo envs=2048: steps_per_second": 2.0,
        "loss maxent_rl 64x512 / loss all-logits 64x512: tokens_per_second": 1.5,
    }
    assert (tmp_path / "accelerator.png").exists()


def test_what_is_left_out_or_fails_is_written_and_the_others_go_on(measured):
    result = measured(
        {
            "reppo envs=2048": {"answer": {"left_out": "There is no agent reppo in this version."}},
            "sac seeds=256": {"answer": {"error": "XlaRuntimeError: out of memory"}},
            "sac seeds=8": {"ends": True},
            "ppo envs=2048": values(7.0),
        }
    )
    assert result["skipped"] == {"reppo envs=2048": "There is no agent reppo in this version."}
    errors = {run["contender"]: run["error"] for run in result["runs"] if "error" in run}
    assert errors["sac seeds=256"] == "XlaRuntimeError: out of memory" and "out of sorts" in errors["sac seeds=8"]
    assert result["summary"]["ppo envs=2048"]["steps_per_second"]["median"] == 7.0
    assert not result["complete"] and measure.exit_status(result) == 1
    told = accelerator_tables.table(result)
    assert "- reppo envs=2048: There is no agent" in told and "- sac seeds=256: failed: XlaRuntimeError" in told


def test_results_are_written_after_every_measurement(measured, tmp_path, monkeypatch):
    written, write = [], accelerator.write_json
    monkeypatch.setattr(
        accelerator, "write_json", lambda path, result: (written.append(list(result["summary"])), write(path, result))
    )
    measured({"sac seeds=1": values(1.0), "ppo seeds=1": values(2.0)})
    assert written[:2] == [["sac seeds=1"], ["sac seeds=1", "ppo seeds=1"]]


def test_an_interrupt_keeps_what_was_measured(measured, tmp_path, monkeypatch):
    describe, calls = accelerator._describe, []

    def interrupted(*arguments):
        calls.append(describe(*arguments))
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(accelerator, "_describe", interrupted)
    result = measured({f"sac seeds={count}": values(1.0) for count in (1, 8, 64)})
    assert list(result["summary"]) == ["sac seeds=1"] and measure.exit_status(result) == 130
    assert list(json.loads((tmp_path / "accelerator.json").read_text())["summary"]) == ["sac seeds=1"]


def test_a_spent_budget_leaves_the_rest_out(measured):
    result = measured({"sac seeds=1": values(1.0), "ppo seeds=1": values(2.0)}, budget=0.0)
    assert set(result["skipped"].values()) == {"The budget of 0 s was spent before."} and not result["runs"]


def test_a_measurement_that_takes_too_long_is_ended_and_the_next_one_has_a_process_of_its_own(probes):
    assert probes.ask(values(1.0), 60) == [{"steps_per_second": 1.0}]
    with pytest.raises(LeftOut, match="not done within 1 s"):
        probes.ask(values(2.0) | {"takes": 600}, 1)
    assert probes.ask(values(3.0), 60) == [{"steps_per_second": 3.0}]


@pytest.fixture
def result():
    speeds = {
        "ppo envs=2048": {"steps_per_second": [10.0, 30.0, 20.0]},
        "brax-ppo envs=2048": {"steps_per_second": [10.0]},
        "sac seeds=1": {"steps_per_second": [5.0]},
        "sac seeds=8": {"steps_per_second": [30.0]},
        "loss maxent_rl 64x512": {"tokens_per_second": [400.0], "planned_memory_mb": [2.0]},
        "loss maxent_rl 1024x512": {"tokens_per_second": [500.0]},
        "loss all-logits 64x512": {"tokens_per_second": [200.0], "planned_memory_mb": [4.0]},
        "generation small": {"tokens_per_second": [90.0]},
    }
    runs = [
        {"contender": name, "repeat": repeat, "values": {metric: each[repeat] for metric, each in found.items()}}
        for name, found in speeds.items()
        for repeat in range(len(next(iter(found.values()))))
    ]
    made = {
        "complete": True, "runs": runs, "summary": measure.summary(runs), "models": Accelerator.models,
        "hardware": {"summary": "Echo 1 beside 2 CPU cores"}, "versions": {"maxent_rl": {"jax": "0.10.2"}},
        "settings": {"repeats": 3, "num_envs": 2048, "seeds": [1, 8], "env": "brax/halfcheetah"},
        "skipped": {"reppo envs=2048": "There is no agent reppo in this version."},
    }  # fmt: skip
    found = {f"{ratio.title}: {ratio.metric}": measure.compare(runs, ratio) for ratio in accelerator.ratios(made)}
    return made | {"ratios": {title: value for title, value in found.items() if value is not None}}


def test_the_tables(result):
    assert accelerator_tables.table(result).splitlines() == [
        "| environment steps per second | PPO | Brax's PPO | SAC |",
        "| --- | ---: | ---: | ---: |",
        "| 2,048 environments | 20 (10 to 30) | 10 |  |",
        "| 1 seed together |  |  | 5 |",
        "| 8 seeds together |  |  | 30 |",
        "",
        "| GRPO's loss and gradients, bfloat16 | in chunks | all logits at once | ratio of speeds |",
        "| --- | ---: | ---: | ---: |",
        "| 64 tokens, vocabulary 512, tokens per second | 400 | 200 | 2 |",
        "| the same, memory for temporaries, MB | 2 | 4 |  |",
        "| 1,024 tokens, vocabulary 512, tokens per second | 500 |  |  |",
        "",
        "| sampling | tokens per second |",
        "| --- | ---: |",
        "| 1,024 responses of 32, model of 2 layers of 64, vocabulary 64, float32 | 90 |",
        "",
        "Left out:",
        "",
        "- reppo envs=2048: There is no agent reppo in this version.",
        "",
        "Median (smallest to largest) of up to 3 windows in one process; brax/halfcheetah with spring physics; "
        "Echo 1 beside 2 CPU cores; jax 0.10.2.",
    ]


@pytest.mark.slow
def test_the_figure_has_a_panel_for_each_group(result, tmp_path):
    from matplotlib import image

    assert accelerator_figure.draw(result, tmp_path / "three.png")
    seeds = {name: value for name, value in result["summary"].items() if "seeds" in name}
    assert accelerator_figure.draw(result | {"summary": seeds}, tmp_path / "one.png")
    three, one = (image.imread(tmp_path / name) for name in ("three.png", "one.png"))
    assert three.shape[1] == pytest.approx(3 * one.shape[1], abs=3)
    assert not accelerator_figure.draw(result | {"summary": {}}, tmp_path / "none.png")


def test_windows_hold_equal_work_and_are_as_long_as_asked(monkeypatch):
    """By a clock that a step moves by a hundredth of a second, after the tenth that compiling took."""
    now, steps = [0.1], []

    def step(count):
        steps.append(count)
        now[0] += 0.01 * count

    monkeypatch.setattr(accelerator_probes.time, "perf_counter", lambda: now[0])
    question = {"seconds": 1.0, "repeats": 3}
    found = accelerator_probes._windows(step, {"steps_per_second": 4}, question, began=0.0)
    assert steps[-3:] == [100, 100, 100]
    assert [window["steps_per_second"] for window in found] == pytest.approx([400.0] * 3)
    assert found[0]["first_seconds"] == pytest.approx(0.11) and "first_seconds" not in found[1]


def test_agents_and_presets_that_do_not_exist_are_left_out():
    question = {"env": "brax/fast", "num_envs": 2, "num_seeds": 1, "settings": {}}
    with pytest.raises(accelerator_probes.LeftOut, match="no agent nobody"):
        accelerator_probes._run_of(question | {"agent": "nobody"})
    with pytest.raises(accelerator_probes.LeftOut, match="no preset nothing"):
        accelerator_probes._run_of(question | {"agent": "sac", "preset": "nothing"})
    run, agent = accelerator_probes._run_of(question | {"agent": "sac", "settings": {"hidden_sizes": [8, 8]}})
    assert (run.num_envs, agent.hidden_sizes) == (2, (8, 8))


def test_all_logits_that_do_not_fit_are_left_out(monkeypatch):
    monkeypatch.setattr(accelerator_probes, "_device_memory", lambda: 8e9)
    question = {"statistics": "all-logits", "tokens": 65536, "vocabulary": 151936, "width": 8}
    with pytest.raises(accelerator_probes.LeftOut, match="need 167 GB, and the device has 8 GB"):
        accelerator_probes.token_loss(question)


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen", [("loss", "generation small"), pytest.param(("",), marks=pytest.mark.matrix)], ids=str
)
def test_every_path_runs_at_small_sizes(chosen, tmp_path, monkeypatch):
    """Of one compiled program each, or of all, which takes a minute and more."""
    plan = accelerator.plan
    monkeypatch.setattr(
        accelerator, "plan", lambda options: [each for each in plan(options) if each.name.startswith(chosen)]
    )
    options = Small(small=True, output=tmp_path, budget=1e6, limit=1e6)
    result = accelerator.measure_all(options)
    assert not [run for run in result["runs"] if "error" in run]
    planned = {measurement.name for measurement in accelerator.plan(options)}
    assert {run["contender"] for run in result["runs"]} | set(result["skipped"]) == planned
    assert set(result["skipped"]) <= {"reppo envs=16", "flashsac envs=16"}
    assert all(value > 0 for run in result["runs"] for value in run["values"].values())
    assert (tmp_path / "accelerator-small.json").exists() and (tmp_path / "accelerator-small.png").exists()
    assert str(tmp_path) not in (tmp_path / "accelerator-small.json").read_text()


@pytest.mark.matrix
def test_the_real_sizes_are_such_as_a_gpu_is_given():
    """Whatever can be told without one: loops are planned, and programs lowered, at the sizes of the benchmark."""
    questions = {measurement.name: measurement.question for measurement in accelerator.plan(Accelerator())}
    planned = []
    for name in (f"{agent} envs=2048" for agent in ("ppo", "reppo", "flashsac")):
        with contextlib.suppress(accelerator_probes.LeftOut):
            run, agent = accelerator_probes._run_of(questions[name])
            planned.append(plan_loop(run, agent, run.env, jax.local_devices()[:1]).learning.num_envs)
    assert planned and set(planned) == {2048}
    for agent in ("sac", "ppo"):
        run, agent = accelerator_probes._run_of(questions[f"{agent} seeds=8"])
        assert plan_loop(run, agent, run.env, jax.local_devices()[:1]).learning.layout.capacity > 0

    model = questions["generation 0.5B"]
    config, shape = TransformerConfig(**model["config"]), (model["responses"], model["prompt_length"])
    params = jax.eval_shape(lambda key: LanguageModel.create(config, key).params, jax.random.key(0))
    assert 490e6 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 500e6
    respond = jax.jit(LanguageModel.respond, static_argnames="response_length")
    prompts, mask = (jax.ShapeDtypeStruct(shape, dtype) for dtype in (np.int32, bool))
    length = {"response_length": model["response_length"]}
    assert lower_for("cuda", respond, LanguageModel(config, params), prompts, mask, jax.random.key(0), **length)
