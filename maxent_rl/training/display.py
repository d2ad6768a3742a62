"""What one sees of a training: a live panel in a terminal, plain lines in a log file.

The panel is drawn when training reports, and at most four times a second. Only while nothing can report, as a program is
compiled, a thread turns a spinner.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_SECONDS_BETWEEN_DRAWINGS = 0.25
_SECONDS_BETWEEN_LINES = 5.0
_SPEED_WINDOW_SECONDS = 30.0
_MOST_ROWS = 8
_SPINNER, _SECONDS_BETWEEN_TURNS = "dots", 0.1


class _Column(NamedTuple):
    """One number that is shown of every seed; `metric` is its key in what `Display.update` gets."""

    title: str
    metric: str
    form: str


_EVALUATION, _SUCCESS = "evaluation", "evaluation success"
_COLUMNS = (
    _Column("return", "episode/return", ",.1f"),
    _Column("success", "episode/success_rate", ".0%"),
    _Column("evaluation", _EVALUATION, ",.1f"),
    _Column("evaluation success", _SUCCESS, ".0%"),
    _Column("alpha", "temperature/alpha", ".4g"),
    _Column("entropy (nats)", "actor/entropy", ".3f"),
)
# Of losses the first that an agent has; of its own ones any.
_LOSSES = (
    _Column("critic loss", "critic/loss", ".4g"),
    _Column("policy loss", "policy/loss", ".4g"),
    _Column("preference loss", "preference/loss", ".4g"),
    _Column("imitation loss", "imitation/loss", ".4g"),
    _Column("loss", "loss", ".4g"),
)
_SHOWN = {column.metric for column in (*_COLUMNS, *_LOSSES)}


class Display:
    """Shows the progress of a training; a context manager that leaves the terminal as it was, whatever happens.

    A display that can no longer be written to (a closed pipe, a full disk) falls silent: it never ends a training.
    """

    def __init__(
        self,
        total_steps: int,
        seeds: Sequence[int],
        title: str,
        start_step: int = 0,
        plain: bool | None = None,
        *,
        variants: Sequence[str] = (),
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares a display.

        Args:
          total_steps: environment steps of each seed at the end.
          seeds: the seeds, in the order in which `update` and `evaluation` give their numbers.
          title: what is being trained.
          start_step: environment step at which this training starts (not 0 when resumed).
          plain: lines instead of a panel; None for lines wherever there is no terminal.
          variants: names of variants that train side by side, each with all seeds; numbers then come for all seeds of
            the first, then of the next.
          enabled: False shows nothing at all.
          console: where to show it; None for standard output.
          clock: seconds, for tests.
        """
        self._total, self._title = total_steps, title
        self._variants = tuple(variants)
        self._seeds = tuple(seeds) * max(len(self._variants), 1)
        self._console = StandardOutput() if console is None else console
        no_panel = not self._console.is_terminal or self._console.is_dumb_terminal
        self._plain = no_panel if plain is None else plain
        self._silent = not enabled
        self._clock = clock
        self._step = start_step
        self._speed = _Speed()
        self._latest: list[dict[str, float]] = [{} for _ in self._seeds]
        self._messages: deque[str] = deque()
        self._live: Live | None = None
        self._spinner: Spinner | None = None
        self._writing = False
        self._shown_at = -math.inf

    def update(self, step: int, metrics: Sequence[Mapping[str, float]]) -> None:
        """Shows how far training is.

        Args:
          step: environment steps of each seed.
          metrics: one mapping per seed; a metric that is missing or NaN keeps its last value.
        """
        self._step = step
        self._speed.add(self._clock(), step)
        for latest, row in zip(self._latest, metrics, strict=True):
            latest |= {
                name: float(value)
                for name, value in row.items()
                if (name in _SHOWN or name.endswith("/loss")) and not math.isnan(value)
            }
        if self._plain:
            if self._due(_SECONDS_BETWEEN_LINES) or step >= self._total:
                self._show(lambda: self._print(self._progress_line()))
        elif self._due(_SECONDS_BETWEEN_DRAWINGS):
            self._show(self._draw)

    def evaluation(self, step: int, returns: Sequence[float], success: Sequence[float | None] = ()) -> None:
        """Shows an evaluation: the mean return of each seed, and the share of its episodes that were solved, if told."""
        for latest, value in zip(self._latest, returns, strict=True):
            latest[_EVALUATION] = float(value)
        told = [share for share in success if share is not None]
        for latest, share in zip(self._latest, success, strict=False):
            if share is not None:
                latest[_SUCCESS] = share
        if self._plain:
            line = f"step {step:,}: evaluation return {_summary(returns, ',.1f', len(self._seeds))}"
            line += f", success {_summary(told, '.0%', len(self._seeds))}" if told else ""
            self._show(lambda: self._print(line), counts=False)
        else:
            self._show(self._draw)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Within the block, says what takes its time: beside a spinner in the panel, or in a line."""
        if self._live is None:
            self._show(lambda: self._print(what), counts=False)
            yield
            return
        self._spinner, done = Spinner(_SPINNER, Text(what, style="dim")), threading.Event()
        self._show(self._draw)
        turning = threading.Thread(target=self._turn, args=(self._live, done), daemon=True)
        turning.start()
        try:
            yield
        finally:
            done.set()
            turning.join()
            self._spinner = None
            self._show(self._draw)

    @staticmethod
    def _turn(live: Live, done: threading.Event) -> None:
        """Draws the panel as it stands, with its spinner a little further, until `done`."""
        with contextlib.suppress(OSError):
            while not done.wait(_SECONDS_BETWEEN_TURNS):
                live.refresh()

    def message(self, text: str) -> None:
        """Shows a sentence. Safe to call from a signal handler: amid other output it waits until that is done."""
        self._messages.append(text)
        self._show(lambda: None, counts=False)

    def __enter__(self) -> Display:
        """Starts to show."""
        if self._silent:
            return self
        if self._plain:
            names = _seed_names(self._seeds) + (f", {len(self._variants)} variants" if self._variants else "")
            self._show(lambda: self._print(f"{self._title}: {self._total:,} steps, {names}"), False)
        else:
            self._live = Live(console=self._console, auto_refresh=False)
            self._show(self._live.start)
            self._show(self._draw)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Draws the last state and gives the terminal back."""
        if self._live is None:
            return
        try:
            self._show(self._draw)
        finally:
            live, self._live = self._live, None
            try:
                live.stop()
            except OSError:
                self._silent = True

    def _due(self, seconds: float) -> bool:
        return self._clock() - self._shown_at >= seconds

    def _show(self, output: Callable[[], object], counts: bool = True) -> None:
        """Runs `output`, then shows waiting messages. A signal handler's message that comes meanwhile only waits.

        Args:
          output: writes something.
          counts: whether the next drawing or line has to keep its distance from this one.
        """
        if self._silent or self._writing:
            return
        self._writing = True
        try:
            output()
            while self._messages:
                self._print(self._messages.popleft())
        except OSError:
            self._silent = True
        finally:
            self._writing = False
            self._shown_at = self._clock() if counts else self._shown_at

    def _print(self, text: str) -> None:
        # Neither colours nor wrapping: a line of a log file is one line, whatever is in it.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.file.flush()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)

    def _progress_line(self) -> str:
        parts = [f"step {self._step:,}/{self._total:,} ({self._fraction:.1%})", *self._pace()]
        for column in self._columns():
            values = [row[column.metric] for row in self._latest if column.metric in row]
            if values and column.metric not in (_EVALUATION, _SUCCESS):
                parts.append(f"{column.title} {_summary(values, column.form, len(self._seeds))}")
        return " | ".join(parts)

    @property
    def _fraction(self) -> float:
        return min(self._step / self._total, 1.0)

    def _pace(self) -> list[str]:
        speed = self._speed.steps_per_second
        if not speed:
            return []
        left = max(self._total - self._step, 0) / speed
        return [f"{speed:,.0f} steps/s" if speed >= 10 else f"{speed:.2g} steps/s", f"{_duration(left)} left"]

    def _panel(self) -> RenderableType:
        pace = " \u00b7 ".join([f"{self._step:,} / {self._total:,} steps", *self._pace()])
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=1.0, completed=self._fraction, width=32),
            Text(f"{self._fraction:.1%}", style="bold"),
            Text(pace, style="dim"),
        )
        rows: list[RenderableType] = [Text(self._title, style="bold"), bar]
        if self._spinner is not None:
            rows.append(self._spinner)
        return Group(*rows, self._numbers())

    def _numbers(self) -> RenderableType:
        columns = self._columns()
        if not columns:
            return Text("")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("variant" if self._variants else "seed")
        for column in columns:
            table.add_column(column.title, justify="right")
        for name, row in self._rows():
            table.add_row(name, *(_number(row.get(column.metric), column.form) for column in columns))
        return table

    def _columns(self) -> list[_Column]:
        """What there is to show."""
        known = {name for row in self._latest for name in row}
        losses = [column for column in _LOSSES if column.metric in known]
        losses += [_Column(name.replace("/", " "), name, ".4g") for name in sorted(known) if name.endswith("/loss")]
        return [column for column in _COLUMNS if column.metric in known] + losses[:1]

    def _rows(self) -> list[tuple[str, Mapping[str, float]]]:
        if 0 < len(self._variants) <= _MOST_ROWS:  # the mean over its seeds
            each = len(self._seeds) // len(self._variants)
            return [
                (name, _means(self._latest[index * each : (index + 1) * each]))
                for index, name in enumerate(self._variants)
            ]
        if len(self._seeds) <= _MOST_ROWS:
            return [(str(seed), row) for seed, row in zip(self._seeds, self._latest, strict=True)]
        known = {
            column.metric: [row[column.metric] for row in self._latest if column.metric in row]
            for column in self._columns()
        }
        reductions: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "min": min, "max": max}
        return [
            (f"{name} of {len(self._seeds)}", {metric: reduce(values) for metric, values in known.items() if values})
            for name, reduce in reductions.items()
        ]


@contextlib.contextmanager
def loading(what: str, *, enabled: bool, told: bool, console: Console | None = None) -> Iterator[None]:
    """Within the block, says what is loaded before there is anything to display.

    Args:
      what: is loaded.
      enabled: False shows nothing at all.
      told: whether it takes so long that it is worth a line where there is no terminal for a spinner.
      console: where to show it; None for standard output.
    """
    # The file of now: while simulators are imported, what is printed elsewhere is caught.
    console = StandardOutput(file=sys.stdout) if console is None else console
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            if enabled and console.is_terminal and not console.is_dumb_terminal:
                stack.enter_context(console.status(Text(f"loading {what}", style="dim"), spinner=_SPINNER))
            elif enabled and told:
                console.print(f"loading {what}", markup=False, highlight=False, soft_wrap=True)
                console.file.flush()
        yield


class StandardOutput(Console):
    """Standard output, which may be closed by its reader at any time."""

    def on_broken_pipe(self) -> None:
        """Falls silent for good, the end of the program included; rich would end the program, and so the training."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class _Speed:
    """Steps per second over the last half minute.

    It starts with the first report: the time before that is compiling, which says nothing of the time still to come.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, step: int) -> None:
        """Takes in that `step` was reached at second `now`."""
        samples = self._samples
        # The last sample moves until it is old enough to stay, so that frequent reports keep the window small.
        if len(samples) > 2 and now - samples[-2][0] < _SECONDS_BETWEEN_DRAWINGS:
            samples.pop()
        samples.append((now, step))
        while len(samples) > 2 and now - samples[1][0] > _SPEED_WINDOW_SECONDS:
            samples.popleft()

    @property
    def steps_per_second(self) -> float:
        """The speed, 0 as long as it is unknown."""
        if len(self._samples) < 2:
            return 0.0
        (then, first), (now, last) = self._samples[0], self._samples[-1]
        return (last - first) / (now - then) if now > then else 0.0


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over seeds of every metric that all of them have."""
    shared = set.intersection(*(set(row) for row in rows))
    return {metric: statistics.fmean(row[metric] for row in rows) for metric in shared}


def _summary(values: Sequence[float], form: str, seeds: int) -> str:
    """One seed's number, or the mean over seeds with its extremes."""
    text = _number(statistics.fmean(values), form)
    return text if seeds == 1 else f"{text} [{_number(min(values), form)} to {_number(max(values), form)}]"


def _number(value: float | None, form: str) -> str:
    if value is None:
        return "\u2013"
    # Returns are thousands in one task and the share of right answers in another.
    return format(value, ".3f" if form == ",.1f" and 0 < abs(value) < 1 else form)


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _seed_names(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
