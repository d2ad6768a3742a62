"""The critic that predicts, and the policy with a floor: shapes, scales, what depends on what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.networks import FlooredGaussianPolicy, PredictiveCritic

CRITIC, POLICY = PredictiveCritic(16, 7), FlooredGaussianPolicy((16, 16), 2)
OBSERVATION, ACTION = jnp.ones((5, 3)), jnp.linspace(-1, 1, 10).reshape(5, 2)


@pytest.fixture(scope="module")
def critic():
    return CRITIC.init(jax.random.key(0), OBSERVATION, ACTION)


@pytest.mark.slow
def test_shapes(critic):
    seen = CRITIC.apply(critic, OBSERVATION, ACTION)
    assert (seen.features.shape, seen.logits.shape) == ((5, 16), (5, 7))
    assert (seen.next_features.shape, seen.reward.shape) == ((5, 16), (5,))


@pytest.mark.slow
def test_two_layers_before_the_features_and_two_after(critic):
    kernels = [leaf.shape for leaf in jax.tree.leaves(critic) if leaf.ndim == 2]
    assert sorted(kernels) == sorted([(5, 16), (16, 16), (16, 16), (16, 7), (16, 16), (16, 17)])


def test_hidden_layers_do_not_feel_the_scale_of_what_they_are_given(critic):
    """Of the first layer's kernel, whose biases are 0: the root mean square takes its scale out again."""
    scaled = jax.tree.map(lambda leaf: leaf, critic)
    scaled["params"]["encoder"]["Dense_0"]["kernel"] *= 3.0
    one, other = (CRITIC.apply(parameters, OBSERVATION, ACTION) for parameters in (critic, scaled))
    np.testing.assert_allclose(one.logits, other.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_value_learns_nothing_into_the_prediction_nor_the_other_way_round(critic):
    def gradient(which):
        return jax.grad(lambda parameters: jnp.sum(which(CRITIC.apply(parameters, OBSERVATION, ACTION))))(critic)

    by_value, by_prediction = gradient(lambda seen: seen.logits[:, 0]), gradient(lambda seen: seen.reward)
    zero = {
        name: not any(np.any(leaf) for leaf in jax.tree.leaves(by_value["params"][name])) for name in by_value["params"]
    }
    assert {name for name, nothing in zero.items() if nothing} == {"prediction", "prediction_head"}
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(by_prediction["params"]["value_head"]))
    assert np.any(by_prediction["params"]["features"]["kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("least", [0.0, 0.1])
def test_standard_deviations_have_a_floor(least):
    parameters = POLICY.init(jax.random.key(0), OBSERVATION, least)
    parameters["params"]["head"]["bias"] = jnp.array([0.3, -0.3, -100.0, 1.0])
    parameters["params"]["head"]["kernel"] *= 0.0
    slope = jax.grad(lambda each: jnp.sum(POLICY.apply(each, OBSERVATION, least).log_std))(parameters)
    policy = POLICY.apply(parameters, OBSERVATION, least)
    np.testing.assert_allclose(policy.mean, np.tile([0.3, -0.3], (5, 1)), rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(policy.log_std[:, 1]), np.e + least, rtol=1e-5)
    np.testing.assert_allclose(policy.log_std[:, 0], np.log(least) if least else -100.0, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
