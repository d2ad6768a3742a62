"""The place of tables in READMEs, and what the index takes of these."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.publish import publish, summary, with_results

BEFORE = "# Title\n\nWhat was found.\nIn two lines.\n\n## How\n\n### Details\n\ntext\n\n## Results\n"


def test_tables_go_into_their_section_and_nothing_else_changes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(BEFORE + "\nold\n\n### Old\n\n## After\n\nprose\n")
    for _ in range(2):
        publish(readme, "| new |\n\n### More\n\ntext")
        assert readme.read_text() == BEFORE + "\n| new |\n\n### More\n\ntext\n\n## After\n\nprose\n"


def test_results_may_be_the_last_section():
    assert with_results(BEFORE, "| new |", Path("README.md")) == BEFORE + "\n| new |\n"


def test_a_readme_without_the_section_is_left_as_it_is(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    with pytest.raises(BenchmarkError, match="has no section '## Results'"):
        publish(readme, "| new |")
    assert readme.read_text() == "# Title\n"


def test_a_summary_is_the_title_and_the_first_paragraph(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(BEFORE)
    assert summary(readme) == ("Title", "What was found.\nIn two lines.")
    readme.write_text("# Title\n\n## How\n")
    with pytest.raises(BenchmarkError, match="begin with a title and a paragraph"):
        summary(readme)
