"""The temperature as a part: a weight that is learned until what it weighs is held at a target.

The weight of the entropy is the one idea that soft agents, PPO and objectives for tokens share, and a penalty's multiplier
is the same thing with another sign. What is learned is its logarithm, by Adam, whatever `losses.temperature` says of it.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905), section 5.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from maxent_rl import losses

TemperatureMode: TypeAlias = Literal["log", "dual", "fixed"]


@struct.dataclass
class Temperature:
    """How a temperature moves. Its state is the logarithm [] and Adam's state, kept by whoever has the temperature.

    Attributes:
      target: the entropy to hold, in nats.
      rate: Adam's step size.
      mode: "log": by log-alpha times the surplus of entropy; "dual": by alpha times it, the paper's own form; "fixed": never.
      flat: Adam's state is kept as one vector, as agents keep it that do so for all their networks.
      beta1: share of Adam's mean gradient that stays in each step.
    """

    target: Any = 0.0
    rate: Any = 3e-4
    mode: TemperatureMode = struct.field(pytree_node=False, default="log")  # type: ignore[no-untyped-call]
    flat: bool = struct.field(pytree_node=False, default=False)  # type: ignore[no-untyped-call]
    beta1: float = struct.field(pytree_node=False, default=0.9)  # type: ignore[no-untyped-call]

    def init(self, weight: Any) -> tuple[Array, optax.OptState]:
        """The logarithm of the weight to begin with, and Adam's state for it."""
        log_alpha = jnp.log(jnp.asarray(weight, jnp.float32))
        return log_alpha, self._optimizer().init(log_alpha)

    def weight(self, log_alpha: Array, entropy: Array | None = None) -> Array:
        """The weight [] of the entropy; given the present one [], with the proportional term of `damped_temperature`."""
        return jnp.exp(log_alpha) if entropy is None else losses.damped_temperature(log_alpha, entropy, self.target)

    def step(
        self, log_alpha: Array, optimizer: optax.OptState, log_prob: Array
    ) -> tuple[Array, optax.OptState, Array | None]:
        """One step of Adam towards the target.

        Args:
          log_alpha: [] logarithm of the temperature.
          optimizer: Adam's state.
          log_prob: [...] of sampled actions, or minus entropies, in nats; held constant.

        Returns:
          (log_alpha, Adam's state, loss [], or None where the temperature is fixed).
        """
        if self.mode == "fixed":
            return log_alpha, optimizer, None
        form = losses.temperature_loss if self.mode == "log" else losses.temperature_loss_dual
        value, slope = jax.value_and_grad(lambda log_alpha: jnp.mean(form(log_alpha, log_prob, self.target)))(log_alpha)
        step, optimizer = self._optimizer().update(slope, optimizer)
        moved: Any = optax.apply_updates(log_alpha, step)
        return moved, optimizer, value

    def _optimizer(self) -> optax.GradientTransformation:
        adam = optax.adam(self.rate, self.beta1)
        return optax.flatten(adam) if self.flat else adam
