"""The networks of dichotomy of control: readers of the past and of the future, the policy, and the energy.

Source: Dichotomy of Control: Separating What You Can Control from What You Cannot (arXiv 2210.13435). All read steps as
`SequenceReader` does; `steps` stands for its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.sequence import SequenceConfig, SequenceReader
from maxent_rl.networks.trunk import MLP

# Of what becomes a latent's law: posterior and prior begin near each other, and no deviation at its bound.
_SMALL = nn.initializers.normal(0.1)


class HistoryReader(nn.Module):
    """Numbers for each step, of all up to its state."""

    config: SequenceConfig
    outputs: int

    @nn.compact
    def __call__(self, *steps: Array) -> Array:
        """Reads windows and gives [B, T, outputs]."""
        outputs: Array = nn.Dense(self.outputs, kernel_init=_SMALL)(SequenceReader(self.config)(*steps))
        return outputs


class FutureReader(nn.Module):
    """Numbers for a whole window, of all in it, actions and outcomes too.

    A transformer has read everything at the last place; plain networks see one step each, so their features are averaged.
    """

    config: SequenceConfig
    outputs: int

    @nn.compact
    def __call__(self, *steps: Array) -> Array:
        """Reads windows, the last of whose places is never padded, and gives [B, outputs]."""
        features, mask = SequenceReader(self.config, upto="action")(*steps), steps[-1][..., None]
        pooled = features[:, -1]
        if not self.config.layers:
            mean = jnp.sum(features * mask, axis=1) / jnp.sum(mask, axis=1)
            pooled = MLP((self.config.width,))(mean)
        outputs: Array = nn.Dense(self.outputs, kernel_init=_SMALL)(pooled)
        return outputs


class LatentPolicy(nn.Module):
    """Policy and value, of features of the past and a latent of the future."""

    config: SequenceConfig
    hidden_sizes: Sequence[int]
    outputs: int

    def setup(self) -> None:
        """Makes the reader and both heads."""
        self.reader = SequenceReader(self.config)
        self.policy = nn.Sequential([MLP(tuple(self.hidden_sizes)), nn.Dense(self.outputs)])
        self.value = nn.Sequential([MLP(tuple(self.hidden_sizes)), nn.Dense(1)])

    def __call__(self, latent: Array, *steps: Array) -> tuple[Array, Array]:
        """Policy outputs [B, T, outputs] and values [B, T] with one latent [B, latent] for each window."""
        features = self.features(*steps)
        repeated = jnp.broadcast_to(latent[:, None], (*features.shape[:2], latent.shape[-1]))
        return self.heads(features, repeated)

    def features(self, *steps: Array) -> Array:
        """[B, T, width]."""
        features: Array = self.reader(*steps)
        return features

    def heads(self, features: Array, latent: Array) -> tuple[Array, Array]:
        """Policy outputs and values of features [..., width] and latents [..., latent]."""
        inputs = jnp.concatenate([features, latent], axis=-1)
        return self.policy(inputs), self.value(inputs)[..., 0]


class OutcomeEnergy(nn.Module):
    """Energies of outcomes, given the past and the action, with and without the latent.

    An energy is the dot product of features of the condition and of the outcome, so that the energies of n outcomes under
    all conditions of a batch are one matrix product.
    """

    config: SequenceConfig
    hidden_sizes: Sequence[int]

    @nn.compact
    def __call__(self, latent: Array, outcome: Array, outcomes: Array, *steps: Array) -> tuple[Array, ...]:
        """Energies of what happened, and of other outcomes instead.

        Args:
          latent: [B, latent].
          outcome: [B, T, entries] what followed each step.
          outcomes: [n, entries] the others.
          *steps: as `SequenceReader` takes them.

        Returns:
          (observed [B, T], sampled [B, T, n]) with the latent, then the same two without.
        """
        past = jnp.concatenate([SequenceReader(self.config)(*steps), steps[2]], axis=-1)
        repeated = jnp.broadcast_to(latent[:, None], (*past.shape[:2], latent.shape[-1]))
        width, scale = self.config.width, self.config.width**-0.5

        def features(name: str, use_bias: bool = True) -> nn.Sequential:
            return nn.Sequential([MLP(tuple(self.hidden_sizes)), nn.Dense(width, use_bias=use_bias)], name=name)

        told = features("condition")(jnp.concatenate([past, repeated], axis=-1))
        untold = features("past")(past)
        # What all outcomes share cancels in the energy term: of a bias only rounding would be left, which Adam makes large.
        embed = features("outcome", use_bias=False)
        happened, others = embed(outcome), embed(outcomes)
        found: list[Array] = []
        for condition in (told, untold):
            found += [scale * jnp.sum(condition * happened, axis=-1), scale * condition @ others.T]
        return tuple(found)
