"""A sweep's files: the manifest that says what it is, and beside each run's files the marks of its job.

`sweep.json` names all jobs with all settings; `finished.json` in a job's folder says that there is nothing left to do,
`failed.json` why it failed, and `attempt.json` which process works on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maxent_rl.errors import CheckpointError, InvalidSettingError
from maxent_rl.runs.config import config_from
from maxent_rl.runs.values import value_text
from maxent_rl.settings import check_settings, flag
from maxent_rl.storage.files import storage_errors, write_json
from maxent_rl.storage.lock import only_one as only_one_holds
from maxent_rl.storage.reading import read_json, refuse_damage
from maxent_rl.sweep.jobs import Job

_FORMAT = 1
MANIFEST, FINISHED, FAILED, ATTEMPT, STOP, LOG = (
    *("sweep.json", "finished.json", "failed.json", "attempt.json", "stop.json"),
    "log.txt",
)


def write_manifest(folder: Path, jobs: Sequence[Job]) -> None:
    """Writes what a sweep is, or makes sure that the folder holds this very sweep.

    Raises:
      InvalidSettingError: it holds one of the same name with other settings.
      CheckpointError: its manifest is damaged.
      StorageError: it cannot be written.
    """
    if (folder / MANIFEST).exists():
        _compare(folder, read_manifest(folder), jobs)
        return
    with storage_errors(f"make the folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / MANIFEST,
        {
            "format": _FORMAT,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "jobs": [
                {"name": job.name, "run": dataclasses.asdict(job.run), "agent": dataclasses.asdict(job.agent)}
                for job in jobs
            ],
        },
    )


def read_manifest(folder: Path) -> list[Job]:
    """Reads the jobs of a sweep, wherever its folder now lies.

    Raises:
      CheckpointError: there is no sweep, or its manifest is damaged or of another format.
    """
    path = folder / MANIFEST
    with refuse_damage(path, CheckpointError):
        try:
            manifest = read_json(path)
        except FileNotFoundError as error:
            raise CheckpointError(f"There is no sweep in {folder}: {MANIFEST} is missing.") from error
        if manifest["format"] != _FORMAT:
            raise CheckpointError(f"{path} has format {manifest['format']}, this version reads {_FORMAT}.")
        settings = [config_from(entry) for entry in manifest["jobs"]]
        jobs = [Job(dataclasses.replace(run, output_dir=str(folder)), agent) for run, agent in settings]
        for job in jobs:
            job.run.check()
            check_settings(job.agent)
            if ".." in Path(job.name).parts:
                raise ValueError(f"the folder of its job {job.name} lies outside of the sweep's")
    return jobs


def _compare(folder: Path, old: Sequence[Job], new: Sequence[Job]) -> None:
    advice = "start it with the settings it has, or choose another --name."
    names, wanted = [job.name for job in old], [job.name for job in new]
    if names != wanted:
        different = next(iter([*(set(names) ^ set(wanted)), "their order"]))
        raise InvalidSettingError(f"{folder} holds a sweep of other jobs (such as {different}): {advice}")
    for before, after in zip(old, new, strict=True):
        for mine, other in ((before.run, after.run), (before.agent, after.agent)):
            for field in dataclasses.fields(mine):
                had, has = getattr(mine, field.name), getattr(other, field.name)
                if had != has and field.name != "output_dir":
                    raise InvalidSettingError(
                        f"{folder} holds a sweep whose {flag(field.name)} is {_text(had)}, not {_text(has)}: {advice}"
                    )


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else value_text(value)


def read_mark(path: Path) -> dict[str, Any] | None:
    """Reads one of a job's marks; None where it is missing or cannot be read."""
    try:
        mark = read_json(path)
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


def is_finished(job: Job) -> bool:
    """Whether a job has nothing left to do."""
    mark = read_mark(job.folder / FINISHED)
    step = (mark or {}).get("step")
    return isinstance(step, int) and step >= job.run.total_steps


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Within the block no other process on this machine (on most shared file systems: on any) works on the sweep.

    Raises:
      StorageError: another one does, or the folder cannot be made.
    """
    with only_one_holds(folder / "sweep.lock", f"The sweep in {folder}"):
        yield
