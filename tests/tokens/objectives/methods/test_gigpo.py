"""GiGPO: advantages of conversations and of turns from the same state, by hand and against a plain reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.tokens import TokenBatch
from maxent_rl.tokens.objectives.methods.gigpo import GroupInGroupAdvantage


@jax.jit
def advantages(stage, batch):
    return stage.prepare((), batch)[1].advantages


def given(turns, mask, earned, anchors, rewards, **fields):
    turns, mask, anchors = (jnp.asarray(values) for values in (turns, mask, anchors))
    earned, rewards = (jnp.asarray(values, jnp.float32) for values in (earned, rewards))
    logp = jnp.zeros(turns.shape)
    return TokenBatch(logp, mask, rewards, turns=turns, turn_rewards=earned, anchors=anchors, **fields)


@pytest.mark.slow
def test_advantages_by_hand():
    """Three conversations of two turns and one of one, all from one state; only the first two come to another one again.

    Earned from the first turn on, at half by turn: 1 / 2, 0, 1 / 2 and 1, of mean 1 / 2. From the second one, state 7: 1 and
    0, of mean 1 / 2; the third is alone in its state 8. Outcomes 1, 0, 1, 1 have the mean 3 / 4.
    """
    turns = np.array([[0, 0, 1], [0, 1, 1], [0, 1, 1], [0, 0, 0]])
    anchors = np.array([[5, 5, 7], [5, 7, 7], [5, 8, 8], [5, 5, 5]])
    earned = np.array([[0, 0, 1.0], [0, 0, 0], [0, 1, 1], [1, 1, 1]])
    batch = given(turns, np.ones((4, 3), bool), earned, anchors, [1.0, 0, 1, 1], group_size=4)
    stage = GroupInGroupAdvantage(gigpo_scale="none", step_discount=0.5, step_weight=2.0)
    expected = [[0.25, 0.25, 1.25], [-1.75, -1.75, -1.75], [0.25, 0.25, 0.25], [1.25, 1.25, 1.25]]
    np.testing.assert_allclose(advantages(stage, batch), expected, atol=1e-6)
    # Divided by deviations: 1 / 2 of the outcomes, sqrt(1 / 6) of the first turns and sqrt(1 / 2) of the second ones.
    scaled = advantages(GroupInGroupAdvantage(step_discount=0.5, step_weight=1.0), batch)
    np.testing.assert_allclose(scaled[:, 0], [0.5, -1.5 - 0.5 * 6**0.5, 0.5, 0.5 + 0.5 * 6**0.5], atol=1e-4)
    np.testing.assert_allclose(scaled[:3, 2], [0.5 + 0.5**0.5, -1.5 - 0.5**0.5, 0.5], atol=1e-4)
    alone = advantages(GroupInGroupAdvantage(step_weight=0.0), batch)
    np.testing.assert_allclose(alone, np.array([[0.5], [-1.5], [0.5], [0.5]]) * np.ones(3), atol=1e-5)


def reference(turns, mask, earned, anchors, rewards, group, discount, weight):
    """Conversation by conversation, and state by state."""
    found, returns = np.zeros(mask.shape), {}
    scored = np.flatnonzero(np.isfinite(rewards) & mask.any(axis=1))
    for row in scored:
        numbers = sorted(set(turns[row, mask[row]]))
        paid = [earned[row, mask[row] & (turns[row] == number)][0] for number in numbers]
        paid[-1] += rewards[row] - sum(paid)
        later = 0.0
        for number, reward in zip(numbers[::-1], paid[::-1], strict=True):
            later = reward + discount * later
            place = np.flatnonzero(mask[row] & (turns[row] == number))
            returns.setdefault((group[row], anchors[row, place[0]]), []).append((row, place, later))

    def compared(values):
        return (values - values.mean()) / (values.std(ddof=1) + 1e-6)

    for one in set(group[scored]):
        rows = scored[group[scored] == one]
        found[rows] += (compared(rewards[rows]) if len(rows) > 1 else 0.0 * rewards[rows])[:, None]
    for turns_there in returns.values():
        if len(turns_there) > 1:
            for (row, place, _), value in zip(
                turns_there, compared(np.array([each[2] for each in turns_there])), strict=True
            ):
                found[row, place] += weight * value
    return np.where(mask, found, 0.0), max(map(len, returns.values()))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_advantages_equal_the_reference(seed):
    """Turns with gaps and holes, groups in any order, a response without a reward, and states that come again in one."""
    draw = np.random.default_rng(seed)
    rows, columns = 11, 9
    turns = np.sort(draw.integers(0, 5, (rows, columns)), axis=1)
    mask = draw.uniform(size=turns.shape) < 0.7
    mask[4] = False
    earned, anchors = draw.normal(size=(rows, 5)).round(2), draw.integers(0, 2, (rows, 5))
    earned, anchors = (np.take_along_axis(values, turns, axis=1) for values in (earned, anchors))
    rewards = draw.normal(size=rows).round(2)
    rewards[7] = np.nan
    group = draw.permutation([3, 3, 3, 3, 9, 9, 9, 9, 1, 1, 1])
    expected, most = reference(turns, mask, earned, anchors, rewards, group, 0.9, 0.7)
    littered = given(
        np.where(mask, turns, -3), mask, np.where(mask, earned, np.nan), np.where(mask, anchors, 99), rewards,
        group_index=jnp.asarray(group),
    )  # fmt: skip
    stage = GroupInGroupAdvantage(step_discount=0.9, step_weight=0.7)
    found = np.where(mask, advantages(stage, littered), 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
    assert most > 5
