"""Modular functions: once, or every time."""

import jax.numpy as jnp
import pytest

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import Modular, Table


def test_once_and_every_time():
    trajectory = jnp.array([1, 0, 1, 1])
    assert Modular(Table([1.0, 2.0])).marginal_gains(trajectory).tolist() == [2, 1, 0, 0]
    every_time = Modular(Table([1.0, 2.0]), repeats=True)
    assert every_time.marginal_gains(trajectory).tolist() == [2, 1, 2, 2]
    assert every_time.value(trajectory) == 7 and every_time.summary(()).shape == (0,)


def test_what_is_refused():
    with pytest.raises(InvalidSettingError, match=r"weights of a modular function must be at least 0.*number 1 is -3"):
        Modular(Table([1.0, -3.0]))
    with pytest.raises(ShapeError, match=r"must be numbers \[element\] and not empty"):
        Modular(Table([]))
