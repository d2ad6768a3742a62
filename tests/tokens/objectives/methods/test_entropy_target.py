"""SAC's temperature for tokens: its rule by hand, and that it holds the entropy of a softmax policy at its target."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.closeness import assert_close
from token_cases import evaluate, random_case, slopes, with_garbage

from maxent_rl.errors import InvalidSettingError, MissingInputError
from maxent_rl.losses import damped_temperature, softmax_entropy
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives

OBJECTIVE = objectives.make("entropy_target", target_entropy=1.0, initial_temperature=0.02)
CASE = random_case(5)


def mean_entropy(case):
    return np.asarray(softmax_entropy(case.logits))[np.asarray(case.batch.mask)].mean()


@pytest.mark.slow
def test_loss_is_grpo_less_temperature_times_entropy():
    loss, aux = evaluate(OBJECTIVE, OBJECTIVE.init(), CASE.outputs(), CASE.batch)
    plain = evaluate(objectives.make("grpo"), (), CASE.outputs(), CASE.batch)[0]
    entropy = mean_entropy(CASE)
    alpha = 0.02 * np.exp(-(entropy - 1.0))
    np.testing.assert_allclose(aux.metrics["temperature/alpha"], alpha, rtol=1e-5)
    assert entropy > 1.0
    assert_close(loss, plain - (alpha - 0.5 * (entropy - 1.0)) * entropy, scale=1.0)  # of the tokens' losses
    alone = objectives.make("entropy_target", target_entropy=1.0, initial_temperature=0.02, surplus_weight=0.0)
    loss, _ = evaluate(alone, alone.init(), CASE.outputs(), CASE.batch)
    assert_close(loss, plain - alpha * entropy, scale=1.0)
    above = objectives.make("entropy_target", target_entropy=9.0, surplus_weight=50.0)
    same = objectives.make("entropy_target", target_entropy=9.0, surplus_weight=0.0)
    losses_above = [evaluate(one, one.init(), CASE.outputs(), CASE.batch)[0] for one in (above, same)]
    np.testing.assert_array_equal(*losses_above)  # below the target there is no surplus


@pytest.mark.slow
def test_a_policy_that_has_become_random_comes_back_though_nothing_is_rewarded():
    """One seed of three stayed uniform on tokens/countdown: the temperature can go to 0, and no further."""
    almost_uniform = jnp.log(jnp.array([0.34, 0.33, 0.33]))
    np.testing.assert_allclose(final_entropy(almost_uniform, 0.6, reward=0.0), 0.6, atol=0.03)


@pytest.mark.slow
def test_gradient_takes_the_temperature_as_constant():
    found = slopes(OBJECTIVE, OBJECTIVE.init(), CASE.outputs(), CASE.batch)
    alpha = evaluate(OBJECTIVE, OBJECTIVE.init(), CASE.outputs(), CASE.batch)[1].metrics["temperature/alpha"]
    weight = float(alpha) - 0.5 * (mean_entropy(CASE) - 1.0)
    plain = slopes(objectives.make("grpo"), (), CASE.outputs(), CASE.batch)
    assert_close(found.logp, plain.logp)
    fixed = slopes(objectives.make("grpo", entropy_bonus=float(weight)), (), CASE.outputs(), CASE.batch)
    assert_close(found.logits, fixed.logits)
    assert np.abs(np.asarray(found.logits)).max() > 1e-5


@pytest.mark.parametrize("target", [0.1, 3.0])
def test_temperature_moves_by_adam_against_the_surplus(target):
    """Too much entropy lowers it, too little raises it; three steps, as Adam's by hand."""
    objective = objectives.make("entropy_target", target_entropy=target, temperature_learning_rate=0.05)
    state = objective.init()
    optimizer, log_alpha = optax.adam(0.05), jnp.log(0.01)
    adam = optimizer.init(log_alpha)
    for _ in range(3):
        state = evaluate(objective, state, CASE.outputs(), CASE.batch)[1].state
        step, adam = optimizer.update(jnp.float32(mean_entropy(CASE) - target), adam)
        log_alpha = log_alpha + step
    np.testing.assert_allclose(state[0].log_alpha, log_alpha, rtol=1e-5)
    assert np.sign(state[0].log_alpha - np.log(0.01)) == np.sign(target - mean_entropy(CASE))


def test_proportional_term_is_the_library_s():
    low = objectives.make("entropy_target", target_entropy=30.0)
    alpha = evaluate(low, low.init(), CASE.outputs(), CASE.batch)[1].metrics["temperature/alpha"]
    np.testing.assert_allclose(alpha, damped_temperature(np.log(0.01), mean_entropy(CASE), 30.0), rtol=1e-5)
    np.testing.assert_allclose(alpha, 0.01 * np.exp(2), rtol=1e-5)  # not more than 2 nats act at once


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_masked_positions_change_nothing(garbage):
    dirty = with_garbage(CASE, garbage)
    loss, aux = evaluate(OBJECTIVE, OBJECTIVE.init(), CASE.outputs(), CASE.batch)
    outputs = TokenOutputs(jnp.where(CASE.batch.mask, CASE.outputs().logp, garbage), logits=dirty.logits)
    found, found_aux = evaluate(OBJECTIVE, OBJECTIVE.init(), outputs, dirty.batch)
    np.testing.assert_array_equal(found, loss)
    jax.tree.map(np.testing.assert_array_equal, found_aux.state, aux.state)
    assert np.isfinite(np.asarray(slopes(OBJECTIVE, OBJECTIVE.init(), outputs, dirty.batch).logits)).all()


def test_empty_batch_leaves_the_temperature():
    empty = dataclasses.replace(CASE.batch, mask=jnp.zeros_like(CASE.batch.mask))
    loss, aux = evaluate(OBJECTIVE, OBJECTIVE.init(), CASE.outputs(), empty)
    assert loss == 0
    np.testing.assert_allclose(aux.state[0].log_alpha, np.log(0.02), rtol=1e-6)


def test_any_objective_can_have_it():
    objective = objectives.make("dapo", target_entropy=0.5)
    assert isinstance(objective.stages[-2], objectives.EntropyTarget)
    assert objectives.make("dcpo", target_entropy=0.7).stages[1].target_entropy == 0.7  # which has a target of its own
    assert len(objectives.make("dcpo", target_entropy=0.7).stages) == 4
    with pytest.raises(MissingInputError, match="EntropyTarget needs entropy"):
        OBJECTIVE(OBJECTIVE.init(), TokenOutputs(CASE.outputs().logp), CASE.batch)
    with pytest.raises(InvalidSettingError, match="--initial-temperature"):
        objectives.make("grpo", initial_temperature=0.0)


@pytest.mark.parametrize("target", [0.3, 0.6, 0.9])
def test_entropy_of_a_softmax_policy_is_held(target):
    """Rewards for the first of three arms only: GRPO alone ends near 0 nats, with the temperature at the target."""
    start = jnp.log(jnp.array([0.6, 0.3, 0.1]))
    np.testing.assert_allclose(final_entropy(start, target), target, atol=0.03)


@jax.jit
def final_entropy(start, target, reward=1.0):
    """After 3,000 exact policy-gradient steps: each arm stands in the batch by its probability."""
    objective = objectives.make("entropy_target", temperature_learning_rate=0.02)
    stages = [
        dataclasses.replace(stage, target_entropy=target) if hasattr(stage, "target_entropy") else stage
        for stage in objective.stages
    ]
    objective = dataclasses.replace(objective, stages=tuple(stages))
    tokens = jnp.arange(3)[:, None]

    def step(_, carry):
        logits, state = carry
        probs = jax.nn.softmax(logits)
        rewards = reward * jnp.array([1.0, 0.0, 0.0])
        advantages = 3 * probs * (rewards - probs @ rewards)  # three tokens, averaged
        batch = TokenBatch(jnp.log(probs)[tokens], jnp.ones((3, 1), bool), rewards, 3, advantages=advantages)

        def loss(values):
            rows = jnp.broadcast_to(values, (3, 1, 3))
            outputs = TokenOutputs(jax.nn.log_softmax(values)[tokens], logits=rows)
            total, aux = objective(state, outputs, batch)
            return total, aux.state

        slope, state = jax.grad(loss, has_aux=True)(logits)
        return logits - 0.5 * slope, state

    logits, _ = jax.lax.fori_loop(0, 3000, step, (start, objective.init()))
    return softmax_entropy(logits)
