"""Batches of responses for tests of objectives: worked examples as one row, and random ones with logits."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from maxent_rl.tokens import TokenBatch, TokenOutputs
from maxent_rl.tokens.objectives import Aggregate, Objective, chain

EXAMPLE = jnp.array([0.6, 0.3, 0.1])  # the distribution of the worked examples, of entropy 0.897946
EXAMPLE_ENTROPY = 0.897946


def one_row(probs: Any, old_probs: Any, advantages: Any, **fields: Any) -> tuple[TokenOutputs, TokenBatch]:
    """A response from the probabilities of its tokens, with its advantages given."""
    logp, logp_old = jnp.log(jnp.array([probs])), jnp.log(jnp.array([old_probs]))
    fields = {name: value if isinstance(value, dict) else jnp.array([value]) for name, value in fields.items()}
    batch = TokenBatch(logp_old, jnp.ones(logp.shape, bool), jnp.zeros(1), advantages=jnp.array([advantages]), **fields)
    return TokenOutputs(logp), batch


@struct.dataclass
class Recorder(Aggregate):
    """An aggregate that also shows what it averages."""

    def __call__(self, state, work):
        weighted = work.loss if work.weight is None else work.weight * work.loss
        shown = {"tokens": jnp.where(work.mask, weighted + work.penalty, 0.0)}
        return super().__call__(state, work.measure(**shown))


@jax.jit
def evaluate(objective: Objective, state: Any, outputs: TokenOutputs, batch: TokenBatch) -> Any:
    """(loss, aux), compiled."""
    return objective(state, outputs, batch)


@jax.jit
def slopes(objective: Objective, state: Any, outputs: TokenOutputs, batch: TokenBatch) -> Any:
    """The gradient of the loss in the outputs, compiled."""
    return jax.grad(lambda given: objective(state, given, batch)[0])(outputs)


@jax.jit
def prepare(objective: Objective, state: Any, batch: TokenBatch) -> Any:
    """(state, prepared batch), compiled."""
    return objective.prepare(state, batch)


def token_losses(objective: Objective, outputs: TokenOutputs, batch: TokenBatch, state: Any = None) -> np.ndarray:
    """The loss of each token, [N, T]."""
    shown = chain(*(stage for stage in objective.stages if stage.slot != "aggregate"), Recorder())
    _, aux = evaluate(shown, objective.init() if state is None else state, outputs, batch)
    return np.asarray(aux.metrics["tokens"])


class Case(NamedTuple):
    """A batch as drawn, and the logits of the policy that learns."""

    batch: TokenBatch
    logits: jax.Array

    def outputs(self, logits: jax.Array | None = None) -> TokenOutputs:
        """What the policy says."""
        logits = self.logits if logits is None else logits
        return TokenOutputs(taken(logits, self.batch.tokens), logits=logits)


def taken(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """The log-probabilities of tokens."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


def random_case(seed: int = 0, rows: int = 8, columns: int = 5, choices: int = 7, moved: float = 0.3) -> Case:
    """Random responses with groups of four; the first and the last token of a row may be masked."""
    keys = jax.random.split(jax.random.key(seed), 5)
    logits_old = 2.0 * jax.random.normal(keys[0], (rows, columns, choices))
    logits = logits_old + moved * jax.random.normal(keys[1], logits_old.shape)
    tokens = jax.random.randint(keys[2], (rows, columns), 0, choices)
    mask = jax.random.bernoulli(keys[3], 0.8, (rows, columns))
    rewards = (jax.random.uniform(keys[4], (rows,)) > 0.5).astype(jnp.float32)
    batch = TokenBatch(taken(logits_old, tokens), mask, rewards, 4, tokens=tokens, logits_old=logits_old)
    return Case(batch, logits)


def with_garbage(case: Case, garbage: float) -> Case:
    """The same with `garbage` wherever a position is masked."""
    batch, mask = case.batch, case.batch.mask
    dirty = dataclasses.replace(
        batch,
        logp_old=jnp.where(mask, batch.logp_old, garbage),
        logits_old=jnp.where(mask[..., None], batch.logits_old, garbage),
    )
    return Case(dirty, jnp.where(mask[..., None], case.logits, garbage))
