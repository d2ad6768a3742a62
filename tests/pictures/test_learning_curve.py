"""The learning curve: it is drawn whatever there is to draw, and says what its band is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from maxent_rl.errors import CheckpointError, StorageError
from maxent_rl.pictures import learning_curve as plots
from maxent_rl.pictures.learning_curve import learning_curve
from maxent_rl.runs.records import Recorder


def make_run(folder: Path, returns: list[list[float]], std: float = 0.5) -> None:
    """Records `returns` [seed, evaluation]."""
    record = Recorder(folder, config={}, tensorboard=False)
    for index in range(len(returns[0])):
        rows = [{"seed": seed, "return_mean": row[index], "return_std": std} for seed, row in enumerate(returns)]
        record.evaluation(1000 * (index + 1), rows)


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seeds", [1, 2, 8])
@pytest.mark.parametrize("evaluations", [1, 30])
def test_any_number_of_seeds_and_points_is_drawn(tmp_path, seeds, evaluations):
    make_run(tmp_path, np.random.default_rng(0).normal(size=(seeds, evaluations)).tolist())
    path = learning_curve(tmp_path)
    assert path == tmp_path / "learning_curve.png"
    assert is_png(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["eval.csv", "learning_curve.png"]


@pytest.mark.parametrize(
    ("returns", "low", "high", "name"),
    [
        ([[1.0, 4.0]], [0.5, 3.5], [1.5, 4.5], "standard deviation over episodes"),
        ([[1.0, 4.0], [3.0, 2.0]], [1.0, 2.0], [3.0, 4.0], "range of the 2 seeds"),
        ([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], [1.0, 0.0], [3.0, 0.0], "standard deviation over 3 seeds"),
    ],
)
def test_the_band_is_what_the_legend_says(tmp_path, returns, low, high, name):
    make_run(tmp_path, returns)
    found = plots._band(plots._read_curves(tmp_path / "eval.csv")[0])
    np.testing.assert_allclose(found[0], low)
    np.testing.assert_allclose(found[1], high)
    assert name in found[2]


def test_the_title_names_environment_and_agent(tmp_path):
    make_run(tmp_path, [[1.0]])
    run = {"env": "maxent/$x_$", "agent": "sac", "eval_episodes": 10}
    (tmp_path / "config.json").write_text(json.dumps({"run": run}))
    curves = plots._read_curves(tmp_path / "eval.csv")
    assert plots._titles(curves, plots._read_run(tmp_path / "config.json")) == (
        "maxent/$x_$",
        "sac  \u00b7  1 seed  \u00b7  10 episodes per evaluation",
    )
    assert is_png(learning_curve(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": 3}'])
def test_a_damaged_configuration_costs_only_the_title(tmp_path, content):
    make_run(tmp_path, [[1.0, 2.0]])
    (tmp_path / "config.json").write_text(content)
    assert plots._read_run(tmp_path / "config.json") == {}
    assert is_png(learning_curve(tmp_path))


def test_a_step_that_not_all_seeds_have_reached_is_left_out(tmp_path):
    make_run(tmp_path, [[1.0, 2.0], [3.0, 4.0]])
    with (tmp_path / "eval.csv").open("a") as file:
        file.write("3000,0,9.0,0.5\n3000,1,9.")
    (curves,) = plots._read_curves(tmp_path / "eval.csv")
    np.testing.assert_array_equal(curves.steps, [1000, 2000])
    np.testing.assert_array_equal(curves.means, [[1, 2], [3, 4]])


def test_values_that_are_not_finite_leave_gaps(tmp_path):
    make_run(tmp_path, [[1.0, float("nan"), 2.0], [1.0, float("inf"), float("nan")]])
    assert is_png(learning_curve(tmp_path))


def test_a_run_without_evaluations_has_no_curve(tmp_path):
    with pytest.raises(CheckpointError, match="recorded nothing"):
        learning_curve(tmp_path)
    (tmp_path / "eval.csv").write_text("step,seed,return_mean\n")
    with pytest.raises(CheckpointError, match="nothing to draw"):
        learning_curve(tmp_path)


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path):
    make_run(tmp_path, [[1.0]])
    (tmp_path / "learning_curve.png").mkdir()
    with pytest.raises(StorageError, match=r"^Cannot write .*learning_curve\.png"):
        learning_curve(tmp_path)


def test_it_draws_from_a_thread(tmp_path):
    make_run(tmp_path, [[1.0, 2.0]])
    thread = threading.Thread(target=learning_curve, args=(tmp_path,))
    thread.start()
    thread.join()
    assert is_png(tmp_path / "learning_curve.png")


@pytest.mark.slow
def test_pyplot_and_its_global_state_are_never_imported(tmp_path):
    make_run(tmp_path, [[1.0, 2.0]])
    code = (
        "import sys, pathlib; from maxent_rl.pictures.learning_curve import learning_curve\n"
        "assert 'matplotlib' not in sys.modules\n"
        "learning_curve(pathlib.Path(sys.argv[1])); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_variants_get_a_line_each(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"run": {"env": "E", "variants": {"discount": [0.9, 0.99]}}}))
    lines = ["step,seed,discount,return_mean,return_std"]
    lines += [f"{step},{seed},{v},{step * v + seed},1.0" for step in (10, 20) for v in (0.9, 0.99) for seed in (0, 1)]
    (tmp_path / "eval.csv").write_text("\n".join(lines) + "\n")
    first, second = plots._read_curves(tmp_path / "eval.csv", ["discount"])
    assert (first.name, second.name) == ("discount=0.9", "discount=0.99")
    np.testing.assert_allclose(first.means, [[9.0, 18.0], [10.0, 19.0]])
    np.testing.assert_allclose(second.means[1], [10.9, 20.8])
    figure = plots._draw([first, second], {"env": "E"})
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(lines["discount=0.99"], [10.4, 20.3])
    assert plots.learning_curve(tmp_path).stat().st_size > 5_000
