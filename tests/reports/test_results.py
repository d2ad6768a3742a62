"""The numbers of a report: which evaluation counts, what is compared with what, and what a reader is warned of."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from run_folders import make_run

from maxent_rl.errors import InvalidSettingError
from maxent_rl.reports.figures import draw_all
from maxent_rl.reports.methods import make_study
from maxent_rl.reports.results import Options, compute, read_references
from maxent_rl.reports.runs import find_runs
from maxent_rl.reports.statistics import interquartile_mean, probability_of_improvement, stratified_bootstrap
from maxent_rl.reports.tables import (
    aggregate_table,
    aggregates_csv,
    improvement_table,
    markdown_text,
    score_table,
    scores_csv,
    to_markdown,
)

FAST, SLOW = {"learning_rate": 1e-2}, {"learning_rate": 1e-4}


def results_of(folder, references=None, **options):
    return compute(make_study(find_runs([folder])[0]), Options(**{"resamples": 100} | options), references)


@pytest.fixture
def two_by_two(tmp_path):
    """Two methods on two environments, four seeds each."""
    for env, scale in (("Pendulum-v1", 100.0), ("brax/ant", 1.0)):
        for name, agent, shift in (("fast", FAST, 1.0), ("slow", SLOW, 0.0)):
            returns = {seed: [scale * (shift + seed / 10 + step) for step in range(3)] for seed in range(4)}
            make_run(tmp_path / env.replace("/", "-") / name, returns, env=env, agent=agent)
    return tmp_path


def test_scores_are_those_of_the_evaluation_asked_for(tmp_path):
    make_run(tmp_path / "run", {0: [1.0, 9.0, 2.0], 1: [3.0, 4.0, 5.0]})
    for at, scores, step in (
        ("final", [2, 5], 3000),
        ("best", [9, 5], 3000),
        (2000, [9, 4], 2000),
        (2500, [9, 4], 2000),
    ):
        (row,) = results_of(tmp_path, at=at).rows
        np.testing.assert_array_equal(row.scores, scores)
        assert row.step == step
        assert row.iqm == stratified_bootstrap(interquartile_mean, [row.scores], resamples=100)


@pytest.mark.parametrize("step", [500, 3001])
def test_a_step_that_no_run_has_reached_is_refused(tmp_path, step):
    make_run(tmp_path / "run", {0: [1.0, 2.0, 3.0]})
    with pytest.raises(InvalidSettingError, match=f"No run has an evaluation at step {step:,}"):
        results_of(tmp_path, at=step)


def test_scores_of_different_steps_are_said(tmp_path):
    make_run(tmp_path / "a", {0: [1.0, 2.0]}, agent=FAST)
    make_run(tmp_path / "b", {0: [1.0, 2.0, 3.0]}, agent=SLOW)
    found = results_of(tmp_path)
    assert any("different steps" in warning and "--at 2000" in warning for warning in found.warnings)
    assert results_of(tmp_path, at=2000).warnings == ()
    (row,) = results_of(tmp_path, at=3000).rows
    assert row.method == "sac learning_rate=0.0001"


def test_unfinished_seeds_are_said(tmp_path):
    make_run(tmp_path / "a", {0: [1.0], 1: [2.0]}, total=9000)
    assert "sac on Pendulum-v1: 2 of 2 seeds are unfinished." in results_of(tmp_path).warnings


def test_without_references_the_evaluations_of_the_report_are_the_scale(two_by_two):
    found = results_of(two_by_two)
    assert found.references == {"Pendulum-v1": (0.0, 330.0), "brax/ant": (0.0, 3.3)}
    assert not found.given_references
    fast, slow = (found.aggregates[method]["interquartile mean"] for method in reversed(found.study.methods))
    np.testing.assert_allclose([fast.estimate, slow.estimate], [3.15 / 3.3, 2.15 / 3.3])
    assert fast.low > slow.high


def test_references_from_a_file(two_by_two, tmp_path):
    file = tmp_path / "references.json"
    file.write_text(json.dumps({"Pendulum-v1": [0, 1000], "brax/ant": [0, 10], "unused": [0, 1]}))
    found = results_of(two_by_two, read_references(file))
    assert found.given_references and found.references == {"Pendulum-v1": (0.0, 1000.0), "brax/ant": (0.0, 10.0)}
    np.testing.assert_allclose([found.normalized(row) for row in found.rows], [0.215, 0.315, 0.215, 0.315])
    with pytest.raises(InvalidSettingError, match="lack 'brax/ant'"):
        results_of(two_by_two, {"Pendulum-v1": (0.0, 1.0)})


@pytest.mark.parametrize("text", ["", "[]", "3", '{"a": 1}', '{"a": [1, 2, 3]}', '{"a": ["x", 2]}', '{"a": [2, 1]}'])
def test_references_that_make_no_scale_are_refused(tmp_path, text):
    (tmp_path / "references.json").write_text(text)
    with pytest.raises(InvalidSettingError):
        read_references(tmp_path / "references.json")
    with pytest.raises(InvalidSettingError, match="cannot be read"):
        read_references(tmp_path / "missing.json")


def test_aggregates_are_over_the_environments_that_all_methods_have(two_by_two):
    make_run(two_by_two / "more", {0: [7.0]}, env="only/one", agent=FAST)
    found = results_of(two_by_two)
    assert found.common == ("Pendulum-v1", "brax/ant")
    assert any("only/one" in warning for warning in found.warnings)
    assert set(found.aggregates) == set(found.profiles) == set(found.aggregate_curves) == set(found.study.methods)


def test_methods_without_a_common_environment_have_no_aggregates(tmp_path):
    make_run(tmp_path / "a", {0: [1.0]}, env="one", agent=FAST)
    make_run(tmp_path / "b", {0: [1.0]}, env="other", agent=SLOW)
    found = results_of(tmp_path)
    assert (found.common, found.aggregates, found.profiles, found.improvements) == ((), {}, {}, ())
    assert any("No environment has a score of every method" in warning for warning in found.warnings)


def test_one_environment_has_profiles_and_comparisons_but_no_aggregates(tmp_path):
    make_run(tmp_path / "a", {0: [1.0], 1: [3.0]}, agent=FAST)
    make_run(tmp_path / "b", {0: [2.0], 1: [0.0]}, agent=SLOW)
    found = results_of(tmp_path)
    assert found.aggregates == {} and len(found.profiles) == 2
    (pair,) = found.improvements
    assert (pair.first, pair.second) == ("sac learning_rate=0.01", "sac learning_rate=0.0001")  # the better one first
    assert pair.chance.estimate == 0.75
    assert (pair.chance.low, pair.chance.high) == (0.0, 1.0)
    assert pair.chance.estimate == probability_of_improvement([np.array([1.0, 3.0])], [np.array([2.0, 0.0])])


def test_of_many_methods_the_best_are_shown_and_the_best_is_compared_with_each(tmp_path):
    for index in range(10):
        make_run(tmp_path / str(index), {0: [float(index)]}, agent={"learning_rate": 0.1 + index})
    found = results_of(tmp_path)
    assert len(found.rows) == 10
    assert found.shown == tuple(f"sac learning_rate={0.1 + index:g}" for index in range(2, 10))
    assert {pair.first for pair in found.improvements} == {"sac learning_rate=9.1"} and len(found.improvements) == 7
    assert any("8 best of 10" in warning for warning in found.warnings)


def test_curves_of_unequal_seeds_over_all_environments(two_by_two):
    make_run(two_by_two / "more", {4: [0.0, 0.0, 330.0]}, agent=FAST)
    curve = results_of(two_by_two).aggregate_curves["sac learning_rate=0.01"]
    np.testing.assert_array_equal(curve.x, [1000, 2000, 3000])
    ant = np.array([1.0, 1.1, 1.2, 1.3]) / 3.3
    expected = [interquartile_mean([np.append(ant + step / 3.3, 1.0 if step == 2 else 0.0), ant + step / 3.3])
                for step in range(3)]  # fmt: skip
    np.testing.assert_allclose(curve.iqm.estimate, expected)
    assert np.all(curve.iqm.low <= curve.iqm.estimate) and np.all(curve.iqm.estimate <= curve.iqm.high)


def test_returns_over_time_meet_where_all_seeds_have_begun(tmp_path):
    make_run(tmp_path / "a", {0: [1.0, 2.0, 3.0]}, seconds_per_step=0.01)
    make_run(tmp_path / "b", {1: [5.0, 6.0, 7.0]}, seconds_per_step=0.02)
    curve = results_of(tmp_path).clocks["Pendulum-v1", "sac"]
    np.testing.assert_allclose(curve.x, [20, 30])
    np.testing.assert_allclose(curve.iqm.estimate, [3.5, 4.0])


def test_a_run_without_times_has_no_curve_over_time(tmp_path):
    make_run(tmp_path / "a", {0: [1.0]}, seconds_per_step=None)
    assert results_of(tmp_path).clocks == {}


def test_long_curves_keep_their_ends(tmp_path):
    make_run(tmp_path / "a", {0: list(np.arange(600.0))}, every=10)
    curve = results_of(tmp_path).curves["Pendulum-v1", "sac"]
    assert len(curve.x) == 250 and (curve.x[0], curve.x[-1]) == (10, 6000)
    np.testing.assert_allclose(curve.iqm.estimate, curve.x / 10 - 1)


def test_csv_holds_every_digit(two_by_two):
    found = results_of(two_by_two)
    rows = list(csv.DictReader(io.StringIO(scores_csv(found))))
    for row, entry in zip(rows, found.rows, strict=True):
        assert (row["environment"], row["method"]) == (entry.env, entry.method)
        np.testing.assert_array_equal(np.array(row["scores"].split(), float), entry.scores)
        assert [float(row[name]) for name in ("iqm", "iqm_low", "iqm_high")] == [float(part) for part in entry.iqm]
        assert row["seed_numbers"] == "0 1 2 3" and row["step"] == "3000" and row["unfinished"] == "0"
    aggregated = list(csv.DictReader(io.StringIO(aggregates_csv(found))))
    assert len(aggregated) == 2 * 4 + 1
    assert aggregated[-1]["statistic"] == "probability of improvement" and aggregated[-1]["estimate"] == "1.0"


def test_markdown_is_a_table_whatever_the_names_hold(tmp_path):
    make_run(tmp_path / "a", {0: [-1234.5678, 0.0]}, env="odd|<b>\nname")
    found = results_of(tmp_path)
    lines = to_markdown(score_table(found)).splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines[2:]} == {12}
    assert "odd\\|&lt;b> name" in lines[4]
    assert len({len(line) for line in lines[2:]}) == 1
    assert aggregate_table(found) is None and improvement_table(found) is None


def test_markdown_shows_names_of_folders_as_they_are():
    text = "runs/[a](b)\n# c | d\\e `f` *g* <h> i & j\x1b[2J"
    assert markdown_text(text) == ("runs/[a]\\(b) # c \\| d\\\\e \\`f\\` \\*g\\* &lt;h> i &amp; j\\x1b[2J")


def test_a_single_seed_has_dashes_for_what_it_cannot_say(tmp_path):
    make_run(tmp_path / "a", {0: [-0.00001]})
    cells = score_table(results_of(tmp_path)).rows[0]
    assert cells[3] == "–" and cells[7] == "–"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("evaluations", [1, 30])
def test_any_number_of_seeds_and_points_is_drawn(tmp_path, seeds, evaluations):
    values = np.random.default_rng(0).normal(size=(seeds, evaluations))
    for env in ("a/$x_$", "a-x", "(mjx)"):
        make_run(tmp_path / env.strip("()/$"), dict(enumerate(values.tolist())), env=env)
    pictures = draw_all(results_of(tmp_path))
    names = [picture.name for picture in pictures]
    assert len(set(names)) == len(names) and all(name.replace("-", "").isalnum() for name in names)
    assert [picture.section for picture in pictures] == ["curves"] * 3 + ["clocks"] * 3 + ["aggregates"] * 3
    for picture in pictures:
        buffer = io.BytesIO()
        picture.figure.savefig(buffer, format="png")
        assert buffer.getvalue().startswith(b"\x89PNG")


def test_the_caption_says_what_line_and_band_are(tmp_path):
    make_run(tmp_path / "a", {0: [1.0], 1: [2.0]}, env="two")
    make_run(tmp_path / "b", {0: [1.0]}, env="one")
    make_run(tmp_path / "c", {seed: [1.0 * seed] for seed in range(4)}, env="four")
    captions = {
        picture.title: picture.caption for picture in draw_all(results_of(tmp_path)) if picture.section == "curves"
    }
    assert "4 seeds; band: 95% stratified bootstrap" in captions["four"]
    assert "2 seeds (with fewer than four: their mean)" in captions["two"]
    assert "only seed; no band" in captions["one"]


def test_values_that_are_not_finite_neither_stop_a_report_nor_set_its_scale(tmp_path):
    make_run(tmp_path / "a", {0: [1.0, float("inf")], 1: [3.0, 2.0]})
    found = results_of(tmp_path)
    assert found.references["Pendulum-v1"] == (1.0, 3.0)
    assert all(picture.figure is not None for picture in draw_all(found))
    assert "inf" in to_markdown(score_table(found))
