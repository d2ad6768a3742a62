"""What one sees of a training, in a terminal and in a log file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from maxent_rl.training.display import Display, _duration, _Speed, loading

METRICS = {"episode/return": 12.5, "temperature/alpha": 0.25, "actor/entropy": -3.0, "critic/loss": 0.125}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(Console):
    def __init__(self, terminal: bool) -> None:
        self.clock = Clock()
        super().__init__(file=io.StringIO(), force_terminal=terminal, width=110, height=40, color_system=None)

    @property
    def text(self) -> str:
        return self.file.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def make(console: Terminal, seeds: int = 1, total: int = 1000, **settings: object) -> Display:
    settings = {"console": console, "clock": console.clock} | settings
    return Display(total, range(seeds), "sac on HalfCheetah", **settings)


def test_lines_of_one_seed():
    console = Terminal(terminal=False)
    with make(console) as display:
        display.update(100, [METRICS])
        console.clock.now = 10.0
        display.update(300, [METRICS])
        display.evaluation(300, [99.0])
    assert console.lines == [
        "sac on HalfCheetah: 1,000 steps, seed 0",
        "step 100/1,000 (10.0%) | return 12.5 | alpha 0.25 | entropy (nats) -3.000 | critic loss 0.125",
        "step 300/1,000 (30.0%) | 20 steps/s | 0:35 left"
        " | return 12.5 | alpha 0.25 | entropy (nats) -3.000 | critic loss 0.125",
        "step 300: evaluation return 99.0",
    ]


def test_lines_of_many_seeds_give_mean_and_extremes():
    console = Terminal(terminal=False)
    with make(console, seeds=3) as display:
        display.update(100, [{}, {"episode/return": 1.0}, {"episode/return": 3.0}])
        display.evaluation(100, [1.0, 2.0, 6.0])
    assert "return 2.0 [1.0 to 3.0]" in console.lines[1]
    assert console.lines[2] == "step 100: evaluation return 3.0 [1.0 to 6.0]"


def test_lines_keep_their_distance_but_the_last_and_the_evaluations_always_come():
    console = Terminal(terminal=False)
    with make(console, total=100) as display:
        for step in range(1, 101):
            display.update(step, [METRICS])
            console.clock.now += 0.25
        display.evaluation(100, [1.0])
        display.evaluation(100, [1.0])
    steps = [line.split(" ")[1] for line in console.lines if "%" in line]
    assert steps == ["1/100", "21/100", "41/100", "61/100", "81/100", "100/100"]
    assert sum("evaluation" in line for line in console.lines) == 2


def test_the_last_known_return_stays_until_the_next_episode_ends():
    console = Terminal(terminal=False)
    with make(console) as display:
        display.update(1, [{"episode/return": 5.0}])
        console.clock.now = 60.0
        display.update(2, [{"episode/return": float("nan")}])
        console.clock.now = 120.0
        display.update(3, [{}])
    assert all("return 5.0" in line for line in console.lines[1:])


def test_the_panel_shows_each_of_up_to_eight_seeds():
    console = Terminal(terminal=True)
    with make(console, seeds=8) as display:
        display.update(500, [METRICS] * 8)
        display.evaluation(500, [float(seed) for seed in range(8)])
    last = console.text.rpartition("sac on HalfCheetah")[2]
    assert "50.0%" in last
    assert [line.split()[:3] for line in last.splitlines()[3:11]] == [[str(s), "12.5", f"{s}.0"] for s in range(8)]
    for column in ("return", "evaluation", "alpha", "entropy (nats)", "critic loss"):
        assert column in last


def test_the_panel_sums_up_more_than_eight_seeds():
    console = Terminal(terminal=True)
    with make(console, seeds=9) as display:
        display.evaluation(500, [float(seed) for seed in range(9)])
    last = console.text.rpartition("sac on HalfCheetah")[2]
    assert [line.split() for line in last.splitlines()[3:6]] == [
        ["mean", "of", "9", "4.0"],
        ["min", "of", "9", "0.0"],
        ["max", "of", "9", "8.0"],
    ]


def test_the_panel_leaves_out_what_an_agent_does_not_have():
    console = Terminal(terminal=True)
    with make(console) as display:
        display.update(500, [{"critic/loss": 1.0}])
    assert "alpha" not in console.text


def test_the_panel_is_drawn_at_most_four_times_a_second():
    console = Terminal(terminal=True)
    with make(console, total=10**6) as display:
        for step in range(1000):
            display.update(step, [METRICS])
            console.clock.now += 0.001
    assert console.text.count("sac on HalfCheetah") <= 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_terminal_is_restored_on_errors(error):
    console = Terminal(terminal=True)
    with pytest.raises(error), make(console) as display:
        display.update(1, [METRICS])
        stdout = sys.stdout
        raise error
    assert console.text.count("\x1b[?25l") == 1
    assert console.text.rstrip("\n").endswith("\x1b[?25h")
    assert sys.stdout is not stdout  # rich had put its own in place


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"critic/loss": 1.0, "actor/loss": 2.0}, "critic loss 1"),
        ({"policy/loss": 3.0, "actor/entropy": 1.0}, "entropy (nats) 1.000 | policy loss 3"),
        ({"preference/loss": 4.0, "imitation/loss": 5.0}, "preference loss 4"),
        ({"loss": 6.0, "target/entropy": 1.0}, "loss 6"),
        ({"own/loss": 7.0}, "own loss 7"),
        ({"own/gain": 8.0}, ""),
    ],
)
def test_of_the_losses_of_an_agent_one_is_shown(metrics, shown):
    console = Terminal(terminal=False)
    with make(console) as display:
        display.update(100, [metrics])
    assert console.lines[1] == " | ".join(filter(None, ["step 100/1,000 (10.0%)", shown]))


def test_what_takes_its_time_is_a_line_without_a_terminal():
    console = Terminal(terminal=False)
    with make(console) as display, display.doing("compiling"):
        assert console.lines[-1] == "compiling"
    with make(console, enabled=False) as display, display.doing("more"):
        pass
    assert "more" not in console.text


def test_what_takes_its_time_turns_a_spinner_in_the_panel_and_is_gone_after():
    console = Terminal(terminal=True)
    with make(console) as display:
        with display.doing("compiling the training step"):
            turning = [thread for thread in threading.enumerate() if thread.daemon and thread.name.endswith("(_turn)")]
            assert len(turning) == 1
            shown = console.text.count("compiling")
            while console.text.count("compiling") < shown + 2:
                turning[0].join(0.01)
            display.message("SIGINT: saving")
        assert not turning[0].is_alive()
        before = len(console.text)
        display.update(10, [METRICS])
    assert "compiling" not in console.text[before:] and "SIGINT: saving" in console.text


def test_the_spinner_ends_with_an_error():
    console = Terminal(terminal=True)
    with pytest.raises(ValueError, match="no"), make(console) as display, display.doing("compiling"):
        raise ValueError("no")
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_turn)")]


@pytest.mark.parametrize(
    ("terminal", "enabled", "told", "shown"),
    [(True, True, False, True), (True, False, True, False), (False, True, True, True), (False, True, False, False)],
)
def test_what_is_loaded_is_said_where_it_is_worth_it(terminal, enabled, told, shown):
    console = Terminal(terminal)
    with loading("brax/ant", enabled=enabled, told=told, console=console):
        pass
    assert ("loading brax/ant" in console.text) == shown


@pytest.mark.parametrize("terminal", [True, False])
def test_messages_are_shown_as_they_are(terminal):
    console = Terminal(terminal)
    with make(console) as display:
        display.message("SIGINT: saving [bold]a checkpoint " + "x" * 200)
    assert "SIGINT: saving [bold]a checkpoint " + "x" * 200 in console.text


def test_a_message_from_a_signal_handler_waits_for_the_line_being_written():
    console = Terminal(terminal=False)
    display = make(console)

    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            if "evaluation" in text:
                display.message("SIGTERM: saving")
            return super().write(text)

    console.file = Interrupted()
    with display:
        display.evaluation(5, [1.0])
    assert console.lines[1:] == ["step 5: evaluation return 1.0", "SIGTERM: saving"]


def test_nothing_is_shown_when_switched_off():
    console = Terminal(terminal=True)
    with make(console, enabled=False) as display:
        display.update(1, [METRICS])
        display.evaluation(1, [1.0])
        display.message("text")
    assert console.text == ""


def test_an_output_that_cannot_be_written_does_not_end_a_training():
    console = Terminal(terminal=False)

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    console.file = Full()
    with make(console) as display:
        display.update(1, [METRICS])
        display.message("text")


def test_a_reader_that_goes_away_does_not_end_a_training():
    code = (
        "from maxent_rl.training.display import Display\n"
        "with Display(9, [0], 'x') as display:\n"
        "    for step in range(2000): display.evaluation(step, [1.0])\n"
        "print('done')\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        done = subprocess.run([sys.executable, "-c", code], stdout=output, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_speed_leaves_out_compiling_and_forgets_what_is_long_ago():
    speed = _Speed()
    assert speed.steps_per_second == 0
    speed.add(100.0, 1000)  # the first report, after a minute of compiling
    assert speed.steps_per_second == 0
    speed.add(101.0, 1010)
    assert speed.steps_per_second == 10
    for second in range(102, 200):
        speed.add(float(second), 1010 + 50 * (second - 101))
    assert speed.steps_per_second == 50
    assert len(speed._samples) < 40


def test_speed_stays_small_and_right_with_frequent_reports():
    speed = _Speed()
    for index in range(100_000):
        speed.add(index / 1000, index)
    assert speed.steps_per_second == pytest.approx(1000, rel=0.01)
    assert len(speed._samples) < 300


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_durations(seconds, text):
    assert _duration(seconds) == text
