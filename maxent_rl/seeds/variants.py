"""Variants of an agent that train side by side: numeric hyper-parameters with the leading axis of the seeds.

A run with V variants and S seeds trains V x S members in one program: member v * S + s is seed s of variant v. All variants
of a seed draw the same random numbers, so that what differs between them is the hyper-parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.runs.config import RunConfig
from maxent_rl.settings import flag
from maxent_rl.training.loops.learner import SCHEDULED


def can_vary(agent: Any) -> tuple[str, ...]:
    """The hyper-parameters of an agent (or of its class) that can differ between the members of one program.

    Structural ones decide shapes and programs, and the schedule of gradient steps is the same for all members.
    """
    leaves = [field.name for field in dataclasses.fields(agent) if field.metadata.get("pytree_node", True)]
    return tuple(name for name in leaves if name not in SCHEDULED)


def variant_agents(agent: Any, run: RunConfig) -> list[Any]:
    """One agent for each variant of a run, each as it would be alone.

    Raises:
      UnknownNameError: a variant sets what the agent does not have.
      InvalidSettingError: a variant sets what cannot vary within a program.
    """
    if not run.variants:
        return [agent]
    names, varying = {field.name for field in dataclasses.fields(agent)}, can_vary(agent)
    for name in run.variants:
        if name not in names:
            raise unknown_name("hyper-parameter", name, varying)
        if name not in varying:
            raise InvalidSettingError(f"{flag(name)} cannot vary within a run: train its values one after the other.")
    return [dataclasses.replace(agent, **values) for values in run.variant_values]


def member_agent(agent: Any, members: Sequence[dict[str, float]]) -> Any:
    """The agent of all those members: what varies has the leading axis [member], all else is as it was."""
    names = [name for name in members[0] if name != "seed"]
    varying = {name: np.asarray([member[name] for member in members]) for name in names}
    return dataclasses.replace(agent, **varying) if varying else agent


def variant_name(values: dict[str, float]) -> str:
    """A variant in words: `learning_rate=0.001, discount=0.9`; empty where nothing varies."""
    return ", ".join(f"{name}={value:g}" for name, value in values.items())


def member_name(member: dict[str, float]) -> str:
    """A member in words: `Seed 3`, or `Seed 3 of learning_rate=0.001`."""
    variant = variant_name({name: value for name, value in member.items() if name != "seed"})
    return f"Seed {member['seed']} of {variant}" if variant else f"Seed {member['seed']}"
