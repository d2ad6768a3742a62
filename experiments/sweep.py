"""Trains many agents: `python experiments/sweep.py --agents sac --envs HalfCheetah Hopper --num-seeds 8`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any

import tyro

from maxent_rl.agents.registry import AGENTS, agent_class, run_defaults
from maxent_rl.errors import InvalidSettingError, run_command
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.flags import read_flags, with_rules
from maxent_rl.runs.presets import PRESETS, apply_preset
from maxent_rl.settings import ELSEWHERE, Count, NonNegative, Weight, setting
from maxent_rl.usage import given, not_given


@with_rules
@dataclasses.dataclass(frozen=True)
class Settings(RunConfig):
    """Settings of every run; what the sweep itself decides is no flag here."""

    agent: tyro.conf.Suppress[str] = RunConfig.agent
    env: tyro.conf.Suppress[str] = RunConfig.env
    variants: tyro.conf.Suppress[dict[str, tuple[float, ...]]] = dataclasses.field(default_factory=dict)
    name: str | None = None
    """Name of the sweep's folder OUTPUT_DIR/NAME; None for one that follows from the settings."""
    output_dir: str = RunConfig.output_dir
    """Folder under which the sweep's folder is made; with --ray-address on storage that all nodes share."""
    wandb: tyro.conf.Suppress[str | None] = None


@with_rules
@dataclasses.dataclass(frozen=True)
class Command:
    """Every agent on every environment with every combination of values, as jobs that can be stopped and started again."""

    settings: Settings
    agents: tuple[str, ...] = ("sac",)
    """Names of agents."""
    envs: tuple[str, ...] = ("HalfCheetah",)
    """Names of environments."""
    set: tyro.conf.UseAppendAction[tuple[Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=V1,V2")], ...]] = ()
    """Values of settings and hyper-parameters, such as learning-rate=1e-3,3e-4 batch-size=128,256 hidden-sizes=64x64."""
    preset: str | None = None
    """Settings in place of the defaults, as for run.py."""
    max_seeds_per_job: Count | None = None
    """Split more seeds than this among jobs; None trains all at once."""
    max_variants_per_job: Count | None = None
    """Split more combinations of numeric hyper-parameters than this among jobs; None trains all at once."""
    jobs: Count | None = setting(None, used_when=not_given("ray_address"))
    """Local processes at once; None for as many as the devices or cores can carry."""
    retries: NonNegative = 2
    """How often a job whose process died is tried again, from its last checkpoint."""
    ray_address: str | None = None
    """Ray cluster to run the jobs on: auto, HOST:PORT or ray://HOST:PORT (needs the sweep extra); None for this machine."""
    cpus_per_job: Count | None = None
    """Cores for each job; None for an even share of this machine's, or for one of the Ray cluster's."""
    gpus_per_job: Weight = setting(0.0, used_when=given("ray_address"))
    """GPUs that a job takes of the Ray cluster."""
    dry_run: bool = False
    """Print the jobs with their states and stop."""


def main(arguments: list[str]) -> int:
    """Parses the command line, runs the sweep, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped at once. The same command goes on from the last checkpoints.")


def _main(arguments: list[str]) -> int:
    command, sweep = parse(arguments)

    from maxent_rl.sweep import expand, run_sweep
    from maxent_rl.sweep.folder import is_finished

    if command.dry_run:
        folder, jobs = expand(sweep)
        print(f"{folder}: {len(jobs)} jobs")
        for job in jobs:
            members = f"{len(job.run.variant_values)} variants x {job.run.num_seeds} seeds"
            print(f"  {job.name}: {members}, {'finished' if is_finished(job) else 'to do'}")
        return 0
    result = run_sweep(
        sweep,
        jobs=command.jobs,
        retries=command.retries,
        ray_address=command.ray_address,
        cpus_per_job=command.cpus_per_job,
        gpus_per_job=command.gpus_per_job,
    )
    finished = sum(is_finished(job) for job in result.jobs)
    print(f"{finished} of {len(result.jobs)} jobs are finished in {result.folder}")
    for job, sentence in result.failed.items():
        print(f"error: {job.name}: {sentence}", file=sys.stderr)
    if result.interrupted:
        print("Stopped. The same command goes on from the last checkpoints.")
        return 130
    return 1 if result.failed else 0


def parse(arguments: list[str]) -> tuple[Command, Any]:
    """Parses the command line into the command and the `Sweep` that it asks for."""
    from maxent_rl.sweep import Sweep

    preset = _preset(arguments)
    command = _command(arguments, {} if preset is None else PRESETS[preset].run)
    if preset is None and (defaults := _shared_defaults(command.agents)):
        command = _command(arguments, defaults)
    values = {field.name: getattr(command.settings, field.name) for field in dataclasses.fields(RunConfig)}
    agents = tuple(_agent(name, preset) for name in command.agents)
    sweep = Sweep(
        run=RunConfig(**values | {"name": None}),
        agents=agents,
        envs=command.envs,
        values=_values([text for group in command.set for text in group]),
        name=command.settings.name,
        max_seeds_per_job=command.max_seeds_per_job,
        max_variants_per_job=command.max_variants_per_job,
    )
    return command, sweep


def _command(arguments: list[str], defaults: dict[str, Any]) -> Command:
    return read_flags(
        Command,
        arguments,
        f"Trains agents on environments. Agents: {', '.join(AGENTS)}.",
        default=Command(settings=dataclasses.replace(Settings(), **defaults)),
        explain=_elsewhere,
    )


def _elsewhere(name: str) -> str:
    """A sentence on a flag that is a hyper-parameter."""
    meant = (*ELSEWHERE.get(name, ()), name)
    fields = {field.name for agent in AGENTS for field in dataclasses.fields(agent_class(agent))}
    found = next((each for each in meant if each in fields), None)
    return f"Hyper-parameters are swept by --set {found.replace('_', '-')}=VALUE,VALUE." if found is not None else ""


def _shared_defaults(agents: tuple[str, ...]) -> dict[str, Any]:
    """Settings of runs that all of the agents have for defaults of their own, as in run.py; none where they differ."""
    first, *others = [run_defaults(agent_class(name)) for name in agents] or [{}]
    if any(other != first for other in others):
        return {}
    return {name: value for name, value in first.items() if name != "env"}


def _values(assignments: list[str]) -> dict[str, tuple[str, ...]]:
    values: dict[str, tuple[str, ...]] = {}
    for text in assignments:
        name, equals, several = text.removeprefix("--").partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InvalidSettingError(f"--set expects NAME=VALUE,VALUE,..., got {text!r}.")
        if name in values:
            raise InvalidSettingError(f"--set names {name.replace('_', '-')} twice.")
        values[name] = tuple(value.strip() for value in several.split(",") if value.strip())
    return values


def _preset(arguments: list[str]) -> str | None:
    """The preset's name, looked up first because it decides the defaults of the flags."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--preset":
            found = value if equals else "".join(arguments[index + 1 : index + 2])
            apply_preset(found, RunConfig(), agent_class(RunConfig.agent)())  # raises for a wrong name
            return found
    return None


def _agent(name: str, preset: str | None) -> Any:
    agent = agent_class(name)()
    return agent if preset is None else apply_preset(preset, RunConfig(agent=name), agent)[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
