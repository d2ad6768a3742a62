"""Running mean and variance of observations, and the running scale of rewards, as pytrees.

Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

# What varies less is taken for rounding. A variance, which a share of the largest among a row's entries may lower, as float32
# knows no entry better than to 1e-7 of the others that it was computed with; and a share of the square of an entry's own mean,
# which is that uncertain itself.
_SMALLEST_VARIANCE, _SMALLEST_SHARE, _SMALLEST_OF_MEAN = 1e-6, 1e-12, 1e-10
_SMALLEST_REWARD_VARIANCE, _SMALLEST_REWARD_SHARE = 1e-8, 1e-2
_TINY, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_LARGEST_SCORE = 10.0


@struct.dataclass
class RunningStatistics:
    """Moments of everything seen so far; of the leading entries of rows that go on beyond them, as those that end in images.

    Attributes:
      count: [] number of rows seen (float32).
      mean: [*row] their mean.
      variance: [*row] their population variance; float32's largest number where it is larger, which is from a standard
        deviation of 1.8e19 on.
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
        within, between = _variance(rows, batch_mean), jnp.minimum(delta**2, _LARGEST)  # 0 times infinity is no number
        spread = share * within + (1 - share) * self.variance + share * (1 - share) * between
        return RunningStatistics(count=total, mean=self.mean + share * delta, variance=jnp.minimum(spread, _LARGEST))

    def normalize(self, observation: Array) -> Array:
        """Maps [..., observation] to scores of mean 0 and variance 1, clipped to +-10; what goes beyond them stays as it is.

        An entry's standard deviation counts as 1e-5 of its mean at least, and as a millionth of that of the entry that varies
        most (0.001 where that is more): what varies less is rounding, and stays small.
        """
        floor = jnp.minimum(_SMALLEST_VARIANCE, _SMALLEST_SHARE * jnp.max(self.variance))
        floor = jnp.maximum(floor, jnp.minimum(_SMALLEST_OF_MEAN * self.mean * self.mean, _LARGEST))
        scale = jnp.sqrt(jnp.maximum(self.variance, jnp.maximum(floor, _TINY)))
        covered = self._covered(observation)
        scores = jnp.clip((covered - self.mean) / scale, -_LARGEST_SCORE, _LARGEST_SCORE)
        if covered is observation:
            return scores
        return jnp.concatenate([scores, observation[..., covered.shape[-1] :]], axis=-1)

    def _covered(self, rows: Array) -> Array:
        """The entries of rows that have moments here: all of them, unless rows are longer."""
        longer = self.mean.ndim == 1 and rows.shape[-1] > self.mean.shape[0]
        return rows[..., : self.mean.shape[0]] if longer else rows


def _variance(rows: Array, mean: Array) -> Array:
    """The population variance of rows [row, ...], where squares and their sum may be infinite in float32."""
    variance = jnp.var(rows, axis=0)
    bounded = jnp.minimum(jnp.sum((rows - mean) ** 2 / len(rows), axis=0), _LARGEST)
    return jnp.where(jnp.isfinite(variance), variance, bounded)


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
        last, sums = self._sums(reward, done, discount)
        return RewardScale(statistics=self.statistics.add(sums), sums=last)

    def scale(self, reward: Array) -> Array:
        """Rewards [...] over the standard deviation, clipped to +-10."""
        variance = self.statistics.variance
        # Half a percent more at most where rewards are tiny, and what it always was elsewhere.
        extra = jnp.minimum(_SMALLEST_REWARD_VARIANCE, _SMALLEST_REWARD_SHARE * variance)
        deviation = jnp.sqrt(jnp.maximum(variance + extra, _TINY))
        return jnp.clip(reward / deviation, -_LARGEST_SCORE, _LARGEST_SCORE)

    def _sums(self, reward: Array, done: Array, discount: Array | float) -> tuple[Array, Array]:
        """The sums [env] to go on with, and those [time, env] after each step."""

        def step(sums: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            sums = sums * discount + now[0]
            return sums * (1.0 - now[1]), sums

        last, sums = jax.lax.scan(step, self.sums, (reward, done))
        return last, sums


@struct.dataclass
class ReturnBound(RewardScale):
    """A running divisor of rewards for critics whose values lie within bounds, applied to rewards as they are replayed.

    Attributes:
      largest: [] the largest magnitude of a running discounted sum so far.

    Source: Hyperspherical Normalization for Scalable Deep Reinforcement Learning (arXiv 2502.15280); without the bound XQC
    (arXiv 2509.25174). Both let a terminal step's reward into the next episode's sum; here a sum ends with its episode.
    """

    largest: Array

    @classmethod
    def create(cls, num_envs: int) -> ReturnBound:
        """Nothing seen yet: the divisor is 1."""
        base = RewardScale.create(num_envs)
        return cls(statistics=base.statistics, sums=base.sums, largest=jnp.zeros(()))

    def add(self, reward: Array, done: Array, discount: Array | float) -> ReturnBound:
        """As `RewardScale.add`."""
        last, sums = self._sums(reward, done, discount)
        largest = jnp.maximum(self.largest, jnp.max(jnp.abs(sums)))
        return ReturnBound(statistics=self.statistics.add(sums), sums=last, largest=largest)

    def divisor(self, bound: float | None) -> Array:
        """[] what rewards are divided by: the standard deviation of the sums, and no less than brings all within `bound`."""
        deviation = jnp.sqrt(self.statistics.variance + _SMALLEST_REWARD_VARIANCE)
        return deviation if bound is None else jnp.maximum(deviation, self.largest / bound)
