"""Who learns from which labels, and what makes the data."""

from __future__ import annotations

import dataclasses
import shlex
from typing import ClassVar

from benchmarks.lab.study import Unit, refuse_unknown

ENV = "Pendulum"

_SAC = "--agent sac --hidden-sizes 128 128 --learning-rate 1e-3 --batch-size 128 --eval-every 5000 --eval-episodes 50"
HALF = f"{_SAC} --total-steps 6500"
ORACLE = f"{_SAC} --total-steps 20000"
DATA = "--episodes 1000 --length 32 --label regret --action-noise 0.3"
"""What makes the data: flags of experiments/run.py for the policy that plays and the one that judges, and of
experiments/dataset.py."""

_OFFLINE = "--agent cpl --hidden-sizes 64 64 --dropout 0 --batch-size 32 --learning-rate 1e-3 --warmup-steps 1000"
_SCHEDULE = "--bc-steps 3000 --total-steps 12000 --eval-every 1000 --eval-episodes 20 --checkpoint-every 4000"

METHODS = {
    "bc": f"{_OFFLINE} {_SCHEDULE} --method bc",
    "sft": f"{_OFFLINE} {_SCHEDULE} --method sft",
    "cpl": f"{_OFFLINE} {_SCHEDULE}",
    "cpl-unbiased": f"{_OFFLINE} {_SCHEDULE} --bias 1",
    "cpl-bc": f"{_OFFLINE} {_SCHEDULE} --preset cpl-bc",
    "cpl-kl": f"{_OFFLINE} {_SCHEDULE} --preset cpl-kl",
    "reward": f"{_SAC.replace('--agent sac', '--agent sac-preference')} --eval-every 1000 --eval-episodes 20 "
    "--total-steps 15000 --checkpoint-every 5000 --reward-hidden-sizes 64 64 --reward-batch-size 32 --reward-updates 3000",
}
"""By name: flags of experiments/run.py. Everyone but "reward" learns offline; "reward" also acts, for 15,000 steps."""

FLIPS = (0.0, 0.1, 0.3)
"""Shares of the labels that are turned round."""
REFERENCES = ("uniform", "data", "better half", "oracle")
"""What the returns are read beside; not trained here."""
LABELS = {
    "uniform": "uniform actions",
    "data": "the data",
    "better half": "better half of the data's episodes",
    "oracle": "oracle",
    "bc": "BC on all segments",
    "sft": "BC, then on the preferred (SFT)",
    "cpl": "CPL (bias 0.5)",
    "cpl-unbiased": "CPL (bias 1)",
    "cpl-bc": "CPL-BC",
    "cpl-kl": "CPL-KL",
    "reward": "fitted reward, then SAC",
}


def contender(method: str, flip: float) -> str:
    """A method and its data, as the results name them; cloning reads no labels and stands there once."""
    return method if method in (*REFERENCES, "bc") else f"{method} {flip:.0%}"


@dataclasses.dataclass(frozen=True)
class PreferenceLearning:
    """Who learns from which labels."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Who learns, in this order."""
    num_seeds: int = 3
    """Seeds of each method, all in one program."""
    seed: int = 0
    """The first seed."""
    flips: tuple[float, ...] = FLIPS
    """Shares of the labels that are turned round, each a data set of its own."""
    sources: str = ""
    """Further flags of experiments/run.py for the policy that plays and the oracle, after the table's."""
    data: str = ""
    """Further flags of experiments/dataset.py, after the table's: `--data="--episodes 20"`."""
    arguments: str = ""
    """Further flags of experiments/run.py for everyone who learns, after the table's."""
    cpl_arguments: str = ""
    """Further flags of experiments/run.py for everyone but "reward", after the table's."""

    part: ClassVar[str] = "preference_learning"

    def units(self) -> list[Unit]:
        """What is measured: references first, then method by method.

        Raises:
          BenchmarkError: an unknown method.
        """
        refuse_unknown("method", self.methods, METHODS)
        measured = {
            "half": f"{HALF} {self.sources}",
            "oracle": f"{ORACLE} {self.sources}",
            "data": f"{DATA} {self.data}",
        }
        units = [Unit(ENV, name, (), measured) for name in REFERENCES]
        for flip in self.flips:
            for name in self.methods:
                if name != "bc" or flip == self.flips[0]:
                    flags = self._flags(name)
                    units.append(Unit(ENV, contender(name, flip), flags, measured | {"flip": flip}))
        return units

    def _flags(self, method: str) -> tuple[str, ...]:
        seeds = ("--num-seeds", str(self.num_seeds), "--seed", str(self.seed))
        own = "" if method == "reward" else self.cpl_arguments
        return (*shlex.split(f"--env {ENV} {METHODS[method]}"), *seeds, *shlex.split(f"{self.arguments} {own}"))
