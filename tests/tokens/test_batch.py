"""Columns of a batch: one that declares itself is checked, cleaned, cut, moved and asked for, as all others are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jax import Array
from token_batches import COLUMNS, ROWS, responses

from maxent_rl.errors import MissingInputError, ShapeError
from maxent_rl.tokens import TokenBatch, objectives
from maxent_rl.tokens.batch import check_batch, cleaned, column, columns, how_to_pass


@struct.dataclass
class Chorus(TokenBatch):
    """A batch with one column more of each kind."""

    voices: Array | None = column("token", about="whose voice a token is", default=None)
    marks: Array | None = column("row", default=None)


_, BATCH = responses()
GIVEN = {field.name: getattr(BATCH, field.name) for field in dataclasses.fields(BATCH)}
VOICES = jnp.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
BOTH = Chorus(**GIVEN, voices=VOICES, marks=jnp.arange(ROWS))


def test_a_column_is_checked_and_asked_for_as_it_declares_itself():
    check_batch(BOTH)
    with pytest.raises(ShapeError, match=r"voices must have shape \(8, 5\), as logp_old says; got \(8,\)"):
        check_batch(dataclasses.replace(BOTH, voices=VOICES[:, 0]))
    with pytest.raises(ShapeError, match=r"marks must have shape \(8,\), one entry for each row; got \(8, 5\)"):
        check_batch(dataclasses.replace(BOTH, marks=VOICES))
    assert how_to_pass(Chorus, "voices") == "pass Chorus(voices=[N, T]), whose voice a token is"
    assert how_to_pass(TokenBatch, "advantages") == "pass TokenBatch(advantages=[N, T] or [N])"


def test_a_column_is_cleaned_and_cut():
    found = cleaned(BOTH)
    np.testing.assert_array_equal(found.voices, np.where(BATCH.mask, VOICES, 0))
    np.testing.assert_array_equal(found.marks, BOTH.marks)
    few = dataclasses.replace(BOTH, group_size=1).rows(jnp.array([3, 1]))
    np.testing.assert_array_equal(few.voices, VOICES[jnp.array([3, 1])])
    assert few.marks.tolist() == [3, 1]


@pytest.mark.slow
def test_a_column_moves_with_its_row_when_responses_are_put_in_its_place():
    """And must be there of what takes its place."""
    objective = objectives.make("aepo_arbitrary", side_select="reward", side_above=-1e9, side_responses=2)
    side = dataclasses.replace(BOTH.rows(slice(4, 8)), voices=VOICES[4:] + 100, marks=jnp.arange(4) + 100)
    _, found = objective.prepare(objective.init(), dataclasses.replace(BOTH, side=side))
    assert found.source.tolist() == [-4, -3, 2, 3, 4, 5, 6, 7]
    assert found.marks.tolist() == [100, 101, 2, 3, 4, 5, 6, 7]
    expected = jnp.concatenate([jnp.where(side.mask, side.voices, 0)[:2], jnp.where(BATCH.mask, VOICES, 0)[2:]])
    np.testing.assert_array_equal(found.voices, expected)
    with pytest.raises(MissingInputError, match=r"TokenBatch\(side=TokenBatch\(voices=\.\.\.\)\)"):
        objective.prepare(objective.init(), dataclasses.replace(BOTH, side=dataclasses.replace(side, voices=None)))


GROUPED = dataclasses.replace(BATCH, group_size=2)
INDEXED = dataclasses.replace(BATCH, group_size=1, group_index=jnp.array([4, 7, 4, 7, 9, 4, 9, 9]))


@pytest.mark.parametrize(
    ("batch", "whole", "cut"),
    [(GROUPED, [6, 7, 0, 1], [0, 2]), (INDEXED, [1, 3, 0, 2, 5], [0, 2])],
    ids=["size", "index"],
)
def test_rows_of_a_batch_that_is_not_prepared_are_whole_groups(batch, whole, cut):
    """Others would be compared with responses to another prompt, and nobody would notice."""
    assert batch.rows(np.array(whole)).mask.shape[0] == len(whole)
    with pytest.raises(ShapeError, match=r"These 2 rows are not whole groups.* and the batch is not prepared, so that"):
        batch.rows(jnp.array(cut))
    with pytest.raises(ShapeError, match="Whether traced rows are whole groups cannot be seen"):
        jax.jit(lambda index: batch.rows(index).mask)(jnp.array(whole))
    _, prepared = objectives.make("grpo").prepare((), batch)
    np.testing.assert_array_equal(prepared.rows(jnp.array(cut)).advantages, prepared.advantages[jnp.array(cut)])
    given = dataclasses.replace(batch, advantages=jnp.zeros(ROWS))
    assert given.rows(jnp.array(cut)).mask.shape[0] == 2


def test_groups_are_taken_by_their_number():
    np.testing.assert_array_equal(GROUPED.groups(jnp.array([2, 0])).tokens, BATCH.tokens[jnp.array([4, 5, 0, 1])])
    np.testing.assert_array_equal(INDEXED.groups([9, 4]).tokens, BATCH.tokens[jnp.array([0, 2, 4, 5, 6, 7])])
    with pytest.raises(ShapeError, match="The batch has no group 5"):
        INDEXED.groups([4, 5])
    with pytest.raises(ShapeError, match="of a traced group_index have cannot be seen"):
        jax.jit(lambda index: INDEXED.groups(index).mask)(jnp.array([4]))


@pytest.mark.parametrize(
    "take", [lambda: GROUPED.rows([7, 8]), lambda: GROUPED.groups([4]), lambda: BATCH.rows(np.zeros(3, bool))]
)
def test_rows_that_there_are_not_are_refused(take):
    """JAX would take the last one for them."""
    with pytest.raises(ShapeError, match=r"The batch has \d (rows|groups), which the indices go beyond"):
        take()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": jnp.where(BATCH.mask, BATCH.tokens, -100)}, "The mask must be booleans, or zeros and ones, got"),
        ({"mask": jnp.where(BATCH.mask, 0.5, 0.0)}, "got 0.5: labels or weights are no mask"),
        ({"mask": jnp.where(BATCH.mask, 1.0, jnp.nan)}, "got nan"),
        ({"group_index": jnp.arange(8) // 4}, "group_index and group_size=4 both say which rows belong together"),
        ({"group_index": np.array(list("aabbccdd")), "group_size": 1}, "group_index must be whole numbers, got <U1"),
        ({"group_index": jnp.zeros(8), "group_size": 1}, "must be whole numbers, got float32"),
        ({"group_index": jnp.zeros((8, 1), int), "group_size": 1}, r"group_index must have shape \(8,\)"),
    ],
)
def test_masks_and_groups_that_are_none_are_refused(changes, message):
    with pytest.raises(ShapeError, match=message):
        check_batch(dataclasses.replace(BATCH, **changes))


def test_every_array_of_a_batch_is_a_column():
    arrays = {field.name for field in dataclasses.fields(TokenBatch) if field.metadata.get("pytree_node", True)}
    assert set(columns(TokenBatch)) == arrays - {"side"}


def test_what_belongs_to_prompts_has_a_row_for_each_response():
    """Of as many columns as prompts are long; it is cut with its row, and a response's mask says nothing of it."""
    assert how_to_pass(TokenBatch, "logp_prompt").startswith(
        "pass TokenBatch(logp_prompt=[N, P]), log-probabilities of"
    )
    for wrong in (jnp.zeros(ROWS), jnp.zeros((ROWS + 1, 3))):
        with pytest.raises(ShapeError, match=r"logp_prompt must have shape \(8, P\), one row for each response; got"):
            check_batch(dataclasses.replace(BATCH, logp_prompt=wrong))
    found = cleaned(BATCH)
    np.testing.assert_array_equal(found.logp_prompt, BATCH.logp_prompt)
    few = dataclasses.replace(BATCH, group_size=1).rows(jnp.array([3, 1]))
    np.testing.assert_array_equal(few.logp_prompt, BATCH.logp_prompt[jnp.array([3, 1])])


@pytest.mark.parametrize("name", ["problem", "task", "answers"])
def test_what_tells_rows_apart_is_whole_numbers(name):
    with pytest.raises(ShapeError, match=rf"{name} must be whole numbers, got float32: of other ids, np\.unique"):
        check_batch(dataclasses.replace(BATCH, **{name: jnp.zeros(ROWS)}))
