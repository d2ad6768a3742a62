"""Weights of the divergence and of the entropy that are state: against the rules in NumPy, over several batches and steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives


def batch_of(seed):
    """(arrays by name, mask) with holes, unequal groups, a response without a token; in one batch far from the reference."""
    draw = np.random.default_rng(seed)
    mask = draw.uniform(size=(6, 5)) < 0.6
    mask[2] = False
    mask[0, 1] = True
    old = -draw.gamma(1.0, size=(6, 5))
    apart = (2.0 if seed == 3 else 0.3) * draw.normal(size=(6, 5))
    given = {
        "logp_old": old, "logp_ref": old + apart, "logp": old + 0.2 * draw.normal(size=(6, 5)),
        "entropy": draw.gamma(1.0, size=(6, 5)) * (0.1, 0.3, 1.0, 0.2)[seed],
    }  # fmt: skip
    return given, mask, draw.normal(size=6)


def arrays(given, mask, advantages):
    """(outputs, batch) in single precision, with NaN where masked."""
    single = {name: jnp.asarray(np.where(mask, array, np.nan), jnp.float32) for name, array in given.items()}
    batch = TokenBatch(
        single["logp_old"], jnp.asarray(mask), jnp.zeros(6), logp_ref=single["logp_ref"],
        group_index=jnp.array([4, 4, 4, 1, 1, 0]), advantages=jnp.asarray(advantages, jnp.float32),
    )  # fmt: skip
    return TokenOutputs(single["logp"], single["entropy"]), batch


def mean_of_means(values, mask):
    return np.mean([values[row][mask[row]].mean() for row in range(len(mask)) if mask[row].any()])


def moved(weight, divergence, mask, target, horizon):
    error = np.clip(mean_of_means(divergence, mask) / target - 1, -0.2, 0.2)
    return weight * (1 + error * mask.any(axis=-1).sum() / horizon)


def k3(logp, reference):
    return np.exp(reference - logp) - (reference - logp) - 1


@jax.jit
def step(objective, state, outputs, batch):
    return jax.value_and_grad(lambda out: objective(state, out, batch), has_aux=True)(outputs)


@pytest.mark.slow
def test_the_weight_of_the_divergence_follows_it():
    """Four batches in turn, one of them far away: state, loss and gradient."""
    settings = {"adaptive_kl_target": 0.05, "adaptive_kl_weight": 0.3, "adaptive_kl_horizon": 20.0}
    objective = objectives.make("reinforce", **settings)
    state, weight = objective.init(), 0.3
    for seed in range(4):
        given, mask, advantages = batch_of(seed)
        outputs, batch = arrays(given, mask, advantages)
        weight = moved(weight, k3(given["logp_old"], given["logp_ref"]), mask, 0.05, 20)
        (loss, aux), slope = step(objective, state, outputs, batch)
        state = aux.state
        np.testing.assert_allclose(state[0], weight, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["reference/kl_weight"], weight, rtol=1e-5)
        logp, reference = given["logp"], given["logp_ref"]
        each = -advantages[:, None] * logp + weight * k3(logp, reference)
        np.testing.assert_allclose(loss, each[mask].mean(), rtol=1e-4)
        expected = np.where(mask, -advantages[:, None] + weight * (1 - np.exp(reference - logp)), 0.0) / mask.sum()
        np.testing.assert_allclose(slope.logp, expected, rtol=1e-4, atol=1e-6)
        again = step(objective, aux.state, outputs, objective.prepare(state, batch)[1])
        np.testing.assert_array_equal(
            again[0][1].state[0], state[0]
        )  # once for each batch, however many steps it gives


@pytest.mark.slow
def test_the_weight_in_the_reward_moves_after_it_has_been_paid():
    """As in verl: a batch is paid with the weight so far."""
    settings = {"adaptive_kl_reward_target": 0.2, "adaptive_kl_reward_weight": 0.5, "adaptive_kl_reward_horizon": 30.0}
    objective = objectives.make("reinforce_pp", **settings)
    state, weight = objective.init(), 0.5
    for seed in range(4):
        given, mask, _ = batch_of(seed)
        _, batch = arrays(given, mask, np.zeros(6))
        state, prepared = objective.prepare(state, dataclasses.replace(batch, advantages=None))
        apart = given["logp_old"] - given["logp_ref"]
        returns = np.where(mask, np.cumsum(np.where(mask, -weight * apart, 0.0)[:, ::-1], axis=-1)[:, ::-1], 0.0)
        tokens = returns[mask]
        whitened = np.where(mask, (returns - tokens.mean()) / np.sqrt(tokens.var(ddof=1) + 1e-8), 0.0)
        np.testing.assert_allclose(prepared.advantages, whitened, rtol=1e-3, atol=1e-4)
        weight = moved(weight, apart, mask, 0.2, 30)
        np.testing.assert_allclose(state[0], weight, rtol=1e-5)


def test_the_weight_of_the_entropy_goes_up_below_its_target_and_pays_nothing_above():
    settings = {"adaptive_entropy_target": 0.4, "adaptive_entropy_step": 0.05, "adaptive_entropy_weight": 0.2}
    objective = objectives.make("reinforce", **settings)
    state, weight = objective.init(), 0.2
    means = []
    for seed in (0, 1, 2, 3):
        given, mask, advantages = batch_of(seed)
        outputs, batch = arrays(given, mask, advantages)
        (loss, aux), slope = step(objective, state, outputs, batch)
        state, mean = aux.state, given["entropy"][mask].mean()
        means.append(mean)
        paid = weight if mean <= 0.4 else 0.0
        expected = (-advantages[:, None] * given["logp"] - paid * given["entropy"])[mask].mean()
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
        np.testing.assert_allclose(slope.entropy, np.where(mask, -paid / mask.sum(), 0.0), rtol=1e-4)
        np.testing.assert_allclose(aux.metrics["entropy/weight"], paid, rtol=1e-5)
        weight = np.clip(weight + 0.05 * np.sign(0.4 - mean), 0.0, 1.0)
        np.testing.assert_allclose(state[0], weight, rtol=1e-5)
    assert min(means) < 0.4 < max(means)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"kl_ctrl": {"type": "adaptive", "kl_coef": 0.2, "target_kl": 0.3, "horizon": 50}},
         {"adaptive_kl_reward_weight": 0.2, "adaptive_kl_reward_target": 0.3, "adaptive_kl_reward_horizon": 50.0}),
        ({"kl_ctrl": {"type": "fixed", "kl_coef": 0.2}, "kl_penalty": "low_var_kl"},
         {"kl_reward_weight": 0.2, "kl_reward_estimator": "k3"}),
    ],
)  # fmt: skip
def test_verls_controller_is_translated(config, settings):
    config = {"adv_estimator": "reinforce_plus_plus", "use_kl_in_reward": True} | config
    translated = objectives.from_verl(config)
    expected = objectives.make("reinforce_pp", dual_clip=3.0, **settings)
    one, other = ({type(stage): stage for stage in each.stages} for each in (translated.objective, expected))
    assert one == other and translated.left == {}


def test_trls_adaptive_entropy_is_translated():
    config = {"entropy_coef": 0.1, "use_adaptive_entropy": True, "entropy_target": 0.3, "entropy_coef_delta": 0.01}
    translated = objectives.from_trl(config | {"entropy_coef_max": 0.5, "entropy_coef_min": 0.0})
    expected = objectives.make(
        "grpo", group_epsilon=1e-4, adaptive_entropy_weight=0.1, adaptive_entropy_target=0.3, adaptive_entropy_step=0.01,
        adaptive_entropy_most=0.5, adaptive_entropy_average="tokens",
    )  # fmt: skip
    one, other = ({type(stage): stage for stage in each.stages} for each in (translated.objective, expected))
    assert one == other and translated.left == {}
    fixed = objectives.from_trl({"entropy_coef": 0.1}).objective
    assert any(stage == objectives.EntropyBonus(0.1, "tokens") for stage in fixed.stages)
