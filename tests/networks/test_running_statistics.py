"""Running statistics of rows that are longer than what they cover."""

import jax.numpy as jnp
import numpy as np

from maxent_rl.networks import RunningStatistics


def test_what_goes_beyond_them_is_left_alone():
    rows = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 6)), jnp.float32)
    covering, own = RunningStatistics.create(2).add(rows), RunningStatistics.create(2).add(rows[..., :2])
    for name in ("count", "mean", "variance"):
        np.testing.assert_array_equal(getattr(covering, name), getattr(own, name))
    np.testing.assert_array_equal(covering.normalize(rows)[..., :2], own.normalize(rows[..., :2]))
    np.testing.assert_array_equal(covering.normalize(rows)[..., 2:], rows[..., 2:])
