"""The energy term: worked example, what leaves it alone, its optimum on the bandit, and whom its gradient moves which way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close

from maxent_rl.distributions import Gaussian
from maxent_rl.losses import energy_term, reverse_gradient

WRAPS = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@WRAPS
def test_worked_example(wrap):
    energy, rho = jnp.array([0.3, 1.1]), jnp.array([0.82, 0.18])
    np.testing.assert_allclose(wrap(energy_term)(energy[1], energy, jnp.log(rho)), 0.600660, atol=1e-5)


def test_worked_example_of_the_priors_divergence():
    posterior = Gaussian(jnp.array([0.5]), jnp.array([-0.5]))  # variance exp(-1)
    np.testing.assert_allclose(posterior.divergence(Gaussian(jnp.zeros(1), jnp.zeros(1))), 0.308940, atol=1e-5)


def test_a_constant_energy_gives_nothing():
    values = energy_term(jnp.full(3, 2.5), jnp.full((3, 4), 2.5), jnp.full(4, -jnp.log(4.0)))
    assert_close(values, np.zeros(3), scale=2.5)


@given(shift=st.floats(-20, 20, width=32))
def test_a_function_of_the_condition_changes_nothing(shift):
    energies, log_rho = jnp.array([0.2, -1.0, 0.7]), jnp.log(jnp.array([0.5, 0.3, 0.2]))
    before, after = (energy_term(e[0], e, log_rho) for e in (energies, energies + shift))
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_outcomes_without_weight_do_not_count_and_may_be_nan_free_infinite():
    log_weight = jnp.array([jnp.log(0.5), jnp.log(0.5), -jnp.inf])
    value = energy_term(1.0, jnp.array([1.0, 0.0, 9.0]), log_weight)
    np.testing.assert_allclose(value, energy_term(1.0, jnp.array([1.0, 0.0]), log_weight[:2]), atol=1e-6)
    slope = jax.grad(lambda e: energy_term(1.0, e, log_weight))(jnp.array([1.0, 0.0, 9.0]))
    assert np.isfinite(slope).all() and slope[2] == 0


@pytest.mark.parametrize(("probability", "information"), [(0.1, 0.146310), (0.3, 0.069428)])
def test_the_maximum_on_the_bandit_is_the_information_on_the_reward(probability, information):
    """The best energy is the log-ratio of Pr(r | a) to the marginal; its mean is H(r) - H(r|a)."""
    pays = np.array([probability, 1 - probability])
    taken = np.array([1 - probability, probability])
    given_action = np.stack([1 - pays, pays], axis=1)
    joint, rho = taken[:, None] * given_action, taken @ given_action
    energy = jnp.log(given_action / rho)
    terms = energy_term(energy, jnp.repeat(energy[:, None], 2, axis=1), jnp.log(rho))
    np.testing.assert_allclose(jnp.sum(joint * terms), information, atol=1e-5)
    shifted = energy_term(1.1 * energy, jnp.repeat(1.1 * energy[:, None], 2, axis=1), jnp.log(rho))
    assert jnp.sum(joint * shifted) < jnp.sum(joint * terms)


def test_gradient_against_finite_differences():
    log_weight = jnp.log(jnp.array([0.2, 0.8]))
    energies = jnp.array([0.4, -0.3])

    def value(e):
        return energy_term(e[0], e, log_weight)

    numeric = [(value(energies.at[i].add(1e-2)) - value(energies.at[i].add(-1e-2))) / 2e-2 for i in range(2)]
    np.testing.assert_allclose(jax.grad(value)(energies), numeric, atol=1e-3)


@WRAPS
def test_a_reversed_gradient_is_turned_round_and_scaled(wrap):
    found = wrap(jax.value_and_grad(lambda x: jnp.sum(3.0 * reverse_gradient(x, 0.5))))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(found[0], 9.0)
    np.testing.assert_allclose(found[1], [-1.5, -1.5])
