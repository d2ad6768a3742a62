"""What every study owes: a README that says what its results say, a paragraph for the index, and nothing of another study."""

from __future__ import annotations

import importlib
import re

import pytest

from benchmarks import index
from benchmarks.lab.measure import SPEED
from benchmarks.lab.publish import summary, with_results
from benchmarks.speed.tables import load, tables

NAMES = sorted(folder.name for folder in index.STUDIES.iterdir() if (folder / "__main__.py").exists())
_SLOW = {"dataset": pytest.mark.matrix, "objectives": pytest.mark.slow}  # hundreds of bootstraps


def study(name):
    return importlib.import_module(f"benchmarks.studies.{name}.__main__").STUDY


@pytest.mark.parametrize("name", [pytest.param(name, marks=_SLOW.get(name, ())) for name in NAMES])
def test_the_readme_holds_the_tables_of_the_recorded_results(name):
    found = study(name)
    assert found.name == name
    readme = found.folder / "README.md"
    text = readme.read_text()
    results = text[text.index("\n## Results\n") :].split("\n\n![")[0].split("\n## ")[1]
    assert results.removeprefix("Results\n\n").strip() == found.tables(found.load()).strip()


def test_the_readme_of_the_speeds_holds_theirs():
    text = (SPEED / "README.md").read_text()
    results, missing = load(SPEED / "results")
    assert set(missing) <= {"accelerator"}  # which takes a GPU to measure
    shown = tables(results)
    assert shown in text and with_results(text, shown, SPEED)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_and_links_of_the_readme_lead_somewhere(name):
    folder = study(name).folder
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (folder / "README.md").read_text()):
        assert target.startswith("http") or (folder / target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_the_plans_of_a_study_have_names_of_their_own(name):
    parts = [plan.part for plan in study(name).units]
    assert len(set(parts)) == len(parts) and set(study(name).load()) <= set(parts)


def test_the_index_is_as_written():
    assert index.page() == index.PAGE.read_text()
    for name in NAMES:
        title, text = summary(index.STUDIES / name / "README.md")
        assert f"[{title}](../benchmarks/studies/{name}/README.md)" in index.page()
        assert "](" not in text  # a link would lead elsewhere from the index
