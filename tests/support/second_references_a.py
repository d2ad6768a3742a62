"""HAPO, ProGRPO, BAPO and ARES once more, in loops of NumPy, from the papers' sheets alone.

Each function is given the columns of a batch by name, in double precision, and the settings of the objective. It computes at
the given log-probabilities what a sheet holds constant, and returns the loss as a function of the log-probabilities alone, so
that differences of it are the gradient.

Where the sheets say nothing, as the package has it: a row without tokens is no response and counts in no statistic; a group
of one is kept by the filter of equal rewards; windows are over a response's tokens in order, whatever stands between them; in
ARES what the filter has left out counts neither in the threshold nor in the targets.
"""

import math

import numpy as np


def rows_of(group, mask):
    """The responses of each group, by its number; a row without tokens is none."""
    groups = {int(one): [n for n, other in enumerate(group) if other == one and mask[n].any()] for one in group}
    return {one: rows for one, rows in groups.items() if rows}


def positions(mask, row):
    """Where a response has tokens."""
    return [t for t in range(mask.shape[1]) if mask[row, t]]


def standard_deviation(values, ddof):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - ddof))


def alone(group, one):
    """Whether a group is of one row."""
    return sum(other == one for other in group) == 1


def grpo_advantages(rewards, group, mask, epsilon):
    """[N] rewards less their group's mean, over its sample standard deviation; of a group of one, mean 0 and deviation 1."""
    advantages = np.zeros(len(rewards))
    for one, rows in rows_of(group, mask).items():
        own = [rewards[n] for n in rows]
        if alone(group, one):
            advantages[rows[0]] = own[0] / (1 + epsilon)
        if len(set(own)) > 1:
            mean, deviation = sum(own) / len(own), standard_deviation(own, 1)
            for n in rows:
                advantages[n] = (rewards[n] - mean) / (deviation + epsilon)
    return advantages


def without_uniform_groups(mask, rewards, group):
    """The mask, without groups whose rewards are all equal; those of one are kept."""
    mask = mask.copy()
    for one, rows in rows_of(group, mask).items():
        if len({rewards[n] for n in rows}) == 1 and not alone(group, one):
            mask[rows] = False
    return mask


def clipped(ratio, advantage, low, high, dual=None):
    """The clipped loss of one token."""
    loss = max(-advantage * ratio, -advantage * min(max(ratio, low), high))
    return min(loss, -advantage * dual) if dual is not None and advantage < 0 else loss


def token_mean(losses, mask):
    values = [losses[n][t] for n in range(len(mask)) for t in positions(mask, n)]
    return sum(values) / len(values) if values else 0.0


def sequence_mean(losses, mask):
    rows = []
    for n in range(len(mask)):
        own = [losses[n][t] for t in positions(mask, n)]
        rows += [sum(own) / len(own)] if own else []
    return sum(rows) / len(rows) if rows else 0.0


def by_token(mask, of_token):
    """A function of (row, position) at every token."""
    return [{t: of_token(n, t) for t in positions(mask, n)} for n in range(len(mask))]


# HAPO


def pooled_advantages(columns, epsilon, most):
    """[N] step 3: rewards less their mean over the tokens of a group, over their deviation over its tokens."""
    rewards, mask = columns["rewards"], columns["mask"]
    advantages = np.zeros(len(mask))
    for rows in rows_of(columns["group"], mask).values():
        own = [rewards[n] for n in rows]
        pooled = [rewards[n] for n in rows for _ in positions(mask, n)]
        if len(set(own)) == 1:
            continue
        mean, deviation = sum(pooled) / len(pooled), standard_deviation(pooled, 0)
        found = {n: (rewards[n] - mean) / (deviation + epsilon) for n in rows}
        if any(abs(value) >= most for value in found.values()):
            mean, deviation = sum(own) / len(own), standard_deviation(own, 1)
            found = {n: (rewards[n] - mean) / (deviation + epsilon) for n in rows}
        for n, value in found.items():
            advantages[n] = value
    return advantages


def entropy_scores(entropy, mask, quantile, kind):
    """Step 1: the score of every token."""
    logs = by_token(mask, lambda n, t: math.log(max(entropy[n, t], 1e-8)))
    ordered = sorted(value for row in logs for value in row.values())
    if not ordered:
        return logs
    pivot = ordered[round(quantile * (len(ordered) - 1))]
    scale = math.sqrt(max(sum((value - pivot) ** 2 for value in ordered) / len(ordered), 1e-8))
    scaled = [(value - pivot) / scale for value in ordered]
    most, least = max([*scaled, 1e-8]), min([*scaled, -1e-8])

    def score(n, t):
        own = (logs[n][t] - pivot) / scale
        if own > 0:
            return own / most
        return own / (abs(least) if kind == "signed" else least)

    return by_token(mask, score)


def hapo_temperatures(columns, entropy, quantile, width):
    """Step 2: factors of the temperature of the next batch, of entropies [K], by the entropies of this one."""
    mask, old = columns["mask"], columns["entropy_old"]
    ordered = sorted(math.log(max(old[n, t], 1e-8)) for n in range(len(mask)) for t in positions(mask, n))
    pivot = ordered[round(quantile * (len(ordered) - 1))]
    scale = math.sqrt(max(sum((value - pivot) ** 2 for value in ordered) / len(ordered), 1e-8))
    above, below = max((ordered[-1] - pivot) / scale, 1e-8), min((ordered[0] - pivot) / scale, -1e-8)
    factors = []
    for one in entropy:
        distance = (math.log(max(one, 1e-6)) - pivot) / (scale + 1e-6)
        score = distance / (above if distance > 0 else abs(below))
        factors.append(1 + width * min(max(score, -1.0), 1.0))
    return factors


def hapo(columns, settings):
    mask, logp_old = columns["mask"], columns["logp_old"]
    if settings["drop_uniform_groups"]:
        mask = without_uniform_groups(mask, columns["rewards"], columns["group"])
    advantages = pooled_advantages(columns, settings["pooled_epsilon"], settings["pooled_most"])
    scores = entropy_scores(columns["entropy"], mask, settings["entropy_pivot"], settings["hapo_score"])
    strength, credit = settings["clip_strength"], settings["credit_strength"]

    def held(n, t):
        score, advantage = scores[n][t], advantages[n]
        low, high = settings["hapo_clip_low"], settings["hapo_clip_high"]
        if score <= 0:
            low *= 1 - strength * score
        else:
            high *= 1 + strength * score
        ratio = math.exp(columns["logp"][n, t] - logp_old[n, t])
        inner = 1 - low / 2 < ratio < 1 + high / 2
        if inner != (score > 0):
            advantage *= 1 + credit * score
        return advantage, 1 - low, 1 + high

    constant = by_token(mask, held)

    def loss(logp):
        def of_token(n, t):
            return clipped(math.exp(logp[n, t] - logp_old[n, t]), *constant[n][t], settings["dual_clip"])

        return token_mean(by_token(mask, of_token), mask)

    return loss


# ProGRPO


def lowest_mean(values, share):
    """exp of the mean of the lowest share of some log-probabilities."""
    count = max(1, math.ceil(share * len(values) - 1e-6))
    return math.exp(sum(sorted(values)[:count]) / count)


def progrpo(columns, settings):
    mask, logp_old, rewards = columns["mask"], columns["logp_old"], columns["rewards"]
    advantages = grpo_advantages(rewards, columns["group"], mask, settings["group_epsilon"])
    right = [reward > settings["arm_right_above"] for reward in rewards]
    for rows in rows_of(columns["group"], mask).values():
        active = any(right[n] for n in rows) and (settings["arm_all_correct"] or not all(right[n] for n in rows))
        for n in rows:
            own = [logp_old[n, t] for t in positions(mask, n)]
            answer = lowest_mean(own, settings["arm_low_share"]) if own else 1.0
            prompt = [value for value in columns["logp_prompt"][n] if math.isfinite(value)]
            if settings["arm_prompt"] == "none":
                confidence = 0.0
            elif not prompt:
                confidence = 1.0
            else:
                confidence = lowest_mean(prompt, 1.0 if settings["arm_prompt"] == "all" else settings["arm_low_share"])
            if active and (settings["arm_scope"] == "all" or right[n]):
                advantages[n] += settings["arm_weight"] * (confidence - answer)
    low, high = 1 - settings["clip_low"], 1 + settings["clip_high"]

    def loss(logp):
        def of_token(n, t):
            return clipped(math.exp(logp[n, t] - logp_old[n, t]), advantages[n], low, high, settings["dual_clip"])

        return token_mean(by_token(mask, of_token), mask)

    return loss


# BAPO


def steps_between(start, limit, step):
    """The values that a bound takes, from its start to its limit."""
    count = math.ceil((limit - start) / step - 1e-9)
    return [start + n * step for n in range(count)] + [limit]


def balanced_bounds(columns, advantages, settings):
    """(lower, upper) bound of the ratio, at the current log-probabilities."""
    mask, logp, logp_old = columns["mask"], columns["logp"], columns["logp_old"]
    lows = steps_between(settings["ratio_low_from"], settings["ratio_low_to"], settings["ratio_low_step"])
    highs = steps_between(settings["ratio_high_from"], settings["ratio_high_to"], settings["ratio_high_step"])
    target = settings["balance_share"]

    def short(low, high):
        """Whether the positive tokens have less than their share."""
        sums = {True: 0.0, False: 0.0}
        for n in range(len(mask)):
            for t in positions(mask, n):
                advantage, ratio = advantages[n], math.exp(logp[n, t] - logp_old[n, t])
                weight = math.exp(logp_old[n, t]) if settings["balance_weight"] == "probability" else 1.0
                if advantage == 0:
                    continue
                if settings["balance_by"] == "value":
                    size = abs(min(ratio * advantage, min(max(ratio, low), high) * advantage))
                else:
                    counts = ratio <= high if advantage > 0 else ratio >= low
                    size = abs(ratio * advantage) if counts else 0.0
                sums[bool(advantage > 0)] += weight * size
        total = sums[True] + sums[False]
        return total > 0 and sums[True] / total < target

    i = j = 0
    if settings["balance_first"] == "high":
        while short(lows[i], highs[j]) and (i, j) != (len(lows) - 1, len(highs) - 1):
            if j < len(highs) - 1:
                j += 1
            else:
                i += 1
    else:
        while i < len(lows) - 1 and short(lows[i], highs[j]):
            i += 1
        while j < len(highs) - 1 and short(lows[i], highs[j]):
            j += 1
    return lows[i], highs[j]


def bapo(columns, settings):
    mask, logp_old = columns["mask"], columns["logp_old"]
    advantages = grpo_advantages(columns["rewards"], columns["group"], mask, settings["group_epsilon"])
    low, high = balanced_bounds(columns, advantages, settings)

    def loss(logp):
        def of_token(n, t):
            return clipped(math.exp(logp[n, t] - logp_old[n, t]), advantages[n], low, high, settings["dual_clip"])

        return token_mean(by_token(mask, of_token), mask)

    loss.bounds = low, high
    return loss


# ARES


EASY, MEDIUM, HARD = BUCKETS = range(3)
MARGINS, KNEES, SOFTNESS, SCALES = (0.15, 0.25, 0.35), (2, 3, 4), (2, 2.5, 3), (1, 1, 1.2)


def ares_memory(settings):
    """What is carried from batch to batch."""
    return {
        "target": [None] * 3,
        "weight": [0.5] * 3,
        "threshold": None,
        "kl": [settings["ares_kl_start"]] * 3,
        "kl_average": [None] * 3,
        "error": [0.0] * 3,
        "calls": 0,
    }


def bucket_of_rows(right, group, mask):
    buckets = np.full(len(right), -1)
    for rows in rows_of(group, mask).values():
        count = sum(bool(right[n]) for n in rows)
        buckets[rows] = EASY if 3 * count >= 2 * len(rows) else MEDIUM if 3 * count >= len(rows) else HARD
    return buckets


def window_means(values, width, start):
    """Means over windows that begin `start` after each place, as far as they are full."""
    last = len(values) - width - start + 1
    return [sum(values[k + start : k + start + width]) / width for k in range(last)]


def counted(columns, mask, settings, memory):
    """([N] counts, indicator of every token) of windows of high entropy."""
    entropy, width = columns["entropy_old"], settings["ares_window"]
    released = settings["ares_threshold"] == "windows"
    windows, quantiles = [], []
    for n in range(len(mask)):
        own = [entropy[n, t] for t in positions(mask, n)]
        means = window_means(own, width, 1 if released else 0)
        windows.append(means)
        if not released:
            quantiles += [np.quantile(own, settings["ares_quantile"])] if own else []
        elif means:
            filled = means + [sum(means) / len(means)] * (len(own) - len(means))
            quantiles.append(np.quantile(filled, settings["ares_quantile"]))
    if released:
        middle = float(np.median(quantiles))
        before = memory["threshold"]
        threshold = middle if before is None else before
        forget = settings["ares_forgetting"]
        memory["threshold"] = middle if before is None else (1 - forget) * before + forget * middle
    else:
        threshold = sum(quantiles) / len(quantiles)
    indicator = [dict.fromkeys(positions(mask, n), 0) for n in range(len(mask))]
    for n, means in enumerate(windows):
        for t, mean in zip(positions(mask, n), means, strict=False):
            indicator[n][t] = int(mean >= threshold)
    return np.array([sum(row.values()) for row in indicator]), indicator


def inside(indicator, width):
    """Likewise, of all tokens of the windows that begin at the given ones."""
    found = []
    for row in indicator:
        begins = list(row.values())
        found.append({t: int(any(begins[max(0, k - width + 1) : k + 1])) for k, t in enumerate(row)})
    return found


def lagged_rewards(right, counts, buckets, memory, epsilon):
    """Step 3a, with the means of the batch before as targets."""
    rewards = np.array([float(one) for one in right])
    for bucket in BUCKETS:
        rows = [n for n in range(len(right)) if buckets[n] == bucket]
        if not rows:
            continue
        own = [float(counts[n]) for n in rows]
        mean, target = sum(own) / len(own), memory["target"][bucket]
        variance = sum((value - mean) ** 2 for value in own) / len(own)
        memory["target"][bucket] = mean
        if target is None or variance == 0:
            continue
        weight = max(0.0, (mean - target) / (variance + epsilon))
        for n in rows:
            excess = counts[n] - target
            shape = (max(0.0, excess), abs(excess), max(0.0, -excess))[bucket]
            rewards[n] -= 0.0 if right[n] else weight * shape
    return rewards


def huber(x, knee):
    return 0.5 * x * x / knee if x <= knee else x - 0.5 * knee


def sigmoid(x, softness):
    return 1 / (1 + math.exp(-x / softness))


def huber_term(bucket, right, excess, target, weight):
    """Step 3b: what one response is given besides its outcome."""
    margin, cap = max(1.0, MARGINS[bucket] * max(target, 1.0)), weight * SCALES[bucket]
    knee, softness = KNEES[bucket], SOFTNESS[bucket]
    if not right:
        return sigmoid(max(excess - margin, 0.0), softness) * cap * (0.6, 0.8, 1.0)[bucket]
    if bucket == HARD:
        if excess >= -margin:
            return sigmoid(excess + margin, softness) * cap
        return -min(cap, 0.5 * huber(-excess - margin, knee) / (margin + knee) * cap)
    beyond = max((excess if bucket == EASY else abs(excess)) - margin, 0.0)
    return -min(cap, huber(beyond, knee) / (margin + knee) * cap)


def huber_rewards(right, counts, buckets, group, mask, memory):
    for bucket in BUCKETS:
        prompts = [rows for rows in rows_of(group, mask).values() if buckets[rows[0]] == bucket]
        if prompts:
            mean = sum(sum(float(counts[n]) for n in rows) / len(rows) for rows in prompts) / len(prompts)
            target = memory["target"][bucket] = float(round(mean))
            moved = memory["weight"][bucket] + 0.05 * (-1 if bucket == HARD else 1) * (mean - target)
            memory["weight"][bucket] = min(max(moved, 0.0), 2.0)
    rewards = []
    for n, one in enumerate(right):
        if buckets[n] < 0:  # no response
            rewards.append(0.0)
            continue
        target, weight = memory["target"][buckets[n]], memory["weight"][buckets[n]]
        rewards.append(float(one) + huber_term(buckets[n], one, counts[n] - target, target, weight))
    return np.array(rewards)


def controlled(kl, mask, indicator, buckets, settings, memory):
    """Step 5: moves the weights of the divergence of every bucket."""
    memory["calls"] += 1
    least, most = settings["ares_kl_least"], settings["ares_kl_most"]
    for bucket in BUCKETS:
        rows = [n for n in range(len(mask)) if buckets[n] == bucket and positions(mask, n)]
        if settings["ares_control"] == "step":
            values = [kl[n][t] for n in rows for t in positions(mask, n) if not indicator[n][t]]
            if values:
                error = sum(values) / len(values) / settings["ares_kl_target"] - 1
                moved = memory["kl"][bucket] * (1 + settings["ares_kl_rate"] * error)
                memory["kl"][bucket] = min(max(moved, least), most)
        elif rows:
            now = sum(sum(kl[n].values()) / len(kl[n]) for n in rows) / len(rows)
            before = memory["kl_average"][bucket]
            average = memory["kl_average"][bucket] = now if before is None else 0.97 * before + 0.03 * now
            error = average / settings["ares_kl_target"] - 1
            if abs(error) >= 0.02 and memory["calls"] % settings["ares_kl_every"] == 0:
                smooth = memory["error"][bucket] = 0.03 * error + 0.97 * memory["error"][bucket]
                moved = math.exp(math.log(memory["kl"][bucket]) + 0.05 * min(max(smooth, -0.2), 0.2))
                memory["kl"][bucket] = min(max(moved, least), most)


def ares(columns, settings, memory):
    """Changes the memory, as a step of training does."""
    mask, logp_old, group = columns["mask"], columns["logp_old"], columns["group"]
    came = mask
    if settings.get("drop_uniform_groups"):
        mask = without_uniform_groups(mask, columns["rewards"], group)
    right = [reward > settings["ares_right_above"] for reward in columns["rewards"]]
    buckets = bucket_of_rows(right, group, mask)
    counts, indicator = counted(columns, mask, settings, memory)
    if settings["ares_reward"] == "lagged":
        rewards = lagged_rewards(right, counts, buckets, memory, settings["ares_epsilon"])
    else:
        rewards = huber_rewards(right, counts, buckets, group, mask, memory)
    advantages = grpo_advantages(rewards, group, came, settings["group_epsilon"])
    if settings["ares_filter"]:
        mask = mask.copy()
        for rows in rows_of(group, came).values():
            if not 0.01 < sum(rewards[n] for n in rows) / len(rows) < 0.99:
                mask[rows] = False

    def divergence(logp):
        def of_token(n, t):
            apart = columns["logp_ref"][n, t] - logp[n, t]
            return math.exp(apart) - apart - 1

        return by_token(mask, of_token)

    controlled(divergence(columns["logp"]), mask, indicator, buckets, settings, memory)
    by_bucket, relaxation = tuple(memory["kl"]), settings["ares_relaxation"]
    relaxed = indicator if settings["ares_relaxed"] == "start" else inside(indicator, settings["ares_kl_width"])
    low, high = 1 - settings["clip_low"], 1 + settings["clip_high"]
    mean = token_mean if settings["aggregation"] == "token-mean" else sequence_mean

    def loss(logp):
        def of_token(n, t):
            return clipped(math.exp(logp[n, t] - logp_old[n, t]), advantages[n], low, high, settings["dual_clip"])

        kl = divergence(logp)
        weighted = by_token(mask, lambda n, t: by_bucket[buckets[n]] * relaxation ** relaxed[n][t] * kl[n][t])
        return mean(by_token(mask, of_token), mask) + settings["kl_weight"] * mean(weighted, mask)

    loss.counts, loss.rewards = counts, rewards
    return loss
