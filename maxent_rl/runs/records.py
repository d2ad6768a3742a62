"""What a run measures, as files that a killed run leaves readable: metrics.csv and eval.csv, one row per step and seed.

Where hyper-parameters vary within a run there is a row for each variant and seed, with a column for each of them.
TensorBoard and Weights & Biases get the same numbers. The tables are the record: everything else can be made from them.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import numbers
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from maxent_rl.errors import CheckpointError, InvalidSettingError, MissingDependencyError, StorageError
from maxent_rl.storage.files import storage_errors
from maxent_rl.storage.reading import open_regular

Row: TypeAlias = Mapping[str, float | int | str]

_KEYS = ("step", "seed")
_LONGEST_STEP = 18  # digits


class Recorder:
    """Writes what one run measures; a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        config: dict[str, Any],
        tensorboard: bool = True,
        wandb_project: str | None = None,
        resume_step: int | None = None,
        varied: Sequence[str] = (),
        expected_rows: Mapping[str, int] | None = None,
    ) -> None:
        """Opens the records of a run.

        Args:
          folder: the run's folder; it exists.
          config: what config.json says; Weights & Biases shows it.
          tensorboard: write TensorBoard events if tensorboardX is installed.
          wandb_project: Weights & Biases project to report to; None for none.
          resume_step: the environment step from which a run goes on: what was recorded after it is dropped. None for a
            run that begins, whose folder must not hold records yet.
          varied: columns that tell variants apart, beside the seed.
          expected_rows: how many rows each table had at `resume_step`, as `row_counts` said; None where nobody knows. What is
            missing stands in `remarks`.

        Raises:
          StorageError: the files cannot be written, or belong to another run.
          MissingDependencyError: a Weights & Biases project is named and wandb is not installed.
          InvalidSettingError: Weights & Biases refuses.
        """
        self._keys = (*_KEYS, *varied)
        self._metrics = _Table(folder / "metrics.csv", resume_step)
        self._evaluations = _Table(folder / "eval.csv", resume_step)
        self.remarks = [
            remark
            for table in (self._metrics, self._evaluations)
            for remark in table.remarks((expected_rows or {}).get(table.name))
        ]
        self._tensorboard = _TensorBoard.make(folder / "tensorboard", resume_step) if tensorboard else None
        self._wandb = None if wandb_project is None else _start_wandb(folder, wandb_project, config)

    def metrics(self, step: int, rows: Sequence[Row]) -> None:
        """Records what training measured.

        Args:
          step: environment steps of each seed so far.
          rows: one for each seed, with the key "seed"; a metric that a row lacks, or NaN, is an empty cell.

        Raises:
          StorageError: full disk, missing permission.
        """
        self._metrics.append(step, rows)
        self._report(step, rows, "run")

    def evaluation(self, step: int, rows: Sequence[Row]) -> None:
        """Records an evaluation in eval.csv, as `metrics` does. Text (each episode's return) stays in that file."""
        self._evaluations.append(step, rows)
        self._report(step, rows, "eval")

    def row_counts(self) -> dict[str, int]:
        """How many rows each table has, by its file's name."""
        return {table.name: table.rows for table in (self._metrics, self._evaluations)}

    def close(self, *, failed: bool = False) -> None:
        """Closes what is open; the tables are complete at any time."""
        try:
            if self._tensorboard is not None:
                self._tensorboard.close()
        finally:
            if self._wandb is not None:
                self._wandb.finish(exit_code=int(failed))

    def __enter__(self) -> Recorder:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes; a failure to do so never hides the error that ended the run."""
        try:
            self.close(failed=kind is not None)
        except StorageError:
            if kind is None:
                raise

    def _report(self, step: int, rows: Sequence[Row], group: str) -> None:
        """Hands the numbers on, named `group/...` unless they have a group ("critic/loss") already."""
        if self._tensorboard is None and self._wandb is None:
            return
        by_member = {
            self._member(row): {
                name if "/" in name else f"{group}/{name}": float(value)
                for name, value in row.items()
                if name not in self._keys and not isinstance(value, str)
            }
            for row in rows
        }
        if self._tensorboard is not None:
            self._tensorboard.write(step, by_member)
        if self._wandb is not None:
            named = {f"{name}/{member}": value for member, row in by_member.items() for name, value in row.items()}
            self._wandb.log(named, step=step)

    def _member(self, row: Row) -> str:
        """`seed_0`; of a run with variants `learning_rate_0.001/seed_0`."""
        varied = [f"{name}_{float(row[name]):g}" for name in self._keys[len(_KEYS) :]]
        return "/".join([*(["_".join(varied)] if varied else []), f"seed_{row['seed']}"])


def read_csv(path: Path, last_bytes: int | None = None) -> list[dict[str, float | str]]:
    """Reads metrics.csv or eval.csv, also of a run that is still writing it or was killed while it did.

    Args:
      path: the file; a last line without its end is left out, as are lines that have not the columns of the first.
      last_bytes: read no more than the rows in about so many bytes at the end; None for all rows.

    Returns:
      One dict per row. A cell that reads as a number is a float (an empty one is NaN), any other a string; so a list of
      a single number is a float too.

    Raises:
      CheckpointError: there is no such file, or it cannot be read.
    """
    try:
        header, *rows = _read_lines(path, last_bytes) or [[]]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: the run has recorded nothing there yet.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    return [dict(zip(header, map(_value, row), strict=True)) for row in rows if len(row) == len(header)]


class _Table:
    """A CSV file with one row per step and seed, whose columns stand in the order in which they first appeared."""

    def __init__(self, path: Path, resume_step: int | None) -> None:
        self._path, self.name, self.rows = path, path.name, 0
        self._columns: list[str] = []
        self._damaged: Path | None = None  # where the old file lies, had it lines that are none of a table
        with storage_errors(f"write {path}"):
            if resume_step is not None and path.exists():
                self._drop_after(resume_step)
            elif path.exists():
                raise StorageError(f"{path} already holds the records of a run: choose another folder, or resume it.")

    def remarks(self, expected: int | None) -> list[str]:
        """What a user should know of a table that a run goes on with."""
        told = []
        if self._damaged is not None:
            told.append(
                f"{self._path} was damaged: its whole rows are kept, the file as it was is {self._damaged.name}."
            )
        if expected is not None and self.rows < expected:
            told.append(
                f"{self._path} has {self.rows} of the {expected} rows that were recorded before: the others are lost."
            )
        return told

    def append(self, step: int, rows: Sequence[Row]) -> None:
        """Adds one row for each seed, in one write, so that a kill tears at most one line."""
        named = [{"step": step, "seed": row["seed"]} | dict(row) for row in rows]
        new = list(dict.fromkeys(name for row in named for name in row if name not in self._columns))
        with storage_errors(f"write {self._path}"):
            if new and self._columns:
                # A metric may come late (episode/return, when the first episode ends). That happens a few times in a
                # run, so the file is written anew with the wider header rather than kept in some other form.
                _, *old = _read_lines(self._path)
                _replace(self._path, [self._columns + new, *(row + [""] * len(new) for row in old)])
            lines: list[Sequence[str]] = [] if self._columns else [new]
            self._columns += new
            lines += [[_cell(row.get(name)) for name in self._columns] for row in named]
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(_format(lines))
        self.rows += len(rows)

    def _drop_after(self, step: int) -> None:
        lines = _read_lines(self._path)
        header = lines[0] if lines and tuple(lines[0][:2]) == _KEYS else []
        whole = [row for row in lines[1:] if _is_whole(row, header)]
        if len(whole) != len(lines[1:]) or (not header and self._path.stat().st_size):
            numbered = (self._path.with_name(f"{self.name}.damaged{number or ''}") for number in itertools.count())
            self._damaged = next(path for path in numbered if not path.exists())
            shutil.copyfile(self._path, self._damaged)
        kept = [row for row in whole if int(row[0]) <= step]
        _replace(self._path, [header, *kept] if header else [])
        self._columns, self.rows = list(header), len(kept)


class _TensorBoard:
    """TensorBoard events, one TensorBoard run per seed and variant, so that the seeds of a metric share a chart.

    tensorboardX's `SummaryWriter` writes from a thread: a full disk ends that thread, and training then waits for it
    without end. Its `EventsWriter` writes at once and raises.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        self._folder, self._resume_step = folder, resume_step
        self._open, self._event, self._summary = EventsWriter, event_pb2, summary_pb2
        self._writers: dict[str, Any] = {}

    @classmethod
    def make(cls, folder: Path, resume_step: int | None) -> _TensorBoard | None:
        """A writer, or None where tensorboardX is not installed."""
        try:
            return cls(folder, resume_step)
        except ImportError:
            return None

    def write(self, step: int, by_member: Mapping[str, Mapping[str, float]]) -> None:
        """Writes and flushes the numbers of each seed (of each variant)."""
        with storage_errors(f"write TensorBoard events to {self._folder}"):
            for member, row in by_member.items():
                values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
                writer = self._writer(member)
                writer.write_event(
                    self._event.Event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=values))
                )
                writer.flush()

    def close(self) -> None:
        """Closes the files; once closed, a failed one is not tried again."""
        writers, self._writers = list(self._writers.values()), {}
        with storage_errors(f"write TensorBoard events to {self._folder}"):
            for writer in writers:
                writer.close()

    def _writer(self, member: str) -> Any:
        if member not in self._writers:
            folder = self._folder / member
            folder.mkdir(parents=True, exist_ok=True)
            # File names carry whole seconds: a run resumed within one must not write over its own first file.
            suffix = "" if self._resume_step is None else f".from{self._resume_step}"
            writer = self._writers[member] = self._open(str(folder / "events"), suffix)
            if self._resume_step is not None:
                # TensorBoard drops what it read of this step and later ones: they are about to come again.
                purge, log = self._resume_step + 1, self._event.SessionLog
                writer.write_event(self._event.Event(step=purge, file_version="brain.Event:2"))
                writer.write_event(self._event.Event(step=purge, session_log=log(status=log.START)))
        return self._writers[member]


def check_records(wandb_project: str | None) -> None:
    """Refuses what a `Recorder` would refuse for want of a package.

    Raises:
      MissingDependencyError: a Weights & Biases project is named and wandb is not installed.
    """
    if wandb_project is not None:
        _import_wandb()


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError(
            f'Weights & Biases is not installed ({error}). Install it with: pip install "maxent_rl[wandb]".'
        ) from error
    return wandb


def _start_wandb(folder: Path, project: str, config: dict[str, Any]) -> Any:
    """Starts a Weights & Biases run, or goes on with that of the folder."""
    wandb = _import_wandb()
    identity = folder / "wandb_id.txt"
    with storage_errors(f"write {identity}"):
        if not identity.exists():
            identity.write_text(uuid.uuid4().hex[:12] + "\n")
        name = identity.read_text().strip()
    try:
        # On resuming, Weights & Biases leaves out steps that it has already: they hold the same numbers.
        return wandb.init(project=project, name=folder.name, dir=str(folder), config=config, id=name, resume="allow")
    except wandb.Error as error:
        raise InvalidSettingError(
            f"Weights & Biases could not start the project {project!r}: {str(error).strip().splitlines()[0]}. "
            "Log in with: wandb login; or record locally with WANDB_MODE=offline."
        ) from error


def _read_lines(path: Path, last_bytes: int | None = None) -> list[list[str]]:
    """Header and rows as text, without a half-written last line."""
    with open_regular(path) as file:
        content = file.readline()
        start = os.fstat(file.fileno()).st_size - (last_bytes or 0)
        if last_bytes is not None and start > len(content):
            file.seek(start)
            file.readline()  # the rest of a line that began before
        content += file.read()
    text = content.decode("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    return [row for line in whole.split("\n") if (row := _split(line))]


def _split(line: str) -> list[str]:
    """The cells of a line, each of which is a row: so that a stray quotation mark costs no other line."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return [line]


def _is_whole(row: Sequence[str], header: Sequence[str]) -> bool:
    is_step = row[0].isdecimal() and len(row[0]) <= _LONGEST_STEP
    return is_step and len(row) == len(header) and not any("\0" in cell for cell in row)


def _replace(path: Path, lines: Iterable[Sequence[str]]) -> None:
    """Writes the whole file so that at any moment either the old one or the new one is there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(_format(lines), encoding="utf-8", newline="")
    os.replace(partial, path)


def _format(lines: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    """A value as text that reads back as exactly the same value; missing and NaN are empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return " ".join(value.splitlines())  # a row is a line, or a torn one could not be told from a whole one
    if isinstance(value, numbers.Integral):
        return repr(int(value))
    number = float(value)
    return "" if math.isnan(number) else repr(number)


def _value(cell: str) -> float | str:
    if not cell:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return cell
