"""Does entropy collapse, and what holds it: objectives for language models on tokens/countdown, at equal budgets.

    python benchmarks/entropy_collapse.py objectives   # grpo against what the entropy papers change of it
    python benchmarks/entropy_collapse.py targets      # how well an entropy is held
    python benchmarks/entropy_collapse.py render       # tables into benchmarks/README.md, and two figures

All seeds of a contender train in one program. A study can be stopped at any time: the same command goes on with what is not
done yet, or whose settings have changed. The settings are the tables below; flags change them from call to call.
"""

from __future__ import annotations

import abc
import dataclasses
import shlex
from functools import partial
from pathlib import Path
from typing import ClassVar

import tyro
from common import RESULTS, ROOT, BenchmarkError, command_line, exit_status
from entropy_collapse_records import LAST_EVALUATIONS, PART, measure_or_take_over
from entropy_collapse_tables import NAMES, OBJECTIVES, TARGETS, render, table
from multimodal_study import Result, Unit, refuse_unknown, study

ENV = "tokens/countdown"

EVERYONE = (
    f"--env {ENV} --agent grpo --num-envs 256 --group-size 8 --num-minibatches 4 --learning-rate 3e-4 --log-every 2560"
    # Held-out prompts: of 256, the mean over the last three evaluations is known to some 0.02.
    " --eval-every 12800 --eval-episodes 256 --checkpoint-every 51200 --keep-checkpoints 1"
    # The warm start lasts equally long for all seeds and contenders. If the loss ended it, seeds would get unequal shares
    # of the budget.
    " --warm-start-loss 0"
)
"""Flags of experiments/run.py for everyone: 256 responses of about 6 tokens and 4 optimiser steps in an iteration."""

CONTENDERS = {
    "grpo": "grpo",
    # DAPO's bound, alone: its dynamic sampling would change the number of responses.
    "clip_higher": "grpo clip_high=0.28",
    # A weight as people set it; the temperature that entropy_target finds for 0.6 nats is some 0.1.
    "entropy_bonus": "grpo entropy_bonus=0.01",
    # The papers' shares are less than one of the 370 tokens of a minibatch; 0.01 are three. The bounds 1 and 5 stay: the
    # covariance's top percentile (covariance/p99) falls from 2.8 to 1.4 here.
    "clip_cov": "clip_cov clip_share=0.01",
    "kl_cov": "kl_cov kl_cov_share=0.01",
    # With 16 tokens the discriminant has no long tail: after the warm start no token lies 2.5 deviations out (the paper's
    # width), and 1 to 2 % lie 2 out.
    "clip_b": "clip_b clip_b_width=2.0",
    # None lies 8.5 out (the paper's width), 3 % lie 2.5 out; of these as many as Clip-Cov takes, at most.
    "clip_v": "clip_v clip_v_width=2.5 clip_v_share=0.01",
    # Weights from 0.8 to 1, relative to the batch's largest change, so they need no scale.
    "steer": "steer steer_least=0.8",
    # The rarest 2 % of the punished tokens are all noise to the proxy (below 0.02 of the likeliest), and none is chosen; of
    # the rarest 20 % some 5 % of all tokens are.
    "lp_reg": "lp_reg lp_reg_share=0.2",
    # At the paper's 0.1 and temperatures of 1.2 and 0.8 the entropy fell as under grpo.
    "dcpo": (
        "dcpo target_entropy=0.6 estimate_from=vocabulary reinforce_most=1.0 hot_temperature=2.0 cold_temperature=0.5"
    ),
    # The paper's 60 of 2,560 rows are 6 of 256: without effect here, as were 64 at 1.5 and 0.67. Right ones drawn at 2 are
    # few, so they are drawn for all prompts, and those to solved prompts count.
    "aepo_arbitrary": (
        "aepo_arbitrary target_entropy=0.6 estimate_from=vocabulary estimate_rows=main side_responses=64 side_share=1.0"
        " side_select=reward hot_temperature=2.0 cold_temperature=0.5"
    ),
    # 0.6 for all who hold a target: near the entropy after the warm start, some 0.65.
    "entropy_target": "entropy_target target_entropy=0.6",
}
"""By name: the objective and its settings, where they differ from its defaults or the comment is about them."""


@dataclasses.dataclass(frozen=True)
class Study(abc.ABC):
    """What both parts have in common."""

    num_seeds: int = 3
    """Seeds of each contender, all in one program."""
    seed: int = 0
    """The first seed."""
    total_steps: int = 220_000
    """Right answers that are imitated, and responses, of each seed."""
    warm_start_steps: int = 102_400
    """The former of them."""
    arguments: str = ""
    """Further flags of experiments/run.py for everyone, after the table's: `--arguments="--hidden-size 128"`."""
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS
    """Folder of the results."""

    name: ClassVar[str]

    @abc.abstractmethod
    def objectives(self) -> dict[str, str]:
        """By contender: the objective and its settings.

        Raises:
          BenchmarkError: an unknown contender.
        """

    def units(self) -> list[Unit]:
        """The programs to run, one for each contender."""
        reading = {"part": PART, "last_evaluations": LAST_EVALUATIONS}
        return [Unit(ENV, name, self._flags(text), reading) for name, text in self.objectives().items()]

    def run(self) -> Result:
        """Runs experiments/run.py for each unit that the other part has not measured with the same settings."""
        others = [self.output / f"{name}.json" for name in NAMES if name != self.name and not self.fresh]
        measure = partial(measure_or_take_over, self.output.absolute() / "entropy-collapse-runs", others)
        return study(self.name, self.units(), measure, self, self.output, self.fresh)

    def _flags(self, text: str) -> tuple[str, ...]:
        objective, *settings = text.split()
        given = ("--objective-settings", *settings) if settings else ()
        steps = f"--total-steps {self.total_steps} --warm-start-steps {self.warm_start_steps}"
        seeds = f"--num-seeds {self.num_seeds} --seed {self.seed}"
        return (
            *shlex.split(f"{EVERYONE} --objective {objective}"),
            *given,
            *shlex.split(f"{steps} {seeds} {self.arguments}"),
        )


@dataclasses.dataclass(frozen=True)
class Objectives(Study):
    """Reward, variety and entropy under each objective."""

    contenders: tuple[str, ...] = tuple(CONTENDERS)
    """Who runs, in this order."""

    name: ClassVar[str] = OBJECTIVES

    def objectives(self) -> dict[str, str]:
        """Those of the table."""
        refuse_unknown("contender", self.contenders, CONTENDERS)
        return {name: CONTENDERS[name] for name in self.contenders}


@dataclasses.dataclass(frozen=True)
class Targets(Study):
    """How well an entropy is held that was asked for, and what it costs in reward."""

    contenders: tuple[str, ...] = ("entropy_target", "aepo_arbitrary")
    """Who holds it; plain grpo runs besides."""
    targets: tuple[float, ...] = (0.3, 0.6, 1.0)
    """Entropies to hold, in nats per token."""
    low_targets: tuple[float, ...] = (0.15, 0.2, 0.3)
    """Those of contenders that raise entropy by right answers alone, which have no more."""

    name: ClassVar[str] = TARGETS

    def objectives(self) -> dict[str, str]:
        """grpo, and each contender with each target, as NAME@TARGET."""
        found = {"grpo": CONTENDERS["grpo"]}
        for contender in self.contenders:
            settings = CONTENDERS.get(contender, "").split()
            if not any(setting.startswith("target_entropy=") for setting in settings):
                known = [name for name, text in CONTENDERS.items() if "target_entropy=" in text]
                raise BenchmarkError(f"{contender!r} holds no target; those that do: {', '.join(known)}.")
            others = [setting for setting in settings if not setting.startswith("target_entropy=")]
            for target in self.targets if contender == "entropy_target" else self.low_targets:
                # In the place that it has in the table: settings that are equal as text are measured once for both parts.
                found[f"{contender}@{target}"] = " ".join([others[0], f"target_entropy={target:g}", *others[1:]])
        return found


@dataclasses.dataclass(frozen=True)
class Render:
    """Tables between the markers of benchmarks/README.md, and the figures, from what has been measured."""

    results: Path = RESULTS
    """Folder with the results, and of the figures."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""

    def run(self) -> None:
        """Renders."""
        render(self.results, self.readme)


def main() -> int:
    """Measures or renders; returns the exit status."""
    options = tyro.cli(Objectives | Targets | Render, description=__doc__)
    if isinstance(options, Render):
        options.run()
        return 0
    result = options.run()
    print(table(result))
    return exit_status(result)


if __name__ == "__main__":
    command_line(main)
