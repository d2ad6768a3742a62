"""What networks soft actor-critics have, and what is made of several critics: settings, and the parts built by them.

Source: what each setting names; `docs/training.md` has the papers.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import (
    CriticEnsemble,
    NormName,
    ProjectionName,
    TrunkName,
    TrunkPlan,
    ValueHead,
    make_value_head,
    project,
)
from maxent_rl.settings import Count, Fraction, NonNegative, Positive, Settings, flag, static
from maxent_rl.types import Array, PyTree
from maxent_rl.usage import above, unless, when

_PLAIN = when(network="mlp")
_NORMALISED = when(network="mlp") & (unless(policy_norm="none") | unless(critic_norm="none"))
_BY_BATCHES = when(network="mlp", policy_norm="batch") | when(network="mlp", critic_norm="batch")
_CATEGORICAL = when(critic_value="categorical")


@struct.dataclass
class Architecture(Settings):
    """Networks of policy and critics."""

    hidden_sizes: tuple[Count, ...] = static((256, 256))
    """Width of each hidden layer (mlp) or residual block (the others), for policy and critics."""
    critic_hidden_sizes: tuple[Count, ...] | None = static(None)
    """The same for the critics alone; None for --hidden-sizes."""
    network: TrunkName = static("mlp")
    """Plain layers with ReLU, or residual blocks: with layer normalisation (simba, bronet), on a sphere (simbav2, which wants
    --projection columns), or with batch normalisation (flash, which wants --projection norms)."""
    policy_norm: NormName = static("none", used_when=_PLAIN)
    """Normalisation in the policy's plain layers."""
    critic_norm: NormName = static("none", used_when=_PLAIN)
    """Normalisation in the critics' plain layers: layer (DroQ), rms, or batch, with which present and next actions go through
    the critics together (CrossQ)."""
    norm_after: bool = static(False, used_when=_NORMALISED)
    """Normalise after the activation (CrossQ), not before (XQC)."""
    batch_renorm: bool = static(False, used_when=_BY_BATCHES)
    """Correct batch statistics towards the running ones after 100,000 updates (CrossQ)."""
    projection: ProjectionName = static("none")
    """Scale the weights of each unit to length 1 after every step: those of hidden layers, or of all (XQC, SimbaV2), and
    normalisations' scales and biases with them (FlashSAC: norms)."""
    num_critics: Count = static(2)
    """Critics; more than two together with target-critics is REDQ."""
    target_critics: Count = static(2)
    """Critics, drawn anew for each update, that make the target."""
    target_value: Literal["min", "mean"] = static("min", used_when=above(target_critics=1))
    """What the target takes of them: the least value, or the mean (BRO)."""
    target_network: bool = static(True)
    """Whether targets come from slow copies of the critics, or from the critics themselves (CrossQ)."""
    actor_value: Literal["min", "mean"] = static("min", used_when=above(num_critics=1))
    """What the policy climbs: the minimum of all critics, or their mean (REDQ, TQC)."""
    critic_value: Literal["scalar", "categorical", "quantile"] = static("scalar")
    """What critics learn: the value, a histogram of it within --value-bound (C51), or quantiles (TQC)."""
    num_bins: Count = static(101, used_when=_CATEGORICAL)
    """Bins of categorical critics."""
    value_bound: Positive = static(5.0, used_when=_CATEGORICAL | when(reward_scale="bound"))
    """Largest value of categorical critics, whose bins begin at minus it; in units of divided return with --reward-scale."""
    categorical_target: Literal["moved", "gaussian"] = static("moved", used_when=_CATEGORICAL)
    """What categorical critics learn: the next histogram, moved by the reward, or a Gaussian about its mean (HL-Gauss)."""
    num_quantiles: Count = static(25, used_when=when(critic_value="quantile"))
    """Quantiles of each quantile critic."""
    dropped_quantiles: NonNegative = static(2, used_when=when(critic_value="quantile", target_value="min"))
    """Largest quantiles that targets leave out, for each critic."""
    critic_dropout: Fraction = static(0.0, used_when=_PLAIN)
    """Share of the critics' hidden units that are dropped (DroQ: 0.01)."""

    def _check_architecture(self) -> None:
        if self.target_critics > self.num_critics:
            raise InvalidSettingError(
                f"--target-critics ({self.target_critics}) must be at most --num-critics ({self.num_critics})."
            )
        if self.critic_dropout >= 1.0:
            raise InvalidSettingError("--critic-dropout must be less than 1.")
        for name in ("hidden_sizes", "critic_hidden_sizes"):
            if self.network != "mlp" and len(set(getattr(self, name) or (0,))) != 1:
                words = f"--network {self.network} needs equal {flag(name)}: a residual stream has one width."
                raise InvalidSettingError(words)
        if self.network != "mlp" and (self.policy_norm, self.critic_norm) != ("none", "none"):
            raise InvalidSettingError(
                f"--policy-norm and --critic-norm are of --network mlp; {self.network} has its own."
            )
        if self.critic_value == "quantile" and not self.dropped_quantiles < self.num_quantiles:
            raise InvalidSettingError("--dropped-quantiles must be less than --num-quantiles.")

    def _some_critics(self, outputs: Array, subset_key: Array) -> Array:
        """What those critics say that make the target: all, or as many as that takes, drawn anew."""
        if self.target_critics < self.num_critics:
            outputs = outputs[jax.random.permutation(subset_key, self.num_critics)[: self.target_critics]]
        return outputs

    def _climbed(self, q: Array) -> Array:
        """What the policy climbs, [...], of the critics' values [num_critics, ...]."""
        return jnp.min(q, axis=0) if self.actor_value == "min" else jnp.mean(q, axis=0)

    @property
    def _head(self) -> ValueHead:
        numbers = self.num_quantiles if self.critic_value == "quantile" else self.num_bins
        average, gaussian = self.target_value == "mean", self.categorical_target == "gaussian"
        return make_value_head(self.critic_value, numbers, self.value_bound, self.dropped_quantiles, average, gaussian)

    def _trunk(self) -> TrunkPlan:
        return TrunkPlan(self.network, self.hidden_sizes, self.policy_norm, self.norm_after, self.batch_renorm)

    def _critic_network(self, num_actions: int | None = None) -> CriticEnsemble:
        return CriticEnsemble(self._critic_trunk(), self.num_critics, self._head.num_outputs, num_actions)

    def _critic_trunk(self) -> TrunkPlan:
        sizes = self.hidden_sizes if self.critic_hidden_sizes is None else self.critic_hidden_sizes
        return TrunkPlan(self.network, sizes, self.critic_norm, self.norm_after, self.batch_renorm, self.critic_dropout)

    def _projected(self, parameters: PyTree) -> PyTree:
        return project(parameters, self.projection)
