"""Objectives on the credit and shape of single responses once more, in NumPy and double precision, from their formulas.

Written from the formulas alone, response by response and token by token, and nothing of the package is used: what stages
make of a batch in a few vectorised lines is compared with these loops. A reference is a function of a batch and of what a
policy says, and gives the loss; all that the papers hold constant is worked out once (`prepared`) and given back, so that
finite differences of the loss are its gradient.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np


class Given(NamedTuple):
    """A batch: arrays [N, T] and [N] in double precision, and which rows belong together."""

    logp_old: Any
    mask: Any
    rewards: Any
    group: Any
    entropy_old: Any
    logp_ref: Any
    task: Any
    answers: Any
    logp_prompt: Any


def groups_of(given):
    """The rows of each group, in the order in which groups appear."""
    seen = list(dict.fromkeys(given.group.tolist()))
    return [np.flatnonzero(given.group == label) for label in seen]


def lengths_of(given):
    return given.mask.sum(axis=1)


def standardised(values, epsilon=1e-6):
    values = np.asarray(values, float)
    if len(values) == 1:
        return values / (1 + epsilon)
    if np.ptp(values) < 1e-9:
        return np.zeros(len(values))
    return (values - values.mean()) / (values.std(ddof=1) + epsilon)


def grpo_advantages(given, rewards=None, epsilon=1e-6):
    rewards, found = given.rewards if rewards is None else rewards, np.zeros(len(given.rewards))
    for rows in groups_of(given):
        found[rows] = standardised(rewards[rows], epsilon)
    return found


def spread(given, per_row):
    return np.repeat(per_row[:, None], given.mask.shape[1], axis=1)


def ppo(ratio, advantage, low, high, dual=None):
    """One token's loss, with ratio bounds `low` and `high`."""
    loss = max(-advantage * ratio, -advantage * min(max(ratio, low), high))
    return min(loss, -advantage * dual) if dual is not None and advantage < 0 else loss


def token_losses(given, logp, advantages, low, high, dual=None):
    found = np.zeros(given.mask.shape)
    for row, column in zip(*np.nonzero(given.mask), strict=True):
        bounds = [bound if np.ndim(bound) == 0 else bound[row, column] for bound in (low, high)]
        ratio = math.exp(logp[row, column] - given.logp_old[row, column])
        found[row, column] = ppo(ratio, advantages[row, column], *bounds, dual)
    return found


def token_mean(values, mask):
    return values[mask].sum() / max(mask.sum(), 1)


def sequence_mean(values, mask, rows=None):
    """The mean over rows with tokens (or over `rows` of them) of each row's mean."""
    means = [values[row][mask[row]].mean() for row in range(len(mask)) if mask[row].any()]
    return sum(means) / max(len(means) if rows is None else rows, 1)


def sequence_losses(given, logp, advantages, low, high):
    """GSPO: the geometric mean of a response's ratios, clipped once."""
    found = np.zeros(given.mask.shape)
    for row in range(len(given.mask)):
        valid = given.mask[row]
        if valid.any():
            ratio = math.exp((logp[row] - given.logp_old[row])[valid].mean())
            found[row] = ppo(ratio, advantages[row, np.argmax(valid)], low, high)
    return found


def kept_groups(given):
    """DAPO's dynamic sampling: the mask without groups of equal rewards; those of a single response stay."""
    mask = given.mask.copy()
    for rows in groups_of(given):
        if len(rows) > 1 and np.ptp(given.rewards[rows]) < 1e-9:
            mask[rows] = False
    return mask


def hapo_scores(entropy, mask, quantile=0.8):
    logs = np.log(np.maximum(entropy, 1e-8))
    values = np.sort(logs[mask])
    middle = values[round(quantile * (len(values) - 1))]
    distance = np.where(mask, logs - middle, 0.0)
    scale = math.sqrt(max((distance[mask] ** 2).mean(), 1e-8))
    distance = distance / scale
    high = max(max((value for value in distance[mask] if value > 0), default=0), 1e-8)
    low = min(min((value for value in distance[mask] if value < 0), default=0), -1e-8)
    return np.where(distance > 0, distance / high, distance / -low)


def hapo_advantages(given, mask):
    found = np.zeros(len(given.rewards))
    for rows in groups_of(given):
        if np.ptp(given.rewards[rows]) < 1e-9:
            continue
        pooled = np.concatenate([np.full(mask[row].sum(), given.rewards[row]) for row in rows])
        if not len(pooled):
            continue
        own = (given.rewards[rows] - pooled.mean()) / (pooled.std() + 1e-6)
        real = [value for value, row in zip(own, rows, strict=True) if mask[row].any()]
        found[rows] = standardised(given.rewards[rows]) if max(map(abs, real)) >= 5 else own
    return found


def hapo(given, logp, entropy):
    mask = kept_groups(given)
    if not mask.any():
        return None
    given = given._replace(mask=mask)
    base, score = spread(given, hapo_advantages(given, mask)), hapo_scores(entropy, mask)
    low_width, high_width = 0.2 * (1 - np.minimum(score, 0)), 0.2 * (1 + np.maximum(score, 0))
    ratio = np.exp(np.where(mask, logp - given.logp_old, 0.0))
    inner = (ratio > 1 - low_width / 2) & (ratio < 1 + high_width / 2)
    changed = base * (1 + score)
    advantages = np.where(score > 0, np.where(inner, base, changed), np.where(inner, changed, base))

    def loss(logp, entropy):
        return token_mean(token_losses(given, logp, advantages, 1 - low_width, 1 + high_width, 10.0), mask)

    return loss


def confidence(logs, share):
    if not len(logs):
        return 1.0
    count = max(1, math.ceil(share * len(logs) - 1e-6))
    return math.exp(np.sort(logs)[:count].mean())


def progrpo(given, logp, entropy):
    advantages = grpo_advantages(given)
    for rows in groups_of(given):
        if (given.rewards[rows] > 0).any():
            for row in rows:
                of_prompt = given.logp_prompt[row]
                asked = confidence(of_prompt[np.isfinite(of_prompt)], 1.0)
                advantages[row] += 0.3 * (asked - confidence(given.logp_old[row][given.mask[row]], 0.2))

    def loss(logp, entropy):
        return token_mean(token_losses(given, logp, spread(given, advantages), 0.8, 1.28), given.mask)

    return loss


def bapo_bounds(given, ratio, advantages, target, low, high, weighed, low_first):
    """(lower, upper) bound: `low` and `high` are (start, limit, step)."""
    counts = [math.ceil((limit - start) / step - 1e-9) for start, limit, step in (low, high)]

    def bound(number, which):
        start, limit, step = (low, high)[which]
        return limit if number == counts[which] else start + number * step

    def short(taken):
        positive = negative = 0.0
        for row, column in zip(*np.nonzero(given.mask), strict=True):
            value, r = advantages[row, column], ratio[row, column]
            size = abs(min(r * value, min(max(r, bound(taken[0], 0)), bound(taken[1], 1)) * value))
            size *= math.exp(given.logp_old[row, column]) if weighed else 1.0
            positive, negative = positive + size * (value > 0), negative + size * (value < 0)
        return positive + negative > 0 and positive / (positive + negative) < target

    taken = [0, 0]
    order = (0, 1) if low_first else (1, 0)
    while short(taken) and (taken[0] < counts[0] or taken[1] < counts[1]):
        which = order[0] if taken[order[0]] < counts[order[0]] else order[1]
        taken[which] += 1
    return bound(taken[0], 0), bound(taken[1], 1)


def bapo_of(target, low, high, weighed, low_first, dual):
    def bapo(given, logp, entropy):
        advantages = spread(given, grpo_advantages(given))
        ratio = np.exp(np.where(given.mask, logp - given.logp_old, 0.0))
        bounds = bapo_bounds(given, ratio, advantages, target, low, high, weighed, low_first)

        def loss(logp, entropy):
            return token_mean(token_losses(given, logp, advantages, *bounds, dual), given.mask)

        return loss

    return bapo


def ares_windows(given, after, width=4):
    """(means of windows by row, None where there is no whole one), at valid tokens alone."""
    found = []
    for row in range(len(given.mask)):
        values = given.entropy_old[row][given.mask[row]]
        begins = [place + after for place in range(len(values))]
        found.append([values[b : b + width].mean() if b + width <= len(values) else None for b in begins])
    return found


def ares_difficulty(given):
    hard = np.zeros(len(given.rewards), int)
    for rows in groups_of(given):
        right = (given.rewards[rows] > 0).sum()
        hard[rows] = 0 if 3 * right >= 2 * len(rows) else 1 if 3 * right >= len(rows) else 2
    return hard


def ares(given, logp, entropy):
    """At the first batch, for which there is no target yet: rewards are 1 for right and 0 for wrong responses."""
    kept = kept_groups(given)
    given = given._replace(mask=kept)
    windows = ares_windows(given, after=0)
    quantiles = [np.quantile(given.entropy_old[row][kept[row]], 0.95) for row in range(len(kept)) if kept[row].any()]
    threshold = np.mean(quantiles)
    advantages = spread(given, grpo_advantages(given, (given.rewards > 0).astype(float)))
    inside = np.zeros(given.mask.shape, bool)
    for row, own in enumerate(windows):
        places = np.flatnonzero(kept[row])
        for place, mean in zip(places, own, strict=True):
            inside[row, place] = mean is not None and mean >= threshold
    hard = ares_difficulty(given)
    weight = np.zeros(given.mask.shape)
    divergence = np.where(kept, kl(logp, given.logp_ref), 0.0)
    for level in range(3):
        outside = kept & ~inside & (hard == level)[:, None]
        start = 0.01
        if outside.any():
            start = np.clip(0.01 * (1 + 0.1 * (divergence[outside].mean() / 0.01 - 1)), 1e-4, 1.0)
        weight[hard == level] = start
    weight = np.where(inside, 0.5 * weight, weight)

    def loss(logp, entropy):
        policy = token_losses(given, logp, advantages, 0.8, 1.3, 3.0)
        return sequence_mean(policy + np.where(kept, weight * kl(logp, given.logp_ref), 0.0), kept)

    return loss


def ares_released(given, logp, entropy):
    windows = ares_windows(given, after=1)
    medians = []
    for own in windows:
        whole = [value for value in own if value is not None]
        if whole:
            medians.append(np.quantile([np.mean(whole) if value is None else value for value in own], 0.95))
    threshold = np.median(medians) if medians else 0.0
    count = np.array([sum(value is not None and value >= threshold - 1e-7 for value in own) for own in windows], float)
    hard, right = ares_difficulty(given), given.rewards > 0
    strength, target = np.full(3, 0.5), np.zeros(3)
    for level in range(3):
        means = [count[rows].mean() for rows in groups_of(given) if hard[rows[0]] == level]
        if means:
            target[level] = np.round(np.mean(means))
            move = 0.05 * (-1 if level == 2 else 1) * (np.mean(means) - target[level])
            strength[level] = np.clip(strength[level] + move, 0, 2)
    rewards = np.array(
        [released_reward(n, bool(r), h, target[h], strength[h]) for n, r, h in zip(count, right, hard, strict=True)]
    )
    mask = given.mask.copy()
    for rows in groups_of(given):
        if not 0.01 < rewards[rows].mean() < 0.99:
            mask[rows] = False
    advantages = spread(given, grpo_advantages(given, rewards))
    given = given._replace(mask=mask)

    def loss(logp, entropy):
        policy = token_losses(given, logp, advantages, 0.8, 1.3, 3.0)
        return token_mean(policy + np.where(mask, 0.01 * kl(logp, given.logp_ref), 0.0), mask)

    return loss


def released_reward(count, right, level, target, strength):
    frac, k, s, scale = ((0.15, 2, 2, 1), (0.25, 3, 2.5, 1), (0.35, 4, 3, 1.2))[level]
    delta, margin, cap = count - target, max(1, frac * max(target, 1)), strength * scale

    def huber(x):
        return 0.5 * x * x / k if x <= k else x - 0.5 * k

    def sigmoid(x):
        return 1 / (1 + math.exp(-x / s))

    if not right:
        return sigmoid(max(delta - margin, 0)) * cap * (0.6, 0.8, 1.0)[level]
    if level == 2:
        term = (
            sigmoid(delta + margin) * cap
            if delta >= -margin
            else -min(cap, 0.5 * huber(-delta - margin) / (margin + k) * cap)
        )
    else:
        beyond = max((delta if level == 0 else abs(delta)) - margin, 0)
        term = -min(cap, huber(beyond) / (margin + k) * cap)
    return 1 + term


def kl(logp, reference):
    """k3."""
    difference = reference - logp
    return np.exp(difference) - difference - 1


def g2rpo(given, logp, entropy):
    mask = kept_groups(given)
    given = given._replace(mask=mask)
    advantages = np.zeros(len(given.rewards))
    for rows in groups_of(given):
        order = sorted(rows, key=lambda row: given.rewards[row])
        quantile = {row: NormalDist().inv_cdf((place + 0.5) / len(rows)) for place, row in enumerate(order)}
        for row in rows:
            advantages[row] = np.mean([quantile[other] for other in rows if given.rewards[other] == given.rewards[row]])

    def loss(logp, entropy):
        total = sequence_mean(token_losses(given, logp, spread(given, advantages), 0.8, 1.2), mask)
        outside = []
        for task in np.unique(given.task):
            here = mask & (given.task == task)[:, None]
            if here.any():
                mean = entropy[here].mean()
                outside.append(max(0.0, mean - 1.2) + max(0.0, 0.8 - mean))
        return total + 0.7 * np.mean(outside) if outside else total

    return loss


def riskpo_papers(given, size):
    """Bundles of consecutive questions; (rows of each paper, number of its bundle) in order."""
    found = []
    questions = groups_of(given)
    for number, begin in enumerate(range(0, len(questions), size)):
        bundle = questions[begin : begin + size]
        found += [([rows[j] for rows in bundle], number) for j in range(min(map(len, bundle)))]
    return found


def riskpo(given, logp, entropy):
    """With bundles of two as they stand; quantiles are those of the batch, which is the first."""
    papers = riskpo_papers(given, 2)
    scores = [given.rewards[rows].sum() for rows, _ in papers]
    low, high = np.quantile(scores, [0.2, 0.8])
    advantages = np.zeros(len(given.rewards))
    for (rows, _), score in zip(papers, scores, strict=True):
        advantages[rows] = -0.5 * max(low - score, 0) - max(high - score, 0)

    def loss(logp, entropy):
        return sequence_mean(sequence_losses(given, logp, spread(given, advantages), 0.8, 1.2), given.mask)

    return loss


def riskpo_released(given, logp, entropy):
    papers = riskpo_papers(given, 2)
    scores = [given.rewards[rows].sum() for rows, _ in papers]
    low, high = np.quantile(scores, [0.2, 0.8])
    mean = np.zeros(len(given.rewards))
    for rows in groups_of(given):
        mean[rows] = given.rewards[rows].mean()
    advantages = np.zeros(len(given.rewards))
    for (rows, bundle), score in zip(papers, scores, strict=True):
        own = [other for other, (_, number) in zip(scores, papers, strict=True) if number == bundle]
        deviation = np.std(own, ddof=1) if len(own) > 1 else 1.0
        deviation = 1.0 if deviation < 1e-3 else deviation
        between = max(score - low, 0) - max(score - high, 0)
        value = (1.5 * -max(low - score, 0) / (0.2 + 1e-6) + between / (0.6 + 1e-6)) / 2.5 / (deviation + 1e-6)
        distance = given.rewards[rows] - mean[rows]
        divides = abs(distance.sum()) > 1e-6
        advantages[rows] = value * distance / distance.sum() if divides else value / len(rows)

    def loss(logp, entropy):
        return token_mean(token_losses(given, logp, spread(given, advantages), 0.8, 1.2, 3.0), given.mask)

    return loss


def copo_of(sharpness, threshold, zero):
    def copo(given, logp, entropy):
        local, means, bits = grpo_advantages(given), [], []
        for rows in groups_of(given):
            means.append(given.rewards[rows].mean())
            _, counts = np.unique(given.answers[rows], return_counts=True)
            share = counts / len(rows)
            bits.append(-np.sum(share * np.log2(share + 1e-8)))
        of_prompt, weight = np.zeros(len(local)), np.zeros(len(local))
        for index, rows in enumerate(groups_of(given)):
            if len(means) > 1 and np.ptp(means) > 1e-9:
                of_prompt[rows] = (means[index] - np.mean(means)) / (np.std(means, ddof=1) + 1e-6)
            weight[rows] = 1 / (1 + math.exp(-sharpness * (bits[index] - threshold)))
        if zero:
            weight = weight * (given.rewards != 0)

        def loss(logp, entropy):
            both = [token_losses(given, logp, spread(given, values), 0.8, 1.2, 3.0) for values in (local, of_prompt)]
            return sequence_mean(weight[:, None] * both[0] + (1 - weight[:, None]) * both[1], given.mask)

        return loss

    return copo


def empo_of(released):
    def empo(given, logp, entropy):
        rewards = np.zeros(len(given.rewards))
        for rows in groups_of(given):
            answers = [int(answer) for answer in given.answers[rows]]
            clusters = [("unread", place) if answer < 0 else answer for place, answer in enumerate(answers)]
            share = np.array([clusters.count(each) / len(rows) for each in clusters])
            h = -sum(
                clusters.count(each) / len(rows) * math.log(clusters.count(each) / len(rows)) for each in set(clusters)
            )
            if (0 if released else 1e-6) < h < math.log(len(rows)) - 1e-6:
                rewards[rows] = np.where(np.array(answers) < 0, 0.0, share) if released else share
        advantages = spread(given, grpo_advantages(given, rewards, 1e-4 if released else 1e-6))

        def loss(logp, entropy):
            if released:
                return sequence_mean(token_losses(given, logp, advantages, 0.8, 1.2), given.mask)
            return sequence_mean(sequence_losses(given, logp, advantages, 1 - 3e-4, 1 + 4e-4), given.mask)

        return loss

    return empo


BAPO_PAPER = (0.4, (0.6, 0.9, 0.02), (1.2, 3.0, 0.05), True, False, None)
BAPO_RELEASED = (0.5, (0.6, 0.8, 0.05), (1.2, 2.0, 0.05), False, True, 3.0)

REFERENCES = {
    "hapo": (hapo, {}),
    "progrpo": (progrpo, {}),
    "bapo": (bapo_of(*BAPO_PAPER), {}),
    "bapo_released": (bapo_of(*BAPO_RELEASED), {}),
    "ares": (ares, {}),
    "ares_released": (ares_released, {"ares_top": None}),
    "g2rpo": (g2rpo, {"band_low": 0.8, "band_high": 1.2, "band_weight": 0.7}),
    "riskpo": (riskpo, {"bundle_order": "given", "bundle_size": 2}),
    "riskpo_released": (riskpo_released, {"bundle_size": 2}),
    "copo": (copo_of(20.0, 1.5, zero=False), {}),
    "copo_released": (copo_of(5.0, 1.0, zero=True), {}),
    "empo": (empo_of(released=False), {}),
    "empo_released": (empo_of(released=True), {}),
}
"""By name: the reference, and the settings with which the objective is the same, where they are not its defaults."""


def prepared(name, given, logp, entropy):
    """The loss as a function of what the policy says, with all that is held constant worked out at `logp` and `entropy`."""
    return REFERENCES[name][0](given, logp, entropy)


def differences(loss, logp, entropy, mask, step=1e-6):
    """(gradient in logp, gradient in entropy) [N, T] by central differences."""
    found = [np.zeros(logp.shape), np.zeros(logp.shape)]
    for which, values in enumerate((logp, entropy)):
        for row, column in zip(*np.nonzero(mask), strict=True):
            ends = []
            for sign in (1, -1):
                moved = values.copy()
                moved[row, column] += sign * step
                ends.append(loss(*((moved, entropy) if which == 0 else (logp, moved))))
            found[which][row, column] = (ends[0] - ends[1]) / (2 * step)
    return found
