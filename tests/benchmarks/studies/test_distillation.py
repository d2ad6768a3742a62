"""The distillation study: what it runs, and what its tables say."""

import json
from pathlib import Path

import numpy as np
import pytest
from teachers import make_teacher

from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.distillation import setting as distillation
from benchmarks.studies.distillation import tables as distillation_tables
from benchmarks.studies.distillation.__main__ import STUDY
from benchmarks.studies.distillation.figure import draw
from maxent_rl.types import Spec


class Shapes:
    spec = Spec((3,), (1,), 200)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Three methods on Pendulum for a moment."""
    folder = tmp_path_factory.mktemp("distillation")
    teacher = make_teacher(folder / "teacher", env=Shapes(), env_name="Pendulum-v1")
    patch = pytest.MonkeyPatch()
    patch.setitem(distillation.TEACHERS, "Pendulum", ("", 0))
    options = distillation.Distillation(
        contenders=("kd", "fixed-plain", "ema-over"), envs=("Pendulum",), teachers=(Path(teacher),), num_seeds=2,
        updates=24, batch_size=16, num_states=100, episodes=1,
        arguments="--hidden-sizes 8 --held-out-states 50",
    )  # fmt: skip
    yield options, folder, STUDY.run(options, folder)
    patch.undo()


@pytest.mark.slow
def test_every_method_is_measured_for_every_seed(result):
    _, _, found = result
    assert found["complete"] and len(found["runs"]) == 6
    for run in found["runs"]:
        assert {"return", "kl", "ndcg", "entropy", "teacher_return"} <= set(run["values"])
        assert [step for step, _ in run["curve"]] == [3, 6, 9, 12, 15, 18, 21, 24]
        assert run["curve"][-1][1] == pytest.approx(run["values"]["kl"])
        assert ("kl_fixed_point" in run["values"]) == (run["contender"] == "fixed-plain")
        assert all(np.isfinite(value) for value in run["values"].values())


@pytest.mark.slow
def test_a_second_call_measures_nothing_and_says_the_same(result):
    options, folder, found = result
    again = STUDY.run(options, folder)
    assert again["runs"] == json.loads(json.dumps(found["runs"])) and again["complete"]


@pytest.mark.slow
def test_tables_and_figure_name_the_methods_and_the_paper(result, tmp_path):
    _, _, found = result
    text = distillation_tables.table(found)
    assert text.splitlines()[0].startswith("| Pendulum (teacher -")
    assert "| KD, T = 1 |" in text and "| ADPO, EMA anchor, teacher over anchor |" in text and "24 updates each" in text
    draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 20_000
    assert "| Return over the teacher's: interquartile mean | Pendulum | all |" in distillation_tables.tables(
        {"distillation": found}
    )
    lost = {"runs": [run | {"values": run["values"] | {"kl": 1e9}} for run in found["runs"]]}
    assert "over 100 |" in distillation_tables.table(found | lost)


@pytest.mark.slow
def test_a_wrong_name_is_refused():
    with pytest.raises(BenchmarkError, match="Unknown contender 'kdd'"):
        distillation.Distillation(contenders=("kdd",)).units()


@pytest.mark.slow
def test_a_teacher_that_is_trained_here_is_known_by_its_steps():
    units = distillation.Distillation(contenders=("kd",)).units()
    assert [unit.measured["teacher_steps"] for unit in units] == [100_000, 250_000]
