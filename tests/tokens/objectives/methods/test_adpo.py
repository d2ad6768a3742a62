"""ADPO over tokens: the worked numbers, what its gradient is, whole groups, and what it is without any."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from echo_task import SPEC, TASK
from support.closeness import assert_close, rounding
from token_batches import COLUMNS, GROUP, ROWS, prepare, responses

from maxent_rl import losses
from maxent_rl.agents import check_agent
from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import ADPO

ELL, ELL_REF = np.array([-2.0, -1.5, -3.0, -2.5]), np.array([-2.2, -1.4, -2.9, -2.6])
LENGTHS = (3, 1, 2, 4)
PROBABILITIES = [0.307024, 0.211014, 0.211014, 0.270948]
TARGET = [0.484824, 0.015176, 0.015176, 0.484824]
OUTPUTS, BATCH = responses()
AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"]
CENTRED = jnp.repeat(BATCH.rewards.reshape(-1, GROUP).mean(-1), GROUP)
FORMS = ("listwise", "pairwise", "pairwise-hard", "plackett-luce")


@jax.jit
def step(objective, outputs, batch):
    """(loss, gradient in the log-probabilities, metrics), all of one compiled program."""

    def of(logp):
        return objective((), dataclasses.replace(outputs, logp=logp), batch)

    (loss, aux), slope = jax.value_and_grad(of, has_aux=True)(outputs.logp)
    return loss, slope, aux.metrics


def loss_of(objective, outputs, batch):
    return step(objective, outputs, batch)[0]


def slope_of(objective, outputs, batch):
    return step(objective, outputs, batch)[1]


def spread(totals, lengths=LENGTHS):
    """Rows [N, 4] of tokens that add up to the totals, NaN behind the last."""
    shares = np.linspace(0.5, 1.5, 4) * np.ones((len(totals), 1))
    shares = np.where(np.arange(4) < np.asarray(lengths)[:, None], shares, 0.0)
    tokens = totals[:, None] * shares / shares.sum(-1, keepdims=True)
    return jnp.asarray(np.where(shares > 0, tokens, np.nan), jnp.float32)


def worked(rewards=(1.0, 0.0, 0.0, 1.0), rows=slice(0, 4), **settings):
    """(loss, gradient in the tokens, metrics) of the worked example, through the whole pipeline."""
    logp, reference = spread(ELL)[rows], spread(ELL_REF)[rows]
    batch = TokenBatch(reference, ~jnp.isnan(logp), jnp.asarray(rewards), logp.shape[0])
    objective = objectives.make("adpo", **settings)
    return step(objective, TokenOutputs(logp), batch)


@pytest.mark.slow
def test_the_worked_example():
    loss, slope, metrics = worked(scale="group")
    np.testing.assert_allclose(loss, 1.252814, atol=1e-5)
    expected = np.array([-0.222251, 0.244798, 0.244798, -0.267346])
    there = np.arange(4) < np.array(LENGTHS)[:, None]
    np.testing.assert_allclose(slope, np.where(there, expected[:, None], 0.0), atol=1e-5)
    np.testing.assert_allclose(metrics["adpo/divergence"], 0.423707, atol=1e-5)
    np.testing.assert_allclose(metrics["adpo/log_ratio"], 0.125, atol=1e-5)
    np.testing.assert_allclose(metrics["adpo/target_entropy"], 1.252814 - 0.423707, atol=1e-5)
    np.testing.assert_allclose(metrics["adpo/temperature"], 0.8, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expected", "settings", "given"),
    [
        (0.586116, {"adpo_loss": "pairwise"}, {"rewards": (1.0, 0.2), "rows": slice(0, 2)}),
        (0.523123, {"adpo_loss": "pairwise-hard"}, {"rewards": (1.0, 0.2), "rows": slice(0, 2)}),
        (0.937682, {"adpo_loss": "plackett-luce"}, {"rewards": (0.9, 0.1, 0.4, 0.6)}),
        (1.180830, {"adpo_loss": "plackett-luce", "ranking_top": 1}, {"rewards": (0.9, 0.1, 0.4, 0.6)}),
        (
            -np.log(PROBABILITIES) @ [0.904485, 0.001455, 0.017104, 0.076956],
            {"adpo_target": "kde"},
            {"rewards": (0.9, 0.1, 0.4, 0.6)},
        ),
        (-np.log(PROBABILITIES) @ [0.440399, 0.059601, 0.059601, 0.440399], {}, {}),
    ],
)
def test_worked_numbers_of_the_other_forms(expected, settings, given):
    np.testing.assert_allclose(worked(**given, **settings)[0], expected, atol=1e-5)


@pytest.mark.slow
def test_the_temperature_rules():
    """The example of the smooth rule: entropy 0.3 of the largest, rewards 0.2 of the way up: 1.368."""
    mask, size = jnp.ones((6, 2), bool), 2
    logp = jnp.full((6, 2), -0.3 * np.log(10))
    batch = TokenBatch(logp, mask, jnp.array([0.0, 0.0, 0.0, 0.4, 1.0, 1.0]), size)
    smooth = objectives.make("adpo", temperature_rule="smooth", vocabulary_size=10)
    prepared = prepare(smooth, batch)
    found = prepared.statistics["anchor_temperature"][::2, 0]
    np.testing.assert_allclose(found, [0.8 * (1 + 0.15 + 0.7), 1.368, 0.8 * 1.15], rtol=1e-5)
    assert_close(step(smooth, TokenOutputs(logp), batch)[2]["adpo/temperature"], found.mean())
    # A minibatch keeps the temperatures of the whole batch.
    part = prepared.groups(jnp.array([1]))
    assert_close(step(smooth, TokenOutputs(logp[2:4]), part)[2]["adpo/temperature"], found[1])
    even = prepare(smooth, dataclasses.replace(batch, rewards=jnp.ones(6))).statistics["anchor_temperature"]
    np.testing.assert_allclose(even, 0.8 * (1 + 0.15 + 0.7 * 0.5), rtol=1e-5)
    falling = objectives.make("adpo", temperature_rule="falling", temperature_least=0.05)
    uniform = step(falling, TokenOutputs(logp), dataclasses.replace(batch, rewards=jnp.zeros(6)))
    np.testing.assert_allclose(uniform[2]["adpo/temperature"], 0.05, rtol=1e-6)
    alone = dataclasses.replace(batch, group_size=1)
    assert np.isfinite(loss_of(falling, TokenOutputs(logp), alone))
    with pytest.raises(MissingInputError, match="set vocabulary_size, or pass TokenBatch"):
        objectives.make("adpo", temperature_rule="smooth").prepare((), batch)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length_normalize", [False, True])
def test_it_is_the_loss_of_the_likelihoods_of_responses(form, length_normalize):
    """The same value and gradient as if the losses were given the sums (or means) over tokens."""
    objective = objectives.make("adpo", adpo_loss=form, adpo_anchor="reference", length_normalize=length_normalize)

    def by_hand(logp):
        lengths = BATCH.mask.sum(-1) if length_normalize else 1
        sums = jnp.where(BATCH.mask, logp, 0.0).sum(-1) / lengths
        references = jnp.where(BATCH.mask, BATCH.logp_ref, 0.0).sum(-1) / lengths
        scores = (BATCH.rewards - CENTRED).reshape(-1, GROUP)
        logits = losses.anchored_logits(sums.reshape(-1, GROUP), references.reshape(-1, GROUP), 0.8)
        if form == "listwise":
            return losses.anchored_loss(logits, losses.softmax_target(scores, 0.5)).mean()
        if form == "plackett-luce":
            return losses.plackett_luce_loss(logits, scores).mean()
        label_temperature = 0.5 if form == "pairwise" else None
        return losses.masked_mean(*losses.anchored_pair_loss(logits, scores, label_temperature))

    value, slope = jax.value_and_grad(by_hand)(OUTPUTS.logp)
    assert_close(loss_of(objective, OUTPUTS, BATCH), value, scale=1.0)  # of the logits
    assert_close(slope_of(objective, OUTPUTS, BATCH), slope)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_differences(form):
    objective = objectives.make("adpo", adpo_loss=form, kl_weight=0.1, temperature_rule="falling")
    prepared = prepare(objective, BATCH)
    direction = np.random.default_rng(1).normal(size=(ROWS, COLUMNS))
    with jax.enable_x64(True):
        logp = np.asarray(OUTPUTS.logp, np.float64)

        def loss(values):
            return loss_of(objective, dataclasses.replace(OUTPUTS, logp=values), prepared)

        slope = jnp.sum(jax.grad(loss)(logp) * direction)
        numeric = (loss(logp + 1e-5 * direction) - loss(logp - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_equal_rewards_teach_nothing_where_the_policy_is_the_anchor(form):
    """Also where a response's advantage, spread over its tokens and added up again, is not quite another's."""
    on_policy = dataclasses.replace(OUTPUTS, logp=BATCH.logp_old)
    equal = dataclasses.replace(BATCH, rewards=jnp.full(ROWS, 0.1))
    objective = objectives.make("adpo", adpo_loss=form)
    given = prepare(objective, dataclasses.replace(equal, advantages=jnp.full(ROWS, 0.1)))
    most = rounding(4)  # of probabilities less targets, a few operations each
    assert_close(slope_of(objective, on_policy, given), 0.0, most, scale=1.0)
    equal, differing = prepare(objective, equal), prepare(objective, BATCH)
    assert_close(slope_of(objective, on_policy, equal), 0.0, most, scale=1.0)
    assert np.abs(slope_of(objective, on_policy, differing)).max() > 1e-3
    away = np.abs(slope_of(objective, OUTPUTS, equal)).max()  # targets that are uniform hold the policy at the anchor
    assert away > 1e-3 if form in ("listwise", "pairwise") else away == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_response_without_tokens_is_no_candidate(form):
    """The others are compared as if it had never been drawn; a group with none left does not count."""
    objective = objectives.make("adpo", adpo_loss=form)
    rewards = jnp.array([0.3, 1.0, -0.4, 0.7, 0.2, 0.1, 0.9, 0.0])
    mask = BATCH.mask.at[3].set(False).at[4:].set(False)
    fewer = dataclasses.replace(BATCH, mask=mask, advantages=rewards)
    three = dataclasses.replace(BATCH, group_size=1).rows(slice(0, 3))
    three = dataclasses.replace(three, group_size=3, advantages=rewards[:3])
    outputs = TokenOutputs(OUTPUTS.logp[:3])
    assert_close(loss_of(objective, OUTPUTS, fewer), loss_of(objective, outputs, three), scale=1.0)  # of the logits
    slope = slope_of(objective, OUTPUTS, fewer)
    assert_close(slope[:3], slope_of(objective, outputs, three))
    np.testing.assert_array_equal(slope[3:], 0.0)


@pytest.mark.slow
def test_a_response_alone_teaches_nothing():
    for form in FORMS:
        alone = dataclasses.replace(BATCH, group_size=1)
        loss, slope, _ = step(objectives.make("adpo", adpo_loss=form), OUTPUTS, alone)
        assert loss == 0 and np.all(slope == 0)


@pytest.mark.slow
def test_a_weight_of_a_token_weighs_its_own_gradient():
    """As the other stages expect: a token that is passed over does not silence the rest of its response."""

    @functools.partial(jax.jit, static_argnums=0)
    def slope(kept, logp):
        objective = objectives.make("adpo", **({} if kept == 1 else {"top_entropy_share": kept}))
        return jax.grad(lambda logp: loss_of(objective, TokenOutputs(logp, OUTPUTS.entropy), BATCH))(logp)

    whole, half = slope(1, OUTPUTS.logp), slope(0.5, OUTPUTS.logp)
    kept = half != 0
    assert 0 < kept.sum() < BATCH.mask.sum()
    assert_close(half[kept], whole[kept])


@pytest.mark.slow
def test_clips():
    """A log-ratio beyond the bound has no gradient, and no more say."""
    far = TokenOutputs(OUTPUTS.logp.at[0].add(100.0))
    clipped = objectives.make("adpo", log_ratio_most=5.0, anchored_most=6.0)
    assert loss_of(clipped, far, BATCH) < 13 and np.all(slope_of(clipped, far, BATCH)[0] == 0)
    assert loss_of(objectives.make("adpo"), far, BATCH) > 20


@pytest.mark.slow
def test_temperatures_vary_over_a_mapped_axis():
    values = jnp.array([0.4, 0.8])
    tried = jax.vmap(lambda t: loss_of(objectives.make("adpo", anchor_temperature=t), OUTPUTS, BATCH))(values)
    for value, found in zip((0.4, 0.8), tried, strict=True):
        assert_close(found, loss_of(objectives.make("adpo", anchor_temperature=value), OUTPUTS, BATCH))


@pytest.mark.slow
def test_minibatches_are_whole_groups():
    objective = objectives.make("adpo")
    assert objective.whole_groups and not objectives.make("grpo").whole_groups
    prepared = prepare(objective, BATCH)
    parts = [prepared.groups(jnp.array([group])) for group in (1, 0)]
    outputs = [TokenOutputs(OUTPUTS.logp[rows]) for rows in (slice(4, 8), slice(0, 4))]
    means = [loss_of(objective, *given) for given in zip(outputs, parts, strict=True)]
    assert_close(np.mean(means), loss_of(objective, OUTPUTS, BATCH))
    for rows in (jnp.array([0, 1, 2, 4]), slice(1, 5), jnp.arange(3), slice(0, 8, 2)):
        with pytest.raises(ShapeError, match=r"not whole groups of 4, .* cut the batch by TokenBatch.groups"):
            prepared.rows(rows)
    assert prepared.rows(jnp.array([5, 4, 7, 6])).mask.shape == (4, COLUMNS)
    with pytest.raises(ShapeError, match="traced rows are whole groups cannot be seen, and the objective compares"):
        jax.jit(prepared.rows)(jnp.arange(8))
    with pytest.raises(ShapeError, match="6 rows are not whole groups of 4, and ADPO"):
        objective((), TokenOutputs(OUTPUTS.logp[:6]), jax.tree.map(lambda leaf: leaf[:6], prepared))
    moved = dataclasses.replace(prepared, source=jnp.arange(ROWS))
    with pytest.raises(InvalidSettingError, match="another stage"):
        objective((), OUTPUTS, moved)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adpo", "adpo_pair"])
def test_unequal_groups_are_filled_up_with_rows_that_are_no_candidates(name):
    """A group of three, filled up to four: of the two groups' losses, or of the nine pairs', the mean."""
    objective, fill = objectives.make(name), 3
    filled = dataclasses.replace(
        BATCH, mask=BATCH.mask.at[fill].set(False), rewards=BATCH.rewards.at[fill].set(jnp.nan)
    )
    three = dataclasses.replace(jax.tree.map(lambda leaf: leaf[:3], BATCH), group_size=3)
    alone = [
        loss_of(objective, TokenOutputs(OUTPUTS.logp[:3]), three),
        loss_of(objective, TokenOutputs(OUTPUTS.logp[4:]), BATCH.rows(slice(4, 8))),
    ]
    expected = np.average(alone, weights=(3, 6) if name == "adpo_pair" else None)
    loss, slope, _ = step(objective, TokenOutputs(OUTPUTS.logp), filled)
    assert_close(loss, expected)
    assert np.all(slope[fill] == 0)


def test_the_reference_is_asked_for():
    objective = objectives.make("adpo", adpo_anchor="reference")
    with pytest.raises(MissingInputError, match=r"ADPO needs logp_ref: pass TokenBatch\(logp_ref"):
        loss_of(objective, OUTPUTS, dataclasses.replace(BATCH, logp_ref=None))


@pytest.mark.slow
def test_the_agent_draws_minibatches_of_whole_groups(monkeypatch):
    """Traced alone: rows drawn one by one would be compared with those of other prompts."""
    drawn = []
    groups = TokenBatch.groups
    monkeypatch.setattr(TokenBatch, "groups", lambda batch, index: drawn.append(index.shape) or groups(batch, index))
    agent = AGENT.replace(objective="adpo", objective_settings=("adpo_anchor=reference", "temperature_rule=smooth"))
    check_agent(agent, SPEC, "echo")
    state = jax.eval_shape(lambda key: agent.init(key, SPEC), jax.random.key(0))
    jax.eval_shape(lambda state: agent.reinforce(state, TASK, jax.random.key(0), NUM_RESPONSES), state)
    assert set(drawn) == {(NUM_RESPONSES // agent.group_size // agent.num_minibatches,)}
    with pytest.raises(InvalidSettingError, match="so the 4 groups of --group-size 4 must be a multiple"):
        check_agent(agent.replace(num_minibatches=8), SPEC, "echo")


def test_groups_whose_mean_rewards_round_apart_have_the_same_temperature():
    """Means of 0.1 over three and over seven responses differ in the last bit, which is not the whole range of rewards."""
    mask = np.ones((21, 2), bool)
    mask[3:7] = False  # the first group has three responses that count
    batch = TokenBatch(jnp.full((21, 2), -0.5), jnp.array(mask), jnp.full(21, np.float32(0.1)), 7)
    for near in (batch.rewards, batch.rewards.at[14:].set(np.nextafter(np.float32(0.1), np.float32(1)))):
        smooth = objectives.make("adpo", temperature_rule="smooth", vocabulary_size=10)
        found = prepare(smooth, dataclasses.replace(batch, rewards=near)).statistics["anchor_temperature"]
        assert_close(found[::7, 0], jnp.full(3, found[0, 0]))


@pytest.mark.slow
def test_scores_that_round_apart_are_no_ranking():
    near = [0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.3, 0.3]
    scores, there = jnp.array([near, [0.1, 0.3, 0.3, 0.3]]), jnp.ones((2, 4), bool)
    logits = jnp.array([[1.0, 0.0, -1.0, 2.0]] * 2)
    ranking = ADPO(adpo_loss="plackett-luce").group_losses(logits, scores, jnp.full((2, 4), 0.25), there)
    assert ranking[0] == 0 and ranking[1] > 0
