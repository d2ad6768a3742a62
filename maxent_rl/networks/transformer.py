"""A decoder-only transformer in the layout of Llama, Qwen2 and Qwen3.

Parameters carry the names that Hugging Face gives them, so published weights load by renaming and transposing. The
module ends at the final norm: logits over a large vocabulary are never made for all tokens at once, but in chunks, from
its hidden states and `unembedding`.

Source: LLaMA (arXiv 2302.13971) section 2.2, Qwen2 (arXiv 2407.10671) section 2.2, Qwen3 (arXiv 2505.09388) section 2.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.settings import Count, Positive, Settings, check_settings

Rotation: TypeAlias = tuple[Array, Array]
LayerCache: TypeAlias = tuple[Array, Array]

_INITIAL_STD = 0.02  # of all matrices, as Hugging Face's `initializer_range`; the first policy is then nearly uniform


@dataclasses.dataclass(frozen=True)
class TransformerConfig(Settings):
    """The shape of a transformer; it is hashable, so that a program can be compiled for it.

    Llama has neither `qk_norm` nor `attention_bias`, Qwen2 has the biases, Qwen3 the norms.

    Raises:
      InvalidSettingError: for sizes that are out of bounds or do not fit together.
      UnknownNameError: for an unknown `dtype`.
    """

    vocabulary_size: Count
    """Number of tokens that the model knows, V."""
    hidden_size: Count
    """Width of the residual stream, D."""
    num_layers: Count
    """Number of blocks of attention and MLP."""
    num_heads: Count
    """Heads of the queries, a multiple of `num_key_value_heads`."""
    num_key_value_heads: Count
    """Heads of keys and values, each shared by a group of query heads."""
    head_size: Count
    """Width of one head, an even number; `num_heads * head_size` need not be `hidden_size`."""
    intermediate_size: Count
    """Width of the MLP inside."""
    rope_theta: Positive = 10_000.0
    """Base of the rotary positions' wavelengths."""
    rms_norm_epsilon: Positive = 1e-6
    """Added to the mean square inside every norm."""
    qk_norm: bool = False
    """Normalise each head of queries and keys before it is rotated (Qwen3)."""
    attention_bias: bool = False
    """Biases of the projections to queries, keys and values (Qwen2)."""
    tie_embeddings: bool = True
    """Let the embedding serve as the unembedding; otherwise `lm_head` is a matrix of its own."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters, norms, softmax and logits are float32 in either case."""

    def __post_init__(self) -> None:
        """Checks that the sizes fit together."""
        check_settings(self)
        if self.num_heads % self.num_key_value_heads:
            raise InvalidSettingError(
                f"--num-heads must be a multiple of --num-key-value-heads, got {self.num_heads} and "
                f"{self.num_key_value_heads}."
            )
        if self.head_size % 2:
            raise InvalidSettingError(
                f"--head-size must be even, as rotary positions turn pairs of entries, got {self.head_size}."
            )


@struct.dataclass
class TransformerCache:
    """Keys and values of the tokens that a model has read, so that the next one costs one step.

    All rows are at the same place; rows of different lengths differ in what of it is valid.

    Attributes:
      layers: per layer the keys and the values, each [N, num_key_value_heads, length, head_size].
      valid: [N, length] which places hold a token.
      size: [] number of places filled so far, int32.
    """

    layers: tuple[LayerCache, ...]
    valid: Array
    size: Array


def init_cache(config: TransformerConfig, batch: int, length: int) -> TransformerCache:
    """An empty cache with room for `length` tokens in each of `batch` rows; writing beyond it overwrites its end."""
    shape = (batch, config.num_key_value_heads, length, config.head_size)
    empty = jnp.zeros(shape, config.dtype)
    layers = ((empty, empty),) * config.num_layers
    return TransformerCache(layers=layers, valid=jnp.zeros((batch, length), bool), size=jnp.zeros((), jnp.int32))


def unembedding(params: Any, config: TransformerConfig) -> Array:
    """The matrix [D, V] that takes hidden states to logits, in the dtype of the computation.

    Logits are float32: `jnp.dot(hidden, unembedding, preferred_element_type=jnp.float32)`.

    Args:
      params: of a `Transformer` of this configuration.
      config: says whether the embedding serves for it.
    """
    matrix = params["embed_tokens"]["embedding"].T if config.tie_embeddings else params["lm_head"]["kernel"]
    return jnp.asarray(matrix, config.dtype)


class Transformer(nn.Module):
    """Reads tokens and gives for each the hidden state from which the next one is predicted.

    ```python
    model = Transformer(config)
    params = model.init(key, tokens, valid)["params"]
    hidden = model.apply({"params": params}, tokens, valid)
    hidden, cache = model.apply({"params": params}, tokens, valid, cache=init_cache(config, batch, length))
    hidden = model.apply({"params": params}, tokens, segments > 0, segments=segments)  # several sequences in a row
    ```
    """

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, tokens: Array, valid: Array, cache: TransformerCache | None = None, segments: Array | None = None
    ) -> Array | tuple[Array, TransformerCache]:
        """Reads tokens, after those in the cache if there is one.

        A token sees the valid ones at and before its place. Its position is the number of valid ones before it, so
        that padding on the left changes nothing. Tokens at invalid places may be any numbers; the hidden states there
        are finite and mean nothing.

        Args:
          tokens: [N, L] int32.
          valid: [N, L] bool; False for padding.
          cache: what was read before; it must have room for L more tokens.
          segments: [N, L] int32, where rows hold several sequences one after the other (`maxent_rl.tokens.packing`): equal
            numbers within one. A token sees its own sequence alone, whose positions begin at 0. Not together with a cache.

        Returns:
          hidden [N, L, D] after the final norm, in the dtype of the computation; with a cache also the cache that
          holds these tokens too.

        Raises:
          ShapeError: if the arguments' shapes do not fit together, or the tokens cannot fit into the cache.
        """
        _check_shapes(tokens, valid, cache, segments)
        config = self.config
        embed = nn.Embed(
            config.vocabulary_size,
            config.hidden_size,
            dtype=jnp.dtype(config.dtype),
            embedding_init=nn.initializers.normal(_INITIAL_STD),
            name="embed_tokens",
        )
        # One row per token: over two axes, the sums of the weights' gradients take a CPU twice as long.
        embedded = embed(jnp.where(valid, tokens, 0).reshape(-1))
        hidden, layers = read_causally(config, embedded, valid, cache, segments=segments)
        if self.is_initializing() and not config.tie_embeddings:
            _dense(config, config.vocabulary_size, "lm_head")(hidden[:1])  # makes the parameters, no more
        hidden = hidden.reshape(*tokens.shape, config.hidden_size)
        if cache is None:
            return hidden
        known_valid = _append(cache.valid, valid, cache.size, 1)
        return hidden, TransformerCache(layers, known_valid, cache.size + tokens.shape[1])


def read_causally(
    config: TransformerConfig,
    hidden: Array,
    valid: Array,
    cache: TransformerCache | None = None,
    dropout: float = 0.0,
    segments: Array | None = None,
) -> tuple[Array, tuple[LayerCache, ...]]:
    """The blocks and the final norm, as submodules of the compact module that calls this.

    Args:
      config: the shape; its vocabulary plays no part.
      hidden: [N * L, D] embeddings, row after row.
      valid: [N, L] bool; False for padding.
      cache: what was read before.
      dropout: share of what each block adds that is dropped; needs a random key of that name.
      segments: [N, L] int32, where a row holds several sequences one after the other: a token sees those of its own.

    Returns:
      ([N * L, D], keys and values of each layer).
    """
    mask, positions = _mask_and_positions(valid, cache)
    if segments is not None:
        mask = mask & (segments[:, None, :, None] == segments[:, None, None, :])
        positions = _restarted(positions, valid, segments)
    rotation = _rotation(positions, config)
    layers = []
    for index in range(config.num_layers):
        known, size = (None, 0) if cache is None else (cache.layers[index], cache.size)
        layer = _Layer(config, dropout, name=f"layers_{index}")
        hidden, keys_and_values = layer(hidden, mask, rotation, known, size)
        layers.append(keys_and_values)
    return _RMSNorm(config, name="norm")(hidden), tuple(layers)


class _Layer(nn.Module):
    """Attention and MLP, each on the normalised residual stream and added to it."""

    config: TransformerConfig
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, stream: Array, mask: Array, rotation: Rotation, cache: LayerCache | None, cache_size: Array | int
    ) -> tuple[Array, LayerCache]:
        normed = _RMSNorm(self.config, name="input_layernorm")(stream)
        attended, known = _Attention(self.config, name="self_attn")(normed, mask, rotation, cache, cache_size)
        stream = stream + self._drop(attended)
        normed = _RMSNorm(self.config, name="post_attention_layernorm")(stream)
        return stream + self._drop(_MLP(self.config, name="mlp")(normed)), known

    def _drop(self, branch: Array) -> Array:
        return nn.Dropout(self.dropout, deterministic=False)(branch) if self.dropout else branch


class _Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, inputs: Array, mask: Array, rotation: Rotation, cache: LayerCache | None, cache_size: Array | int
    ) -> tuple[Array, LayerCache]:
        config = self.config
        batch, length = mask.shape[0], mask.shape[2]

        def project(num_heads: int, name: str) -> Array:
            heads = _dense(config, num_heads * config.head_size, name, config.attention_bias)(inputs)
            return heads.reshape(batch, length, num_heads, config.head_size)

        queries = project(config.num_heads, "q_proj")
        keys = project(config.num_key_value_heads, "k_proj")
        values = jnp.swapaxes(project(config.num_key_value_heads, "v_proj"), 1, 2)
        if config.qk_norm:
            queries = _RMSNorm(config, name="q_norm")(queries)
            keys = _RMSNorm(config, name="k_norm")(keys)
        queries = jnp.swapaxes(_rotate(queries, rotation), 1, 2)
        keys = jnp.swapaxes(_rotate(keys, rotation), 1, 2)
        if cache is not None:
            keys, values = _append(cache[0], keys, cache_size, 2), _append(cache[1], values, cache_size, 2)
        attended = jnp.swapaxes(_attend(queries, keys, values, mask), 1, 2)
        attended = attended.reshape(batch * length, config.num_heads * config.head_size)
        return _dense(config, config.hidden_size, "o_proj")(attended), (keys, values)


class _MLP(nn.Module):
    """SwiGLU: `down(silu(gate(x)) * up(x))`."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        gate = _dense(self.config, self.config.intermediate_size, "gate_proj")(inputs)
        up = _dense(self.config, self.config.intermediate_size, "up_proj")(inputs)
        output: Array = _dense(self.config, self.config.hidden_size, "down_proj")(nn.silu(gate) * up)
        return output


class _RMSNorm(nn.Module):
    """Division by the root mean square of the last axis, and a weight; in float32."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        weight = self.param("weight", nn.initializers.ones, (inputs.shape[-1],))
        exact = inputs.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(exact), axis=-1, keepdims=True)
        normed = exact * jax.lax.rsqrt(mean_square + self.config.rms_norm_epsilon)
        return (normed * weight).astype(inputs.dtype)


def _dense(config: TransformerConfig, size: int, name: str, use_bias: bool = False) -> nn.Dense:
    kernel_init = nn.initializers.normal(_INITIAL_STD)
    return nn.Dense(size, use_bias=use_bias, dtype=jnp.dtype(config.dtype), kernel_init=kernel_init, name=name)


def _check_shapes(tokens: Array, valid: Array, cache: TransformerCache | None, segments: Array | None) -> None:
    if jnp.ndim(tokens) != 2:
        raise ShapeError(f"Tokens must have shape (N, L), got {jnp.shape(tokens)}.")
    if valid.shape != tokens.shape:
        raise ShapeError(f"`valid` must have the tokens' shape {tokens.shape}, got {valid.shape}.")
    if segments is not None and segments.shape != tokens.shape:
        raise ShapeError(f"`segments` must have the tokens' shape {tokens.shape}, got {segments.shape}.")
    if segments is not None and cache is not None:
        raise ShapeError("Rows of several sequences are read without a cache: it says where one sequence goes on.")
    if cache is None:
        return
    (rows, length), (cache_rows, cache_length) = tokens.shape, cache.valid.shape
    if rows != cache_rows or length > cache_length:
        raise ShapeError(
            f"{rows} rows of {length} tokens do not fit into a cache for {cache_rows} rows of {cache_length}."
        )


def _mask_and_positions(valid: Array, cache: TransformerCache | None) -> tuple[Array, Array]:
    """Which keys [N, 1, L, keys] the new tokens see, and the new tokens' positions [N, L]."""
    length = valid.shape[1]
    positions = jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1
    places = jnp.arange(length)
    if cache is None:
        known = valid
    else:
        known = _append(cache.valid, valid, cache.size, 1)
        places = places + cache.size
        positions = positions + jnp.sum(cache.valid, axis=1, keepdims=True, dtype=jnp.int32)
    causal = jnp.arange(known.shape[1])[None, :] <= places[:, None]
    return (known[:, None, :] & causal)[:, None], positions


def _restarted(positions: Array, valid: Array, segments: Array) -> Array:
    """Positions [N, L] that begin at 0 in each segment: rotated by the angles of a sequence alone, it has its numbers."""
    begins = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    before = positions + 1 - valid  # valid places before this one
    return positions - jax.lax.cummax(jnp.where(begins, before, 0), axis=1)


def _attend(queries: Array, keys: Array, values: Array, mask: Array) -> Array:
    """Softmax attention [N, heads, L, head_size] of queries of that shape to keys and values [N, kv heads, keys, head_size].

    The queries that share a key head stand below each other in one matrix. With heads outside and one product per key
    head, a gradient takes 0.4 of the time that `jax.nn.dot_product_attention` takes on a CPU (512 rows of 32 tokens).
    """
    batch, num_heads, length, size = queries.shape
    num_key_value_heads, num_keys = keys.shape[1:3]
    queries = queries.reshape(batch, num_key_value_heads, -1, size)
    scores = jnp.einsum("nhqd,nhkd->nhqk", queries, keys, preferred_element_type=jnp.float32) * size**-0.5
    scores = scores.reshape(batch, num_heads, length, num_keys)
    # Finite, not -inf: a place that sees nothing (padding) would otherwise be NaN.
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30)).astype(values.dtype)
    weights = weights.reshape(batch, num_key_value_heads, -1, num_keys)
    return jnp.einsum("nhqk,nhkd->nhqd", weights, values).reshape(batch, num_heads, length, size)


def _rotation(positions: Array, config: TransformerConfig) -> Rotation:
    """Cosines and sines [N, L, 1, head_size / 2] of the angles by which heads are turned."""
    frequencies = config.rope_theta ** (-np.arange(0, config.head_size, 2, dtype=np.float64) / config.head_size)
    angles = positions[..., None, None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
    # Behind a barrier, as XLA would otherwise work them out again for every head of every layer.
    rotation: Rotation = jax.lax.optimization_barrier((jnp.cos(angles), jnp.sin(angles)))  # type: ignore[no-untyped-call]
    return rotation


def _rotate(heads: Array, rotation: Rotation) -> Array:
    """Turns entry i of each head [N, L, heads, head_size] together with entry i + head_size / 2, as Hugging Face does."""
    cosines, sines = rotation
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
    return turned.astype(heads.dtype)


def _append(known: Array, new: Array, size: Array | int, axis: int) -> Array:
    """Writes `new` into `known`, from place `size` of the axis on."""
    return jax.lax.dynamic_update_slice_in_dim(known, new, size, axis=axis)
