"""A study that can be stopped and continued: units of work, each an environment and a contender with all its seeds.

After every unit the results are written. A unit whose runs stand there already, measured with the very same settings, is not
measured again; one whose settings have changed is, and its new runs take the place of the old ones.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import BUSY, BenchmarkError, busy_share, hardware, new_result, show_number, summary, write_json
from rich.console import Console

Run = dict[str, Any]
Result = dict[str, Any]
_SAMPLE_SECONDS = 1.0


class Unit(NamedTuple):
    """One program: a contender on an environment, all seeds at once.

    Attributes:
      env: the environment's name.
      contender: the contender's name.
      flags: of experiments/run.py.
      measured: what else decides the numbers, such as how many episodes are sampled.
    """

    env: str
    contender: str
    flags: tuple[str, ...]
    measured: Mapping[str, Any]

    @property
    def title(self) -> str:
        """How the progress names it."""
        return f"{self.contender} on {self.env}"

    @property
    def settings(self) -> dict[str, Any]:
        """All that must be the same for a run to count as one of this unit."""
        return {"flags": shlex.join(self.flags), **self.measured}


class Seed(NamedTuple):
    """What a unit gave for one seed: numbers by metric, and whatever else is worth keeping, as JSON."""

    seed: int
    values: dict[str, float]
    more: dict[str, Any]


class Measured(NamedTuple):
    """What a unit gave: one entry per seed, and the versions of what ran."""

    seeds: list[Seed]
    versions: dict[str, str]


def study(
    name: str,
    units: Sequence[Unit],
    measure: Callable[[Unit], Measured],
    options: Any,
    output: Path,
    fresh: bool = False,
) -> Result:
    """Measures the units that are not done yet.

    Args:
      name: results go to `output`/NAME.json.
      units: in the order in which they are measured.
      measure: measures one of them; `BenchmarkError` is written down, and the others go on.
      options: flags (a dataclass), which are recorded.
      output: folder of the results.
      fresh: forget what was measured before.

    Returns:
      The results as written; `complete` says whether every unit is done.
    """
    console, path = Console(stderr=True, soft_wrap=True), output / f"{name}.json"
    result = new_result(name, options)
    if path.exists() and not fresh:
        before = json.loads(path.read_text())
        result["runs"], result["versions"] = before["runs"], before["versions"]
    try:
        for index, unit in enumerate(units):
            progress = f"[{index + 1}/{len(units)}] {unit.title}"
            if is_done(unit, result["runs"]):
                console.print(f"{progress}: done before", highlight=False, markup=False)
                continue
            _measure(unit, measure, result, console, progress)
            _finish(result, units, path)
    except KeyboardInterrupt:
        console.print("Stopped; what is done is kept, and the same command goes on.")
    _finish(result, units, path)
    console.print(f"Written: {path}")
    return result


def refuse_unknown(kind: str, wanted: Sequence[str], known: Iterable[str]) -> None:
    """Refuses names that there are not.

    Raises:
      BenchmarkError: naming those that there are.
    """
    known = list(known)
    for name in wanted:
        if name not in known:
            raise BenchmarkError(f"Unknown {kind} {name!r}; there are: {', '.join(known)}.")


def is_done(unit: Unit, runs: Sequence[Run]) -> bool:
    """Whether the unit's runs stand there, with the same settings and without an error."""
    found = runs_of(runs, unit.env, unit.contender)
    return bool(found) and all("error" not in run and run["settings"] == unit.settings for run in found)


def runs_of(runs: Sequence[Run], env: str, contender: str) -> list[Run]:
    """The runs of a contender on an environment."""
    return [run for run in runs if (run["env"], run["contender"]) == (env, contender)]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error; that of a single seed is not known (NaN)."""
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), float(error)


def show_mean(values: Sequence[float]) -> str:
    """`mean ± standard error`, or the number alone where there is one; empty for none."""
    if not values:
        return ""
    mean, error = mean_and_error(values)
    return show_number(mean) if np.isnan(error) else f"{show_number(mean)} ± {show_number(error)}"


def _measure(unit: Unit, measure: Callable[[Unit], Measured], result: Result, console: Console, progress: str) -> None:
    load, busy = os.getloadavg()[0], busy_share(_SAMPLE_SECONDS)
    if busy > BUSY:
        console.print(f"Warning: other processes use {busy:.0%} of the machine; the speeds will not be its own.")
    console.print(f"{progress} ...", highlight=False, markup=False)
    began = time.monotonic()
    found: Run = {"env": unit.env, "contender": unit.contender, "settings": unit.settings}
    found |= {"machine": hardware()["summary"], "load_average": load, "busy_before": round(busy, 3)}
    others = [run for run in result["runs"] if (run["env"], run["contender"]) != (unit.env, unit.contender)]
    try:
        seeds, versions = measure(unit)
    except BenchmarkError as error:
        result["runs"] = [*others, found | {"repeat": 0, "error": str(error)}]
        console.print(f"{progress}: failed: {error}", highlight=False, markup=False)
        return
    result["runs"] = [*others, *(found | {"repeat": each.seed, "values": each.values} | each.more for each in seeds)]
    result["versions"][unit.contender] = versions
    shown = [f"{metric} {show_mean([each.values[metric] for each in seeds])}" for metric in list(seeds[0].values)[:3]]
    console.print(f"{progress}: {', '.join(shown)} ({time.monotonic() - began:.0f} s)", highlight=False, markup=False)


def _finish(result: Result, units: Sequence[Unit], path: Path) -> None:
    envs = dict.fromkeys(run["env"] for run in result["runs"])
    result["summary"] = {env: summary([run for run in result["runs"] if run["env"] == env]) for env in envs}
    result["complete"] = all(is_done(unit, result["runs"]) for unit in units)
    write_json(path, result)
