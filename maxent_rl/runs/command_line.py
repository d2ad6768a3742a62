"""The flags of a run: `parse` gives its settings and its agent, to the command line and to studies alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.config import RunConfig, config_from, read_config
from maxent_rl.runs.presets import PRESETS, apply_preset
from maxent_rl.settings import flag

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


_COORDINATOR = (
    "This is one of several processes that train a run together, on one machine or many: where the first of them listens. "
    "auto asks Slurm, Open MPI, Kubernetes or a TPU pod for this and the next two."
)


def parse(arguments: list[str]) -> Any:
    """Parses the command line into a value with fields `run`, `hyper`, and one for each of the other flags.

    The agent decides which hyper-parameters there are, and a preset what they are unless set, so `--agent`, `--preset`,
    `--config` and `--resume` are looked up first.
    """
    first = _first_pass(arguments)
    source = first["resume"] or first["config"]
    if source is None:
        run = RunConfig.of(first["agent"] or RunConfig.agent)
        hyper = agent_class(run.agent)()
        if first["preset"] is not None:
            run, hyper = apply_preset(first["preset"], run, hyper)
    elif first["preset"] is not None:
        raise InvalidSettingError(f"--preset does not go with {source}, whose settings are all set already.")
    else:
        run, hyper = config_from(read_config(source))
        if first["agent"] not in (None, run.agent):
            raise InvalidSettingError(f"{source} is a run of {run.agent!r}: --agent {first['agent']} does not fit it.")
        if first["resume"] is None:  # a repetition gets a folder of its own
            run = dataclasses.replace(run, name=None)
    command = dataclasses.make_dataclass(
        "Command",
        [
            ("run", Annotated[RunConfig, tyro.conf.arg(name="")], dataclasses.field(default=run)),
            ("hyper", Annotated[type(hyper), tyro.conf.arg(name="")], dataclasses.field(default=hyper)),
            ("preset", _option(str, _presets(), "NAME"), None),
            (
                "config",
                _option(Path, "Repeat the run of this config.json (or run folder); further flags change it."),
                None,
            ),
            ("resume", _option(Path, "Go on with the run in this folder from its last checkpoint."), None),
            ("coordinator", _option(str, _COORDINATOR, "HOST:PORT"), None),
            ("num_processes", _option(int, "How many processes there are.", "N"), None),
            ("process_id", _option(int, "Which of them this is, from 0.", "I"), None),
            ("dry_run", Annotated[bool, tyro.conf.arg(help="Print the resolved configuration and stop.")], False),
        ],
        frozen=True,
    )
    description = f"Trains an agent on an environment. Agents: {', '.join(AGENTS)}."
    parsed: Any = tyro.cli(command, args=arguments, description=description, config=(tyro.conf.OmitArgPrefixes,))
    if parsed.resume is not None:
        _refuse_changes(run, parsed.run, _FREE_ON_RESUME)
        _refuse_changes(hyper, parsed.hyper, set())
    return parsed


def _option(kind: type[Any], text: str, metavar: str = "PATH") -> Any:
    return Annotated[kind | None, tyro.conf.arg(help=text, metavar=metavar)]


def _presets() -> str:
    described = "; ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())
    return f"Settings in place of the defaults, which further flags change ({described})."


def _first_pass(arguments: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {"agent": None, "preset": None, "config": None, "resume": None}
    for index, argument in enumerate(arguments):
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in found:
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            found[name] = value if equals else following
    return found


def _refuse_changes(before: Any, after: Any, free: set[str]) -> None:
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new and field.name not in free:
            raise InvalidSettingError(f"A resumed run cannot change {flag(field.name)} (it is {old}, not {new}).")
