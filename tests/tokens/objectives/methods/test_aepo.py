"""AEPO: which further responses are taken, where their rows go, and what they add to the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close
from support.seeds import learning_seed
from token_cases import Case, evaluate, prepare, random_case, slopes, with_garbage

from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError
from maxent_rl.losses import group_advantages, softmax_entropy
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import AEPO, EntropyEstimate
from maxent_rl.tokens.objectives.methods.aepo import AEPOState

ROWS, GROUP = 16, 4
REWARDS = jnp.array([1.0, 0, 0, 0, 1, 1, 1, 0])  # of two side groups: responses 0, 4, 5, 6 are right in mixed groups
MAIN = random_case(6, rows=ROWS)
SIDE = dataclasses.replace(random_case(7, rows=8).batch, rewards=REWARDS)
BATCH = dataclasses.replace(MAIN.batch, side=SIDE)
ALL_LOGITS = jnp.concatenate([MAIN.logits, random_case(7, rows=8).logits])


def state_at(entropy, seed=0):
    estimate = EntropyEstimate(jnp.float32(entropy), jnp.zeros(()), jnp.zeros(()))
    return (AEPOState(estimate, jax.random.key(seed), jnp.zeros(())),)


def outputs_of(prepared):
    """What the policy says of the prepared batch: a trainer moves its own arrays by `source`."""
    return Case(prepared, ALL_LOGITS[prepared.source]).outputs()


RIGHT_COUNTS = [
    # estimate, right ones, temperature, learned from
    (0.3, 200, 1.2, 60),
    (0.3, 40, 1.2, 40),
    (0.3, 0, 1.2, 0),
    (0.6, 200, 0.8, 30),
    (0.6, 41, 0.8, 20),
    (0.6, 1, 0.8, 0),
    (0.5, 200, 1.2, 60),
]


@pytest.mark.slow
@pytest.mark.parametrize(("entropy", "right", "temperature", "count"), RIGHT_COUNTS)
def test_numbers_of_the_example(entropy, right, temperature, count):
    """Side groups of five with one right response each, as far as there are right ones."""
    rewards = jnp.zeros((256, 5)).at[jnp.arange(right), 0].set(1.0).reshape(-1)
    side = TokenBatch(jnp.zeros((1280, 1)), jnp.ones((1280, 1), bool), rewards, 5)
    index, found = jax.jit(AEPO().choose)(side, jnp.float32(entropy))
    assert found == count and len(index) == 60
    np.testing.assert_array_equal(index[:count], 5 * np.arange(count))
    found = objectives.make("aepo_arbitrary").sampling(state_at(entropy)).side.temperature
    np.testing.assert_allclose(found, temperature, rtol=1e-6)


def test_share_of_the_batch_in_the_example():
    np.testing.assert_allclose(
        [60 / 2560, 40 / 2560, 30 / 2560, 20 / 2560], [0.023438, 0.015625, 0.011719, 0.007812], atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rewards", "advantages", "chosen"),
    [
        ([1, 0, 0, 0, 0], [1.788850, *[-0.447213] * 4], [0]),
        ([1, 1, 1, 1, 0], [*[0.447213] * 4, -1.788850], [0, 1, 2, 3]),
        ([1, 1, 1, 1, 1], [0] * 5, []),
        ([0, 0, 0, 0, 0], [0] * 5, []),
    ],
)
def test_selection_of_the_example(rewards, advantages, chosen):
    rewards = jnp.array(rewards, jnp.float32)
    np.testing.assert_allclose(group_advantages(rewards[None])[0], advantages, atol=1e-5)
    side = TokenBatch(jnp.zeros((5, 1)), jnp.ones((5, 1), bool), rewards, 5)
    index, count = AEPO().choose(side, jnp.zeros(()))
    assert np.asarray(index)[: int(count)].tolist() == chosen
    index, count = AEPO(side_select="reward").choose(side, jnp.zeros(()))
    assert np.asarray(index)[: int(count)].tolist() == np.flatnonzero(rewards).tolist()


def test_side_responses_are_asked_for():
    objective = objectives.make("aepo_arbitrary")
    side = objective.sampling(objective.init()).side
    assert side.share == 0.25 and side.temperature == 1.2
    assert [side.prompts(count) for count in (1, 3, 4, 7, 512)] == [1, 1, 1, 1, 128]
    assert objectives.make("aepo_arbitrary", side_responses=0).sampling(objective.init()).side is None
    # Asked before the next `prepare`, it must look at the steps already done.
    high = (
        AEPOState(EntropyEstimate(jnp.zeros(()), jnp.float32(1.8), jnp.float32(2)), jax.random.key(0), jnp.zeros(())),
    )
    np.testing.assert_allclose(objective.sampling(high).side.temperature, 0.8, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entropy", "most", "taken"), [(0.3, 60, [0, 4, 5, 6]), (0.6, 60, [0, 4]), (0.3, 3, [0, 4, 5])]
)
def test_rows_are_replaced_from_the_first_on(entropy, most, taken):
    objective = objectives.make("aepo_arbitrary", side_responses=most)
    _, prepared = prepare(objective, state_at(entropy), BATCH)
    _, plain = prepare(objectives.make("grpo"), (), BATCH)
    count = len(taken)
    np.testing.assert_array_equal(prepared.source, [*(index - 8 for index in taken), *range(count, ROWS)])
    np.testing.assert_array_equal(prepared.advantages[:count], SIDE.mask[jnp.array(taken)].astype(float))
    for name in ("mask", "tokens", "logp_old", "rewards"):
        both = np.concatenate([getattr(MAIN.batch, name), getattr(SIDE, name)])[np.asarray(prepared.source)]
        valid = True if both.ndim == 1 else np.asarray(prepared.mask)
        np.testing.assert_array_equal(getattr(prepared, name) * valid, both * valid, err_msg=name)
    assert_close(prepared.advantages[count:], plain.advantages[count:])


def test_ratio_is_one_at_the_first_step():
    objective = objectives.make("aepo_arbitrary")
    state, prepared = prepare(objective, state_at(0.3), BATCH)
    old = jnp.concatenate([MAIN.batch.logits_old, SIDE.logits_old])[prepared.source]
    _, aux = evaluate(objective, state, Case(prepared, old).outputs(), prepared)
    np.testing.assert_allclose([aux.metrics["policy/ratio_min"], aux.metrics["policy/ratio_max"]], 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replace", "add"])
def test_without_side_responses_it_is_the_dual_clip(mode):
    """None wanted, none right, or half of one: the same batch and loss as GRPO."""
    plain = objectives.make("grpo", dual_clip=3.0)
    _, main = prepare(plain, (), MAIN.batch)
    wanted = evaluate(plain, (), MAIN.outputs(), main)[0]
    none = objectives.make("aepo_arbitrary", side_responses=0, side_mode=mode)
    assert_close(evaluate(none, none.init(), MAIN.outputs(), MAIN.batch)[0], wanted, scale=1.0)  # of the tokens' losses
    objective = objectives.make("aepo_arbitrary", side_mode=mode)
    for entropy, rewards in ((0.3, jnp.zeros(8)), (0.3, jnp.ones(8)), (0.9, jnp.zeros(8).at[1].set(1.0))):
        batch = dataclasses.replace(BATCH, side=dataclasses.replace(SIDE, rewards=rewards))
        state, prepared = prepare(objective, state_at(entropy), batch)
        loss, aux = evaluate(objective, state, outputs_of(prepared), prepared)
        assert_close(loss, wanted, scale=1.0)
        assert aux.metrics["side/share"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("entropy", "taken", "factor"), [(0.3, [0, 4, 5, 6], 1.0), (0.6, [0, 4], 0.5)])
@pytest.mark.parametrize(("settings", "weight"), [({}, 60 / ROWS), ({"side_weight": 0.2}, 0.2)])
def test_added_term(entropy, taken, factor, settings, weight):
    """The main batch keeps its loss; the term is the weight times the mean over the responses of their mean -log pi."""
    objective = objectives.make("aepo_arbitrary", side_mode="add", **settings)
    state, prepared = prepare(objective, state_at(entropy), BATCH)
    assert prepared.mask.shape == (ROWS + 8, 5)
    np.testing.assert_array_equal(prepared.source[:ROWS], np.arange(ROWS))
    outputs = outputs_of(prepared)
    plain = objectives.make("grpo", dual_clip=3.0)
    _, main = prepare(plain, (), MAIN.batch)
    logp, mask = np.asarray(outputs.logp[ROWS:]), np.asarray(prepared.mask[ROWS:])
    assert np.any(mask, axis=1).tolist() == [index < len(taken) for index in range(8)]
    means = [-logp[row][mask[row]].mean() for row in range(len(taken))]
    wanted = evaluate(plain, (), MAIN.outputs(), main)[0] + factor * weight * np.mean(means)
    loss, aux = evaluate(objective, state, outputs, prepared)
    assert_close(loss, wanted, scale=1.0)  # of the tokens' losses, which cancel
    assert not np.any(np.asarray(aux.mask[ROWS:]))  # what is measured is of the main batch
    slope = np.asarray(slopes(objective, state, outputs, prepared).logp)
    assert_close(slope[:ROWS], slopes(plain, (), MAIN.outputs(), main).logp)
    each = -factor * weight / len(taken) * mask / np.maximum(mask.sum(1, keepdims=True), 1)
    assert_close(slope[ROWS:], each)


@pytest.mark.slow
def test_added_surrogate():
    """With the reward of 1 as advantage: -min(r, 1 + clip) in place of -log pi."""
    objective = objectives.make("aepo_arbitrary", side_mode="add", side_loss="surrogate", side_weight=1.0)
    state, prepared = prepare(objective, state_at(0.3), BATCH)
    outputs = outputs_of(prepared)
    plain = objectives.make("grpo", dual_clip=3.0)
    _, main = prepare(plain, (), MAIN.batch)
    ratio, mask = np.exp(np.asarray(outputs.logp - prepared.logp_old))[ROWS:], np.asarray(prepared.mask[ROWS:])
    means = [-np.minimum(ratio[row], 1.2)[mask[row]].mean() for row in range(4)]
    wanted = evaluate(plain, (), MAIN.outputs(), main)[0] + np.mean(means)
    assert_close(evaluate(objective, state, outputs, prepared)[0], wanted, scale=1.0)  # of the tokens' losses


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["all", "main"])
@pytest.mark.parametrize("mode", ["replace", "add"])
def test_estimate_of_the_entropy(rows, mode):
    objective = objectives.make("aepo_arbitrary", estimate_rows=rows, side_mode=mode)
    state, prepared = prepare(objective, state_at(0.3), BATCH)
    _, aux = evaluate(objective, state, outputs_of(prepared), prepared)
    counted = np.asarray(prepared.mask) & ((rows == "all") | (np.asarray(prepared.source) >= 0))[:, None]
    np.testing.assert_allclose(
        aux.state[0].estimate.value, -np.asarray(outputs_of(prepared).logp)[counted].mean(), rtol=1e-5
    )
    np.testing.assert_allclose(aux.metrics["entropy/estimate"], 0.3, rtol=1e-6)
    state, _ = prepare(objective, aux.state, BATCH)
    np.testing.assert_allclose(state[0].estimate.before, aux.state[0].estimate.value, rtol=1e-6)  # a quotient


@pytest.mark.slow
def test_minibatches_and_rows_without_side_responses():
    """The minibatch that holds the further responses has the term; the others have none."""
    objective = objectives.make("aepo_arbitrary", side_mode="add", side_weight=1.0)
    state, prepared = prepare(objective, state_at(0.3), BATCH)
    outputs = outputs_of(prepared)
    parts = [prepared.rows(slice(0, ROWS)).as_step(), prepared.rows(slice(ROWS, None)).as_step()]
    _, first = evaluate(objective, state, TokenOutputs(outputs.logp[:ROWS]), parts[0])
    assert first.metrics["side/share"] == 0
    loss, second = evaluate(objective, first.state, TokenOutputs(outputs.logp[ROWS:]), parts[1])
    assert second.metrics["side/share"] == 1 and loss > 0
    logp, mask = np.asarray(outputs.logp), np.asarray(prepared.mask)
    means = [-logp[rows][mask[rows]].mean() for rows in (slice(0, ROWS), slice(ROWS, None))]
    np.testing.assert_allclose(second.state[0].estimate.value, np.mean(means), rtol=1e-5)


@pytest.mark.slow
def test_shuffled_rows_are_the_same_rows():
    still, moved = (objectives.make("aepo_arbitrary", side_shuffle=shuffle) for shuffle in (False, True))
    state, prepared = prepare(still, state_at(0.3), BATCH)
    shuffled_state, shuffled = prepare(moved, state_at(0.3), BATCH)
    assert np.any(shuffled.source != prepared.source)
    assert sorted(shuffled.source.tolist()) == sorted(prepared.source.tolist())
    loss = evaluate(still, state, outputs_of(prepared), prepared)[0]
    found = evaluate(moved, shuffled_state, outputs_of(shuffled), shuffled)[0]
    assert_close(found, loss, scale=1.0)  # of the tokens' losses, summed in another order
    _, again = prepare(moved, shuffled_state, BATCH)
    assert np.any(again.source != shuffled.source)  # another order for the next batch


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replace", "add"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_masked_positions_change_nothing(mode, garbage):
    objective = objectives.make("aepo_arbitrary", side_mode=mode)
    state, prepared = prepare(objective, state_at(0.3), BATCH)
    loss, aux = evaluate(objective, state, outputs_of(prepared), prepared)
    side = with_garbage(Case(SIDE, SIDE.logits_old), garbage).batch
    dirty = dataclasses.replace(with_garbage(MAIN, garbage).batch, side=side)
    state, of_dirty = prepare(objective, state_at(0.3), dirty)
    outputs = TokenOutputs(jnp.where(of_dirty.mask, outputs_of(prepared).logp, garbage))
    found, found_aux = evaluate(objective, state, outputs, of_dirty)
    np.testing.assert_array_equal(found, loss)
    np.testing.assert_array_equal(found_aux.state[0].estimate.value, aux.state[0].estimate.value)
    assert np.isfinite(np.asarray(slopes(objective, state, outputs, of_dirty).logp)).all()


@pytest.mark.slow
def test_statistics_of_other_stages_move_along():
    """With Lp-Reg beside it, the proxies of the side responses come into their rows."""
    aepo, lp_reg = objectives.make("aepo_arbitrary"), objectives.make("lp_reg")
    both = objectives.chain(
        *aepo.stages[:2], *(stage for stage in lp_reg.stages if stage.title == "LpReg"), *aepo.stages[2:]
    )
    state, prepared = prepare(both, both.init(), BATCH)
    _, of_side = prepare(lp_reg, (), SIDE)
    # The whole arrays have dropped tokens at -1e4, beside which nothing else would be seen.
    np.testing.assert_allclose(
        prepared.statistics["proxy_log_prob"][:4],
        of_side.statistics["proxy_log_prob"][jnp.array([0, 4, 5, 6])],
        rtol=1e-5,
        atol=1e-5,
    )
    assert np.isfinite(np.asarray(evaluate(both, state, outputs_of(prepared), prepared)[0]))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["replace", "add"])
def test_what_a_trainer_keeps_of_its_rows_moves_along(mode):
    """The prompt of a response, in `context`; the same order as by `source`."""
    prompts = {"number": jnp.arange(ROWS), "prompt": jnp.arange(3 * ROWS).reshape(ROWS, 3)}
    of_side = {"number": 100 + jnp.arange(8), "prompt": -jnp.arange(24).reshape(8, 3)}
    batch = dataclasses.replace(BATCH, context=prompts, side=dataclasses.replace(SIDE, context=of_side))
    _, prepared = prepare(objectives.make("aepo_arbitrary", side_mode=mode, side_shuffle=True), state_at(0.3), batch)
    for name in prompts:
        by_source = jnp.concatenate([prompts[name], of_side[name]])[prepared.source]
        np.testing.assert_array_equal(prepared.context[name], by_source)
    bare = dataclasses.replace(batch, side=SIDE)
    with pytest.raises(MissingInputError, match=r"TokenBatch\(side=TokenBatch\(context="):
        jax.eval_shape(lambda: objectives.make("aepo_arbitrary").prepare(state_at(0.3), bare))


def test_what_is_missing_is_told():
    objective = objectives.make("aepo_arbitrary")

    def traced(batch):
        return jax.eval_shape(lambda: objective.prepare(objective.init(), batch))

    with pytest.raises(MissingInputError, match=r"AEPO needs side: .*objective.sampling\(state\).side.temperature"):
        traced(MAIN.batch)
    with pytest.raises(MissingInputError, match=r"call prepare\(state, batch\) first"):
        jax.eval_shape(lambda: objective(objective.init(), MAIN.outputs(), BATCH))
    with pytest.raises(MissingInputError, match=r"TokenBatch\(side=TokenBatch\(tokens="):
        bare = dataclasses.replace(MAIN.batch, side=dataclasses.replace(SIDE, tokens=None))
        traced(bare)
    with pytest.raises(ShapeError, match="side must have 5 columns"):
        short = jax.tree.map(lambda leaf: leaf[:, :4] if leaf.ndim > 1 else leaf, SIDE)
        traced(dataclasses.replace(MAIN.batch, side=short))
    with pytest.raises(InvalidSettingError, match="--side-share"):
        objectives.make("aepo_arbitrary", side_share=0.0)


@pytest.mark.slow
def test_sampled_responses_hold_the_entropy_near_its_target():
    """Two arms of three are right, so that any entropy up to log 2 is as good: it goes to the target and stays.

    When it gets there is chance, as between equally good arms the policy wanders: in 40 seeds after 300 to 1,800 updates.
    """
    entropies = np.asarray(controlled())
    np.testing.assert_allclose(entropies[0], np.log(3), atol=0.01)
    assert abs(entropies[3000:].mean() - 0.5) < 0.03
    assert np.abs(entropies[3000:] - 0.5).max() < 0.1


@jax.jit
def controlled():
    """The entropies of a softmax over three arms along 4,000 sampled updates."""
    settings = {"side_responses": 8, "side_share": 1.0, "side_select": "reward", "estimate_from": "vocabulary"}
    objective = objectives.make("aepo_arbitrary", **settings)
    rewarded, rows = jnp.array([1.0, 1.0, 0.0]), 16

    def drawn(key, logits, temperature):
        tokens = jax.random.categorical(key, logits / temperature, shape=(rows, 1))
        logp = jax.nn.log_softmax(logits)[tokens]  # at the temperature of the batch
        return TokenBatch(logp, jnp.ones((rows, 1), bool), rewarded[tokens[:, 0]], rows, tokens=tokens)

    def update(carry, key):
        logits, state = carry
        main_key, side_key = jax.random.split(key)
        batch = drawn(main_key, logits, 1.0)
        batch = dataclasses.replace(batch, side=drawn(side_key, logits, objective.sampling(state).side.temperature))
        state, prepared = objective.prepare(state, batch)

        def loss(values):
            logp = jax.nn.log_softmax(values)[prepared.tokens]
            return objective(state, TokenOutputs(logp, jnp.full(logp.shape, softmax_entropy(values))), prepared)

        slope, aux = jax.grad(loss, has_aux=True)(logits)
        logits = logits - 0.1 * slope
        return (logits, aux.state), softmax_entropy(logits)

    start = jnp.zeros(3), objective.init()
    return jax.lax.scan(update, start, jax.random.split(jax.random.key(learning_seed()), 4000))[1]
