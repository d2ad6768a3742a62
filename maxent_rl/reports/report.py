"""A report on runs, from their folders to files: a page, tables and figures."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

from maxent_rl.reports.figures import Picture, draw_all
from maxent_rl.reports.methods import make_study
from maxent_rl.reports.page import make_page
from maxent_rl.reports.results import Options, Results, compute, read_references
from maxent_rl.reports.runs import LeftOut, find_runs
from maxent_rl.reports.tables import (
    aggregate_table,
    aggregates_csv,
    improvement_table,
    markdown_text,
    score_table,
    scores_csv,
    to_markdown,
)
from maxent_rl.storage.files import storage_errors

_DOTS_PER_INCH = 200


@dataclasses.dataclass(frozen=True)
class Report:
    """What a report is.

    Attributes:
      results: all numbers.
      left_out: folders and seeds that are not counted, and why.
      markdown: the tables.
      page: the HTML page.
      files: all files, the page first.
    """

    results: Results
    left_out: tuple[LeftOut, ...]
    markdown: str
    page: Path
    files: tuple[Path, ...]


def write_report(
    paths: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    options: Options | None = None,
    normalize_by: str | Path | None = None,
) -> Report:
    """Reads all runs below some folders, compares them, and writes the report.

    Args:
      paths: folders of runs, or folders that hold such ones at any depth; at least one.
      output: the report's folder; None for `report/` in the one path, or in the folder that holds all of several paths.
        Files of an earlier report there are replaced.
      options: what is asked for; None for the defaults.
      normalize_by: JSON file with the returns that count as 0 and 1 for each environment; None for the lowest and the
        highest evaluation of the counted runs.

    Returns:
      The numbers, and the files that were written.

    Raises:
      CheckpointError: a path does not exist, or there is no run with an evaluation.
      UnknownNameError: no run has such a metric.
      InvalidSettingError: references that lack an environment, a step that no run has reached.
      StorageError: the files cannot be written.
    """
    options = options or Options()
    runs, skipped = find_runs(paths, options.metric)
    study = make_study(runs)
    results = compute(study, options, None if normalize_by is None else read_references(Path(normalize_by)))
    left_out = (*skipped, *study.left_out)
    pictures = draw_all(results)
    markdown = _markdown(results, left_out)
    folder = _default_folder(paths) if output is None else Path(output)
    contents = {
        "report.html": make_page(results, pictures, runs, left_out).encode(),
        "table.md": markdown.encode(),
        "table.csv": scores_csv(results).encode(),
        "aggregates.csv": aggregates_csv(results).encode(),
        **{f"figures/{picture.name}.png": _png(picture) for picture in pictures},
    }
    with storage_errors(f"make the folder {folder / 'figures'}"):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _write(folder / name, content)
    return Report(results, left_out, markdown, folder / "report.html", tuple(folder / name for name in contents))


def _markdown(results: Results, left_out: Sequence[LeftOut]) -> str:
    tables = (score_table(results), aggregate_table(results), improvement_table(results))
    parts = [to_markdown(table) for table in tables if table is not None]
    notes = [*results.warnings, *(f"Left out: {entry.folder}: {entry.reason}" for entry in left_out)]
    if notes:
        parts.append("".join(f"- {markdown_text(note)}\n" for note in notes))
    return "\n".join(parts)


def _default_folder(paths: Sequence[str | Path]) -> Path:
    if len(paths) == 1:
        return Path(paths[0]) / "report"
    common = Path(os.path.commonpath([Path(path).resolve() for path in paths]))
    here = Path.cwd()
    return (common.relative_to(here) if common.is_relative_to(here) else common) / "report"


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Writes the whole file so that no reader meets half of it."""
    with storage_errors(f"write {path}"):
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        os.replace(partial, path)
