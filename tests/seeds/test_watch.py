"""Processes that know when one of them is lost, with threads of this one in their place."""

import time

import pytest

from maxent_rl.seeds import watch as module
from maxent_rl.seeds.watch import Watch


@pytest.fixture
def ended(monkeypatch):
    """What ends a process only notes that it would have."""
    statuses = []
    monkeypatch.setattr(module.os, "_exit", statuses.append)
    monkeypatch.setattr(module, "_SECONDS_TO_FAIL", 0.0)
    return statuses


@pytest.fixture
def three(ended):
    """Three processes that watch each other."""
    first, second, third = (Watch(index, 3) for index in range(3))
    port, word = first.listen()
    for each in (second, third):
        each.join("127.0.0.1", port, word)
    while len(first._peers) < 2:
        time.sleep(0.01)
    return first, second, third


def test_all_hear_who_is_lost(three, ended, capfd):
    first, second, third = three
    first.advice = lambda: "Go on."
    second._peers[0].shutdown(module.socket.SHUT_RDWR)  # as the system does for a process that is killed
    told = first.lost(10)
    assert told.startswith("Process 1 of this run (process ") and "has ended without a word" in told
    assert third.lost(10) == told
    while len(ended) < 3:
        time.sleep(0.01)
    assert f"error: {told} Go on.\n" in capfd.readouterr().err and set(ended) == {1}


def test_one_that_says_goodbye_is_not_lost(three, ended):
    first, second, third = three
    second.leave()
    second._peers[0].close()
    first.leave()
    assert not first.lost(0.2) and not third.lost(0.0) and not ended


def test_strangers_are_turned_away_and_a_first_process_out_of_reach_is_none(ended):
    first, stranger = Watch(0, 2), Watch(1, 2)
    port, _ = first.listen()
    stranger.join("127.0.0.1", port, "wrong")
    assert stranger.lost(10)
    while not ended:  # its own thread: here it must not be later than the test
        time.sleep(0.01)
    assert not first._peers
    Watch(1, 2).join("127.0.0.1", 1, "nobody listens")
