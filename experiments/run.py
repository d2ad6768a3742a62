"""Trains an agent: `python experiments/run.py --agent sac --env HalfCheetah`."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys

from maxent_rl import envs
from maxent_rl.errors import InvalidSettingError, run_command
from maxent_rl.runs.command_line import parse
from maxent_rl.runs.config import describe
from maxent_rl.settings import check_settings


def main(arguments: list[str]) -> int:
    """Parses the command line, trains, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before the first step; nothing was saved.")


def _main(arguments: list[str]) -> int:
    command = parse(arguments)
    run, agent, folder = command.run, command.hyper, command.resume
    run = dataclasses.replace(run, env=envs.canonical_name(run.env))
    run.check()
    check_settings(agent)
    if command.dry_run:
        print(json.dumps(describe(run, agent), indent=2))
        return 0

    if command.coordinator is not None:
        from maxent_rl.seeds.processes import start_processes

        start_processes(command.coordinator, command.num_processes, command.process_id)
    elif command.num_processes is not None or command.process_id is not None:
        raise InvalidSettingError("--num-processes and --process-id go with --coordinator HOST:PORT.")

    from maxent_rl.training.runner import run_training

    result = run_training(run, agent, run.env, resume=folder)
    if command.process_id:  # the first process speaks for all
        return 130 if result.interrupted else 0
    if result.interrupted:
        print(f"Stopped at step {result.step:,}. Go on with:")
        print(f"  python experiments/run.py --resume {shlex.quote(str(result.folder))}")
        return 130
    print(f"Done: {result.folder}")
    print(f"  evaluate it:  python experiments/evaluate.py {shlex.quote(str(result.folder))}")
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status:
        from maxent_rl.seeds.processes import leave

        leave(status)
    sys.exit(status)
