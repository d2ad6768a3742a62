"""Sequences of unequal lengths one after the other in rows of one length, so that a pass of the model reads little padding.

    packed = packing.pack(prompted, tokens, row_length=512)  # which row holds which sequence: on the host, by NumPy
    found = model.packed_statistics(packed)                  # [N, T], what model.statistics(prompted, tokens) gives
    loss, aux = objective(state, TokenOutputs(found.logp, found.entropy), batch)

Packing is a layout of the model's pass, not of the loss. What is read off the rows goes back to [N, T], one row for each
response, before anything is made of it: objectives, losses on preferences and their counts see what they see without.

Source: best-fit decreasing, which needs at most 11/9 of the least number of rows and a few more (Johnson et al. 1974); of
sequences that attention and positions keep apart: arXiv 2107.02027.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.errors import ShapeError, unknown_name
from maxent_rl.tokens.batch import Prompted, check_mask
from maxent_rl.tokens.sampling import check_end

At: TypeAlias = Literal["prediction", "token"]
"""Where a number of a token stands in packed rows: at the place before it, which predicts it, or at its own."""


@struct.dataclass
class Packed:
    """N sequences in M rows of L places, and where each of their responses' T tokens is.

    Attributes:
      tokens: [M, L] int32 whole sequences, prompt and response, one after the other.
      segments: [M, L] int32 equal numbers from 1 on within each sequence of a row; 0 for padding.
      places: [K] int32 the places, of the M * L, that predict a token of a response: those of which the vocabulary is asked.
      known: [K] bool; False where `places` is filled up.
      index: [N, T] int32 which of `places` predicts each token.
      mask: [N, T] bool which tokens are to be found there.
    """

    tokens: ArrayLike
    segments: ArrayLike
    places: ArrayLike
    known: ArrayLike
    index: ArrayLike
    mask: ArrayLike

    @property
    def positions(self) -> Array:
        """[M, L] int32 of each token in its own sequence, from 0 on; 0 for padding."""
        segments = jnp.asarray(self.segments)
        place = jnp.arange(segments.shape[1], dtype=jnp.int32)
        begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
        return jnp.where(segments > 0, place - jax.lax.cummax(jnp.where(begins, place, 0), axis=1), 0)

    @property
    def fill(self) -> Array:
        """[] the share of places that hold a token."""
        return jnp.mean(jnp.asarray(self.segments) > 0)

    @property
    def targets(self) -> Array:
        """[K] int32 the tokens that `places` predict."""
        return jnp.where(self.known, self._listed(self.tokens, "token"), 0)

    def unpack(self, values: ArrayLike, at: At = "prediction") -> Array:
        """[N, T, ...] of numbers in the rows; 0 for tokens that are not there, and no gradient from them.

        Args:
          values: [M, L, ...].
          at: where the number of a token stands: at the place that predicts it, as logits do, or at its own.

        Raises:
          ShapeError: not one value for each place.
          UnknownNameError: neither "prediction" nor "token".
        """
        if jnp.shape(values)[:2] != jnp.shape(self.tokens):
            raise _no_values(jnp.shape(self.tokens), jnp.shape(values), "one for each place of the rows")
        return self.spread(self._listed(values, at))

    def pack(self, values: ArrayLike, at: At = "prediction") -> Array:
        """[M, L, ...] of numbers of each response's tokens, as `unpack` reads them; 0 at all other places.

        Args:
          values: [N, T, ...].
          at: where the number of a token is to stand.

        Raises:
          ShapeError: not one value for each token.
          UnknownNameError: neither "prediction" nor "token".
        """
        values, shape = jnp.asarray(values), jnp.shape(self.tokens)
        if values.shape[:2] != jnp.shape(self.index):
            raise _no_values(jnp.shape(self.index), values.shape, "one for each token of the responses")
        beyond = shape[0] * shape[1]
        wanted = jnp.where(self.mask, jnp.asarray(self.places)[self.index] + _shift(at), beyond)
        empty = jnp.zeros((beyond, *values.shape[2:]), values.dtype)
        return empty.at[wanted].set(values, mode="drop").reshape(*shape, *values.shape[2:])

    def predicting(self, hidden: ArrayLike) -> Array:
        """[K, ...] of hidden states, or anything else, [M, L, ...]: what stands at `places`."""
        return self._listed(hidden, "prediction")

    def spread(self, values: ArrayLike) -> Array:
        """[N, T, ...] of numbers [K, ...] at `places`; 0 for tokens that are not there."""
        found = jnp.asarray(values)[self.index]
        there = jnp.reshape(self.mask, jnp.shape(self.mask) + (1,) * (found.ndim - 2))
        return jnp.where(there, found, jnp.zeros((), found.dtype))

    def _listed(self, values: ArrayLike, at: At) -> Array:
        values = jnp.asarray(values)
        return values.reshape(-1, *values.shape[2:])[jnp.asarray(self.places) + _shift(at)]


def pack(
    prompted: Prompted,
    tokens: ArrayLike,
    row_length: int | None = None,
    mask: ArrayLike | None = None,
    rows: int | None = None,
    places: int | None = None,
) -> Packed:
    """Lays prompts and responses out in as few rows as best-fit decreasing finds.

    A sequence of which no token is asked takes no place, and nothing is read behind the last one that is. Which sequences
    share a row depends on lengths alone, which must be known: outside of `jit`, into which the result goes.

    Args:
      prompted: what is answered, padded on either side, and where responses have tokens.
      tokens: [N, T] int32 the responses, padded on the right.
      row_length: L, places of a row; None for the longest sequence, which costs attention least.
      mask: [N, T] the tokens of which something is asked, such as those of a loss; None for all.
      rows: M, to fill up to, so that batches go through one compiled program; None for as many as are needed.
      places: K, likewise.

    Raises:
      ShapeError: arrays that do not fit together, or are traced; a prompt without a token, or a response that goes on after a
        gap; a sequence longer than a row, or more of them than there is room for.
    """
    there, asked = _checked(prompted, tokens, mask)
    width = asked.shape[1]
    last = np.max(np.where(asked, np.arange(1, width + 1), 0), axis=1, initial=0)
    prompt_mask = np.asarray(prompted.prompt_mask, bool) & (last > 0)[:, None]
    empty = np.flatnonzero((last > 0) & ~prompt_mask.any(axis=-1))
    if empty.size:
        raise ShapeError(f"Prompt {empty[0]} has no token, and nothing can follow it: give it one that begins a text.")
    read = np.concatenate([prompt_mask, there & (np.arange(width) < last[:, None])], axis=1)
    lengths = np.sum(read, axis=1)
    row_length = max(int(np.max(lengths, initial=1)), 2) if row_length is None else row_length
    row, start, number, needed = _plan(lengths, row_length)
    where = (row * row_length + start)[:, None] + np.cumsum(read, axis=1) - 1
    shape = _enough("rows", needed, rows, f" of {row_length} places"), row_length
    flat_tokens, flat_segments = np.zeros((2, shape[0] * row_length), np.int32)
    flat_tokens[where[read]] = np.concatenate([np.asarray(prompted.prompts), np.asarray(tokens)], axis=1)[read]
    flat_segments[where[read]] = np.broadcast_to(number[:, None], read.shape)[read]
    before = where[:, -width:][asked] - 1 if width else np.zeros(0, int)
    return _packed(flat_tokens.reshape(shape), flat_segments.reshape(shape), before, asked, places)


def of_rows(
    tokens: ArrayLike,
    segments: ArrayLike,
    mask: ArrayLike,
    sequences: int | None = None,
    columns: int | None = None,
    places: int | None = None,
) -> Packed:
    """Reads the layout of rows that are packed already, as a trainer or a file has them.

    Sequences count in reading order: row after row, in each from the left. Token t of a sequence's response is the one t
    places after the first that the mask has of it, so that a response may have masked tokens within, as tool results are.

    Args:
      tokens: [M, L] int32 whole sequences, one after the other.
      segments: [M, L] int32 equal numbers, above 0, within each sequence of a row; 0 for padding.
      mask: [M, L] the tokens of responses of which something is asked, at their own places (not those that predict them).
      sequences: N, to fill up to with sequences without tokens, so that batches go through one compiled program; None for as
        many as there are.
      columns: T, likewise.
      places: K, likewise.

    Raises:
      ShapeError: arrays that do not fit together, or are traced; a sequence in several pieces; a mask at padding, or at the
        first token of a sequence, which nothing predicts; more than there is room for.
    """
    _refuse_traced(tokens, segments, mask)
    check_mask(jnp.asarray(mask))
    tokens, segments, asked = np.asarray(tokens), np.asarray(segments), np.asarray(mask, bool)
    number, begins = _sequences(tokens, segments, asked)
    count = _enough("sequences", int(np.sum(begins)), sequences)
    where = np.flatnonzero(asked)
    own = number[where]
    first = np.full(count, tokens.size)
    np.minimum.at(first, own, where)
    column = where - first[own]
    width = _enough("columns", int(np.max(column, initial=0)) + 1, columns)
    there = np.zeros((count, width), bool)
    there[own, column] = True
    return _packed(tokens.astype(np.int32), segments.astype(np.int32), where - 1, there, places)


def stack(parts: Sequence[Packed]) -> Packed:
    """Layouts side by side, with an axis in front: of the slices of a step that a scan goes through, or of devices.

    Rows and places are filled up to the most that any has.

    Raises:
      ShapeError: nothing to stack, or rows, responses or tokens of unequal lengths.
    """
    if not parts:
        raise ShapeError("There is nothing to stack: give the layout of each part.")
    shapes = [(np.shape(part.tokens)[1], *np.shape(part.index)) for part in parts]
    odd = next((shape for shape in shapes if shape != shapes[0]), None)
    if odd is not None:
        raise ShapeError(
            f"Parts must have rows of one length and as many responses of as many tokens, (L, N, T): got {shapes[0]} and "
            f"{odd}."
        )
    rows, places = (max(np.shape(getattr(part, name))[0] for part in parts) for name in ("segments", "places"))
    sizes = Packed(tokens=rows, segments=rows, places=places, known=places, index=shapes[0][1], mask=shapes[0][1])
    filled = [jax.tree.map(_filled, part, sizes) for part in parts]
    stacked: Packed = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
    return stacked


def balanced(lengths: ArrayLike, parts: int) -> np.ndarray:
    """Divides sequences, or groups of them, so that all parts hold as many and their lengths add up to about as much.

    Args:
      lengths: [N] tokens of each.
      parts: so many; they must divide N: fill a batch up before `prepare`.

    Returns:
      [parts, N / parts] indices, ascending in each, as `TokenBatch.rows` (or `groups`) takes them.

    Raises:
      ShapeError: no list of lengths, or no equal parts.
    """
    _refuse_traced(lengths)
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or parts < 1 or len(lengths) % parts:
        raise ShapeError(f"Lengths of shape {lengths.shape} are not to be divided into {parts} parts of as many each.")
    chosen: list[list[int]] = [[] for _ in range(parts)]
    lightest = [(0, part) for part in range(parts)]
    for sequence in np.argsort(-lengths, kind="stable").tolist():
        total, part = heapq.heappop(lightest)
        chosen[part].append(sequence)
        if len(chosen[part]) < len(lengths) // parts:
            heapq.heappush(lightest, (total + int(lengths[sequence]), part))
    return np.array([sorted(part) for part in chosen], int).reshape(parts, -1)


def _no_values(wanted: tuple[int, ...], found: tuple[int, ...], why: str) -> ShapeError:
    return ShapeError(f"values must have shape ({wanted[0]}, {wanted[1]}, ...), {why}; got {found}.")


def _shift(at: At) -> int:
    if at not in get_args(At):
        raise unknown_name("place of a token's number", at, get_args(At))
    return get_args(At).index(at)


def _checked(prompted: Prompted, tokens: ArrayLike, mask: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """(where responses have tokens, which of these are asked), [N, T] bool, of arrays that fit together."""
    _refuse_traced(prompted, tokens, mask)
    shape = np.shape(tokens)
    if len(shape) != 2:
        raise ShapeError(f"tokens must have shape [N, T], one row for each response; got {shape}.")
    if np.shape(prompted.prompts)[:1] != shape[:1] or np.ndim(prompted.prompts) != 2:
        raise ShapeError(
            f"prompts must have shape ({shape[0]}, P), one for each response; got {np.shape(prompted.prompts)}."
        )
    for name, given, wanted in (
        ("prompt_mask", prompted.prompt_mask, np.shape(prompted.prompts)),
        ("response_mask", prompted.response_mask, shape),
        ("mask", mask, shape),
    ):
        if given is not None and np.shape(given) != wanted:
            raise ShapeError(f"{name} must have shape {wanted}; got {np.shape(given)}.")
        if given is not None:
            check_mask(np.asarray(given))
    check_end(prompted.response_mask)
    there = np.asarray(prompted.response_mask, bool)
    return there, there if mask is None else there & np.asarray(mask, bool)


def _refuse_traced(*trees: Any) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees)):
        raise ShapeError(
            "How traced sequences fit into rows cannot be seen: pack them outside of jit, and pass what comes out into it."
        )


def _plan(lengths: np.ndarray, row_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Best-fit decreasing: (row [N], first place in it [N], number from 1 on among those of the row [N], number of rows)."""
    longest = int(np.argmax(lengths)) if lengths.size else 0
    if lengths.size and lengths[longest] > row_length:
        raise ShapeError(
            f"Sequence {longest} has {lengths[longest]} tokens, and a row {row_length} places: take longer rows, or leave the "
            "response out by an empty mask."
        )
    if row_length < 2:
        raise ShapeError(f"A row needs places for a prompt and a response, 2 at least; got row_length={row_length}.")
    row, start, number = np.zeros((3, len(lengths)), int)
    rooms: list[tuple[int, int]] = []  # what is left in each row, the least first
    held: list[int] = []
    for sequence in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[sequence])
        if size == 0:
            break
        best = bisect.bisect_left(rooms, (size, 0))
        if best == len(rooms):
            left, own = row_length, len(held)
            held.append(0)
        else:
            left, own = rooms.pop(best)
        held[own] += 1
        row[sequence], start[sequence], number[sequence] = own, row_length - left, held[own]
        bisect.insort(rooms, (left - size, own))
    return row, start, number, len(held)


def _sequences(tokens: np.ndarray, segments: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which sequence a place belongs to [M * L], where each begins [M, L]) of rows that are packed as they should be."""
    if tokens.ndim != 2 or not segments.shape == asked.shape == tokens.shape:
        raise ShapeError(
            f"tokens, segments and mask must have one shape [M, L]; got {tokens.shape}, {segments.shape}, {asked.shape}."
        )
    if not np.issubdtype(segments.dtype, np.integer) or np.min(segments, initial=0) < 0:
        raise ShapeError("segments must be whole numbers above 0 within sequences, and 0 for padding.")
    begins = segments > 0
    begins[:, 1:] &= segments[:, 1:] != segments[:, :-1]
    pieces = np.stack([np.nonzero(begins)[0], segments[begins]], axis=1)
    known, times = np.unique(pieces, axis=0, return_counts=True)
    if np.any(times > 1):
        row, segment = known[np.argmax(times)].tolist()
        raise ShapeError(
            f"Segment {segment} of row {row} is in {np.max(times)} pieces: the tokens of a sequence stand next to each other."
        )
    for wrong, why in (
        (asked & (segments == 0), "is padding"),
        (asked & begins, "is the first of its sequence, which nothing predicts: a prompt has one token at least"),
    ):
        if np.any(wrong):
            row, place = np.argwhere(wrong)[0].tolist()
            raise ShapeError(f"The mask has place {place} of row {row}, which {why}.")
    return np.cumsum(begins.ravel()) - 1, begins


def _packed(
    tokens: np.ndarray, segments: np.ndarray, before: np.ndarray, asked: np.ndarray, places: int | None
) -> Packed:
    """With the places [k] that predict the tokens that are asked [N, T], in their order."""
    index = np.zeros(asked.shape, np.int32)
    index[asked] = np.arange(len(before))
    if places is None:
        places = max(len(before), 1)  # of an empty list nothing could be taken, not even for what is masked
    count = _enough("places", len(before), places)
    known = np.arange(count) < len(before)
    return Packed(tokens, segments, _filled(before.astype(np.int32), count), known, index, asked)


def _enough(name: str, needed: int, given: int | None, of: str = "") -> int:
    if given is None:
        return max(needed, 1)
    if given < max(needed, 1):
        raise ShapeError(f"{name}={given} is not enough: {max(needed, 1)}{of} are needed.")
    return given


def _filled(values: ArrayLike, size: int) -> np.ndarray:
    values = np.asarray(values)
    return np.pad(values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1))
