"""Who learns from which data, and what returns are read beside."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
from pathlib import Path
from typing import ClassVar

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.study import Unit, refuse_unknown
from maxent_rl.data.datasets.files import read_dataset

METHODS = {"bc": "--agent bc", "td3-bc": "--agent td3-bc", "iql": "--agent iql", "cql": "--agent cql"}
"""By name: flags of experiments/run.py; all else is the agent's own default, which is the published one."""
REFERENCES = ("random", "expert", "data")
"""What returns are read beside; not trained here."""
LABELS = {"bc": "BC", "td3-bc": "TD3+BC", "iql": "IQL", "cql": "CQL"}
"""As people read them."""


@dataclasses.dataclass(frozen=True)
class OfflineControl:
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

    part: ClassVar[str] = "offline_control"

    def units(self) -> list[Unit]:
        """What is measured: on each data set the references first, then method by method.

        Raises:
          BenchmarkError: an unknown method, or data and experts that are not there.
        """
        refuse_unknown("method", self.methods, METHODS)
        experts, randoms = _pairs("--expert", self.expert), _pairs("--random", self.random)
        units = []
        for name, path in self.paths.items():
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

    @property
    def paths(self) -> dict[str, str]:
        """Of the data sets, by name."""
        return _pairs("--data", self.data)

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


def _pairs(flag: str, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise BenchmarkError(f"{flag} takes NAME=VALUE, got {pair!r}.")
        found[name] = value
    return found


def _environment(path: str) -> str:
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
