"""Makes data sets to learn from, and measures them: transitions of an environment, or preferences over segments of behaviour.

`python experiments/dataset.py collect --policy RUN --kind noisy --output FILE`;
`python experiments/dataset.py join FILE FILE --output FILE`;
`python experiments/dataset.py measure FILE --reference FILE`;
`python experiments/dataset.py preferences --policy RUN --oracle RUN --output FILE`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from dataset_measure import Measure, measure_dataset
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maxent_rl.errors import InvalidSettingError, StorageError, run_command
from maxent_rl.runs.flags import read_command, refuse_useless, with_rules
from maxent_rl.runs.next_command import next_command
from maxent_rl.settings import Count, Fraction, NonNegative, Weight, setting
from maxent_rl.usage import ON_HOST, given, unless, when

if TYPE_CHECKING:
    from maxent_rl.data.datasets.dataset import Dataset


_PLAYED = unless(kind="replay")


@with_rules
@dataclasses.dataclass(frozen=True)
class Preferences:
    """Plays a trained policy, cuts segments of steps from its episodes, and says of pairs of them which is better."""

    policy: Path
    """Run whose policy plays: sampled actions, with noise."""
    output: Path
    """File to write (.npz)."""
    oracle: Path | None = setting(None, used_when=when(label="regret"))
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
    flip: Fraction = setting(0.0, used_when=unless(pairs=0))
    """Share of the labels that are turned round on purpose."""
    pairs: NonNegative | None = None
    """Pairs to label; None for half as many as segments, each in one pair. 0 for none: any two are compared by score."""
    seed: NonNegative = 0
    """Decides start states, actions, pairs and flips."""
    policy_seed: int | None = None
    """Which seed of the policy's run plays; None for the first."""
    oracle_seed: int | None = setting(None, used_when=when(label="regret") & given("oracle"))
    """Which seed of the oracle's run judges; None for the first."""
    num_envs: Count | None = setting(None, used_when=ON_HOST)
    """Host environments that are open at once, on which nothing depends; None for 64 at most."""
    allow_env_import: bool = False
    """Import the module of an environment that the policy's files name module:Id; its code then runs."""


@with_rules
@dataclasses.dataclass(frozen=True)
class Collect:
    """Collects transitions: of random actions, of a trained policy, of both, or those that training itself has seen."""

    output: Path
    """What to write: an archive (NAME.npz), or a folder in Minari's format (NAME, without an ending)."""
    policy: Path | None = None
    """Run whose policy acts; for --kind random only its environment matters."""
    env: str | None = None
    """Environment, as for run.py; None for the policy's."""
    kind: Literal["random", "expert", "mixed", "noisy", "replay"] = "expert"
    """Uniform actions; the policy's most likely ones; 80 % of the former, then 20 % of the latter; the latter with noise; or
    the run's replay buffer, in order."""
    size: Count | None = None
    """Transitions; None for 100,000. Of a replay buffer the first ones; None for all that it holds."""
    noise: Weight = setting(0.2, used_when=when(kind="noisy"))
    """For --kind noisy: the probability of a uniform action instead, or the standard deviation of Gaussian noise on continuous
    actions, whose range is [-1, 1]."""
    seed: NonNegative = setting(0, used_when=_PLAYED)
    """Decides start states and what is random in the actions."""
    policy_seed: int | None = setting(None, used_when=given("policy"))
    """Which seed of the policy's run; None for the first."""
    num_envs: Count | None = setting(None, used_when=_PLAYED & ON_HOST)
    """Host environments that are open at once, on which nothing depends; None for 64 at most."""
    allow_env_import: bool = False
    """Import the module of an environment that the policy's files name module:Id; its code then runs."""


@dataclasses.dataclass(frozen=True)
class Join:
    """Makes one data set of several of the same environment, such as medium-expert of a medium and an expert one."""

    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Data sets, in the order in which they follow each other."""
    output: Path
    """What to write, as of collect."""


COMMANDS: dict[str, type[Any]] = {
    "collect": Collect,
    "join": Join,
    "measure": Measure,
    "preferences": Preferences,
}


def main(arguments: list[str]) -> int:
    """Parses the command line, makes the data, and turns errors into one sentence; returns the exit status."""
    return run_command(_main, arguments, "Stopped before the data set was complete; nothing was written.")


def parse(arguments: list[str]) -> Collect | Join | Measure | Preferences:
    """Parses the command line."""
    command: Collect | Join | Measure | Preferences = read_command(COMMANDS, arguments, "dataset.py", __doc__)
    return command


def _main(arguments: list[str]) -> int:
    command = parse(arguments)
    if isinstance(command, Collect):
        collect_transitions(command, arguments)
    elif isinstance(command, Join):
        join_datasets(command)
    elif isinstance(command, Measure):
        return measure_dataset(command)
    else:
        make_preferences(command, arguments)
    return 0


def collect_transitions(command: Collect, arguments: Sequence[str]) -> None:
    """Makes a data set of transitions and says what is in it."""
    from maxent_rl.data.datasets.files import check_output
    from maxent_rl.envs.registry import canonical_name, is_device
    from maxent_rl.runs.policy import load_policy
    from maxent_rl.sources.transitions import Collecting, collect, collecting_in

    check_output(command.output)
    _refuse_existing(command.output)
    settings: dict[str, Any] = {field.name: getattr(command, field.name) for field in dataclasses.fields(Collecting)}
    if command.allow_env_import and command.policy is not None:
        canonical_name(load_policy(command.policy, seed=command.policy_seed).env)
    settings["policy"] = None if command.policy is None else str(command.policy)
    collecting = Collecting(**settings)
    refuse_useless(command, arguments, on_device=is_device(collecting_in(collecting)))
    with _progress(f"Collecting {command.kind} transitions", collecting.wanted) as told:
        data, notes = collect(collecting, told)
    _write(data, command.output, f", {command.kind}", notes)


def join_datasets(command: Join) -> None:
    """Makes one data set of several and says what is in it."""
    from maxent_rl.data.datasets.dataset import concatenate
    from maxent_rl.data.datasets.files import check_output, read_dataset

    check_output(command.output)
    _refuse_existing(command.output)
    _write(concatenate([read_dataset(path) for path in command.inputs]), command.output, "", [])


def _write(data: Dataset, output: Path, kind: str, notes: list[str]) -> None:
    """Writes a data set and says what is in it."""
    from maxent_rl.data.datasets.files import write_dataset
    from maxent_rl.data.datasets.units import told_space
    from maxent_rl.storage.files import storage_errors

    with storage_errors(f"write {output}"):
        write_dataset(data, output)
    found = data.episodes
    tail = "" if found.complete.all() else ", the last unfinished"
    returns = data.returns
    mean = f"mean return {returns.mean():,.1f}" if len(returns) else "no return, as none came to its end"
    print(f"{output}: {data.size:,} transitions of {data.env or 'an environment that the files do not name'}{kind}")
    print(f"  {len(found.start):,} episode{'s' * (len(found.start) != 1)}{tail}; {mean}")
    for note in notes:
        print(f"  {note}")
    space = told_space(data.about, "observation_space")
    if space is not None and space.frames:
        print("  its observations end in images, from which no agent learns without acting")
        return
    env = data.env or "NAME"
    print(f"  learn from it:  {_learning(_learner(data), env, output)}")


def _learner(data: Dataset) -> str:
    """An agent that can learn from such data."""
    return "cql-discrete" if data.is_discrete else "iql"


def make_preferences(command: Preferences, arguments: Sequence[str]) -> None:
    """Makes a data set of preferences and says what is in it."""
    from maxent_rl.envs.registry import canonical_name, is_device
    from maxent_rl.runs.policy import load_policy
    from maxent_rl.runs.state import load_state
    from maxent_rl.sources import preferences
    from maxent_rl.storage.files import storage_errors

    if command.output.suffix != ".npz":
        raise InvalidSettingError(f"--output must end in .npz, got {command.output}.")
    _refuse_existing(command.output)
    policy = load_policy(command.policy, seed=command.policy_seed)
    if command.allow_env_import:
        canonical_name(policy.env)
    refuse_useless(command, arguments, on_device=is_device(policy.env))
    oracle = None
    if command.label == "regret" and command.oracle is not None:
        oracle = load_state(command.oracle, seed=command.oracle_seed)
    names = [field.name for field in dataclasses.fields(preferences.Making)]
    making = preferences.Making(**{name: getattr(command, name) for name in names})
    with _progress(f"Playing {policy.env}", command.episodes) as report:
        data, told = preferences.make_preferences(policy, making, oracle, report)
    with storage_errors(f"write {command.output}"):
        data.save(command.output)
    pairs = f"{len(data.pairs):,} pairs of" if len(data.pairs) else "any two comparable of"
    print(f"{command.output}: {pairs} {told['segments']:,} segments of {command.length} steps from {data.env}")
    print(
        f"  mean return of {told['episodes']:,} episodes {told['return_mean']:,.1f}; of the better half "
        f"{told['return_better_half']:,.1f}"
    )
    print(f"  labels by {command.label}: {told['ties']:,} ties, {told['flipped']:,} turned round")
    print(f"  learn from it:  {_learning('cpl', data.env, command.output)}")


def _learning(agent: str, env: str, dataset: Path) -> str:
    """The command with which an agent learns from a data set."""
    return next_command(Path(__file__).with_name("run.py"), "--agent", agent, "--env", env, "--dataset", dataset)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar, and what tells it how far the work is.

    On standard error, so that standard output holds the result alone; shows nothing where that is no terminal.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _refuse_existing(path: Path) -> None:
    """Refuses a place where something is, before anything is played."""
    if path.exists():
        raise StorageError(f"{path} is there already: choose another --output or delete it.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
