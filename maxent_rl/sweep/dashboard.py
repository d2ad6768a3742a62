"""The table of a sweep's jobs: live in a terminal, a line for each change of state elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from maxent_rl.errors import CheckpointError
from maxent_rl.runs.records import read_csv
from maxent_rl.seeds.variants import variant_name
from maxent_rl.sweep.jobs import Job
from maxent_rl.training.display import StandardOutput

_SECONDS_BETWEEN_READINGS = 2.0
_SECONDS_BETWEEN_LINES = 60.0
_LAST_BYTES = 2**20
_OTHER_LINES = 6  # of the terminal: heading, counts, and some air


class State(enum.Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


_STYLES = {
    State.WAITING: "dim",
    State.RUNNING: "bold blue",
    State.RETRYING: "bold yellow",
    State.STOPPED: "yellow",
    State.FINISHED: "green",
    State.FAILED: "bold red",
}
# Where there is no room for all, these come first.
_URGENCY = (State.FAILED, State.RETRYING, State.RUNNING, State.STOPPED, State.WAITING, State.FINISHED)


@dataclasses.dataclass
class Status:
    """What the table says of a job.

    Attributes:
      state: where it stands.
      note: one sentence on a failure or a retry.
      deaths: how often its process has died.
    """

    state: State = State.WAITING
    note: str = ""
    deaths: int = 0


class Progress:
    """How far a job is, from the tables in its folder; reads them only when they have changed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._changed: tuple[float, float] | None = None
        self.step, self.evaluation = 0, ""

    def read(self) -> None:
        """Looks again."""
        changed = _modified(self._job, "metrics.csv"), _modified(self._job, "eval.csv")
        if changed == self._changed:
            return
        self._changed = changed
        metrics, evaluations = self._last_rows("metrics.csv"), self._last_rows("eval.csv")
        with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError):  # of a damaged table: as it was
            self.step = int(metrics[0]["step"]) if metrics else 0
            self.evaluation = self._best(evaluations)

    def _last_rows(self, name: str) -> list[dict[str, float | str]]:
        """The rows of the last step; none while there is no whole one."""
        try:
            rows = read_csv(self._job.folder / name, last_bytes=_LAST_BYTES)
            return [row for row in rows if row["step"] == rows[-1]["step"]]
        except (CheckpointError, KeyError):
            return []

    def _best(self, rows: Sequence[Mapping[str, float | str]]) -> str:
        """The last evaluation's mean over seeds, of the best variant where there are several."""
        returns: dict[str, list[float]] = {}
        for row in rows:
            variant = variant_name({name: float(row[name]) for name in self._job.run.variants if name in row})
            returns.setdefault(variant, []).append(float(row.get("return_mean", math.nan)))
        if not returns:
            return ""
        means = {variant: statistics.fmean(values) for variant, values in returns.items()}
        best = max(means, key=lambda variant: -math.inf if math.isnan(means[variant]) else means[variant])
        return f"{means[best]:,.1f}" + (f" ({best})" if best else "")


def _modified(job: Job, name: str) -> float:
    try:
        return (job.folder / name).stat().st_mtime
    except OSError:
        return 0.0


class Dashboard:
    """Shows the states of all jobs; a context manager."""

    def __init__(
        self,
        statuses: Mapping[Job, Status],
        title: str,
        *,
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares it.

        Args:
          statuses: of all jobs; read anew at every drawing.
          title: first line.
          enabled: False shows nothing.
          console: where to; None for standard output.
          clock: seconds, for tests.
        """
        self._statuses, self._title, self._enabled = statuses, title, enabled
        self._console = StandardOutput() if console is None else console
        self._plain = not self._console.is_terminal or self._console.is_dumb_terminal
        self._progress = {job: Progress(job) for job in statuses}
        self._shown: dict[Job, tuple[State, str]] = {}
        self._clock = clock
        self._read_at = self._line_at = -math.inf
        self._live: Live | None = None
        self._messages: deque[str] = deque()

    def __enter__(self) -> Dashboard:
        """Starts to show."""
        if self._enabled and self._plain:
            self._print(self._title)
            self._line_at = self._clock()
        elif self._enabled:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self.update()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Shows the last states and gives the terminal back."""
        self._read_at = -math.inf
        try:
            self.update()
        finally:
            if self._live is not None:
                live, self._live = self._live, None
                live.stop()

    def update(self) -> None:
        """Shows what has changed; cheap enough to be called all the time."""
        while self._enabled and self._messages:
            self._print(self._messages.popleft())
        now = self._clock()
        changed = {job: (s.state, s.note) for job, s in self._statuses.items()} != self._shown
        due = now - self._read_at >= _SECONDS_BETWEEN_READINGS
        if not self._enabled or not (changed or due):
            return
        self._read_at = now
        for job, status in self._statuses.items():
            if status.state != State.WAITING:
                self._progress[job].read()
        if self._plain:
            self._lines(now)
        elif self._live is not None:
            self._live.update(self._table(), refresh=True)
        self._shown = {job: (s.state, s.note) for job, s in self._statuses.items()}

    def message(self, text: str) -> None:
        """Shows a sentence with the next update, so that a signal handler may call this amid other output."""
        self._messages.append(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.file.flush()

    def _lines(self, now: float) -> None:
        for job, status in self._statuses.items():
            before = self._shown.get(job, (State.WAITING, ""))
            if (status.state, status.note) != before:
                self._print(f"{job.name}: {self._sentence(job, status)}")
                self._line_at = now
        if now - self._line_at >= _SECONDS_BETWEEN_LINES:
            self._line_at = now
            running = [job for job, status in self._statuses.items() if status.state == State.RUNNING]
            self._print(" | ".join([self._counts(), *(f"{job.name} {self._step(job)}" for job in running)]))

    def _sentence(self, job: Job, status: Status) -> str:
        progress = self._progress[job]
        parts = [status.state.value]
        if progress.step and status.state != State.RETRYING:
            parts.append(f"step {self._step(job)}")
        if progress.evaluation and status.state in (State.FINISHED, State.STOPPED):
            parts.append(f"return {progress.evaluation}")
        return ", ".join(parts) + (f": {status.note}" if status.note else "")

    def _step(self, job: Job) -> str:
        return f"{self._progress[job].step:,}/{job.run.total_steps:,}"

    def _counts(self) -> str:
        states = [status.state for status in self._statuses.values()]
        return ", ".join(f"{states.count(state)} {state.value}" for state in State if state in states)

    def _table(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("job", "state", "step", "last return", ""):
            table.add_column(column, justify="right" if column == "step" else "left", overflow="ellipsis", no_wrap=True)
        room = max(self._console.height - _OTHER_LINES, 3)
        urgent = sorted(self._statuses, key=lambda job: _URGENCY.index(self._statuses[job].state))[:room]
        for job, status in self._statuses.items():
            if job in urgent:
                progress = self._progress[job]
                state = Text(status.state.value, style=_STYLES[status.state])
                # As text: a name may hold brackets, which rich would read as mark-up.
                table.add_row(
                    Text(job.name), state, self._step(job), Text(progress.evaluation or "\u2013"), Text(status.note)
                )
        hidden = len(self._statuses) - len(urgent)
        more = f" ({hidden} not shown)" if hidden else ""
        return Group(Text(self._title, style="bold"), table, Text(self._counts() + more, style="dim"))
