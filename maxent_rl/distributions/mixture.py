"""Mixtures of Gaussians, and of Gaussians squashed by tanh: policies with several modes.

Source: Probabilistic Mixture-of-Experts for Efficient Deep Reinforcement Learning (arXiv 2104.09122). Densities are
log-sums of exponentials throughout, so that neither a far action nor a weight of 1e-30 makes a value or a gradient infinite.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl.distributions.categorical import Categorical
from maxent_rl.distributions.gaussian import Gaussian
from maxent_rl.distributions.tanh_gaussian import TanhGaussian, arctanh_clipped, log_abs_det_tanh


@struct.dataclass
class GaussianMixture:
    """`sum_k w_k Normal(mean_k, exp(log_std_k))`, each diagonal.

    Attributes:
      logits: [..., expert] logarithms of the weights, up to a constant.
      mean: [..., expert, action].
      log_std: [..., expert, action] natural logarithms of the standard deviations.
    """

    logits: Array
    mean: Array
    log_std: Array

    @property
    def router(self) -> Categorical:
        """The distribution over experts."""
        return Categorical(self.logits)

    @property
    def experts(self) -> Gaussian:
        """All experts, [..., expert] of them."""
        return Gaussian(self.mean, self.log_std)

    def sample(self, key: Array) -> Array:
        """Draws an expert and an action from it: [..., action]. The gradient reaches that expert, and no router."""
        return self.sample_with_expert(key)[0]

    def sample_with_expert(self, key: Array) -> tuple[Array, Array]:
        """The action [..., action] that `sample` draws from the same key, and the expert [...] int32 that drew it."""
        choice_key, noise_key = jax.random.split(key)
        choice = self.router.sample(choice_key)
        return self.expert(choice).sample(noise_key), choice

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws an action [..., action]; its log-density [...] is that of the whole mixture, in nats."""
        action = self.sample(key)
        return action, self.log_prob(action)

    def log_prob(self, action: Array) -> Array:
        """Log-density [...] of given actions [..., action] under the whole mixture, in nats."""
        return jax.nn.logsumexp(self._joint(action), axis=-1)

    def responsibilities(self, action: Array) -> Array:
        """Probability that each expert drew a given action: [..., action] to [..., expert], summing to 1."""
        return jax.nn.softmax(self._joint(action), axis=-1)

    def entropy(self, key: Array) -> Array:
        """Estimate of the entropy, [...] in nats, from one sample of each expert; there is no closed form.

        Its gradient is an unbiased estimate of the entropy's: the choice of an expert, through which no gradient could
        flow, is not drawn but averaged over by the weights.
        """
        log_prob = jax.vmap(self.log_prob, in_axes=-2, out_axes=-1)(self.experts.sample(key))
        return -jnp.sum(jnp.exp(self.router.log_probs) * log_prob, axis=-1)

    def entropy_bounds(self, key: Array | None = None) -> tuple[Array, Array]:
        """Bounds of the entropy, [...] each, in nats, by the chain rule: that of the chosen expert, and the router's added.

        Args:
          key: not used; the experts' entropies are exact.
        """
        lower = jnp.sum(jnp.exp(self.router.log_probs) * self.experts.entropy(), axis=-1)
        return lower, lower + self.router.entropy()

    def moments(self) -> Gaussian:
        """The Gaussian that has the mixture's mean and variance in every dimension."""
        weight = jnp.exp(self.router.log_probs)[..., None]
        mean = jnp.sum(weight * self.mean, axis=-2)
        spread = jnp.exp(2.0 * self.log_std) + (self.mean - mean[..., None, :]) ** 2
        return Gaussian(mean, 0.5 * jnp.log(jnp.sum(weight * spread, axis=-2)))

    def mode(self, ascent_steps: int = 0) -> Array:
        """The mean of the heaviest expert, [..., action], or what a few steps uphill from there find.

        Args:
          ascent_steps: steps of mean shift, none of which lowers the density; near a mode each is a Newton step.
        """
        value = self.expert(self.router.mode()).mean
        precision = jnp.exp(-2.0 * self.log_std)
        for _ in range(ascent_steps):
            # The stationary points of a Gaussian mixture are the fixed points of this average.
            weight = self.responsibilities(value)[..., None] * precision
            value = jnp.sum(weight * self.mean, axis=-2) / jnp.sum(weight, axis=-2)
        return value

    def expert(self, index: Array) -> Gaussian:
        """One expert at each observation, given its number [...] int32."""
        index = index[..., None, None]
        pick = [jnp.take_along_axis(leaf, index, axis=-2)[..., 0, :] for leaf in (self.mean, self.log_std)]
        return Gaussian(*pick)

    def _joint(self, action: Array) -> Array:
        """[..., expert] log of weight times density."""
        return self.router.log_probs + self.experts.log_prob(action[..., None, :])


@struct.dataclass
class TanhGaussianMixture:
    """tanh(u) with u from a mixture of Gaussians: the policy of SAC with several modes.

    Attributes:
      logits: [..., expert] logarithms of the weights, up to a constant.
      mean: [..., expert, action] of the Gaussians before squashing.
      log_std: [..., expert, action] natural logarithms of their standard deviations.
    """

    logits: Array
    mean: Array
    log_std: Array

    @property
    def router(self) -> Categorical:
        """The distribution over experts."""
        return Categorical(self.logits)

    @property
    def experts(self) -> TanhGaussian:
        """All experts, [..., expert] of them."""
        return TanhGaussian(self.mean, self.log_std)

    @property
    def pre_tanh(self) -> GaussianMixture:
        """The mixture before squashing."""
        return GaussianMixture(self.logits, self.mean, self.log_std)

    def sample(self, key: Array) -> Array:
        """Draws an expert and an action from it: [..., action] in (-1, 1). The gradient reaches that expert, and no router."""
        return jnp.tanh(self.pre_tanh.sample(key))

    def sample_with_expert(self, key: Array) -> tuple[Array, Array]:
        """The action [..., action] that `sample` draws from the same key, and the expert [...] int32 that drew it."""
        drawn, choice = self.pre_tanh.sample_with_expert(key)
        return jnp.tanh(drawn), choice

    def expert(self, index: Array) -> TanhGaussian:
        """One expert at each observation, given its number [...] int32."""
        chosen = self.pre_tanh.expert(index)
        return TanhGaussian(chosen.mean, chosen.log_std)

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """Draws an action and scores it under the whole mixture, without ever inverting tanh; see `TanhGaussian`."""
        drawn = self.pre_tanh.sample(key)
        return jnp.tanh(drawn), self.log_prob_pre_tanh(drawn)

    def log_prob(self, action: Array) -> Array:
        """Log-density [...] of given actions [..., action], in nats; clipped at the box's edge as `TanhGaussian` does."""
        return self.log_prob_pre_tanh(arctanh_clipped(action))

    def log_prob_pre_tanh(self, pre_tanh: Array) -> Array:
        """Log-density [...] of `tanh(pre_tanh)`, in nats, exact however large `pre_tanh` [..., action] is."""
        return self.pre_tanh.log_prob(pre_tanh) - jnp.sum(log_abs_det_tanh(pre_tanh), axis=-1)

    def responsibilities(self, action: Array) -> Array:
        """Probability that each expert drew a given action: [..., action] to [..., expert], summing to 1."""
        return self.pre_tanh.responsibilities(arctanh_clipped(action))

    def entropy(self, key: Array) -> Array:
        """As `GaussianMixture.entropy`. The entropy itself is at most `action * log 2`."""
        drawn = self.pre_tanh.experts.sample(key)
        log_prob = jax.vmap(self.log_prob_pre_tanh, in_axes=-2, out_axes=-1)(drawn)
        return -jnp.sum(jnp.exp(self.router.log_probs) * log_prob, axis=-1)

    def entropy_bounds(self, key: Array) -> tuple[Array, Array]:
        """As `GaussianMixture.entropy_bounds`, with each expert's entropy estimated from one sample."""
        lower = jnp.sum(jnp.exp(self.router.log_probs) * self.experts.entropy(key), axis=-1)
        return lower, lower + self.router.entropy()

    def mode(self, ascent_steps: int = 0) -> Array:
        """The tanh of `GaussianMixture.mode`, [..., action]: the mode before squashing, as that of `TanhGaussian` is."""
        return jnp.tanh(self.pre_tanh.mode(ascent_steps))
