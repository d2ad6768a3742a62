"""Responses from a language model, with what an objective needs to know of how they were drawn.

Log-probabilities and entropies are those of the full distribution at the temperature. `score` gives the hidden states
from which the same numbers come at training time: whatever the ratio of the two is, it is the policy that has moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike

from maxent_rl import losses
from maxent_rl.distributions import Categorical
from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.networks.transformer import Transformer, TransformerCache, init_cache, unembedding
from maxent_rl.tokens.batch import check_mask
from maxent_rl.tokens.vocabulary import log_rounding


@struct.dataclass
class Responses:
    """What a model answered.

    Attributes:
      tokens: [N, T] int32; `pad_token` after the end.
      mask: [N, T] bool; True up to and including the end token.
      logp: [N, T] float32 log-probability of each token in nats, of the full distribution at the temperature, whatever
        top-p left out; 0 after the end.
      entropy: [N, T] float32 entropy of that distribution in nats; 0 after the end.
      logp_drawn: [N, T] float32 log-probability of each token under the distribution at the temperature that it was drawn
        with, in nats, top-p aside; the same as `logp` but where tokens have temperatures of their own.
    """

    tokens: Array
    mask: Array
    logp: Array
    entropy: Array
    logp_drawn: Array


def sample(
    model: Transformer,
    params: Any,
    prompts: Array,
    prompt_mask: Array,
    key: Array,
    *,
    response_length: int,
    end_token: int,
    temperature: ArrayLike = 1.0,
    top_p: ArrayLike = 1.0,
    greedy: bool = False,
    pad_token: int = 0,
    token_temperature: Callable[[Array], Array] | None = None,
) -> Responses:
    """Lets a model answer prompts, one token after the other.

    Pure: jit it with `model`, `response_length` and `greedy` static, vmap it over seeds of `params` and `key`. Row n draws the
    same numbers whatever the number of rows. When all rows (of all seeds) have ended, the remaining steps do nothing.

    Args:
      model: with the configuration of `params`.
      params: its parameters.
      prompts: [N, P] int32, padded on either side.
      prompt_mask: [N, P] bool; False for padding. A prompt without any token, of which no first token follows, is refused
        where the mask can be looked at; where it is traced, the response to it has no tokens either.
      key: random key.
      response_length: T, the most tokens of a response; static.
      end_token: ends a response, of which it is a part.
      temperature: [] or [N], greater than 0; divides the logits. For the likeliest token take `greedy`.
      top_p: [] draw only from the smallest set of likeliest tokens whose mass reaches it; 1 for all. One token is always
        left.
      greedy: take the likeliest token (the first of equals) instead of drawing; static.
      pad_token: what stands after the end.
      token_temperature: from the entropy [N] of the policy at the temperature, where the next token is drawn, to the factor
        [N] by which that token's temperature is larger; a pytree, if it is to go into a jitted program. It changes what is
        drawn, and `logp_drawn`, but not `logp` and `entropy`. None for none.

    Returns:
      Responses [N, T].

    Raises:
      ShapeError: if the arguments' shapes do not fit together, or a prompt has no tokens.
      InvalidSettingError: if the temperature is a Python number that is not greater than 0.

    Source: nucleus sampling: The Curious Case of Neural Text Degeneration (arXiv 1904.09751), section 3.1.
    """
    _check_prompts(prompts, prompt_mask)
    if response_length < 1:
        raise ShapeError(f"A response needs room for at least one token, got response_length={response_length}.")
    prompts, prompt_mask = to_the_end(prompts, prompt_mask)
    read = reader(model, params)
    draw = drawer(
        model, params, key, len(prompts), temperature=temperature, top_p=top_p, greedy=greedy, pad_token=pad_token,
        token_temperature=token_temperature,
    )  # fmt: skip

    def answer(hidden: Array, going: Array, place: ArrayLike) -> tuple[Array, Responses]:
        response = draw(hidden, going, place)
        return going & (response.tokens != end_token), response

    cache = init_cache(model.config, len(prompts), prompts.shape[1] + response_length - 1)
    hidden, cache = read(prompts, prompt_mask, cache)
    return _answer_in_turn(read, answer, hidden, jnp.any(prompt_mask, axis=-1), cache, response_length, pad_token)


def reader(
    model: Transformer, params: Any
) -> Callable[[Array, Array, TransformerCache], tuple[Array, TransformerCache]]:
    """(tokens [N, L], valid [N, L], cache) -> (the hidden states [N, D] that predict what comes next, cache)."""

    def read(tokens: Array, valid: Array, cache: TransformerCache) -> tuple[Array, TransformerCache]:
        output: Any = model.apply({"params": params}, tokens, valid, cache=cache)
        return output[0][:, -1], output[1]

    return read


def drawer(
    model: Transformer,
    params: Any,
    key: Array,
    rows: int,
    *,
    temperature: ArrayLike = 1.0,
    top_p: ArrayLike = 1.0,
    greedy: bool = False,
    pad_token: int = 0,
    token_temperature: Callable[[Array], Array] | None = None,
) -> Callable[[Array, Array, ArrayLike], Responses]:
    """(hidden states [N, D], whether each row goes on [N], place []) -> one token of each row, each field [N].

    Args:
      model: with the configuration of `params`.
      params: its parameters.
      key: random key; each row and place has random numbers of its own.
      rows: N.
      temperature: as `sample` takes it, and so all others.
      top_p: [].
      greedy: whether the likeliest token is taken.
      pad_token: of rows that do not go on.
      token_temperature: factors of the tokens' own temperatures.

    Raises:
      InvalidSettingError: the temperature is a Python number that is not greater than 0.
      ShapeError: it has a shape other than () or (N,).
    """
    if isinstance(temperature, int | float) and not temperature > 0:
        raise InvalidSettingError(
            f"The temperature must be greater than 0, got {temperature}: greedy=True takes the likeliest."
        )
    if jnp.shape(temperature) not in ((), (rows,)):
        raise ShapeError(
            f"The temperature must have shape () or ({rows},), one for each prompt, got {jnp.shape(temperature)}."
        )
    matrix = unembedding(params, model.config)
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))

    def draw(hidden: Array, going: Array, place: ArrayLike) -> Responses:
        logits = jnp.dot(hidden, matrix, preferred_element_type=jnp.float32)
        policy = Categorical(logits / jnp.asarray(temperature, jnp.float32)[..., None])
        entropy, source = policy.entropy(), policy
        if token_temperature is not None:
            source = Categorical(policy.log_probs / token_temperature(entropy)[..., None])
        drawn = policy.mode() if greedy else _draw(source.log_probs, row_keys, place, top_p)
        logp = jnp.where(going, policy.log_prob(drawn), 0.0)
        return Responses(
            tokens=jnp.where(going, drawn, pad_token),
            mask=going,
            logp=logp,
            entropy=jnp.where(going, entropy, 0.0),
            logp_drawn=logp if source is policy else jnp.where(going, source.log_prob(drawn), 0.0),
        )

    return draw


def score(model: Transformer, params: Any, prompts: Array, prompt_mask: Array, responses: Array, mask: Array) -> Array:
    """The hidden states that predict each token of given responses, all in one pass.

    With `unembedding(params, model.config)` and the temperature of sampling they give what `sample` recorded.

    Args:
      model: with the configuration of `params`.
      params: its parameters; gradients flow into them.
      prompts: [N, P] int32, padded on either side.
      prompt_mask: [N, P] bool; False for padding. The first state after a prompt without any token means nothing.
      responses: [N, T] int32, padded on the right.
      mask: [N, T] bool; False after the end.

    Returns:
      [N, T, D] hidden states, in the dtype of the computation; they mean nothing where `mask` is False.

    Raises:
      ShapeError: if the arguments' shapes do not fit together, or, where masks can be looked at, a prompt has no tokens or a
        response has some after a gap.
    """
    tokens, valid = _as_read(prompts, prompt_mask, responses, mask)
    output: Any = model.apply({"params": params}, tokens, valid)
    hidden: Array = output[:, prompts.shape[1] - 1 :]
    return hidden


def score_prompts(model: Transformer, params: Any, prompts: Array, prompt_mask: Array) -> tuple[Array, Array]:
    """The hidden states that predict each token of prompts.

    Args:
      model: with the configuration of `params`.
      params: its parameters; gradients flow into them.
      prompts: [N, P] int32, padded on either side, without gaps.
      prompt_mask: [N, P] bool; False for padding.

    Returns:
      (hidden states [N, P, D], known [N, P] bool): where a token is known to follow from those before it. The first token of a
      prompt, which nothing predicts, is not; where it is not, states mean nothing.

    Raises:
      ShapeError: the arguments' shapes do not fit together, or a prompt has no tokens.
    """
    _check_prompts(prompts, prompt_mask)
    there = jnp.asarray(prompt_mask, bool)
    output: Any = model.apply({"params": params}, jnp.asarray(prompts), there)
    before = jnp.pad(there[:, :-1], ((0, 0), (1, 0)))
    hidden: Array = jnp.pad(output[:, :-1], ((0, 0), (1, 0), (0, 0)))
    return hidden, there & before


def score_layers(
    model: Transformer, params: Any, prompts: Array, prompt_mask: Array, responses: Array, mask: Array
) -> Array:
    """The residual stream after each block where each token of given responses is predicted, all in one pass.

    Args:
      model: and all others as `score` takes them.
      params: its parameters; gradients flow into them.
      prompts: [N, P] int32, padded on either side.
      prompt_mask: [N, P] bool; False for padding.
      responses: [N, T] int32, padded on the right.
      mask: [N, T] bool; False after the end.

    Returns:
      [layer, N, T, D], before the final norm; they mean nothing where `mask` is False.

    Raises:
      ShapeError: as `score` does.
    """
    tokens, valid = _as_read(prompts, prompt_mask, responses, mask)
    names = [f"layers_{index}" for index in range(model.config.num_layers)]
    _, kept = model.apply(
        {"params": params}, tokens, valid, capture_intermediates=lambda module, _: module.name in names
    )
    streams = [kept["intermediates"][name]["__call__"][0][0].reshape(*tokens.shape, -1) for name in names]
    return jnp.stack(streams)[:, :, prompts.shape[1] - 1 :]


def _as_read(prompts: Array, prompt_mask: Array, responses: Array, mask: Array) -> tuple[Array, Array]:
    """What a model reads to predict all tokens of given responses: (tokens, whether they count), [N, P + T - 1]."""
    _check_prompts(prompts, prompt_mask)
    prompts, prompt_mask = to_the_end(prompts, prompt_mask)
    if jnp.ndim(responses) != 2 or len(responses) != len(prompts):
        raise ShapeError(f"Responses must have shape ({len(prompts)}, T), one for each prompt, got {responses.shape}.")
    if mask.shape != responses.shape:
        raise ShapeError(f"The mask must have the responses' shape {responses.shape}, got {mask.shape}.")
    check_end(mask)
    tokens = jnp.concatenate([prompts, responses[:, :-1]], axis=1)  # the last token predicts nothing
    return tokens, jnp.concatenate([prompt_mask, jnp.asarray(mask, bool)[:, :-1]], axis=1)


def nucleus(log_probs: Array, top_p: ArrayLike) -> Array:
    """Rules out all but the smallest set of likeliest choices whose mass reaches `top_p`.

    Args:
      log_probs: [..., V] normalised log-probabilities, in nats.
      top_p: [] mass to be reached; at least one choice is left, and of equally likely ones the first.

    Returns:
      [..., V] the same with -inf for what is ruled out; not normalised.

    Source: The Curious Case of Neural Text Degeneration (arXiv 1904.09751), section 3.1.
    """
    ordered = jnp.sort(log_probs, axis=-1, descending=True)
    mass_before = jnp.cumsum(jnp.exp(ordered), axis=-1)[..., :-1]
    # A mass that is short of it by rounding alone has reached it.
    size = 1 + jnp.sum(mass_before < top_p - losses.rounding_of(top_p), axis=-1, keepdims=True)
    # From the smallest value that is in, and not by sorting indices along: half the work, and no scatter.
    least = jnp.take_along_axis(ordered, size - 1, axis=-1)
    apart = log_rounding(log_probs)  # what differs by less is equal
    above, equal = log_probs > least + apart, jnp.abs(log_probs - least) <= apart
    room = size - jnp.sum(above, axis=-1, keepdims=True)
    inside = above | (equal & (jnp.cumsum(equal, axis=-1) <= room))
    return jnp.where(inside, log_probs, -jnp.inf)


def _answer_in_turn(
    read: Callable[[Array, Array, TransformerCache], tuple[Array, TransformerCache]],
    answer: Callable[[Array, Array, ArrayLike], tuple[Array, Responses]],
    hidden: Array,
    asked: Array,
    cache: TransformerCache,
    response_length: int,
    pad_token: int,
) -> Responses:
    """Answers from the prompts' last hidden states [N, D], then reads each token and answers again until all have ended.

    Rows that are not `asked` [N] have ended from the start.
    """
    going, first = answer(hidden, asked, 0)
    nothing = jax.tree.map(jnp.zeros_like, first).replace(tokens=jnp.full_like(first.tokens, pad_token))

    def step(carry: tuple[TransformerCache, Responses, Array], place: Array) -> tuple[Any, Responses]:
        def proceed(cache: TransformerCache, last: Responses, going: Array) -> tuple[Any, ...]:
            hidden, cache = read(last.tokens[:, None], last.mask[:, None], cache)
            going, response = answer(hidden, going, place)
            return cache, response, going

        def idle(cache: TransformerCache, last: Responses, going: Array) -> tuple[Any, ...]:
            return cache, nothing, going

        carry = jax.lax.cond(any_going(carry[2]), proceed, idle, *carry)
        return carry, carry[1]

    # The last token is never read, so the loop is one shorter than the response.
    _, others = jax.lax.scan(step, (cache, first, going), jnp.arange(1, response_length))
    responses: Responses = jax.tree.map(
        lambda one, more: jnp.concatenate([one[:, None], jnp.moveaxis(more, 0, 1)], axis=1), first, others
    )
    return responses


@jax.custom_batching.custom_vmap
def any_going(going: Array) -> Array:
    """Whether anyone is still answering, under vmap anyone in any seed.

    A condition of each seed's own would make both branches run and copy the cache in every step (a third more time).
    """
    return jnp.any(going)


@any_going.def_vmap
def _any_going_in_any_seed(axis_size: int, in_batched: list[bool], going: Array) -> tuple[Array, bool]:
    return any_going(going), False


def _draw(log_probs: Array, row_keys: Array, place: ArrayLike, top_p: ArrayLike) -> Array:
    """Draws a token [N] from each row [N, V], with the random numbers of that row and place."""
    allowed = jax.lax.cond(jnp.asarray(top_p) < 1.0, lambda all_: nucleus(all_, top_p), lambda all_: all_, log_probs)
    keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, place)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, log_probs.shape[-1:]))(keys)
    return jnp.argmax(allowed + noise, axis=-1).astype(jnp.int32)


def _check_prompts(prompts: Array, prompt_mask: Array) -> None:
    if jnp.ndim(prompts) != 2 or prompts.shape[1] < 1:
        raise ShapeError(f"Prompts must have shape (N, P) with at least one token each, got {prompts.shape}.")
    if prompt_mask.shape != prompts.shape:
        raise ShapeError(f"The prompt mask must have the prompts' shape {prompts.shape}, got {prompt_mask.shape}.")
    if not isinstance(prompt_mask, jax.core.Tracer):
        check_mask(prompt_mask)
        empty = np.flatnonzero(~np.asarray(prompt_mask, bool).any(axis=-1))
        if empty.size:
            raise ShapeError(
                f"Prompt {empty[0]} has no token, and nothing can follow it: give it one that begins a text."
            )


def check_end(mask: Array) -> None:
    """Refuses responses that go on after a gap: what predicts the token after it is the state at a place without a token."""
    if isinstance(mask, jax.core.Tracer):
        return
    check_mask(mask)
    there = np.asarray(mask, bool)
    gaps = np.flatnonzero(np.any(there[:, 1:] & ~there[:, :-1], axis=-1))
    if gaps.size:
        raise ShapeError(
            f"Response {gaps[0]} has tokens after a gap: pad responses on the right, and let the mask be True on all their "
            "tokens, also those that are left out of a loss."
        )


def to_the_end(prompts: Array, prompt_mask: Array) -> tuple[Array, Array]:
    """Prompts that end at the last place, whichever side they were padded on: the next token is predicted there.

    Padding at the end goes round to the front. Gaps within may stay: a position counts the tokens before it.
    """
    length = prompts.shape[1]
    mask = jnp.asarray(prompt_mask, bool)
    last = length - 1 - jnp.argmax(mask[:, ::-1], axis=-1)
    places = (jnp.arange(length) + last[:, None] + 1) % length
    return jnp.take_along_axis(jnp.asarray(prompts), places, axis=-1), jnp.take_along_axis(mask, places, axis=-1)
