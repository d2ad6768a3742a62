"""COPO: the entropy of answers, the comparison of prompts, and how both advantages are blended."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import loss_of, responses, slope_of

from maxent_rl.errors import MissingInputError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives import Aggregate, BlendedClip, ConsistencyCredit, GroupAdvantage, chain
from maxent_rl.tokens.objectives.grouping import Grouping
from maxent_rl.tokens.objectives.methods.copo import consistency_entropy, global_advantages

REWARDS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0], np.float32)
ANSWERS = np.array([5, 5, 5, 5, 1, 1, 2, 2, 7, 7, 8, 9])
OUTPUTS, BATCH = responses()


def batch_of(rewards=REWARDS, answers=ANSWERS, size=4):
    shape = (len(rewards), 1)
    return TokenBatch(jnp.zeros(shape), jnp.ones(shape, bool), jnp.asarray(rewards), size, answers=jnp.asarray(answers))


def effective(**settings):
    """The advantage of each response of the example that a first step has: minus the gradient of its loss."""
    objective = chain(
        GroupAdvantage(), ConsistencyCredit(**settings), BlendedClip(dual_clip=3.0), Aggregate("seq-mean-token-sum")
    )
    return -12 * np.asarray(slope_of(objective, TokenOutputs(jnp.zeros((12, 1))), batch_of()))[:, 0]


COUNTS = [
    # answers, bits, weight at sharpness 20 and threshold 1.5, at 5 and 1
    ([0] * 6, 0.0, 0.0, 0.006693),
    ([0] * 5 + [1], 0.650022, 0.0, 0.148061),
    ([0] * 3 + [1] * 3, 1.0, 0.000045, 0.5),
    ([0] * 3 + [1] * 2 + [2], 1.459148, 0.306392, 0.908524),
    ([0, 0, 1, 1, 2, 2], 1.584963, 0.845437, 0.949059),
    ([0, 1, 2, 3, 4, 5], 2.584963, 1.0, 0.999638),
]


@pytest.mark.slow
@pytest.mark.parametrize(("answers", "bits", "weight", "softer"), COUNTS)
def test_entropies_and_weights(answers, bits, weight, softer):
    batch = batch_of(np.zeros(6, np.float32), np.array(answers), 6)
    found = consistency_entropy(batch.answers, Grouping.of(batch))
    np.testing.assert_allclose(found, np.full(6, bits), atol=1e-5)
    for settings, expected in (((20.0, 1.5), weight), ((5.0, 1.0), softer)):
        _, prepared = ConsistencyCredit("soft", *settings).prepare((), batch)
        np.testing.assert_allclose(prepared.statistics["copo_local_weight"], np.full((6, 1), expected), atol=1e-5)


@pytest.mark.slow
def test_global_advantages_of_the_example():
    batch = batch_of()
    found = global_advantages(batch.rewards, Grouping.of(batch))
    np.testing.assert_allclose(found, np.repeat([0.999998, -0.999998, 0], 4), atol=1e-5)


EFFECTIVE = [
    ({}, [0.999998] * 4 + [-0.999953] * 4 + [0.433012] * 2 + [-0.433012] * 2),
    ({"copo_blend": "soft-zero"}, [0.999998] * 4 + [-0.999998] * 4 + [0.433012] * 2 + [0] * 2),
    (
        {"copo_sharpness": 5.0, "copo_threshold": 1.0},
        [0.993305] * 4 + [-0.499999] * 4 + [0.800329] * 2 + [-0.800329] * 2,
    ),
    ({"copo_blend": "global"}, [0.999998] * 4 + [-0.999998] * 4 + [0] * 4),
    ({"copo_blend": "local"}, [0] * 8 + [0.866024] * 2 + [-0.866024] * 2),
    ({"copo_blend": "forced"}, [0.999998] * 4 + [-0.999998] * 4 + [0.866024] * 2 + [-0.866024] * 2),
    ({"copo_blend": "zero"}, [0] * 4 + [-0.999998] * 4 + [0.866024] * 2 + [0] * 2),
    ({"copo_blend": "soft-forced"}, [0.999998] * 4 + [-0.999998] * 4 + [0.433012] * 2 + [-0.433012] * 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "expected"), EFFECTIVE)
def test_advantages_of_the_example(settings, expected):
    np.testing.assert_allclose(effective(**settings), expected, atol=1e-5)


def test_consistency_multiplies_the_global_reward():
    """From 1 at full agreement to 1 over the group's size."""
    batch = batch_of()
    groups = Grouping.of(batch)
    found = global_advantages(batch.rewards, groups, consistency_entropy(batch.answers, groups))
    mean = np.array([1.0, 0.0, 0.5 * 0.4375])
    np.testing.assert_allclose(found[::4], (mean - mean.mean()) / (mean.std(ddof=1) + 1e-6), atol=1e-5)


@pytest.mark.slow
def test_one_prompt_and_equal_prompts_are_compared_with_nothing():
    one = batch_of(REWARDS[8:], ANSWERS[8:])
    assert np.all(global_advantages(one.rewards, Grouping.of(one)) == 0)
    equal = batch_of(np.full(12, 0.1, np.float32))
    assert np.all(global_advantages(equal.rewards, Grouping.of(equal)) == 0)


@pytest.mark.slow
def test_prompts_of_any_size_count_once():
    rewards = np.array([1.0, 1, 0, 0, 0, 1], np.float32)
    index = jnp.array([4, 4, 4, 4, 2, 9])
    _, batch = responses(
        rewards=np.append(rewards, [np.nan, 0]),
        group_size=1,
        group_index=jnp.append(index, jnp.array([9, 9])),
        lengths=(1,) * 7 + (0,),
    )
    found = np.asarray(global_advantages(jnp.where(batch.scored, batch.rewards, 0), Grouping.of(batch)))
    mean = np.array([0.5, 0, 1])
    expected = (mean - 0.5) / 0.500001
    np.testing.assert_allclose(found, [*[expected[0]] * 4, expected[1], expected[2], 0, 0], atol=1e-6)


@pytest.mark.slow
def test_limits_of_the_threshold():
    local = loss_of(objectives.make("copo", copo_threshold=-1e3), OUTPUTS, BATCH)
    plain = objectives.make("grpo", dual_clip=3.0, aggregation="seq-mean-token-mean")
    np.testing.assert_allclose(local, loss_of(plain, OUTPUTS, BATCH), rtol=1e-5)
    only = loss_of(objectives.make("copo", copo_threshold=1e3), OUTPUTS, BATCH)
    np.testing.assert_allclose(only, loss_of(objectives.make("copo", copo_blend="global"), OUTPUTS, BATCH), rtol=1e-5)


@pytest.mark.slow
def test_the_blend_is_of_two_clipped_losses():
    """Off the policy that is not the clipped loss of the blended advantage."""
    objective = objectives.make("copo", copo_sharpness=0.0)
    _, prepared = objective.prepare((), BATCH)
    both = [
        dataclasses.replace(BATCH, advantages=values)
        for values in (prepared.advantages, prepared.statistics["copo_global"])
    ]
    plain = objectives.make("grpo", dual_clip=3.0, aggregation="seq-mean-token-mean", clip_low=0.05, clip_high=0.05)
    narrow = objectives.make("copo", copo_sharpness=0.0, clip_low=0.05, clip_high=0.05)
    losses = [float(loss_of(plain, OUTPUTS, batch)) for batch in both]
    np.testing.assert_allclose(loss_of(narrow, OUTPUTS, BATCH), np.mean(losses), rtol=1e-5)
    blended = dataclasses.replace(BATCH, advantages=sum(batch.advantages for batch in both) / 2)
    assert abs(float(loss_of(plain, OUTPUTS, blended)) - np.mean(losses)) > 1e-4


def test_missing_answers_say_what_to_pass():
    words = r"ConsistencyCredit needs answers: pass TokenBatch\(answers=\[N\]\), equal whole numbers for responses with"
    with pytest.raises(MissingInputError, match=words):
        objectives.make("copo").prepare((), dataclasses.replace(BATCH, answers=None))
    with pytest.raises(MissingInputError, match="BlendedClip needs the global advantages of ConsistencyCredit"):
        jax.eval_shape(chain(GroupAdvantage(), BlendedClip(), Aggregate()), (), OUTPUTS, BATCH)
