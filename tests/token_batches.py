"""Responses for objectives that are tested without a model: everything that any of them may ask for, drawn at random."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl import losses
from maxent_rl.tokens import TokenBatch, TokenOutputs

ROWS, COLUMNS, VOCABULARY, GROUP = 8, 5, 6, 4
LENGTHS = (5, 3, 4, 1, 2, 5, 3, 4)


def responses(seed=0, lengths=LENGTHS, **overrides):
    """(outputs, batch) of ragged responses, the policy some way from the one that drew them; fields can be given."""
    draw = np.random.default_rng(seed)
    old = draw.normal(size=(ROWS, COLUMNS, VOCABULARY))
    new, reference = (old + 0.4 * draw.normal(size=old.shape) for _ in range(2))
    tokens = draw.integers(0, VOCABULARY, (ROWS, COLUMNS))

    def log_prob(logits):
        return np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), tokens[..., None], axis=-1)[..., 0]

    fields = {
        "logp_old": log_prob(old),
        "mask": np.arange(COLUMNS) < np.asarray(lengths)[:, None],
        "rewards": draw.normal(size=ROWS).round(2),
        "group_size": GROUP,
        "tokens": tokens,
        "logp_ref": log_prob(reference),
        "entropy_old": losses.softmax_entropy(old),
        "logits_old": old,
        "truncated": np.arange(ROWS) % 3 == 0,
    }
    batch = TokenBatch(**(fields | overrides))
    return TokenOutputs(logp=jnp.asarray(log_prob(new)), entropy=losses.softmax_entropy(new)), arrays(batch)


def arrays(batch):
    """The batch with JAX arrays in single precision."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32) if leaf.dtype == float else jnp.asarray(leaf), batch
    )


@functools.cache
def further():
    """(outputs, batch) of the further responses; made once, since tracing cannot make them."""
    return responses(seed=7)


def with_side(objective, state, batch):
    """The batch, with further responses if the objective asks for them, masked where the batch is."""
    if objective.side(state) is None:
        return batch
    side = further()[1]
    return dataclasses.replace(batch, side=dataclasses.replace(side, mask=jnp.asarray(side.mask) & batch.mask))


def moved(outputs, batch):
    """What the policy says of a batch in which responses of `with_side` have taken rows."""
    if batch.source is None:
        return outputs
    return jax.tree.map(lambda own, others: jnp.concatenate([own, others])[batch.source], outputs, further()[0])


def call(objective, state, outputs, batch):
    """(loss, aux) of a batch as it was drawn, prepared first where that moves rows."""
    if objective.side(state) is not None and not batch.prepared:
        state, batch = objective.prepare(state, batch)
        outputs = moved(outputs, batch)
    return objective(state, outputs, batch)


def littered(outputs, batch, waste=jnp.nan):
    """The same with waste in every masked place."""
    mask = jnp.asarray(batch.mask, bool)
    batch = dataclasses.replace(batch, mask=mask)

    def litter(leaf):
        if leaf is None or leaf.ndim < 2 or leaf.dtype == bool:
            return leaf
        kept = mask.reshape(mask.shape + (1,) * (leaf.ndim - 2))
        return jnp.where(kept, leaf, waste if jnp.issubdtype(leaf.dtype, jnp.floating) else -7)

    side = batch.side
    batch = jax.tree.map(litter, dataclasses.replace(batch, side=None))
    return jax.tree.map(litter, outputs), dataclasses.replace(batch, side=side)


def loss_of(objective, outputs, batch, state=None):
    """The loss alone."""
    return call(objective, objective.init() if state is None else state, outputs, batch)[0]


def slope_of(objective, outputs, batch):
    """Its gradient in the log-probabilities."""
    return jax.grad(lambda logp: loss_of(objective, dataclasses.replace(outputs, logp=logp), batch))(outputs.logp)
