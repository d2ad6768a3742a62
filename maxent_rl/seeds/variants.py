"""Variants of an agent that train side by side: numeric hyper-parameters with the leading axis of the seeds.

A run with V variants and S seeds trains V x S members in one program: member v * S + s is seed s of variant v. All variants
of a seed draw the same random numbers, so that what differs between them is the hyper-parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maxent_rl.agents.base import SCHEDULED
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import flag, unknown_setting


def can_vary(agent: Any) -> tuple[str, ...]:
    """The hyper-parameters of an agent (or of its class) that can differ between the members of one program.

    Structural ones decide shapes and programs, and the schedule of gradient steps is the same for all members.
    """
    leaves = [field.name for field in dataclasses.fields(agent) if field.metadata.get("pytree_node", True)]
    return tuple(name for name in leaves if name not in SCHEDULED)


def variant_values(variants: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """What each variant sets, in order; a single empty one where nothing varies.

    Args:
      variants: for each hyper-parameter that varies its value in every variant, all as many.
    """
    return [dict(zip(variants, values, strict=True)) for values in zip(*variants.values(), strict=True)] or [{}]


def variant_agents(agent: Any, variants: Mapping[str, Sequence[float]]) -> list[Any]:
    """One agent for each variant, each as it would be alone; arguments as of `variant_values`.

    Raises:
      UnknownNameError: a variant sets what the agent does not have.
      InvalidSettingError: a variant sets what cannot vary within a program.
    """
    if not variants:
        return [agent]
    names, varying = {field.name for field in dataclasses.fields(agent)}, can_vary(agent)
    for name in variants:
        if name not in names:
            raise unknown_setting("hyper-parameter", name, varying)
        if name not in varying:
            raise InvalidSettingError(f"{flag(name)} cannot vary within a run: train its values one after the other.")
    return [dataclasses.replace(agent, **values) for values in variant_values(variants)]


def combinations(run: Any, agent: Any) -> list[tuple[Any, Any]]:
    """A run's settings with each of its agents, as `usage.refuse_unused` takes them."""
    return [(run, variant) for variant in variant_agents(agent, run.variants)]


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
