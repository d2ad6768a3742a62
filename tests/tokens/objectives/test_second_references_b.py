"""G2RPO, RiskPO, COPO and EMPO equal second references, in value and gradient, on batches with holes and unequal groups."""

import dataclasses
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import second_references_b as reference
from token_batches import responses

from maxent_rl.tokens import TokenOutputs, objectives

# A second opinion: the first stands in test_credit_references.py and the tests of each paper.
pytestmark = pytest.mark.matrix

SEEDS = (0, 1, 2, 3)
GROUPS = ((4, 2, 2, 4, 2, 4, 2, 2), (7, 1, 7, 3, 1, 3, 7, 1), (5, 0, 5, 5, 0, 0, 5, 9), (3, 3, 3, 8, 3, 8, 1, 1))
PAIRED = ((4, 2, 2, 4, 2, 4, 2, 4), (7, 1, 7, 3, 1, 3, 7, 1), (5, 0, 5, 5, 0, 0, 2, 2), (3, 3, 6, 8, 6, 8, 1, 1))
REWARDS = (
    lambda draw, drawn: draw.integers(0, 2, 8).astype(float),
    lambda draw, drawn: drawn,
    lambda draw, drawn: np.array([1.0, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0, -0.5]),  # one group all right
    lambda draw, drawn: np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.3, -0.4]),  # one group all wrong
)
SPREADS = (1.0, 2.0, 3.0, 0.001)
BOUNDS = ((1.0, 3.0, 4.0, 5.0), (2.0, 2.0, 3.0, 4.0))


def case(seed, groups=GROUPS):
    """(outputs, batch, the same in double precision): ragged responses with holes, in one batch one without tokens."""
    outputs, batch = responses(seed=seed)
    draw = np.random.default_rng(100 + seed)
    mask = np.asarray(batch.mask) & (draw.random(batch.mask.shape) < 0.75)
    mask[np.arange(8), draw.integers(0, 5, 8)] = True
    mask[2] &= seed != 3
    drawn = np.asarray(batch.rewards, np.float64)
    group = np.array(groups[seed])
    batch = dataclasses.replace(
        batch,
        mask=jnp.asarray(mask),
        rewards=jnp.asarray(REWARDS[seed](draw, drawn), jnp.float32),
        group_size=1,
        group_index=jnp.asarray(group),
        task=jnp.asarray(group % 2),
        answers=jnp.asarray(draw.integers(-1, 3, 8)),
    )
    outputs = dataclasses.replace(outputs, logp=batch.logp_old + SPREADS[seed] * (outputs.logp - batch.logp_old))
    given = reference.Responses(
        logp_old=np.asarray(batch.logp_old, np.float64),
        mask=mask,
        rewards=np.asarray(batch.rewards, np.float64),
        group=group,
        task=np.asarray(batch.task),
        answers=np.asarray(batch.answers),
    )
    return outputs, batch, given


def slope(loss, at, step=1e-6):
    """Central differences of a loss in an array."""
    found = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        moved = np.zeros(at.shape)
        moved[place] = step
        found[place] = (loss(at + moved) - loss(at - moved)) / (2 * step)
    return found


@jax.jit
def of_stages(objective, outputs, batch, state):
    """(state and batch as prepared, loss, gradients in the log-probabilities and the entropies) of an objective."""
    state, batch = objective.prepare(state, batch)

    def loss(logp, entropy):
        return objective(state, TokenOutputs(logp=logp, entropy=entropy), batch)[0]

    return state, batch, *jax.value_and_grad(loss, argnums=(0, 1))(outputs.logp, outputs.entropy)


def check(objective, outputs, batch, loss, state=None):
    """Compares both, and gives the prepared state; `loss` takes log-probabilities and entropies."""
    state = objective.init() if state is None else state
    state, _, value, (in_logp, in_entropy) = of_stages(objective, outputs, batch, state)
    logp, entropy = (np.asarray(each, np.float64) for each in (outputs.logp, outputs.entropy))
    expected = loss(logp, entropy), slope(lambda at: loss(at, entropy), logp), slope(lambda at: loss(logp, at), entropy)
    scale = max(np.abs(expected[1]).max(), 1.0)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(in_logp, expected[1], rtol=1e-5, atol=2e-6 * scale)
    np.testing.assert_allclose(in_entropy, expected[2], rtol=1e-5, atol=2e-6)
    return state


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {"band": (0.05, 2.0)}),
        ({"band_low": 1.3, "band_high": 1.35}, {"band": (1.3, 1.35)}),
        ({"band_low": 1.0, "band_high": 1.1, "band_from": "sampled"}, {"band": (1.0, 1.1), "source": "sampled"}),
        ({"ranked_over": "task", "drop_uniform_groups": False}, {"band": (0.05, 2.0), "over": "task", "drop": False}),
        (
            {"length_bounds": BOUNDS, "length_weight": 0.4},
            {"band": (0.05, 2.0), "bounds": BOUNDS, "length_weight": 0.4},
        ),
        (
            {"length_bounds": BOUNDS, "length_weight": 0.4, "ranked_over": "task"},
            {"band": (0.05, 2.0), "bounds": BOUNDS, "length_weight": 0.4, "over": "task"},
        ),
    ],
    ids=["default", "outside-band", "sampled", "task", "length", "length-task"],
)
def test_g2rpo(seed, settings, terms):
    outputs, batch, given = case(seed)
    loss = partial(reference.g2rpo, given, **terms)
    check(objectives.make("g2rpo", **settings), outputs, batch, loss)


COPO = [
    ("copo", {}, {}),
    ("copo_released", {}, {"blend": "soft-zero", "sharpness": 5.0, "threshold": 1.0}),
    *(("copo", {"copo_blend": each}, {"blend": each}) for each in ("soft-forced", "forced", "zero", "global", "local")),
    (
        "copo",
        {"copo_coefficient": True, "copo_sharpness": 5.0, "copo_threshold": 1.0},
        {"coefficient": True, "sharpness": 5.0, "threshold": 1.0},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "settings", "terms"), COPO)
def test_copo(seed, name, settings, terms):
    outputs, batch, given = case(seed)
    check(objectives.make(name, **settings), outputs, batch, lambda logp, _: reference.copo(given, logp, **terms))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("reward", ["prob", "logprob", "voting"])
@pytest.mark.parametrize("name", ["empo", "empo_released"])
def test_empo(seed, name, reward):
    outputs, batch, given = case(seed)
    loss = partial(reference.empo, given, released=name != "empo", reward=reward)
    check(objectives.make(name, agreement=reward), outputs, batch, lambda logp, _: loss(logp))


RISK = [
    ("riskpo", {"bundle_size": 1}, {"form": "paper"}),
    ("riskpo", {}, {"form": "paper"}),
    ("riskpo", {"risk_quantiles": "bundle", "tail_weight": 2.0}, {"form": "paper", "kind": "bundle", "tail": 2.0}),
    ("riskpo", {"risk_centre": True}, {"form": "paper", "centre": True}),
    ("riskpo_released", {}, {"form": "mixed", "scale": True, "credit": "sum-mean"}),
    (
        "riskpo_released",
        {"natural_baseline": True},
        {"form": "mixed", "scale": True, "credit": "sum-mean", "natural": True},
    ),
    ("riskpo_released", {"risk_credit": "std"}, {"form": "mixed", "scale": True, "credit": "std"}),
    ("riskpo_released", {"risk_credit": "score"}, {"form": "mixed", "scale": True, "credit": "score"}),
    (
        "riskpo_released",
        {"risk_quantiles": "batch"},
        {"form": "mixed", "scale": True, "credit": "sum-mean", "kind": "batch"},
    ),
    (
        "riskpo_released",
        {"risk_quantiles": "mixed"},
        {"form": "mixed", "scale": True, "credit": "sum-mean", "kind": "mixed"},
    ),
    ("riskpo_released", {"risk_form": "seeking"}, {"form": "seeking", "scale": True, "credit": "sum-mean"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "settings", "terms"), RISK)
def test_riskpo(seed, name, settings, terms):
    """Twice: the quantiles of the first batch, then those that it left to the next."""
    objective = objectives.make(name, **({"bundle_size": 2, "bundle_order": "given"} | settings))
    state, tracked = objective.init(), None
    for number in (seed, (seed + 1) % 4):
        outputs, batch, given = case(number)
        bundles = reference.papers_in_order(given, settings.get("bundle_size", 2))
        advantages, after = reference.risk_advantages(given, bundles, tracked, **terms)
        released = name != "riskpo"
        loss = partial(reference.riskpo, given, advantages=advantages, released=released)
        state, tracked = check(objective, outputs, batch, lambda logp, _, loss=loss: loss(logp), state), after
        if terms.get("kind", "tracked") in ("tracked", "mixed"):
            np.testing.assert_allclose(state[0].quantiles, tracked, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_the_papers_that_riskpo_draws_are_of_the_sheet(seed):
    """Some pairing of bundles and responses gives the advantages of the default, whose papers are drawn at random."""
    outputs, batch, given = case(seed, PAIRED)
    size = 5 if seed == 0 else 2
    objective = objectives.make("riskpo", bundle_size=size)
    drawn = np.asarray(of_stages(objective, outputs, batch, objective.init())[1].advantages, np.float64).min(axis=-1)
    groups, fitting = given.groups(), {}
    for order in itertools.permutations(range(len(groups))):
        for pairings in itertools.product(*(itertools.permutations(groups[each]) for each in order)):
            bundles = []
            for first in range(0, len(order), size):
                chosen = pairings[first : first + size]
                bundles.append([[rows[j] for rows in chosen] for j in range(min(map(len, chosen)))])
            advantages = reference.risk_advantages(given, bundles, form="paper")[0]
            if np.allclose(advantages, drawn, atol=1e-5):
                fitting[tuple(advantages.round(6))] = advantages
    (advantages,) = fitting.values()
    check(objective, outputs, batch, lambda logp, _: reference.riskpo(given, logp, advantages))
