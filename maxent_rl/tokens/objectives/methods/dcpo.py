"""DCPO: hold the entropy at a target by a REINFORCE term under a virtual policy of another temperature.

Right answers are rewarded as if they had been drawn hotter (when the entropy is below its target) or colder (when above):
each token's reward is multiplied by how much likelier it would have been then. No further responses are drawn.

Source: Distribution-Centric Policy Optimization Dominates Exploration-Exploitation Trade-off (arXiv 2601.12730), in the form
of the released code, which divides by zero where no answer is right; here the term is 0 then. The paper's own formula of the
coefficient could not be confirmed.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Finite, Positive, Weight, static
from maxent_rl.tokens.batch import TokenBatch, token_advantages
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.estimate import EntropyEstimate, Source
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Statistic, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree


@struct.dataclass
class DCPOState:
    """Its estimate of the entropy, and the share `weight` [] that the REINFORCE term had in the last batch."""

    estimate: EntropyEstimate
    weight: Array


@struct.dataclass
class DCPO(Shape):
    """Mixes into the advantages a reward under the policy at another temperature: `(1 - w) A + w [right] rho`."""

    target_entropy: Weight = 0.5
    """The entropy to hold, in nats per token (the paper's best: 0.25)."""
    hot_temperature: Positive = 1.2
    """Temperature of the virtual policy while the entropy is not above its target."""
    cold_temperature: Positive = 0.8
    """And while it is."""
    reinforce_most: Weight = 0.1
    """The largest weight of the REINFORCE term beside the policy gradient; below it, the distance from the target in nats."""
    right_above: Finite = 0.05
    """A response is right whose reward is larger than this."""
    tilt_most: Positive | None = None
    """The largest factor rho of a single token; None for no bound but e^20, so that nothing becomes infinite."""
    estimate_from: Source = static("sampled")
    """Estimate the entropy from the sampled tokens, or from the whole vocabulary (less noise)."""

    def init(self, key: Array) -> PyTree:
        """An entropy of 0: the first batch is answered with more."""
        return DCPOState(EntropyEstimate.create(), jnp.zeros(()))

    def temperature(self, state: PyTree) -> Array:
        """[] of the virtual policy for the next batch."""
        return jnp.where(state.estimate.value <= self.target_entropy, self.hot_temperature, self.cold_temperature)

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """The log-probability of each token under the virtual policy."""
        temperature = self.temperature(state)

        def tempered_log_prob(log_probs: Array, tokens: Array) -> Array:
            return tempered(log_probs, tokens, temperature)

        return {"tempered_log_prob": tempered_log_prob}

    def prepare(self, state: PyTree, batch: TokenBatch) -> tuple[PyTree, TokenBatch]:
        """Sets the advantages [N, T]."""
        estimate = state.estimate.restart()
        right = (batch.scored & (batch.outcomes > self.right_above)).astype(jnp.float32)
        share = losses.masked_mean(right, batch.scored)
        weight = reinforce_weight(estimate.value, self.target_entropy, self.reinforce_most, share)
        tilt = losses.importance_ratio(batch.statistics["tempered_log_prob"], batch.logp_old)
        tilt = tilt if self.tilt_most is None else jnp.minimum(tilt, self.tilt_most)
        mixed = (1.0 - weight) * token_advantages(batch) + weight * right[:, None] * tilt
        mixed = jnp.where(batch.mask, mixed, 0.0)
        return DCPOState(estimate, weight), dataclasses.replace(batch, advantages=mixed)

    def counts(self, batch: TokenBatch, counts: dict[str, Array]) -> dict[str, Array]:
        """The tokens of the estimate of the entropy."""
        return counts | {"dcpo": jnp.sum(batch.mask, axis=-1)}

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Adds the step to the estimate of the entropy."""
        estimate = state.estimate.add(work, work.mask, "dcpo", self.estimate_from, self.title)
        measured = {"entropy/estimate": estimate.before, "reinforce/weight": state.weight}
        return DCPOState(estimate, state.weight), work.measure(**measured)


def tempered(log_probs: Array, tokens: Array, temperature: Array | float) -> Array:
    """The log-probability of tokens under `softmax(log_probs / temperature)`: [..., V], [...] to [...]."""
    scaled = log_probs / temperature
    taken = jnp.take_along_axis(scaled, tokens[..., None], axis=-1)[..., 0]
    return taken - jax.nn.logsumexp(scaled, axis=-1)


def reinforce_weight(entropy: Array, target_entropy: Array | float, most: Array | float, right: Array | float) -> Array:
    """The share of the REINFORCE term in the advantages: `a / (a + right)` with `a = min(|target - entropy|, most)`.

    The term then weighs exactly `a` beside the policy gradient in the mean over the batch, whatever share of it is right.

    Args:
      entropy: [] nats.
      target_entropy: [] nats.
      most: [] the largest `a`.
      right: [] share of right responses.

    Returns:
      [] between 0 and 1; 0 where no response is right.

    Source: arXiv 2601.12730, released code.
    """
    strength = jnp.minimum(jnp.abs(target_entropy - entropy), most)
    right = jnp.asarray(right)
    return jnp.where(right > 0, strength / jnp.where(right > 0, strength + right, 1.0), 0.0)


PRESETS: dict[str, Preset] = {
    "dcpo": Preset(
        "entropy held at a target by rewarding right answers under a virtual policy of another temperature",
        "Distribution-Centric Policy Optimization, arXiv 2601.12730",
        (GroupAdvantage(), DCPO(), Clipped(dual_clip=3.0), Aggregate()),
    ),
}
