"""What is kept of the runs of registered agents, as numbers, as a table and as a picture."""

from __future__ import annotations

import csv

from benchmarks.lab.curves import Published, draw, read_seeds, write_curves
from benchmarks.lab.runs import read_rows

LABELS = {"ppo": "PPO", "reppo": "REPPO"}
EVALUATIONS = """step,seed,return_mean
100,0,1.0
100,1,2.0
200,0,3.0
200,1,4.0
300,0,5.0
300,1,6.0
400,0,7.0
400,1,8.0
"""
METRICS = """step,seed,updates,steps_per_second
100,0,0,50
200,0,1,1
300,0,2,30
400,0,3,40
100,1,0,50
"""


def test_what_is_kept_of_each_seed(tmp_path):
    """The return is the mean of the last three evaluations; speeds are those while learning, without the first line."""
    (tmp_path / "eval.csv").write_text(EVALUATIONS)
    (tmp_path / "metrics.csv").write_text(METRICS)
    first, second = read_seeds(*(read_rows(tmp_path / name) for name in ("metrics.csv", "eval.csv")))
    assert (first.seed, second.seed) == (0, 1)
    assert first.values == {"return": 5.0, "halfway": 3.0, "mean": 4.0, "steps_per_second": 35.0}
    assert second.values == {"return": 6.0, "halfway": 4.0, "mean": 5.0}
    assert first.more["curve"] == [(100, 1.0), (200, 3.0), (300, 5.0), (400, 7.0)]


def test_curves_are_one_row_for_each_evaluation_and_are_drawn(tmp_path):
    runs = [
        {"env": "brax/x", "contender": name, "repeat": seed, "curve": [[10, 1.5 + seed], [20, 2.5]]}
        for name in LABELS
        for seed in range(2)
    ]
    write_curves(
        {"runs": [*runs, {"env": "brax/x", "contender": "ppo", "repeat": 0, "error": "no"}]}, tmp_path / "a.csv"
    )
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows[0] == ["env", "contender", "seed", "step", "return"] and len(rows) == 9
    assert rows[3] == ["brax/x", "ppo", "1", "10", "2.5"]
    published = {"brax/x": [Published("theirs", ((10, 1.0, 0.5), (99, 2.0, 0.5)))]}
    draw({"runs": runs}, LABELS, tmp_path / "a.png", published)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
