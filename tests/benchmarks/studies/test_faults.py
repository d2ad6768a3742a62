"""The study of faults: what it says of its own results, and a part of it small enough for a test."""

import random

import pytest
from run_folders import make_run

from benchmarks.studies.faults.__main__ import STUDY
from benchmarks.studies.faults.command_lines import measure_lines
from benchmarks.studies.faults.inputs import INPUTS, measure_inputs
from benchmarks.studies.faults.kills import _compared
from benchmarks.studies.faults.mutations import mutate
from benchmarks.studies.faults.setting import COMMANDS, KINDS, RUNS, CommandLines, Inputs, Kills, moments


def test_it_promises_as_much_as_it_should():
    assert set(INPUTS) == set(KINDS) and sum(map(len, INPUTS.values())) >= 150
    assert sum(COMMANDS.values()) >= 500
    drawn = [moment for name in RUNS for moment in moments(name) if moment != "full disk"]
    counts = {moment: drawn.count(moment) for moment in set(drawn)}
    assert counts == {"writing": 20, "twice": 10, "early": 5, "any": 5}


def test_the_same_damage_is_drawn_again():
    content = b'{"a": [1, 2.5, {"b": "text"}], "c": null}'
    first, again = ([mutate(content, "x.json", random.Random(seed)) for seed in range(50)] for _ in range(2))
    assert first == again and len(set(first)) > 30


def test_every_recorded_answer_is_a_sentence_and_every_recorded_run_the_undisturbed_one():
    found = STUDY.load()
    answers = [run["values"] for run in found["inputs"]["runs"]]
    assert len(answers) >= 150 and all(value["sentence"] and value["kept"] for value in answers)
    assert all(run["values"]["equal"] for run in found["kills"]["runs"])
    assert all(run["values"]["right"] for run in found["commands"]["runs"])


@pytest.mark.slow
def test_damaged_configurations_and_sweeps_are_answered_with_sentences():
    for unit in Inputs(("configuration", "sweep folders")).units():
        seeds = measure_inputs(unit).seeds
        assert len(seeds) == len(INPUTS[unit.env]) and all(seed.values["sentence"] for seed in seeds)


@pytest.mark.slow
def test_command_lines_are_answered_rightly():
    plan = CommandLines(("run", "sweep", "dataset", "evaluate"), seed=7, share=0.08)
    for unit in plan.units():
        for seed in measure_lines(unit, plan).seeds:
            assert not seed.more["wrong"], seed.more


def test_a_run_that_differs_is_told(tmp_path):
    same, other = (make_run(tmp_path / name, {0: [1.0, score]}) for name, score in (("same", 2.0), ("other", 3.0)))
    assert "eval.csv" in _compared(other, same)
    assert Kills().units()[0].measured["moments"] == ["writing", "writing", "twice", "any", "full disk"]
