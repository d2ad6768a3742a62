"""Synthetic tasks for policies that write text, each with a checker that is exact."""

from __future__ import annotations

import dataclasses
from typing import Any

from maxent_rl.errors import unknown_name
from maxent_rl.tokens.tasks.bandit import Bandit
from maxent_rl.tokens.tasks.base import HELD_OUT_ONE_IN, TokenTask
from maxent_rl.tokens.tasks.contexts import Contexts
from maxent_rl.tokens.tasks.conversation import ConversationTask
from maxent_rl.tokens.tasks.copy_reverse import CopyReverse
from maxent_rl.tokens.tasks.countdown import Countdown
from maxent_rl.tokens.tasks.diversity import count_distinct
from maxent_rl.tokens.tasks.layouts import Layouts
from maxent_rl.tokens.tasks.look_up import LookUp
from maxent_rl.tokens.tasks.mixture import Mixture
from maxent_rl.tokens.tasks.modular_addition import ModularAddition
from maxent_rl.tokens.tasks.query_sum import QuerySum
from maxent_rl.tokens.tasks.scratch import Scratch
from maxent_rl.tokens.tasks.screen import Screen
from maxent_rl.tokens.tasks.template import Template
from maxent_rl.tokens.tasks.text_grid import TextGrid
from maxent_rl.tokens.tasks.writing import END_TOKEN, PAD_TOKEN, join, response_mask

TASKS: dict[str, type[TokenTask[Any]]] = {
    "bandit": Bandit,
    "contexts": Contexts,
    "copy-reverse": CopyReverse,
    "countdown": Countdown,
    "layouts": Layouts,
    "mixture": Mixture,
    "look-up": LookUp,
    "modular-addition": ModularAddition,
    "query-sum": QuerySum,
    "scratch": Scratch,
    "screen": Screen,
    "text-grid": TextGrid,
}

__all__ = [
    "END_TOKEN",
    "HELD_OUT_ONE_IN",
    "PAD_TOKEN",
    "TASKS",
    "Bandit",
    "Contexts",
    "ConversationTask",
    "CopyReverse",
    "Countdown",
    "Layouts",
    "LookUp",
    "Mixture",
    "ModularAddition",
    "QuerySum",
    "Scratch",
    "Screen",
    "Template",
    "TextGrid",
    "TokenTask",
    "count_distinct",
    "join",
    "make_task",
    "response_mask",
]


def make_task(name: str, **sizes: Any) -> TokenTask[Any]:
    """Makes a task.

    Args:
      name: as in `TASKS`: `countdown`.
      sizes: fields of the task that are not to have their defaults: `operands=4`.

    Raises:
      UnknownNameError: no such task or size, naming the nearest right ones.
      InvalidSettingError: a size out of its bounds.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    known = [field.name for field in dataclasses.fields(TASKS[name])]  # type: ignore[arg-type]
    for size in sizes:
        if size not in known:
            raise unknown_name(f"size of {name}", size, known)
    return TASKS[name](**sizes)
