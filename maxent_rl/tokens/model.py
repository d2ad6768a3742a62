"""A language model: a transformer with its parameters, and how it is sampled; whoever trains it stands elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks.transformer import Transformer, TransformerConfig, unembedding
from maxent_rl.settings import Fraction, Positive
from maxent_rl.tokens.batch import Prompted
from maxent_rl.tokens.branching import Forks
from maxent_rl.tokens.conversing import Conversations, converse
from maxent_rl.tokens.objectives import Comparison, TokenTemperature
from maxent_rl.tokens.packing import Packed
from maxent_rl.tokens.sampling import Responses, sample, score, score_layers, score_prompts
from maxent_rl.tokens.statistics import TeacherStates, TokenStatistics, token_statistics
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.types import Array, PyTree


@struct.dataclass
class LanguageModel:
    """A policy over responses.

    It is a pytree: gradients flow into `params`, and the numbers of sampling change without compiling anew.

    Attributes:
      config: the transformer's shape.
      params: of the transformer.
      temperature: what logits are divided by, in sampling and in all that is said of given responses alike.
      top_p: sample only from the likeliest tokens that together have this probability.
    """

    config: TransformerConfig = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    params: PyTree
    temperature: Positive | Array = 1.0
    top_p: Fraction | Array = 1.0

    @classmethod
    def create(cls, config: TransformerConfig, key: Array, **sampling: Any) -> LanguageModel:
        """A model with its first parameters, drawn with the key []."""
        tokens = jnp.zeros((1, 1), jnp.int32)
        return cls(config, Transformer(config).init(key, tokens, tokens == 0)["params"], **sampling)

    def having(self, params: PyTree) -> LanguageModel:
        """The same with other parameters, such as those of a reference, or those that a gradient is taken in."""
        return dataclasses.replace(self, params=params)

    def respond(
        self,
        prompts: Array,
        prompt_mask: Array,
        key: Array | None,
        response_length: int,
        temperature: Array | float | None = None,
        token_temperature: TokenTemperature | None = None,
    ) -> Responses:
        """Answers prompts.

        Args:
          prompts: [N, P] int32, padded on either side.
          prompt_mask: [N, P] bool; False for padding.
          key: [] random key; None for the likeliest token at each place.
          response_length: T, the most tokens of a response.
          temperature: [] or [N] in place of the model's own.
          token_temperature: factors of the tokens' own temperatures, as `sample` takes them.
        """
        return sample(
            Transformer(self.config),
            self.params,
            prompts,
            prompt_mask,
            jax.random.key(0) if key is None else key,
            response_length=response_length,
            end_token=TokenTask.end_token,
            temperature=self.temperature if temperature is None else temperature,
            top_p=self.top_p,
            greedy=key is None,
            pad_token=TokenTask.pad_token,
            token_temperature=token_temperature,
        )

    def converse(
        self,
        task: ConversationTask[Any],
        prompts: Array,
        prompt_mask: Array,
        key: Array | None,
        response_length: int | None = None,
        temperature: Array | float | None = None,
        token_temperature: TokenTemperature | None = None,
        forks: Forks | None = None,
        anchors: bool = False,
    ) -> Conversations:
        """Talks with the environments that prompts begin.

        Args:
          task: that replies.
          prompts: [N, P] int32 of the task, padded on either side.
          prompt_mask: [N, P] bool; False for padding.
          key: [] random key; None for the likeliest token at each place.
          response_length: T, the most tokens of all turns and replies; None for the task's own.
          temperature: [] or [N] in place of the model's own.
          token_temperature: factors of the tokens' own temperatures.
          forks: when a conversation is continued twice, as `converse` takes it.
          anchors: whether to say which turns began in the same state.
        """
        return converse(
            Transformer(self.config),
            self.params,
            task,
            prompts,
            prompt_mask,
            jax.random.key(0) if key is None else key,
            response_length=response_length,
            temperature=self.temperature if temperature is None else temperature,
            top_p=self.top_p,
            greedy=key is None,
            token_temperature=token_temperature,
            forks=forks,
            anchors=anchors,
        )

    def hidden(self, prompted: Prompted, tokens: Array) -> Array:
        """The last hidden state where each token [N, T] is predicted, [N, T, D]."""
        given = prompted.prompts, prompted.prompt_mask, tokens, prompted.response_mask
        return score(Transformer(self.config), self.params, *given)

    def statistics(
        self,
        prompted: Prompted,
        tokens: Array,
        extra: dict[str, Any] | None = None,
        *,
        teacher: LanguageModel | None = None,
        compared: dict[str, Comparison] | None = None,
        hidden: Array | None = None,
    ) -> TokenStatistics:
        """What it says of given responses, at its temperature.

        Args:
          prompted: what they answer, and where they have tokens.
          tokens: [N, T] int32 the responses.
          extra: further statistics of the whole vocabulary, as `token_statistics` takes them.
          teacher: another model, which reads the hints before the prompts, too, if there are any; constant.
          compared: statistics of both, as `token_statistics` takes them.
          hidden: [N, T, D] what `hidden` has given, where it is there already.
        """
        told = None
        if teacher is not None and compared:
            states = teacher.hidden(prompted.hinted(), tokens)
            told = TeacherStates(states, unembedding(teacher.params, teacher.config), teacher.temperature)
        return token_statistics(
            self.hidden(prompted, tokens) if hidden is None else hidden,
            unembedding(self.params, self.config),
            tokens,
            self.temperature,
            extra=extra,
            mask=prompted.response_mask,
            teacher=told,
            compared=compared,
        )

    def packed_hidden(self, packed: Packed) -> Array:
        """The last hidden states [K, D] where tokens are predicted; `packed.spread` brings what is made of them to [N, T]."""
        segments = jnp.asarray(packed.segments)
        hidden: Any = Transformer(self.config).apply(
            {"params": self.params}, jnp.asarray(packed.tokens), segments > 0, segments=segments
        )
        return packed.predicting(hidden)

    def packed_statistics(
        self,
        packed: Packed,
        extra: dict[str, Any] | None = None,
        *,
        teacher: LanguageModel | None = None,
        teacher_packed: Packed | None = None,
        compared: dict[str, Comparison] | None = None,
        hidden: Array | None = None,
    ) -> TokenStatistics:
        """What `statistics` says of the same responses, [N, T], from a pass over rows that hold several sequences.

        Equal to rounding, 0 at tokens that were not asked of `packing.pack`. The vocabulary is looked at only where a token of
        a response is predicted.

        Args:
          packed: prompts and responses.
          extra: further statistics of the whole vocabulary, as `token_statistics` takes them.
          teacher: another model; constant.
          teacher_packed: what it reads, where that is not what the policy reads: the same responses after prompts with hints,
            `packing.pack(prompted.hinted(), ...)` with the same `mask` and `places`.
          compared: statistics of both, as `token_statistics` takes them.
          hidden: [K, D] what `packed_hidden` has given, where it is there already.

        Raises:
          ShapeError: `teacher_packed` has another number of places.
        """
        told = None
        if teacher is not None and compared:
            states = teacher.packed_hidden(packed if teacher_packed is None else teacher_packed)
            told = TeacherStates(states[None], unembedding(teacher.params, teacher.config), teacher.temperature)
        found = token_statistics(
            (self.packed_hidden(packed) if hidden is None else hidden)[None],
            unembedding(self.params, self.config),
            packed.targets[None],
            self.temperature,
            extra=extra,
            mask=jnp.asarray(packed.known)[None],
            teacher=told,
            compared=compared,
        )
        spread: TokenStatistics = jax.tree.map(lambda values: packed.spread(values[0]), found)
        return spread

    def prompt_log_probs(self, prompts: Array, prompt_mask: Array) -> Array:
        """[N, P] the log-probability of each token of prompts after those before it, in nats, at its temperature.

        NaN at padding, and at the first token, which nothing predicts.

        Args:
          prompts: [N, P] int32, padded on either side.
          prompt_mask: [N, P] bool; False for padding.
        """
        hidden, known = score_prompts(Transformer(self.config), self.params, prompts, prompt_mask)
        matrix = unembedding(self.params, self.config)
        logp = token_statistics(hidden, matrix, prompts, self.temperature, mask=known).logp
        return jnp.where(known, logp, jnp.nan)

    def layers(self, prompted: Prompted, tokens: Array) -> Array:
        """The residual stream after each block where each token [N, T] is predicted, [layer, N, T, D]; not normalised."""
        given = prompted.prompts, prompted.prompt_mask, tokens, prompted.response_mask
        return score_layers(Transformer(self.config), self.params, *given)


def small_config(
    vocabulary_size: int,
    *,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    num_key_value_heads: int,
    intermediate_size: int,
) -> TransformerConfig:
    """The transformer of the token agent, from its sizes.

    Raises:
      InvalidSettingError: sizes that do not fit together.
    """
    if hidden_size % (2 * num_heads):  # rotary positions turn pairs of a head's entries
        raise InvalidSettingError(
            f"--hidden-size must be a multiple of twice --num-heads, got {hidden_size} and {num_heads}."
        )
    return TransformerConfig(
        vocabulary_size=vocabulary_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_key_value_heads=num_key_value_heads,
        head_size=hidden_size // num_heads,
        intermediate_size=intermediate_size,
        qk_norm=True,
    )
