"""A critic of actions that also predicts what it will see next, from features of its own making.

Source: Relative Entropy Pathwise Policy Optimization (arXiv 2507.11019), with the layers of its released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
from jax import Array

from maxent_rl.networks.critic import joined
from maxent_rl.networks.trunk import MLP


def rms_layers(hidden_sizes: Sequence[int], name: str) -> MLP:
    """Dense layers, each divided by the root mean square of its outputs, with a learned scale, before the swish."""
    lecun = nn.initializers.lecun_normal()
    return MLP(tuple(hidden_sizes), norm="rms", activation="swish", kernel_init=lecun, name=name)


class Foresight(NamedTuple):
    """What the critic makes of an action.

    Attributes:
      features: [..., feature], which are what it predicts of the next step.
      logits: [..., bin] of the value's distribution, in nats.
      next_features: [..., feature] predicted, of the next observation and action.
      reward: [...] predicted, in the unit of rewards.
    """

    features: Array
    logits: Array
    next_features: Array
    reward: Array


class PredictiveCritic(nn.Module):
    """An encoder of observation and action with two heads on its features: the value's distribution, and what comes next.

    Attributes:
      width: of every layer, and of the features.
      bins: of the value's distribution.
    """

    width: int
    bins: int

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Foresight:
        """Reads [..., observation] and [..., action]; without a use of its predictions no arithmetic goes into them."""
        hidden = rms_layers((self.width,), "encoder")(joined(observation, action))
        features = nn.Dense(self.width, name="features")(hidden)
        read = nn.swish(features)
        logits = nn.Dense(self.bins, name="value_head")(rms_layers((self.width,), "value")(read))
        predicted = nn.Dense(self.width + 1, name="prediction_head")(rms_layers((self.width,), "prediction")(read))
        return Foresight(features, logits, predicted[..., 1:], predicted[..., 0])
