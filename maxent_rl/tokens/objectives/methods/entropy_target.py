"""The temperature of SAC, for tokens: a weight of the entropy that moves until the entropy is at its target.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905), section 5, with the proportional term of
`losses.damped_temperature`; that it holds the entropy of a policy over tokens is this library's, not a paper's.
"""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from maxent_rl.networks.temperature import Temperature
from maxent_rl.settings import Positive, Weight
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.regularisers import Regulariser, step_entropy
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class TemperatureState:
    """The logarithm [] of the temperature, and its optimiser's state."""

    log_alpha: Array
    optimizer: optax.OptState


@struct.dataclass
class EntropyTarget(Regulariser):
    """Rewards entropy with a temperature that holds its mean over the step at a target.

    The temperature alone, which is never negative, holds an entropy from below. Above the target only rewards would bring it
    down again, and where responses have become so random that none is right there are none: so there it is also punished,
    in proportion to the surplus.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    target_entropy: Weight = 0.5
    """The entropy to hold, in nats per token."""
    temperature_learning_rate: Positive = 0.01
    """Learning rate (Adam) of the logarithm of the temperature."""
    initial_temperature: Positive = 0.01
    """The temperature before the first step, in advantage per nat."""
    surplus_weight: Weight = 0.5
    """Weight against entropy for each nat above the target; 0 for the temperature alone, which is SAC's rule."""

    def init(self, key: Array) -> PyTree:
        """The initial temperature."""
        return TemperatureState(*self._temperature.init(self.initial_temperature))

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the weight of the entropy, the same at every token [N, T], and moves the temperature for the next step."""
        mean = step_entropy(work, self.target_entropy)  # no token, no surplus
        alpha = self._temperature.weight(state.log_alpha, mean)
        log_alpha, optimizer, _ = self._temperature.step(state.log_alpha, state.optimizer, -mean)
        state = TemperatureState(log_alpha, optimizer)
        work = work.measure(**{"temperature/alpha": alpha})
        weight = alpha - self.surplus_weight * jnp.maximum(mean - self.target_entropy, 0.0)
        return state, work.replace(found=jnp.broadcast_to(weight, work.mask.shape))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds to the penalty [N, T]."""
        assert work.found is not None and work.outputs.entropy is not None
        return state, work.replace(penalty=work.penalty - work.found * work.outputs.entropy)

    @property
    def _temperature(self) -> Temperature:
        return Temperature(self.target_entropy, self.temperature_learning_rate)


PRESETS: dict[str, Preset] = {
    "entropy_target": Preset(
        "grpo with SAC's temperature, which holds the entropy at a target",
        "Soft Actor-Critic Algorithms and Applications, arXiv 1812.05905",
        (GroupAdvantage(), Clipped(), EntropyTarget(), Aggregate()),
    ),
}
