"""Data with luck in it, and what policies learned from it are worth, worked out exactly.

Both environments are finite, and the policies of the study look at the present state alone, so a return is a sum over all
that can happen, not a mean over episodes.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.studies.dichotomy.tabular import Law
from maxent_rl.data.batches.logged import returns_to_go
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.envs.own.chance import FrozenLake, Table

Floats = NDArray[np.float64]
DISCOUNT = 0.99
"""Of the value iteration behind the data: the policy that plays prefers short ways."""


def bandit_data(probability: float, size: int, seed: int) -> Dataset:
    """One-step episodes of the Bernoulli bandit, by a policy that prefers the arm that pays rarely.

    Args:
      probability: of arm 0 to pay, and of the data's policy to take arm 1.
      size: episodes.
      seed: decides them.
    """
    random = np.random.default_rng(seed)
    action = (random.random(size) < probability).astype(np.int32)
    pays = np.where(action == 0, probability, 1.0 - probability)
    reward = (random.random(size) < pays).astype(np.float32)
    nothing, ended = np.zeros((size, 1), np.float32), np.ones(size, bool)
    return Dataset(nothing, action, reward, nothing, ended, ~ended, env=f"maxent/BernoulliBandit-{probability:g}")


def bandit_return(policy: Floats, probability: float) -> float:
    """The mean reward of arms taken with probabilities [2]."""
    return float(policy[0] * probability + policy[1] * (1.0 - probability))


class BanditForms(NamedTuple):
    """What each method earns on the bandit where it has learned all there is to learn."""

    cloning: float
    transformer: float
    dichotomy: float


def bandit_forms(probability: float) -> BanditForms:
    """The closed forms: cloning 2p(1-p), asking for reward 1 one half whatever p is, the better arm 1-p (p below 1/2)."""
    return BanditForms(2 * probability * (1 - probability), 0.5, 1 - probability)


def optimal_actions(table: Table) -> NDArray[np.int64]:
    """[state] the best action by value iteration, the first of equals."""
    value = np.zeros(len(table.terminal))
    for _ in range(2_000):
        value = np.max(_action_values(table, value), axis=1)
    best: NDArray[np.int64] = np.argmax(np.round(_action_values(table, value), 10), axis=1)
    return best


def _action_values(table: Table, value: Floats) -> Floats:
    following = table.reward + DISCOUNT * np.where(table.terminal, 0.0, value)
    values: Floats = table.probability @ following
    return values


def greedy_policy(table: Table, epsilon: float) -> Floats:
    """[state, action] the best action, or with probability epsilon any of them."""
    count = table.probability.shape[1]
    policy: Floats = (1 - epsilon) * np.eye(count)[optimal_actions(table)] + epsilon / count
    return policy


def success(table: Table, policy: Floats, horizon: int, discount: float = 1.0) -> float:
    """The return from state 0 of a policy [state, action] within that many steps."""
    moves = np.einsum("sa,san->sn", policy, table.probability)
    alive, total = np.eye(len(policy))[0], 0.0
    for step in range(horizon):
        reached = alive @ moves
        total += discount**step * float(reached @ table.reward)
        alive = np.where(table.terminal, 0.0, reached)
    return total


def lake_data(env: FrozenLake, epsilon: float, size: int, seed: int) -> Dataset:
    """Transitions of the epsilon-greedy policy, episode after episode; the last one may be cut.

    Args:
      env: the lake.
      epsilon: share of uniform actions.
      size: transitions.
      seed: decides them.
    """
    table, random = env.table, np.random.default_rng(seed)
    policy, states = greedy_policy(table, epsilon), np.eye(env.spec.observation_size, dtype=np.float32)
    tiles, actions, following, truncated = (np.empty(size, np.int64) for _ in range(4))
    chosen, led_to = np.cumsum(policy, axis=1), np.cumsum(table.probability, axis=2)
    tile, elapsed = 0, 0
    for index, (first, second) in enumerate(random.random((size, 2)) * (1.0 - 1e-12)):
        tiles[index], actions[index] = tile, np.searchsorted(chosen[tile], first, side="right")
        tile, elapsed = int(np.searchsorted(led_to[tile, actions[index]], second, side="right")), elapsed + 1
        following[index], truncated[index] = tile, elapsed == env.horizon
        if table.terminal[tile] or elapsed == env.horizon:
            tile, elapsed = 0, 0
    terminated = table.terminal[following]
    return Dataset(
        states[tiles], actions.astype(np.int32), table.reward[following].astype(np.float32), states[following],
        terminated, truncated.astype(bool) & ~terminated, env=f"maxent/FrozenLake-{env.slipping:g}",
    )  # fmt: skip


def law_of(data: Dataset, states: int, actions: int, discount: float) -> Law:
    """What a data set of one-hot observations says; outcomes are next states, or rewards 0 and 1 where there is one state."""
    state, following = (np.argmax(each, axis=1) for each in (data.observation, data.next_observation))
    outcomes, action = states, data.action.astype(np.int64)
    if states == 1:
        following, outcomes = data.reward.astype(np.int64), 2
    ended = data.terminated | data.truncated
    to_go, undiscounted = (returns_to_go(data.reward, ended, factor).astype(np.float64) for factor in (discount, 1.0))
    count, total = np.zeros((states, actions, outcomes)), np.zeros((states, actions, outcomes))
    np.add.at(count, (state, action, following), 1.0)
    np.add.at(total, (state, action, following), to_go)
    lucky = np.zeros((states, actions))
    np.add.at(lucky, (state, action), (undiscounted == undiscounted.max()).astype(np.float64))
    return Law(count / data.size, total / np.maximum(count, 1.0), lucky / data.size)


@cache
def lake_law_of(slipping: float, epsilon: float, discount: float, transitions: int, seed: int) -> Law:
    """What one seed's data of a lake says; made once for all methods."""
    env = FrozenLake(slipping)
    data = lake_data(env, epsilon, transitions, seed)
    return law_of(data, env.spec.observation_size, env.spec.num_actions or 0, discount)


def bandit_law_of(probability: float, episodes: int, seed: int) -> Law:
    """What one seed's data of a bandit says."""
    return law_of(bandit_data(probability, episodes, seed), 1, 2, 1.0)


def conditional(weights: Floats) -> Floats:
    """[state, action] probabilities from weights of them; uniform where there are none."""
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1.0 / weights.shape[1])
