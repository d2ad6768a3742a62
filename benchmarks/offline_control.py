"""Offline agents on data of our own SAC: cloning, TD3+BC, IQL and CQL, as shares of the way from random to expert.

    python benchmarks/offline_control.py study --data medium=DATASET medium-expert=DATASET --expert HalfCheetah-v5=RUN
    python benchmarks/offline_control.py render    # table into benchmarks/README.md, and results/offline_control.png

A data set says itself of which environment it is. A score is 100 * (return - random) / (expert - random): random is measured
with uniform actions unless it is given, expert is a number or a run whose policy is played. The study can be stopped at any
time: the same command goes on with what is not done yet, or whose settings have changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from functools import partial
from pathlib import Path

import tyro
from common import RESULTS, ROOT, BenchmarkError, command_line, exit_status
from multimodal_study import Measured, Result, Seed, Unit, refuse_unknown, study

NAME = "offline_control"
METHODS = {"bc": "--agent bc", "td3-bc": "--agent td3-bc", "iql": "--agent iql", "cql": "--agent cql"}
"""By name: flags of experiments/run.py; all else is the agent's own default, which is the published one."""
REFERENCES = ("random", "expert", "data")
"""What returns are read beside; not trained here."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Trains every method on every data set, all seeds at once."""

    data: tuple[str, ...]
    """Data sets, as NAME=PATH: medium=data/halfcheetah-medium.npz."""
    expert: tuple[str, ...]
    """Experts, one for each environment, as ENV=RETURN or ENV=RUN."""
    random: tuple[str, ...] = ()
    """Returns of uniform actions, as ENV=RETURN; measured where not given."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Who learns, in this order."""
    num_seeds: int = 3
    """Seeds of each method, all in one program."""
    seed: int = 0
    """The first seed."""
    updates: int = 50_000
    """Updates of each seed."""
    cql_updates: int | None = None
    """Updates of CQL, one of which costs as much as ten of the others'; as many as theirs if none."""
    evaluations: int = 10
    """Evaluations of a run, spread evenly; the score is the mean of the last three."""
    eval_episodes: int = 10
    """Episodes of an evaluation."""
    batch_size: int = 256
    """Transitions in a batch."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of all networks."""
    cql_actions: int = 10
    """Actions that CQL samples from each of its three distributions."""
    cql_arguments: str = ""
    """Further flags of experiments/run.py for CQL."""
    arguments: str = ""
    """Further flags of experiments/run.py for everyone."""
    reference_episodes: int = 20
    """Episodes that random actions and experts are measured with."""
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS / NAME
    """Folder of the results."""

    def units(self) -> list[Unit]:
        """What is measured: on each data set the references first, then method by method.

        Raises:
          BenchmarkError: an unknown method, or data and experts that are not there.
        """
        refuse_unknown("method", self.methods, METHODS)
        experts, randoms = _pairs("--expert", self.expert), _pairs("--random", self.random)
        units = []
        for name, path in _pairs("--data", self.data).items():
            if not Path(path).exists():
                raise BenchmarkError(f"--data: there is no {path}.")
            env = _environment(path)
            if env not in experts:
                raise BenchmarkError(f"--expert has no {env}, of which {path} is; pass {env}=RETURN or {env}=RUN.")
            where = f"{env} {name}"
            shared = {"digest": _digest(path), "env": env}  # of the data: where it lies decides nothing
            episodes = self.reference_episodes
            units += [
                Unit(where, "random", (), {"env": env, "given": randoms.get(env), "episodes": episodes}),
                Unit(where, "expert", (), {"env": env, "given": experts[env], "episodes": episodes}),
                Unit(where, "data", (), shared),
            ]
            units += [Unit(where, method, self._flags(method, env), shared) for method in self.methods]
        return units

    def run(self) -> Result:
        """Measures."""
        measured = partial(measure, self.output.absolute() / "runs", _pairs("--data", self.data))
        return study(NAME, self.units(), measured, self, self.output, self.fresh)

    def _flags(self, method: str, env: str) -> tuple[str, ...]:
        own = f"--sampled-actions {self.cql_actions} {self.cql_arguments}" if method == "cql" else ""
        updates = self.cql_updates or self.updates if method == "cql" else self.updates
        every = max(updates // self.evaluations, 1)
        return (
            *shlex.split(f"{METHODS[method]} --env {env}"),
            *("--num-seeds", str(self.num_seeds), "--seed", str(self.seed), "--total-steps", str(updates)),
            *("--eval-every", str(every), "--eval-episodes", str(self.eval_episodes)),
            *("--checkpoint-every", str(every), "--log-every", str(every), "--batch-size", str(self.batch_size)),
            *("--hidden-sizes", *map(str, self.hidden_sizes)),
            *shlex.split(f"{self.arguments} {own}"),
        )


@dataclasses.dataclass(frozen=True)
class Render:
    """Table between the markers of benchmarks/README.md, and the figure, from what has been measured."""

    results: Path = RESULTS / NAME / f"{NAME}.json"
    """The results."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""
    figure: Path = RESULTS / f"{NAME}.png"
    """Figure to write."""

    def run(self) -> None:
        """Renders."""
        from offline_control_tables import render

        render(self.results, self.readme, self.figure)


def measure(runs: Path, data: dict[str, str], unit: Unit) -> Measured:
    """Measures a reference, or trains a method.

    Args:
      runs: folder of the runs, which do not stay.
      data: paths of the data sets by name.
      unit: of `Study.units`.

    Raises:
      BenchmarkError: a run failed; with the end of what it said.
    """
    from continued_run import measure_run
    from preference_study import read_seeds, uniform_return

    runs.mkdir(parents=True, exist_ok=True)
    settings, path = unit.measured, data[unit.env.rpartition(" ")[2]]
    if unit.contender == "data":
        from maxent_rl.data.datasets.files import read_dataset

        found = read_dataset(path)
        returns = found.returns
        values = {"return": float(returns.mean()) if len(returns) else float("nan"), "transitions": float(found.size)}
        return Measured([Seed(0, values, {})], {})
    if unit.contender in REFERENCES:
        given, episodes = settings["given"], settings["episodes"]
        if given is None:
            reference = uniform_return(settings["env"], episodes)
        else:
            reference = _played(given, episodes) if Path(given).exists() else _number(given)
        return Measured([Seed(0, {"return": reference}, {})], {})
    return measure_run(runs, read_seeds, unit._replace(flags=(*unit.flags, "--dataset", str(Path(path).absolute()))))


def _played(run: str, episodes: int) -> float:
    from maxent_rl.playing.evaluation import evaluate_policy
    from maxent_rl.runs.policy import load_policy

    return float(evaluate_policy(load_policy(run), episodes).mean)


def _number(given: str) -> float:
    try:
        return float(given)
    except ValueError as error:
        raise BenchmarkError(f"{given} is neither a run nor a return.") from error


def _pairs(flag: str, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise BenchmarkError(f"{flag} takes NAME=VALUE, got {pair!r}.")
        found[name] = value
    return found


def _environment(path: str) -> str:
    from maxent_rl.data.datasets.files import read_dataset

    env = read_dataset(path).env
    if env is None:
        raise BenchmarkError(f"{path} does not say of which environment it is.")
    return env


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    files = sorted(file for file in Path(path).rglob("*") if file.is_file()) if Path(path).is_dir() else [Path(path)]
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def main() -> int:
    """Measures or renders; returns the exit status."""
    options = tyro.cli(Study | Render, description=__doc__)
    if isinstance(options, Render):
        options.run()
        return 0
    result = options.run()
    from offline_control_tables import table

    print(table(result))
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
