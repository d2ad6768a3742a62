"""Means and interquartile means of seeds, as tables show them."""

from __future__ import annotations

import numpy as np

from benchmarks.lab.statistics import interquartile, show_interquartile, show_mean
from benchmarks.lab.tables import interquartile_table


def test_means_come_with_the_standard_error_of_the_seeds():
    assert show_mean([1.0, 3.0]) == "2 ± 1"  # deviation sqrt(2), over sqrt(2)
    assert show_mean([5.0]) == "5" and show_mean([]) == ""


def test_interquartile_means_leave_out_a_quarter_at_either_end_and_have_an_interval():
    found = interquartile([[0.0, 1.0, 2.0, 100.0]])
    assert found.estimate == 1.5 and found.low <= 1.5 <= found.high
    assert show_interquartile([[2.0]]) == "2" and show_interquartile([[2.0], []]) == "" and show_interquartile([]) == ""
    assert show_interquartile([[2.0, 2.0]]) == "2 (2 to 2)"


def test_a_cell_is_empty_where_a_task_has_no_seeds():
    text = interquartile_table(
        "Score", {"a": {"x": [[1.0]], "all": [[1.0], []]}, "b": {"x": [[3.0]], "all": [[3.0], [5.0]]}}
    )
    assert text.splitlines()[:4] == [
        "| Score: interquartile mean | x | all |",
        "| --- | ---: | ---: |",
        "| a | 1 |  |",
        "| b | 3 | 4 |",
    ]
    assert interquartile_table("Score", {}) == ""
    assert np.isnan(interquartile([[1.0]]).low)
