"""Advantages over tokens of responses: by hand, by another way in double precision, what is passed over, lambda by length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.losses import generalized_advantages, length_trace_decay, response_advantages

wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@wraps
def test_by_hand(wrap):
    """Two tokens, a tool's reply, two tokens: 1 at the end, lambda 0.5, discount 0.9; the reply changes nothing."""
    reward, value = jnp.array([[0.0, 0, 7, 7, 0, 1]]), jnp.array([[0.5, 0.2, 9, 9, 0.4, 0.8]])
    mask = jnp.array([[1, 1, 0, 0, 1, 1]])
    last, third = 1 - 0.8, 0.9 * 0.8 - 0.4 + 0.45 * 0.2
    second = 0.9 * 0.4 - 0.2 + 0.45 * third
    expected = [0.9 * 0.2 - 0.5 + 0.45 * second, second, 0, 0, third, last]
    np.testing.assert_allclose(wrap(response_advantages)(reward, value, mask, 0.9, 0.5)[0], expected, rtol=1e-5)


def by_sums(reward, value, mask, discount, decay):
    """Of the valid tokens alone: each temporal difference, times its powers, summed."""
    found = np.zeros(mask.shape)
    for row in range(len(mask)):
        places = np.flatnonzero(mask[row])
        r, v = reward[row, places], np.append(value[row, places], 0.0)
        difference = r + discount * v[1:] - v[:-1]
        for number, place in enumerate(places):
            powers = (discount * decay[row]) ** np.arange(len(places) - number)
            found[row, place] = (powers * difference[number:]).sum()
    return found


@pytest.mark.parametrize("seed", range(4))
def test_they_are_sums_of_the_valid_tokens_differences(seed):
    """With holes, empty rows, NaN in between, a lambda for each row, and in one batch rewards of a thousand."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(6, 9)) < (0.2, 0.5, 0.8, 0.5)[seed]
    mask[1] = False
    reward, value = draw.normal(size=(2, 6, 9)) * (1e3 if seed == 3 else 1.0)
    decay = draw.uniform(size=6)
    expected = by_sums(reward, value, mask, 0.97, decay)
    littered = (jnp.asarray(np.where(mask, array, np.nan), jnp.float32) for array in (reward, value))
    found = jax.jit(response_advantages)(*littered, mask, 0.97, jnp.asarray(decay[:, None], jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.all(np.asarray(found)[~mask] == 0)


@pytest.mark.slow
def test_without_holes_they_are_those_of_an_episode():
    """And constant: nothing is learned through them."""
    draw = np.random.default_rng(0)
    reward, value = (jnp.asarray(draw.normal(size=(1, 5)), jnp.float32) for _ in range(2))
    after = jnp.pad(value[0, 1:], (0, 1))
    ends = jnp.arange(5) == 4
    episode = generalized_advantages(reward[0], value[0], after, ends, jnp.zeros(5), 0.9, 0.8)
    np.testing.assert_allclose(response_advantages(reward, value, jnp.ones((1, 5)), 0.9, 0.8)[0], episode, rtol=1e-6)
    slope = jax.grad(lambda v: jnp.sum(response_advantages(reward, v, jnp.ones((1, 5)))))(value)
    assert np.all(slope == 0)


def test_lambda_by_length():
    """Of 100 tokens 1 - 1 / 5; its powers add up to a twentieth of the tokens; 0 for short responses, and for none."""
    np.testing.assert_allclose(length_trace_decay(jnp.array([100, 40, 20, 3, 0]), 0.05), [0.8, 0.5, 0, 0, 0], atol=1e-6)
    decay = float(length_trace_decay(1000, 0.05))
    np.testing.assert_allclose(sum(decay**k for k in range(100_000)), 50.0, rtol=1e-4)
