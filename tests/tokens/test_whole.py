"""Parts of an optimiser step: how their gradients are put together, whatever cuts them; what a minibatch is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.closeness import assert_close
from token_batches import COLUMNS, ROWS, filled_up, loss_of, prepare, responses, slope_of

from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens import TokenOutputs, objectives
from maxent_rl.tokens.objectives.selection import drawn

OUTPUTS, BATCH = responses()
GRPO = objectives.make("grpo")
PREPARED = prepare(GRPO, BATCH)
WHOLE = slope_of(GRPO, OUTPUTS, BATCH)


def rows_of(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


@pytest.mark.slow
def test_parts_of_any_size_are_weighted_by_their_share():
    """Which a batch knows: of the rows, not of the tokens. Parts of parts are parts."""
    total = np.zeros((ROWS, COLUMNS))
    seven = PREPARED.rows(slice(1, 8))
    parts = {(0,): PREPARED.rows([0]), (5, 2, 7): seven.rows([4, 1, 6]), (3, 1, 4, 6): seven.rows([2, 0, 3, 5])}
    for rows, part in ((np.array(rows), part) for rows, part in parts.items()):
        assert part.share == len(rows) / ROWS
        total[rows] += part.share * slope_of(GRPO, rows_of(OUTPUTS, rows), part)
    assert_close(total, WHOLE)


def test_optax_averages_parts_into_the_step():
    """`optax.MultiSteps` in one line, over parts that a scan takes from the batch laid out with an axis in front."""
    optimizer = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=4)
    parts, rows = jax.tree.map(lambda leaf: leaf.reshape(4, 2, *leaf.shape[1:]), (PREPARED, jnp.arange(ROWS)))

    def accumulate(carry, given):
        logp, state = carry
        part, index = given
        slope = jax.grad(lambda logp: GRPO((), TokenOutputs(logp[index]), part)[0])(logp)
        updates, state = optimizer.update(slope, state, logp)
        return (optax.apply_updates(logp, updates), state), None

    (after, _), _ = jax.lax.scan(accumulate, (OUTPUTS.logp, optimizer.init(OUTPUTS.logp)), (parts, rows))
    assert_close(OUTPUTS.logp - after, WHOLE, 1e-4)  # a difference of numbers 20 times as large


def test_devices_that_hold_a_part_each_average_to_the_step():
    """As data-parallel training does: the rows of every array divided, the mean of the gradients over the axis."""
    parts, outputs = jax.tree.map(lambda leaf: leaf.reshape(2, 4, *leaf.shape[1:]), (PREPARED, OUTPUTS))

    def of_device(outputs, part):
        return jax.lax.pmean(GRPO((), outputs, part)[0], "devices")

    found = jax.jit(jax.vmap(of_device, axis_name="devices"))(outputs, parts)
    assert_close(found, loss_of(GRPO, OUTPUTS, BATCH), scale=1.0)  # of the tokens' losses, which cancel


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcpo", "clip_cov", "adpo", "dapo"])
def test_devices_side_by_side_find_the_gradient_and_the_state_of_the_step(name):
    """An entropy that is added up, tokens that are drawn among all, groups that stay whole, groups that are left out."""
    objective = objectives.make(name)
    outputs, batch = responses(rewards=np.array([1.0, 1, 1, np.nan, 2, 0, 1, -1]))

    def loss(outputs, state, batch):
        return objective(state, outputs, batch)

    @jax.jit
    def both(state, outputs, batch):
        state, prepared = objective.prepare(state, batch)
        slope, aux = jax.grad(loss, has_aux=True)(outputs, state, prepared)
        step, surveyed = objective.survey(state, outputs, prepared)
        parts = jax.tree.map(lambda leaf: leaf.reshape(2, 4, *leaf.shape[1:]), (outputs, step))

        def of_device(outputs, part):
            found, aux = jax.grad(loss, has_aux=True)(outputs, surveyed.state, part)
            return found, objective.merge(surveyed.state, aux.state, "devices")

        found, states = jax.vmap(of_device, axis_name="devices")(*parts)
        found = jax.tree.map(lambda leaf: leaf.reshape(ROWS, COLUMNS) / 2, found)
        numbers = [leaf for leaf in jax.tree.leaves((aux.state, states)) if jnp.issubdtype(leaf.dtype, jnp.number)]
        return (found, slope), (numbers[len(numbers) // 2 :], numbers[: len(numbers) // 2])

    (found, slope), (states, state) = both(objective.init(), outputs, batch)
    assert_close(found, slope)
    assert_close(states, state)
    assert np.abs(slope.logp).max() > 1e-3 and (name != "dcpo" or state)


@pytest.mark.slow
def test_a_minibatch_divides_by_its_own_counts_and_is_cut_into_parts_itself():
    three = [6, 0, 5]
    alone = PREPARED.rows(three).as_step()
    given = dataclasses.replace(BATCH, advantages=PREPARED.advantages).rows(three)
    given = dataclasses.replace(given, group_size=1)
    outputs = rows_of(OUTPUTS, np.array(three))
    wanted = slope_of(GRPO, outputs, given)
    assert alone.share == 1
    assert_close(slope_of(GRPO, outputs, alone), wanted)
    assert np.abs(slope_of(GRPO, outputs, PREPARED.rows(three)) - wanted).max() > 1e-3  # which divides by the batch's
    found = [slope_of(GRPO, rows_of(outputs, slice(row, row + 1)), alone.rows([row])) / 3 for row in range(3)]
    assert_close(np.concatenate(found), wanted)


def test_a_mask_that_changes_after_the_batch_was_prepared_is_counted_anew_as_a_step():
    """Such as that of tokens whose ratio a trainer finds too large."""
    fewer = dataclasses.replace(PREPARED, mask=PREPARED.mask.at[2:, 1].set(False)).as_step()
    halves = [slope_of(GRPO, rows_of(OUTPUTS, rows), fewer.rows(rows)) / 2 for rows in (slice(0, 4), slice(4, 8))]
    assert_close(np.concatenate(halves), slope_of(GRPO, OUTPUTS, fewer))
    assert fewer.whole.count("tokens") == fewer.mask.sum() and fewer.whole.count("longest") == COLUMNS


def test_a_part_without_tokens_adds_nothing_and_weighs_as_much_as_the_others():
    """As where a filter has left out all that a slice holds."""
    prepared = prepare(GRPO, dataclasses.replace(BATCH, mask=BATCH.mask.at[:4].set(False)))
    none, all_of_it = prepared.rows(slice(0, 4)), prepared.rows(slice(4, 8))
    assert loss_of(GRPO, rows_of(OUTPUTS, slice(0, 4)), none) == 0
    found = loss_of(GRPO, rows_of(OUTPUTS, slice(4, 8)), all_of_it) / 2
    assert_close(found, loss_of(GRPO, OUTPUTS, prepared), scale=1.0)  # of the tokens' losses, which cancel


@pytest.mark.slow
def test_at_the_first_step_a_survey_needs_no_pass_of_the_policy():
    """The policy that drew the responses is the one that learns: its log-probabilities and entropies are there."""
    objective = objectives.make("entropy_target", target_entropy=0.2)

    @jax.jit
    def found(state, batch):
        state, prepared = objective.prepare(state, batch)
        on_policy = TokenOutputs(prepared.logp_old, prepared.entropy_old)
        parts, aux = objective.survey(state, on_policy, prepared)
        halves = [objective(aux.state, rows_of(on_policy, r), parts.rows(r))[0] for r in (slice(0, 4), slice(4, 8))]
        return (sum(halves) / 2, aux.metrics["policy/loss"], aux.state), objective(state, on_policy, prepared)

    (mean, measured, state), (loss, aux) = found(objective.init(), BATCH)
    assert_close((mean, measured), (loss, loss), scale=1.0)  # of the tokens' losses, which cancel
    assert_close(state, aux.state)


def test_rows_that_are_no_part_are_refused():
    repeated = PREPARED.rows(np.arange(10) % ROWS)
    with pytest.raises(ShapeError, match="10 rows are no part of the 8 that were prepared together"):
        GRPO((), TokenOutputs(repeated.logp_old), repeated)
    assert np.isfinite(loss_of(GRPO, TokenOutputs(repeated.logp_old), repeated.as_step()))


def test_counts_that_another_objective_does_not_have_are_asked_for():
    part = PREPARED.rows(slice(0, 4))
    with pytest.raises(
        MissingInputError, match="has no count 'groups': let the objective that learns from it prepare it"
    ):
        objectives.make("adpo")((), TokenOutputs(part.logp_old), part)


@pytest.mark.slow
def test_draws_belong_to_responses_and_their_tokens():
    """Whatever stands around them: another order, other columns, other rows."""
    key, mask = jax.random.key(0), BATCH.mask
    found = np.asarray(drawn(key, jnp.arange(ROWS), mask))
    assert len(np.unique(found[np.asarray(mask)])) == mask.sum()
    order = np.array([3, 0, 7, 1])
    wide = jnp.pad(mask[order], ((0, 0), (2, 1)))
    np.testing.assert_array_equal(np.asarray(drawn(key, order, wide))[:, 2:-1][mask[order]], found[order][mask[order]])
    assert np.any(np.asarray(drawn(jax.random.key(1), jnp.arange(ROWS), mask)) != found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cispo", "dr_grpo", "reinforce_pp"])
def test_rows_may_stand_in_any_order_where_an_index_says_which_belong_together(name):
    """And be filled up with rows of groups that are not there, as shapes that stay the same ask for."""
    objective = objectives.make(name)
    rows = np.random.default_rng(0).permutation(ROWS)
    more = filled_up(rows_of((OUTPUTS, dataclasses.replace(BATCH, group_size=1)), rows), above=2)
    outputs, batch = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), more)  # a row that is none on either side
    index = jnp.concatenate([jnp.array([7]), jnp.asarray(rows // 4), jnp.array([3])])
    found = slope_of(objective, outputs, dataclasses.replace(batch, group_index=index))
    assert_close(found[1:-1][np.argsort(rows)], slope_of(objective, OUTPUTS, BATCH))
