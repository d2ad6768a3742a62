"""What a sweep is, and the jobs that it comes down to."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from maxent_rl import envs as environments
from maxent_rl.agents.base import Agent, check_kind
from maxent_rl.agents.registry import AGENTS, agent_class, agent_name
from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.runs.config import RunConfig, run_folder
from maxent_rl.runs.values import parse_value, value_text
from maxent_rl.seeds.variants import can_vary, variant_agents
from maxent_rl.settings import Settings, check_settings, flag, unknown_setting
from maxent_rl.usage import refuse_unused

T = TypeVar("T")

# Settings of a run that the sweep itself decides, and those that are not a job's own.
_SWEEPS_OWN = ("agent", "env", "seed", "num_seeds", "name", "output_dir", "variants", "wandb")
_LONGEST_NAME = 100


@dataclasses.dataclass(frozen=True)
class Sweep(Settings):
    """A study: every agent on every environment with every combination of values.

    Attributes:
      run: settings of all jobs; the sweep sets `agent`, `env`, `name` and `variants` of each.
      agents: names of agents, or agents with hyper-parameters of one's own; registered ones, as jobs are processes.
      envs: names of environments.
      values: for each setting or hyper-parameter its values, typed or as text ("1e-3"); one value holds for all jobs.
      name: of the sweep's folder `output_dir/name`; None for one that follows from the settings.
      max_seeds_per_job: more seeds than this are split among jobs.
      max_variants_per_job: more combinations of numbers than this are split among jobs.
    """

    run: RunConfig
    agents: tuple[Any, ...] = ("sac",)
    envs: tuple[str, ...] = ("HalfCheetah",)
    values: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    name: str | None = None
    max_seeds_per_job: int | None = None
    max_variants_per_job: int | None = None

    def __post_init__(self) -> None:
        """Takes a single name or value for a tuple of one."""
        for name in ("agents", "envs"):
            given = getattr(self, name)
            object.__setattr__(self, name, given if isinstance(given, (tuple, list)) else (given,))
        values = {name: value if _is_several(value) else (value,) for name, value in self.values.items()}
        object.__setattr__(self, "values", values)


def _is_several(value: Any) -> bool:
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One run of a sweep: what one process does.

    Attributes:
      run: its settings; `output_dir` is the sweep's folder.
      agent: its hyper-parameters.
    """

    run: RunConfig
    agent: Any

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return run_folder(self.run, str(self.run.name))

    @property
    def name(self) -> str:
        """The run's folder within the sweep's: ENV/AGENT/NAME."""
        return self.folder.relative_to(self.run.output_dir).as_posix()


def expand(sweep: Sweep) -> tuple[Path, list[Job]]:
    """Lays a sweep out.

    Numeric hyper-parameters with several values become variants within a job, as do the seeds. Structural ones, those of
    the schedule of updates, and settings of the run become jobs of their own, one for each value.

    Returns:
      The sweep's folder and its jobs, in an order and with names that follow from the settings alone.

    Raises:
      UnknownNameError: an agent, environment, setting or choice that does not exist.
      InvalidSettingError: a value that cannot work, or a setting that one of the agents lacks.
    """
    for name, bound in (
        ("max_seeds_per_job", sweep.max_seeds_per_job),
        ("max_variants_per_job", sweep.max_variants_per_job),
    ):
        if bound is not None and bound < 1:
            raise InvalidSettingError(f"{flag(name)} must be at least 1, got {bound}.")
    if not isinstance(sweep.run, RunConfig):
        raise InvalidSettingError(f"Sweep(run=...) takes a RunConfig, got {sweep.run!r}.")
    dataclasses.replace(sweep.run, name=sweep.name).check()
    agents = [agent_class(agent)() if isinstance(agent, str) else agent for agent in sweep.agents]
    for agent in agents:
        check_kind(agent)
    named = [given if isinstance(given, str) else agent_name(given) for given in sweep.agents]
    names = _unique("--agents", named)
    envs = _unique("--envs", [environments.canonical_name(env) for env in sweep.envs])
    for name in names:
        if name not in AGENTS:
            raise unknown_name(
                "agent", name, AGENTS, "Jobs are processes of their own: only registered agents can be swept."
            )
    _check_names(sweep.values, names, agents)
    jobs = [
        job
        for env, (name, agent) in itertools.product(envs, zip(names, agents, strict=True))
        for job in _jobs(sweep, dataclasses.replace(sweep.run, agent=name, env=env), agent)
    ]
    folder = Path(sweep.run.output_dir) / (sweep.name or _default_name(names, envs, jobs))
    jobs = [Job(dataclasses.replace(job.run, output_dir=str(folder)), job.agent) for job in jobs]
    for job in jobs:
        job.run.check()
        for agent in variant_agents(job.agent, job.run.variants):
            check_settings(agent)
    # A value without effect in some jobs only repeats them; one without effect in all would be a study of nothing.
    combinations = [(job.run, agent) for job in jobs for agent in variant_agents(job.agent, job.run.variants)]
    refuse_unused(sweep.values, combinations)
    return folder, jobs


def _check_names(values: Mapping[str, Sequence[Any]], names: Sequence[str], agents: Sequence[Any]) -> None:
    of_run = {field.name for field in dataclasses.fields(RunConfig)}
    of_agents = [{field.name for field in dataclasses.fields(agent)} for agent in agents]
    for name in values:
        if name in _SWEEPS_OWN:
            raise InvalidSettingError(f"{flag(name)} cannot be swept by --set: give it as a flag of its own.")
        if name in of_run:
            continue
        having = [agent for agent, fields in zip(names, of_agents, strict=True) if name in fields]
        if not having:
            raise unknown_setting("setting", name, (of_run - set(_SWEEPS_OWN)).union(*of_agents))
        lacking = [agent for agent in names if agent not in having]
        if lacking:
            raise InvalidSettingError(
                f"{', '.join(lacking)} has no {flag(name)}, only {', '.join(having)}: sweep them one after the other."
            )


@dataclasses.dataclass(frozen=True)
class _Choice:
    """One alternative for a setting: a fixed value, or numbers that vary within a job."""

    fixed: Any = None
    varying: tuple[float, ...] = ()


def _jobs(sweep: Sweep, run: RunConfig, agent: Agent[Any]) -> Iterator[Job]:
    choices = {name: _choices(name, values, agent) for name, values in sweep.values.items()}
    for combination in itertools.product(*choices.values()):
        chosen = dict(zip(choices, combination, strict=True))
        fixed = {name: choice.fixed for name, choice in chosen.items() if not choice.varying}
        label = [f"{name}={value_text(value)}" for name, value in fixed.items() if len(sweep.values[name]) > 1]
        varying = {name: choice.varying for name, choice in chosen.items() if choice.varying}
        variants = list(itertools.product(*varying.values()))
        for first, chunk in _chunks(variants, sweep.max_variants_per_job):
            part, numbers = _variants(list(varying), chunk)
            whole = len(chunk) == len(variants)
            if numbers:
                more = [] if whole else [f"variants{first}-{first + len(chunk) - 1}"]
            else:
                more = [f"{name}={value_text(value)}" for name, value in part.items()]
            for _, seeds in _chunks(run.seeds, sweep.max_seeds_per_job):
                yield _job(run, agent, fixed | part, numbers, seeds, [*label, *more])


def _variants(
    names: list[str], chunk: Sequence[tuple[float, ...]]
) -> tuple[dict[str, float], dict[str, tuple[float, ...]]]:
    """(fixed values, varying ones): a single variant is an ordinary run."""
    if len(chunk) == 1:
        return dict(zip(names, chunk[0], strict=True)), {}
    return {}, dict(zip(names, zip(*chunk, strict=True), strict=True))


def _job(
    run: RunConfig,
    agent: Any,
    fixed: Mapping[str, Any],
    variants: dict[str, tuple[float, ...]],
    seeds: Sequence[int],
    label: list[str],
) -> Job:
    of_run = {field.name for field in dataclasses.fields(RunConfig)}
    label = [*label, f"seed{seeds[0]}" if len(seeds) == 1 else f"seeds{seeds[0]}-{seeds[-1]}"]
    run = dataclasses.replace(
        run,
        name=_short(",".join(label)),
        seed=seeds[0],
        num_seeds=len(seeds),
        variants=variants,
        **{name: value for name, value in fixed.items() if name in of_run},
    )
    return Job(run, dataclasses.replace(agent, **{name: value for name, value in fixed.items() if name not in of_run}))


def _choices(name: str, values: Sequence[Any], agent: Agent[Any]) -> list[_Choice]:
    owner = RunConfig if name in {field.name for field in dataclasses.fields(RunConfig)} else type(agent)
    hint = typing.get_type_hints(owner, include_extras=True)[name]
    parsed = [parse_value(name, value, hint) if isinstance(value, str) else value for value in values]
    if not parsed:
        raise InvalidSettingError(f"{flag(name)} needs at least one value.")
    _unique(flag(name), [value_text(value) for value in parsed])
    numbers = [value for value in parsed if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if owner is RunConfig or name not in can_vary(agent) or len(numbers) < 2:
        return [_Choice(fixed=value) for value in parsed]
    others = [_Choice(fixed=value) for value in parsed if value not in numbers]  # None: another program
    return [*others, _Choice(varying=tuple(numbers))]


def _chunks(values: Sequence[T], most: int | None) -> Iterator[tuple[int, Sequence[T]]]:
    size = most or len(values)
    for first in range(0, len(values), size):
        yield first, values[first : first + size]


def _unique(what: str, values: Sequence[str]) -> Sequence[str]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise InvalidSettingError(f"{what} names {twice[0]} twice.")
    if not values:
        raise InvalidSettingError(f"{what} needs at least one name.")
    return values


def _short(name: str) -> str:
    """The name, or its beginning and a digest of the whole, so that it fits into a folder's name."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9]}-{_digest(name)[:8]}"


def _default_name(agents: Iterable[str], envs: Iterable[str], jobs: Sequence[Job]) -> str:
    """A name that follows from the settings, so that the same command finds the same sweep again."""
    settings = [
        {"run": dataclasses.asdict(job.run) | {"output_dir": None}, "agent": dataclasses.asdict(job.agent)}
        for job in jobs
    ]
    readable = "-".join([*agents, *(env.replace("/", "-") for env in envs)])
    return f"{readable[:60]}-{_digest(json.dumps(settings, sort_keys=True))[:6]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
