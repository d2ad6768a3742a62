"""How conversations came to their ends, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxent_rl.tokens.conversing import TOO_LONG, UNKNOWN, Conversations
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.tokens.tasks.writing import END_TOKEN


def endings(found: Conversations, task: TokenTask[Any]) -> list[str]:
    """One sentence for each conversation, which is an episode: how it came to its end, and in which turn; both from 0.

    Responses to tasks that do not reply are conversations of one turn.

    Args:
      found: [N] of them, on the host.
      task: that they were held with.
    """
    return [f"Episode {episode} {_ending(found, task, episode)}." for episode in range(len(found.ended))]


def _ending(found: Conversations, task: TokenTask[Any], row: int) -> str:
    there, turns, own = (np.asarray(each)[row] for each in (found.there, found.turns, found.said.mask))
    if not there.any():
        return "has no prompt, or was left for a fork that never came"
    turn, fault = int(turns[there].max()), int(np.asarray(found.fault)[row])
    faults = {TOO_LONG: "too many tokens", UNKNOWN: f"a token that is not among its {task.vocabulary_size}"}
    if fault:
        return f"was ended in turn {turn} without a reward: {task.name} replied with {faults[fault]}"
    if np.asarray(found.ended)[row]:
        earned = np.isfinite(np.asarray(found.turn_rewards)[row]).all()
        return f"was ended in turn {turn}{'' if earned else ' without a reward'}"
    if _had_all_turns(task, turn, np.asarray(found.said.tokens)[row][own & (turns == turn)]):
        return f"was cut after turn {turn}, the last that there may be"
    return f"was cut in turn {turn}, as there is room for {there.size} tokens"


def _had_all_turns(task: TokenTask[Any], turn: int, last: NDArray[np.int32]) -> bool:
    """Whether the `last` turn, number `turn`, is whole and the last that there may be; it may have filled the room by that."""
    if not isinstance(task, ConversationTask) or turn + 1 < task.max_turns or not last.size:
        return False
    return bool(last[-1] == END_TOKEN or last.size == task.turn_length)
