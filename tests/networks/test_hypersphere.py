"""SimbaV2's network: the sheet's numbers, and what its spheres make invariant."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.networks.hypersphere import (
    HypersphericalBlock,
    HypersphericalEmbedder,
    HypersphericalHead,
    HypersphericalTrunk,
    unit_length,
)

TRUNK = HypersphericalTrunk(8, 2)
ROWS = jax.random.normal(jax.random.key(1), (16, 3))
features_of = jax.jit(TRUNK.apply)
PARAMETERS = functools.cache(lambda: jax.jit(TRUNK.init)(jax.random.key(0), ROWS))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ((3.0, 4.0), (0.51449576, 0.68599434, 0.51449576)),
        ((30.0, 40.0), (0.59892281, 0.79856374, 0.05989228)),
        ((0.0, 0.0), (0.0, 0.0, 1.0)),
    ],
)
def test_the_embedder_sees_inputs_with_three_appended_on_the_sphere(inputs, expected) -> None:
    """With an identity for weights and one scale for all, that is also what it gives."""
    parameters = {"Dense_0": {"kernel": jnp.eye(3)}, "Scaler_0": {"scaler": jnp.ones(3)}}
    embedder = HypersphericalEmbedder(3)
    assert_close(jax.jit(embedder.apply)({"params": parameters}, jnp.array(inputs)), np.array(expected))


@pytest.mark.parametrize(
    ("share", "expected"), [(1 / 3, (0.89442719, 0.44721360)), (0.0, (1.0, 0.0)), (1.0, (0.0, 1.0))]
)
def test_a_block_goes_its_share_of_the_way_from_one_axis_to_the_other(share, expected) -> None:
    parameters = {
        "Dense_0": {"kernel": jnp.ones((2, 8))},
        "Dense_1": {"kernel": jnp.stack([jnp.zeros(8), jnp.ones(8)], axis=1)},
        "Scaler_0": {"scaler": jnp.ones(8)},
        "Scaler_1": {"scaler": jnp.full(2, 2**-0.5)},
    }
    block = HypersphericalBlock(2, share)
    assert_close(jax.jit(block.apply)({"params": parameters}, jnp.array([1.0, 0.0])), np.array(expected))


@pytest.mark.slow
def test_scales_begin_as_published_for_512_features() -> None:
    shapes = jax.eval_shape(HypersphericalTrunk(512, 2).init, jax.random.key(0), jnp.ones(3))["params"]
    assert shapes["HypersphericalBlock_0"]["Dense_0"]["kernel"].shape == (512, 2048)
    embedder = HypersphericalEmbedder(512).init(jax.random.key(0), jnp.ones(3))["params"]
    assert_close(embedder["Scaler_0"]["scaler"], np.full(512, 0.0625))
    block = HypersphericalBlock(512, 1 / 3)
    scales = jax.jit(block.init)(jax.random.key(0), jnp.ones(512))["params"]
    assert_close(scales["Scaler_0"]["scaler"], np.full(2048, 0.03125))
    assert_close(scales["Scaler_1"]["scaler"], np.full(512, 0.044194174))
    assert_close((1 / 3) / scales["Scaler_1"]["scaler"], np.full(512, 7.5424723))


@pytest.mark.slow
def test_features_have_length_one_however_long_the_inputs_are() -> None:
    for scale in (0.0, 1e-6, 1.0, 1e6):
        features = features_of(PARAMETERS(), scale * ROWS)
        assert_close(np.sum(np.square(features), axis=-1), np.ones(16))


def test_the_lengths_of_inputs_are_not_lost() -> None:
    near, far = (features_of(PARAMETERS(), scale * ROWS) for scale in (1.0, 3.0))
    assert np.max(np.abs(near - far)) > 0.05


def test_no_layer_has_a_bias_and_all_columns_begin_with_length_one() -> None:
    kernels = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(PARAMETERS())}
    assert not any("bias" in name for name in kernels)
    kernels = [leaf for name, leaf in kernels.items() if "kernel" in name]
    assert len(kernels) == 1 + 2 * 2
    for kernel in kernels:
        assert_close(np.sum(np.square(kernel), axis=0), np.ones(kernel.shape[1]))


@pytest.mark.slow
def test_the_head_is_two_layers_with_a_scale_between_and_a_bias_after() -> None:
    head = HypersphericalHead(3)
    features = unit_length(jnp.arange(1.0, 5.0))
    parameters = jax.jit(head.init)(jax.random.key(0), features)["params"]
    parameters = jax.tree.map(lambda leaf: leaf + 0.5, parameters)
    inner, outer = parameters["Dense_0"]["kernel"], parameters["Dense_1"]["kernel"]
    expected = (features @ inner * parameters["Scaler_0"]["scaler"]) @ outer + parameters["Dense_1"]["bias"]
    assert "bias" not in parameters["Dense_0"] and inner.shape == (4, 4)
    assert_close(jax.jit(head.apply)({"params": parameters}, features), expected)


@pytest.mark.slow
def test_seeds_side_by_side_are_each_as_alone() -> None:
    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(lambda key: TRUNK.apply(TRUNK.init(key, ROWS), ROWS)))(keys)
    alone = jax.jit(lambda key: TRUNK.apply(TRUNK.init(key, ROWS), ROWS))
    for key, features in zip(keys, together, strict=True):
        assert_close(features, alone(key))


@pytest.mark.slow
def test_gradients_are_finite_where_inputs_are_zero() -> None:
    slopes = jax.jit(jax.grad(lambda row: jnp.sum(TRUNK.apply(PARAMETERS(), row) ** 3)))(jnp.zeros(3))
    assert np.isfinite(slopes).all() and np.any(slopes)
    assert np.isfinite(jax.grad(lambda row: jnp.sum(unit_length(row)))(jnp.zeros(3))).all()
