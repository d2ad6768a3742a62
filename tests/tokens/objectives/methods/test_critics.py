"""Objectives with a critic: advantages, targets and losses against the formulas in NumPy and double precision."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import MissingInputError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives.critics import explained_variance

SETTINGS = {
    "ppo_critic": {"token_discount": 0.98, "trace_decay": 0.9, "kl_reward_weight": 0.1},
    "vapo": {"trace_length_scale": 0.6},
}


def batch_of(seed):
    """Holes, a response without a reward, one without a token, and in one batch tokens and values that have moved far."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(7, 6)) < 0.6
    mask[:, 2] |= ~mask.any(axis=-1)
    mask[3] = False
    far = 4.0 if seed == 3 else 1.0
    old = -draw.gamma(1.0, size=(7, 6))
    rewards = np.where(np.arange(7) == 5, np.nan, draw.integers(0, 2, 7))
    given = {
        "logp_old": old,
        "logp_ref": old + 0.3 * draw.normal(size=old.shape),
        "values": draw.normal(size=old.shape),
    }
    return given, mask, rewards, old + 0.3 * far * draw.normal(size=old.shape), far * draw.normal(size=old.shape)


def estimated(paid, values, mask, discount, decay):
    """Backwards over the valid tokens of each response."""
    found = np.zeros(mask.shape)
    for row in range(len(mask)):
        later = next_value = 0.0
        for place in np.flatnonzero(mask[row])[::-1]:
            difference = paid[row, place] + discount * next_value - values[row, place]
            found[row, place] = later = difference + discount * decay[row] * later
            next_value = values[row, place]
    return found


def reference(name, given, mask, rewards):
    """(advantages, targets, mask of what is scored)."""
    values, there = given["values"], mask & np.isfinite(rewards)[:, None]
    paid = np.zeros(mask.shape)
    for row in np.flatnonzero(there.any(axis=-1)):
        paid[row, np.flatnonzero(there[row])[-1]] = rewards[row]
    discount, own = (0.98, np.full(7, 0.9)) if name == "ppo_critic" else (1.0, None)
    if name == "ppo_critic":
        paid = np.where(there, paid - 0.1 * (given["logp_old"] - given["logp_ref"]), 0.0)
    else:
        own = np.maximum(1 - 1 / (0.6 * np.maximum(mask.sum(axis=-1), 1)), 0.0)
    advantages = estimated(paid, values, there, discount, own)
    learned = advantages if name == "ppo_critic" else estimated(paid, values, there, discount, np.ones(7))
    tokens = advantages[there]
    whitened = np.where(there, (advantages - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8), 0.0)
    return whitened, np.where(there, learned + values, 0.0), there


def formula(name, given, mask, rewards, logp, value):
    """The whole loss at these log-probabilities and values, once what is constant is known."""
    advantages, targets, there = reference(name, given, mask, rewards)
    high, clip = (1.2, 0.2) if name == "ppo_critic" else (1.28, 0.5)
    right = there & (np.nan_to_num(rewards) > 0)[:, None]

    def loss(logp, value):
        ratio = np.exp(np.clip(logp - given["logp_old"], -20, 20))
        policy = np.maximum(-advantages * ratio, -advantages * np.clip(ratio, 0.8, high))
        near = np.clip(value, given["values"] - clip, given["values"] + clip)
        error = 0.5 * np.maximum((value - targets) ** 2, (near - targets) ** 2)
        total = (policy[mask].sum() + 0.1 * error[there].sum()) / mask.sum()
        return total if name == "ppo_critic" else total - 0.1 * logp[right].mean()

    return loss


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SETTINGS)
def test_values_and_gradients(name, seed):
    given, mask, rewards, logp, value = batch_of(seed)
    objective = objectives.make(name, **SETTINGS[name])
    littered = {key: jnp.asarray(np.where(mask, array, np.nan), jnp.float32) for key, array in given.items()}
    batch = TokenBatch(mask=jnp.asarray(mask), rewards=jnp.asarray(rewards, jnp.float32), **littered)
    _, prepared = objective.prepare((), batch)
    advantages, targets, there = reference(name, given, mask, rewards)
    np.testing.assert_allclose(prepared.advantages, advantages, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(prepared.value_targets, targets, rtol=1e-4, atol=1e-5)
    single = (jnp.asarray(array, jnp.float32) for array in (logp, value))
    (loss, aux), slopes = jax.jit(
        jax.value_and_grad(lambda x, v: objective((), TokenOutputs(x, value=v), prepared), argnums=(0, 1), has_aux=True)
    )(*single)
    expected = formula(name, given, mask, rewards, logp, value)
    np.testing.assert_allclose(loss, expected(logp, value), rtol=1e-4, atol=1e-5)
    spread = 1 - np.var((targets - value)[there]) / np.var(targets[there])
    np.testing.assert_allclose(aux.metrics["critic/explained_variance"], spread, rtol=1e-3, atol=1e-4)
    for which, slope in enumerate(slopes):
        numeric = np.zeros(mask.shape)
        for place in map(tuple, np.argwhere(mask)):
            moved = np.zeros(mask.shape)
            moved[place] = 1e-6
            up, down = ([logp, value], [logp, value])
            up[which], down[which] = up[which] + moved, down[which] - moved
            numeric[place] = (expected(*up) - expected(*down)) / 2e-6
        np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_advantages_that_the_caller_gives_want_targets_too():
    batch = TokenBatch(jnp.zeros((1, 2)), jnp.ones((1, 2), bool), jnp.ones(1))
    objective = objectives.make("ppo_critic")
    with pytest.raises(MissingInputError, match=r"CriticAdvantage needs values: pass TokenBatch\(values=\[N, T\]\)"):
        objective.prepare((), batch)
    given = dataclasses.replace(batch, values=jnp.zeros((1, 2)), advantages=jnp.ones(1))
    with pytest.raises(MissingInputError, match=r"CriticLoss needs value_targets: pass TokenBatch\(value_targets="):
        objective.prepare((), given)
    _, prepared = objective.prepare((), dataclasses.replace(given, advantages=None))
    with pytest.raises(MissingInputError, match=r"CriticLoss needs value: pass TokenOutputs\(value=\[N, T\]\)"):
        objective((), TokenOutputs(jnp.zeros((1, 2))), prepared)


def test_explained_variance():
    """All of it, half of it, none, and of targets that are equal none either."""
    target, mask = jnp.array([1.0, -1, 1, -1, 9]), jnp.array([1, 1, 1, 1, 0])
    found = [explained_variance(value, target, mask) for value in (target + 3, (1 - 0.5**0.5) * target, 0 * target)]
    np.testing.assert_allclose([*found, explained_variance(target, 0 * target, mask)], [1, 0.5, 0, 0], atol=1e-6)
