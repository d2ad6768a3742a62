"""Trains an agent: `python experiments/run.py --agent sac --env HalfCheetah`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from maxent_rl import envs
from maxent_rl.errors import InvalidSettingError, run_command
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.next_command import next_command
from maxent_rl.seeds.variants import combinations
from maxent_rl.settings import check_settings, flag
from maxent_rl.usage import unused_in


def main(arguments: list[str]) -> int:
    """Parses the command line, trains, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before the first step; nothing was saved.")


def _main(arguments: list[str]) -> int:
    flags = parse(arguments)
    run, agent, folder, processes = flags.run, flags.hyper, flags.start.resume, flags.processes
    run = dataclasses.replace(run, env=envs.canonical_name(run.env, run.backend))
    run.check()
    check_settings(agent)
    if processes.coordinator is None and not processes.num_processes is processes.process_id is None:
        raise InvalidSettingError("--num-processes and --process-id go with --coordinator HOST:PORT.")
    if processes.coordinator is not None:
        from maxent_rl.seeds.processes import check_processes

        check_processes(processes.coordinator, processes.num_processes, processes.process_id)
    by_hand = () if flags.start.allow_unused else flags.by_hand
    if flags.start.allow_unused:
        for name in unused_in(flags.by_hand, combinations(run, agent)):
            print(f"{flag(name)} has no effect in this run.", file=sys.stderr)
    if flags.start.dry_run:
        return _dry_run(run, agent, folder, by_hand)
    if processes.coordinator is not None:
        from maxent_rl.seeds.processes import start_processes

        start_processes(processes.coordinator, processes.num_processes, processes.process_id)

    from maxent_rl.training.runner import run_training

    result = run_training(run, agent, run.env, resume=folder, from_step=flags.start.from_step, by_hand=by_hand)
    if processes.process_id:  # the first process speaks for all
        return 130 if result.interrupted else 0
    if result.interrupted:
        print(f"Stopped at step {result.step:,}. Go on with:")
        print(f"  {next_command(__file__, '--resume', result.folder, *_allowing(run.env))}")
        return 130
    print(f"Done: {result.folder}")
    print(
        f"  evaluate it:  {next_command(Path(__file__).with_name('evaluate.py'), result.folder, *_allowing(run.env))}"
    )
    return 0


def _allowing(env: str) -> list[str]:
    """The flag that a command needs where the run's files name a module of the user's own."""
    return ["--allow-env-import"] if ":" in env else []


def _dry_run(run: RunConfig, agent: Any, folder: Path | None, by_hand: Sequence[str]) -> int:
    """Refuses what the run would refuse, or prints what it would be."""
    from maxent_rl.training.runner import check_run

    # On standard error, so that standard output holds the configuration alone; shows nothing where that is no terminal.
    with Console(stderr=True).status(f"Checking {run.agent} on {run.env}"):
        told = check_run(run, agent, run.env, resume=folder, by_hand=by_hand)
    if told is not None:
        print(told, file=sys.stderr)
    print(json.dumps(describe(run, agent), indent=2))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status:
        from maxent_rl.seeds.processes import leave

        leave(status)
    sys.exit(status)
