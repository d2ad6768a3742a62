"""What networks read of observations that end in images: a few numbers for each image, in its place.

Source: the encoder of Improving Sample Efficiency in Model-Free Reinforcement Learning from Images (arXiv 1910.01741) and of
Image Augmentation Is All You Need (arXiv 2004.13649): layers of 32 filters of 3 x 3 with ReLU, a dense layer to 50 features,
layer normalisation, tanh. They take one layer of stride 2 and three of stride 1 on 84 x 84 pixels; here every layer has stride
2, and there are as many as leave at most 4 x 4 places, so that any size of image will do and little is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from maxent_rl.networks.initializers import orthogonal
from maxent_rl.spaces import Frame

PyTree: TypeAlias = Any

_FIRST_FILTERS, _FILTERS, _FEATURES, _MOST_PLACES = 16, 32, 50, 4
_BRIGHTEST = 255.0


class HalvingConvolution(nn.Module):
    """Filters of 3 x 3 with stride 2, and zeros below and to the right of the image: half as many places each way.

    A matrix product over all windows, not XLA's convolution: on CPUs that one is 10 to 20 times as slow within a loop, where
    all training happens, as outside of one (jax 0.10.2), and of several seeds under vmap it makes a convolution in groups.

    Attributes:
      filters: number of them.
    """

    filters: int

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Maps [..., height, width, channel] to [..., height / 2, width / 2, filter], halves rounded up."""
        kernel = self.param("kernel", orthogonal(math.sqrt(2.0)), (3, 3, image.shape[-1], self.filters))
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        places: Array = halving_windows(image) @ kernel.reshape(-1, self.filters) + bias
        return places


def halving_windows(image: Array) -> Array:
    """Every second window of 3 x 3, [..., height / 2, width / 2, 9 channel], from [..., height, width, channel]."""
    *leading, height, width, channels = image.shape
    rows, columns = -(-height // 2), -(-width // 2)
    beyond = [(0, 2 * rows + 2 - height), (0, 2 * columns + 2 - width), (0, 0)]
    # In pairs of rows and of columns windows are slices without strides, whose gradients are cheap.
    pairs = jnp.pad(image, [(0, 0)] * len(leading) + beyond)
    pairs = pairs.reshape(*leading, rows + 1, 2, columns + 1, 2 * channels)
    upper, lower = (
        jnp.concatenate([pairs[..., row, :columns, :], pairs[..., row, 1:, :channels]], axis=-1) for row in range(2)
    )
    return jnp.concatenate([upper[..., :rows, :, :], lower[..., :rows, :, :], upper[..., 1:, :, :]], axis=-1)


class ImageReader(nn.Module):
    """From an image to its features."""

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Maps [..., height, width, channel], 0 to 1, to [..., feature] in (-1, 1)."""
        features = nn.relu(HalvingConvolution(_FIRST_FILTERS)(image))
        while max(features.shape[-3:-1]) > _MOST_PLACES:
            features = nn.relu(HalvingConvolution(_FILTERS)(features))
        features = features.reshape(*features.shape[:-3], -1)
        features = nn.Dense(_FEATURES, kernel_init=orthogonal())(features)
        return jnp.tanh(nn.LayerNorm()(features))


class Encoder(nn.Module):
    """Reads the images that end an observation; what stands before them stays as it is.

    Its parameters keep the frames as shapes of arrays without entries, `frame_0` of (height, width, channel, 0) and so on, so
    that it can be built again from its parameters alone, as all networks here.

    Attributes:
      frames: height, width and channels of each image.
    """

    frames: Sequence[Frame]

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """Maps [..., observation], images 0 to 255 with their channels last, to [..., feature]."""
        sizes = [math.prod(frame) for frame in self.frames]
        first = observation.shape[-1] - sum(sizes)
        parts = [observation[..., :first]]
        for index, (frame, size) in enumerate(zip(self.frames, sizes, strict=True)):
            self.param(f"frame_{index}", nn.initializers.zeros, (*frame, 0))
            image = observation[..., first : first + size].reshape(*observation.shape[:-1], *frame)
            parts.append(ImageReader(name=f"image_{index}")(image / _BRIGHTEST))
            first += size
        return jnp.concatenate(parts, axis=-1)


def init_encoded(
    network: nn.Module, keys: Array | dict[str, Array], frames: Sequence[Frame], observation: Array, *more: Any
) -> PyTree:
    """Parameters of a network that reads observations as `encode` gives them; its very own where these end in no images.

    Args:
      network: reads [..., feature], and `more`.
      keys: [] as its own `init` takes them.
      frames: height, width and channels of each image that ends an observation.
      observation: [observation], as an example.
      more: what else the network reads, likewise.
    """
    if not frames:
        return network.init(keys, observation, *more)
    key = jax.random.fold_in(keys["params"] if isinstance(keys, dict) else keys, 1)
    features, encoder = Encoder(tuple(frames)).init_with_output(key, observation)
    variables = network.init(keys, features, *more)
    return {**variables, "params": {**variables["params"], "encoder": encoder["params"]}}


def encode(parameters: PyTree, observation: Array) -> Array:
    """What a network reads of observations.

    Args:
      parameters: of the network, as from `init_encoded`.
      observation: [..., observation].

    Returns:
      [..., feature]: the observations as they are where the parameters have no encoder.
    """
    weights = parameters["params"].get("encoder")
    if weights is None:
        return observation
    count = sum(name.startswith("frame_") for name in weights)
    frames = [weights[f"frame_{index}"].shape[:-1] for index in range(count)]
    return cast(Array, Encoder(tuple(frames)).apply({"params": weights}, observation))


def with_encoder_of(parameters: PyTree, other: PyTree) -> PyTree:
    """Parameters of a network with the encoder of another one; the very same where that has none."""
    encoder = other["params"].get("encoder")
    return parameters if encoder is None else {**parameters, "params": {**parameters["params"], "encoder": encoder}}
