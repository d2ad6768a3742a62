"""What is done once to a whole batch, and what regularisers add: advantages, penalties, rows and tokens left out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from support.closeness import assert_close
from token_batches import COLUMNS, ROWS, aux_of, littered, loss_of, prepare, responses, slope_of

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import Aggregate, Clipped, GroupAdvantage, KLPenalty, chain, make

OUTPUTS, BATCH = responses()
SUCCESS = jnp.array([1.0, 0, 0, 1, 1, 1, 1, 1])


def with_rewards(rewards, **changes):
    return dataclasses.replace(BATCH, rewards=jnp.asarray(rewards), **changes)


def prepared(name, batch, **settings):
    return prepare(make(name, **settings), batch)


@pytest.mark.slow
def test_minibatches_of_a_prepared_batch():
    """Each has the advantages of the whole, whichever rows it holds, and divides by as many tokens as it has."""
    objective = make("reinforce_pp", kl_weight=0.1)
    whole = prepare(objective, BATCH)
    total = 0.0
    for rows in ([0, 5, 2], [7, 1, 3, 4, 6]):
        part = whole.rows(rows).as_step()
        np.testing.assert_array_equal(part.advantages, whole.advantages[np.array(rows)])
        logp = OUTPUTS.logp[np.array(rows)]
        total += loss_of(objective, TokenOutputs(logp), part) * part.mask.sum() / whole.mask.sum()
    assert_close(total, loss_of(objective, OUTPUTS, BATCH), scale=1.0)  # of the tokens' losses, which cancel
    half = whole.rows(slice(0, 4))
    assert half.mask.shape == (4, COLUMNS) and half.prepared
    np.testing.assert_array_equal(whole.rows(jnp.arange(4)).advantages, half.advantages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "grpo", "cispo", "gpg"])
def test_a_critics_advantages_are_used_as_they_are(name):
    """Prepared or not; what a preset would make of the rewards does not replace them."""
    advantages = jax.random.normal(jax.random.key(0), (ROWS, COLUMNS))
    batch = dataclasses.replace(BATCH, advantages=advantages)
    kept = jnp.where(BATCH.mask, advantages, 0.0)
    np.testing.assert_array_equal(prepared(name, batch).advantages, kept)
    np.testing.assert_array_equal(aux_of(make(name), OUTPUTS, batch).advantages, kept)
    by_row = dataclasses.replace(BATCH, advantages=advantages[:, 0])
    np.testing.assert_array_equal(prepared(name, by_row).advantages, jnp.where(BATCH.mask, advantages[:, :1], 0.0))


def test_with_a_critics_advantages_truncated_responses_are_still_left_out():
    batch = dataclasses.replace(BATCH, advantages=jnp.ones(ROWS))
    aux = aux_of(make("ppo", mask_truncated=True), OUTPUTS, batch)
    np.testing.assert_array_equal(aux.mask, BATCH.mask & ~BATCH.truncated[:, None])


def test_overlong_penalty():
    """The sheet's example: limit 100, margin 20, 90 tokens: -0.5; none up to 80, all of it from 100 on."""
    lengths = jnp.array([10, 80, 81, 90, 100, 110])
    batch = TokenBatch(jnp.zeros((6, 110)), jnp.arange(110) < lengths[:, None], jnp.ones(6))
    found = prepared("reinforce", batch, overlong_limit=100, overlong_margin=20, baseline=0.0).advantages[:, 0]
    assert_close(found, np.array([1.0, 1.0, 0.95, 0.5, 0.0, 0.0]))
    found = prepared("reinforce", batch, overlong_limit=110, overlong_weight=2.0, baseline=0.0).advantages[:, 0]
    assert_close(found, 1 - 2 * np.clip((np.asarray(lengths) - 88) / 22, 0, 1))


@pytest.mark.slow
def test_without_a_limit_no_response_is_too_long():
    """The columns of a batch follow its longest response: that one was once punished as if it had been cut."""
    batch = TokenBatch(
        jnp.zeros((4, 10)), jnp.arange(10) < jnp.array([[4], [6], [8], [10]]), jnp.array([1.0, 0, 0, 1]), 4
    )
    found = prepared("dapo", batch)
    np.testing.assert_allclose(found.advantages[:, 0], [0.866024, -0.866024, -0.866024, 0.866024], atol=1e-5)
    np.testing.assert_array_equal(prepared("dapo", batch, overlong_limit=4096).advantages, found.advantages)
    for name, settings in (("dapo", {"overlong_margin": 3}), ("grpo", {"overlong_weight": 2.0})):
        with pytest.raises(InvalidSettingError, match="needs overlong_limit, the length limit of sampling in tokens"):
            make(name, **settings)
    with pytest.raises(InvalidSettingError, match="--overlong-margin 30 counts tokens before --overlong-limit"):
        make("dapo", overlong_limit=20, overlong_margin=30)


@pytest.mark.slow
def test_groups_of_one_are_not_uniform():
    """Nothing is said of them by a comparison; verl keeps them, too."""
    batch = TokenBatch(jnp.full((4, 3), -1.0), jnp.ones((4, 3)), jnp.array([1.0, 0, 1, 0]))
    assert prepared("dapo", batch).mask.all()
    np.testing.assert_allclose(loss_of(make("dapo"), TokenOutputs(batch.logp_old), batch), -0.5, atol=1e-5)
    sizes = dataclasses.replace(
        batch, group_index=jnp.array([3, 9, 3, 4])
    )  # rows 0 and 2 are one group of equal rewards
    np.testing.assert_array_equal(prepared("dapo", sizes).mask[:, 0], [False, True, False, True])


def test_one_response_that_cannot_be_scored_makes_no_group_informative():
    np.testing.assert_array_equal(
        objectives.informative_groups(jnp.array([1.0, jnp.nan, 1, 1, 0, 1, jnp.nan, 1]), 4), [False, True]
    )
    unscored = with_rewards(SUCCESS.at[0].set(jnp.nan))
    np.testing.assert_array_equal(prepared("dapo", unscored).mask, BATCH.mask.at[4:].set(False))


@pytest.mark.parametrize("name", ["grpo", "reinforce_pp", "reinforce", "gpg", "dcpo"])
def test_a_reward_of_one_token_that_is_not_a_number_is_that_of_its_response(name):
    rewards = jnp.zeros((ROWS, COLUMNS)).at[4, 1].set(jnp.nan)
    found = prepare_any(name, dataclasses.replace(BATCH, token_rewards=rewards))
    assert np.isfinite(found.advantages).all() and np.all(found.advantages[4] == 0)
    others = with_rewards(BATCH.rewards.at[4].set(jnp.nan), token_rewards=jnp.zeros((ROWS, COLUMNS)))
    np.testing.assert_array_equal(found.advantages, prepare_any(name, others).advantages)


def prepare_any(name, batch):
    objective = make(name)
    return objective.prepare(objective.init(), batch)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "reinforce_pp", "rloo", "gpg", "reinforce"])
def test_penalties_named_beside_a_preset_come_before_its_advantages(name):
    """They once came after them, and did nothing."""
    plain = prepared(name, BATCH).advantages
    assert np.any(np.abs(prepared(name, BATCH, overlong_limit=COLUMNS).advantages - plain) > 0.01)
    lowered = dataclasses.replace(BATCH, rewards=BATCH.rewards - jnp.where(BATCH.mask.sum(-1) == COLUMNS, 1.0, 0.0))
    np.testing.assert_allclose(
        prepared(name, BATCH, overlong_limit=COLUMNS, overlong_margin=1).advantages,
        prepared(name, lowered).advantages,
        atol=1e-5,
    )
    divergence = jnp.where(BATCH.mask, BATCH.logp_old - BATCH.logp_ref, 0.0)
    told = dataclasses.replace(BATCH, token_rewards=-0.3 * divergence)
    np.testing.assert_allclose(
        prepared(name, BATCH, kl_reward_weight=0.3).advantages, prepared(name, told).advantages, atol=1e-5
    )


@pytest.mark.slow
def test_dynamic_sampling_leaves_out_uniform_groups():
    """Of rewards as they came: the penalty for length makes no group informative."""
    np.testing.assert_array_equal(objectives.informative_groups(SUCCESS, 4), [True, False])
    batch = with_rewards(SUCCESS)
    found = prepared("dapo", batch)
    np.testing.assert_array_equal(found.mask, BATCH.mask.at[4:].set(False))
    half = dataclasses.replace(BATCH.rows(slice(0, 4)), rewards=SUCCESS[:4])
    of_half = loss_of(make("dapo"), jax.tree.map(lambda leaf: leaf[:4], OUTPUTS), half)
    assert_close(loss_of(make("dapo"), OUTPUTS, batch), of_half, scale=1.0)  # of the tokens' losses, which cancel
    assert np.all(prepared("dapo", batch, drop_uniform_groups=False).mask == BATCH.mask)
    assert loss_of(make("dapo"), OUTPUTS, with_rewards(jnp.ones(ROWS))) == 0


def test_groups_that_differ_by_rewards_of_tokens_are_informative():
    batch = with_rewards(jnp.zeros(ROWS), token_rewards=jnp.zeros((ROWS, COLUMNS)).at[0, 0].set(1.0))
    np.testing.assert_array_equal(prepared("dapo", batch).mask, BATCH.mask.at[4:].set(False))


def test_overlong_filter_masks_responses_whose_rewards_still_count():
    """Those of their tokens included."""
    rewards = 0.1 * jax.random.normal(jax.random.key(0), (ROWS, COLUMNS))
    batch = dataclasses.replace(BATCH, token_rewards=rewards)
    found, plain = prepared("grpo", batch, mask_truncated=True), prepared("grpo", batch)
    np.testing.assert_array_equal(found.mask, BATCH.mask & ~BATCH.truncated[:, None])
    assert_close(found.advantages, jnp.where(found.mask, plain.advantages, 0.0))
    assert make("grpo", mask_truncated=False).stages == make("grpo").stages


def test_uncertain_tokens_keep_their_loss_and_denominators_count_all():
    objective = make("grpo", top_entropy_share=0.3)
    entropies = np.asarray(OUTPUTS.entropy)[np.asarray(BATCH.mask)]
    kept = BATCH.mask & (OUTPUTS.entropy >= np.quantile(entropies, 0.7))
    ratio = jnp.exp(OUTPUTS.logp - BATCH.logp_old)
    loss = losses.clipped_surrogate(ratio, prepared("grpo", BATCH).advantages)
    expected = jnp.sum(jnp.where(kept, loss, 0.0)) / BATCH.mask.sum()
    assert_close(loss_of(objective, OUTPUTS, BATCH), expected, scale=1.0)  # of the tokens' losses, which cancel
    assert 0 < kept.sum() < BATCH.mask.sum()
    everything = loss_of(make("grpo", top_entropy_share=1.0), OUTPUTS, BATCH)
    assert_close(everything, loss_of(make("grpo"), OUTPUTS, BATCH), scale=1.0)


@pytest.mark.slow
def test_a_bonus_beside_uncertain_tokens_is_of_those_alone():
    """TRL's: the mean over the tokens that are kept. Of the eight entropies those are 1.5 and 2.0."""
    entropy = jnp.array([[0.1, 0.2, 1.5, 0.3], [2.0, 0.1, 0.4, 0.2]])
    batch = TokenBatch(jnp.full((2, 4), -1.0), jnp.ones((2, 4)), jnp.zeros(2), advantages=jnp.zeros(2))
    outputs = TokenOutputs(batch.logp_old, entropy)
    few = make("grpo", entropy_bonus=0.1, top_entropy_share=0.25)
    np.testing.assert_allclose(loss_of(few, outputs, batch), -0.1 * 1.75, atol=1e-6)
    np.testing.assert_allclose(loss_of(make("grpo", entropy_bonus=0.1), outputs, batch), -0.06, atol=1e-6)
    slope = jax.grad(lambda given: loss_of(few, TokenOutputs(outputs.logp, given), batch))(entropy)
    np.testing.assert_allclose(slope, np.where(entropy > 1, -0.05, 0.0), atol=1e-7)


@pytest.mark.slow
def test_a_token_that_the_reference_did_not_score_is_left_out_where_the_reference_is_asked():
    unscored = dataclasses.replace(BATCH, logp_ref=BATCH.logp_ref.at[0, 1].set(-jnp.inf))
    plain, found = (aux_of(make("grpo"), OUTPUTS, batch) for batch in (BATCH, unscored))
    np.testing.assert_array_equal(found.mask, plain.mask)
    assert found.metrics["policy/loss"] == plain.metrics["policy/loss"]
    assert np.isfinite(found.metrics["reference/kl_k3"])
    for settings in ({"kl_weight": 0.1}, {"kl_reward_weight": 0.1}):
        found = aux_of(make("grpo", **settings), OUTPUTS, unscored)
        np.testing.assert_array_equal(found.mask, BATCH.mask.at[0, 1].set(False))
        assert all(np.isfinite(value) for value in found.metrics.values())
        np.testing.assert_allclose(found.metrics["response/unscored_tokens"], 1 / BATCH.mask.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", ["clip_b", "steer", "dcpo"])
def test_a_token_of_which_what_an_objective_asks_is_not_finite_is_left_out(name):
    """Its entropy, or a statistic of its vocabulary: the spread over all tokens was NaN, and nothing was clipped."""
    objective = make(name)
    state = objective.init()
    _, plain = objective.prepare(state, BATCH)
    odd = {"entropy_old": BATCH.entropy_old.at[0, 1].set(jnp.nan)}
    if name == "dcpo":
        odd = {"logits_old": None, "statistics": {"tempered_log_prob": plain.logp_old.at[0, 1].set(jnp.nan)}}
    _, found = objective.prepare(state, dataclasses.replace(BATCH, **odd))
    _, masked = objective.prepare(state, dataclasses.replace(BATCH, **odd, mask=BATCH.mask.at[0, 1].set(False)))
    np.testing.assert_array_equal(found.mask, masked.mask)
    np.testing.assert_array_equal(found.advantages, masked.advantages)
    assert found.unscored.tolist() == [1] + [0] * (ROWS - 1)


def test_regularisers_are_added():
    plain = loss_of(make("grpo"), OUTPUTS, BATCH)
    divergence = losses.kl_estimate(OUTPUTS.logp, BATCH.logp_ref, "k2")
    ratio = losses.importance_ratio(OUTPUTS.logp, BATCH.logp_old)
    for settings, term in (
        ({"entropy_bonus": 0.3}, -0.3 * OUTPUTS.entropy),
        ({"kl_weight": 0.3, "kl_estimator": "k2"}, 0.3 * divergence),
        ({"kl_weight": 0.3, "kl_estimator": "k2", "kl_unbiased": True}, 0.3 * divergence * ratio),
    ):
        expected = plain + losses.masked_mean(term, BATCH.mask)
        assert_close(loss_of(make("grpo", **settings), OUTPUTS, BATCH), expected, scale=1.0)  # of the tokens' losses


def test_metrics_of_a_hand_made_case():
    """Ratios 1.5, 0.5, 1 and 1, of which the first two are clipped; entropies 1, 2, 3 and 4."""
    batch = TokenBatch(
        logp_old=jnp.zeros((2, 3)),
        mask=jnp.array([[1, 1, 1], [1, 0, 0]]),
        rewards=jnp.zeros(2),
        advantages=jnp.array([[2.0, -2.0, 0.0], [2.0, 9.0, 9.0]]),
        logp_ref=jnp.zeros((2, 3)),
    )
    logp = jnp.log(jnp.array([[1.5, 0.5, 1.0], [1.0, 7.0, 7.0]]))
    outputs = TokenOutputs(logp, entropy=jnp.array([[1.0, 2.0, 3.0], [4.0, 99.0, 99.0]]))
    aux = aux_of(make("grpo"), *littered(outputs, batch))
    mean_log = np.log(1.5 * 0.5) / 4
    expected = {
        "policy/loss": (-2 * 1.2 + 2 * 0.8 - 2) / 4,
        "policy/clip_fraction_low": 0.25,
        "policy/clip_fraction_high": 0.25,
        "policy/ratio_min": 0.5,
        "policy/ratio_max": 1.5,
        "policy/kl_k1": -mean_log,
        "policy/kl_k3": (0.5 - 0.5) / 4 - mean_log,
        "advantage/mean": 0.5,
        "advantage/std": np.std([2.0, -2.0, 0.0, 2.0]),
        "advantage/min": -2.0,
        "advantage/max": 2.0,
        "response/length": 2.0,
        "response/unscored": 0.0,
        "response/unscored_tokens": 0.0,
        "reference/kl_k3": np.mean(1 / np.array([1.5, 0.5, 1, 1]) - 1) + mean_log,
        "entropy/mean": 2.5,
        "entropy/p10": 1.3,
        "entropy/p50": 2.5,
        "entropy/p90": 3.7,
    }
    assert aux.metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(aux.metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_half_precision_is_summed_in_single_precision():
    outputs = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), OUTPUTS)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs)
    objective = make("gspo", entropy_bonus=0.1)
    loss = loss_of(objective, outputs, BATCH)
    assert loss.dtype == jnp.float32
    assert_close(loss, loss_of(objective, rounded, BATCH), scale=1.0)  # half precision loses 400 times as much
    assert slope_of(objective, outputs, BATCH).dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.usefixtures("half_precision")
def test_no_stage_sees_half_precision():
    """But for logits, which are many: every loss of them is in single precision."""

    @struct.dataclass
    class Looker(Clipped):
        def prepare(self, state, batch):
            assert single(batch)
            return state, batch

        def __call__(self, state, work):
            assert single(work.batch) and single(work.outputs)
            return super().__call__(state, work)

    def single(tree):
        named = jax.tree.leaves_with_path(tree)
        leaves = [leaf for path, leaf in named if "logits" not in jax.tree_util.keystr(path)]
        return all(leaf.dtype not in (jnp.float16, jnp.bfloat16) for leaf in leaves)

    def halved(tree, factor):
        return jax.tree.map(
            lambda leaf: (factor * leaf).astype(jnp.float16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
        )

    objective = chain(GroupAdvantage(), Looker(), KLPenalty(0.1), Aggregate())
    far, batch = halved(OUTPUTS, 4000.0), dataclasses.replace(halved(BATCH, 200.0), statistics={"x": BATCH.logp_old})
    loss, slope = jax.value_and_grad(lambda logp: objective((), dataclasses.replace(far, logp=logp), batch)[0])(
        far.logp
    )
    assert loss.dtype == jnp.float32 and np.isfinite(loss)
    assert slope.dtype == jnp.float16 and np.isfinite(slope).all()


def test_settings_may_be_traced():
    """An objective made under jit or vmap takes its numbers as they come."""
    lows = jnp.array([0.05, 0.2])
    found = jax.vmap(lambda low: loss_of(make("grpo", clip_low=low), OUTPUTS, BATCH))(lows)
    single = [loss_of(make("grpo", clip_low=float(low)), OUTPUTS, BATCH) for low in lows]
    assert_close(found, np.array(single), scale=1.0)  # of the tokens' losses, which cancel
    assert abs(single[0] - single[1]) > 1e-3


def test_rewards_that_round_apart_teach_nothing():
    """Outcomes are sums of tokens' rewards, and the same rewards at other places add up to another last bit."""
    near = np.float32([0.3, np.nextafter(np.float32(0.3), np.float32(1))])
    batch = with_rewards(jnp.array(near[[0, 1, 1, 0, 0, 0, 1, 0]]))
    np.testing.assert_array_equal(objectives.informative_groups(batch.rewards, 4), [False, False])
    for name in ("grpo", "reinforce", "rloo"):
        assert np.all(prepared(name, batch).advantages == 0)


def test_tokens_that_are_as_uncertain_as_the_last_one_are_kept():
    """Under a uniform policy all are, whatever rounding makes of their entropies."""
    most = np.float32(np.log(7.0))
    near = np.array([most, np.nextafter(most, np.float32(0)), np.nextafter(most, np.float32(9))])
    entropy = jnp.array(near[np.arange(ROWS * COLUMNS) % 3].reshape(ROWS, COLUMNS))
    uniform = dataclasses.replace(OUTPUTS, entropy=entropy)
    few, everything = make("grpo", top_entropy_share=0.1), make("grpo")
    assert_close(loss_of(few, uniform, BATCH), loss_of(everything, uniform, BATCH), scale=1.0)
