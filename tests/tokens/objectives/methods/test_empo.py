"""EMPO: rewards from agreement alone, which prompts have them, and where that leads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import responses

from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.objectives import AgreementReward
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.methods.empo import cluster_answers, semantic_entropy

EXAMPLE = np.array([0, 1, 0, 2, 0, 1, 0])
OUTPUTS, BATCH = responses()


def batch_of(answers, size=None, rewards=None, **fields):
    count = len(answers)
    given = np.zeros(count, np.float32) if rewards is None else np.asarray(rewards, np.float32)
    return TokenBatch(
        jnp.zeros((count, 1)),
        jnp.ones((count, 1), bool),
        jnp.asarray(given),
        size or count,
        answers=jnp.asarray(answers),
        **fields,
    )


def rewards_of(answers, size=None, **settings):
    return np.asarray(AgreementReward(**settings).prepare((), batch_of(answers, size))[1].rewards)


def advantages_of(name, answers, **settings):
    return np.asarray(objectives.make(name, **settings).prepare((), batch_of(answers))[1].advantages)[:, 0]


@pytest.mark.slow
def test_numbers_of_the_example():
    share = np.array([4, 2, 4, 1, 4, 2, 4]) / 7
    found = rewards_of(EXAMPLE)
    np.testing.assert_allclose(found, share, atol=1e-6)
    np.testing.assert_allclose(found.mean(), 0.428571, atol=1e-6)
    batch = batch_of(EXAMPLE)
    np.testing.assert_allclose(
        semantic_entropy(jnp.asarray(share), Grouping.of(batch)), np.full(7, 0.955700), atol=1e-5
    )
    expected = [0.774592, -0.774592, 0.774592, -1.549185, 0.774592, -0.774592, 0.774592]
    np.testing.assert_allclose(advantages_of("empo", EXAMPLE), expected, atol=1e-5)
    released = [0.774177, -0.774177, 0.774177, -1.548354]
    np.testing.assert_allclose(advantages_of("empo_released", EXAMPLE)[:4], released, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [[4] * 5, [1, 2, 3, 4, 5], [1, 1, 2, 2], [-1, -1, -1]])
def test_agreement_and_disagreement_teach_nothing(answers):
    assert np.all(advantages_of("empo", answers) == 0)
    assert not np.any(AgreementReward().teaches(batch_of(answers)))


@pytest.mark.slow
def test_two_answers_are_a_vote():
    """Then it is GRPO with the majority as the right answer."""
    answers = np.array([3, 3, 8, 3, 8, 3])
    voted = advantages_of("empo", answers, agreement="voting")
    np.testing.assert_allclose(advantages_of("empo", answers), voted, rtol=1e-4)
    plain = objectives.make("grpo").prepare((), batch_of(answers, rewards=answers == 3))[1].advantages[:, 0]
    np.testing.assert_allclose(voted, plain, rtol=1e-5)


@pytest.mark.slow
def test_more_agreement_is_worth_more():
    answers = np.array([1, 1, 1, 2, 2, 3, -1, -1])
    for kind in ("prob", "logprob"):
        found = advantages_of("empo", answers, agreement=kind)
        assert found[0] > found[3] > found[5] == found[6] == found[7]
    np.testing.assert_allclose(rewards_of(answers), np.array([3, 3, 3, 2, 2, 1, 1, 1]) / 8)
    np.testing.assert_allclose(rewards_of(answers, unread_reward="zero")[6:], [0, 0])
    np.testing.assert_array_equal(rewards_of(answers, agreement="format"), [1] * 6 + [0] * 2)


def test_prompts_outside_the_band_have_no_reward():
    answers = np.array([1, 1, 1, 2, 1, 2, 3, 3])  # entropies 0.562335 and 1.039721
    assert (rewards_of(answers, 4, semantic_low=0.6) > 0).tolist() == [False] * 4 + [True] * 4
    assert (rewards_of(answers, 4, semantic_high=0.6) > 0).tolist() == [True] * 4 + [False] * 4
    assert (rewards_of(answers, 4, least_agreement=0.6) > 0).tolist() == [True] * 4 + [False] * 4
    taught = AgreementReward(semantic_high=0.6).teaches(batch_of(answers, 4))
    assert taught.tolist() == [True] * 4 + [False] * 4


@pytest.mark.slow
def test_labels_change_nothing():
    """But for the responses that could not be scored, which are no part of their group."""
    plain = objectives.make("empo").prepare((), batch_of(EXAMPLE))[1].advantages
    other = objectives.make("empo").prepare((), batch_of(EXAMPLE, rewards=np.arange(7)))[1].advantages
    np.testing.assert_array_equal(plain, other)
    unscored = batch_of(EXAMPLE, rewards=[0, 0, 0, np.nan, 0, 0, 0])
    found = objectives.make("empo").prepare((), unscored)[1].advantages[:, 0]
    assert found[3] == 0
    np.testing.assert_allclose(np.delete(found, 3), advantages_of("empo", np.delete(EXAMPLE, 3)), rtol=1e-5)


def test_names_and_places_of_answers_do_not_matter():
    found = rewards_of(EXAMPLE)
    np.testing.assert_array_equal(rewards_of(np.array([7, 3, 9])[EXAMPLE]), found)
    np.testing.assert_array_equal(rewards_of(EXAMPLE[::-1]), found[::-1])


def test_answers_that_are_equal_by_a_test_are_clustered_in_order():
    """a equals b and b equals c, but a not c."""
    equal = np.eye(3, dtype=bool)
    equal[[0, 1, 1, 2], [1, 0, 2, 1]] = True
    order = np.array([1, 0, 2])
    found = cluster_answers(np.stack([equal, equal[order][:, order]]))
    assert found.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert cluster_answers(equal[None], np.array([[True, False, True]])).tolist() == [[0, -1, 1]]
    with pytest.raises(ShapeError, match=r"equal must have shape \(groups, G, G\)"):
        cluster_answers(equal)


@jax.jit
def trained(logits):
    """A policy over answers to one prompt, moved by the expected advantage of its own answers in groups of eight."""
    objective = objectives.make("empo")

    def step(logits, key):
        answers = jax.random.categorical(key, logits, shape=(64 * 8,))
        batch = TokenBatch(jnp.zeros((512, 1)), jnp.ones((512, 1), bool), jnp.zeros(512), 8, answers=answers)
        _, prepared = objective.prepare((), batch)
        gain = prepared.advantages[:, 0, None] * (jax.nn.one_hot(answers, 3) - jax.nn.softmax(logits))
        return logits + 0.3 * gain.mean(axis=0), None

    return jax.nn.softmax(jax.lax.scan(step, logits, jax.random.split(jax.random.key(0), 300))[0])


@pytest.mark.slow
@pytest.mark.parametrize("likeliest", [0, 1])
def test_it_moves_to_the_likeliest_answer_right_or_wrong(likeliest):
    probs = np.full(3, 0.2)
    probs[likeliest] = 0.6
    assert trained(jnp.log(jnp.asarray(probs, jnp.float32)))[likeliest] > 0.9


def test_missing_answers_say_what_to_pass():
    with pytest.raises(MissingInputError, match=r"AgreementReward needs answers: pass TokenBatch\(answers=\[N\]\)"):
        objectives.make("empo").prepare((), dataclasses.replace(BATCH, answers=None))
    with pytest.raises(ShapeError, match="answers must be whole numbers, got float32: of other ids"):
        objectives.make("empo").prepare((), dataclasses.replace(BATCH, answers=jnp.zeros(8)))
