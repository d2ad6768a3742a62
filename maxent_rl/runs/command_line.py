"""The flags of a run: `parse` gives its settings and its agent, to the command line and to studies alike."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.envs.registry import canonical_name, check_import, has_name
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.config import RunConfig, config_from, read_config, run_folder
from maxent_rl.runs.flags import meanings, read_flags, wants_help
from maxent_rl.runs.presets import PRESETS, apply_preset
from maxent_rl.settings import check_settings, field_hints, flag
from maxent_rl.usage import flags_in, sentence

# What a resumed run may change: nothing that decides its numbers.
_FREE_ON_RESUME = {
    *(
        "total_steps",
        "eval_every",
        "eval_episodes",
        "eval_num_envs",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
    ),
    *("wandb", "device", "batch_devices", "output_dir", "name"),
    *("teacher", "dataset"),  # they may have been moved; that they are the same is checked by what is in them
}

# Hyper-parameters that a run sets as it begins where its flags leave them open.
_RESOLVED = ("scheduled_updates",)

# Groups of --help beside "run", which has all other settings of a run, and the agent's own name, likewise of an agent.
_OF_RUN = {
    "records": ("checkpoint_every", "keep_checkpoints", "log_every", "output_dir", "name", "wandb"),
    "machine": ("device", "batch_devices"),
}
_NETWORK = frozenset(
    (
        *("network", "hidden_sizes", "value_hidden_sizes", "reward_hidden_sizes", "activation", "dropout"),
        *("num_critics", "critic_norm", "critic_dropout", "num_experts", "num_quantiles", "heads", "head_sizes"),
        *("num_layers", "num_heads", "num_key_value_heads", "hidden_size", "intermediate_size", "layers", "width"),
        *("history", "history_size", "history_layers", "history_heads", "latent_size", "num_latents", "state_dependent_std"),
        *("normalize_observations", "action_distribution", "log_std_min", "log_std_max"),
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Start:
    """What to begin from."""

    preset: str | None = None
    """Settings in place of the defaults, which further flags change."""
    config: Path | None = None
    """Repeat the run of this config.json (or run folder); further flags change it."""
    resume: Path | None = None
    """Go on with the run in this folder from its last checkpoint; one that has none yet begins anew."""
    resume_or_start: bool = False
    """Go on with the run of this --name where there is one, else begin it: one command for machines that may be taken away."""
    from_step: int | None = None
    """With --resume: go on from the checkpoint of this step, and move later ones aside."""
    allow_env_import: bool = False
    """Import the module of an environment named module:Id by the file that --config or --resume reads; its code then runs."""
    allow_unused: bool = False
    """Say of flags without effect that they have none, not refuse them: for scripts that give all runs the same ones."""
    dry_run: bool = False
    """Refuse what the run would refuse, or print the resolved configuration; train nothing and write nothing."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """Several processes that train a run together, on one machine or many."""

    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Where the first of them listens; auto asks Slurm, Open MPI, Kubernetes or a TPU pod for this and the next two."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """What a command line says of a run.

    Attributes:
      run: its settings.
      hyper: its agent, with the hyper-parameters.
      start: what to begin from.
      processes: of a run that several of them train.
      by_hand: the settings of the run and its agent that are given as flags; none of a run that is gone on with.
    """

    run: RunConfig
    hyper: Any
    start: Start
    processes: Processes
    by_hand: tuple[str, ...] = ()


def parse(arguments: Sequence[str]) -> Flags:
    """Parses the command line.

    The agent decides which hyper-parameters there are, and a preset what they are unless set, so `--agent`, `--preset`,
    `--config` and `--resume` are looked up first.

    Raises:
      UnknownNameError: a flag, an agent or a choice that does not exist.
      InvalidSettingError: a value that does not fit its flag, or flags that do not go together.
    """
    run, hyper = _begin(_first_pass(arguments), "--allow-env-import" in arguments)
    explained = wants_help(arguments)
    groups = _groups(run, hyper, explained)
    command = dataclasses.make_dataclass(
        "Command",
        [
            *((name, group, dataclasses.field(default=group())) for name, group in groups.items()),
            ("start", Start, dataclasses.field(default=Start())),
            ("processes", Processes, dataclasses.field(default=Processes())),
        ],
        frozen=True,
    )
    parsed: Any = read_flags(
        command,
        arguments,
        _description(run.agent) if explained else "",
        explain=lambda name: _elsewhere(name, run.agent),
    )
    values = {
        field.name: getattr(getattr(parsed, name), field.name)
        for name, group in groups.items()
        for field in dataclasses.fields(group)
    }
    by_hand = flags_in(arguments, values)
    flags = Flags(_replaced(run, values), _replaced(hyper, values), parsed.start, parsed.processes, by_hand)
    if flags.start.from_step is not None and flags.start.resume is None:
        raise InvalidSettingError("--from-step goes with --resume RUN: it names one of that run's checkpoints.")
    if flags.start.resume_or_start:
        return _resume_or_start(flags)
    if flags.start.resume is not None:
        _refuse_changes(run, flags.run, _FREE_ON_RESUME)
        _refuse_changes(hyper, flags.hyper, set())
        for name in ("name", "output_dir"):
            if name in by_hand:
                raise InvalidSettingError(f"--resume goes on in the run's own folder: leave {flag(name)} out.")
        return dataclasses.replace(flags, by_hand=())
    return flags


def _resume_or_start(flags: Flags) -> Flags:
    """With the folder to go on in, where the run that the flags describe has one."""
    if flags.run.name is None or flags.start.resume is not None:
        raise InvalidSettingError(
            "--resume-or-start finds a run by its --name: it needs one, and does not go with --resume."
        )
    run = dataclasses.replace(flags.run, env=canonical_name(flags.run.env, flags.run.backend))
    run.check()
    folder = run_folder(run, run.name or "")
    if not (folder / "config.json").exists():
        return flags
    old_run, old_hyper = config_from(read_config(folder))
    _refuse_changes(old_run, run, _FREE_ON_RESUME)
    _refuse_changes(old_hyper, flags.hyper, {name for name in _RESOLVED if getattr(flags.hyper, name, 0) is None})
    start = dataclasses.replace(flags.start, resume=folder)
    return dataclasses.replace(flags, hyper=old_hyper, start=start, by_hand=())


def _begin(first: dict[str, str | None], allow_import: bool) -> tuple[RunConfig, Any]:
    """Settings and agent before the flags change them."""
    if first["resume"] is not None and first["config"] is not None:
        raise InvalidSettingError(
            "--resume goes on with a run as it is, and --config repeats one in a folder of its own: leave one of them out."
        )
    for name in ("resume", "config"):
        if first[name] == "":
            raise InvalidSettingError(f"--{name} needs the folder of a run, got an empty name.")
    source = first["resume"] or first["config"]
    if source is None:
        run = RunConfig.of(RunConfig.agent if first["agent"] is None else first["agent"])
        hyper = agent_class(run.agent)()
        return (run, hyper) if first["preset"] is None else apply_preset(first["preset"], run, hyper)
    if first["preset"] is not None:
        raise InvalidSettingError(f"--preset does not go with {source}, whose settings are all set already.")
    run, hyper = config_from(read_config(source))
    run.check()
    check_settings(hyper)
    if first["agent"] not in (None, run.agent):
        raise InvalidSettingError(f"{source} is a run of {run.agent!r}: --agent {first['agent']} does not fit it.")
    if first["env"] is None and not allow_import:
        check_import(run.env, f"The run in {source}")
    if first["resume"] is None:  # a repetition gets a folder of its own, and no file decides where things are written
        run = dataclasses.replace(run, name=None, output_dir=RunConfig.output_dir)
    return run, hyper


def _first_pass(arguments: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(("agent", "env", "preset", "config", "resume"))
    for index, argument in enumerate(arguments):
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in found:
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            found[name] = value if equals else following
    return found


def _groups(run: RunConfig, hyper: Any, explained: bool) -> dict[str, type[Any]]:
    """The flags of settings and agent in groups, each a dataclass with the values as defaults, and with words for `--help`."""
    of_run = [field.name for field in dataclasses.fields(run)]
    own = [field.name for field in dataclasses.fields(hyper)]
    agent = run.agent.replace("-", "_")
    parts = {
        "run": (run, "What is trained, and how long.", [name for name in of_run if _kind(name) == "run"]),
        agent: (hyper, f"Hyper-parameters of --agent {run.agent}.", [name for name in own if name not in _NETWORK]),
        "network": (hyper, f"Networks of --agent {run.agent}.", [name for name in own if name in _NETWORK]),
        "evaluation": (run, "How it is measured.", [name for name in of_run if _kind(name) == "evaluation"]),
        "records": (run, "What stays of it.", [name for name in of_run if _kind(name) == "records"]),
        "machine": (run, "Where it is computed.", [name for name in of_run if _kind(name) == "machine"]),
    }
    return {title: _group(*part, explained) for title, part in parts.items()}


def _kind(name: str) -> str:
    """The group of a run's setting."""
    of = next((group for group, names in _OF_RUN.items() if name in names), "run")
    return "evaluation" if name.startswith("eval_") else of


def _group(settings: Any, about: str, names: Iterable[str], explained: bool) -> type[Any]:
    """A dataclass of some of the fields of another, with its values as defaults and its words as help."""
    kind: Any = type(settings)
    hints, texts, fields = field_hints(kind), meanings(kind) if explained else {}, []
    for name in names:
        value = getattr(settings, name)
        text = texts.get(name, "") + sentence(kind, name) if explained else ""
        if explained and name == "objective" and hasattr(settings, "objective_settings"):
            text += f" One of: {', '.join(_objectives())}."
        default: Any = dataclasses.field(default_factory=partial(copy.copy, value))
        fields.append((name, Annotated[hints[name], tyro.conf.arg(help=text)], default))
    return dataclasses.make_dataclass("Group", fields, frozen=True, namespace={"__doc__": about})


def _objectives() -> tuple[str, ...]:
    from maxent_rl.tokens.objectives import names

    return names()


def _replaced(settings: Any, values: dict[str, Any]) -> Any:
    own = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{name: value for name, value in values.items() if name in own})


def _description(agent: str) -> str:
    """What `--help` says first: agents and presets, a line each."""
    agents = [f"  {name:<16}{_first_line(agent_class(name))}" for name in AGENTS]
    presets = [f"  {name:<18}{preset.about}" for name, preset in PRESETS.items()]
    return "\n".join(
        [
            f"Trains an agent on an environment. Below are the flags of --agent {agent}: --agent NAME --help shows another's.",
            *("", "Agents:", *agents, "", "Presets:", *presets),
        ]
    )


def _first_line(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _elsewhere(name: str, agent: str) -> str:
    """A sentence on a flag that other agents have, or on a value without its flag; empty where there is nothing to say."""
    if name in AGENTS or has_name(name):
        return f"Write {'--agent' if name in AGENTS else '--env'} {name}."
    having = [each for each in AGENTS if name in {field.name for field in dataclasses.fields(agent_class(each))}]
    return f"It is a flag of --agent {', '.join(having)}, not of {agent}." if having else ""


def _refuse_changes(before: Any, after: Any, free: set[str]) -> None:
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new and field.name not in free:
            raise InvalidSettingError(f"A resumed run cannot change {flag(field.name)} (it is {old}, not {new}).")
