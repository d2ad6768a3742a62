"""CRAFT-style: the sheet's group, and rewards of several kinds in one batch."""

import jax.numpy as jnp
import numpy as np
from support.closeness import assert_close

from maxent_rl.tokens import objectives
from maxent_rl.tokens.batch import TokenBatch

GROUP = np.float32([1, 0.4, 0.1, 1, 0.4, 0.1, 0, 0.4])
EXPECTED = np.float32([1.481118, -0.064396, -0.837153, 1.481118, -0.064396, -0.837153, -1.094739, -0.064396])


def advantages(*groups):
    rewards = np.float32(groups).ravel()
    batch = TokenBatch(jnp.zeros((len(rewards), 2)), jnp.ones((len(rewards), 2), bool), rewards, GROUP.size)
    return np.asarray(objectives.make("craft_gui").prepare((), batch)[1].advantages).reshape(
        len(groups), GROUP.size, 2
    )[..., 0]


def test_a_group_is_compared_with_itself_whatever_its_scale():
    """Of rules, of a judge on another scale, of equal rewards, and one that the judge failed on."""
    found = advantages(GROUP, 2 * GROUP + 3, np.full(8, 0.4), np.full(8, np.nan))
    np.testing.assert_allclose(found[0], EXPECTED, atol=2e-6)
    assert_close(found[1], found[0], rtol=1e-5)
    assert not found[2:].any()


def test_it_is_grpo_with_an_optional_divergence():
    assert objectives.make("craft_gui").stages == objectives.make("grpo").stages
    assert objectives.make("craft_gui", kl_weight=0.001).stages == objectives.make("grpo", kl_weight=0.001).stages
