"""What losses need of a policy over a large vocabulary, and of a teacher beside it, without ever holding all logits.

Log-probability and entropy come from hidden states and the unembedding in chunks of tokens; the backward pass computes each
chunk's logits again and uses the closed forms of both gradients, so that memory does not grow with the number of tokens.

Sharded inputs stay where they are. Of an unembedding sharded over V each device keeps its part, and only numbers per token are
exchanged (backward also the gradient of the hidden states). Of hidden states sharded over N each device works on its own
sequences in every chunk, if the number of chunks divides T; with T a power of two it does for chunks of N tokens or more. The
gradient of the unembedding is then added up across devices in every chunk, so larger chunks exchange less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError

VocabularyFunction = Callable[[Array, Array], Array]
"""Takes log-probabilities [..., V] in nats and tokens [...], and gives for each token a number, [...], or several [..., K]."""
Comparison = Callable[[Array, Array, Array], Array]
"""Takes log-probabilities of a policy and of its teacher, [..., V] each in nats, and tokens [...], and gives as much."""

# Logits held at once, in elements: 512 tokens of a vocabulary of 151,936, 320 MB. The gradient of the unembedding is read
# and written once for each chunk, which costs less the larger chunks are; benchmarks/NOTES.md has the measurements.
_LOGITS_HELD = 80_000_000


@flax.struct.dataclass
class TeacherStates:
    """What a teacher says of the same tokens, before it is made numbers over the vocabulary; all of it is held constant.

    Attributes:
      hidden: [N, T, D'] its last hidden states where the tokens are predicted; D' need not be the policy's width.
      unembedding: [D', V] maps them to logits of the same vocabulary.
      temperature: [] divides these, larger than 0.
    """

    hidden: Array
    unembedding: Array
    temperature: ArrayLike = 1.0


@flax.struct.dataclass
class TokenStatistics:
    """What is known of each token under the policy.

    Attributes:
      logp: [N, T] log-probability of the token, in nats.
      entropy: [N, T] entropy of the distribution that it was drawn from, in nats.
      extra: [N, T] each (or [N, T, K]), what further functions made of the whole distribution; the gradient flows through
        those that were asked for with it.
    """

    logp: Array
    entropy: Array
    extra: dict[str, Array]


def token_statistics(
    hidden: ArrayLike,
    unembedding: ArrayLike,
    tokens: ArrayLike,
    temperature: ArrayLike = 1.0,
    *,
    chunk: int | None = None,
    extra: Mapping[str, VocabularyFunction] | None = None,
    differentiable: Mapping[str, VocabularyFunction] | None = None,
    mask: ArrayLike | None = None,
    teacher: TeacherStates | None = None,
    compared: Mapping[str, Comparison] | None = None,
) -> TokenStatistics:
    """Log-probabilities and entropies of `softmax(hidden @ unembedding / temperature)`, chunk by chunk.

    No array [N, T, V] is held, forward or backward: beside inputs and outputs there are at most two arrays [chunk, V] (and
    what `extra` and `differentiable` need for a chunk) and, backward, one like the unembedding (one more if that is a
    transposed view, as of tied embeddings). Reverse-mode gradients only, of the first order. Numbers are float32, also those
    that add up the gradient of a bfloat16 unembedding; float64 if the inputs are. Under `vmap` every member of the batch
    holds a chunk of its own.

    Args:
      hidden: [N, T, D] the last hidden states, those from which `tokens` were drawn.
      unembedding: [D, V] maps a hidden state to logits.
      tokens: [N, T] integers in [0, V).
      temperature: [] divides the logits, larger than 0; held constant.
      chunk: the most tokens whose logits are held at once; None chooses from V.
      extra: by name, functions of the log-probabilities [..., V] (at `temperature`) and of the tokens [...], e.g.
        `{"collision": lambda log_probs, tokens: jnp.sum(jnp.exp(2 * log_probs), -1)}`; held constant. Of several numbers for
        each token the last axis is kept, [N, T, K]. `maxent_rl.tokens.vocabulary` has some.
      differentiable: further such functions through which gradients flow, each of them computed again for a chunk backward.
      mask: [N, T] 0 where nothing is to be read: there `hidden` and `tokens` may hold anything, NaN included, and the
        statistics are those of the zero vector. Without it, positions with a cotangent of zero give no gradient either.
      teacher: another model over the same vocabulary, whose log-probabilities are made chunk by chunk beside the policy's.
      compared: by name, functions of both, such as divergences (`maxent_rl.tokens.vocabulary` has some); gradients flow
        through them into the policy, none into the teacher.

    Returns:
      The statistics, [N, T] each; `logp`, `entropy` and what is `differentiable` or `compared` have gradients in `hidden` and
      `unembedding`.

    Raises:
      ShapeError: shapes do not fit, or the teacher has another vocabulary.
      InvalidSettingError: a name stands in two of `extra`, `differentiable` and `compared`, `chunk` or a temperature is not
        positive, or `tokens` are no integers.
      MissingInputError: something is to be compared, and there is no teacher.

    Source: the gradients in the logits z, with p = softmax(z) and the entropy H, are onehot - p and -p (log p + H).
    """
    hidden, unembedding, tokens = jnp.asarray(hidden), jnp.asarray(unembedding), jnp.asarray(tokens)
    _check_shapes(hidden, unembedding, tokens, mask)
    temperature = _checked_temperature(temperature)
    if chunk is not None and chunk < 1:
        raise InvalidSettingError(f"chunk is {chunk}: at least one token is needed.")
    if mask is not None:
        there = jnp.asarray(mask) != 0
        hidden, tokens = jnp.where(there[..., None], hidden, 0), jnp.where(there, tokens, 0)
    given = None if teacher is None or not compared else _of_teacher(teacher, hidden, unembedding, mask)
    if compared and given is None:
        raise MissingInputError(
            f"{', '.join(compared)} compares the policy with a teacher: pass teacher=TeacherStates(...)."
        )
    dtype = jnp.promote_types(hidden.dtype, unembedding.dtype)
    # The pull of a function back to its log-probabilities holds some arrays of a chunk more; of two models, twice as many.
    held = _LOGITS_HELD // (4 if compared else 2 if differentiable else 1)
    chunks, rows = _division(tokens.shape[0], tokens.shape[1], chunk or max(1, held // unembedding.shape[1]))
    constant, moving = extra or {}, differentiable or {}
    asked = _of_two(constant) | _of_two(moving) | dict(compared or {})
    if len(asked) < len(constant) + len(moving) + len(compared or {}):
        twice = sorted(name for name in asked if sum(name in each for each in (constant, moving, compared or {})) > 1)
        raise InvalidSettingError(
            f"{', '.join(twice)} is asked for in two of extra, differentiable and compared: give each name once."
        )
    functions, constants = _converted(asked, (rows, unembedding.shape[1]), tokens.dtype, dtype)
    arguments = (
        constants,
        hidden.astype(dtype).reshape(-1, hidden.shape[-1]),
        unembedding.astype(dtype),
        tokens.reshape(-1),
        temperature.astype(jnp.promote_types(dtype, jnp.float32)),
        given,
    )
    logp, entropy, *others = _statistics((functions, len(constant)), (chunks, rows), *_on_the_same_devices(arguments))
    found = {name: other.reshape(*tokens.shape, *other.shape[1:]) for name, other in zip(asked, others, strict=True)}
    found |= {name: jax.lax.stop_gradient(found[name]) for name in constant}
    return TokenStatistics(logp.reshape(tokens.shape), entropy.reshape(tokens.shape), found)


def logits_statistics(
    logits: ArrayLike,
    tokens: ArrayLike,
    extra: Mapping[str, VocabularyFunction] | None = None,
    *,
    teacher_logits: ArrayLike | None = None,
    compared: Mapping[str, Comparison] | None = None,
) -> TokenStatistics:
    """The same statistics for those who hold the logits.

    Args:
      logits: [..., V], divided by the temperature if there is one; -inf for what cannot be drawn.
      tokens: [...] integers in [0, V).
      extra: as in `token_statistics`.
      teacher_logits: [..., V] of a teacher, divided by its temperature; held constant.
      compared: as in `token_statistics`.

    Returns:
      The statistics, [...] each, float32 (float64 of float64 logits); `logp`, `entropy` and what is `compared` have gradients
      in `logits`.

    Raises:
      ShapeError: shapes do not fit.
      InvalidSettingError: `tokens` are no integers.
      MissingInputError: something is to be compared, and there is no teacher.
    """
    logits, tokens, extra = jnp.asarray(logits), jnp.asarray(tokens), extra or {}
    if logits.ndim == 0 or tokens.shape != logits.shape[:-1]:
        raise ShapeError(
            f"tokens has the shape {tokens.shape}; with logits {logits.shape}, {logits.shape[:-1]} is needed."
        )
    _check_integers(tokens)
    logp, entropy, *normaliser = _of_logits(logits, tokens)
    log_probs = jax.lax.stop_gradient(_log_probs(_as_float(logits), *normaliser))
    found = {name: jax.lax.stop_gradient(function(log_probs, tokens)) for name, function in extra.items()}
    if compared:
        own = jax.nn.log_softmax(_as_float(logits))
        of_teacher = _teacher_log_probs(teacher_logits, logits.shape, compared)
        found |= {name: function(own, of_teacher, tokens) for name, function in compared.items()}
    return TokenStatistics(logp, entropy, found)


def _teacher_log_probs(logits: ArrayLike | None, shape: tuple[int, ...], compared: Mapping[str, Comparison]) -> Array:
    if logits is None:
        raise MissingInputError(
            f"{', '.join(compared)} compares the policy with a teacher: pass teacher_logits=[..., V]."
        )
    if jnp.shape(logits) != shape:
        raise ShapeError(f"teacher_logits has the shape {jnp.shape(logits)}; that of the policy's, {shape}, is needed.")
    return jax.lax.stop_gradient(jax.nn.log_softmax(_as_float(jnp.asarray(logits))))


def _of_two(functions: Mapping[str, VocabularyFunction]) -> dict[str, Comparison]:
    """The same as functions of policy and teacher, whoever that is."""
    return {name: lambda own, _, tokens, each=each: each(own, tokens) for name, each in functions.items()}  # type: ignore[misc]


def _of_teacher(
    teacher: TeacherStates, hidden: Array, unembedding: Array, mask: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """(hidden [n, D'], unembedding [D', V], temperature []) of a teacher, checked, clean and constant."""
    states, matrix = jnp.asarray(teacher.hidden), jnp.asarray(teacher.unembedding)
    if states.ndim != 3 or states.shape[:-1] != hidden.shape[:-1]:
        raise ShapeError(
            f"The teacher's hidden states have the shape {states.shape}; with the policy's {hidden.shape}, "
            f"({hidden.shape[0]}, {hidden.shape[1]}, D') is needed."
        )
    if matrix.ndim != 2 or matrix.shape[0] != states.shape[-1]:
        raise ShapeError(
            f"The teacher's unembedding has the shape {matrix.shape}; with hidden states {states.shape}, [D', V] with "
            f"D' = {states.shape[-1]} is needed."
        )
    if matrix.shape[1] != unembedding.shape[1]:
        raise ShapeError(
            f"The teacher has a vocabulary of {matrix.shape[1]} tokens and the policy one of {unembedding.shape[1]}: what "
            "they say of a token can be compared over one vocabulary alone."
        )
    temperature = _checked_temperature(teacher.temperature)
    if mask is not None:
        states = jnp.where((jnp.asarray(mask) != 0)[..., None], states, 0)
    dtype = jnp.promote_types(states.dtype, matrix.dtype)
    given = states.astype(dtype).reshape(-1, states.shape[-1]), matrix.astype(dtype)
    states, matrix = jax.lax.stop_gradient(given)
    return states, matrix, temperature.astype(jnp.promote_types(dtype, jnp.float32))


def _check_shapes(hidden: Array, unembedding: Array, tokens: Array, mask: ArrayLike | None) -> None:
    if hidden.ndim != 3:
        raise ShapeError(f"hidden has the shape {hidden.shape}; [N, T, D] is needed.")
    if unembedding.ndim != 2 or unembedding.shape[0] != hidden.shape[-1]:
        raise ShapeError(
            f"unembedding has the shape {unembedding.shape}; with hidden {hidden.shape}, [D, V] with D = {hidden.shape[-1]} "
            "is needed."
        )
    for name, array in (("tokens", tokens), ("mask", mask)):
        if array is not None and jnp.shape(array) != hidden.shape[:-1]:
            raise ShapeError(
                f"{name} has the shape {jnp.shape(array)}; with hidden {hidden.shape}, [N, T] = {hidden.shape[:-1]} is needed."
            )
    _check_integers(tokens)


def _check_integers(tokens: Array) -> None:
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise InvalidSettingError(f"tokens are of the type {tokens.dtype}; integers are needed.")


def _checked_temperature(temperature: ArrayLike) -> Array:
    if jnp.ndim(temperature) != 0:
        raise ShapeError(f"temperature has the shape {jnp.shape(temperature)}; a single number is needed.")
    if isinstance(temperature, int | float) and not temperature > 0:
        raise InvalidSettingError(f"temperature is {temperature}; it must be larger than 0.")
    return jax.lax.stop_gradient(jnp.asarray(temperature))


def _on_the_same_devices(given: Any) -> Any:
    """Arrays that all vary over the axes of `shard_map` that any of them varies over.

    What is the same on each device, as parameters are, then has the sum of the devices' gradients, as JAX gives it elsewhere:
    the closed form, which stands in the place of JAX's own, does not see where an array comes from.
    """
    every = frozenset[Any]().union(*map(_axes_of, jax.tree.leaves(given)))

    def vary(leaf: Array) -> Array:
        missing = every - _axes_of(leaf)
        varying: Array = jax.lax.pcast(leaf, tuple(missing), to="varying") if missing else leaf
        return varying

    return jax.tree.map(vary, given)


def _axes_of(leaf: Array) -> frozenset[Any]:
    """The axes of `shard_map` that an array varies over; releases of JAX differ in where they say it."""
    kind: Any = jax.typeof(leaf)
    known: frozenset[Any] = kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying
    return known


def _converted(
    extra: Mapping[str, Comparison], shape: tuple[int, int], integers: Any, floats: Any
) -> tuple[tuple[Callable[..., Array], ...], tuple[list[Array], ...]]:
    """The functions with what they close over as arguments, held constant: a custom gradient allows nothing else."""
    arguments = tuple(
        jax.ShapeDtypeStruct(*each)  # type: ignore[no-untyped-call]
        for each in (*[(shape, jnp.promote_types(floats, jnp.float32))] * 2, (shape[:1], integers))
    )
    functions, constants = [], []
    for name, function in extra.items():
        converted, closed_over = jax.closure_convert(function, *arguments)
        found = jax.eval_shape(converted, *arguments, *closed_over)
        if jnp.shape(found)[:1] != shape[:1]:
            raise ShapeError(
                f"The function {name!r} makes {jnp.shape(found)} of log_probs {shape}; {shape[:1]} is needed."
            )
        functions.append(converted)
        constants.append(jax.lax.stop_gradient(closed_over))
    return tuple(functions), tuple(constants)


def _division(sequences: int, length: int, most: int) -> tuple[int, int]:
    """(number of chunks, tokens of each), at most `most` tokens.

    A number of chunks that divides `length` gives every chunk the same share of every sequence; then one that leaves nothing
    over; else the last places of the chunks are filled with zeros.
    """
    count = sequences * length
    fewest = max(1, math.ceil(count / most))
    numbers = range(fewest, 2 * fewest)
    for whole in (length, count):
        for chunks in numbers:
            if whole % chunks == 0:
                return chunks, count // chunks
    return fewest, math.ceil(count / fewest)


def _deal(values: Array, division: tuple[int, int]) -> Array:
    """[n, ...] to [chunks, rows, ...]: neighbours go to different chunks, so that a sharded n is shared by all chunks."""
    chunks, rows = division
    left_over = chunks * rows - values.shape[0]
    if left_over:
        values = jnp.pad(values, [(0, left_over)] + [(0, 0)] * (values.ndim - 1))
    return jnp.moveaxis(values.reshape(rows, chunks, *values.shape[1:]), 1, 0)


def _gather(dealt: Array, count: int) -> Array:
    """Undoes `_deal`."""
    together = jnp.moveaxis(dealt, 0, 1)
    return together.reshape(-1, *together.shape[2:])[:count]


def _as_float(values: Array) -> Array:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _product(left: Array, right: Array, contracted: tuple[int, int]) -> Array:
    """A matrix product that adds up in float32 at least."""
    dtype = jnp.promote_types(left.dtype, jnp.float32)
    return jax.lax.dot_general(left, right, ((contracted[:1], contracted[1:]), ((), ())), preferred_element_type=dtype)


def _summary(logits: Array, tokens: Array) -> tuple[Array, Array, Array, Array]:
    """Log-probability and entropy [...] of logits [..., V]; then what `_log_probs` needs.

    The logarithm of the sum of exponentials stays in two parts: in float32 their sum would lose, at logits of a few hundred,
    what the gradients must know to 1e-5.
    """
    highest = jnp.max(logits, axis=-1)
    below = logits - highest[..., None]
    weight = jnp.exp(below)
    total = jnp.sum(weight, axis=-1)
    # At a logit of -inf the weight is 0 and 0 * -inf would be NaN.
    energy = jnp.sum(jnp.where(weight == 0, 0, weight * below), axis=-1)
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1, mode="clip")[..., 0]
    log_total = jnp.log(total)
    return (chosen - highest) - log_total, log_total - energy / total, highest, log_total


def _log_probs(logits: Array, highest: Array, log_total: Array) -> Array:
    return (logits - highest[..., None]) - log_total[..., None]


def _slope(log_probs: Array, tokens: Array, entropy: Array, logp_slope: Array, entropy_slope: Array) -> Array:
    """The gradient in logits [..., V], of cotangents [...] of log-probability and entropy."""
    idle = (logp_slope == 0) & (entropy_slope == 0)  # such a row gives zeros, though it be of NaN
    probs = jnp.exp(log_probs)
    pull = logp_slope[..., None] + entropy_slope[..., None] * (log_probs + entropy[..., None])
    places = jax.lax.broadcasted_iota(tokens.dtype, log_probs.shape, log_probs.ndim - 1)
    chosen = jnp.where(places == tokens[..., None], logp_slope[..., None], 0)
    return chosen - jnp.where((probs == 0) | idle[..., None], 0, probs * pull)


def _slope_of(
    function: Callable[..., Array], constants: Any, log_probs: Array, of_teacher: Array, tokens: Array, given: Array
) -> Array:
    """The gradient in logits [rows, V] of a function of log-probabilities, of its cotangents [rows, ...]."""
    _, pull = jax.vjp(lambda values: function(values, of_teacher, tokens, *constants), log_probs)
    (slope,) = pull(given)
    idle = jnp.all(given == 0, axis=tuple(range(1, given.ndim)))[:, None]
    slope = jnp.where(idle, 0, slope)
    # A logit raises its own log-probability by 1 and lowers all of them by its probability.
    return slope - jnp.where(idle, 0, jnp.exp(log_probs)) * jnp.sum(slope, axis=-1, keepdims=True)


@jax.custom_vjp
def _of_logits(logits: Array, tokens: Array) -> tuple[Array, Array, Array, Array]:
    return _summary(_as_float(logits), tokens)


def _of_logits_forward(logits: Array, tokens: Array) -> tuple[tuple[Array, Array, Array, Array], Any]:
    found = _of_logits(logits, tokens)
    return found, (logits, tokens, found)


def _of_logits_backward(kept: Any, slopes: tuple[Array, ...]) -> tuple[Array, None]:
    logits, tokens, (_, entropy, *normaliser) = kept
    log_probs = _log_probs(_as_float(logits), *normaliser)
    return _slope(log_probs, tokens, entropy, slopes[0], slopes[1]).astype(logits.dtype), None


_of_logits.defvjp(_of_logits_forward, _of_logits_backward)


_Functions = tuple[tuple[Callable[..., Array], ...], int]
"""What is asked of the whole vocabulary, and how many of these, the first ones, are held constant."""
_Teacher = tuple[Array, Array, Array] | None
"""Hidden states [n, D'], unembedding [D', V] and temperature [] of a teacher."""


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _with_slopes(
    functions: _Functions,
    division: tuple[int, int],
    constants: tuple[list[Array], ...],
    hidden: Array,
    unembedding: Array,
    tokens: Array,
    temperature: Array,
    teacher: _Teacher = None,
) -> tuple[Array, ...]:
    """(logp [n], entropy [n], and one [n, ...] for each function) of hidden [n, D] and tokens [n]."""
    return _statistics_forward(functions, division, constants, hidden, unembedding, tokens, temperature, teacher)[0]


def _statistics_forward(
    functions: _Functions,
    division: tuple[int, int],
    constants: tuple[list[Array], ...],
    hidden: Array,
    unembedding: Array,
    tokens: Array,
    temperature: Array,
    teacher: _Teacher = None,
) -> tuple[tuple[Array, ...], Any]:
    def one(_: None, dealt: tuple[Array, Array, Array | None]) -> tuple[None, tuple[Array, ...]]:
        some_hidden, some_tokens, of_teacher = dealt
        logits = _product(some_hidden, unembedding, (1, 0)) / temperature
        logp, entropy, *normaliser = _summary(logits, some_tokens)
        log_probs = _log_probs(logits, *normaliser)
        told = _told(teacher, of_teacher, log_probs)
        others = (
            each(log_probs, told, some_tokens, *values) for each, values in zip(functions[0], constants, strict=True)
        )
        return None, (logp, entropy, *normaliser, *others)

    of_teacher = None if teacher is None else _deal(teacher[0], division)
    _, found = jax.lax.scan(one, None, (_deal(hidden, division), _deal(tokens, division), of_teacher))
    logp, entropy, highest, log_total, *others = (_gather(each, tokens.shape[0]) for each in found)
    kept = (hidden, unembedding, tokens, temperature, (highest, log_total, entropy), constants, teacher)
    return (logp, entropy, *others), kept


def _statistics_backward(
    functions: _Functions, division: tuple[int, int], kept: Any, slopes: tuple[Array, ...]
) -> tuple[None, Array, Array, None, None, None]:
    hidden, unembedding, tokens, temperature, summary, constants, teacher = kept
    moving, of_moving = functions[0][functions[1] :], tuple(slopes[2 + functions[1] :])
    used = (slopes[0] != 0) | (slopes[1] != 0)
    for each in of_moving:
        used = used | jnp.any(each != 0, axis=tuple(range(1, each.ndim)))
    clean = jnp.where(used[:, None], hidden, 0)  # a slope of zero times a hidden state of NaN would be NaN

    def one(total: Array, given_chunk: tuple[tuple[Array, ...], Array | None]) -> tuple[Array, Array]:
        dealt, of_teacher = given_chunk
        some_hidden, some_tokens, highest, log_total, entropy, of_logp, of_entropy, *others = dealt
        logits = _product(some_hidden, unembedding, (1, 0)) / temperature
        log_probs = _log_probs(logits, highest, log_total)
        slope = _slope(log_probs, some_tokens, entropy, of_logp, of_entropy)
        told = _told(teacher, of_teacher, log_probs)
        for function, values, given in zip(moving, constants[functions[1] :], others, strict=True):
            slope = slope + _slope_of(function, values, log_probs, told, some_tokens, given)
        slope = (slope / temperature).astype(hidden.dtype)
        return total + _product(some_hidden, slope, (0, 0)), _product(slope, unembedding, (1, 1)).astype(hidden.dtype)

    nothing, _ = _on_the_same_devices((jnp.zeros(unembedding.shape, slopes[0].dtype), unembedding))
    dealt = tuple(_deal(each, division) for each in (clean, tokens, *summary, *slopes[:2], *of_moving))
    of_teacher = None if teacher is None else _deal(teacher[0], division)
    in_unembedding, in_hidden = jax.lax.scan(one, nothing, (dealt, of_teacher))
    return None, _gather(in_hidden, tokens.shape[0]), in_unembedding.astype(unembedding.dtype), None, None, None


def _told(teacher: _Teacher, states: Array | None, log_probs: Array) -> Array:
    """[rows, V] the log-probabilities of the teacher; where there is none, the policy's own, which nobody looks at."""
    if teacher is None or states is None:
        return log_probs
    logits = _product(states, teacher[1], (1, 0)) / teacher[2]
    return jax.nn.log_softmax(logits)


_with_slopes.defvjp(_statistics_forward, _statistics_backward)

_statistics = jax.jit(_with_slopes, static_argnums=(0, 1))  # outside of a jit, a loop would be compiled at every call
