"""BAPO: which bounds the search ends with, by which rule, and that only the gradient's rule does what is claimed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import loss_of, responses
from token_cases import token_losses

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import BalancedClip

RATIO = np.array([[1.5, 0.9, 0.5, 0.7, 1.1, 2.6]], np.float32)
ADVANTAGES = np.array([[1, 1, -1, -1, -1, 0.5]], np.float32)
LOGP_OLD = np.log(np.array([[0.2, 0.6, 0.3, 0.5, 0.8, 0.1]], np.float32))
MASK = np.ones((1, 6), bool)
RELEASED = {
    "balance_by": "value", "balance_weight": "one", "balance_first": "low", "ratio_low_to": 0.8, "ratio_low_step": 0.05,
    "ratio_high_to": 2.0,
}  # fmt: skip


@jax.jit
def search(stage, ratio=RATIO, advantages=ADVANTAGES, mask=MASK):
    return stage.search(ratio, advantages, LOGP_OLD, mask)


def found(*values, **settings):
    return np.array([float(value) for value in search(BalancedClip(**settings), *values)])


SHARES = [
    # bounds, share with weight 1, with the probability, of gradients
    (0.6, 1.2, 0.529412, 0.373333, 0.333333),
    (0.6, 3.0, 0.606557, 0.407563, 0.672727),
    (0.9, 1.2, 0.482143, 0.344262, 0.450000),
    (0.9, 3.0, 0.560606, 0.377432, 0.770833),
]


@pytest.mark.parametrize(("low", "high", "plain", "weighed", "gradients"), SHARES)
def test_shares_of_the_example(low, high, plain, weighed, gradients):
    bounds = {"ratio_low_from": low, "ratio_low_to": low, "ratio_high_from": high, "ratio_high_to": high}
    for weight, by, share in (
        ("one", "value", plain),
        ("probability", "value", weighed),
        ("one", "gradient", gradients),
    ):
        values = found(balance_weight=weight, balance_by=by, **bounds)
        np.testing.assert_allclose(values, [low, high, share, 0], atol=1e-5)


SEARCHES = [
    ({"balance_weight": "one", "balance_share": 0.5}, (0.6, 1.2, 0.529412, 0)),
    ({"balance_weight": "one", "balance_share": 0.55}, (0.6, 1.4, 0.555556, 4)),
    ({"balance_weight": "one", "balance_share": 0.7}, (0.9, 3.0, 0.560606, 51)),
    ({"balance_weight": "one", "balance_share": 0.5, "balance_by": "gradient"}, (0.6, 1.5, 0.571429, 6)),
    ({"balance_share": 0.39}, (0.6, 1.45, 0.390270, 5)),
    ({"balance_share": 0.45}, (0.9, 3.0, 0.377432, 51)),
    (RELEASED | {"balance_share": 0.5}, (0.6, 1.2, 0.529412, 0)),
    (RELEASED | {"balance_share": 1.2 / 2.2}, (0.8, 1.7, 1.203704 / 2.203704, 14)),
    ({"balance_share": 0.0}, (0.6, 1.2, 0.373333, 0)),
    ({"balance_share": 1.1}, (0.9, 3.0, 0.377432, 51)),
]


@pytest.mark.parametrize(("settings", "expected"), SEARCHES)
def test_searches_of_the_example(settings, expected):
    np.testing.assert_allclose(found(**settings), expected, atol=1e-5)


def one_row(advantages=ADVANTAGES):
    batch = TokenBatch(jnp.asarray(LOGP_OLD), jnp.asarray(MASK), jnp.zeros(1), advantages=jnp.asarray(advantages))
    return TokenOutputs(jnp.asarray(LOGP_OLD) + jnp.log(jnp.asarray(RATIO))), batch


@pytest.mark.parametrize(
    ("low", "high", "losses", "mean"),
    [(0.6, 1.2, [-1.2, -0.9, 0.6, 0.7, 1.1, -0.6], -0.05), (0.8, 1.5, [-1.5, -0.9, 0.8, 0.8, 1.1, -0.75], -0.075)],
)
def test_losses_of_the_example(low, high, losses, mean):
    bounds = {"ratio_low_from": low, "ratio_low_to": low, "ratio_high_from": high, "ratio_high_to": high}
    objective = objectives.make("bapo_released", **bounds)
    tokens = token_losses(objective, *one_row())[0]
    np.testing.assert_allclose(tokens, losses, atol=1e-5)
    np.testing.assert_allclose(tokens.mean(), mean, atol=1e-5)


def test_by_value_the_lower_bound_can_only_go_all_the_way():
    """Raising it makes what punished tokens contribute larger; by the gradient it stops in between."""
    draw = np.random.default_rng(0)
    ends, between = set(), 0
    for _ in range(40):
        given = (np.exp(draw.normal(0, 0.5, (1, 6))), draw.normal(size=(1, 6)) - 0.6)
        given = tuple(np.asarray(values, np.float32) for values in given)
        share = float(draw.uniform(0.2, 0.8))
        ends.add(round(found(*given, balance_share=share)[0], 4))
        low = found(*given, balance_share=share, balance_by="gradient")[0]
        between += 0.61 < low < 0.89
    assert ends == {0.6, 0.9} and between > 0


@pytest.mark.parametrize("by", ["value", "gradient"])
def test_bounds_do_not_depend_on_the_scale_or_the_order(by):
    settings = {"balance_by": by, "balance_share": 0.55, "balance_weight": "one"}
    plain = found(**settings)
    np.testing.assert_allclose(found(RATIO, 7 * ADVANTAGES, **settings), plain, rtol=1e-6)
    np.testing.assert_allclose(found(RATIO[:, ::-1], ADVANTAGES[:, ::-1], **settings), plain, rtol=1e-6)


def test_nothing_to_balance():
    ratio = np.asarray(RATIO)
    for advantages, expected in (
        (np.abs(ADVANTAGES), (0.6, 1.2)),
        (-np.abs(ADVANTAGES), (0.9, 3.0)),
        (0 * ADVANTAGES, (0.6, 1.2)),
    ):
        np.testing.assert_allclose(found(ratio, advantages)[:2], expected, rtol=1e-6)
    np.testing.assert_allclose(found(ratio, ADVANTAGES, ~MASK)[:2], (0.6, 1.2), rtol=1e-6)


@pytest.mark.slow
def test_fixed_bounds_are_the_clip_of_ppo():
    fixed = {"ratio_low_from": 0.8, "ratio_low_to": 0.8, "ratio_high_from": 1.2, "ratio_high_to": 1.2}
    outputs, batch = responses()
    loss = loss_of(objectives.make("bapo", **fixed), outputs, batch)
    np.testing.assert_allclose(loss, loss_of(objectives.make("grpo"), outputs, batch), rtol=1e-5)


def test_entropy_follows_the_exact_law():
    """The first-order change of the entropy is minus the covariance of log p and the step on the logits."""
    probs, advantages = np.array([0.6, 0.3, 0.1]), np.array([-0.5, 0.2, 2.4])

    def entropy(logits):
        p = np.exp(logits - np.logaddexp.reduce(logits))
        return -np.sum(p * np.log(p))

    for step, exact, first in (
        (1e-3 * advantages, 0.000471619, 0.000471611),
        (1e-3 * probs * advantages, 0.000108889, 0.000108901),
    ):
        np.testing.assert_allclose(entropy(np.log(probs) + step) - entropy(np.log(probs)), exact, atol=1e-9)
        covariance = np.sum(probs * np.log(probs) * step) - np.sum(probs * np.log(probs)) * np.sum(probs * step)
        np.testing.assert_allclose(-covariance, first, atol=1e-9)


@pytest.mark.slow
def test_no_gradient_flows_through_the_bounds():
    outputs, batch = one_row()

    def total(logp):
        objective = objectives.make("bapo", balance_share=0.39)
        return objective((), dataclasses.replace(outputs, logp=logp), batch)[0]

    slope = np.asarray(jax.grad(total)(outputs.logp))[0]
    free = np.array([0, 1, 0, 1, 1, 0])  # 1.5 and 2.6 above 1.45, 0.5 below 0.6
    np.testing.assert_allclose(slope, -free * ADVANTAGES[0] * RATIO[0] / 6, atol=1e-6)
