"""The noise study: its scenarios, who learns on them, TRPO's step, tables and figure."""

import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from benchmarks.lab.measure import BenchmarkError
from benchmarks.studies.preference_noise import measure as measuring
from benchmarks.studies.preference_noise import scores
from benchmarks.studies.preference_noise.__main__ import STUDY
from benchmarks.studies.preference_noise.claims import claims
from benchmarks.studies.preference_noise.methods import (
    ALL,
    METHODS,
    Learning,
    Policy,
    Scores,
    dpo_soft,
    make_batches,
    pairwise,
    run_suite,
)
from benchmarks.studies.preference_noise.setting import PreferenceNoise
from benchmarks.studies.preference_noise.task import (
    KINDS,
    SCENARIOS,
    Corruption,
    Sizes,
    corrupt,
    keys_of,
    make_reward,
    make_task,
    stack,
)
from benchmarks.studies.preference_noise.trust import TrustRegion, conjugate_gradient, trust_region_step

SIZES = Sizes(contexts=320, test_contexts=512)
LEARNING = Learning(steps=60, batch_size=32, learning_rate=5e-3, reference_steps=5)
KEYS = keys_of(jnp.int32(0))
SCORES = np.asarray(jax.random.normal(jax.random.key(1), (20_000, 4)))


# One for each way of learning: by pairs, by lists, by a smoothed target, with an anchor of each kind, and by steps of its own.
QUICK = ("reference", "dpo-hard-free", "pairwise-fixed", "listwise-dynamic", "kde-fixed", "ppo", "trpo")

step = jax.jit(partial(trust_region_step, Policy(8, 4).apply), static_argnums=3)


corrupted = jax.jit(lambda corruption: corrupt(jax.random.key(2), SCORES, corruption))


def seen(corruption):
    return np.asarray(corrupted(corruption))


@pytest.mark.slow
def test_there_are_four_kinds_of_three_severities():
    assert len(SCENARIOS) == 12 and list(SCENARIOS)[:2] == ["outliers 1", "outliers 2"]
    for found in KINDS.values():
        for mild, severe in itertools.pairwise(found):
            assert all(after > before for before, after in zip(mild, severe, strict=True) if before > 0)


@pytest.mark.slow
def test_clean_scores_are_the_true_ones():
    np.testing.assert_array_equal(seen(Corruption()), SCORES)


@pytest.mark.slow
@pytest.mark.parametrize("corruption", KINDS["outliers"])
def test_outliers_are_as_many_and_as_large_as_said(corruption):
    added = seen(corruption) - SCORES
    edge, wide = 4.5 * corruption.noise, np.sqrt(25 + corruption.noise**2)  # plain noise stays within the edge
    share = corruption.outliers * 2 * float(jax.scipy.stats.norm.sf(edge / wide))
    np.testing.assert_allclose((np.abs(added) > edge).mean(), share, atol=0.005)
    np.testing.assert_allclose(added.var(), corruption.noise**2 + 25 * corruption.outliers, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("corruption", KINDS["flips"])
def test_flips_reverse_whole_contexts(corruption):
    found = seen(corruption)
    flipped = (found == -SCORES).all(axis=-1)
    np.testing.assert_array_equal(found[~flipped], SCORES[~flipped])
    np.testing.assert_allclose(flipped.mean(), corruption.flips, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("corruption", KINDS["heavy tails"])
def test_cauchy_noise_has_its_scale(corruption):
    """Half of a Cauchy distribution lies within its scale, and 0.64 % beyond a hundred times that."""
    added = np.abs(seen(corruption) - SCORES)
    np.testing.assert_allclose(np.median(added), corruption.cauchy, rtol=0.03)
    np.testing.assert_allclose((added > 100 * corruption.cauchy).mean(), 0.00637, rtol=0.2)


made = jax.jit(lambda corruption: make_task(KEYS, corruption, SIZES))


@pytest.mark.slow
@pytest.mark.parametrize("corruption", KINDS["shift"])
def test_a_shift_moves_the_contexts_tested_on_alone(corruption):
    clean, task = made(Corruption()), made(corruption)
    np.testing.assert_array_equal(task.contexts, clean.contexts)
    np.testing.assert_array_equal(task.scores, clean.scores)
    np.testing.assert_allclose(task.test_contexts - clean.test_contexts, corruption.shift, atol=1e-6)


@pytest.mark.slow
def test_no_item_is_better_than_the_others_on_average():
    contexts = jax.random.normal(jax.random.key(5), (20_000, 16))
    reward = np.asarray(jax.jit(lambda contexts: make_reward(KEYS.reward, SIZES)(contexts))(contexts))
    np.testing.assert_allclose(reward.mean(axis=0), 0.0, atol=0.1)
    np.testing.assert_allclose(reward.std(axis=0), 1.0, atol=0.1)


@pytest.mark.slow
def test_batches_of_a_rollout_hold_no_context_twice():
    batches = make_batches(KEYS.batches, 320, LEARNING)
    assert batches.shape == (6, 10, 32)
    assert all(len(np.unique(rollout)) == 320 for rollout in batches)
    with pytest.raises(ValueError, match="needs more than the 319 contexts"):
        make_batches(KEYS.batches, 319, LEARNING)


@pytest.mark.slow
def test_pairwise_adpo_with_hard_labels_and_a_fixed_anchor_is_dpo():
    log_prob, anchor = (jax.nn.log_softmax(jax.random.normal(jax.random.key(key), (30, 4))) for key in (3, 4))
    scores = SCORES[:30]
    for beta, name in ((0.1, "dpo-hard-0.1"), (1.0, "dpo-hard-1")):
        adpo = pairwise(score_temperature=None, temperature=1 / beta)
        assert_close(
            *(jax.jit(jax.value_and_grad(loss))(log_prob, anchor, scores) for loss in (adpo, METHODS[name].loss))
        )


@pytest.mark.slow
def test_pairwise_adpo_with_soft_labels_and_a_fixed_anchor_is_soft_dpo():
    log_prob, anchor = (jax.nn.log_softmax(jax.random.normal(jax.random.key(key), (30, 4))) for key in (3, 4))
    given = log_prob, anchor, SCORES[:30]
    assert_close(*(jax.jit(loss)(*given) for loss in (METHODS["pairwise-fixed"].loss, dpo_soft(1.25))))


@pytest.mark.slow
def test_conjugate_gradient_solves_by_as_many_turns_as_dimensions():
    matrix = np.array([[3.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, 1.0]], np.float32)
    found = conjugate_gradient(lambda x: matrix @ x, jnp.array([1.0, -2.0, 0.5]), 3)
    np.testing.assert_allclose(matrix @ found, [1.0, -2.0, 0.5], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("corruption", [Corruption(), Corruption(cauchy=1.0)])
def test_a_step_of_trpo_gains_and_keeps_to_its_bound(corruption):
    task, policy = made(corruption), Policy(8, 4)
    params, settings = jax.jit(policy.init)(jax.random.key(3), task.contexts), TrustRegion()
    scores, log_prob = np.asarray(task.scores), jax.jit(policy.apply)
    for _ in range(3):
        old = np.asarray(log_prob(params, task.contexts))
        params, found = step(params, task.contexts, task.scores, settings)
        new = np.asarray(log_prob(params, task.contexts))
        divergence = (np.exp(old) * (old - new)).sum(-1).mean()
        gain = ((np.exp(new) - np.exp(old)) * scores).sum(-1).mean()
        assert 0.2 * settings.bound < divergence <= settings.bound * (1 + 1e-3)  # it uses the bound, too
        np.testing.assert_allclose(divergence, found.divergence, rtol=1e-3)
        assert gain > 0
        np.testing.assert_allclose(gain, found.gain, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_a_step_of_trpo_without_anything_to_gain_stays():
    policy, contexts = Policy(8, 4), jnp.ones((10, 16))
    params = jax.jit(policy.init)(jax.random.key(0), contexts)
    after, found = step(params, contexts, jnp.ones((10, 4)), TrustRegion())
    assert found.length == 0
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, params, after)))


told = []


def learn_from_clean_data(names, first_seed=0):
    seeds = first_seed + jnp.arange(2)
    learned = run_suite(seeds, stack([Corruption()]), 16, SIZES, LEARNING, names, report)
    jax.effects_barrier()
    return jax.device_get(learned)


def report(name, mass):
    told.append(name)


@pytest.fixture(scope="module")
def clean():
    told.clear()
    learned = learn_from_clean_data(QUICK)
    assert sorted(told) == sorted(QUICK)
    return learned


def assert_learned(found, reference):
    assert found.win_mass.shape == (1, 2)
    assert np.all(found.win_mass > reference.win_mass + 0.08)
    assert np.all(found.accuracy > reference.accuracy + 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK[1:])
def test_everyone_learns_from_clean_data(clean, name):
    assert_learned(clean[name], clean["reference"])


@pytest.mark.slow
def test_another_seed_gives_other_numbers(clean):
    other = learn_from_clean_data(QUICK, first_seed=2)
    assert not any(np.allclose(other[name].win_mass, clean[name].win_mass) for name in QUICK)


@pytest.mark.slow
def test_everyone_else_learns_too_and_who_else_learns_changes_nothing(clean):
    others = [name for name in ALL if name not in QUICK]
    found = learn_from_clean_data((*others, "listwise-dynamic"))
    for name in others:
        assert_learned(found[name], clean["reference"])
    np.testing.assert_allclose(found["listwise-dynamic"].win_mass, clean["listwise-dynamic"].win_mass, atol=1e-5)


def result(**win_mass):
    """Results of a method, its WinMass in the first scenario and in the others, for three seeds around it."""
    masses = {
        name: {scenario: [value - 0.01, value, value + 0.01] for scenario, value in zip(SCENARIOS, values, strict=True)}
        for name, values in win_mass.items()
    }
    return {"win_mass": masses, "accuracy": masses}


@pytest.mark.slow
def test_best_counts_gains_and_what_is_certain():
    found = result(a=[0.9] + [0.5] * 11, b=[0.6] * 12)
    assert scores.best_counts(found, ["a", "b"]) == {"a": 1, "b": 11}
    np.testing.assert_allclose(scores.gain(found, "a", "b", ["outliers 1"]), 0.5)
    np.testing.assert_allclose(scores.gain(found, "a", "b", scores.of_kind("shift")), 0.5 / 0.6 - 1)
    assert scores.certain(np.array([0.1, 0.2, 0.1])) and not scores.certain(np.array([0.1, -0.2, 0.1]))
    assert scores.of_kind("heavy tails") == ["heavy tails 1", "heavy tails 2", "heavy tails 3"]


@pytest.mark.slow
def test_claims_stand_beside_what_was_found():
    masses = {name: [0.5] * 12 for name in ALL} | {"listwise-fixed": [0.6] * 12, "trpo": [0.7] * 3 + [0.4] * 9}
    text = claims({64: result(**masses)})
    assert "12 of 12 with fixed anchors; 0 of 12 with dynamic anchors" in text
    assert "listwise, fixed anchor: +20% to +20% over DPO β 0.1" in text
    assert "| TRPO is the best of all | 8 of 12 | 3 of 12 |" in text


@pytest.mark.slow
def test_a_study_goes_on_and_its_tables_and_figure_are_written(tmp_path, capsys, monkeypatch):
    asked = []

    def learn(plan, hidden):
        asked.append(hidden)
        shape = (12, plan.num_seeds)
        masses = {
            name: 0.3 + 0.01 * place + 0.02 * np.random.default_rng(0).random(shape) for place, name in enumerate(ALL)
        }
        return {name: Scores(mass, mass) for name, mass in masses.items()}

    monkeypatch.setattr(measuring, "learn", learn)
    options = {"hidden_sizes": (8, 16), "num_seeds": 3}
    for more, fresh in (
        ({"hidden_sizes": (8,)}, False),
        ({}, False),
        ({"num_seeds": 4}, False),
        ({"num_seeds": 4}, True),
    ):
        assert STUDY.run(PreferenceNoise(**options | more), tmp_path, fresh)["complete"]
    assert asked == [8, 16, 8, 16, 8, 16]
    stored = json.loads((tmp_path / "preference_noise.json").read_text())
    assert (
        stored["hardware"]["cores"] and len(stored["runs"]) == 8 and "shift 1" in stored["runs"][0]["win_mass"]["trpo"]
    )
    assert len(scores.by_size(stored)[4][16]["win_mass"]["trpo"]["shift 1"]) == 4
    text = STUDY.render(tmp_path)
    assert "| TRPO | 0.4" in text and "| claim | paper | here |" in text and "| ADPO KDE, fixed anchor | TRPO |" in text
    assert (tmp_path / "preference_noise.png").stat().st_size > 10_000


@pytest.mark.slow
def test_what_is_unknown_is_said():
    with pytest.raises(BenchmarkError, match="Unknown method 'dpoo'; there are: reference"):
        PreferenceNoise(methods=("dpoo",)).units()
    with pytest.raises(BenchmarkError, match="at least one seed"):
        PreferenceNoise(num_seeds=0).units()


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e4])
def test_a_step_of_trpo_does_not_follow_rounding(value):
    """Scores that differ in their last bits alone raise the expected score by as little, however far a step goes."""
    contexts = jax.random.normal(jax.random.key(1), (10, 16))
    params, settings = jax.jit(Policy(8, 4).init)(jax.random.key(0), contexts), TrustRegion(fisher_share=1.0)
    scores = jnp.full((10, 4), value).at[:, 0].set(np.nextafter(np.float32(value), np.float32(np.inf)))
    assert step(params, contexts, scores, settings)[1].length == 0
    better = scores.at[:, 0].add(1e-3 * abs(value))
    assert step(params, contexts, better, settings)[1].length > 0
