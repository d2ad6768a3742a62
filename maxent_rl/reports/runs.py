"""Reading runs: the folders below some paths that hold a run, and what each seed of them reached.

Runs that still train and runs that were killed are read like any other: half a line at the end of a table is left out, and
what is missing is said, never made up.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.errors import CheckpointError, MaxentRLError, unknown_name
from maxent_rl.reports.statistics import Floats
from maxent_rl.runs.config import RunConfig, read_config
from maxent_rl.runs.records import read_csv
from maxent_rl.storage.reading import refuse_damage

Rows: TypeAlias = list[dict[str, float | str]]

_KEYS = ("step", "seed")
# Settings of a run that do not decide what one seed learns, or that have a place of their own in a report.
_NO_METHOD = {
    *("agent", "env", "backend", "seed", "num_seeds", "variants", "total_steps", "eval_every", "eval_episodes"),
    *("checkpoint_every", "keep_checkpoints", "log_every", "output_dir", "name", "device", "batch_devices", "wandb"),
}


class LeftOut(NamedTuple):
    """A folder, or a part of one, that a report does not count."""

    folder: Path
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """One seed of a run, and of one variant where hyper-parameters vary within the run.

    Attributes:
      run: the run it belongs to.
      seed: its seed.
      settings: hyper-parameters, and the run's settings that decide what is learnt.
      steps: [evaluation] environment steps, increasing; at least one.
      values: [evaluation] the metric of each, finite or infinite.
      seconds: [evaluation] wall-clock seconds since the run's start, NaN where the run recorded none. All members of a run
        train side by side: they have the same seconds.
    """

    run: Run
    seed: int
    settings: Mapping[str, Any]
    steps: Floats
    values: Floats
    seconds: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run's folder, read.

    Attributes:
      folder: where it is.
      config: config.json.
      metric: the column of eval.csv that was read.
      evaluations: the rows of eval.csv.
      metrics: the rows of metrics.csv; none where it cannot be read.
    """

    folder: Path
    config: Mapping[str, Any]
    metric: str
    evaluations: Rows
    metrics: Rows

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return str(self.config["run"].get("agent", "unknown agent"))

    @property
    def env(self) -> str:
        """Name of the environment; other physics make another environment."""
        name, backend = self.config["run"].get("env", "unknown environment"), self.config["run"].get("backend")
        return str(name) if backend is None else f"{name} ({backend})"

    @property
    def total_steps(self) -> float:
        """Environment steps that each seed was to take; infinite where config.json does not say."""
        return _number(self.config["run"].get("total_steps"), math.inf)

    @property
    def last_step(self) -> float:
        """Environment steps that all members have reached with an evaluation; 0 where there is none."""
        return min((float(member.steps[-1]) for member in self.members), default=0.0)

    @property
    def finished(self) -> bool:
        """Whether the last evaluation is that of the run's end."""
        return self.last_step >= self.total_steps

    @property
    def seconds(self) -> float:
        """Wall-clock seconds until the last line of metrics.csv; NaN where it has none."""
        return self._clock[1][-1] if len(self._clock[1]) > 1 else math.nan

    @property
    def steps_per_second(self) -> float:
        """Environment steps of all members together in a second, with compiling, evaluating and saving."""
        return float(self._clock[0][-1]) * len(self.members) / self.seconds if self.seconds > 0 else math.nan

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All members that have an evaluation, in the order in which the table has them."""
        own = self.config["agent"]
        varying = [name for name in (self.evaluations[0] if self.evaluations else ()) if name in own]
        points: dict[tuple[float, ...], dict[float, float]] = {}
        for row in self.evaluations:
            step, seed, value = (_number(row.get(name), math.nan) for name in (*_KEYS, self.metric))
            if math.isfinite(step) and math.isfinite(seed) and not math.isnan(value):
                key = (seed, *(_number(row[name], math.nan) for name in varying))
                points.setdefault(key, {})[step] = value
        return tuple(
            self._member(int(seed), dict(zip(varying, values, strict=True)), curve)
            for (seed, *values), curve in points.items()
        )

    def _member(self, seed: int, variant: dict[str, float], curve: dict[float, float]) -> Member:
        steps = np.array(sorted(curve))
        settings = self._settings | {name: value for name, value in variant.items() if not math.isnan(value)}
        seconds = np.interp(steps, *self._clock, right=math.nan) if len(self._clock[0]) > 1 else steps * math.nan
        return Member(self, seed, settings, steps, np.array([curve[step] for step in steps]), seconds)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """An older run does not name a setting that came later: it had what is the default now."""
        agent = agent_class(self.agent) if self.agent in AGENTS else None
        found = _defaults(RunConfig) | dict(self.config["run"])
        found = {name: value for name, value in found.items() if name not in _NO_METHOD}
        return found | (_defaults(agent) if agent else {}) | dict(self.config["agent"])

    @cached_property
    def _clock(self) -> tuple[Floats, Floats]:
        """Environment steps and seconds of metrics.csv, from the start on."""
        times = {0.0: 0.0}
        for row in self.metrics:
            step, seconds = (_number(row.get(name), math.nan) for name in ("step", "seconds"))
            if math.isfinite(step) and math.isfinite(seconds):
                times[step] = seconds
        steps = sorted(times)
        return np.array(steps), np.array([times[step] for step in steps])


def find_runs(paths: Sequence[str | Path], metric: str = "return_mean") -> tuple[list[Run], list[LeftOut]]:
    """Finds and reads all runs in and below some folders.

    Args:
      paths: folders of runs, or folders that hold such ones at any depth; a run that is named twice counts once.
      metric: a column of eval.csv with one number per evaluation.

    Returns:
      The runs with at least one evaluation in the order of their paths, and what was left out, with the reason.

    Raises:
      CheckpointError: a path does not exist, or no run with an evaluation is found.
      UnknownNameError: no run has such a metric; naming the nearest ones.
    """
    folders, left_out = _find_folders([Path(path) for path in paths])
    runs, columns = [], set[str]()
    for folder in folders:
        try:
            with refuse_damage(folder, CheckpointError):  # one of many stops none of the others
                run = _read(folder, metric)
        except MaxentRLError as error:
            left_out.append(LeftOut(folder, str(error)))
            continue
        measured = {name for row in run.evaluations for name, value in row.items() if isinstance(value, float)}
        columns |= measured - set(_KEYS) - set(run.config["agent"])
        if run.members:
            runs.append(run)
        elif run.evaluations and metric not in run.evaluations[0]:
            left_out.append(LeftOut(folder, f"its eval.csv has no column {metric!r}."))
        else:
            left_out.append(LeftOut(folder, "it has no evaluation yet."))
    if not runs:
        if columns and metric not in columns:
            raise unknown_name("metric", metric, columns)
        raise CheckpointError(_nothing_found(paths, left_out))
    return runs, left_out


def _find_folders(paths: list[Path]) -> tuple[list[Path], list[LeftOut]]:
    """The folders that hold a config.json, without those inside a run, and what cannot be one."""
    found: dict[Path, Path] = {}
    left_out: list[LeftOut] = []

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(Path(error.filename), f"it cannot be read: {error.strerror}."))

    for path in paths:
        if not path.exists():
            raise CheckpointError(f"There is no folder {path}.")
        if path.is_file():
            left_out.append(LeftOut(path, "it is a file: name the run's folder, or one above it."))
            continue
        for name, subfolders, files in os.walk(path, onerror=unreadable):
            subfolders.sort()
            if "config.json" in files:
                found.setdefault(Path(name).resolve(), Path(name))
                if "eval.csv" in files or "metrics.csv" in files:
                    subfolders.clear()  # checkpoints and policies hold no runs
            elif "eval.csv" in files or "metrics.csv" in files:
                left_out.append(LeftOut(Path(name), "it holds tables but no config.json."))
    return list(found.values()), left_out


def _read(folder: Path, metric: str) -> Run:
    config = read_config(folder)
    if not isinstance(config["agent"], dict):
        raise CheckpointError("its config.json has no hyper-parameters under 'agent'.")
    try:
        metrics = read_csv(folder / "metrics.csv")
    except CheckpointError:
        metrics = []  # costs the report only the times
    table = folder / "eval.csv"
    run = Run(folder, config, metric, read_csv(table) if table.exists() else [], metrics)
    _ = run.members, run.total_steps  # so that what cannot be made of them is found here
    return run


def _nothing_found(paths: Sequence[str | Path], left_out: list[LeftOut]) -> str:
    where = ", ".join(map(str, paths))
    if not left_out:
        return f"No runs found below {where}: a run's folder holds config.json and eval.csv."
    folder, reason = left_out[0]
    more = f" ({len(left_out) - 1} more were left out)" if len(left_out) > 1 else ""
    return f"No run with an evaluation found below {where}; {folder} was left out: {reason.rstrip('.')}{more}."


def _defaults(kind: type[Any]) -> dict[str, Any]:
    return {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }


def _number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise
