"""What networks read of observations that end in images, whatever their sizes; nothing changes where there are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close, rounding

from maxent_rl.agents import PPO, SAC
from maxent_rl.networks import (
    Encoder,
    TanhGaussianPolicy,
    TrunkPlan,
    ValueFunction,
    encode,
    init_encoded,
    with_encoder_of,
)
from maxent_rl.networks.encoder import halving_windows
from maxent_rl.spaces import Space
from maxent_rl.types import Spec

FRAMES = {
    "a grid world's": ((7, 7, 3),),
    "ours": ((32, 32, 1),),
    "four grey frames": ((84, 84, 4),),
    "large": ((96, 96, 3),),
    "not square": ((210, 160, 3),),
    "one pixel": ((1, 1, 1),),
    "a line": ((1, 500, 1),),
    "two": ((7, 9, 3), (32, 20, 1)),
}


@pytest.mark.parametrize("vector", [0, 3])
@pytest.mark.parametrize("name", FRAMES)
def test_every_image_becomes_fifty_features_behind_the_numbers(name, vector):
    frames = FRAMES[name]
    size = vector + sum(int(np.prod(frame)) for frame in frames)
    observation = jax.ShapeDtypeStruct((2, 5, size), jnp.float32)
    features, variables = jax.eval_shape(Encoder(frames).init_with_output, jax.random.key(0), observation)
    assert features.shape == (2, 5, vector + 50 * len(frames))
    kept = [variables["params"][f"frame_{index}"].shape for index in range(len(frames))]
    assert kept == [(*frame, 0) for frame in frames]
    entries = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert entries < 80_000 * len(frames), "few parameters, however large an image is"


@pytest.mark.parametrize(("height", "width", "channels"), [(6, 8, 2), (7, 5, 1), (1, 3, 3), (2, 1, 1)])
def test_windows_times_a_kernel_are_the_convolution(height, width, channels):
    random = np.random.default_rng(0)
    image = jnp.asarray(random.normal(size=(2, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, channels, 4)), jnp.float32)
    below = [(0, 2 * -(-side // 2) + 1 - side) for side in (height, width)]
    wanted = jax.lax.conv_general_dilated(image, kernel, (2, 2), below, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    found = halving_windows(image) @ kernel.reshape(-1, 4)
    assert_close(found, wanted, rounding(9 * channels))


@pytest.mark.slow
def test_numbers_stay_as_they_are_and_each_image_has_features_of_its_own():
    frames, random = ((4, 5, 1), (6, 3, 2)), np.random.default_rng(0)
    observation = random.integers(0, 256, (3, 2 + 20 + 36)).astype(np.float32)
    observation[:, :2] = [[0.5, -7.0]] * 3
    observation[1, 2], observation[2, -1] = (255.0 - observation[0, 2], 255.0 - observation[0, -1])
    observation[1, 3:], observation[2, 2:-1] = observation[0, 3:], observation[0, 2:-1]
    variables = jax.jit(Encoder(frames).init)(jax.random.key(0), observation)
    features = np.asarray(jax.jit(encode)({"params": {"encoder": variables["params"]}}, observation))
    np.testing.assert_array_equal(features[:, :2], observation[:, :2])
    differs = features[1:] != features[0]
    assert differs[0, 2:52].any() and not differs[0, 52:].any()
    assert differs[1, 52:].any() and not differs[1, :52].any()
    assert (np.abs(features[:, 2:]) < 1).all()


@pytest.mark.slow
def test_without_images_parameters_and_values_are_the_networks_own_to_the_bit():
    for network, more in (
        (TanhGaussianPolicy(TrunkPlan(hidden_sizes=(8,)), 2), (-5.0, 2.0)),
        (ValueFunction((8,), "tanh"), ()),
    ):
        key, observation = jax.random.key(3), jnp.ones(4)
        own, found = network.init(key, observation, *more), init_encoded(network, key, (), observation, *more)
        jax.tree.map(np.testing.assert_array_equal, own, found)
        assert encode(found, observation) is observation
        assert with_encoder_of(found, own) is found


@pytest.mark.parametrize("agent", [SAC(hidden_sizes=(8,)), PPO(hidden_sizes=(8,))], ids=["sac", "ppo"])
def test_running_statistics_are_of_the_numbers_alone(agent):
    agent, size = agent.replace(normalize_observations=True), 2 + 12
    for space, count in ((None, 14), (Space("tuple", parts=(Space("box", (2,)), Space("box", (4, 3), "uint8"))), 2)):
        spec = Spec((size,), (1,), 10, observation_space=space)
        normalizer = jax.eval_shape(lambda key, spec=spec: agent.init(key, spec), jax.random.key(0)).normalizer
        assert normalizer.mean.shape == (count,)
    spec = Spec((12,), (1,), 10, observation_space=Space("box", (4, 3), "uint8"))
    assert jax.eval_shape(lambda key: agent.init(key, spec), jax.random.key(0)).normalizer is None
