"""The law of score and entropy: the sheet's fits, what is held out, and what cannot be fitted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxent_rl.tokens.entropy_law import EntropyLaw, fit_entropy_law

ENTROPY, SCORE = [0.5, 0.3, 0.2, 0.1, 0.05], [20, 28, 31, 34, 35]


def test_fit_of_the_example():
    law = fit_entropy_law(ENTROPY, SCORE)
    np.testing.assert_allclose([law.a, law.b, law.ceiling], [25.272695, 61.829888, 36.557193], atol=1e-5)
    np.testing.assert_allclose(law.rmse, 0.193564, atol=1e-5)
    np.testing.assert_allclose(law.predict(0.02), 36.046651, atol=1e-5)
    np.testing.assert_allclose(law.slope(0.0), -law.a)


def test_fit_of_the_first_three_predicts_the_rest():
    law = fit_entropy_law(ENTROPY, SCORE, share=0.6)
    np.testing.assert_allclose([law.a, law.b], [25.923132, 62.798391], atol=1e-5)
    np.testing.assert_allclose(law.predict([0.1, 0.05]), [34.148899, 35.546151], atol=1e-5)
    held_out = np.sqrt(np.mean((np.array([34.148899, 35.546151]) - [34, 35]) ** 2))
    np.testing.assert_allclose(law.rmse, held_out, atol=1e-5)
    np.testing.assert_allclose(law.error([0.1, 0.05], [34, 35]), held_out, atol=1e-5)


@given(a=st.floats(-50, 50), b=st.floats(-100, 100), share=st.sampled_from([0.3, 0.5, 1.0]))
def test_exact_laws_are_found(a, b, share):
    entropy = np.linspace(1.2, 0.02, 30)
    law = fit_entropy_law(entropy, b - a * np.exp(entropy), share=share)
    np.testing.assert_allclose([law.a, law.b, law.rmse], [a, b, 0], atol=1e-8)
    np.testing.assert_allclose(law.ceiling, law.predict(0.0), atol=1e-10)


def test_fit_is_that_of_least_squares():
    generator = np.random.default_rng(0)
    entropy = generator.uniform(0, 1, 40)
    score = 60 - 20 * np.exp(entropy) + generator.normal(size=40)
    law = fit_entropy_law(entropy, score)
    wanted, *_ = np.linalg.lstsq(np.stack([-np.exp(entropy), np.ones(40)], axis=1), score, rcond=None)
    np.testing.assert_allclose([law.a, law.b], wanted, rtol=1e-9)


def test_smoothing_averages_both_over_whole_windows():
    entropy, score = np.linspace(1, 0, 9), np.arange(9.0) ** 2
    means = [np.convolve(values, np.ones(3) / 3, "valid") for values in (entropy, score)]
    smoothed, by_hand = fit_entropy_law(entropy, score, window=3), fit_entropy_law(*means)
    np.testing.assert_allclose([smoothed.a, smoothed.b, smoothed.rmse], [by_hand.a, by_hand.b, by_hand.rmse], rtol=1e-9)


def test_smoothing_shows_the_fit_no_later_step():
    entropy, score = np.linspace(1, 0, 12), np.arange(12.0)
    later = np.where(np.arange(12) >= 7, 1000.0, score)  # of 10 windows the first 5 are fitted, of steps 0 to 6
    first, second = (fit_entropy_law(entropy, values, share=0.5, window=3) for values in (score, later))
    np.testing.assert_allclose([first.a, first.b], [second.a, second.b])
    assert second.rmse > first.rmse


def test_steps_that_are_not_finite_are_left_out():
    law = fit_entropy_law([*ENTROPY, np.nan, 0.4], [*SCORE, 3, np.inf])
    np.testing.assert_allclose([law.a, law.b], [25.272695, 61.829888], atol=1e-5)


@pytest.mark.parametrize(
    ("entropy", "score"), [([], []), ([0.3], [20]), ([0.1, 0.1, 0.1], [1, 2, 3]), ([np.nan, 0.1], [1, 2])]
)
def test_what_cannot_be_fitted_is_nan(entropy, score):
    law = fit_entropy_law(entropy, score)
    assert np.isnan([law.a, law.b, law.rmse, law.ceiling, law.predict(0.1)]).all()
    assert np.isnan(fit_entropy_law(ENTROPY, SCORE, window=6).a)
    assert np.isnan(EntropyLaw(1.0, 2.0, 0.0).error([], []))


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.5}, {"window": 0}])
def test_wrong_settings_are_told(wrong):
    with pytest.raises(ValueError, match="share must be in"):
        fit_entropy_law(ENTROPY, SCORE, **wrong)
    with pytest.raises(ValueError, match="alike"):
        fit_entropy_law(ENTROPY, SCORE[:-1])


def test_entropies_that_differ_by_rounding_say_nothing_of_a_law():
    entropy = np.float64(np.float32(0.3) + np.array([0, 1, -1, 0, 1], np.float32) * np.spacing(np.float32(0.3)))
    assert np.isnan(fit_entropy_law(entropy, SCORE).a)
    assert np.isfinite(fit_entropy_law(entropy + 1e-4 * np.arange(5), SCORE).a)
