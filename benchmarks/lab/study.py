"""A study: a question asked of many programs, measured until all of them are done, and shown in a README of its own.

The folder of a study holds

    __main__.py    STUDY = Study(...), which is also its command line
    setting.py     the plan: flags, and the units that follow from them
    measure.py     measures a unit
    tables.py, figure.py    show what was measured
    README.md      what it asks, how it was measured, `## Results` as rendered, and what they say
    results/       PART.json and the figures

    python -m benchmarks.studies.NAME run [PART]    # measures what is not done yet; --help lists the flags
    python -m benchmarks.studies.NAME render        # tables into README.md, figures into results/

A unit is an environment and a contender with all its seeds. After every unit the results are written. A unit whose runs stand
there already, measured with the very same settings, is not measured again; one whose settings have changed is, and its new
runs take the place of the old ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, Union

import tyro
from rich.console import Console

from benchmarks.lab.measure import (
    BUSY,
    ROOT,
    BenchmarkError,
    busy_share,
    exit_status,
    hardware,
    new_result,
    summary,
    write_json,
)
from benchmarks.lab.publish import publish
from benchmarks.lab.statistics import show_mean

Run = dict[str, Any]
Result = dict[str, Any]
Results = Mapping[str, Result]
"""By part, what has been measured."""
WORK = "work"
"""Folder beside the results of what is needed on the way: interrupted runs, data, teachers."""
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
        """All that must be the same for a run to count as one of this unit, as JSON has it."""
        found: dict[str, Any] = json.loads(json.dumps({"flags": shlex.join(self.flags), **self.measured}))
        return found


class Seed(NamedTuple):
    """What a unit gave for one seed: numbers by metric, and whatever else is worth keeping, as JSON."""

    seed: int
    values: dict[str, float]
    more: dict[str, Any]


class Measured(NamedTuple):
    """What a unit gave: one entry per seed, and the versions of what ran."""

    seeds: list[Seed]
    versions: dict[str, str]


class Plan(Protocol):
    """A part of a study: a frozen dataclass, whose fields are the flags of `run`.

    Attributes:
      part: its name; results go to results/PART.json.
    """

    part: ClassVar[str]

    def units(self) -> list[Unit]:
        """What is to be measured, in this order.

        Raises:
          BenchmarkError: a name that there is not.
        """


AnyPlan = TypeVar("AnyPlan")


@dataclasses.dataclass(frozen=True)
class Going(Generic[AnyPlan]):
    """Measures what is not done yet. It can be stopped at any time: the same command goes on."""

    plan: Annotated[AnyPlan, tyro.conf.arg(name="")]
    fresh: bool = False
    """Forget what was measured before."""
    output: Path | None = None
    """Folder of the results; none for the study's own."""


@dataclasses.dataclass(frozen=True)
class Parted(Generic[AnyPlan]):
    """Measures what is not done yet, of one part. It can be stopped at any time: the same command goes on."""

    part: AnyPlan
    """What is measured."""


@dataclasses.dataclass(frozen=True)
class Showing:
    """Writes the tables into the README and draws the figures, from what has been measured."""

    results: Path | None = None
    """Folder with the results, in which figures are drawn; none for the study's own. Of others the tables are only printed."""
    readme: Path | None = None
    """File with a section `## Results` for the tables; none for the study's README, if the results are the study's own."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A study and its command line.

    Attributes:
      name: its folder in benchmarks/studies.
      units: what can be measured: a plan for each of its parts.
      measure: measures a unit, given the plan that it is of and a folder for what is needed on the way; `BenchmarkError` is
        written down, and the other units go on.
      tables: of the parts that have been measured, as Markdown.
      figures: draws them into the folder of the results: files by what they show, for those who cannot see it.
      about: what it asks, for `--help`.
    """

    name: str
    units: tuple[type[Plan], ...]
    measure: Callable[[Unit, Any, Path], Measured]
    tables: Callable[[Results], str]
    figures: Callable[[Results, Path], Mapping[str, Path]]
    about: str | None = None

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return ROOT / "benchmarks" / "studies" / self.name

    @property
    def results(self) -> Path:
        """Folder of what was measured."""
        return self.folder / "results"

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Measures or renders as the command line says; returns the exit status."""
        going: Any = Going[self.units[0]]
        if len(self.units) > 1:  # each part is a subcommand of `run`
            going = Parted[Union[tuple(_named(Going[plan], plan.part, plan.__doc__) for plan in self.units)]]  # noqa: UP007
        command: Any = tyro.cli(
            Union[_named(going, "run"), _named(Showing, "render")],  # noqa: UP007  # made at run time
            args=arguments,
            prog=f"python -m benchmarks.studies.{self.name}",
            description=self.about,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
        if isinstance(command, Showing):
            self.render(command.results, command.readme)
            return 0
        command = command.part if isinstance(command, Parted) else command
        return exit_status(self.run(command.plan, command.output, command.fresh))

    def run(self, plan: Plan, output: Path | None = None, fresh: bool = False) -> Result:
        """Measures the units of a plan that are not done yet.

        Args:
          plan: one of its parts.
          output: folder of the results; none for the study's own.
          fresh: forget what was measured before.

        Returns:
          The results as written; `complete` says whether every unit is done.

        Raises:
          BenchmarkError: a name that there is not.
        """
        path = (output or self.results).absolute() / f"{plan.part}.json"
        name = self.name if plan.part == self.name else f"{self.name}-{plan.part}"
        result = new_result(name, plan)
        return measure_units(
            result, plan.units(), lambda unit: self.measure(unit, plan, path.parent / WORK), path, fresh
        )

    def load(self, results: Path | None = None) -> dict[str, Result]:
        """What has been measured, by part.

        Raises:
          BenchmarkError: nothing has.
        """
        folder = results or self.results
        paths = {plan.part: folder / f"{plan.part}.json" for plan in self.units}
        found = {part: json.loads(path.read_text(encoding="utf-8")) for part, path in paths.items() if path.exists()}
        if not found:
            raise BenchmarkError(f"There are no results in {folder}: run the study first.")
        for part in paths:
            if part not in found:
                print(f"Left out, not measured yet: {part}", file=sys.stderr)
        return found

    def render(self, results: Path | None = None, readme: Path | None = None) -> str:
        """Draws the figures, and writes and returns the tables.

        Args:
          results: folder of the results, in which figures are drawn; none for the study's own.
          readme: into whose section `## Results` the tables go; none for the study's own, if the results are.

        Raises:
          BenchmarkError: nothing has been measured, or the README has no such section.
        """
        folder = results or self.results
        found = self.load(folder)
        text = self.tables(found)
        pictures = self.figures(found, folder)
        links = [f"![{shows}]({path.relative_to(folder.parent).as_posix()})" for shows, path in pictures.items()]
        text = "\n\n".join([text, *links])
        print(text)
        for path in pictures.values():
            print(f"Written: {path}", file=sys.stderr)
        if readme is None and folder.resolve() == self.results.resolve():
            readme = self.folder / "README.md"
        if readme is not None:
            publish(readme, text)
            print(f"Written: {readme}", file=sys.stderr)
        return text


def _named(kind: Any, name: str, description: str | None = None) -> Any:
    """A kind as a subcommand."""
    return Annotated[kind, tyro.conf.subcommand(name, description=description)]


def no_figures(results: Results, folder: Path) -> dict[str, Path]:
    """For studies whose tables say all."""
    return {}


def measure_units(
    result: Result, units: Sequence[Unit], measure: Callable[[Unit], Measured], path: Path, fresh: bool = False
) -> Result:
    """Measures the units that are not done yet.

    Args:
      result: a new one, without runs.
      units: in the order in which they are measured.
      measure: measures one of them; `BenchmarkError` is written down, and the others go on.
      path: file of the results.
      fresh: forget what was measured before.

    Returns:
      The results as written; `complete` says whether every unit is done.
    """
    console, before = Console(stderr=True, soft_wrap=True), None
    if path.exists() and not fresh:
        before = json.loads(path.read_text(encoding="utf-8"))
        result["runs"], result["versions"] = list(before["runs"]), dict(before["versions"])
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
    if before is not None and result["runs"] == before["runs"] and _is_complete(result, units) == before["complete"]:
        return before  # nothing is new
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
    result["complete"] = _is_complete(result, units)
    write_json(path, result)


def _is_complete(result: Result, units: Sequence[Unit]) -> bool:
    return all(is_done(unit, result["runs"]) for unit in units)
