"""Lambda returns and soft rewards: the sheet's numbers, limits, another way to the same numbers, constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.losses import lambda_returns, soft_reward

VALUES, NOTHING = jnp.array([10.0, 11.0, 12.0]), jnp.zeros(3)
PAID = jnp.array([1.099, 1.0495, 0.9505])
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
returns = jax.jit(lambda_returns)


@wraps
def test_soft_rewards_by_hand(wrap):
    """The entropy is that of the action after the step, and there is none after the last one."""
    found = wrap(soft_reward)(jnp.ones(3), jnp.array([-1.0, -0.5, 0.5]), NOTHING, 0.99, 0.1)
    np.testing.assert_allclose(found, PAID, rtol=1e-6)
    np.testing.assert_array_equal(soft_reward(jnp.ones(2), jnp.full(2, -1.0), jnp.ones(2), 0.99, 0.1), [1, 1])


@wraps
@pytest.mark.parametrize(
    ("terminated", "truncated", "wanted"),
    [
        ([0, 0, 0], [0, 0, 0], [14.442251, 13.661085, 12.8305]),
        ([0, 0, 0], [1, 0, 0], [10.999, 13.661085, 12.8305]),
        ([0, 1, 0], [0, 0, 0], [2.581055, 1.0495, 12.8305]),
        (
            [0, 0, 1],
            [0, 0, 0],
            [1.099 + 0.99 * (0.5 + 0.95 * 2.4879275), 1.0495 + 0.99 * (0.55 + 0.95 * 0.9505), 0.9505],
        ),
    ],
    ids=["going on", "truncated", "terminated", "terminated last"],
)
def test_lambda_returns_by_hand(wrap, terminated, truncated, wanted):
    """Of a truncated step the value that followed counts in full, of a terminated one nothing, the window's last included."""
    found = wrap(lambda_returns)(PAID, VALUES, jnp.array(terminated), jnp.array(truncated), 0.99, 0.95)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def by_recursion(reward, value, terminated, truncated, discount, decay):
    found, later = np.zeros_like(reward), value[-1]
    for t in reversed(range(len(reward))):
        mixed = value[t] if truncated[t] or t == len(reward) - 1 else decay * later + (1 - decay) * value[t]
        found[t] = later = reward[t] + discount * (1 - terminated[t]) * mixed
    return found


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31 - 1), decay=st.sampled_from([0.0, 0.3, 0.95, 1.0]))
def test_they_are_those_of_the_recursion(seed, decay):
    random = np.random.default_rng(seed)
    reward, value = random.normal(size=(2, 7)).astype(np.float32)
    terminated, truncated = (random.random((2, 7)) < 0.2).astype(np.float32)
    found = returns(reward, value, terminated, truncated, 0.9, decay)
    assert_close(found, by_recursion(reward, value, terminated, truncated, 0.9, decay), scale=10.0)
    if decay == 0.0:
        assert_close(found, reward + 0.9 * (1 - terminated) * value, scale=10.0)


@pytest.mark.slow
def test_they_are_constant_and_the_same_under_vmap():
    gradients = jax.grad(lambda *each: jnp.sum(lambda_returns(*each)), argnums=range(6))(
        PAID, VALUES, NOTHING, NOTHING, 0.99, 0.95
    )
    assert not any(np.any(each) for each in gradients)
    many = [jnp.stack([each, 2 * each], axis=1) for each in (PAID, VALUES)]
    flags = jnp.stack([NOTHING, NOTHING], axis=1)
    side_by_side = lambda_returns(*many, flags, flags)
    assert_close(side_by_side, jax.vmap(lambda_returns, 1, 1)(*many, flags, flags))
    assert_close(side_by_side[:, 1], 2 * side_by_side[:, 0])


def test_soft_rewards_are_constant():
    gradients = jax.grad(soft_reward, argnums=range(5))(1.0, -1.0, 0.0, 0.99, 0.1)
    assert not any(map(np.any, gradients))
