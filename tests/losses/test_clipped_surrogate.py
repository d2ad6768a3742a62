"""PPO's loss and generalized advantages: the sheet's numbers, limits, and sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close, rounding

from maxent_rl import losses

LOG_PROB, OLD = np.array([-1.0, -0.5, -2.0, -0.7]), np.array([-1.2, -0.5, -1.6, -1.1])
ADVANTAGE = np.array([1.0, 1.0, 1.0, -1.0])
ratios, advantages = st.floats(0.01, 10), st.floats(-5, 5)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_worked_example_10(wrap):
    ratio = wrap(losses.importance_ratio)(LOG_PROB, OLD)
    np.testing.assert_allclose(ratio, [1.221403, 1.0, 0.670320, 1.491825], rtol=1e-5)
    loss = losses.clipped_surrogate(ratio, ADVANTAGE, dual_clip=3.0)
    np.testing.assert_allclose(loss, [-1.2, -1.0, -0.670320, 1.491825], rtol=1e-5)
    assert_close(jnp.mean(loss), -0.344624, scale=1.0)  # the size of what is averaged
    higher = losses.clipped_surrogate(ratio, ADVANTAGE, 0.2, 0.28, 3.0)
    assert_close(jnp.mean(higher), -0.349975, scale=1.0)


def test_worked_example_11():
    value, gradient = jax.value_and_grad(lambda ratio: losses.clipped_surrogate(ratio, -1.0, dual_clip=3.0))(5.0)
    assert (value, gradient) == (3.0, 0.0)


@pytest.mark.slow
@given(log_prob=st.floats(-30, 0), advantage=advantages)
def test_on_policy_the_gradient_is_that_of_the_log_probability(log_prob, advantage):
    def loss(learned):
        return losses.clipped_surrogate(losses.importance_ratio(learned, log_prob), advantage, dual_clip=3.0)

    value, gradient = jax.value_and_grad(loss)(jnp.float32(log_prob))
    np.testing.assert_allclose([value, gradient], [-advantage, -advantage], rtol=1e-6, atol=1e-30)


@given(ratio=ratios, advantage=advantages)
def test_nothing_is_gained_beyond_the_clip(ratio, advantage):
    value, gradient = jax.value_and_grad(losses.clipped_surrogate)(ratio, advantage, 0.1, 0.3)
    rounded = rounding(4) * max(1.0, abs(advantage * ratio))
    assert value >= -advantage * ratio - rounded  # a bound of the unclipped loss from above
    if (advantage > 1e-30 and ratio > 1.3001) or (advantage < -1e-30 and ratio < 0.8999):
        assert gradient == 0
    elif 0.9001 < ratio < 1.2999:
        np.testing.assert_allclose(gradient, -advantage, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(("log_prob", "old", "bound"), [(0.0, -1e4, 20.0), (-1e4, 0.0, -20.0)])
def test_ratios_stay_finite_and_keep_their_gradient(log_prob, old, bound):
    """A punished action that has become far likelier was once let go: its loss was e^20, and its gradient 0."""
    ratio, gradient = jax.value_and_grad(losses.importance_ratio)(log_prob, old)
    np.testing.assert_allclose([ratio, gradient], np.exp(bound), rtol=1e-5)
    assert jax.grad(losses.importance_ratio, argnums=1)(0.0, -1.0) == 0


def rollout(seed=0, steps=12, width=3):
    draw = np.random.default_rng(seed)
    reward, value, next_value = draw.normal(size=(3, steps, width))
    terminated = draw.random((steps, width)) < 0.15
    truncated = (draw.random((steps, width)) < 0.15) & ~terminated
    next_value[:-1] = np.where((terminated | truncated)[:-1], next_value[:-1], value[1:])
    return reward, value, next_value, terminated, truncated


def summed(reward, value, next_value, terminated, truncated, discount, decay):
    """The definition, equation 16, step by step."""
    found = np.zeros_like(reward)
    for step in range(len(reward)):
        for column in range(reward.shape[1]):
            weight = 1.0
            for later in range(step, len(reward)):
                bootstrap = 0.0 if terminated[later, column] else next_value[later, column]
                difference = reward[later, column] + discount * bootstrap - value[later, column]
                found[step, column] += weight * difference
                if terminated[later, column] or truncated[later, column]:
                    break
                weight *= discount * decay
    return found


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("seed", range(4))
def test_advantages_are_their_definition(wrap, seed):
    data = rollout(seed)
    found = wrap(losses.generalized_advantages)(*(jnp.asarray(each, jnp.float32) for each in data), 0.9, 0.8)
    np.testing.assert_allclose(found, summed(*data, 0.9, 0.8), rtol=1e-5, atol=1e-5)


def test_limits_of_the_trace():
    reward, value, next_value, *_ = rollout()
    never = np.zeros_like(reward, bool)
    next_value[:-1] = value[1:]
    data = (reward, value, next_value, never, never)
    assert_close(losses.generalized_advantages(*data, 0.9, 0.0), reward + 0.9 * next_value - value)
    whole = losses.generalized_advantages(*data, 0.9, 1.0)[0]
    returns = sum(0.9**step * reward[step] for step in range(len(reward))) + 0.9 ** len(reward) * next_value[-1]
    np.testing.assert_allclose(whole, returns - value[0], rtol=1e-5, atol=1e-5)


def test_truncation_bootstraps_and_termination_does_not():
    ones, zeros = np.ones((2, 1)), np.zeros((2, 1))
    first = np.array([[1.0], [0.0]])
    cut = losses.generalized_advantages(ones, zeros, 5 * ones, zeros, first, 0.5, 0.9)
    ended = losses.generalized_advantages(ones, zeros, 5 * ones, first, zeros, 0.5, 0.9)
    np.testing.assert_allclose(cut[:, 0], [1 + 0.5 * 5, 1 + 0.5 * 5])
    np.testing.assert_allclose(ended[:, 0], [1.0, 1 + 0.5 * 5])


def test_advantages_are_constants_and_vmap():
    data = [jnp.asarray(each, jnp.float32) for each in rollout()]
    gradient = jax.grad(lambda value: losses.generalized_advantages(data[0], value, *data[2:]).sum())(data[1])
    assert np.all(gradient == 0)
    many = jax.vmap(losses.generalized_advantages, in_axes=1, out_axes=1)(*data)
    assert_close(many, losses.generalized_advantages(*data))


@pytest.mark.slow
@given(value=advantages, old=advantages, target=advantages, clip=st.floats(0.01, 2))
def test_the_clipped_value_loss_bounds_the_plain_one(value, old, target, clip):
    plain = losses.clipped_value_loss(value, old, target)
    clipped, gradient = jax.value_and_grad(losses.clipped_value_loss)(value, old, target, clip)
    np.testing.assert_allclose(plain, 0.5 * (value - target) ** 2, rtol=1e-5, atol=1e-6)
    assert clipped >= plain - 1e-5
    if abs(value - old) < 0.99 * clip:
        np.testing.assert_allclose([clipped, gradient], [plain, value - target], rtol=1e-4, atol=1e-5)
