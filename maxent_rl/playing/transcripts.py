"""What a language model says to a task, as people read it: turn by turn, with replies, rewards and how sure it was."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.agents.programs import program_of_agent
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.playing.evaluation import start_keys
from maxent_rl.playing.opening import check_episodes, open_environment
from maxent_rl.runs.policy import Policy
from maxent_rl.tokens.agent import TokenAgent, TokenState
from maxent_rl.tokens.conversing import Conversations
from maxent_rl.tokens.endings import endings
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.tasks import END_TOKEN, PAD_TOKEN, ConversationTask, TokenTask
from maxent_rl.types import Array

_SAID = 2**30  # a stream of random numbers beside those of `start_keys`


class Token(NamedTuple):
    """One token that the model said.

    Attributes:
      text: the character; empty for the end token and for padding, which a model may say, too.
      kind: which of the three it is.
      log_prob: its log-probability, in nats.
      entropy: of the distribution that it was drawn from, at the policy's temperature, in nats.
    """

    text: str
    kind: Literal["character", "end", "padding"]
    log_prob: float
    entropy: float


class Turn(NamedTuple):
    """What the model said at once, what its environment replied to that, and what the turn earned.

    Attributes:
      said: at least one token.
      heard: the reply as text; empty where nothing was said, or nobody was left to read it.
      reward: of this turn; NaN where it could not be scored.
    """

    said: tuple[Token, ...]
    heard: str
    reward: float

    @property
    def text(self) -> str:
        """What the model said, its end token aside."""
        return "".join(token.text for token in self.said)

    @property
    def closed(self) -> bool:
        """Whether it ends with an end token; otherwise its room was used up."""
        return self.said[-1].kind == "end"

    @property
    def entropy(self) -> float:
        """Mean over its tokens, in nats."""
        return float(np.mean([token.entropy for token in self.said]))


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One episode.

    Attributes:
      prompt: as text.
      turns: in order; one alone where the task does not reply.
      ending: one sentence: whether it was ended or cut, and in which turn.
      vocabulary_size: V, of which the largest entropy follows.
    """

    prompt: str
    turns: tuple[Turn, ...]
    ending: str
    vocabulary_size: int

    @property
    def total(self) -> float:
        """What all turns earned."""
        return float(sum(turn.reward for turn in self.turns))

    def told(self) -> dict[str, Any]:
        """The transcript as JSON has it; a reward that there is none of is None."""
        turns = [
            {"said": each.text, "heard": each.heard, "reward": _finite(each.reward), "entropy": each.entropy}
            for each in self.turns
        ]
        return {"prompt": self.prompt, "turns": turns, "return": _finite(self.total), "ending": self.ending}


def transcribe(policy: Policy, episodes: int = 5, *, seed: int = 0, stochastic: bool = False) -> list[Transcript]:
    """Lets a policy answer held-out prompts, those of `evaluate_policy` with as many episodes and the same seed.

    Args:
      policy: of a language model, as from `load_policy`.
      episodes: how many.
      seed: decides the prompts, and the tokens where they are drawn.
      stochastic: draw the tokens instead of taking the likeliest ones.

    Raises:
      InvalidSettingError: fewer than one episode, or a negative seed.
      IncompatibleEnvironmentError: the policy does not write, or was trained on another environment.
      UnknownNameError: there is no environment of its name.
    """
    check_episodes(episodes, seed)
    env = open_environment(policy)
    if not isinstance(env, TokenEnv) or not isinstance(policy.agent, TokenAgent):
        raise IncompatibleEnvironmentError(
            f"A policy for {policy.env} says nothing that could be written down: transcripts are of language models on "
            "tokens/... tasks."
        )
    prompts, found = jax.device_get(
        _converse(policy.agent, policy.state, jax.random.key(seed), episodes, env, stochastic)
    )
    return transcripts(env.task, prompts, found)


def transcripts(task: TokenTask[Any], prompts: Array, found: Conversations) -> list[Transcript]:
    """What was said as text.

    Args:
      task: that posed the prompts.
      prompts: [N, P].
      found: [N] conversations, on the host; of tasks that do not reply, each is one turn.
    """
    return [
        Transcript(task.decode(prompt), _turns(task, found, row), ending, task.vocabulary_size)
        for row, (prompt, ending) in enumerate(zip(np.asarray(prompts), endings(found, task), strict=True))
    ]


def in_words(transcript: Transcript, number: int) -> str:
    """A transcript as lines of text, the episode's number in the first."""
    lines = [f"episode {number}: {transcript.prompt}"]
    for index, turn in enumerate(transcript.turns):
        said = "".join(token.text if token.kind == "character" else f"<{token.kind}>" for token in turn.said)
        lines.append(f"  turn {index}  model        {said}    entropy {turn.entropy:.2f}, reward {turn.reward:.3g}")
        if turn.heard:
            lines.append(f"          environment  {turn.heard}")
    lines.append(f"  {transcript.ending} Return {transcript.total:.3g}.")
    return "\n".join(lines)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _turns(task: TokenTask[Any], found: Conversations, row: int) -> tuple[Turn, ...]:
    there, own, numbers = (np.asarray(each)[row] for each in (found.there, found.said.mask, found.turns))
    tokens, log_prob, entropy = (
        np.asarray(each)[row] for each in (found.said.tokens, found.said.logp, found.said.entropy)
    )
    turns = []
    for turn in range(int(numbers[there].max(initial=-1)) + 1):
        said, heard = (np.flatnonzero(there & (numbers == turn) & whose) for whose in (own, ~own))
        if said.size:
            spelled = (_token(task, tokens[place], log_prob[place], entropy[place]) for place in said)
            reply = "".join(_token(task, tokens[place]).text for place in heard)
            turns.append(Turn(tuple(spelled), reply, float(np.asarray(found.turn_rewards)[row, turn])))
    return tuple(turns)


def _token(task: TokenTask[Any], token: int, log_prob: float = 0.0, entropy: float = 0.0) -> Token:
    numbers = float(log_prob), float(entropy)
    if token == END_TOKEN:
        return Token("", "end", *numbers)
    if token == PAD_TOKEN:
        return Token("", "padding", *numbers)
    return Token(task.characters[token - 2], "character", *numbers)


@program_of_agent("episodes", "env", "stochastic")
def _converse(
    agent: TokenAgent, state: TokenState, key: Array, episodes: int, env: TokenEnv, stochastic: bool
) -> tuple[Array, Conversations]:
    task, model = env.task, agent.model(state.params)
    _, seen = jax.vmap(env.reset)(start_keys(key, jnp.zeros((), jnp.int32), episodes))
    prompts = seen[:, : task.prompt_length].astype(jnp.int32)
    drawn = jax.random.fold_in(key, _SAID) if stochastic else None
    return prompts, _spoken(model, task, prompts, drawn)


def _spoken(model: LanguageModel, task: TokenTask[Any], prompts: Array, key: Array | None) -> Conversations:
    """Conversations about prompts [N, P], or responses as conversations of one turn."""
    mask = prompts != PAD_TOKEN
    if isinstance(task, ConversationTask):
        return model.converse(task, prompts, mask, key)
    said = model.respond(prompts, mask, key, task.response_length)
    nothing = jnp.zeros(len(prompts), jnp.int32)
    return Conversations(
        said=said,
        there=said.mask,
        turns=jnp.zeros(said.tokens.shape, jnp.int32),
        turn_rewards=task.reward(prompts, said.tokens, said.mask)[:, None],
        ended=jnp.any(said.mask & (said.tokens == END_TOKEN), axis=-1),
        calls=nothing,
        fault=nothing,
    )
