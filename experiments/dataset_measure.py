"""Says what a data set is worth: `python experiments/dataset.py measure PATH --reference REPLAY`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table

from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.flags import with_rules
from maxent_rl.settings import Count, Finite, Fraction, NonNegative, setting
from maxent_rl.usage import given

if TYPE_CHECKING:
    from maxent_rl.data.measures.quality import Quality


@with_rules
@dataclasses.dataclass(frozen=True)
class Measure:
    """Measures a data set: trajectory quality (TQ), state-action coverage (SACo), and which methods they favour."""

    path: tyro.conf.Positional[Path]
    """The data set."""
    reference: Path | None = None
    """Data set to compare coverage with: all transitions of the online training that the data comes from."""
    random_return: Finite | None = None
    """Mean return of a random policy; None for what --random or the data set itself says."""
    expert_return: Finite | None = None
    """Return of an expert, such as the best evaluation of the online training; None for what the data set says."""
    random: Path | None = None
    """Data set of a random policy, for its mean return."""
    edges: Count = 100
    """Edges of each coordinate's bins."""
    discount: Fraction = 1.0
    """Factor of later rewards in returns; the paper's tables have 1."""
    draws: Count = setting(5, used_when=given("reference"))
    """Random subsets of the larger data set, where the reference is of another size."""
    seed: NonNegative = setting(0, used_when=given("reference"))
    """Decides the subsets."""
    figure: Path | None = None
    """Picture of the plane of TQ and SACo to write (.png)."""
    json: Path | None = None
    """File to write all numbers to, as JSON."""


def measure_dataset(command: Measure) -> int:
    """Measures a data set, says what was found, and writes what was asked for; 1 where trajectory quality is missing."""
    from maxent_rl.data.datasets.passes import open_source
    from maxent_rl.data.measures.quality import measure
    from maxent_rl.data.measures.returns import record_episodes

    if command.random is not None and command.random_return is not None:
        raise InvalidSettingError(
            "--random and --random-return both say what a random policy reaches: pass one of them."
        )
    if command.figure is not None and command.figure.suffix != ".png":
        raise InvalidSettingError(f"--figure must end in .png, got {command.figure}.")
    # On standard error, so that standard output holds the result alone; shows nothing where that is no terminal.
    with Console(stderr=True).status("Measuring"):
        random_return = command.random_return
        if command.random is not None:
            random_return = record_episodes(open_source(command.random), command.discount).mean_return
        quality = measure(
            open_source(command.path),
            None if command.reference is None else open_source(command.reference),
            random_return=random_return,
            expert_return=command.expert_return,
            edges=command.edges,
            discount=command.discount,
            draws=command.draws,
            seed=command.seed,
        )
    return _show(command, quality)


def _show(command: Measure, quality: Quality) -> int:
    from maxent_rl.pictures.style import save
    from maxent_rl.reports.data_quality import as_json, draw_plane, rows
    from maxent_rl.storage.files import storage_errors

    table = Table(title=str(command.path), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("what it is")
    for row in rows(quality):
        table.add_row(*row)
    Console().print(table, markup=False)
    print(quality.verdict)
    lacking = [note for note in quality.notes if note.startswith("TQ")]
    for note in quality.notes:
        print(f"error: {note}" if note in lacking else f"note: {note}", file=sys.stderr)
    if command.json is not None:
        with storage_errors(f"write {command.json}"):
            command.json.parent.mkdir(parents=True, exist_ok=True)
            command.json.write_text(json.dumps(as_json(quality), indent=1) + "\n")
    if command.figure is not None:
        figure = draw_plane({command.path.stem: (quality.tq, quality.saco)}, quality.env or "TQ and SACo")
        save(figure, command.figure)
        print(command.figure)
    return 1 if lacking else 0
