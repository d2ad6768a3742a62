"""Studies: going on where one was stopped, what counts as done, the command line, and rendering."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import pytest

from benchmarks.lab import study as lab
from benchmarks.lab.measure import BenchmarkError, new_result
from benchmarks.lab.study import Measured, Seed, Study, Unit, is_done, measure_units, no_figures


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch):
    monkeypatch.setattr(lab, "busy_share", lambda seconds: 0.0)


@dataclasses.dataclass(frozen=True)
class First:
    """The first part."""

    contenders: tuple[str, ...] = ("sac", "frequency")
    """Who runs."""
    num_seeds: int = 2
    """Seeds."""
    part: ClassVar[str] = "first"

    def units(self):
        return [Unit("Pendulum", name, (), {"seeds": self.num_seeds}) for name in self.contenders]


@dataclasses.dataclass(frozen=True)
class Second(First):
    """The second part."""

    part: ClassVar[str] = "second"


def going(units, measure, folder, fresh=False):
    return measure_units(new_result("study", First()), units, measure, folder / "study.json", fresh)


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


def test_a_study_goes_on_where_it_was_stopped(tmp_path, measure):
    units = [unit("sac"), unit("stop"), unit("frequency")]
    stopped = going(units, measure, tmp_path)
    assert measure.asked == ["sac", "stop"] and not stopped["complete"]
    units[1] = unit("exact")
    done = going(units, measure, tmp_path)
    assert measure.asked == ["sac", "stop", "exact", "frequency"] and done["complete"]
    assert json.loads((tmp_path / "study.json").read_text()) == done
    assert done["summary"]["maxent/TwoOptima"]["sac"]["covered"] == {"median": 1.5, "min": 1.0, "max": 2.0, "count": 2}
    going(units, measure, tmp_path, fresh=True)
    assert measure.asked[4:] == ["sac", "exact", "frequency"]


def test_other_settings_are_measured_anew_and_take_the_place_of_the_old_runs(tmp_path, measure):
    going([unit("sac"), unit("frequency")], measure, tmp_path)
    found = going([unit("sac", "--seed", "7"), unit("frequency")], measure, tmp_path)
    assert measure.asked == ["sac", "frequency", "sac"]
    assert len(found["runs"]) == 4 and is_done(unit("sac", "--seed", "7"), found["runs"])
    assert not is_done(unit("sac"), found["runs"])


def test_a_failure_is_kept_and_tried_again(tmp_path, measure):
    units = [unit("broken"), unit("sac")]
    found = going(units, measure, tmp_path)
    assert found["runs"][0]["error"] == "It is broken." and not found["complete"]
    going(units, measure, tmp_path)
    assert measure.asked == ["broken", "sac", "broken"]


def test_where_nothing_is_new_the_file_stays_as_it_is(tmp_path, measure):
    units = [unit("sac"), unit("frequency")]
    found = going(units, measure, tmp_path)
    written = (tmp_path / "study.json").read_text()
    assert going(units, measure, tmp_path) == found and (tmp_path / "study.json").read_text() == written


class TestCommandLine:
    @pytest.fixture
    def study(self, measure, tmp_path, monkeypatch):
        def tables(results):
            return "\n\n".join(f"{part}: {len(result['runs'])} runs" for part, result in results.items())

        def figures(results, folder):
            (folder / "picture.png").write_bytes(b"picture")
            return {"A picture": folder / "picture.png"}

        study = Study("several", (First, Second), lambda unit, plan, work: measure(unit), tables, figures)
        monkeypatch.setattr(lab, "ROOT", tmp_path)
        study.results.mkdir(parents=True)
        (study.folder / "README.md").write_text("# Several\n\nA paragraph.\n\n## Results\n\nold\n\n## After\n\nprose\n")
        return study

    def test_parts_are_run_with_their_flags_and_rendered_into_the_readme(self, study, measure, capsys):
        assert study.main(["run", "first", "--num-seeds", "3"]) == 0
        assert study.main(["run", "second", "--contenders", "exact"]) == 0
        assert measure.asked == ["sac", "frequency", "exact"]
        assert json.loads((study.results / "first.json").read_text())["settings"]["num_seeds"] == 3
        assert study.main(["render"]) == 0
        text = (study.folder / "README.md").read_text()
        assert text == (
            "# Several\n\nA paragraph.\n\n## Results\n\nfirst: 4 runs\n\nsecond: 2 runs\n\n"
            "![A picture](results/picture.png)\n\n## After\n\nprose\n"
        )
        assert study.main(["render"]) == 0
        assert (study.folder / "README.md").read_text() == text

    def test_an_interrupt_and_a_failure_have_their_own_exit_status(self, study, measure):
        assert study.main(["run", "first", "--contenders", "sac", "stop"]) == 130
        assert study.main(["run", "first", "--contenders", "sac", "broken"]) == 1
        assert study.main(["run", "first", "--contenders", "sac", "--fresh"]) == 0
        assert measure.asked == ["sac", "stop", "broken", "sac"]

    @pytest.mark.parametrize(
        "words", [["run", "third"], ["run", "first", "--sede", "1"], ["draw"], ["render", "--sede"], []]
    )
    def test_unknown_words_are_refused(self, study, measure, words, capsys):
        with pytest.raises(SystemExit) as refused:
            study.main(words)
        assert refused.value.code == 2 and measure.asked == []
        assert capsys.readouterr().err

    def test_of_other_results_the_tables_are_only_printed(self, study, tmp_path, capsys):
        study.main(["run", "first", "--output", str(tmp_path / "other")])
        before = (study.folder / "README.md").read_text()
        assert study.main(["render", "--results", str(tmp_path / "other")]) == 0
        printed = capsys.readouterr()
        assert "first: 4 runs" in printed.out and "Left out, not measured yet: second" in printed.err
        assert (study.folder / "README.md").read_text() == before

    def test_without_results_or_a_place_for_them_it_is_said(self, study):
        with pytest.raises(BenchmarkError, match=r"There are no results in .*: run the study first"):
            study.render()
        study.run(First())
        (study.folder / "README.md").write_text("# Several\n")
        with pytest.raises(BenchmarkError, match="has no section '## Results'"):
            study.render()

    def test_a_study_of_one_part_needs_no_word_for_it(self, measure, tmp_path, monkeypatch):
        study = Study("first", (First,), lambda unit, plan, work: measure(unit), lambda results: "", no_figures)
        assert study.main(["run", "--output", str(tmp_path), "--contenders", "exact"]) == 0
        assert json.loads((tmp_path / "first.json").read_text())["benchmark"] == "first"
