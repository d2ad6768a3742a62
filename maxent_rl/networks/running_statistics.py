"""Running mean and variance of observations, and the running scale of rewards, as pytrees.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

_SMALLEST_VARIANCE = 1e-6
_SMALLEST_REWARD_VARIANCE = 1e-8
_LARGEST_SCORE = 10.0


@struct.dataclass
class RunningStatistics:
    """Moments of everything seen so far; of the leading entries of rows that go on beyond them, as those that end in images.

    Attributes:
      count: [] number of rows seen (float32).
      mean: [*row] their mean.
      variance: [*row] their population variance.
    """

    count: Array
    mean: Array
    variance: Array

    @classmethod
    def create(cls, size: int | tuple[int, ...]) -> RunningStatistics:
        """Nothing seen yet of rows of that size (or shape): normalising changes nothing but the clip."""
        return cls(count=jnp.zeros(()), mean=jnp.zeros(size), variance=jnp.ones(size))

    def add(self, rows: Array) -> RunningStatistics:
        """Takes in rows [..., *row], with any leading axes."""
        rows = self._covered(rows).reshape(-1, *self.mean.shape)
        batch_count = rows.shape[0]
        batch_mean = jnp.mean(rows, axis=0)
        total = self.count + batch_count
        share = batch_count / total
        delta = batch_mean - self.mean
        spread = share * jnp.var(rows, axis=0) + (1 - share) * self.variance + share * (1 - share) * delta**2
        return RunningStatistics(count=total, mean=self.mean + share * delta, variance=spread)

    def normalize(self, observation: Array) -> Array:
        """Maps [..., observation] to scores of mean 0 and variance 1, clipped to +-10; what goes beyond them stays as it is."""
        scale, covered = jnp.sqrt(jnp.maximum(self.variance, _SMALLEST_VARIANCE)), self._covered(observation)
        scores = jnp.clip((covered - self.mean) / scale, -_LARGEST_SCORE, _LARGEST_SCORE)
        if covered is observation:
            return scores
        return jnp.concatenate([scores, observation[..., covered.shape[-1] :]], axis=-1)

    def _covered(self, rows: Array) -> Array:
        """The entries of rows that have moments here: all of them, unless rows are longer."""
        longer = self.mean.ndim == 1 and rows.shape[-1] > self.mean.shape[0]
        return rows[..., : self.mean.shape[0]] if longer else rows


@struct.dataclass
class RewardScale:
    """The running standard deviation of the discounted sum of past rewards, by which rewards are divided.

    So the scale of returns is about 1 whatever the environment pays, and no reward changes its sign.

    Attributes:
      statistics: of the sums, one entry for each step of each environment.
      sums: [env] the running sum of each environment, 0 after an episode's end.

    Source: OpenAI baselines' VecNormalize, as Gymnasium's NormalizeReward has it; it is in no paper.
    """

    statistics: RunningStatistics
    sums: Array

    @classmethod
    def create(cls, num_envs: int) -> RewardScale:
        """Nothing seen yet: the scale is 1."""
        return cls(statistics=RunningStatistics.create(()), sums=jnp.zeros(num_envs))

    def add(self, reward: Array, done: Array, discount: Array | float) -> RewardScale:
        """Takes in a window.

        Args:
          reward: [time, env].
          done: [time, env] 1 where an episode ended, however it did.
          discount: [] factor per step.
        """

        def step(sums: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            sums = sums * discount + now[0]
            return sums * (1.0 - now[1]), sums

        last, sums = jax.lax.scan(step, self.sums, (reward, done))
        return RewardScale(statistics=self.statistics.add(sums), sums=last)

    def scale(self, reward: Array) -> Array:
        """Rewards [...] over the standard deviation, clipped to +-10."""
        deviation = jnp.sqrt(self.statistics.variance + _SMALLEST_REWARD_VARIANCE)
        return jnp.clip(reward / deviation, -_LARGEST_SCORE, _LARGEST_SCORE)
