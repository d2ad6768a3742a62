"""What is told of policies that learned."""

import numpy as np
import pytest

from benchmarks.lab import policies


def test_curves_are_summed_up():
    values = np.array([0.0, 0.2, 0.4, 0.8, 1.0, 0.6, 0.5, 0.5, 0.3])
    found = policies.summary({"x": values})
    expected = {"x, first": 0.0, "x, early": 0.3, "x, half": 0.8, "x, end": 0.4, "x, fall": 0.5}
    assert found == pytest.approx(expected)
