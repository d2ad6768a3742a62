"""BroNet: written out in NumPy, and what its normalisation makes invariant."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.networks.bronet import BroNetTrunk

TRUNK = BroNetTrunk(8, 2)
ROWS = jax.random.normal(jax.random.key(1), (16, 3))
features_of = jax.jit(TRUNK.apply)
first = functools.cache(lambda: jax.jit(TRUNK.init)(jax.random.key(0), ROWS))


def moved() -> dict:
    """Parameters none of which is at its first value."""
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), first())


def written_out(parameters, rows):
    parameters = jax.tree.map(np.float64, parameters["params"])

    def layer(index, inputs):
        outputs = inputs @ parameters[f"Dense_{index}"]["kernel"] + parameters[f"Dense_{index}"]["bias"]
        scores = (outputs - outputs.mean(-1, keepdims=True)) / np.sqrt(outputs.var(-1, keepdims=True) + 1e-6)
        norm = parameters[f"LayerNorm_{index}"]
        return scores * norm["scale"] + norm["bias"]

    stream = np.maximum(layer(0, np.float64(rows)), 0)
    for block in range(2):
        stream = stream + layer(2 * block + 2, np.maximum(layer(2 * block + 1, stream), 0))
    return stream


@pytest.mark.slow
def test_blocks_add_a_normalised_branch_and_nothing_follows_the_sum() -> None:
    parameters = moved()
    features = features_of(parameters, ROWS)
    assert_close(features, written_out(parameters, ROWS))
    assert np.min(features) < -0.1


def test_weights_are_orthogonal_of_gain_root_two_and_biases_zero() -> None:
    layers = first()["params"]
    assert sum(name.startswith("Dense") for name in layers) == 1 + 2 * 2
    for name in ("Dense_1", "Dense_4"):
        kernel = layers[name]["kernel"]
        assert_close(kernel.T @ kernel, 2 * np.eye(8))
        assert not np.any(layers[name]["bias"])


def test_a_common_scale_of_the_first_layer_changes_nothing() -> None:
    parameters = jax.tree.map(
        lambda leaf: 1e3 * leaf, moved()
    )  # beside which the 1e-6 of the normalisation are nothing
    scaled = jax.tree.map(jnp.copy, parameters)
    scaled["params"]["Dense_0"] = jax.tree.map(lambda leaf: 7 * leaf, scaled["params"]["Dense_0"])
    assert_close(features_of(scaled, ROWS), features_of(parameters, ROWS))


@pytest.mark.slow
def test_seeds_side_by_side_are_each_as_alone() -> None:
    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(lambda key: TRUNK.apply(TRUNK.init(key, ROWS), ROWS)))(keys)
    alone = jax.jit(lambda key: TRUNK.apply(TRUNK.init(key, ROWS), ROWS))
    for key, features in zip(keys, together, strict=True):
        assert_close(features, alone(key))
