"""Clip-Cov and KL-Cov: the sheet's six tokens, which tokens are chosen, and what the choice does to gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close
from token_cases import evaluate, one_row, prepare, random_case, slopes, token_losses, with_garbage

from maxent_rl.losses import covariance_contribution
from maxent_rl.tokens import TokenOutputs, objectives
from maxent_rl.tokens.objectives.selection import largest, share_of, smallest

SIX = one_row([0.9, 0.8, 0.05, 0.5, 0.7, 0.02], [0.8, 0.8, 0.05, 0.5, 0.35, 0.04], [1.5, 1.5, 1.5, -1, -1, -1])
GRPO = objectives.make("grpo", clip_low=1.0, clip_high=1.0)
LOSSES = np.array([-1.6875, -1.5, -1.5, 1, 2, 0.5])
PENALTIES = np.array([0.117783, 0, 0, 0, 0.693147, 0.693147])
MEANS = {0: 0.083333, 1: 0.052083, 5: -0.281250}  # of the loss, by the token that is left out


def test_ratios_and_losses_of_the_example():
    np.testing.assert_allclose(token_losses(GRPO, *SIX)[0], LOSSES, atol=1e-5)
    np.testing.assert_allclose(evaluate(GRPO, (), *SIX)[0], -0.197917, atol=1e-5)
    narrow = objectives.make("grpo")
    np.testing.assert_allclose(evaluate(narrow, (), *SIX)[0], -0.147917, atol=1e-5)


def draws(objective, count=60):
    """The losses by the token that was left out, over many keys."""
    found = {}
    for seed in range(count):
        state = objective.init(jax.random.key(seed))
        dropped = np.flatnonzero(token_losses(objective, *SIX, state)[0] == 0)
        found[tuple(dropped.tolist())] = float(evaluate(objective, state, *SIX)[0])
    return found


@pytest.mark.slow
def test_clip_cov_leaves_out_one_of_the_eligible_tokens():
    found = draws(objectives.make("clip_cov"))
    assert sorted(found) == [(0,), (1,), (5,)]
    for (token,), loss in found.items():
        np.testing.assert_allclose(loss, MEANS[token], atol=1e-5)


@pytest.mark.slow
def test_clip_cov_passes_over_what_the_surrogate_has_clipped():
    """With the narrow clip token 5 has no gradient to lose; the setting of the surrogate reaches it through `make`."""
    assert sorted(draws(objectives.make("clip_cov", clip_low=0.2, clip_high=0.2))) == [(0,), (1,)]


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.3, 1), (0.5, 3), (1.0, 3)])
def test_clip_cov_takes_at_most_its_share_and_all_eligible(share, count):
    objective = objectives.make("clip_cov", clip_share=share)
    assert np.sum(token_losses(objective, *SIX)[0] == 0) == count


@pytest.mark.slow
def test_bounds_are_strict():
    """A covariance of exactly the bound is not drawn. Of four tokens, whose means and covariances are exact: 4, 1, 1, 4."""
    logp = jnp.array([[-1.0, -2.0, -4.0, -5.0]])
    outputs, batch = one_row([1.0] * 4, [1.0] * 4, [2.0, 1.0, -1.0, -2.0])
    outputs, batch = TokenOutputs(logp), dataclasses.replace(batch, logp_old=logp)
    covariance = jax.jit(covariance_contribution)(logp, batch.advantages, batch.mask)
    np.testing.assert_array_equal(covariance, [[4.0, 1.0, 1.0, 4.0]])
    for low, high, eligible in [(0.0, 1.0, 0), (4.0, 5.0, 0), (1.0, 4.0, 0), (1.0, 4.5, 2), (0.5, 4.0, 2)]:
        objective = objectives.make("clip_cov", covariance_low=low, covariance_high=high, clip_share=1.0)
        assert np.sum(token_losses(objective, outputs, batch)[0] == 0) == eligible


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"covariance_low": 1e9, "covariance_high": 2e9}, {"covariance_high": 0.5}])
def test_clip_cov_with_none_eligible_is_the_clipped_surrogate(settings):
    objective = objectives.make("clip_cov", **settings)
    state = objective.init()
    assert_close(evaluate(objective, state, *SIX)[0], evaluate(GRPO, (), *SIX)[0], scale=1.0)  # of the tokens' losses
    assert_close(slopes(objective, state, *SIX).logp, slopes(GRPO, (), *SIX).logp)


def test_chosen_tokens_have_no_gradient_and_stay_in_the_denominator():
    objective = objectives.make("clip_cov", clip_share=1.0)
    found = np.asarray(slopes(objective, objective.init(), *SIX).logp)[0]
    ratio = np.exp(np.asarray(SIX[0].logp - SIX[1].logp_old))[0]
    kept = np.array([0, 0, 1, 1, 1, 0])
    np.testing.assert_allclose(found[:4], (-np.asarray(SIX[1].advantages)[0] * ratio * kept / 6)[:4], atol=1e-6)
    np.testing.assert_array_equal(found[[0, 1, 5]], np.zeros(3))


def test_each_call_draws_anew_and_the_same_state_the_same():
    objective = objectives.make("clip_cov")
    state, dropped = objective.init(jax.random.key(3)), []
    for _ in range(20):
        loss, aux = evaluate(objective, state, *SIX)
        assert loss == evaluate(objective, state, *SIX)[0]
        dropped.append(round(float(loss), 4))
        state = aux.state
    assert len(set(dropped)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("count", "held", "mean"), [(1, [5], -0.082392), (2, [5, 0], -0.062762)])
def test_kl_cov_holds_the_largest(count, held, mean):
    objective = objectives.make("kl_cov", kl_cov_share=(count + 0.5) / 6)
    np.testing.assert_allclose(evaluate(objective, (), *SIX)[0], mean, atol=1e-5)
    wanted = LOSSES + np.where(np.isin(np.arange(6), held), PENALTIES, 0)
    np.testing.assert_allclose(token_losses(objective, *SIX)[0], wanted, atol=1e-5)


def test_gradient_of_kl_cov_is_the_sign_of_the_log_ratio():
    outputs, batch = SIX
    objective = objectives.make("kl_cov", kl_cov_share=0.4, kl_cov_weight=0.7)
    ratio = np.exp(np.asarray(outputs.logp - batch.logp_old))[0]
    plain = -np.asarray(batch.advantages)[0] * ratio
    wanted = (plain + 0.7 * np.array([1, 0, 0, 0, 0, -1])) / 6
    np.testing.assert_allclose(slopes(objective, (), *SIX).logp[0], wanted, atol=1e-6)
    at_start = TokenOutputs(batch.logp_old)  # a ratio of 1: the plain policy gradient, whatever the weight
    np.testing.assert_allclose(slopes(objective, (), at_start, batch).logp[0], -batch.advantages[0] / 6, atol=1e-6)


@pytest.mark.parametrize("off", [{"kl_cov_weight": 0.0}, {"kl_cov_share": 0.0}])
def test_kl_cov_switched_off_is_unclipped(off):
    loss, aux = evaluate(objectives.make("kl_cov", **off), (), *SIX)
    np.testing.assert_allclose(loss, LOSSES.mean(), atol=1e-6)
    chosen = 0.0 if "kl_cov_share" in off else 1 / 6
    np.testing.assert_allclose(aux.metrics["covariance/chosen"], chosen, atol=1e-6)
    np.testing.assert_allclose(aux.metrics["covariance/mean"], 0.341168, atol=1e-5)


@pytest.mark.slow
def test_equal_advantages_choose_none_in_clip_cov_and_the_first_in_kl_cov():
    outputs, batch = SIX
    batch = dataclasses.replace(batch, advantages=jnp.full((1, 6), -0.3))
    clip_cov = objectives.make("clip_cov", clip_share=1.0)
    assert np.all(token_losses(clip_cov, outputs, batch) != 0)
    kl_cov = objectives.make("kl_cov", kl_cov_share=0.34)
    penalty = token_losses(kl_cov, outputs, batch) - 0.3 * np.exp(outputs.logp - batch.logp_old)
    np.testing.assert_allclose(penalty[0], [PENALTIES[0], 0, 0, 0, 0, 0], atol=1e-5)  # tokens 0 and 1, whose ratio is 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 3.0])
def test_masked_positions_change_nothing(name, garbage):
    objective, case = objectives.make(name), random_case()
    if name == "clip_cov":
        objective = objectives.make(name, covariance_low=0.1, clip_share=0.1)
    dirty = with_garbage(case, garbage)
    state = objective.init()
    loss, aux = evaluate(objective, state, TokenOutputs(case.outputs().logp), case.batch)
    logp = jnp.where(case.batch.mask, case.outputs().logp, garbage)
    found, found_aux = evaluate(objective, state, TokenOutputs(logp), dirty.batch)
    np.testing.assert_array_equal(found, loss)
    np.testing.assert_array_equal(found_aux.metrics["covariance/chosen"], aux.metrics["covariance/chosen"])
    slope = np.asarray(slopes(objective, state, TokenOutputs(logp), dirty.batch).logp)
    assert np.all(slope[~np.asarray(case.batch.mask)] == 0) and np.isfinite(slope).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_empty_batch_costs_nothing(name):
    objective, case = objectives.make(name), random_case()
    empty = dataclasses.replace(case.batch, mask=jnp.zeros_like(case.batch.mask))
    outputs = TokenOutputs(case.outputs().logp)
    assert evaluate(objective, objective.init(), outputs, empty)[0] == 0
    assert np.all(slopes(objective, objective.init(), outputs, empty).logp == 0)


@pytest.mark.slow
def test_seeds_and_settings_vary_together_in_one_program():
    objective, case = objectives.make("clip_cov", covariance_low=0.1), random_case()
    outputs = TokenOutputs(case.outputs().logp)
    states = jax.vmap(objective.init)(jax.random.split(jax.random.key(0), 3))
    shares = jnp.array([0.02, 0.1, 0.2])
    stages = [
        dataclasses.replace(each, clip_share=shares) if hasattr(each, "clip_share") else each
        for each in objective.stages
    ]
    axes = jax.tree.map(
        lambda leaf: 0 if jnp.ndim(leaf) else None, dataclasses.replace(objective, stages=tuple(stages))
    )
    varied = dataclasses.replace(objective, stages=tuple(stages))
    found, _ = jax.jit(jax.vmap(lambda o, s: o(s, outputs, case.batch), in_axes=(axes, 0)))(varied, states)
    for index, share in enumerate(shares):
        single = objectives.make("clip_cov", covariance_low=0.1, clip_share=float(share))
        alone = evaluate(single, (states[0][index],), outputs, case.batch)[0]
        assert_close(alone, found[index], scale=1.0)  # of the tokens' losses, which cancel


@pytest.mark.slow
def test_minibatches_are_chosen_from_for_themselves():
    objective, case = objectives.make("kl_cov", kl_cov_share=0.1), random_case()
    state, prepared = prepare(objective, objective.init(), case.batch)
    half = prepared.rows(slice(0, 4)).as_step()
    _, aux = evaluate(objective, state, TokenOutputs(case.outputs().logp[:4]), half)
    count = int(half.mask.sum())
    np.testing.assert_allclose(aux.metrics["covariance/chosen"], max(count // 10, 1) / count, rtol=1e-6)


@given(
    values=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf]), min_size=6, max_size=6),
    eligible=st.lists(st.booleans(), min_size=6, max_size=6),
    count=st.integers(0, 7),
)
def test_selection_is_stable(values, eligible, count):
    values, eligible = np.array(values, np.float32), np.array(eligible)
    order = [index for index in np.argsort(values, kind="stable") if eligible[index]]
    wanted = np.isin(np.arange(6), order[:count])
    np.testing.assert_array_equal(np.asarray(compiled_smallest(values, eligible, count)), wanted)
    order = [index for index in np.argsort(-values, kind="stable") if eligible[index]]
    np.testing.assert_array_equal(compiled_largest(values, eligible, count), np.isin(np.arange(6), order[:count]))


compiled_smallest, compiled_largest = jax.jit(smallest), jax.jit(largest)


@given(percent=st.integers(0, 100), count=st.integers(0, 100_000))
def test_shares_are_exact(percent, count):
    """As whole-number arithmetic has them: 0.29 of 100 tokens are 29, though the product is below 29."""
    assert share_of(count, percent / 100, 0) == percent * count // 100
    assert share_of(count, percent / 100) == max(percent * count // 100, 1)
