"""SRPO and SDPO: who learns from what, worked numbers, limits; and the mixture of advantages that SRPO is compared with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from token_batches import ROWS, loss_of, responses, slope_of

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.objectives.methods.srpo import certainty_weights

ENTROPY = jnp.array([[0.2, 1.0], [0.5, 1.3]])
WEIGHTS = [[1.585403, 0.712367], [1.174495, 0.527735]]


def example(**changes):
    """Check 9 of the sheet: four responses of two tokens on policy, the second and the fourth wrong."""
    logp = jnp.log(jnp.full((4, 2), 0.4))
    rows = jnp.array([1, 3])
    compared = {
        "divergence": jnp.full((4, 2), jnp.nan).at[rows].set(jnp.array([[0.1, 0.3], [0.2, 0.05]])),
        "teacher_entropy": jnp.full((4, 2), jnp.nan).at[rows].set(ENTROPY),
    }
    rewards = jnp.array([1.0, 0, 1, 0])
    batch = TokenBatch(logp, jnp.ones((4, 2), bool), rewards, group_size=4, taught=jnp.ones(4, bool))
    return TokenOutputs(logp, compared=compared), dataclasses.replace(batch, **changes)


@pytest.mark.parametrize(("settings", "loss"), [({}, -0.170808), ({"scale": "group"}, -0.353820)])
def test_the_worked_example(settings, loss):
    """Whatever is said of rows that are not routed, nothing is read of it."""
    objective = objectives.make("srpo", **settings)
    assert loss_of(objective, *example()) == pytest.approx(loss, abs=1e-5)


def test_weights_of_the_worked_example_have_the_mean_1_and_do_not_move_with_all_entropies():
    there = jnp.ones((2, 2), bool)
    run = jax.jit(certainty_weights)
    np.testing.assert_allclose(run(ENTROPY, there, 1.0), WEIGHTS, atol=1e-6)
    np.testing.assert_allclose(run(ENTROPY + 300.0, there, 1.0), WEIGHTS, atol=1e-4)
    np.testing.assert_array_equal(run(ENTROPY, there, 0.0), np.ones((2, 2)))
    few = run(ENTROPY, jnp.array([[True, False], [True, False]]), 5.0)
    assert np.all(few[:, 1] == 0) and np.sum(few) == pytest.approx(2) and few[0, 0] > few[1, 0]
    np.testing.assert_array_equal(run(ENTROPY, ~there, 1.0), np.zeros((2, 2)))


@pytest.mark.parametrize(("right", "taught", "routed"), [(1, 1, 0), (1, 0, 0), (0, 1, 1), (0, 0, 0)])
def test_the_routing_table(right, taught, routed):
    _, batch = example(rewards=jnp.full(4, float(right)), taught=jnp.full(4, bool(taught)))
    stage = next(stage for stage in objectives.make("srpo").stages if stage.title == "SampleRouting")
    assert np.asarray(stage.routed(batch)).tolist() == [bool(routed)] * 4


@pytest.mark.slow
def test_without_a_teacher_or_a_wrong_response_it_is_grpo():
    objective, plain = objectives.make("srpo"), objectives.make("grpo", scale="none", clip_high=0.28)
    outputs, batch = responses()
    for changes in ({"taught": np.zeros(ROWS, bool)}, {"rewards": batch.rewards + 10.0}):
        same = dataclasses.replace(batch, **changes)
        assert loss_of(objective, outputs, same) == loss_of(plain, outputs, same)
        np.testing.assert_array_equal(slope_of(objective, outputs, same), slope_of(plain, outputs, same))


def test_where_all_are_wrong_and_taught_it_is_sdpo_and_without_certainty_to_the_number():
    outputs, batch = responses(rewards=np.zeros(ROWS), taught=np.ones(ROWS, bool))
    routed = loss_of(objectives.make("srpo", srpo_certainty=0.0), outputs, batch)
    assert routed == pytest.approx(float(loss_of(objectives.make("sdpo"), outputs, batch)), rel=1e-6)
    assert abs(float(loss_of(objectives.make("srpo"), outputs, batch) - routed)) > 1e-3


def test_sdpo_is_the_mean_over_the_tokens_of_taught_rows_right_ones_included():
    outputs, batch = responses()
    objective = objectives.make("sdpo", distill_ratio_most=None)
    kept = np.asarray(batch.mask) & np.asarray(batch.taught)[:, None]
    expected = np.asarray(outputs.compared["divergence"])[kept].mean()
    assert loss_of(objective, outputs, batch) == pytest.approx(expected, rel=1e-6)
    nobody = dataclasses.replace(batch, taught=np.zeros(ROWS, bool))
    assert loss_of(objective, outputs, nobody) == 0


def test_tokens_weigh_by_how_much_likelier_they_have_become_up_to_a_bound():
    outputs, batch = responses(taught=np.ones(ROWS, bool))
    mask = np.asarray(batch.mask)
    ratio = np.minimum(np.exp(np.asarray(outputs.logp - batch.logp_old)), 1.2)
    expected = (ratio * np.asarray(outputs.compared["divergence"]))[mask].mean()
    found = loss_of(objectives.make("sdpo", distill_ratio_most=1.2), outputs, batch)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_token_of_which_the_teacher_says_nothing_finite_teaches_nothing():
    outputs, batch = example()
    compared = {name: values.at[1, 0].set(jnp.inf) for name, values in outputs.compared.items()}
    found = loss_of(objectives.make("srpo"), dataclasses.replace(outputs, compared=compared), batch)
    weights = np.exp(-np.array([1.0, 0.5, 1.3]))
    weights *= 3 / weights.sum()
    assert found == pytest.approx((-2 + weights @ [0.3, 0.2, 0.05]) / 8, abs=1e-6)


@pytest.mark.slow
def test_advantages_mix_with_what_the_teacher_holds_likelier():
    outputs, batch = responses()
    stages = [objectives.GroupAdvantage(scale="none"), objectives.LogProbability(), objectives.Aggregate()]
    mixed = objectives.chain(objectives.AdvantageMix(), *stages)
    alone = objectives.chain(objectives.AdvantageMix(advantage_share=1.0), *stages)
    plain = objectives.chain(*stages)
    np.testing.assert_array_equal(slope_of(alone, outputs, batch), slope_of(plain, outputs, batch))
    verdict = np.asarray(outputs.compared["teacher_log_prob"] - outputs.logp)
    tokens = np.asarray(batch.mask).sum()
    expected = (
        0.9 * slope_of(plain, outputs, batch)
        - 0.1 * np.where(np.asarray(batch.mask) & np.asarray(batch.taught)[:, None], verdict, 0.0) / tokens
    )
    np.testing.assert_allclose(slope_of(mixed, outputs, batch), expected, atol=1e-6)


def test_what_an_objective_wants_of_a_teacher_is_said_and_what_is_missing_too():
    wanted = objectives.make("srpo").teaching(())
    assert set(wanted.compared) == {"divergence", "teacher_entropy"}
    assert (wanted.hint, wanted.threshold, wanted.teacher) == ("sibling", 0.5, "ema")
    assert objectives.make("grpo").teaching(()).compared == {}
    outputs, batch = responses()
    with pytest.raises(ValueError, match="needs 'divergence' and 'teacher_entropy' of the policy beside a teacher"):
        objectives.make("srpo")((), dataclasses.replace(outputs, compared={}), batch)
    with pytest.raises(ValueError, match=r"pass TokenBatch\(taught=\[N\]\), True where the teacher is told"):
        objectives.make("sdpo")((), outputs, dataclasses.replace(batch, taught=None))
    with pytest.raises(ValueError, match="--distill-sampled is of --distill-interpolation 1 alone"):
        objectives.make("sdpo", distill_sampled=True)
