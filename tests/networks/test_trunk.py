"""Initial weights that are orthogonal: what they are, and that many seeds can be drawn at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from support.closeness import assert_close

from maxent_rl.agents import PPO
from maxent_rl.networks import FeedForward, orthogonal
from maxent_rl.networks.trunk import selu
from maxent_rl.types import Spec


def decompositions(jaxpr):
    """Shapes of the matrices that are decomposed, wherever in the program."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("qr", "geqrf", "householder_product"):
            found.append(equation.invars[0].aval.shape)
        for inner in jaxprs_in_params(equation.params):
            found += decompositions(inner)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4, 4), (3, 8), (8, 3)])
def test_orthogonal_weights_are_those_of_flax_also_for_many_seeds(shape):
    keys = jax.random.split(jax.random.key(0), 3)
    found = jax.jit(jax.vmap(lambda key: orthogonal(0.5)(key, shape)))(keys)
    expected = jax.jit(jax.vmap(lambda key: nn.initializers.orthogonal(0.5)(key, shape)))(keys)
    assert_close(found, expected)
    small = found[0] if shape[0] <= shape[1] else found[0].T
    np.testing.assert_allclose(small @ small.T, 0.25 * jnp.eye(min(shape)), atol=1e-6)


def test_no_batch_of_matrices_is_decomposed_at_once():
    """Two seeds of PPO on two cores could wait for each other for good, before the first step."""
    spec = Spec((4,), (), 500, num_actions=2, num_envs=2)
    program = jax.make_jaxpr(jax.vmap(lambda key: PPO().init(key, spec)))(jax.random.split(jax.random.key(0), 2))
    shapes = decompositions(program.jaxpr)
    assert len(shapes) >= 6 and all(len(shape) == 2 for shape in shapes)


@pytest.mark.slow
def test_selu_is_that_of_jax_and_so_is_its_slope():
    inputs = jnp.concatenate([jnp.linspace(-30, 30, 61), jnp.array([-1e-4, 1e-4, -1e30, 1e30])])
    np.testing.assert_allclose(selu(inputs), jax.nn.selu(inputs), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(jax.vmap(jax.grad(selu))(inputs), jax.vmap(jax.grad(jax.nn.selu))(inputs), atol=1e-6)


@pytest.mark.slow
def test_a_feed_forward_network_begins_with_zero_biases_and_keeps_mean_and_variance():
    network = FeedForward((256, 256, 256), 128)
    inputs = jax.random.normal(jax.random.key(1), (512, 256))
    parameters = network.init(jax.random.key(0), inputs)
    biases = [leaf for leaf in jax.tree.leaves(parameters) if leaf.ndim == 1]
    assert len(biases) == 4 and not any(np.any(bias) for bias in biases)
    outputs = network.apply(parameters, inputs)
    assert abs(outputs.mean()) < 0.05 and 0.85 < outputs.std() < 1.15
