"""Makes data sets to learn from and measures them: `python experiments/dataset.py preferences ...`, `... measure FILE`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro
from dataset_measure import Measure, measure_dataset
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maxent_rl.errors import InvalidSettingError, StorageError, run_command
from maxent_rl.settings import Count, Fraction, NonNegative, Weight, check_settings


@dataclasses.dataclass(frozen=True)
class Preferences:
    """Plays a trained policy, cuts segments of steps from its episodes, and says of pairs of them which is better."""

    policy: Path
    """Run whose policy plays: sampled actions, with noise."""
    output: Path
    """File to write (.npz)."""
    oracle: Path | None = None
    """Run whose critics judge, for --label regret; the best trained one there is, of an agent with critics, such as sac."""
    episodes: Count = 250
    """Episodes to play."""
    segments: Count | None = None
    """Segments to keep, drawn at random; None for all that the episodes hold, one after the other."""
    length: Count = 64
    """Steps of a segment."""
    label: Literal["regret", "return"] = "regret"
    """What makes a segment better: that little is lost against acting as the oracle, or the sum of its rewards."""
    action_noise: Weight = 0.3
    """Standard deviation of Gaussian noise on the actions, whose range is [-1, 1]."""
    flip: Fraction = 0.0
    """Share of the labels that are turned round on purpose."""
    pairs: NonNegative | None = None
    """Pairs to label; None for half as many as segments, each in one pair. 0 for none: any two are compared by score."""
    seed: NonNegative = 0
    """Decides start states, actions, pairs and flips."""
    policy_seed: int | None = None
    """Which seed of the policy's run plays; None for the first."""
    oracle_seed: int | None = None
    """Which seed of the oracle's run judges; None for the first."""


COMMANDS: dict[str, Callable[..., Any]] = {"preferences": Preferences, "measure": Measure}


def main(arguments: list[str]) -> int:
    """Parses the command line, makes the data, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before the data set was complete; nothing was written.")


def parse(arguments: list[str]) -> Preferences | Measure:
    """Parses the command line."""
    command: Preferences | Measure = tyro.extras.subcommand_cli_from_dict(COMMANDS, args=arguments, description=__doc__)
    return command


def _main(arguments: list[str]) -> int:
    command = parse(arguments)
    check_settings(command)
    if isinstance(command, Measure):
        measure_dataset(command)
        return 0
    _check_output(command.output)
    make_preferences(command)
    return 0


def make_preferences(command: Preferences) -> None:
    """Makes a data set of preferences and says what is in it."""
    from maxent_rl.training import preference_making
    from maxent_rl.training.checkpoints import storage_errors
    from maxent_rl.training.policy import load_policy
    from maxent_rl.training.restored import load_state

    policy = load_policy(command.policy, seed=command.policy_seed)
    oracle = None
    if command.label == "regret" and command.oracle is not None:
        oracle = load_state(command.oracle, seed=command.oracle_seed)
    names = [field.name for field in dataclasses.fields(preference_making.Making)]
    making = preference_making.Making(**{name: getattr(command, name) for name in names})
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # On standard error, so that standard output holds the result alone; shows nothing where that is no terminal.
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Playing {policy.env}", total=command.episodes)
        data, told = preference_making.make_preferences(
            policy, making, oracle, lambda played: progress.update(task, completed=played)
        )
    with storage_errors(f"write {command.output}"):
        data.save(command.output)
    pairs = f"{len(data.pairs):,} pairs of" if len(data.pairs) else "any two comparable of"
    print(f"{command.output}: {pairs} {told['segments']:,} segments of {command.length} steps from {data.env}")
    print(
        f"  mean return of {told['episodes']:,} episodes {told['return_mean']:,.1f}; of the better half "
        f"{told['return_better_half']:,.1f}"
    )
    print(f"  labels by {command.label}: {told['ties']:,} ties, {told['flipped']:,} turned round")
    print(f"  learn from it:  python experiments/run.py --agent cpl --env {data.env} --dataset {command.output}")


def _check_output(path: Path) -> None:
    """Refuses a place where nothing can be written, before anything is played."""
    if path.suffix != ".npz":
        raise InvalidSettingError(f"--output must end in .npz, got {path}.")
    if path.exists():
        raise StorageError(f"{path} is there already: choose another --output or delete it.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
