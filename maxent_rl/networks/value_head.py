"""What a critic's last layer says of a value: the value itself, a histogram over fixed bins, or quantiles.

Each says how many numbers a critic gives for an action, what value they mean, what they should be, and how far they are
from it, so that an agent's update is one whatever its critics are.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905); categorical ones A Distributional Perspective on
Reinforcement Learning (arXiv 1707.06887) and Stop Regressing (arXiv 2403.03950); quantiles Controlling Overestimation Bias
with Truncated Mixture of Continuous Distributional Quantile Critics (arXiv 2005.04269).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl import losses

ValueName: TypeAlias = Literal["scalar", "categorical", "quantile"]


class Step(NamedTuple):
    """What the soft Bellman equation needs of transitions beside the value of what follows.

    Attributes:
      reward: [batch].
      discount: [batch] factor of what follows.
      terminated: [batch].
      log_prob: [batch] of the action that follows, in nats.
      temperature: [] in return per nat.
    """

    reward: Array
    discount: Array
    terminated: Array
    log_prob: Array
    temperature: Array


class ValueHead(Protocol):
    """What an update asks of a kind of value. Outputs are [critic, ..., number], or [critic, ...] of values themselves."""

    @property
    def num_outputs(self) -> int | None:
        """Numbers that a critic gives for an action; None for the value itself."""
        ...

    def values(self, outputs: Array) -> Array:
        """[critic, ...] in units of return."""
        ...

    def target(self, outputs: Array, step: Step) -> Array:
        """What critics should say, [batch] or [batch, ...], from target critics' outputs [critic, batch, ...]; constant."""
        ...

    def error(self, outputs: Array, target: Array) -> Array:
        """How far critics are from it: [critic, batch]."""
        ...

    def mean(self, target: Array) -> Array:
        """The value [batch] that a target means."""
        ...


@dataclasses.dataclass(frozen=True)
class ScalarHead:
    """The value itself; a target takes the least of the critics'.

    Attributes:
      average: take their mean instead.
    """

    average: bool = False
    num_outputs: None = None

    def values(self, outputs: Array) -> Array:
        """As they are."""
        return outputs

    def target(self, outputs: Array, step: Step) -> Array:
        """The soft Bellman target [batch]."""
        value = jnp.mean(outputs, axis=0) if self.average else jnp.min(outputs, axis=0)
        return losses.soft_bellman_target(
            step.reward, step.discount, step.terminated, value, step.log_prob, step.temperature
        )

    def error(self, outputs: Array, target: Array) -> Array:
        """Half the squared error."""
        return losses.critic_loss(outputs, target)

    def mean(self, target: Array) -> Array:
        """The target."""
        return target


@dataclasses.dataclass(frozen=True)
class CategoricalHead:
    """Logits of bins that lie evenly from `low` to `high`; a target is the whole histogram of the critic that says least.

    Attributes:
      num_outputs: bins.
      low: value of the first.
      high: value of the last.
      average: the mean of the critics' histograms instead.
      gaussian: the target is a Gaussian histogram about the soft Bellman target (HL-Gauss), not the histogram moved.
    """

    num_outputs: int = 101
    low: float = -5.0
    high: float = 5.0
    average: bool = False
    gaussian: bool = False

    def values(self, outputs: Array) -> Array:
        """The histograms' means."""
        return losses.expected_value(outputs, self._atoms)

    def target(self, outputs: Array, step: Step) -> Array:
        """The histogram [batch, bin] that critics should have."""
        if self.average:
            probabilities = jnp.mean(jax.nn.softmax(outputs), axis=0)
        else:
            least = jnp.argmin(self.values(outputs), axis=0)
            chosen = jnp.take_along_axis(outputs, least[None, ..., None], axis=0)[0]
            probabilities = jax.nn.softmax(chosen)
        if not self.gaussian:
            return losses.soft_categorical_target(
                step.reward, step.discount, step.terminated, probabilities, step.log_prob, step.temperature, self._atoms
            )
        value = jnp.sum(probabilities * self._atoms, axis=-1)
        scalar = losses.soft_bellman_target(
            step.reward, step.discount, step.terminated, value, step.log_prob, step.temperature
        )
        return losses.gaussian_histogram(scalar, self._atoms)

    def error(self, outputs: Array, target: Array) -> Array:
        """Cross-entropy in nats."""
        return losses.categorical_value_loss(outputs, target)

    def mean(self, target: Array) -> Array:
        """The mean of the target's histogram."""
        return jnp.sum(target * self._atoms, axis=-1)

    @property
    def _atoms(self) -> Array:
        return losses.support(self.low, self.high, self.num_outputs)


@dataclasses.dataclass(frozen=True)
class QuantileHead:
    """Equally likely values; a target pools those of all critics and leaves out the largest (TQC).

    Attributes:
      num_outputs: quantiles of each critic.
      dropped: of the pooled ones, for each critic.
      average: the mean of the critics' quantiles of one level instead, in whatever order they are (BRO).
    """

    num_outputs: int = 25
    dropped: int = 2
    average: bool = False

    def values(self, outputs: Array) -> Array:
        """The quantiles' means."""
        return jnp.mean(outputs, axis=-1)

    def target(self, outputs: Array, step: Step) -> Array:
        """Equally likely values [batch, kept]."""
        dropped = self.dropped * outputs.shape[0]
        kept = jnp.mean(outputs, axis=0) if self.average else losses.kept_quantiles(outputs, dropped)
        return losses.soft_quantile_target(
            step.reward, step.discount, step.terminated, kept, step.log_prob, step.temperature
        )

    def error(self, outputs: Array, target: Array) -> Array:
        """The quantile Huber loss, a mean over quantiles and targets."""
        return losses.mean_quantile_huber_loss(outputs, target)

    def mean(self, target: Array) -> Array:
        """The mean of the kept values."""
        return jnp.mean(target, axis=-1)


def make_value_head(
    name: ValueName, num_outputs: Any, bound: float, dropped: int, average: bool, gaussian: bool
) -> ValueHead:
    """The head of that name.

    Args:
      name: of the kind.
      num_outputs: bins or quantiles.
      bound: of categorical ones, whose bins lie from minus it to it.
      dropped: as of `QuantileHead`.
      average: as of all.
      gaussian: as of `CategoricalHead`.
    """
    if name == "categorical":
        return CategoricalHead(num_outputs, -bound, bound, average, gaussian)
    return QuantileHead(num_outputs, dropped, average) if name == "quantile" else ScalarHead(average)
