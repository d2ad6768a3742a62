"""Second references of G2RPO, RiskPO, COPO and EMPO, written from their sheets alone: plain loops in double precision."""

import dataclasses
import math
from statistics import NormalDist

import numpy as np


@dataclasses.dataclass(frozen=True)
class Responses:
    """Sampled responses, all constant to a loss."""

    logp_old: np.ndarray
    mask: np.ndarray
    rewards: np.ndarray
    group: np.ndarray
    task: np.ndarray
    answers: np.ndarray

    def groups(self):
        """Lists of the rows of each prompt, in the order of their first responses; a row without tokens is none."""
        found = {}
        for row in range(len(self.mask)):
            if self.mask[row].any():
                found.setdefault(int(self.group[row]), []).append(row)
        return list(found.values())


def sample_sd(values):
    """Standard deviation, ddof 1."""
    return float(np.std(values, ddof=1))


def group_advantages(rewards, groups, epsilon):
    """(reward - mean) / (sd + epsilon), the sd with ddof 1; a group of one has mean 0 and sd 1."""
    found = np.zeros(len(rewards))
    for rows in groups:
        values = [rewards[row] for row in rows]
        mean, sd = (float(np.mean(values)), sample_sd(values)) if len(rows) > 1 else (0.0, 1.0)
        for row in rows:
            found[row] = (rewards[row] - mean) / (sd + epsilon)
    return found


def clipped(ratio, advantage, low, high, dual=None):
    """PPO's clipped loss of one token or sequence, with dual clip where the advantage is negative."""
    loss = max(-advantage * ratio, -advantage * min(max(ratio, 1 - low), 1 + high))
    return min(loss, -advantage * dual) if dual is not None and advantage < 0 else loss


def clip_losses(given, logp, advantages, low, high, dual=None, sequence=False):
    """[N, T] clipped losses of valid tokens; of a sequence, the same at each of its tokens."""
    found = np.zeros(logp.shape)
    for row in range(len(logp)):
        valid = np.flatnonzero(given.mask[row])
        change = {t: min(max(logp[row, t] - given.logp_old[row, t], -20.0), 20.0) for t in valid}
        for t in valid:
            log_ratio = sum(change.values()) / len(valid) if sequence else change[t]
            found[row, t] = clipped(math.exp(log_ratio), advantages[row], low, high, dual)
    return found


def sequence_mean(loss, mask):
    """Mean over rows that have tokens of the mean over their tokens."""
    rows = [row for row in range(len(mask)) if mask[row].any()]
    return sum(np.mean([loss[row, t] for t in np.flatnonzero(mask[row])]) for row in rows) / max(len(rows), 1)


def token_mean(loss, mask):
    """Mean over all tokens."""
    return loss[mask].sum() / max(mask.sum(), 1)


# --- G2RPO


def gaussian_scores(values):
    """Quantiles of the standard normal by rank, tied values sharing the mean of theirs."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    quantiles = [NormalDist().inv_cdf((k - 0.5) / len(values)) for k in range(1, len(values) + 1)]
    found = []
    for value in values:
        tied = [quantiles[k] for k, index in enumerate(order) if values[index] == value]
        found.append(sum(tied) / len(tied))
    return found


def length_reward(length, bounds):
    """The trapezoid of a response's length."""
    least, low, high, most = bounds
    if length < least or length > most:
        return 0.0
    if length < low:
        return (length - least) / (low - least)
    return 1.0 if length <= high else (most - length) / (most - high)


def g2rpo(
    given, logp, entropy, *, drop=True, over="group", bounds=None, length_weight=0.1, band, weight=0.1, source="full"
):
    """The whole loss of G2RPO."""
    groups, rewards, mask = given.groups(), given.rewards.copy(), given.mask.copy()
    if drop:
        for rows in groups:
            if len(rows) > 1 and len({rewards[row] for row in rows}) == 1:
                mask[rows] = False
    if bounds is not None:
        for row in range(len(rewards)):
            rewards[row] += length_weight * length_reward(given.mask[row].sum(), bounds[given.task[row]])
    ranked = groups
    if over == "task":
        ranked = [[row for rows in groups for row in rows if given.task[row] == task] for task in set(given.task)]
    advantages = np.zeros(len(rewards))
    for rows in ranked:
        if rows:
            advantages[rows] = gaussian_scores([rewards[row] for row in rows])
    left = dataclasses.replace(given, mask=mask)
    policy = sequence_mean(clip_losses(left, logp, advantages, 0.2, 0.2), mask)
    per_token = entropy if source == "full" else -logp
    hinges = []
    for task in sorted(set(given.task)):
        values = [
            per_token[row, t] for row in range(len(mask)) if given.task[row] == task for t in np.flatnonzero(mask[row])
        ]
        if values:
            mean = sum(values) / len(values)
            hinges.append(max(0.0, mean - band[1]) + max(0.0, band[0] - mean))
    return policy + weight * sum(hinges) / max(len(hinges), 1)


# --- RiskPO


def between(score, low, high):
    """g(z, a, b) of the sheet."""
    return max(score - low, 0.0) - max(score - high, 0.0) + low - high


def risk(score, low, high, *, form, levels, tail=0.5, mix=1.5, natural=False):
    """The advantage of a paper from its score and the two quantiles."""
    if form == "paper":
        return -(1 + tail) * max(low - score, 0.0) + between(score, low, high)
    middle = between(score, low, high) - (0.0 if natural else low - high)
    end = (
        -max(low - score, 0.0) / (levels[0] + 1e-06)
        if form == "mixed"
        else max(score - high, 0.0) / (1 - levels[1] + 1e-06)
    )
    return (mix * end + middle / (levels[1] - levels[0] + 1e-6)) / (mix + 1)


def papers_in_order(given, size):
    """Bundles, each a list of papers, each a list of rows: consecutive prompts, their responses paired by index."""
    groups = given.groups()
    bundles = [groups[first : first + size] for first in range(0, len(groups), size)]
    return [[[rows[j] for rows in bundle] for j in range(min(map(len, bundle)))] for bundle in bundles]


def risk_quantiles(scores, tracked, kind, levels):
    """For each bundle the two quantiles that its papers are compared with."""
    every = [score for bundle in scores for score in bundle]
    whole = [float(np.quantile(every, level)) for level in levels]
    past = whole if tracked is None else tracked
    own = [[float(np.quantile(bundle, level)) for level in levels] for bundle in scores]
    if kind == "tracked":
        return [past for _ in scores]
    if kind == "batch":
        return [whole for _ in scores]
    if kind == "bundle":
        return own
    return [[(a + b) / 2 for a, b in zip(past, each, strict=True)] for each in own]


def next_quantiles(scores, tracked, levels, rate=0.1):
    """The tracked quantiles after a batch: its own of the first, later a step towards those levels."""
    every = [score for bundle in scores for score in bundle]
    if tracked is None:
        return [float(np.quantile(every, level)) for level in levels]
    return [
        q + rate * (level - np.mean([score < q for score in every])) for q, level in zip(tracked, levels, strict=True)
    ]


def risk_advantages(
    given,
    bundles,
    tracked=None,
    *,
    kind="tracked",
    scale=False,
    credit="uniform",
    centre=False,
    levels=(0.2, 0.8),
    **form,
):
    """[N] the advantages of RiskPO, 0 in responses of no paper, and the next tracked quantiles."""
    scores = [[sum(given.rewards[row] for row in paper) for paper in papers] for papers in bundles]
    limits = risk_quantiles(scores, tracked, kind, levels)
    question = {row: rows for rows in given.groups() for row in rows}
    found = np.zeros(len(given.rewards))
    for papers, of_papers, (low, high) in zip(bundles, scores, limits, strict=True):
        sd = sample_sd(of_papers) if len(papers) > 1 else 1.0
        sd = 1.0 if sd < 1e-3 else sd
        for paper, score in zip(papers, of_papers, strict=True):
            advantage = risk(score, low, high, levels=levels, **form) / (sd + 1e-6 if scale else 1.0)
            over = {row: given.rewards[row] - np.mean([given.rewards[k] for k in question[row]]) for row in paper}
            for row in paper:
                if credit == "uniform":
                    share = 1.0
                elif credit == "score":
                    share = 0.5 if given.rewards[row] > 0 else 1.5
                elif credit == "std":
                    spread = sample_sd([given.rewards[k] for k in question[row]]) if len(question[row]) > 1 else 1.0
                    share = 1 / ((spread if spread > 1e-3 else 1.0) + 1e-6)
                else:
                    total = sum(over.values())
                    share = over[row] / total if abs(total) > 1e-6 else 1 / len(paper)
                found[row] = advantage * share
    if centre:
        inside = [row for papers in bundles for paper in papers for row in paper]
        found[inside] -= np.mean(found[inside])
    return found, next_quantiles(scores, tracked, levels)


def riskpo(given, logp, advantages, released=False):
    """The loss of RiskPO: a clipped sequence ratio, or the released code's tokens with dual clip."""
    if released:
        return token_mean(clip_losses(given, logp, advantages, 0.2, 0.2, 3.0), given.mask)
    return sequence_mean(clip_losses(given, logp, advantages, 0.2, 0.2, sequence=True), given.mask)


# --- COPO


def copo(given, logp, *, blend="soft", sharpness=20.0, threshold=1.5, coefficient=False):
    """The whole loss of COPO."""
    groups, rewards = given.groups(), given.rewards
    local = group_advantages(rewards, groups, 1e-6)
    weight, across, means = np.zeros(len(rewards)), np.zeros(len(rewards)), []
    for rows in groups:
        classes = {int(given.answers[row]) for row in rows}
        shares = [sum(given.answers[row] == each for row in rows) / len(rows) for each in classes]
        entropy = -sum(share * math.log2(share) for share in shares)
        mean = float(np.mean(rewards[rows]))
        if coefficient and len(rows) > 1:
            mean *= 1 - (1 - 1 / len(rows)) / math.log2(len(rows)) * entropy
        means.append(mean)
        soft = 1 / (1 + math.exp(-sharpness * (entropy - threshold)))
        for row in rows:
            forced, right = float(abs(local[row]) > 1e-8), float(rewards[row] != 0)
            weight[row] = {
                "soft": soft,
                "soft-zero": soft * right,
                "soft-forced": soft * forced,
                "forced": forced,
                "zero": right,
                "global": 0.0,
                "local": 1.0,
            }[blend]
    for rows, mean in zip(groups, means, strict=True):
        across[rows] = (mean - np.mean(means)) / (sample_sd(means) + 1e-6) if len(means) > 1 else 0.0
    in_group = clip_losses(given, logp, local, 0.2, 0.2, 3.0)
    between_groups = clip_losses(given, logp, across, 0.2, 0.2, 3.0)
    return sequence_mean(weight[:, None] * in_group + (1 - weight[:, None]) * between_groups, given.mask)


# --- EMPO


def agreement_rewards(answers, groups, *, low, unread, reward="prob", margin=1e-6):
    """[N] the share of a response's answer in its group, where the group's entropy lies between the thresholds."""
    found = np.zeros(len(answers))
    for rows in groups:
        clusters = []  # greedy in row order, by representative
        for row in rows:
            for cluster in clusters:
                same = answers[cluster[0]] == answers[row]
                if same and answers[row] >= 0:  # an unread answer agrees with nobody, as the stage decides
                    cluster.append(row)
                    break
            else:
                clusters.append([row])
        shares = [len(cluster) / len(rows) for cluster in clusters]
        entropy = -sum(share * math.log(share) for share in shares)
        if not low < entropy < math.log(len(rows)) - margin:
            continue
        for cluster, share in zip(clusters, shares, strict=True):
            for row in cluster:
                worth = {"prob": share, "logprob": math.log(share), "voting": float(share == max(shares))}[reward]
                found[row] = 0.0 if unread == "zero" and answers[row] < 0 else worth
    return found


def empo(given, logp, *, released=False, reward="prob"):
    """The whole loss of EMPO: the sequence ratio of its maths runs, or plain GRPO of its earlier implementation."""
    groups = given.groups()
    if released:
        rewards = agreement_rewards(given.answers, groups, low=-1.0, unread="zero", reward=reward)
        advantages = group_advantages(rewards, groups, 1e-4)
        return sequence_mean(clip_losses(given, logp, advantages, 0.2, 0.2), given.mask)
    rewards = agreement_rewards(given.answers, groups, low=1e-6, unread="own", reward=reward)
    advantages = group_advantages(rewards, groups, 1e-6)
    return sequence_mean(clip_losses(given, logp, advantages, 3e-4, 4e-4, sequence=True), given.mask)
