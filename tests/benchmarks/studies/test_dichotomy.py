"""The study's parts: the exact tables of the bandit, closed forms, data and returns of the lake."""

import numpy as np
import pytest

from benchmarks.studies.dichotomy import tabular, task
from maxent_rl.envs.own.chance import FrozenLake


@pytest.mark.parametrize("probability", [0.1, 0.3])
def test_closed_forms_are_what_policies_earn(probability):
    data = task.bandit_data(probability, 200_000, seed=0)
    cloned = np.bincount(data.action, minlength=2) / data.size
    lucky = np.bincount(data.action[data.reward == 1], minlength=2) / np.sum(data.reward)
    forms = task.bandit_forms(probability)
    assert task.bandit_return(cloned, probability) == pytest.approx(forms.cloning, abs=0.01)
    assert task.bandit_return(lucky, probability) == pytest.approx(forms.transformer, abs=0.01)
    assert task.bandit_return(np.array([0.0, 1.0]), probability) == pytest.approx(forms.dichotomy)


def test_the_lakes_data_and_the_exact_return_agree():
    env = FrozenLake(0.2)
    data = task.lake_data(env, 0.3, 20_000, seed=0)
    exact = task.success(env.table, task.greedy_policy(env.table, 0.3), env.horizon)
    assert data.returns.mean() == pytest.approx(exact, abs=0.045)  # four deviations of 13 seeds
    assert data.episodes.length.max() <= env.horizon and not np.any(data.terminated & data.truncated)
    assert task.success(FrozenLake(0.0).table, task.greedy_policy(FrozenLake(0.0).table, 0.0), 100) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("probability", "of_luck", "of_arm"), [(0.1, 0.325083, 0.146310), (0.3, 0.610864, 0.069428)])
def test_the_exact_tables_hold_no_luck_where_the_constraint_is_heavy_and_all_of_it_where_there_is_none(
    probability, of_luck, of_arm
):
    def trained(beta):
        found = tabular.train_seeds([tabular.bandit_law(probability)] * 3, beta, 0.0, latents=4)
        return found, [task.bandit_return(policy[0], probability) for policy in np.asarray(found.policy)]

    free, earned = trained(0.0)
    assert np.max(free.information) == pytest.approx(of_luck, abs=1e-3)
    np.testing.assert_allclose(free.promised, 1.0, atol=1e-2)
    assert np.min(earned) < 1 - probability - 0.1
    bound, earned = trained(3.0)
    np.testing.assert_allclose(bound.information, 0.0, atol=2e-4)
    np.testing.assert_allclose(bound.energy, of_arm, atol=1e-3)
    np.testing.assert_allclose(earned, 1 - probability, atol=1e-2)
    np.testing.assert_allclose(np.ravel(bound.promised), earned, atol=1e-2)
    published, _ = trained(-1.0)
    # Pushed to know luck, most seeds know all of it; one can stop at a latent that stands for two kinds of it.
    assert np.max(published.information) == pytest.approx(of_luck, abs=1e-3)
    assert np.min(published.information) > 0.8 * of_luck
