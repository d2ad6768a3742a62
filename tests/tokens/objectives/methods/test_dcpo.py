"""DCPO: the sheet's coefficients and mixed advantages, the estimate of the entropy, and that it holds a target."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close
from token_cases import EXAMPLE, EXAMPLE_ENTROPY, evaluate, prepare, random_case, with_garbage

from maxent_rl.errors import MissingInputError
from maxent_rl.losses import softmax_entropy
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import DCPO, EntropyEstimate
from maxent_rl.tokens.objectives.methods.dcpo import DCPOState, reinforce_weight, tempered

LOG_PROBS = jnp.log(EXAMPLE)
CHOICES = jnp.arange(3)


def state_at(entropy):
    """The state after a batch whose steps had this mean entropy."""
    return (DCPOState(EntropyEstimate(jnp.float32(entropy), jnp.zeros(()), jnp.zeros(())), jnp.zeros(())),)


COEFFICIENTS = [
    # estimate, share of right responses, weight, temperature
    (0.20, 0.25, 0.285714, 1.2),
    (0.20, 1.0, 0.090909, 1.2),
    (0.45, 0.25, 0.166667, 1.2),
    (0.45, 0.5, 0.090909, 1.2),
    (0.50, 0.25, 0, 1.2),
    (0.50, 1.0, 0, 1.2),
    (0.55, 0.5, 0.090909, 0.8),
]


@pytest.mark.parametrize(("entropy", "right", "weight", "temperature"), COEFFICIENTS)
def test_coefficients_of_the_example(entropy, right, weight, temperature):
    np.testing.assert_allclose(reinforce_weight(jnp.float32(entropy), 0.5, 0.1, right), weight, atol=1e-5)
    np.testing.assert_allclose(DCPO().temperature(state_at(entropy)[0]), temperature, rtol=1e-6)


@given(entropy=st.floats(0, 2, width=32), count=st.integers(0, 64), target=st.floats(0, 2, width=32))
def test_coefficient_is_bounded_symmetric_and_falls_with_success(entropy, count, target):
    right = count / 64
    found = coefficient(entropy, target, 0.1, right)
    assert 0 <= found <= 0.1 / (0.1 + right) + 1e-6
    np.testing.assert_allclose(coefficient(2 * target - entropy, target, 0.1, right), found, atol=1e-4)
    if right > 0:
        assert coefficient(entropy, target, 0.1, right / 2) >= found - 1e-6
        strength = min(abs(target - entropy), 0.1)  # in the mean over the batch, what the term weighs beside the rest
        np.testing.assert_allclose(found / (1 - found) * right, strength, atol=1e-5)
    else:
        assert found == 0


coefficient = jax.jit(reinforce_weight)


@pytest.mark.parametrize(
    ("temperature", "ratios"), [(1.2, [0.933237, 1.047523, 1.258009]), (0.8, [1.091509, 0.917846, 0.697412])]
)
def test_ratios_of_the_example(temperature, ratios):
    found = jnp.exp(tempered(jnp.broadcast_to(LOG_PROBS, (3, 3)), CHOICES, temperature) - LOG_PROBS)
    np.testing.assert_allclose(found, ratios, atol=1e-5)
    np.testing.assert_allclose(EXAMPLE @ found, 1, atol=1e-5)
    assert np.all(np.sign(np.diff(found)) == (1 if temperature > 1 else -1))
    normaliser = np.sum(np.asarray(EXAMPLE) ** (1 / temperature))
    balance = normaliser ** (-temperature / (temperature - 1))
    likely = np.asarray(EXAMPLE) < balance
    assert np.all((np.asarray(found) > 1) == (likely if temperature > 1 else ~likely))


def batch_of(rewards, tokens):
    """One-token responses to one prompt, drawn from the example's distribution."""
    tokens = jnp.array(tokens)[:, None]
    logits = jnp.broadcast_to(LOG_PROBS, (len(tokens), 1, 3))
    return TokenBatch(
        LOG_PROBS[tokens],
        jnp.ones(tokens.shape, bool),
        jnp.array(rewards),
        len(tokens),
        tokens=tokens,
        logits_old=logits,
    )


def mixed(rewards, tokens, entropy, **settings):
    """The advantages that come out, [N]."""
    objective = objectives.make("dcpo", **settings)
    return np.asarray(prepare(objective, state_at(entropy), batch_of(rewards, tokens))[1].advantages)[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("token", "wanted"), [(0, 1.405537), (1, 1.424585), (2, 1.459666)])
def test_mixed_advantages_of_one_right_response(token, wanted):
    found = mixed([1.0, 0, 0, 0], [token, 0, 1, 2], 0.45)
    np.testing.assert_allclose(found, [wanted, *[-0.416666] * 3], atol=1e-5)  # wrong ones are the same for all tokens


def test_mixed_advantages_where_all_are_right_or_none():
    np.testing.assert_allclose(mixed([1.0] * 3, [0, 1, 2], 0.45), [0.044440, 0.049882, 0.059905], atol=1e-5)
    found = mixed([0.0] * 3, [0, 1, 2], 0.45)  # the released code divides by zero here
    np.testing.assert_array_equal(found, np.zeros(3))


@pytest.mark.slow
def test_limits():
    """At the target or with no strength: GRPO. At a temperature of 1: rewards without ratio. Ratios can be bounded."""
    plain = np.array([1.499997, -0.499999, -0.499999, -0.499999])
    rewards, tokens = [1.0, 0, 0, 0], [2, 0, 1, 2]
    np.testing.assert_allclose(mixed(rewards, tokens, 0.5), plain, atol=1e-5)
    np.testing.assert_allclose(mixed(rewards, tokens, 0.2, reinforce_most=0.0), plain, atol=1e-5)
    even = mixed(rewards, tokens, 0.45, hot_temperature=1.0)
    np.testing.assert_allclose(even, 5 / 6 * plain + np.array([1 / 6, 0, 0, 0]), atol=1e-5)
    bounded = mixed(rewards, tokens, 0.45, tilt_most=1.1)
    np.testing.assert_allclose(bounded[0], 5 / 6 * 1.499997 + 1.1 / 6, atol=1e-5)
    case = random_case(4)
    objective, grpo = objectives.make("dcpo", reinforce_most=0.0), objectives.make("grpo", dual_clip=3.0)
    outputs = TokenOutputs(case.outputs().logp)
    loss = evaluate(objective, objective.init(), outputs, case.batch)[0]
    assert_close(loss, evaluate(grpo, (), outputs, case.batch)[0], scale=1.0)  # of the tokens' losses, which cancel


def test_first_batch_is_hot():
    """The estimate is 0 before any step: the strength is that of the target or its bound."""
    objective = objectives.make("dcpo", target_entropy=0.03)
    state, _ = prepare(objective, objective.init(), batch_of([1.0, 0], [0, 1]))
    np.testing.assert_allclose(state[0].weight, 0.03 / 0.53, rtol=1e-5)
    np.testing.assert_allclose(objectives.DCPO().temperature(objective.init()[0]), 1.2, rtol=1e-6)


@pytest.mark.slow
def test_estimate_is_the_mean_over_the_steps_since_the_last_batch():
    """Each step weighs the same, whatever its number of tokens; steps without any are passed over."""
    case = random_case(4)
    objective = objectives.make("dcpo")
    state, prepared = prepare(objective, objective.init(), case.batch)
    halves = [prepared.rows(slice(0, 2)).as_step(), prepared.rows(slice(2, 8)).as_step()]
    logp = case.outputs().logp
    means = [-np.mean(np.asarray(logp)[rows][np.asarray(case.batch.mask)[rows]]) for rows in (slice(0, 2), slice(2, 8))]
    _, first = evaluate(objective, state, TokenOutputs(logp[:2]), halves[0])
    np.testing.assert_allclose(first.metrics["entropy/estimate"], 0)
    _, second = evaluate(objective, first.state, TokenOutputs(logp[2:]), halves[1])
    empty = dataclasses.replace(halves[0], mask=jnp.zeros_like(halves[0].mask))
    _, third = evaluate(objective, second.state, TokenOutputs(logp[:2]), empty)
    np.testing.assert_allclose(third.state[0].estimate.value, np.mean(means), rtol=1e-5)
    state, _ = prepare(objective, third.state, case.batch)
    np.testing.assert_allclose(state[0].estimate.before, np.mean(means), rtol=1e-5)
    again, _ = prepare(objective, state, case.batch)  # no step between: the estimate stays
    np.testing.assert_allclose(again[0].estimate.value, np.mean(means), rtol=1e-5)


def test_statistics_look_at_the_steps_that_are_done():
    """They are asked for before the next `prepare`, and must already be at the temperature that it will use."""
    objective = objectives.make("dcpo")
    low = (DCPOState(EntropyEstimate(jnp.zeros(()), jnp.float32(1.8), jnp.float32(2)), jnp.zeros(())),)
    statistic = jax.jit(lambda state: objective.statistics(state)["tempered_log_prob"](LOG_PROBS, jnp.array(2)))
    np.testing.assert_allclose(jnp.exp(statistic(low)), 0.069741, atol=1e-5)  # 0.9 nats are above the target: colder
    np.testing.assert_allclose(jnp.exp(statistic(objective.init())), 0.125801, atol=1e-5)


@pytest.mark.slow
def test_estimate_from_the_vocabulary():
    case = random_case(4)
    objective = objectives.make("dcpo", estimate_from="vocabulary")
    state, prepared = prepare(objective, objective.init(), case.batch)
    _, aux = evaluate(objective, state, case.outputs(), prepared)
    entropy = np.asarray(softmax_entropy(case.logits))[np.asarray(case.batch.mask)].mean()
    np.testing.assert_allclose(aux.state[0].estimate.value, entropy, rtol=1e-5)
    with pytest.raises(MissingInputError, match="DCPO needs entropy: pass TokenOutputs"):
        objective(state, TokenOutputs(case.outputs().logp), prepared)


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_masked_positions_change_nothing(garbage):
    case = random_case(4)
    objective = objectives.make("dcpo")
    dirty = with_garbage(case, garbage)
    outputs = TokenOutputs(jnp.where(case.batch.mask, case.outputs().logp, garbage))
    loss, aux = evaluate(objective, state_at(0.3), TokenOutputs(case.outputs().logp), case.batch)
    found, found_aux = evaluate(objective, state_at(0.3), outputs, dirty.batch)
    np.testing.assert_array_equal(found, loss)
    np.testing.assert_array_equal(found_aux.advantages, aux.advantages)
    assert np.isfinite(np.asarray(found_aux.state[0].estimate.value))


def test_nothing_flows_through_ratio_or_coefficient():
    case = random_case(4)
    objective = objectives.make("dcpo")

    def loss(logits):
        batch = dataclasses.replace(case.batch, logits_old=logits)
        return objective(state_at(0.3), TokenOutputs(case.outputs().logp), batch)[0]

    assert np.all(np.asarray(jax.jit(jax.grad(loss))(case.batch.logits_old)) == 0)


@pytest.mark.slow
def test_expected_gradient_is_the_tilted_policy_less_the_policy():
    """All right, one token: on the logits, weight times (pi^tau - pi), from the objective itself."""
    batch = batch_of([1.0] * 3, [0, 1, 2])
    objective = objectives.make("dcpo")
    state, prepared = prepare(objective, state_at(0.45), batch)

    def loss(logits, index):
        logp = jax.nn.log_softmax(logits)[prepared.tokens]
        return objective(state, TokenOutputs(logp[index][None]), prepared.rows(index[None]).as_step())[0]

    slopes = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(LOG_PROBS, jnp.arange(3))
    wanted = 0.047619 * np.array([-0.040058, 0.014257, 0.025801])
    np.testing.assert_allclose(-EXAMPLE @ slopes, wanted, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("contexts", [4])
def test_sampled_responses_hold_the_entropy_near_its_target(contexts):
    """The sheet's trial: every answer right, so that GRPO has no gradient; from 0.43 nats to just below the target of 0.75."""
    objective = objectives.make("dcpo", target_entropy=0.75)
    start = jnp.broadcast_to(jnp.log(jnp.array([0.9, 0.05, 0.03, 0.02])), (contexts, 4))
    group = 8
    np.testing.assert_allclose(softmax_entropy(start[0]), 0.428, atol=1e-3)

    def update(carry, key):
        logits, state = carry
        tokens = jax.random.categorical(key, logits, axis=-1, shape=(group, contexts)).T.reshape(-1, 1)

        def outputs(logits):
            rows = jnp.repeat(logits, group, axis=0)[:, None]
            return TokenOutputs(jnp.take_along_axis(jax.nn.log_softmax(rows), tokens[..., None], axis=-1)[..., 0])

        rows = jnp.repeat(logits, group, axis=0)[:, None]
        drawn, ones = outputs(logits).logp, jnp.ones(len(tokens))
        batch = TokenBatch(drawn, jnp.ones(drawn.shape, bool), ones, group, tokens=tokens, logits_old=rows)
        state, prepared = objective.prepare(state, batch)
        slope, aux = jax.grad(lambda values: objective(state, outputs(values), prepared), has_aux=True)(logits)
        logits = logits - 0.5 * contexts * slope
        return (logits, aux.state), jnp.mean(softmax_entropy(logits))

    keys = jax.random.split(jax.random.key(0), 3000)
    entropies = np.asarray(jax.jit(lambda: jax.lax.scan(update, (start, objective.init()), keys)[1])())
    assert 0.72 < entropies[1000:].mean() < 0.76
    assert entropies[1000:].min() > 0.65 and entropies[1000:].max() < 0.83


def test_example_entropy():
    np.testing.assert_allclose(softmax_entropy(LOG_PROBS), EXAMPLE_ENTROPY, rtol=1e-5)
