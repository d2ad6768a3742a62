"""The curves of a run on token tasks: drawn whatever there is to draw, with means of what belongs together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maxent_rl.errors import CheckpointError, StorageError
from maxent_rl.pictures import token_curves as token_plots
from maxent_rl.pictures.learning_curve import draw_curves
from maxent_rl.pictures.token_curves import has_token_curves, token_curves
from maxent_rl.runs.records import Recorder, read_csv


def make_run(folder, seeds=3, logs=40, variants=None, warm=lambda seed: 5 + 3 * seed):
    """Records a run that learns: seed s leaves its warm start after `warm(s)` logs; every fourth log has an evaluation."""
    names = list(variants or {})
    record = Recorder(folder, config={}, tensorboard=False, varied=tuple(names))
    members = [dict(zip(names, values, strict=True)) for values in zip(*(variants or {}).values(), strict=True)] or [{}]
    draw = np.random.default_rng(0)
    for log in range(1, logs + 1):
        step, rows, evaluations = 1000 * log, [], []
        for number, variant in enumerate(members):
            for seed in range(seeds):
                done = max(log - warm(seed), 0) / logs
                right = 0.15 + (0.6 + 0.2 * number) * done + draw.normal() * 0.03
                late = {
                    "episode/return": right,
                    "actor/entropy": 0.8 * math.exp(-3 * done),
                    "episode/length": 2.5 - done,
                }
                early = {"supervised/loss": 2.0 / log}
                rows.append({"seed": seed, **variant} | (late if log > warm(seed) else early))
                sampled = {"pass@1": right, "pass@8": min(right + 0.2, 1.0), "entropy": 0.8 * math.exp(-3 * done)}
                evaluated = {"return_mean": right + 0.05, "return_std": 0.4, "sampled_length": 2.5 - done}
                evaluations.append({"seed": seed, **variant} | evaluated | sampled)
        record.metrics(step, rows)
        if log % 4 == 0:
            record.evaluation(step, evaluations)
    return {"env": "tokens/countdown", "agent": "grpo", "variants": variants or {}}


def lines_of(monkeypatch, folder, run):
    """{title: {label: values of the mean line}} of what is drawn."""
    figures = []
    monkeypatch.setattr(token_plots, "save", lambda figure, path: figures.append(figure) or path)
    token_curves(folder, run)
    return {
        axes.get_title(loc="left"): {
            line.get_label(): line.get_ydata() for line in axes.get_lines() if line.get_linewidth() > 1
        }
        for axes in figures[0].axes
    }


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("logs", [4, 300])
def test_any_number_of_seeds_and_points_is_drawn(tmp_path, seeds, logs):
    run = make_run(tmp_path, seeds, logs)
    assert has_token_curves(tmp_path)
    path = token_curves(tmp_path, run)
    assert path == tmp_path / "token_curves.png" and path.read_bytes().startswith(b"\x89PNG")
    draw_curves(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "eval.csv", "learning_curve.png", "metrics.csv", "token_curves.png",
    ]  # fmt: skip


def test_a_mean_is_over_all_seeds_and_begins_when_the_last_one_has_left_its_warm_start(tmp_path, monkeypatch):
    run = make_run(tmp_path, seeds=2)
    found = lines_of(monkeypatch, tmp_path, run)
    assert list(found) == ["Reward", "Held-out prompts", "Entropy", "Response length"]
    rows = [row["episode/return"] for row in read_csv(tmp_path / "metrics.csv")]
    expected = np.mean(np.reshape(rows, (-1, 2)), axis=1)
    assert np.isnan(expected[:8]).all() and np.isfinite(rows[2 * 6])
    np.testing.assert_allclose(found["Reward"]["sampled, in training"], expected)
    assert {"pass@1", "pass@8"} == set(found["Held-out prompts"]) and len(found["Entropy"]["held out"]) == 10


def test_a_seed_that_never_leaves_its_warm_start_hides_no_other(tmp_path, monkeypatch):
    run = make_run(tmp_path, seeds=2, warm=lambda seed: 5 if seed else 99)
    rows = [row["episode/return"] for row in read_csv(tmp_path / "metrics.csv")]
    np.testing.assert_array_equal(lines_of(monkeypatch, tmp_path, run)["Reward"]["sampled, in training"], rows[1::2])


def test_many_points_are_averaged_in_bins(tmp_path, monkeypatch):
    run = make_run(tmp_path, seeds=1, logs=250, warm=lambda seed: 0)
    found = lines_of(monkeypatch, tmp_path, run)["Reward"]["sampled, in training"]
    rows = [row["episode/return"] for row in read_csv(tmp_path / "metrics.csv")]
    np.testing.assert_allclose(found[:2], np.reshape(rows[:8], (2, 4)).mean(axis=1))
    assert len(found) == 63 and found[-1] == pytest.approx(np.mean(rows[-2:]))


@pytest.mark.slow
def test_variants_get_a_colour_each_and_the_legend_says_what_is_dashed(tmp_path, monkeypatch):
    run = make_run(tmp_path, seeds=2, variants={"learning_rate": (1e-3, 3e-4)})
    assert token_curves(tmp_path, run).stat().st_size > 20_000
    found = lines_of(monkeypatch, tmp_path, run)
    labels = {"learning_rate=0.001", "learning_rate=0.0003", "sampled, in training", "likeliest, held out"}
    assert {label for label in found["Reward"] if not label.startswith("_")} == labels and len(found["Reward"]) == 6


def test_a_run_that_went_on_may_have_gaps(tmp_path, monkeypatch):
    """Other periods of logging after resuming, a seed's row lost to a kill, a last line that is torn."""
    run = make_run(tmp_path, seeds=2)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("44000,0,,0.9,0.1,2.0\n48000,0,,0.9,0.1,2.0\n48000,1,,0.7,0.1,2.0\n52000,1,,0.")
    rows = lines_of(monkeypatch, tmp_path, run)["Reward"]["sampled, in training"]
    assert len(rows) == 42 and np.isnan(rows[-2]) and rows[-1] == pytest.approx(0.8)


@pytest.mark.slow
def test_an_evaluation_before_the_first_log_is_drawn(tmp_path):
    """With --log-every above --eval-every the run stopped at its first evaluation: metrics.csv did not exist."""
    make_run(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    draw_curves(tmp_path)
    assert (tmp_path / "token_curves.png").exists()


@pytest.mark.slow
def test_what_cannot_be_drawn_is_one_sentence(tmp_path):
    assert not has_token_curves(tmp_path)
    with pytest.raises(CheckpointError, match="recorded nothing"):
        token_curves(tmp_path, {})
    make_run(tmp_path)
    (tmp_path / "token_curves.png").mkdir()
    with pytest.raises(StorageError, match=r"^Cannot write .*token_curves\.png"):
        token_curves(tmp_path, {})
    (tmp_path / "eval.csv").write_text("step,seed,return_mean,pass@1\n")
    with pytest.raises(CheckpointError, match="nothing to draw"):
        token_curves(tmp_path, {})


def test_runs_of_control_have_no_such_picture(tmp_path):
    Recorder(tmp_path, config={}, tensorboard=False).evaluation(
        10, [{"seed": 0, "return_mean": 1.0, "return_std": 0.1}]
    )
    draw_curves(tmp_path)
    assert not has_token_curves(tmp_path) and not (tmp_path / "token_curves.png").exists()
