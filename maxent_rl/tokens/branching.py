"""Rollouts that branch: which conversations are continued twice from where they are, by how unsure the model was.

Source: Agentic Entropy-Balanced Policy Optimization (arXiv 2510.14545), in the form of public copies of the released code.
There all conversations of a batch wait for each other after each turn, and a prompt's count of rounds in a row starts anew
when another prompt forked and it did not; here each prompt's rounds are its own. There a prompt that nobody talks about any
more and that has rooms left begins one conversation in each round; here all rooms that no fork has taken begin at once, when
all others have come to their end (`conversing.filled`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.settings import Count, Finite, Fraction, Interval, Settings, static
from maxent_rl.tokens.turns import Turns
from maxent_rl.types import Metrics

MONITORED_TOKENS = 20
"""Tokens of a turn whose entropies are summed."""


@struct.dataclass
class Forks(Settings):
    """When a conversation is continued twice.

    After each reply a conversation whose prompt has rooms left draws a number u from 0 to 1, and forks where
    `(u + slope * change) * (1 - penalty * rounds)` is at least a half: change is the entropy of the turn less that of
    its first one, in units of log V (sums over the first 20 tokens), rounds how often in a row the prompt's have forked.
    """

    size: Count = static(16)
    """Conversations to a prompt in all, k."""
    roots: Count | Array = 8
    """How many of them begin at the prompt, m: [] or one for each prompt; the others are left for forks."""
    entropy_slope: Finite | Array = 0.2
    """How much likelier a fork is for each unit of entropy above the first turn's."""
    round_penalty: Fraction | Array = 0.05
    """How much less likely with each round in a row that has forked; 0 for none."""


@struct.dataclass
class Branching:
    """How the conversations of a group are to branch, however many they are.

    Attributes:
      root_share: [] the share of them that begins at the prompt.
      sensitivity: [] in place of it: the share follows from the entropies of one conversation that is tried first, and by so
        much (`root_budget`); None for `root_share`.
      entropy_slope: as of `Forks`.
      round_penalty: likewise.
    """

    root_share: Array | float = 0.5
    sensitivity: Array | float | None = None
    entropy_slope: Array | float = 0.2
    round_penalty: Array | float = 0.05

    def forks(self, size: int, tried: Callable[[], tuple[Array, Array]]) -> Forks:
        """Of groups of `size`; `tried` gives the entropies [B] of the first turn and of later ones, where they are needed."""
        if self.sensitivity is None:
            roots = jnp.clip(jnp.floor(size * jnp.asarray(self.root_share) + 1e-6).astype(jnp.int32), 1, size)
        else:
            roots = root_budget(size, *tried(), self.sensitivity)
        return Forks(size, roots, self.entropy_slope, self.round_penalty)


@struct.dataclass
class Growth:
    """How the rollouts of N conversations have branched so far.

    Attributes:
      free: [N] bool: rooms that no conversation is in yet.
      first: [N] entropy of each conversation's first turn, in units of log V.
      turn: [N] that of the present one so far.
      rounds: [B] how many rounds in a row a prompt has forked in.
      parent: [N] int32 which row a conversation was forked from; -1 for one that began at its prompt.
    """

    free: Array
    first: Array
    turn: Array
    rounds: Array
    parent: Array

    @classmethod
    def begin(cls, forks: Forks, count: int) -> Growth:
        """Before the first token of `count` conversations, the rooms of a prompt side by side."""
        place = jnp.arange(count) % forks.size
        roots = jnp.clip(jnp.broadcast_to(jnp.asarray(forks.roots), (count // forks.size,)), 1, forks.size)
        nothing = jnp.zeros(count)
        return cls(
            free=place >= jnp.repeat(roots, forks.size),
            first=nothing,
            turn=nothing,
            rounds=jnp.zeros(count // forks.size, jnp.int32),
            parent=jnp.full(count, -1, jnp.int32),
        )

    def heard(self, entropy: Array, speaks: Array, length: Array, turn: Array, scale: float) -> Growth:
        """After a token of entropy [N] in nats, which is number `length` [N] of its turn [N], where one is spoken."""
        counts = speaks & (length < MONITORED_TOKENS)
        so_far = jnp.where(speaks & (length == 0), 0.0, self.turn) + jnp.where(counts, entropy / scale, 0.0)
        return dataclasses.replace(self, turn=so_far, first=jnp.where(speaks & (turn == 0), so_far, self.first))

    def fork(self, forks: Forks, waits: Array, key: Array) -> tuple[Growth, Array]:
        """Decides which of the conversations that have just been replied to, `waits` [N], are continued twice.

        Returns:
          (growth, source [N] int32: which row each row is from now on; its own number where nothing changes).
        """
        chance = jax.random.uniform(key, waits.shape)
        rounds = jnp.repeat(self.rounds, forks.size)
        change = self.turn - self.first
        wants = waits & (self.draws(forks, chance, change, rounds) >= 0.5)
        wants_there, free_there, waits_there = (values.reshape(-1, forks.size) for values in (wants, self.free, waits))
        order_of_wants = jnp.cumsum(wants_there, axis=-1) - 1
        order_of_free = jnp.cumsum(free_there, axis=-1) - 1
        # The i-th that wants to takes the i-th free room of its prompt.
        takes = (free_there[:, :, None] & wants_there[:, None, :]) & (
            order_of_free[:, :, None] == order_of_wants[:, None, :]
        )
        taken = jnp.any(takes, axis=-1)
        first = jnp.arange(len(taken))[:, None] * forks.size
        own = jnp.arange(waits.shape[0], dtype=jnp.int32).reshape(-1, forks.size)
        source = jnp.where(taken, first + jnp.argmax(takes, axis=-1), own).ravel().astype(jnp.int32)
        asked = jnp.any(waits_there, axis=-1)
        created = jnp.any(taken, axis=-1)
        rounds = jnp.where(asked, jnp.where(created, self.rounds + 1, 0), self.rounds)
        taken = taken.ravel()
        grown = Growth(
            free=self.free & ~taken,
            first=self.first[source],
            turn=self.turn[source],
            rounds=rounds,
            parent=jnp.where(taken, source, self.parent),
        )
        return grown, source

    @staticmethod
    def draws(forks: Forks, chance: Array, change: Array, rounds: Array) -> Array:
        """[...] what must reach a half for a fork, from 0 to 1."""
        left = jnp.maximum(1.0 - forks.round_penalty * rounds, 0.0)
        return jnp.clip((chance + forks.entropy_slope * change) * left, 0.0, 1.0)


def fork_probability(
    rounds: ArrayLike, change: ArrayLike, entropy_slope: ArrayLike = 0.2, round_penalty: ArrayLike = 0.05
) -> Array:
    """[...] how likely a conversation is to fork after so many rounds in a row [...] at such a change of entropy [...].

    Source: arXiv 2510.14545: `clip(1 + slope * change - 0.5 / (1 - penalty * rounds), 0, 1)`, and 0 where nothing is left.
    """
    left = 1.0 - jnp.asarray(round_penalty) * jnp.asarray(rounds)
    found = jnp.clip(
        1.0 + jnp.asarray(entropy_slope) * jnp.asarray(change) - 0.5 / jnp.where(left > 0, left, 1.0), 0.0, 1.0
    )
    return jnp.where(left > 0, found, 0.0)


def root_budget(
    size: int, first: ArrayLike, later: ArrayLike, sensitivity: Annotated[float, Interval(0)] | Array = 0.5
) -> Array:
    """[...] int32 how many of `size` conversations begin at the prompt, from the entropies of one that was tried.

    An unsure beginning asks for more beginnings, unsure turns after replies for more forks.

    Args:
      size: k, at least 1.
      first: [...] entropy of the first turn.
      later: [...] mean entropy of the turns after replies; that of the first where there is none.
      sensitivity: [] how much a difference counts.

    Source: arXiv 2510.14545: `clip(floor(k * sigmoid(sensitivity * (first - later))) + 1, 1, k)`.
    """
    share = jax.nn.sigmoid(jnp.asarray(sensitivity) * (jnp.asarray(first) - jnp.asarray(later)))
    return jnp.clip(jnp.floor(size * share).astype(jnp.int32) + 1, 1, size)


def turn_entropies(entropy: Array, turns: Array, mask: Array, scale: float) -> tuple[Array, Array]:
    """How unsure a model was in the first turn of a conversation, and in those after replies.

    Args:
      entropy: [N, T] nats.
      turns: [N, T] int32.
      mask: [N, T] bool: what the model said.
      scale: the logarithm of the vocabulary.

    Returns:
      ([N] that of the first turn, [N] the mean over later ones, that of the first where there are none), sums over the
      first 20 tokens of each, in units of the scale.
    """
    every = Turns.of(turns, mask)
    said = jnp.cumsum(mask, axis=1) - 1
    among = said - every.spread(every.at_first(said))
    found = every.total(jnp.where(among < MONITORED_TOKENS, entropy, 0.0)) / scale
    later = every.there & (jnp.arange(found.shape[1]) > 0)
    number = jnp.sum(later, axis=-1)
    mean = jnp.sum(jnp.where(later, found, 0.0), axis=-1) / jnp.maximum(number, 1)
    return found[:, 0], jnp.where(number > 0, mean, found[:, 0])


def branch_metrics(parent: Array, tokens: Array, mask: Array, size: int) -> Metrics:
    """How conversations have branched.

    Args:
      parent: [N] which row each was continued from, -1 for one that began at its prompt.
      tokens: [N, T].
      mask: [N, T] bool: what the model said.
      size: conversations to a prompt, side by side.

    Returns:
      rollout/branches: how many of a prompt's were continued from another; rollout/branches_on_three: the share of all
      branches that goes back to the three conversations of a prompt with the most of them, counted by where they
      began; rollout/distinct: how many of a prompt's differ in what the model said.
    """
    branch = parent >= 0
    root = jnp.where(branch, parent, jnp.arange(parent.shape[0]))
    for _ in range(max(size - 1, 1).bit_length()):
        root = root[root]
    by_root = jnp.zeros(parent.shape[0]).at[root].add(branch).reshape(-1, size)
    on_three = jnp.sum(jnp.sort(by_root, axis=-1)[:, -3:])
    number = jnp.sum(branch)
    said = jnp.where(mask, tokens, -1).reshape(-1, size, tokens.shape[1])
    same = jnp.all(said[:, :, None] == said[:, None], axis=-1)
    earlier = jnp.any(same & jnp.tril(jnp.ones((size, size), bool), -1), axis=-1)
    return {
        "rollout/branches": number / by_root.shape[0],
        "rollout/branches_on_three": jnp.where(number > 0, on_three / jnp.maximum(number, 1), 0.0),
        "rollout/distinct": jnp.mean(jnp.sum(~earlier, axis=-1).astype(jnp.float32)),
    }


def unbranched(sources: Array) -> Array:
    """Which row [T, N] held what each row said at each place, from the rows' `source` after each place [T, N]."""

    def back(row: Array, source: Array) -> tuple[Array, Array]:
        held = source[row]
        return held, held

    rows = jnp.arange(sources.shape[1], dtype=sources.dtype)
    _, held = jax.lax.scan(back, rows, sources, reverse=True)
    return held
