"""Shares of solved episodes: what environments tell at an episode's end, in training, evaluation and on the screen."""

import io

import gymnasium
import numpy as np
import pytest
from environments import HostPoint
from rich.console import Console

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.playing import evaluation
from maxent_rl.training.display import Display
from maxent_rl.training.loops.episodes import Successes

NAN = np.nan


class Telling(HostPoint):
    """Its `info` is given."""

    def __init__(self, info):
        super().__init__()
        self.info = info

    def step(self, action):
        return *super().step(action)[:4], self.info


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"is_success": True}, 1.0),
        ({"is_success": np.float32(0.0)}, 0.0),
        ({"is_success": np.array([1])}, 1.0),
        ({"success": False}, 0.0),
        ({"is_success": 1.0, "success": False}, 1.0),
        ({"is_success": "yes"}, NAN),
        ({"is_success": np.ones(2)}, NAN),
        ({"is_success": None}, None),
        ({"distance": 1.0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_environments_tell_of_success_in_their_info(info, success):
    told = GymnasiumEnvs(lambda: Telling(info), [0, 1], "Telling")
    told.reset()
    found = told.step(np.zeros((2, 2))).success
    if success is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, np.float32([success, success]))
        assert found.dtype == np.float32


def test_one_environment_of_several_may_tell():
    infos = iter([{}, {"is_success": True}])
    envs = GymnasiumEnvs(lambda: Telling(next(infos)), [0, 1], "Telling")
    envs.reset()
    np.testing.assert_array_equal(envs.step(np.zeros((2, 2))).success, [NAN, 1.0])


def test_an_evaluation_gives_the_share_of_episodes_that_ended_in_success(monkeypatch):
    """Two seeds with three episodes: what was told before the end, or after it, does not count."""
    steps = [  # running, success
        ([1, 1, 1, 1, 1, 1], [1, 0, 0, NAN, NAN, NAN]),
        ([1, 1, 0, 1, 1, 1], [0, 1, 1, NAN, 1, NAN]),
    ]

    def play(*_):
        for running, success in steps:
            rows = [np.asarray(running, bool), *np.zeros((3, 6, 1)), np.ones(6), np.zeros((6, 1)), np.zeros(6, bool)]
            yield evaluation.HostPlay(np.arange(6), *rows, np.float32(success))

    monkeypatch.setattr(evaluation, "play_host", play)
    first, second = evaluation.evaluate_host(None, None, (0, 1), 0, 3, None)
    assert (first.lengths, second.lengths) == ([2, 2, 1], [2, 2, 2])
    assert first.extra == {"success_rate": pytest.approx(1 / 3)} and second.extra == {"success_rate": 1.0}
    assert list(first.row(0))[5:8] == ["length_mean", "success_rate", "returns"]
    steps[:] = [([1] * 6, [NAN] * 6)]
    assert [found.extra for found in evaluation.evaluate_host(None, None, (0, 1), 0, 3, None)] == [{}, {}]


def test_training_gives_the_share_of_finished_episodes_and_keeps_it_over_a_stop():
    """Two seeds with two environments; the second seed's tell nothing."""
    counted = Successes(2)
    done = np.array([[True, False], [True, True]])
    counted.add(np.float32([[1, 1], [NAN, NAN]]), done)
    again = Successes(2)
    again.set_state(counted.get_state())
    for each in (counted, again):
        each.add(np.float32([[0, 1], [NAN, NAN]]), ~done)
        each.add(np.float32([[0, NAN], [NAN, NAN]]), np.ones((2, 2), bool))
        assert each.take() == [{"episode/success_rate": pytest.approx(2 / 3)}, {}]
        assert each.take() == [{}, {}]


def test_lines_name_the_share_where_it_is_known():
    def lines(success, metrics):
        file = io.StringIO()
        display = Display(100, [0, 1], "sac on Reach", plain=True, console=Console(file=file, width=200))
        display.update(100, [metrics, metrics])
        display.evaluation(100, [-3.0, -5.0], success)
        return file.getvalue()

    told = lines([0.95, 1.0], {"episode/return": -9.0, "episode/success_rate": 0.5})
    assert "success 50%" in told and "evaluation return -4.0 [-5.0 to -3.0], success 98% [95% to 100%]" in told
    assert "success" not in lines([None, None], {"episode/return": -9.0})


def test_gymnasium_wrappers_pass_it_on():
    envs = GymnasiumEnvs(lambda: gymnasium.wrappers.TimeLimit(Telling({"is_success": 1}), 3), [0], "Telling")
    envs.reset()
    assert [float(envs.step(np.zeros((1, 2))).success[0]) for _ in range(4)] == [1.0] * 4
