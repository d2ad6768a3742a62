"""Draws what the experts of a trained policy do: `python experiments/experts.py runs/Pendulum-v1/pmoe/NAME`."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table

from maxent_rl.errors import run_command
from maxent_rl.runs.flags import read_flags
from maxent_rl.settings import Count, NonNegative

if TYPE_CHECKING:
    from maxent_rl.pictures.experts import Findings


@dataclasses.dataclass(frozen=True)
class Command:
    """Plays episodes with a run's policies and draws which expert acts when, where and how; see docs/experts.md."""

    run: tyro.conf.Positional[Path]
    """Folder of a run, or the policy folder in it."""
    episodes: Count | None = None
    """Episodes of each seed; None for 20, or for 1,000 where an episode is a single step."""
    seed: int | None = None
    """Look only at this seed of the run; None for all."""
    variant: int | None = None
    """Look only at this variant of the run's hyper-parameters, counted from 0; None for all."""
    stochastic: bool = True
    """Sample expert and action; otherwise the most likely action is taken, that of the heaviest expert."""
    eval_seed: NonNegative = 0
    """Decides the start states and what is sampled."""
    output: Path | None = None
    """Folder of the pictures; None for experts/ in the run's folder. Several policies get a folder each in it."""
    allow_env_import: bool = False
    """Import the module of an environment that the policy's files name module:Id; its code then runs."""


def main(arguments: list[str]) -> int:
    """Parses the command line, draws, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before all pictures were drawn.")


def _main(arguments: list[str]) -> int:
    command = read_flags(Command, arguments, __doc__)

    from maxent_rl.envs.registry import canonical_name
    from maxent_rl.pictures.experts import look_at_experts, picture_folder, run_folder
    from maxent_rl.runs.policy import load_policies

    policies = load_policies(command.run, command.seed, command.variant)
    if command.allow_env_import:
        for policy in policies:
            canonical_name(policy.env)
    run = run_folder(command.run)
    output = run / "experts" if command.output is None else command.output
    console = Console()
    for policy in policies:
        # On standard error, so that standard output holds the result alone; shows nothing where that is no terminal.
        with Console(stderr=True).status(f"{policy.env}, seed {policy.seed}: playing and drawing"):
            findings = look_at_experts(
                policy,
                run,
                output if len(policies) == 1 else output / picture_folder(policy),
                episodes=command.episodes,
                seed=command.eval_seed,
                stochastic=command.stochastic,
            )
        _show(findings, console)
    return 0


def _show(findings: Findings, console: Console) -> None:
    found = findings.expertise
    if found is not None:
        table = Table(title=findings.name)
        for column in ("expert", "acts in" if found.draws else "heaviest in", "mean weight", "mean entropy (nats)"):
            table.add_column(column, justify="right")
        rows = zip(found.usage, found.weights.mean(axis=0), found.expert_entropy.mean(axis=0), strict=True)
        for index, (usage, weight, entropy) in enumerate(rows):
            table.add_row(str(index), f"{usage:.1%}", f"{weight:.1%}", f"{entropy:.2f}")
        console.print(table)
        most = math.log(found.num_experts)
        entropy = found.router_entropy.mean()
        console.print(
            f"Router's entropy {entropy:.3f} nats, of log {found.num_experts} = {most:.3f} at most", highlight=False
        )
    for remark in findings.remarks:
        console.print(remark, highlight=False, markup=False, soft_wrap=True)
    for picture in findings.pictures:
        console.print(str(picture), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
