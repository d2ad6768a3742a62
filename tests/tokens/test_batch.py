"""Columns of a batch: one that declares itself is checked, cleaned, cut, moved and asked for, as all others are."""

import dataclasses

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
class Conversation(TokenBatch):
    """A batch with one column more of each kind."""

    turns: Array | None = column("token", about="which turn a token belongs to", default=None)
    answers: Array | None = column("row", default=None)


_, BATCH = responses()
GIVEN = {field.name: getattr(BATCH, field.name) for field in dataclasses.fields(BATCH)}
TURNS = jnp.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
BOTH = Conversation(**GIVEN, turns=TURNS, answers=jnp.arange(ROWS))


def test_a_column_is_checked_and_asked_for_as_it_declares_itself():
    check_batch(BOTH)
    with pytest.raises(ShapeError, match=r"turns must have shape \(8, 5\), as logp_old says; got \(8,\)"):
        check_batch(dataclasses.replace(BOTH, turns=TURNS[:, 0]))
    with pytest.raises(ShapeError, match=r"answers must have shape \(8,\), one entry for each row; got \(8, 5\)"):
        check_batch(dataclasses.replace(BOTH, answers=TURNS))
    assert how_to_pass(Conversation, "turns") == "pass Conversation(turns=[N, T]), which turn a token belongs to"
    assert how_to_pass(TokenBatch, "advantages") == "pass TokenBatch(advantages=[N, T] or [N])"


def test_a_column_is_cleaned_and_cut():
    found = cleaned(BOTH)
    np.testing.assert_array_equal(found.turns, np.where(BATCH.mask, TURNS, 0))
    np.testing.assert_array_equal(found.answers, BOTH.answers)
    few = BOTH.rows(jnp.array([3, 1]))
    np.testing.assert_array_equal(few.turns, TURNS[jnp.array([3, 1])])
    assert few.answers.tolist() == [3, 1]


def test_a_column_moves_with_its_row_when_responses_are_put_in_its_place():
    """And must be there of what takes its place."""
    objective = objectives.make("aepo_arbitrary", side_select="reward", side_above=-1e9, side_responses=2)
    side = dataclasses.replace(BOTH.rows(slice(4, 8)), turns=TURNS[4:] + 100, answers=jnp.arange(4) + 100)
    _, found = objective.prepare(objective.init(), dataclasses.replace(BOTH, side=side))
    assert found.source.tolist() == [-4, -3, 2, 3, 4, 5, 6, 7]
    assert found.answers.tolist() == [100, 101, 2, 3, 4, 5, 6, 7]
    expected = jnp.concatenate([jnp.where(side.mask, side.turns, 0)[:2], jnp.where(BATCH.mask, TURNS, 0)[2:]])
    np.testing.assert_array_equal(found.turns, expected)
    with pytest.raises(MissingInputError, match=r"TokenBatch\(side=TokenBatch\(turns=\.\.\.\)\)"):
        objective.prepare(objective.init(), dataclasses.replace(BOTH, side=dataclasses.replace(side, turns=None)))


def test_every_array_of_a_batch_is_a_column():
    arrays = {field.name for field in dataclasses.fields(TokenBatch) if field.metadata.get("pytree_node", True)}
    assert set(columns(TokenBatch)) == arrays - {"side"}
