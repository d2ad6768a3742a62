"""`experiments/dataset.py measure`: the table, the verdict, the picture, and what is said where something is missing."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from dataset import main

from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import write_dataset
from maxent_rl.data.datasets.passes import open_source
from maxent_rl.data.measures import quality
from maxent_rl.errors import DataError
from maxent_rl.reports.data_quality import as_json, draw_plane, rows


def data(size=200, seed=0, end=50, discrete=True):
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, 12, (size + 1, 2)).astype(np.float32)
    action = rng.integers(0, 3, size).astype(np.int32) if discrete else rng.uniform(-1, 1, (size, 2)).astype(np.float32)
    ended = np.arange(size) % end == end - 1
    return Dataset(seen[:-1], action, np.ones(size, np.float32), seen[1:], np.zeros(size, bool), ended, env="Grid")


@pytest.fixture
def files(tmp_path):
    for name, made in {"data": data(), "reference": data(400, 1), "random": data(200, 2, 20)}.items():
        write_dataset(made, tmp_path / f"{name}.npz")
    return tmp_path


def test_the_table_the_verdict_the_picture_and_the_numbers(files, capsys):
    flags = ["--reference", f"{files}/reference.npz", "--random", f"{files}/random.npz", "--expert-return", "80"]
    writes = ["--figure", f"{files}/out/plane.png", "--json", f"{files}/out/numbers.json"]
    assert main(["measure", f"{files}/data.npz", *flags, *writes]) == 0
    out, err = capsys.readouterr()
    numbers = json.loads((files / "out" / "numbers.json").read_text())
    assert numbers["tq"] == pytest.approx((50 - 20) / (80 - 20)) and numbers["random_return"] == 20
    assert numbers["coverage"]["size"] == 200 and numbers["coverage"]["draws"] == 5
    assert [each["edges"] for each in numbers["sensitivity"]] == [5, 10, 20, 50, 100]
    assert set(numbers["overlap"]) == {"of_reference", "of_data", "error"}
    assert numbers["verdict"] in out.splitlines() and "0.5000" in out and f"{numbers['coverage']['saco']:.4f}" in out
    assert err == "" and (files / "out" / "plane.png").stat().st_size > 10_000


def test_without_references_one_sentence_says_so_and_the_rest_comes(files, capsys):
    assert main(["measure", f"{files}/data.npz", "--reference", f"{files}/reference.npz"]) == 1  # as it says "error"
    out, err = capsys.readouterr()
    assert err.strip() == (
        "error: TQ cannot be computed: a random policy's and an expert's return is not known "
        "(--random-return, --expert-return, --random)."
    )
    assert "lSACo" in out and "TQ unknown" in out
    assert main(["measure", f"{files}/data.npz", "--random-return", "0", "--expert-return", "50"]) == 0
    out, err = capsys.readouterr()
    assert "SACo unknown" in out and "note: SACo cannot be computed without a reference" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--random", "r.npz", "--random-return", "1"], "pass one of them"),
        (["--figure", "plane.pdf"], "--figure must end in .png, got plane.pdf"),
        (["--edges", "1"], "--edges must be at least 2"),
        (["--draws", "3"], "--draws has no effect here: it is used only with --reference."),
        (["--edges", "0"], "--edges must be at least 1"),
        (["--expert-return", "nan"], "--expert-return must be a finite number"),
    ],
)
def test_impossible_flags_are_refused_in_one_sentence(files, capsys, flags, message):
    assert main(["measure", f"{files}/data.npz", *flags]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_picture_needs_both_numbers(files, capsys):
    assert main(["measure", f"{files}/data.npz", "--figure", f"{files}/plane.png"]) == 1
    out, err = capsys.readouterr()
    assert "cannot be drawn in the plane: TQ is nan and SACo nan" in err and "distinct pairs" in out
    assert not (files / "plane.png").exists()


def test_a_reference_of_another_environment_is_refused(files, capsys):
    write_dataset(data(discrete=False), files / "other.npz")
    assert main(["measure", f"{files}/data.npz", "--reference", f"{files}/other.npz"]) == 1
    assert "do not fit together" in capsys.readouterr().err


def test_the_plane_holds_places_far_outside():
    figure = draw_plane({"good $": (1.7, 1.5), "bad": (-2.0, 0.0)})
    (axes,) = figure.axes
    assert axes.get_xlim()[0] < -2 and axes.get_xlim()[1] > 1.7 and axes.get_ylim()[1] > 1.5
    figure.canvas.draw()
    with pytest.raises(DataError, match="bad cannot be drawn"):
        draw_plane({"bad": (math.nan, 0.5)})


def test_rows_say_what_was_estimated_and_what_is_missing():
    found = quality.measure(data(discrete=False), data(300, 1, discrete=False), exact_limit=10)
    text = "\n".join(map(" ".join, rows(found)))
    assert "estimated, standard error 0.81%" in text and "of counting" in text and "not known" in text
    assert "mean over entries" in text and "perplexity" not in text
    empty = quality.measure(data(10))
    assert ("return", "not known", "no complete episode") in list(rows(empty))
    assert as_json(empty)["tq"] is None and json.dumps(as_json(empty), allow_nan=False)


def test_a_file_too_large_to_keep_is_read_anew_for_every_pass(files):
    kept, reread = open_source(files / "data.npz"), open_source(files / "data.npz", most_bytes=100)
    assert isinstance(kept, list) and callable(reread)
    both = [quality.measure(source, open_source(files / "reference.npz")) for source in (kept, reread)]
    assert as_json(both[0]) == as_json(both[1]) == as_json(quality.measure(data(), data(400, 1)))


def test_references_that_the_file_has_are_taken(files, capsys):
    made = dataclasses.replace(data(), about={"random_return": 20.0, "expert_return": 80.0})
    write_dataset(made, files / "made.npz")
    assert main(["measure", f"{files}/made.npz"]) == 0
    assert "0.5000" in capsys.readouterr().out
    assert main(["measure", f"{files}/absent.npz"]) == 1
    assert "absent.npz" in capsys.readouterr().err
