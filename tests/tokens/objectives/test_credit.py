"""The slot between advantages and shapes, with a stage of its own: the whole outcome goes to a response's last token."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from token_batches import COLUMNS, ROWS, responses

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.batch import token_advantages
from maxent_rl.tokens.objectives import Aggregate, ClipB, Clipped, Credit, GroupAdvantage, chain

OUTPUTS, BATCH = responses()
COUNTED = jnp.arange(ROWS * COLUMNS, dtype=jnp.float32).reshape(ROWS, COLUMNS)


@struct.dataclass
class ToTheLast(Credit):
    """Counts, in its state, how often it is asked at all and at a step."""

    factor: float = 1.0

    def init(self, key):
        return jnp.zeros(2, jnp.int32)

    def prepare(self, state, batch):
        given = token_advantages(batch)
        last = jnp.cumsum(batch.mask, axis=-1) == jnp.sum(batch.mask, axis=-1, keepdims=True)
        advantages = jnp.where(last & batch.mask, self.factor * given, 0.0)
        return state.at[0].add(1), dataclasses.replace(batch, advantages=advantages)

    def __call__(self, state, work):
        return state.at[1].add(1), work


OBJECTIVE = chain(Aggregate(), Clipped(), ToTheLast(2.0), GroupAdvantage())


def test_it_stands_between_advantages_and_shapes():
    objective = chain(ClipB(), ToTheLast(), Clipped(), Aggregate(), GroupAdvantage())
    assert [stage.slot for stage in objective.stages] == ["advantage", "credit", "shape", "surrogate", "aggregate"]


@pytest.mark.slow
def test_it_spreads_the_advantages_that_the_objective_makes():
    _, plain = objectives.make("grpo").prepare((), BATCH)
    _, found = OBJECTIVE.prepare(OBJECTIVE.init(), BATCH)
    np.testing.assert_array_equal(found.advantages, np.where(last_of(BATCH), 2.0 * plain.advantages, 0.0))


@pytest.mark.parametrize("given", [COUNTED, COUNTED[:, 0]], ids=["by token", "by response"])
def test_it_spreads_advantages_that_the_caller_gives(given):
    """Where the stages that would make them of rewards are passed over."""
    _, found = OBJECTIVE.prepare(OBJECTIVE.init(), dataclasses.replace(BATCH, advantages=given))
    by_token = np.broadcast_to(given if given.ndim == 2 else given[:, None], (ROWS, COLUMNS))
    np.testing.assert_array_equal(found.advantages, np.where(last_of(BATCH), 2.0 * by_token, 0.0))


@pytest.mark.slow
def test_it_runs_once_for_a_batch_however_many_steps_are_taken():
    state, batch = OBJECTIVE.prepare(OBJECTIVE.init(), BATCH)
    for start in range(0, ROWS, 4):
        rows = slice(start, start + 4)
        state, aux = steps(state, rows, batch)
        np.testing.assert_array_equal(aux.advantages, batch.advantages[rows])
    assert state[0].tolist() == [1, ROWS // 4]


def steps(state, rows, batch: TokenBatch):
    _, aux = OBJECTIVE(state, TokenOutputs(OUTPUTS.logp[rows]), batch.rows(rows))
    return aux.state, aux


def last_of(batch: TokenBatch) -> np.ndarray:
    mask = np.asarray(batch.mask, bool)
    return mask & (np.cumsum(mask, axis=-1) == mask.sum(axis=-1, keepdims=True))
