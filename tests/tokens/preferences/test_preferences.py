"""Preferences over tokens: the worked numbers, what is masked, who is told what; and a model that learns from pairs."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.closeness import assert_close
from support.seeds import learning_seed

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError, UnknownNameError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens import LanguageModel, PreferenceBatch, Prompted, TokenOutputs, preference_loss, preferences
from maxent_rl.tokens.tasks.copy_reverse import CopyReverse

LENGTHS = jnp.array([10, 12])
every = pytest.mark.parametrize("name", preferences.names())
OF_THE_BATCH = {"aot", "aot_unpaired"}  # pairs are compared by their ranks among all; kto's baseline is said apart


def spread(totals, lengths, columns=12):
    """Rows of tokens that add up to the totals, NaN behind the last."""
    there = jnp.arange(columns) < lengths[:, None]
    return jnp.where(there, jnp.asarray(totals)[:, None] / lengths[:, None], jnp.nan), there


def random_pairs(seed=0, rows=8, columns=5):
    """(logp, batch with everything that any loss asks for, logp of mismatched responses)."""
    draw = np.random.default_rng(seed)
    lengths = np.array([5, 3, 4, 1, 2, 5, 3, 4])[:rows]
    mask = np.arange(columns) < lengths[:, None]
    logp, reference, other, other_reference = -draw.gamma(2.0, size=(4, rows, columns))
    batch = PreferenceBatch(
        mask, reference, target=draw.uniform(0.5, 1.0, rows // 2),
        mismatched_mask=np.roll(mask, 2, axis=0), mismatched_logp_ref=other_reference,
    )  # fmt: skip
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, None if leaf.dtype == bool else jnp.float32), (logp, batch, other)
    )


@functools.partial(jax.jit, static_argnames="name")
def step(name, logp, batch, other=None):
    """(loss of each pair, aux, gradient of their mean in the log-probabilities)."""

    def of(logp):
        loss, aux = preference_loss(name, logp, batch, other)
        return losses.masked_mean(loss, aux.counts), (loss, aux)

    slope, (loss, aux) = jax.grad(of, has_aux=True)(logp)
    return loss, aux, slope


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("dpo", {}, 0.620957),
        ("cdpo", {}, 0.635957),
        ("soft", {"target": 0.9}, 0.635957),
        ("robust", {}, 0.602207),
        ("ipo", {}, 12.25),
        ("ipo", {"length_average": True}, (0.1 + 0.5 / 12 - 5.0) ** 2),
        ("hinge", {}, 0.85),
        ("adpo_pair", {"anchor_temperature": 10.0}, 0.620957),
        ("adpo_pair", {"anchor_temperature": 10.0, "reward_temperature": 1.0}, 0.620957 + 0.15 * 0.268941),
        ("simpo", {}, 1.313262),
        ("rpo", {}, 0.620957 + 1.0),
        ("rpo", {"likelihood_weight": 0.5}, 0.620957 + 0.5),
        ("cpo", {}, math.log1p(math.exp(-0.2)) + 10.0),
        ("orpo", {}, 1.0 + 0.1 * math.log(2.0)),  # both have a mean of -1 nat per token: equal odds
    ],
)
def test_worked_numbers(name, settings, expected):
    """logp (-10, -12), reference (-11, -11.5), beta 0.1, lengths 10 and 12: the margin is 1.5."""
    logp, mask = spread([-10.0, -12.0], LENGTHS)
    reference, _ = spread([-11.0, -11.5], LENGTHS)
    loss, aux = preference_loss(name, logp, PreferenceBatch(mask, reference), **settings)
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)
    assert aux.counts.tolist() == [True]
    np.testing.assert_allclose(aux.metrics["preference/displacement_chosen"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["preference/displacement_rejected"], -0.5, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["preference/logp_chosen"], -10.0, rtol=1e-5)
    if name == "dpo":
        np.testing.assert_allclose(aux.rewards, [[0.1, -0.05]], rtol=1e-5)
        assert aux.metrics["preference/accuracy"] == 1
        np.testing.assert_allclose(aux.metrics["preference/margin"], 0.15, rtol=1e-5)


# Of three tokens, two, one and four, the first and the third row chosen; the reference 0.9 times as many nats.
NATS = np.array([[-1.0, -0.5, -2.0, 0.0], [-0.3, -0.7, 0, 0], [-0.2, 0, 0, 0], [-1.5, -0.4, -0.9, -0.1]])
THERE = np.arange(4) < np.array([[3], [2], [1], [4]])


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("rpo", {}, 1.376065),  # the paper's: each response by its own tokens
        ("rpo", {"likelihood_average": "batch"}, 1.617732),  # TRL's ["sigmoid", "sft"]
        ("rpo", {"likelihood_average": "none"}, 1.376065 - (3.5 / 3 + 0.2) / 2 + (3.5 + 0.2) / 2),
        ("orpo", {}, 0.766958),
        ("orpo", {"likelihood_average": "batch"}, 1.008624),  # TRL's
        ("cpo", {}, 2.546586),  # the paper's sum
        ("cpo", {"likelihood_average": "batch"}, 1.621586),  # TRL's with cpo_alpha 1
        ("cpo", {"likelihood_average": "batch", "likelihood_weight": 0.0}, 1.621586 - 3.7 / 4),
        ("cpo", {"likelihood_average": "response"}, 2.546586 - 3.7 / 2 + (3.5 / 3 + 0.2) / 2),
    ],
)
def test_forms_of_the_likelihood(name, settings, expected):
    """The papers' and TRL's, by hand: -logsigmoid(0.1 margin) and so much of 3.5 nats in three tokens and 0.2 in one."""
    batch = PreferenceBatch(jnp.asarray(THERE), logp_ref=jnp.asarray(0.9 * NATS))
    loss, aux = preference_loss(name, jnp.asarray(NATS), batch, **settings)
    np.testing.assert_allclose(losses.masked_mean(loss, aux.counts), expected, atol=1e-5)


@pytest.mark.slow
@every
def test_a_pair_that_the_reference_did_not_score_does_not_count(name):
    """One token of it without a finite log-probability would make the mean over all pairs NaN, or infinite."""
    logp, batch, other = random_pairs()
    plain = step(name, logp, batch, other)[0]
    for odd in (jnp.nan, -jnp.inf):
        unscored = dataclasses.replace(batch, logp_ref=batch.logp_ref.at[2, 1].set(odd))
        loss, found, slope = step(name, logp, unscored, other)
        counts = np.ones(len(plain), bool)
        if getattr(preferences.make(name), "reference", True):
            counts[2 if name == "kto" else 1] = False
        np.testing.assert_array_equal(found.counts, counts)
        if name not in OF_THE_BATCH:
            np.testing.assert_array_equal(loss, np.where(counts, plain, 0.0))
        assert np.isfinite(slope).all() and all(np.isfinite(value) for value in found.metrics.values())


@pytest.mark.slow
@every
def test_it_is_said_whether_a_pair_depends_on_those_beside_it(name):
    """Where it does, a loss is not the mean over the parts of a batch."""
    logp, batch, other = random_pairs()
    changed = jnp.where(jnp.arange(8)[:, None] % 2 == 0, 5.0, 0.01) * logp  # the order of all margins, too
    other = 0.1 * other  # likelier than the reference finds it: kto's baseline is not below 0
    beside = jnp.arange(8)[:, None] >= 4
    moved = step(name, jnp.where(beside, changed, logp), batch, jnp.where(beside, 2 * other, other))[0]
    apart = np.abs(np.asarray(moved - step(name, logp, batch, other)[0]))
    assert (apart[: len(apart) // 2].max() > 1e-3) == preferences.make(name).whole_batch
    assert apart.max() > 1e-3


def test_settings_may_make_pairs_depend_on_each_other():
    for name, settings in (("rpo", {"likelihood_average": "batch"}), ("bco", {"reward_shift": "batch"})):
        loss = preferences.make(name, **settings)
        assert loss.whole_batch and not preferences.make(name).whole_batch
        assert preferences.mixture((preferences.make("dpo"), 1.0), (loss, 1.0)).whole_batch
    assert not preferences.mixture((preferences.make("dpo"), 1.0)).whole_batch


@every
def test_a_mask_of_labels_is_refused(name):
    logp, batch, other = random_pairs()
    with pytest.raises(ShapeError, match="The mask must be booleans, or zeros and ones, got -100"):
        preference_loss(name, logp, dataclasses.replace(batch, mask=jnp.where(batch.mask, 5, -100)), other)


@pytest.mark.slow
@pytest.mark.usefixtures("half_precision")
@every
def test_preferences_of_half_precision_are_finite(name):
    """Of responses of some hundred nats, whose sums and squares float16 does not have."""
    logp, batch, other = random_pairs()
    given = jax.tree.map(
        lambda leaf: (300 * leaf).astype(jnp.float16) if leaf.dtype == jnp.float32 else leaf, (logp, batch, other)
    )
    batch = dataclasses.replace(given[1], target=batch.target.astype(jnp.float16))
    loss, _, slope = step(name, given[0], batch, given[2])
    assert loss.dtype == jnp.float32 and np.isfinite(loss).all()
    assert slope.dtype == jnp.float16 and np.isfinite(slope).all()


def test_worked_numbers_of_kto():
    """With a baseline of 0.2: from log-ratios of -0.3 and 0.7 of responses to other prompts."""
    logp, mask = spread([-10.0, -12.0], LENGTHS)
    reference, _ = spread([-11.0, -11.5], LENGTHS)
    other, other_mask = spread([-1.3, -1.3], LENGTHS[::-1])
    other_reference, _ = spread([-1.0, -2.0], LENGTHS[::-1])
    batch = PreferenceBatch(mask, reference, mismatched_mask=other_mask, mismatched_logp_ref=other_reference)
    loss, aux = preference_loss("kto", logp, batch, other)
    np.testing.assert_allclose(loss, [0.480011, 0.482507], rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["preference/baseline"], 0.2, rtol=1e-5)
    labelled = dataclasses.replace(batch, desirable=jnp.array([False, True]))
    swapped, _ = preference_loss("kto", logp, labelled, other, desirable_weight=2.0)
    np.testing.assert_allclose(swapped, [1 - 0.480011, 2 * (1 - 0.482507)], rtol=1e-5)
    slope = jax.grad(lambda other: jnp.sum(preference_loss("kto", logp, batch, other)[0]))(jnp.nan_to_num(other))
    assert np.all(slope == 0)


@pytest.mark.slow
def test_dpo_is_the_anchored_pair_with_the_reference_as_anchor():
    """At the temperature 1 / beta, in value and gradient; of either, the gradient is that of the sums over tokens."""
    logp, batch, _ = random_pairs()

    def of(logp, name, **settings):
        return jnp.mean(preference_loss(name, logp, batch, **settings)[0])

    dpo, dpo_slope = jax.value_and_grad(of)(logp, "dpo", beta=0.4)
    pair, pair_slope = jax.value_and_grad(of)(logp, "adpo_pair", anchor_temperature=1 / 0.4)
    assert_close(dpo, pair)
    assert_close(dpo_slope, pair_slope)
    ratio = jnp.sum(jnp.where(batch.mask, logp - batch.logp_ref, 0.0), axis=-1)
    steepness = -0.4 * jax.nn.sigmoid(-0.4 * (ratio[::2] - ratio[1::2])) / 4
    expected = jnp.stack([steepness, -steepness], axis=-1).reshape(-1, 1) * batch.mask
    assert_close(dpo_slope, expected)


@every
def test_a_pair_is_a_pair_whatever_surrounds_it(name):
    """Masked places may hold NaN; a pair without one of its responses does not count; jit and vmap change nothing."""
    logp, batch, other = random_pairs()
    loss, aux, slope = step(name, logp, batch, other)
    assert np.isfinite(loss).all() and all(np.isfinite(value) for value in aux.metrics.values())
    assert aux.counts.all() and {"preference/loss", "preference/accuracy", "preference/margin"} <= set(aux.metrics)
    learned = batch.mask if name != "likelihood" else batch.mask & (jnp.arange(8) % 2 == 0)[:, None]
    assert np.all(slope[~learned] == 0) and np.all(np.abs(slope[learned]) > 0)
    waste = jnp.where(batch.mask, 0.0, jnp.nan)
    dirty = dataclasses.replace(
        batch,
        logp_ref=batch.logp_ref + waste,
        mismatched_logp_ref=batch.mismatched_logp_ref + jnp.roll(waste, 2, axis=0),
    )
    for one, two in zip(
        jax.tree.leaves((loss, aux, slope)),
        jax.tree.leaves(step(name, logp + waste, dirty, other + jnp.roll(waste, 2, axis=0))),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
    eager, eager_aux = preference_loss(name, TokenOutputs(logp), batch, other)
    assert_close(eager, loss)
    assert_close(eager_aux.rewards, aux.rewards)
    less = dataclasses.replace(batch, mask=batch.mask.at[1].set(False).at[4].set(False).at[5].set(False))
    partly, partly_aux, partly_slope = step(name, logp, less, other)
    rows = np.asarray(less.mask).any(axis=-1)
    counts = rows if name == "kto" else rows.reshape(-1, 2).all(axis=-1)  # kto has no pairs
    np.testing.assert_array_equal(partly_aux.counts, counts)
    if name not in OF_THE_BATCH:
        assert_close(partly, np.where(counts, loss, 0.0))
    assert np.isfinite(partly_slope).all() and np.all(partly_slope[4:6] == 0)
    nothing = dataclasses.replace(batch, mask=jnp.zeros_like(batch.mask))
    empty, empty_aux, empty_slope = step(name, logp, nothing, other)
    assert np.all(empty == 0) and np.all(empty_slope == 0) and not empty_aux.counts.any()
    assert all(np.isfinite(value) for value in empty_aux.metrics.values())


@pytest.mark.slow
@every
def test_settings_vary_over_a_mapped_axis(name):
    logp, batch, other = random_pairs()
    numbers = {key: value for key, value in preferences.settings(name).items() if isinstance(value, float)}
    if not numbers:  # likelihood
        return
    setting, value = next(iter(numbers.items()))
    values = jnp.array([value, 0.9 * value])
    if setting == "epsilon":  # structural, of exo alone
        return
    found = jax.vmap(lambda one: preference_loss(name, logp, batch, other, **{setting: one})[0])(values)
    for row, one in zip(found, (value, 0.9 * value), strict=True):
        expected = preference_loss(name, logp, batch, other, **{setting: one})[0]
        assert_close(row, expected)


def test_where_the_policy_is_the_reference():
    logp, batch, other = random_pairs()
    batch = dataclasses.replace(batch, logp_ref=logp)
    for name, expected in (
        ("dpo", math.log(2)),
        ("cdpo", math.log(2)),
        ("robust", math.log(2)),
        ("ipo", 25.0),
        ("hinge", 1.0),
    ):
        loss, aux, _ = step(name, logp, batch, other)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert aux.metrics["preference/displacement_chosen"] == 0 and aux.metrics["preference/accuracy"] == 0


def test_long_responses_keep_their_digits():
    """4,000 tokens that sum to -10,000 nats, where single precision has steps of 0.001: the margin is exact all the same."""
    step_size = 2.0**-20
    reference = jnp.round(-2.5 * jax.random.uniform(jax.random.key(0), (2, 4_000)) * 2 - 0.5, 2)
    reference = jnp.round(reference / step_size) * step_size
    logp = reference + step_size * jnp.array([[1.0], [-1.0]])
    loss, aux = preference_loss("dpo", logp, PreferenceBatch(jnp.ones(logp.shape, bool), reference))
    np.testing.assert_allclose(aux.metrics["preference/displacement_chosen"], 4_000 * step_size, rtol=1e-5)
    np.testing.assert_allclose(loss, math.log1p(math.exp(-0.1 * 8_000 * step_size)), rtol=1e-5)


def test_minibatches_and_mismatched_responses():
    logp, batch, _ = random_pairs()
    batch = dataclasses.replace(batch, tokens=jnp.arange(40).reshape(8, 5), context={"row": jnp.arange(8)})
    part = batch.pairs(jnp.array([3, 0]))
    assert part.context["row"].tolist() == [6, 7, 0, 1]
    np.testing.assert_array_equal(part.target, batch.target[jnp.array([3, 0])])
    whole, _ = preference_loss("soft", logp, batch)
    assert_close(preference_loss("soft", logp[jnp.array([6, 7, 0, 1])], part)[0], whole[jnp.array([3, 0])])
    rows = preferences.mismatched(jnp.arange(8))
    assert rows.tolist() == [6, 7, 0, 1, 2, 3, 4, 5]  # of no row that of its own pair, which has the same prompt
    assert preferences.mismatched({"mask": jnp.arange(3)}, paired=False)["mask"].tolist() == [2, 0, 1]


def test_names_and_settings():
    for name in preferences.names():
        assert preferences.make(name, **preferences.settings(name)) == preferences.make(name)
    with pytest.raises(UnknownNameError, match=r"Unknown preference loss 'dpoo'. Did you mean 'dpo'"):
        preferences.make("dpoo")
    with pytest.raises(UnknownNameError, match=r"hyper-parameter of dpo 'betta'. Did you mean 'beta'"):
        preferences.make("dpo", betta=0.1)
    with pytest.raises(UnknownNameError, match="What other trainers call label_smoothing is flip_probability, of cdpo"):
        preferences.make("dpo", label_smoothing=0.1)
    with pytest.raises(InvalidSettingError, match="--beta must be greater than 0, got 0"):
        preferences.make("dpo", beta=0.0)
    with pytest.raises(InvalidSettingError, match="--flip-probability must be at least 0 and less than"):
        preferences.make("robust", flip_probability=0.5)


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        (
            "dpo",
            {"logp_ref": None},
            MissingInputError,
            r"DPO needs logp_ref: pass PreferenceBatch\(logp_ref=\[2B, T\]\)",
        ),
        ("soft", {"target": None}, MissingInputError, r"SoftDPO needs target: pass PreferenceBatch\(target=\[B\]\)"),
        ("kto", {"mismatched_mask": None}, MissingInputError, "KTO needs responses to other prompts"),
        ("dpo", {"mask": jnp.ones((8, 4))}, ShapeError, r"mask must have shape \(8, 5\), as logp; got \(8, 4\)"),
        ("dpo", {"logp_ref": jnp.ones(8)}, ShapeError, r"logp_ref must have shape \(8, 5\)"),
        ("soft", {"target": jnp.ones(8)}, ShapeError, r"target must have shape \(4,\); got \(8,\)"),
        ("kto", {"desirable": jnp.ones(4)}, ShapeError, r"desirable must have shape \(8,\); got \(4,\)"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(name, changes, error, message):
    logp, batch, other = random_pairs()
    with pytest.raises(error, match=message):
        preference_loss(name, logp, dataclasses.replace(batch, **changes), other)
    with pytest.raises(ShapeError, match="7 rows are no pairs"):
        preference_loss("orpo", logp[:7], PreferenceBatch(batch.mask[:7]))
    for name in ("simpo", "orpo", "cpo"):  # which have no reference
        _, aux = preference_loss(name, logp, PreferenceBatch(batch.mask))
        assert "preference/displacement_chosen" not in aux.metrics


TASK = CopyReverse(letters=3, longest=4)
CONFIG = TransformerConfig(
    vocabulary_size=TASK.vocabulary_size, hidden_size=32, num_layers=1, num_heads=2, num_key_value_heads=1, head_size=16,
    intermediate_size=32, qk_norm=True,
)  # fmt: skip


def checked_pairs(key, count, held_out=False):
    """Right answers, and the same with another first letter, which the checker calls wrong."""
    prompt_key, answer_key, letter_key = jax.random.split(key, 3)
    prompts, prompt_mask = TASK.prompts(prompt_key, count, held_out)
    right, mask = TASK.demonstrations(answer_key, prompts)
    shift = jax.random.randint(letter_key, (count, 1), 1, 3)
    wrong = right.at[:, :1].set(2 + (right[:, :1] - 2 + shift) % 3)
    rewards = jnp.stack([TASK.reward(prompts, answers, mask) for answers in (right, wrong)])
    tokens = jnp.stack([right, wrong], axis=1).reshape(2 * count, -1)
    prompts, prompt_mask, mask = (jnp.repeat(rows, 2, axis=0) for rows in (prompts, prompt_mask, mask))
    return PreferenceBatch(mask, tokens=tokens, context=Prompted(prompts, prompt_mask, mask)), rewards


def log_probs(params, batch):
    return LanguageModel(CONFIG, params).statistics(batch.context, batch.tokens).logp


@functools.partial(jax.jit, static_argnums=0)
def fine_tuned(name, reference, key):
    """What is measured on 200 held-out pairs after 200 steps on 64 pairs each."""
    optimizer = optax.adam(3e-3)

    def judged(params, batch):
        batch = dataclasses.replace(batch, logp_ref=log_probs(reference, batch))
        loss, aux = preference_loss(name, log_probs(params, batch), batch)
        return losses.masked_mean(loss, aux.counts), aux.metrics

    def learn(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(judged, has_aux=True)(params, checked_pairs(key, 64)[0])[0], state)
        return (optax.apply_updates(params, updates), state), None

    carry = (reference, optimizer.init(reference))
    (params, _), _ = jax.lax.scan(learn, carry, jax.random.split(key, 200))
    return judged(params, checked_pairs(jax.random.key(2), 200, held_out=True)[0])[1]


@pytest.mark.slow
def test_a_model_learns_which_answers_are_right():
    """Held-out prompts, answers that differ in one letter. DPO makes the right ones less likely too; with their likelihood
    in the loss they become likelier.

    DPO gets 0.99 of them right over 20 seeds, with deviation 0.03 and 0.89 in the worst; an untrained model a half.
    """
    _, rewards = checked_pairs(jax.random.key(2), 200, held_out=True)
    assert rewards[0].all() and not rewards[1].any()
    reference = LanguageModel.create(CONFIG, jax.random.key(learning_seed(0))).params
    found = {name: fine_tuned(name, reference, jax.random.key(learning_seed(1))) for name in ("dpo", "rpo")}
    for metrics in found.values():
        assert metrics["preference/accuracy"] > 0.8 and metrics["preference/margin"] > 0.5
    assert found["dpo"]["preference/displacement_chosen"] < -1 < 1 < found["rpo"]["preference/displacement_chosen"]
