"""Lp-Reg: the proxy of the sheet's distribution, its batch of six tokens, and which tokens are pulled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close
from token_cases import evaluate, one_row, random_case, slopes, token_losses, with_garbage

from maxent_rl.errors import MissingInputError
from maxent_rl.losses import kl_estimate
from maxent_rl.tokens import TokenOutputs, objectives
from maxent_rl.tokens.objectives import LpReg

OLD = jnp.array([0.7, 0.2, 0.08, 0.018, 0.002])
NEW = jnp.array([0.75, 0.19, 0.05, 0.008, 0.002])
PROXY = [0.701403, 0.200401, 0.080160, 0.018036, 0]

MIXED = [0.46, 0.018 / 0.998, 0.08 / 0.998, 0.905, 0.26]
SIX = one_row(
    [0.5, 0.008, 0.05, 0.9, 0.3, 0.001],
    [0.45, 0.018, 0.08, 0.9, 0.25, 0.002],
    [1.0, -1, -1, -1, -1, -1],
    statistics={"proxy_log_prob": jnp.array([[*np.log(MIXED), -1e4]])},
)
PLAIN = np.array([-1.111111, 0.444444, 0.625, 1, 1.2, 0.5])
VANILLA = objectives.make("grpo", clip_low=1.0, clip_high=9.0)


@jax.jit
def proxy(stage, probs):
    """The proxy's probabilities of all choices of one distribution [V]."""
    every = jnp.broadcast_to(jnp.log(probs), (len(probs), len(probs)))
    return jnp.exp(stage.proxy_log_prob(every, jnp.arange(len(probs))))


def test_proxy_of_the_example():
    np.testing.assert_allclose(proxy(LpReg(), OLD), PROXY, atol=1e-5)
    fixed = proxy(LpReg(lp_reg_threshold="fixed"), OLD)
    np.testing.assert_allclose(fixed, [0.714286, 0.204082, 0.081633, 0, 0], atol=1e-5)
    above_all = proxy(LpReg(lp_reg_threshold="fixed", lp_reg_probability=0.9), OLD)
    np.testing.assert_allclose(above_all, [1, 0, 0, 0, 0], atol=1e-6)  # the most likely token is always kept


@pytest.mark.slow
def test_limits_of_the_threshold():
    np.testing.assert_allclose(proxy(LpReg(lp_reg_min_p=0.0), OLD), OLD, atol=1e-6)
    np.testing.assert_allclose(proxy(LpReg(lp_reg_min_p=1.0), OLD), np.eye(5)[0], atol=1e-6)
    tied = jnp.array([0.4, 0.4, 0.1, 0.1, 0.0])
    np.testing.assert_allclose(proxy(LpReg(lp_reg_min_p=1.0), tied), [0.5, 0.5, 0, 0, 0], atol=1e-6)
    dropped = LpReg().proxy_log_prob(jnp.log(OLD), jnp.array(4))
    assert dropped == -1e4
    assert LpReg().proxy_log_prob(jnp.zeros(1), jnp.array(0)) == 0  # one choice


@pytest.mark.slow
@given(
    logits=arrays.arrays(np.float32, 6, elements=st.floats(-8, 8, width=32)),
    threshold=st.sampled_from(["min-p", "fixed"]),
    size=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
)
def test_proxy_is_the_policy_without_its_noise(logits, threshold, size):
    probs = np.asarray(jax.nn.softmax(logits))
    found = np.asarray(proxy(LpReg(lp_reg_threshold=threshold, lp_reg_min_p=size, lp_reg_probability=size), probs))
    np.testing.assert_allclose(found.sum(), 1, atol=1e-4)
    kept = found > 0
    assert kept[np.argmax(probs)] and np.all(found[kept] >= probs[kept] - 1e-6)
    np.testing.assert_allclose(found[kept] / probs[kept], 1 / probs[kept].sum(), rtol=1e-3)


DIVERGENCES = [
    # token, policy's log-probability, proxy's, divergence, its slope
    (0, -0.287682, -0.354673, 0.002195, 0.064796),
    (1, -1.660731, -1.607436, 0.001446, -0.054741),
    (2, -2.995732, -2.523727, 0.131201, -0.603206),
    (3, -4.828314, -4.015382, 0.441577, -1.254509),
]


@pytest.mark.parametrize(("token", "logp", "logq", "value", "slope"), DIVERGENCES)
def test_divergences_of_the_example(token, logp, logq, value, slope):
    np.testing.assert_allclose(jnp.log(NEW[token]), logp, atol=1e-5)
    log_proxy = LpReg().proxy_log_prob(jnp.log(OLD), jnp.array(token))
    np.testing.assert_allclose(log_proxy, logq, atol=1e-5)
    found = jax.value_and_grad(kl_estimate)(jnp.log(NEW[token]), log_proxy, "k3", 10.0)
    np.testing.assert_allclose(found, (value, slope), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "chosen", "mean"),
    [(0.6, {1: 0.441577, 2: 0.131201}, 0.538518), (0.3, {}, 0.443056), (0.4, {1: 0.441577}, None), (0.0, {}, 0.443056)],
)
def test_losses_of_six_tokens(share, chosen, mean):
    """0.6: tokens 5, 1, 2 are looked at, and 5 is noise. 0.3: of one token none is regularised."""
    objective = objectives.make("lp_reg", lp_reg_share=share)
    wanted = PLAIN + np.array([chosen.get(index, 0.0) for index in range(6)])
    np.testing.assert_allclose(token_losses(objective, *SIX)[0], wanted, atol=1e-5)
    loss, aux = evaluate(objective, (), *SIX)
    np.testing.assert_allclose(loss, wanted.mean() if mean is None else mean, atol=1e-5)
    np.testing.assert_allclose(aux.metrics["lp_reg/chosen"], len(chosen) / 6, atol=1e-6)


def test_switched_off_is_the_policy_gradient():
    for settings in ({"lp_reg_share": 0.0}, {"lp_reg_share": 0.6, "lp_reg_weight": 0.0}):
        objective = objectives.make("lp_reg", **settings)
        assert_close(evaluate(objective, (), *SIX)[0], evaluate(VANILLA, (), *SIX)[0])


def test_gradient_of_a_regularised_token():
    """-A r + weight (1 - exp d), in closed form and by finite differences; the others have the policy gradient."""
    outputs, batch = SIX
    objective = objectives.make("lp_reg", lp_reg_share=0.6, lp_reg_weight=0.5)
    found = np.asarray(slopes(objective, (), outputs, batch).logp)[0] * 6
    ratio = np.exp(np.asarray(outputs.logp - batch.logp_old))[0]
    wanted = -np.asarray(batch.advantages)[0] * ratio
    difference = np.asarray(batch.statistics["proxy_log_prob"] - outputs.logp)[0]
    wanted[1:3] += 0.5 * (1 - np.exp(difference[1:3]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    for token in (1, 2):
        step = 1e-2 * np.eye(6)[token][None]
        ends = [evaluate(objective, (), TokenOutputs(outputs.logp + sign * step), batch)[0] for sign in (1, -1)]
        np.testing.assert_allclose(6 * (ends[0] - ends[1]) / 2e-2, wanted[token], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "pulled"), [(2.61, True), (2.612, False), (30.0, False)])
def test_clamp_lets_tokens_go(distance, pulled):
    """Beyond a distance of 2.610869 nats the clamped divergence is 10 and has no slope; without the clamp it has."""
    proxy_log_prob = jnp.array([[-2.0, -2.0]])
    outputs, batch = TokenOutputs(proxy_log_prob - distance), SIX[1].rows(slice(None))
    batch = dataclasses.replace(
        batch,
        logp_old=outputs.logp,
        mask=jnp.ones((1, 2), bool),
        advantages=jnp.full((1, 2), -1.0),
        statistics={"proxy_log_prob": proxy_log_prob},
    )
    clamped = objectives.make("lp_reg", lp_reg_share=1.0)
    slope = np.asarray(slopes(clamped, (), outputs, batch).logp) * 2 - 1  # less the policy gradient
    np.testing.assert_allclose(slope, np.full((1, 2), 1 - np.exp(distance) if pulled else 0.0), rtol=1e-4, atol=1e-5)
    free = objectives.make("lp_reg", lp_reg_share=1.0, lp_reg_largest=None)
    slope = np.asarray(slopes(free, (), outputs, batch).logp)
    assert np.isfinite(slope).all() and (np.all(slope < -1) or distance > 20)


def test_expected_gradient_is_that_of_the_forward_divergence():
    """Over all choices by their probability: pi - q on the logits."""
    log_proxy = jnp.log(OLD * (OLD >= 0.014) / 0.998)

    def mean_divergence(logits):
        logp = jax.nn.log_softmax(logits)
        weights = jax.lax.stop_gradient(jnp.exp(logp))
        dropped = jnp.isneginf(log_proxy)
        value = kl_estimate(logp, jnp.where(dropped, -1e4, log_proxy), "k3")
        return jnp.sum(weights * value)

    found = jax.grad(mean_divergence)(jnp.log(NEW))
    np.testing.assert_allclose(found, [0.048597, -0.010401, -0.030160, -0.010036, 0.002], atol=1e-5)


@pytest.mark.slow
def test_first_step_on_policy_pulls_only_where_mass_was_dropped():
    """d = -log(kept mass) for kept tokens; noise is left alone."""
    log_probs = jnp.broadcast_to(jnp.log(OLD), (1, 5, 5))
    tokens = jnp.arange(5)[None]
    outputs, batch = one_row(OLD, OLD, [-1.0] * 5)
    for min_p, chosen in ((0.02, [1, 1, 1, 1, 0]), (0.0, [0, 0, 0, 0, 0])):
        objective = objectives.make("lp_reg", lp_reg_share=1.0, lp_reg_min_p=min_p)
        statistic = objective.statistics(())["proxy_log_prob"]
        given_ = dataclasses.replace(batch, statistics={"proxy_log_prob": statistic(log_probs, tokens)})
        slope = np.asarray(slopes(objective, (), outputs, given_).logp)[0] * 5 - 1
        np.testing.assert_allclose(slope, np.array(chosen) * (1 - 1 / 0.998), atol=2e-5)


@pytest.mark.slow
def test_ties_go_to_the_first_and_positive_tokens_are_never_pulled():
    outputs, batch = SIX
    outputs = TokenOutputs(jnp.full((1, 6), -5.0))
    batch = dataclasses.replace(batch, statistics={"proxy_log_prob": jnp.full((1, 6), -4.0)})
    objective = objectives.make("lp_reg", lp_reg_share=0.4)
    pull = token_losses(objective, outputs, batch) - token_losses(VANILLA, outputs, batch)
    np.testing.assert_allclose(pull[0], (np.e - 2) * np.array([0, 1, 1, 0, 0, 0]), atol=1e-5)  # exp d - d - 1 of d = 1


@pytest.mark.slow
@given(
    logp=arrays.arrays(np.float32, (1, 6), elements=st.floats(-12, 0, width=32)),
    proxies=arrays.arrays(np.float32, (1, 6), elements=st.sampled_from([-1e4, -6.0, -2.0, -0.1])),
    signs=arrays.arrays(np.float32, (1, 6), elements=st.sampled_from([-1.0, 0.0, 1.0])),
    share=st.sampled_from([0.1, 0.4, 0.7, 1.0]),
)
def test_who_is_pulled(logp, proxies, signs, share):
    batch = dataclasses.replace(
        SIX[1], advantages=jnp.asarray(signs), statistics={"proxy_log_prob": jnp.asarray(proxies)}
    )
    objective = objectives.make("lp_reg", lp_reg_share=share, lp_reg_weight=1e-3)
    found = token_losses(objective, TokenOutputs(jnp.asarray(logp)), batch)
    _, aux = evaluate(objective, (), TokenOutputs(jnp.asarray(logp)), batch)
    negative = int((signs < 0).sum())
    most = max(1, int(share * negative + 1e-6))
    number = round(float(aux.metrics["lp_reg/chosen"]) * 6)
    assert number <= (most if most > 1 else 0)
    rarest = [index for index in np.argsort(logp[0], kind="stable") if signs[0, index] < 0][: most if most > 1 else 0]
    assert number == sum(logp[0, index] < proxies[0, index] for index in rarest)
    assert np.isfinite(found).all()


@pytest.mark.slow
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_masked_positions_change_nothing(garbage):
    case = random_case(3)
    objective = objectives.make("lp_reg", lp_reg_share=0.8, lp_reg_min_p=0.2)
    dirty = with_garbage(case, garbage)
    outputs = TokenOutputs(jnp.where(case.batch.mask, case.outputs().logp, garbage))
    loss, aux = evaluate(objective, (), TokenOutputs(case.outputs().logp), case.batch)
    found, _ = evaluate(objective, (), outputs, dirty.batch)
    assert aux.metrics["lp_reg/chosen"] > 0
    np.testing.assert_array_equal(found, loss)
    slope = np.asarray(slopes(objective, (), outputs, dirty.batch).logp)
    assert np.isfinite(slope).all() and np.all(slope[~np.asarray(case.batch.mask)] == 0)
    empty = dataclasses.replace(case.batch, mask=jnp.zeros_like(case.batch.mask))
    assert evaluate(objective, (), outputs, empty)[0] == 0


def test_statistic_is_needed_also_where_advantages_are_given():
    case = random_case(3)
    objective = objectives.make("lp_reg")
    bare = dataclasses.replace(case.batch, advantages=jnp.ones(8), logits_old=None)
    with pytest.raises(MissingInputError, match="'proxy_log_prob' of the policy that drew the responses"):
        objective((), TokenOutputs(case.outputs().logp), bare)


def test_nothing_flows_into_the_proxy():
    case = random_case(3)
    objective = objectives.make("lp_reg", lp_reg_share=0.8)

    def loss(logits):
        return objective((), TokenOutputs(case.outputs().logp), dataclasses.replace(case.batch, logits_old=logits))[0]

    assert np.all(np.asarray(jax.jit(jax.grad(loss))(case.batch.logits_old)) == 0)
