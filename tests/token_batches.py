"""Responses for objectives that are tested without a model: everything that any of them may ask for, drawn at random."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl import losses
from maxent_rl.tokens import TokenBatch, TokenOutputs

ROWS, COLUMNS, VOCABULARY, GROUP = 8, 5, 6, 4
PROMPT = 3
LENGTHS = (5, 3, 4, 1, 2, 5, 3, 4)


def responses(seed=0, lengths=LENGTHS, rows=None, **overrides):
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
        "problem": np.arange(ROWS) // GROUP + 7,
        "task": np.arange(ROWS) // GROUP % 2,
        "answers": np.array([5, 5, 2, -1, 3, 3, 4, 1]),
        "difficulty": np.arange(ROWS) // GROUP + 1.0,
        "logp_prompt": np.where(np.arange(PROMPT) < 1, np.nan, -draw.exponential(size=(ROWS, PROMPT))),
        "logp_drawn": log_prob(1.1 * old),
        "greedy_rewards": draw.normal(size=ROWS // GROUP).round(2).repeat(GROUP),
        "turns": np.broadcast_to(np.arange(COLUMNS) // 2, (ROWS, COLUMNS)),
        "calls": np.arange(ROWS) % 3,
        "reward_parts": draw.normal(size=(ROWS, 2)).round(2),
        "span": np.broadcast_to(np.arange(COLUMNS) >= 2, (ROWS, COLUMNS)),
        "span_advantages": draw.normal(size=ROWS).round(2),
        "taught": np.arange(ROWS) != 1,
        "values": draw.normal(size=(ROWS, COLUMNS)).round(2),
    }
    fields |= by_turns(fields["turns"], np.random.default_rng(seed + 1))
    batch = TokenBatch(**(fields | overrides))
    own, told = (np.asarray(jax.nn.log_softmax(logits)) for logits in (new, reference))
    compared = {
        "divergence": np.sum(np.exp(told) * (told - own), axis=-1),
        "reverse_kl": np.sum(np.exp(own) * (own - told), axis=-1),
        "teacher_log_prob": log_prob(reference),
        "teacher_entropy": -np.sum(np.exp(told) * told, axis=-1),
    }
    outputs = TokenOutputs(
        logp=jnp.asarray(log_prob(new)),
        entropy=losses.softmax_entropy(new),
        compared={name: jnp.asarray(values, jnp.float32) for name, values in compared.items()},
        value=jnp.asarray(draw.normal(size=(ROWS, COLUMNS)), jnp.float32),
    )
    return jax.tree.map(lambda leaf: leaf[:rows], (outputs, arrays(batch)))


def by_turns(turns, draw):
    """What is the same at all tokens of a turn: rewards, and the states that turns began in."""
    number = turns.max() + 1
    earned, anchors = draw.normal(size=(ROWS, number)).round(2), draw.integers(0, 2, (ROWS, number))
    return {
        "turn_rewards": np.take_along_axis(earned, turns, axis=1),
        "anchors": np.take_along_axis(anchors, turns, axis=1),
        "copies": np.ones_like(turns),
    }


def arrays(batch):
    """The batch with JAX arrays in single precision."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32) if leaf.dtype == float else jnp.asarray(leaf), batch
    )


def with_side(objective, state, batch):
    """The batch, with further responses if the objective asks for them; none of their tokens count if none of its do."""
    wanted = objective.sampling(state).side
    if wanted is None:
        return batch
    rows = slice(0, GROUP * wanted.prompts(ROWS // GROUP))
    side = responses(seed=7)[1].rows(rows)
    return dataclasses.replace(batch, side=dataclasses.replace(side, mask=side.mask & jnp.any(batch.mask)))


def scored(objective, state, outputs, batch):
    """(state, outputs, batch) to call an objective with: prepared, and in its order, where it moves rows."""
    if batch.side is None:
        return state, outputs, batch
    with jax.ensure_compile_time_eval():  # also where the rest is traced
        of_side = jax.tree.map(lambda leaf: leaf[: batch.side.mask.shape[0]], responses(seed=7)[0])
    state, batch = objective.prepare(state, batch)
    return state, jax.tree.map(lambda *both: jnp.concatenate(both)[batch.source], outputs, of_side), batch


def littered(outputs, batch, waste=jnp.nan):
    """The same with waste in every masked place."""
    mask = jnp.asarray(batch.mask, bool)
    batch = dataclasses.replace(batch, mask=mask)

    def litter(leaf):
        if leaf is None or leaf.ndim < 2 or leaf.dtype == bool or leaf.shape[1] != mask.shape[1]:
            return leaf
        kept = mask.reshape(mask.shape + (1,) * (leaf.ndim - 2))
        return jnp.where(kept, leaf, waste if jnp.issubdtype(leaf.dtype, jnp.floating) else -7)

    side = batch.side
    batch = jax.tree.map(litter, dataclasses.replace(batch, side=None))
    return jax.tree.map(litter, outputs), dataclasses.replace(batch, side=side)


def filled_up(tree, above=0, left=0, right=0):
    """A batch, or outputs, with masked rows above and masked columns on either side, in which nothing is a number.

    But for the rewards of those rows, which hold no response.
    """

    def fill(leaf):
        width = [(above, 0), (left, right)][: leaf.ndim] + [(0, 0)] * (leaf.ndim - 2)
        waste = (7.0 if leaf.ndim == 1 else jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else 0
        return jnp.asarray(np.pad(leaf, width, constant_values=waste))  # by NumPy, which compiles nothing

    return jax.tree.map(fill, tree)


@jax.jit
def loss_of(objective, outputs, batch, state=None):
    """The loss alone."""
    return objective(objective.init() if state is None else state, outputs, batch)[0]


@jax.jit
def aux_of(objective, outputs, batch):
    """What a stateless objective gives beside its loss."""
    return objective((), outputs, batch)[1]


@jax.jit
def slope_of(objective, outputs, batch):
    """Its gradient in the log-probabilities."""
    return jax.grad(lambda logp: loss_of(objective, dataclasses.replace(outputs, logp=logp), batch))(outputs.logp)


@jax.jit
def prepare(objective, batch):
    """The batch that a stateless objective makes of it."""
    return objective.prepare((), batch)[1]
