"""Lengths of weights after a step of the optimiser: the sheets' numbers, and which layers are meant."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.networks import OrthogonalCategoricalPolicy, ValueFunction
from maxent_rl.networks.hypersphere import HypersphericalHead, HypersphericalTrunk
from maxent_rl.networks.initializers import unit_orthogonal
from maxent_rl.networks.projection import project

projected = jax.jit(project, static_argnames="kind")
KERNEL = jnp.array([[3.0, 0.0], [4.0, 5.0]])
LAYER = {"kernel": KERNEL, "bias": jnp.array([12.0, 0.0])}


def test_columns_get_length_one() -> None:
    assert_close(projected({"kernel": KERNEL}, kind="columns"), {"kernel": np.array([[0.6, 0], [0.8, 1]])})
    kernel = jnp.array([[3.0, 1.0], [4.0, 1.0]])
    expected = np.array([[0.6, 0.70710678], [0.8, 0.70710678]])
    assert_close(projected({"kernel": kernel}, kind="columns"), {"kernel": expected})


def test_a_hidden_bias_shares_the_length_and_an_outputs_bias_is_free() -> None:
    layers = projected({"MLP_0": {"Dense_0": LAYER}, "head": LAYER}, kind="columns")
    expected = {"bias": np.array([12 / 13, 0]), "kernel": np.array([[3 / 13, 0], [4 / 13, 1]])}
    assert_close(layers["MLP_0"]["Dense_0"], expected)
    assert_close(layers["head"], {"bias": np.array([12.0, 0]), "kernel": np.array([[0.6, 0], [0.8, 1]])})


def test_normalisations_get_the_length_they_begin_with() -> None:
    norms = {
        "BatchNorm_0": {"scale": jnp.array([1.0, 2.0, 2.0]), "bias": jnp.zeros(3)},
        "BatchNorm_1": {"scale": jnp.ones(3), "bias": jnp.array([1.0, 0.0, 0.0])},
        "RMSNorm_0": {"scale": jnp.array([3.0, 4.0])},
    }
    found = projected(norms, kind="norms")
    assert_close(found["BatchNorm_0"]["scale"], np.array([0.5773503, 1.1547005, 1.1547005]))
    factor = 0.8660254
    assert_close(found["BatchNorm_1"], {"scale": np.full(3, factor), "bias": np.array([factor, 0, 0])})
    assert_close(found["RMSNorm_0"]["scale"], np.array([0.8485281, 1.1313708]))
    for kind in ("none", "hidden", "columns"):
        jax.tree.map(np.testing.assert_array_equal, projected(norms, kind=kind), norms)


@pytest.mark.parametrize("kind", ["none", "hidden", "columns", "norms"])
def test_doing_it_twice_changes_nothing(kind: str) -> None:
    tree = {"MLP_0": {"Dense_0": LAYER, "BatchNorm_0": {"scale": 3 * jnp.ones(2), "bias": jnp.ones(2)}}, "head": LAYER}
    once = projected(tree, kind=kind)
    assert_close(projected(once, kind=kind), once)


def test_a_column_of_zeros_stays_and_has_a_finite_gradient() -> None:
    zeros = {"kernel": jnp.zeros((2, 1))}
    np.testing.assert_array_equal(projected(zeros, kind="columns")["kernel"], zeros["kernel"])
    slopes = jax.jit(jax.grad(lambda tree: jnp.sum(project(tree, "columns")["kernel"])))(zeros)
    assert np.isfinite(slopes["kernel"]).all()


@pytest.mark.parametrize("outputs", [("head",), ("head", "router"), ("mean", "log_std"), ("Dense_0",)])
@pytest.mark.parametrize("trunk", ["MLP_0", "SimbaTrunk_0", "trunk"])
def test_what_stands_beside_a_trunk_is_output(trunk: str, outputs: tuple[str, ...]) -> None:
    network = {trunk: {"Dense_0": LAYER}, "encoder": {"Dense_0": LAYER}} | dict.fromkeys(outputs, LAYER)
    hidden = projected({"params": {"critic_0": network}}, kind="hidden")["params"]["critic_0"]
    assert_close(np.sum(hidden[trunk]["Dense_0"]["kernel"][:, 1] ** 2), 1.0)
    for name in ("encoder", *outputs):
        jax.tree.map(np.testing.assert_array_equal, hidden[name], network[name])
    columns = projected({"params": {"critic_0": network}}, kind="columns")["params"]["critic_0"]
    for name in outputs:
        np.testing.assert_array_equal(columns[name]["bias"], LAYER["bias"])
        assert_close(columns[name]["kernel"], np.array([[0.6, 0], [0.8, 1]]))


@pytest.mark.slow
@pytest.mark.parametrize("network", [OrthogonalCategoricalPolicy((4,), "tanh", 2), ValueFunction((4,), "tanh")])
def test_networks_of_the_package_have_one_hidden_layer_and_one_output(network) -> None:
    parameters = jax.jit(network.init)(jax.random.key(0), jnp.ones(3))
    doubled = jax.tree.map(lambda leaf: 2 * leaf + 1, parameters)
    found, free = (projected(doubled, kind=kind)["params"] for kind in ("columns", "hidden"))
    hidden = found["MLP_0"]["Dense_0"]
    assert_close(np.sum(hidden["kernel"] ** 2, axis=0) + hidden["bias"] ** 2, np.ones(4))
    assert_close(np.sum(found["head"]["kernel"] ** 2, axis=0), np.ones(found["head"]["bias"].shape))
    jax.tree.map(np.testing.assert_array_equal, free["head"], doubled["params"]["head"])


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["HypersphericalEmbedder_0", "HypersphericalBlock_1"])
def test_the_length_of_a_column_before_projection_changes_nothing(layer: str) -> None:
    trunk, rows = HypersphericalTrunk(8, 2), jax.random.normal(jax.random.key(1), (16, 3))
    features_of, parameters = jax.jit(trunk.apply), jax.jit(trunk.init)(jax.random.key(0), rows)
    expected = features_of(parameters, rows)
    kernel = parameters["params"][layer]["Dense_0"]["kernel"]
    parameters["params"][layer]["Dense_0"]["kernel"] = kernel * jnp.ones(kernel.shape[1]).at[2].set(10.0)
    assert np.max(np.abs(features_of(parameters, rows) - expected)) > 0.01
    assert_close(features_of(projected(parameters, kind="columns"), rows), expected)


def test_a_hyperspherical_head_keeps_its_bias() -> None:
    head = jax.jit(HypersphericalHead(3).init)(jax.random.key(0), jnp.ones(4))["params"]
    head = jax.tree.map(lambda leaf: leaf + 0.5, head)
    found = projected({"HypersphericalTrunk_0": {"Dense_0": LAYER}, "head": head}, kind="columns")["head"]
    np.testing.assert_array_equal(found["Dense_1"]["bias"], head["Dense_1"]["bias"])
    np.testing.assert_array_equal(found["Scaler_0"]["scaler"], head["Scaler_0"]["scaler"])
    for layer in ("Dense_0", "Dense_1"):
        assert_close(np.sum(found[layer]["kernel"] ** 2, axis=0), np.ones(found[layer]["kernel"].shape[1]))


def test_each_seed_under_vmap_is_projected_as_alone() -> None:
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf + 1]), {"MLP_0": {"Dense_0": LAYER}, "head": LAYER})
    together = jax.jit(jax.vmap(lambda tree: project(tree, "norms")))(two)
    for seed in range(2):
        alone = projected(jax.tree.map(lambda leaf, seed=seed: leaf[seed], two), kind="norms")
        assert_close(jax.tree.map(lambda leaf, seed=seed: leaf[seed], together), alone)


def test_convolutions_are_left_alone() -> None:
    layer = {"kernel": jnp.full((3, 3, 2, 4), 2.0), "bias": jnp.ones(4)}
    jax.tree.map(np.testing.assert_array_equal, projected({"Conv_0": layer}, kind="columns")["Conv_0"], layer)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_unit_orthogonal_weights_need_no_projection(shape: tuple[int, int]) -> None:
    weights = jax.jit(lambda key: unit_orthogonal()(key, shape))(jax.random.key(0))
    assert_close(np.sum(weights**2, axis=0), np.ones(shape[1]))
    if shape[0] >= shape[1]:
        assert_close(weights.T @ weights, np.eye(shape[1]))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="Unknown projection 'rows'; there are none, hidden, columns, norms"):
        project({"kernel": KERNEL}, "rows")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nested dictionaries of parameters, got tuple"):
        project((KERNEL,), "columns")
