"""Turn-level PPO: advantages over turns, a critic before turns, and a ratio of the turn, against a plain reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives

ROWS, COLUMNS = 6, 8


def case(seed):
    """Turns with gaps and holes, a response without a reward and one without a token."""
    draw = np.random.default_rng(seed)
    turns = np.sort(draw.integers(0, 4, (ROWS, COLUMNS)), axis=1)
    mask = draw.uniform(size=turns.shape) < 0.75
    mask[3] = False
    earned = np.take_along_axis(draw.normal(size=(ROWS, 4)).round(2), turns, axis=1)
    rewards = draw.normal(size=ROWS).round(2)
    rewards[1] = np.nan
    old = -draw.gamma(1.0, size=turns.shape)
    values, value = draw.normal(size=(2, *turns.shape))
    return turns, mask, earned, rewards, old, values, old + 0.3 * draw.normal(size=turns.shape), value


def by_turns(turns, mask, row):
    return [np.flatnonzero(mask[row] & (turns[row] == number)) for number in sorted(set(turns[row, mask[row]]))]


def prepared(turns, mask, earned, rewards, values):
    """(whitened advantages, targets, first tokens), conversation by conversation, backwards over its turns."""
    found, targets, first = np.zeros(mask.shape), np.zeros(mask.shape), np.zeros(mask.shape, bool)
    by_turn = []
    for row in np.flatnonzero(np.isfinite(rewards) & mask.any(axis=1)):
        places = by_turns(turns, mask, row)
        paid = [earned[row, place[0]] for place in places]
        paid[-1] += rewards[row] - sum(paid)
        later = next_value = 0.0
        for place, reward in zip(places[::-1], paid[::-1], strict=True):
            before = values[row, place[0]]
            later = reward + 0.9 * next_value - before + 0.9 * 0.8 * later
            next_value, first[row, place[0]] = before, True
            found[row, place], targets[row, place[0]] = later, later + before
            by_turn.append(later)
    spread = np.sqrt(np.var(by_turn, ddof=1) + 1e-8)
    return np.where(found != 0, (found - np.mean(by_turn)) / spread, 0.0), targets, first


def formula(kind, turns, mask, old, values, advantages, targets, first):
    def loss(logp, value):
        apart = np.where(mask, logp - old, 0.0)
        for row in range(ROWS) if kind != "token" else ():
            for place in by_turns(turns, mask, row):
                apart[row, place] = apart[row, place].sum() if kind == "product" else apart[row, place].mean()
        ratio = np.exp(apart)
        policy = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 0.8, 1.2))
        near = np.clip(value, values - 0.2, values + 0.2)
        error = 0.5 * np.maximum((value - targets) ** 2, (near - targets) ** 2)
        return policy[mask].sum() / mask.sum() + 0.1 * error[first].mean()

    return loss


@jax.jit
def found(objective, batch, logp, value):
    _, ready = objective.prepare((), batch)

    def loss(logp, value):
        return objective((), TokenOutputs(logp, value=value), ready)[0]

    return ready, jax.value_and_grad(loss, argnums=(0, 1))(logp, value)


@pytest.mark.parametrize(
    "kind", ["mean", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("product", "token"))]
)
def test_values_and_gradients(kind):
    turns, mask, earned, rewards, old, values, logp, value = case(len(kind))
    advantages, targets, first = prepared(turns, mask, earned, rewards, values)

    def single(array):
        return jnp.asarray(np.where(mask, array, np.nan), jnp.float32)

    batch = TokenBatch(
        single(old), jnp.asarray(mask), jnp.asarray(rewards, jnp.float32), turns=jnp.asarray(turns), values=single(values),
        turn_rewards=single(earned),
    )  # fmt: skip
    objective = objectives.make("turn_ppo", turn_discount=0.9, turn_trace_decay=0.8, turn_ratio=kind)
    ready, (loss, slopes) = found(objective, batch, single(logp), single(value))
    np.testing.assert_allclose(ready.advantages, advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ready.value_targets, targets, rtol=1e-4, atol=1e-5)
    expected = formula(kind, turns, mask, old, values, advantages, targets, first)
    np.testing.assert_allclose(loss, expected(logp, value), rtol=1e-4, atol=1e-5)
    assert 0 < first.sum() < mask.sum() and np.abs(slopes[0]).max() > 0.01
    for which, slope in enumerate(slopes):
        numeric = np.zeros(mask.shape)
        for place in map(tuple, np.argwhere(mask)):
            moved = np.zeros(mask.shape)
            moved[place] = 1e-6
            up, down = [logp, value], [logp, value]
            up[which], down[which] = up[which] + moved, down[which] - moved
            numeric[place] = (expected(*up) - expected(*down)) / 2e-6
        np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_one_turn_is_one_action():
    """Then a conversation's advantage is its reward less what the critic said at first, at every token."""
    objective = objectives.make("turn_ppo", whiten_advantages=False)
    ones = jnp.ones((2, 3))
    batch = TokenBatch(
        0.0 * ones, ones, jnp.array([1.0, 0.0]), turns=jnp.zeros((2, 3), int), turn_rewards=0.0 * ones,
        values=jnp.array([[0.25, 9, 9], [0.5, -9, 9]]),
    )  # fmt: skip
    _, ready = objective.prepare((), batch)
    np.testing.assert_allclose(ready.advantages, [[0.75] * 3, [-0.5] * 3], rtol=1e-6)
    np.testing.assert_allclose(ready.value_targets, [[1, 0, 0], [0, 0, 0]], atol=1e-6)
