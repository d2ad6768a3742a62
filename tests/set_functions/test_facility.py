"""Facility location: by hand, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions import FacilityLocation, Table

SIMILARITY = Table([[1.0, 0.0, 0.5], [0.5, 2.0, 0.5], [0.0, 0.0, 0.0]])


def test_by_hand():
    trajectory = jnp.array([0, 2, 1])
    assert FacilityLocation(SIMILARITY).marginal_gains(trajectory).tolist() == [1.5, 0.0, 2.0]
    assert FacilityLocation(SIMILARITY, Table([4.0, 1.0, 0.0])).marginal_gains(trajectory).tolist() == [4.0, 0.0, 2.0]


def test_summary_is_how_well_customers_are_served():
    function = FacilityLocation(SIMILARITY)
    memory, _ = function.add(function.empty(), jnp.int32(0))
    assert function.summary(memory).tolist() == [0.5, 0.0, 0.25]
    nobody = FacilityLocation(Table(np.zeros((1, 2))))
    assert nobody.summary(nobody.empty()).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("similarity", "weights", "error", "message"),
    [
        ([[1.0, -0.5]], None, InvalidSettingError, "similarities must be at least 0 and finite.*number 1 is -0.5"),
        ([[1.0]], [-2.0], InvalidSettingError, "number 0 is -2"),
        ([[1.0, 1.0]], [1.0], ShapeError, "1 weights for 2 customers"),
        ([1.0], None, ShapeError, r"similarities must be numbers \[element, customer\]"),
    ],
)
def test_what_is_refused(similarity, weights, error, message):
    with pytest.raises(error, match=message):
        FacilityLocation(Table(similarity), None if weights is None else Table(weights))
