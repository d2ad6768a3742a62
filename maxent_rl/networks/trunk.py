"""Trunks: from a vector of inputs to a vector of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

TrunkName: TypeAlias = Literal["mlp", "simba"]
Activation: TypeAlias = Literal["tanh", "relu", "swish", "selu"]


class MLP(nn.Module):
    """Dense layers with an activation after each; dropout and layer normalisation, if any, before it (as DroQ has them).

    Initialised, unless told otherwise, as PyTorch does (uniform, variance 1 / (3 fan-in)), under which the published
    results of SAC were made.
    """

    hidden_sizes: Sequence[int]
    layer_norm: bool = False
    dropout: float = 0.0
    activation: Activation = "relu"
    kernel_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., inputs] to [..., hidden_sizes[-1]]."""
        features = inputs
        kernel_init = self.kernel_init or torch_uniform()
        for size in self.hidden_sizes:
            features = nn.Dense(size, kernel_init=kernel_init)(features)
            if self.dropout:
                features = nn.Dropout(self.dropout, deterministic=False)(features)
            if self.layer_norm:
                features = nn.LayerNorm()(features)
            features = _ACTIVATIONS[self.activation](features)
        return features


def selu(inputs: Array) -> Array:
    """The self-normalising activation, [...] to [...].

    Below zero with `exp - 1` where `jax.nn.selu` has `expm1`, to within 1e-7: an update of a network of 64 x 64 units takes
    15 % less time by it on a CPU.

    Source: Self-Normalizing Neural Networks (arXiv 1706.02515), equation 2.
    """
    below = _SELU_ALPHA * (jnp.exp(jnp.minimum(inputs, 0.0)) - 1.0)
    return _SELU_SCALE * jnp.where(inputs > 0, inputs, below)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "swish": nn.swish,
    "selu": selu,
}


class FeedForward(nn.Module):
    """Plain layers and a linear last one, all with LeCun-normal weights and zero biases, as SELU wants them."""

    hidden_sizes: Sequence[int]
    outputs: int
    activation: Activation = "selu"

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., inputs] to [..., outputs]."""
        kernel_init = nn.initializers.lecun_normal()
        trunk = MLP(tuple(self.hidden_sizes), activation=self.activation, kernel_init=kernel_init, name="trunk")
        outputs: Array = nn.Dense(self.outputs, kernel_init=kernel_init, name="head")(trunk(inputs))
        return outputs


class SimbaTrunk(nn.Module):
    """Residual blocks with layer normalisation before each and after the last, one block per entry of `hidden_sizes`.

    Source: SimBa: Simplicity Bias for Scaling Up Parameters in Deep Reinforcement Learning (arXiv 2410.09754), section 4.
    All entries must be equal: a residual stream has one width. Each block widens it four times inside.
    """

    hidden_sizes: Sequence[int]

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps [..., inputs] to [..., hidden_sizes[-1]]."""
        width = self.hidden_sizes[-1]
        stream = nn.Dense(width, kernel_init=orthogonal(1.0))(inputs)
        for _ in self.hidden_sizes:
            branch = nn.LayerNorm()(stream)
            branch = nn.relu(nn.Dense(4 * width, kernel_init=nn.initializers.he_normal())(branch))
            stream = stream + nn.Dense(width, kernel_init=nn.initializers.he_normal())(branch)
        features: Array = nn.LayerNorm()(stream)
        return features


TRUNKS: tuple[TrunkName, ...] = ("mlp", "simba")


def make_trunk(
    name: TrunkName, hidden_sizes: Sequence[int], layer_norm: bool = False, dropout: float = 0.0
) -> nn.Module:
    """Builds a trunk by name.

    Args:
      name: one of `TRUNKS`.
      hidden_sizes: width of each hidden layer or residual block.
      layer_norm: layer normalisation before each ReLU of an MLP (SimBa has its own).
      dropout: fraction of an MLP's units dropped before each ReLU.

    Raises:
      ValueError: for an unknown name, or for SimBa with unequal widths.
    """
    if name == "mlp":
        return MLP(hidden_sizes=tuple(hidden_sizes), layer_norm=layer_norm, dropout=dropout)
    if name == "simba":
        if len(set(hidden_sizes)) != 1:
            raise ValueError(f"SimBa needs equal hidden sizes, got {tuple(hidden_sizes)}.")
        return SimbaTrunk(hidden_sizes=tuple(hidden_sizes))
    raise ValueError(f"Unknown network {name!r}; expected one of {TRUNKS}.")


def torch_uniform() -> nn.initializers.Initializer:
    """Uniform in +-1/sqrt(fan-in), PyTorch's default for linear layers."""
    return nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform", dtype=jnp.float32)


def orthogonal(gain: float = 1.0) -> nn.initializers.Initializer:
    """Orthogonal weights, with seeds under `vmap` decomposed one after the other.

    On CPUs jaxlib divides a batch of decompositions among the threads of a pool, and waits for them on a thread of that very
    pool: as many batches at once as there are threads, two layers on two cores, wait for each other for good.
    """
    drawn = nn.initializers.orthogonal(gain)

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        one = jax.custom_batching.sequential_vmap(lambda key: drawn(key, shape, dtype))  # type: ignore[no-untyped-call]
        weights: Array = one(key)
        return weights

    return init
