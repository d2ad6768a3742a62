"""What every contender of a comparison does: SAC's work and PPO's, as flags of ours and of the peers' drivers."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

from benchmarks.lab.measure import BenchmarkError


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What every contender does in a run; steps are environment steps of one seed.

    Attributes:
      env: the environment's name, in our notation.
      backend: the physics of a Brax environment; None elsewhere.
      warmup_steps: with learning, before the window.
      window_steps: of the measured window.
      num_envs: environments side by side.
      hidden_sizes: of policy and critics.
    """

    env: str = "HalfCheetah-v5"
    backend: str | None = None
    warmup_steps: int = 500
    window_steps: int = 3000
    num_envs: int = 1
    hidden_sizes: tuple[int, ...] = (256, 256)

    gradient_steps_per_update: ClassVar[int] = 1  # gradient steps that metrics.csv counts as one update

    @property
    def begin(self) -> int:
        """The step at which the window begins."""
        return self.warmup_steps

    @property
    def end(self) -> int:
        """The step at which the window ends."""
        return self.begin + self.window_steps

    @property
    @abc.abstractmethod
    def gradient_steps(self) -> int:
        """How many the window must hold."""

    def flags(self) -> list[str]:
        """The flags that the drivers of the peers have in common."""
        return [
            *("--env", self.env.removeprefix("brax/")),
            *("--warmup-steps", str(self.warmup_steps)),
            *("--window-steps", str(self.window_steps)),
            *("--hidden-sizes", *map(str, self.hidden_sizes)),
        ]

    def product_flags(self) -> list[str]:
        """The flags of experiments/run.py: the same work, with nothing else in the window.

        The log lines are as few as can be: one at the window's beginning, one at its end.
        """
        every = math.gcd(self.begin, self.window_steps)
        if every < min(100, self.window_steps) or every % self.num_envs:
            raise BenchmarkError(
                f"start + warm-up ({self.begin}) and window ({self.window_steps}) need a large common divisor, of which "
                f"{self.num_envs} environments are a divisor: every log line would be measured too."
            )
        return [
            *("--env", self.env, "--num-envs", str(self.num_envs)),
            *(("--backend", self.backend) if self.backend else ()),
            *("--total-steps", str(self.end), "--log-every", str(every)),
            *("--eval-every", "0", "--eval-episodes", "1", "--checkpoint-every", "0"),
            *("--hidden-sizes", *map(str, self.hidden_sizes)),
        ]


@dataclasses.dataclass(frozen=True)
class Work(Task):
    """What SAC does; as many gradient steps as environments follow each vector step.

    Attributes:
      agent: ours; the peers' is SAC.
      start_steps: without learning.
      batch_size: transitions of a batch.
      replay_size: transitions that the buffer holds.
    """

    agent: str = "sac"
    start_steps: int = 1000
    batch_size: int = 256
    replay_size: int = 1_000_000

    @property
    def begin(self) -> int:
        """The step at which the window begins."""
        return self.start_steps + self.warmup_steps

    @property
    def gradient_steps(self) -> int:
        """One for each environment step."""
        return self.window_steps

    def flags(self) -> list[str]:
        """As `Task.flags`."""
        return [
            *super().flags(),
            *("--start-steps", str(self.start_steps)),
            *("--batch-size", str(self.batch_size)),
            *("--replay-size", str(self.replay_size)),
        ]

    def product_flags(self) -> list[str]:
        """As `Task.product_flags`."""
        return [
            *("--agent", self.agent, *super().product_flags()),
            *("--start-steps", str(self.start_steps), "--updates-per-step", "1"),
            *("--batch-size", str(self.batch_size), "--replay-size", str(self.replay_size)),
        ]


@dataclasses.dataclass(frozen=True)
class OnPolicyWork(Task):
    """What PPO does: it learns from every window of steps, and forgets it.

    Attributes:
      rollout_size: environment steps of an update, all environments together.
      epochs: passes over them.
      minibatches: gradient steps of a pass.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    rollout_size: int = 2048
    epochs: int = 10
    minibatches: int = 32

    @property
    def gradient_steps_per_update(self) -> int:  # type: ignore[override]
        """Our agent counts a rollout with all its gradient steps as one update."""
        return self.epochs * self.minibatches

    @property
    def gradient_steps(self) -> int:
        """As many for each rollout."""
        return self.window_steps // self.rollout_size * self.gradient_steps_per_update

    def flags(self) -> list[str]:
        """As `Task.flags`."""
        return [*super().flags(), "--num-envs", str(self.num_envs), *self._sizes()]

    def product_flags(self) -> list[str]:
        """As `Task.product_flags`."""
        if self.rollout_size % self.num_envs or self.begin % self.rollout_size or self.window_steps % self.rollout_size:
            raise BenchmarkError(
                f"warm-up ({self.begin}) and window ({self.window_steps}) must be multiples of the rollout "
                f"({self.rollout_size}), and that of the {self.num_envs} environments."
            )
        return ["--agent", "ppo", *super().product_flags(), *self._sizes()]

    def _sizes(self) -> list[str]:
        return [
            *("--rollout-size", str(self.rollout_size)),
            *("--epochs", str(self.epochs), "--minibatches", str(self.minibatches)),
        ]
