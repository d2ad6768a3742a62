"""G2RPO: normal quantiles of ranks, rewards for lengths, and the band that the entropy of each task is kept in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import GROUP, ROWS, loss_of, responses
from token_cases import evaluate, slopes

from maxent_rl.errors import InvalidSettingError, MissingInputError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives import Aggregate, Clipped, GaussianAdvantage, TaskEntropyBand, TaskLengthReward, chain
from maxent_rl.tokens.objectives.methods.g2rpo import length_reward

OUTPUTS, BATCH = responses()


def ranked(rewards, **fields):
    rewards = np.asarray(rewards, np.float32)
    options = {"group_size": len(rewards)} | fields
    batch = TokenBatch(jnp.zeros((len(rewards), 1)), jnp.ones((len(rewards), 1), bool), jnp.asarray(rewards), **options)
    return np.asarray(GaussianAdvantage().prepare((), batch)[1].advantages)


FIGURE = [
    ([0, 0, 0, 0, 1], [*[-0.320388] * 4, 1.281552]),
    ([0.1, 0.1, 0.1, 0.2, 1.0], [*[-0.601984] * 3, 0.524401, 1.281552]),
    ([0, 0, 1, 1, 1], [*[-0.902976] * 2, *[0.601984] * 3]),
    ([0.81, 0.81, 0.82, 0.82, 0.83], [*[-0.902976] * 2, *[0.262200] * 2, 1.281552]),
    (
        [0.3, -2, 7, 0.3, 0.3, 1, 1, 0],
        [-0.162925, -1.534121, 1.534121, -0.162925, -0.162925, 0.687961, 0.687961, -0.887147],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rewards", "expected"), FIGURE)
def test_numbers_of_the_figure(rewards, expected):
    found = ranked(rewards)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(ranked(-np.array(rewards)), -found)
    np.testing.assert_allclose(ranked(np.exp(np.array(rewards) / 3)), found, atol=1e-6)
    assert abs(found.sum()) < 1e-5


@pytest.mark.parametrize(
    ("right", "failure", "success"),
    [(1, -0.219160, 1.534121), (2, -0.403545, 1.210634), (3, -0.582009, 0.970015), (4, -0.766838, 0.766838)],
)
def test_right_and_wrong_of_eight(right, failure, success):
    rewards = np.arange(8) < right
    np.testing.assert_allclose(ranked(rewards), np.where(rewards, success, failure), atol=1e-5)
    np.testing.assert_allclose(ranked(~rewards), np.where(rewards, -success, -failure), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "largest", "square"),
    [(4, 1.150349, 0.712417), (8, 1.534121, 0.851051), (16, 1.862732, 0.923681), (64, 2.417559, 0.980312)],
)
def test_no_outlier_goes_further(size, largest, square):
    found = ranked(np.append(np.arange(size - 1), 1e9))
    np.testing.assert_allclose(found.max(), largest, atol=1e-5)
    np.testing.assert_allclose(np.mean(found**2), square, atol=1e-5)


@pytest.mark.slow
def test_equal_rewards_and_a_single_one_are_worth_nothing():
    assert np.all(ranked([0.1] * 7) == 0) and np.all(ranked([3.0]) == 0)


def test_groups_and_tasks():
    """Ranks are within a group, of whatever size, or within a task."""
    index = jnp.array([3, 1, 3, 3, 1, 3, 1, 3])
    rewards = np.array([0, 5, 0, 0, 7, 0, 6, 1])
    found = ranked(rewards, group_size=1, group_index=index)
    np.testing.assert_allclose(found[np.array([0, 2, 3, 5, 7])], FIGURE[0][1], atol=1e-5)
    assert found[1] < 0 == found[6] < found[4]
    _, batch = responses(rewards=rewards, task=np.asarray(index))
    over_task = GaussianAdvantage("task").prepare((), batch)[1].advantages
    np.testing.assert_allclose(over_task, found, atol=1e-6)


def test_lengths_of_the_example():
    lengths = jnp.array([5, 10, 30, 50, 75, 100, 150, 200, 201])
    found = length_reward(lengths, jnp.broadcast_to(jnp.array([10.0, 50, 100, 200]), (9, 4)))
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1, 1, 0.5, 0, 0], atol=1e-6)
    empty_ramps = length_reward(jnp.array([2, 3, 5, 6]), jnp.broadcast_to(jnp.array([3.0, 3, 5, 5]), (4, 4)))
    np.testing.assert_array_equal(empty_ramps, [0, 1, 1, 0])


def test_each_task_has_its_own_lengths():
    stage = TaskLengthReward(((1.0, 5.0, 5.0, 9.0), (0.0, 0.0, 2.0, 4.0)), length_weight=0.5)
    _, found = stage.prepare((), BATCH)
    lengths = np.asarray(BATCH.mask.sum(axis=1))
    added = np.where(
        np.arange(ROWS) < GROUP, (lengths - 1) / 4, np.where(lengths <= 2, 1, np.maximum(4 - lengths, 0) / 2)
    )
    np.testing.assert_allclose(found.rewards - BATCH.rewards, 0.5 * added, atol=1e-6)
    assert not any(isinstance(each, TaskLengthReward) for each in objectives.make("g2rpo").stages)  # it has no bounds


def band(low, high, **settings):
    stage = TaskEntropyBand(band_weight=1.0, band_low=low, band_high=high, **settings)
    objective = chain(stage, Clipped(), Aggregate())
    return objective, dataclasses.replace(BATCH, advantages=jnp.zeros(ROWS))


@pytest.mark.slow
def test_the_band_acts_on_each_task():
    entropy, mask = np.asarray(OUTPUTS.entropy, np.float64), np.asarray(BATCH.mask)
    means = [entropy[rows][mask[rows]].mean() for rows in (slice(0, GROUP), slice(GROUP, ROWS))]
    low, high = min(means) + 0.02, max(means) - 0.02
    assert low < high
    objective, batch = band(low, high)
    loss, aux = evaluate(objective, (), OUTPUTS, batch)
    np.testing.assert_allclose(loss, 0.02, atol=1e-5)  # the mean of both tasks' distances
    assert aux.metrics["band/outside"] == 1
    slope = np.asarray(slopes(objective, (), OUTPUTS, batch).entropy)
    for task, rows in enumerate((slice(0, GROUP), slice(GROUP, ROWS))):
        sign = 1 if means[task] == max(means) else -1
        np.testing.assert_allclose(slope[rows][mask[rows]], sign / mask[rows].sum() / 2, rtol=1e-5)


@pytest.mark.slow
def test_within_the_band_there_is_nothing():
    objective, batch = band(0.0, 3.0)
    loss, _ = evaluate(objective, (), OUTPUTS, batch)
    assert loss == 0 and np.all(np.asarray(slopes(objective, (), OUTPUTS, batch).entropy) == 0)
    with pytest.raises(InvalidSettingError, match="--band-low 2 must not be above --band-high 1"):
        TaskEntropyBand(band_low=2.0, band_high=1.0)


def test_the_band_of_sampled_tokens():
    objective, batch = band(0.0, 0.5, band_from="sampled")
    loss, _ = evaluate(objective, (), OUTPUTS, batch)
    mask = np.asarray(batch.mask)
    means = [-np.asarray(OUTPUTS.logp)[rows][mask[rows]].mean() for rows in (slice(0, GROUP), slice(GROUP, ROWS))]
    np.testing.assert_allclose(loss, np.mean(np.maximum(np.array(means) - 0.5, 0)), rtol=1e-5)


@pytest.mark.slow
def test_with_standardised_rewards_it_is_grpo():
    """But for the advantage it is GRPO that weighs every response the same."""
    objective = objectives.make("g2rpo", band_weight=0.0)
    _, plain = objectives.make("grpo").prepare((), BATCH)
    given = dataclasses.replace(BATCH, advantages=plain.advantages)
    expected = loss_of(objectives.make("grpo", aggregation="seq-mean-token-mean"), OUTPUTS, BATCH)
    np.testing.assert_allclose(loss_of(objective, OUTPUTS, given), expected, rtol=1e-5)


def test_a_missing_task_says_what_to_pass():
    words = r"needs task: pass TokenBatch\(task=\[N\]\), equal whole numbers for the problems of one task"
    with pytest.raises(MissingInputError, match=words):
        objectives.make("g2rpo").prepare((), dataclasses.replace(BATCH, task=None))


def test_successes_and_failures_of_any_share_have_grpos_ratio():
    for right in range(1, 8):
        found = ranked(np.arange(8) < right)
        np.testing.assert_allclose(found[0] / found[-1], -(8 - right) / right, rtol=1e-5)
    assert jax.numpy.ndim(found) == 1
