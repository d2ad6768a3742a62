"""Losses on preferences against the same formulas in NumPy and double precision, in value and gradient, on awkward batches.

The formulas are written here from the papers' equations, token by token, and know nothing of how the library computes them;
gradients are central differences of the mean over the pairs that count.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens import PreferenceBatch, preference_loss, preferences


def softplus(value):
    return np.logaddexp(0.0, value)


def sigmoid(value):
    return 1.0 / (1.0 + np.exp(-value))


class Totals:
    """What formulas are of, for the pairs that count: [pair] arrays, c of chosen and r of rejected responses."""

    def __init__(self, logp, reference, mask):
        mask = np.asarray(mask, bool)
        sums = lambda tokens: np.where(mask, tokens, 0.0).sum(axis=-1)  # noqa: E731
        there = mask.any(axis=-1).reshape(-1, 2).all(axis=-1)
        self.there, self.mask = there, mask
        self.logp, self.reference = logp, reference
        lengths = np.maximum(mask.sum(axis=-1), 1).reshape(-1, 2)[there]
        pairs, anchors = sums(logp).reshape(-1, 2)[there], sums(reference).reshape(-1, 2)[there]
        self.c, self.r = (pairs - anchors).T
        self.logp_c, self.logp_r = pairs.T
        self.ref_c, self.ref_r = anchors.T
        self.mean_c, self.mean_r = (pairs / lengths).T
        self.len_c, self.len_r = lengths.T

    def tail_weighed(self, weight):
        """Margins where tokens beyond the shorter response of a pair count for a share."""
        margins = []
        for pair in np.flatnonzero(self.there):
            rows = [2 * pair, 2 * pair + 1]
            common, total = min(self.mask[row].sum() for row in rows), []
            for row in rows:
                ratio = (self.logp[row] - self.reference[row])[self.mask[row]]
                total.append(ratio[:common].sum() + weight * ratio[common:].sum())
            margins.append(total[0] - total[1])
        return np.array(margins)


def transported(first, second, beta):
    return softplus(-beta * (np.sort(first) - np.sort(second)))


def bent(mean, alpha):
    return (1 - np.exp(-alpha * mean)) / alpha


FORMULAS = {
    ("nca", ()): lambda t: softplus(-0.1 * t.c) + 0.5 * softplus(0.1 * t.c) + 0.5 * softplus(0.1 * t.r),
    ("bco", ()): lambda t: softplus(-0.1 * t.c) + softplus(0.1 * t.r),
    ("sppo", ()): lambda t: (t.c - 5.0) ** 2 + (t.r + 5.0) ** 2,
    ("apo_zero", ()): lambda t: 1 - sigmoid(0.1 * t.c) + sigmoid(0.1 * t.r),
    ("apo_down", ()): lambda t: sigmoid(0.1 * t.c) + 1 - sigmoid(0.1 * (t.c - t.r)),
    ("aot", ()): lambda t: transported(t.logp_c - t.logp_r, t.ref_c - t.ref_r, 0.1),
    ("aot_unpaired", ()): lambda t: transported(t.c, t.r, 0.1),
    ("f_dpo", ()): lambda t: softplus(-0.1 * (t.c - softplus(t.c) - t.r + softplus(t.r))),
    ("f_dpo", (("divergence", "reverse_kl"),)): lambda t: softplus(-0.1 * (t.c - t.r)),
    ("f_dpo", (("divergence", "forward_kl"),)): lambda t: softplus(-0.1 * (np.exp(-t.r) - np.exp(-t.c))),
    ("f_dpo", (("divergence", "alpha"), ("alpha", 0.3))): lambda t: softplus(
        -0.1 * (np.exp(-0.3 * t.r) - np.exp(-0.3 * t.c)) / 0.3
    ),
    ("discopop", ()): lambda t: (
        (1 - sigmoid((t.c - t.r) * 0.05 / 0.05)) * softplus(-0.05 * (t.c - t.r))
        + sigmoid((t.c - t.r) * 0.05 / 0.05) * np.exp(-0.05 * (t.c - t.r))
    ),
    ("ld_dpo", ()): lambda t: softplus(-0.1 * t.tail_weighed(0.5)),
    ("ld_dpo", (("tail_weight", 0.0),)): lambda t: softplus(-0.1 * t.tail_weighed(0.0)),
    ("alphapo", ()): lambda t: softplus(-(2.0 * (bent(t.mean_c, 0.25) - bent(t.mean_r, 0.25)) - 1.0)),
    ("dpo", (("length_average", True),)): lambda t: softplus(-0.1 * (t.c / t.len_c - t.r / t.len_r)),
    ("likelihood", ()): lambda t: -t.mean_c,
}


def batch_of(seed):
    """(logp, reference, mask) of four pairs, in double precision: holes, one-token, missing and very unlikely responses."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(8, 6)) < 0.7
    mask[0] = np.arange(6) < 1
    mask[1] = True
    if seed == 2:
        mask[4] = False  # the third pair does not count
    logp, reference = -draw.gamma(2.0, 0.5, size=(2, 8, 6))
    if seed == 3:
        logp[3] -= 2.0  # 12 nats less likely than the reference has it
    return logp, reference, mask


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", FORMULAS, ids=lambda case: "-".join([case[0], *(str(value) for _, value in case[1])]))
def test_value_and_gradient(case, seed):
    name, settings = case
    logp, reference, mask = batch_of(seed)
    batch = PreferenceBatch(jnp.asarray(mask), jnp.asarray(reference, jnp.float32))

    def mean_loss(logp):
        loss, aux = preference_loss(name, logp, batch, **dict(settings))
        return losses.masked_mean(loss, aux.counts)

    value, slope = jax.value_and_grad(mean_loss)(jnp.asarray(logp, jnp.float32))
    formula = lambda logp: FORMULAS[case](Totals(logp, reference, mask)).mean()  # noqa: E731
    np.testing.assert_allclose(value, formula(logp), rtol=2e-5, atol=1e-6)
    expected, step = np.zeros_like(logp), 1e-5
    for place in np.ndindex(*logp.shape):
        moved = np.zeros_like(logp)
        moved[place] = step
        expected[place] = (formula(logp + moved) - formula(logp - moved)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_weighted_pairs(seed):
    """wpo: dpo's loss and gradient, times a weight that is not differentiated."""
    logp, reference, mask = batch_of(seed)
    batch = PreferenceBatch(jnp.asarray(mask), jnp.asarray(reference, jnp.float32))
    totals = Totals(logp, reference, mask)
    weight = np.zeros(4)
    weight[totals.there] = np.minimum(np.exp(totals.mean_c + totals.mean_r), 1.0)

    def of(name):
        return jax.value_and_grad(lambda logp: jnp.sum(preference_loss(name, logp, batch)[0]))

    each = [jax.grad(lambda logp, pair=pair: preference_loss("dpo", logp, batch)[0][pair])(jnp.asarray(logp, jnp.float32))
            for pair in range(4)]  # fmt: skip
    value, slope = of("wpo")(jnp.asarray(logp, jnp.float32))
    dpo = preference_loss("dpo", jnp.asarray(logp, jnp.float32), batch)[0]
    np.testing.assert_allclose(value, np.sum(weight * np.asarray(dpo)), rtol=1e-5)
    np.testing.assert_allclose(slope, sum(w * np.asarray(g) for w, g in zip(weight, each, strict=True)), atol=1e-6)


def test_soft_and_shifted_forms():
    logp, reference, mask = batch_of(0)
    target = np.array([0.5, 0.7, 0.9, 1.0])
    batch = PreferenceBatch(jnp.asarray(mask), jnp.asarray(reference, jnp.float32), target=jnp.asarray(target))
    totals = Totals(logp, reference, mask)
    soft, _ = preference_loss("sppo", jnp.asarray(logp), batch, soft=True)
    goal = (target - 0.5) / 0.1
    np.testing.assert_allclose(soft, (totals.c - goal) ** 2 + (totals.r + goal) ** 2, rtol=2e-5)
    shifted, _ = preference_loss("bco", jnp.asarray(logp), batch, reward_shift="batch")
    shift = 0.1 * np.concatenate([totals.c, totals.r]).mean()
    np.testing.assert_allclose(
        shifted, softplus(-(0.1 * totals.c - shift)) + softplus(0.1 * totals.r - shift), rtol=2e-5
    )


@pytest.mark.slow
def test_limits():
    """Where settings make one loss another, and what losses are where the policy is the reference."""
    logp, reference, mask = batch_of(1)
    logp, batch = (
        jnp.asarray(logp, jnp.float32),
        PreferenceBatch(jnp.asarray(mask), jnp.asarray(reference, jnp.float32)),
    )
    of = lambda name, **settings: preference_loss(name, logp, batch, **settings)[0]  # noqa: E731
    np.testing.assert_allclose(of("ld_dpo", tail_weight=1.0), of("dpo"), rtol=1e-6)
    np.testing.assert_allclose(of("alphapo", alpha=0.0), of("simpo"), rtol=1e-6)
    np.testing.assert_allclose(of("alphapo", alpha=1e-4), of("simpo"), rtol=1e-3)
    np.testing.assert_allclose(of("f_dpo", divergence="reverse_kl"), of("dpo"), rtol=1e-6)
    np.testing.assert_allclose(of("f_dpo", divergence="alpha", alpha=1e-3), of("dpo"), rtol=1e-2)
    same = PreferenceBatch(batch.mask, logp)
    half = math.log(2)
    for name, expected in {
        "nca": 2 * half, "bco": 2 * half, "sppo": 50.0, "apo_zero": 1.0, "apo_down": 1.0, "aot": half, "aot_unpaired": half,
        "f_dpo": half, "discopop": (half + 1) / 2, "ld_dpo": half,
    }.items():  # fmt: skip
        np.testing.assert_allclose(preference_loss(name, logp, same)[0], expected, rtol=1e-5)


def test_mixtures_are_weighted_sums():
    """As TRL has them of sigmoid, bco_pair and sft, weighted 0.8, 0.2 and 1 (MPO)."""
    logp, reference, mask = batch_of(2)
    logp, batch = (
        jnp.asarray(logp, jnp.float32),
        PreferenceBatch(jnp.asarray(mask), jnp.asarray(reference, jnp.float32)),
    )
    names, weights = ("likelihood", "dpo", "bco"), (1.0, 0.8, 0.2)
    mixed = preferences.mixture(
        *((preferences.make(name), weight) for name, weight in zip(names, weights, strict=True))
    )
    loss, aux = jax.jit(lambda logp: mixed(logp, batch))(logp)
    parts = [preference_loss(name, logp, batch)[0] for name in names]
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(loss, np.where(aux.counts, expected, 0.0), rtol=1e-6)
    assert aux.counts.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(aux.rewards, preference_loss("dpo", logp, batch)[1].rewards)
    np.testing.assert_allclose(
        aux.metrics["preference/loss"], np.asarray(loss)[np.asarray(aux.counts)].mean(), rtol=1e-6
    )
    for given, words in (
        ((), "at least one"),
        (((preferences.make("kto"), 1.0),), "KTO is none"),
        ((("dpo", 1.0),), "str is none"),
    ):
        with pytest.raises(InvalidSettingError, match=words):
            preferences.mixture(*given)
