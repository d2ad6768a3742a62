"""Advantages that compare rewards in other ways than GRPO, against the same rules in plain Python and double precision."""

import dataclasses
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives.methods.pass_at_k import share_of_choices

GROUPS = np.array([3, 3, 3, 3, 1, 1, 1, 8, 5, 5])  # of four, three, one and two responses


def batch_of(seed):
    """Unequal groups, holes in the mask, right and wrong answers, and in one batch a response without a reward."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(10, 6)) < 0.6
    mask[:, 0] |= ~mask.any(axis=-1)
    rewards = draw.integers(0, 2, 10).astype(float) if seed % 2 else draw.gamma(1.0, size=10).round(2)
    if seed == 3:
        rewards[1] = np.nan
    logits = draw.normal(size=(10, 6, 4))
    tokens = draw.integers(0, 4, (10, 6))
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    logp = np.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
    order = draw.permutation(10)
    return {
        "logp_old": logp, "mask": mask, "rewards": rewards, "group_index": GROUPS[order], "tokens": tokens,
        "logits_old": logits, "greedy_rewards": draw.normal(size=10).round(1),
        "reward_parts": draw.normal(size=(10, 3)).round(1),
    }  # fmt: skip


def members(given):
    """[(rows of a group that have a reward)]."""
    valid = np.isfinite(given["rewards"])
    return [np.flatnonzero((given["group_index"] == group) & valid) for group in np.unique(given["group_index"])]


def by_group(rule):
    """Advantages [10, 6] from a rule on the rewards and lengths of each group of at least two."""

    def of(given):
        found = np.zeros(10)
        for rows in members(given):
            rewards = given["rewards"][rows]
            found[rows] = rewards if len(rows) == 1 else rule(rewards, given["mask"][rows].sum(axis=-1))
        return found[:, None] * given["mask"]

    return of


def best(rewards, lengths):
    order = np.argsort(-rewards, kind="stable")
    found = np.zeros(len(rewards))
    spread = np.std(rewards, ddof=1)
    found[order[0]] = (rewards[order[0]] - rewards[order[1]]) / (spread + 1e-6) if spread else 0.0
    return found


def over_mean(rewards, lengths):
    return (rewards - rewards.mean()) / rewards.mean() if rewards.mean() > 0 else np.zeros(len(rewards))


def passing(given, k=2):
    """By listing all draws of k: each response's mean over the draws that it is in, less the mean of all, in deviations."""
    found = np.zeros(10)
    for rows in members(given):
        right = given["rewards"][rows] > 0.5
        if len(rows) < k:
            continue
        draws = list(itertools.combinations(range(len(rows)), k))
        passes = np.array([right[list(draw)].any() for draw in draws], float)
        spread = np.sqrt(passes.mean() * (1 - passes.mean()))
        for number, row in enumerate(rows):
            own = np.mean([one for one, draw in zip(passes, draws, strict=True) if number in draw])
            found[row] = (own - passes.mean()) / spread if spread > 1e-6 else 0.0
    return found[:, None] * given["mask"]


def greedy(given):
    difference = np.where(np.isfinite(given["rewards"]), given["rewards"] - given["greedy_rewards"], 0.0)
    return difference[:, None] * given["mask"]


def sum_of_parts(given):
    total = np.zeros(10)
    for number in range(3):
        for rows in members(given):
            rewards = given["reward_parts"][rows, number]
            alone = len(rows) == 1
            spread = 0.0 if alone else np.std(rewards, ddof=1)
            total[rows] += (rewards if alone else rewards - rewards.mean()) / (spread + 1e-4)
    return total


def parts(given):
    total = sum_of_parts(given)
    there = given["mask"] & np.isfinite(given["rewards"])[:, None]
    tokens = (total[:, None] * given["mask"])[there]
    whitened = (total[:, None] - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8)
    return whitened * there


def optimal(given):
    """The baseline of each place in the responses, counted without holes."""
    probabilities = np.exp(given["logits_old"] - np.log(np.exp(given["logits_old"]).sum(axis=-1, keepdims=True)))
    squares = 1 - 2 * np.exp(given["logp_old"]) + (probabilities**2).sum(axis=-1)
    found = np.zeros((10, 6))
    for rows in members(given):
        tokens = {row: np.flatnonzero(given["mask"][row]) for row in rows}
        for place in range(6):
            here = [row for row in rows if len(tokens[row]) > place]
            weights = np.array([squares[row, tokens[row][: place + 1]].sum() for row in here])
            rewards = given["rewards"][here]
            for row in here:
                baseline = 0.0 if len(rows) == 1 else (weights * rewards).sum() / weights.sum()
                found[row, tokens[row][place]] = given["rewards"][row] - baseline
    return found


RULES = {
    "opo": by_group(lambda rewards, lengths: rewards - (lengths * rewards).sum() / lengths.sum()),
    "best_of_group": by_group(best),
    "maxrl": by_group(over_mean),
    "pass_at_k": passing,
    "remax": greedy,
    "gdpo": parts,
    "token_baseline": optimal,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", RULES)
def test_advantages(name, seed):
    given = batch_of(seed)
    objective = objectives.make(name)
    whole = {
        key: jnp.asarray(value, jnp.float32) if value.dtype == float else jnp.asarray(value)
        for key, value in given.items()
    }
    _, prepared = objective.prepare(objective.init(), TokenBatch(**whole))
    np.testing.assert_allclose(prepared.advantages, RULES[name](given), rtol=2e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_sum_of_parts_may_be_normalised_over_responses(seed):
    """TRL's form, or left as it is."""
    given = batch_of(seed)
    whole = {
        key: jnp.asarray(value, jnp.float32) if value.dtype == float else jnp.asarray(value)
        for key, value in given.items()
    }
    total, scored = sum_of_parts(given), np.isfinite(given["rewards"])
    normalised = (total - total[scored].mean()) / (total[scored].std(ddof=1) + 1e-4)
    for name, expected in (("responses", normalised), ("none", total)):
        _, prepared = objectives.make("gdpo", normalise_sum=name).prepare((), TokenBatch(**whole))
        expected = expected[:, None] * given["mask"] * scored[:, None]
        np.testing.assert_allclose(prepared.advantages, expected, rtol=2e-4, atol=2e-5)


def test_one_right_response_of_two():
    """Three wrong ones and a right one: half of all pairs pass, all of its own, a third of those of a wrong one."""
    batch = TokenBatch(jnp.zeros((4, 1)), jnp.ones((4, 1), bool), jnp.array([1.0, 0, 0, 0]), group_size=4)
    _, prepared = objectives.make("pass_at_k").prepare((), batch)
    np.testing.assert_allclose(prepared.advantages[:, 0], [1.0, *[(1 / 3 - 0.5) / 0.5] * 3], rtol=1e-5)
    _, single = objectives.make("pass_at_k", pass_k=1).prepare((), batch)
    np.testing.assert_allclose(single.advantages[:, 0], [math.sqrt(3), *[-1 / math.sqrt(3)] * 3], rtol=1e-5)


def test_shares_of_choices():
    expected = [math.comb(good, 3) / math.comb(8, 3) for good in range(9)]
    np.testing.assert_allclose(share_of_choices(jnp.arange(9.0), jnp.full(9, 8.0), 3), expected, rtol=1e-4, atol=1e-7)


def test_what_is_missing_is_said():
    given = batch_of(0)
    batch = TokenBatch(*(jnp.asarray(given[name]) for name in ("logp_old", "mask", "rewards")), group_size=5)
    for name, words in (
        ("remax", r"GreedyBaseline needs greedy_rewards: pass TokenBatch\(greedy_rewards=\[N\]\)"),
        ("gdpo", r"PartAdvantages needs reward_parts: pass TokenBatch\(reward_parts=\[N, K\]\)"),
        ("token_baseline", "needs 'collision' of the policy that drew the responses"),
    ):
        with pytest.raises(MissingInputError, match=words):
            objectives.make(name).prepare((), batch)
    both = dataclasses.replace(batch, reward_parts=jnp.ones((10, 2)))
    with pytest.raises(ShapeError, match="reward_parts has 2 rewards, and part_weights 3"):
        objectives.make("gdpo", part_weights=(1.0, 2.0, 3.0)).prepare((), both)
    with pytest.raises(
        ShapeError, match=r"reward_parts must have shape \(10, K\), K rewards of each response; got \(10,\)"
    ):
        objectives.make("gdpo").prepare((), dataclasses.replace(batch, reward_parts=jnp.ones(10)))
