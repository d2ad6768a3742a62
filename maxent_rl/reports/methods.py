"""Methods: what a report compares. Runs that differ only in their seed are one method; others are told apart by name.

A method is an agent with the settings in which the given runs of this agent differ; only those are in its name. On each
environment the seeds of a method, from all of its runs, are brought to common environment steps.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxent_rl.reports.runs import LeftOut, Member, Run
from maxent_rl.reports.statistics import Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """The seeds of one method on one environment that are counted.

    Attributes:
      members: the seeds, in increasing order.
      steps: [step] environment steps that all of them have reached.
      values: [seed, step] what each had at its last evaluation at or before that step.
    """

    members: tuple[Member, ...]
    steps: Floats
    values: Floats

    @property
    def unfinished(self) -> int:
        """How many seeds belong to runs that have not reached their end."""
        return sum(not member.run.finished for member in self.members)


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """All that is compared.

    Attributes:
      envs: environments by name.
      methods: methods, by agent and then by their settings.
      groups: by environment and method; a pair that was not run is missing.
      left_out: seeds that are not counted, and why.
    """

    envs: tuple[str, ...]
    methods: tuple[str, ...]
    groups: dict[tuple[str, str], Group]
    left_out: tuple[LeftOut, ...]


def make_study(runs: Sequence[Run]) -> Study:
    """Groups the seeds of all runs by environment and method.

    A seed that a method has twice on an environment would be counted as two where it is one: the one that came further
    counts (the first of equals). Seeds of unfinished runs are left out where the method has finished ones on that
    environment; where it has none, they count up to the step that all of them have reached.

    Args:
      runs: as read by `find_runs`; at least one.

    Returns:
      What is compared, and which seeds are not counted.
    """
    members = [member for run in runs for member in run.members]
    names = _names(members)
    pools: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        pools.setdefault((member.run.env, names[member]), []).append(member)
    groups: dict[tuple[str, str], Group] = {}
    left_out: list[LeftOut] = []
    for key in sorted(pools):
        counted = _drop_shortest(_drop_unfinished(_drop_twice(pools[key], key, left_out), key, left_out), left_out)
        steps, values = align([member.steps for member in counted], [member.values for member in counted])
        groups[key] = Group(tuple(counted), steps, values)
    order = dict.fromkeys(names[member] for member in sorted(members, key=_order))
    return Study(tuple(sorted({env for env, _ in groups})), tuple(order), groups, tuple(left_out))


def align(positions: Sequence[Floats], values: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Brings curves to common positions: those of all curves at which each has begun and none has ended.

    Between its own positions a curve keeps its last value: nothing is interpolated, nothing is known before it was
    measured.

    Args:
      positions: of each curve, [point], increasing: steps or seconds.
      values: of each curve, [point].

    Returns:
      [common] positions, empty if there are none, and [curve, common] values.
    """
    first, last = max(own[0] for own in positions), min(own[-1] for own in positions)
    common = np.unique(np.concatenate(positions))
    common = common[(common >= first) & (common <= last)]
    aligned = [
        value[np.searchsorted(own, common, side="right") - 1] for own, value in zip(positions, values, strict=True)
    ]
    return common, np.array(aligned)


def _names(members: Sequence[Member]) -> dict[Member, str]:
    """The method of each member: its agent, and the settings in which members of this agent differ."""
    differing: dict[str, list[str]] = {}
    for agent in {member.run.agent for member in members}:
        own = [member.settings for member in members if member.run.agent == agent]
        settings = dict.fromkeys(name for one in own for name in one)
        differing[agent] = [name for name in settings if len({_text(one.get(name)) for one in own}) > 1]
    return {
        member: " ".join(
            [member.run.agent] + [f"{name}={_text(member.settings.get(name))}" for name in differing[member.run.agent]]
        )
        for member in members
    }


def _order(member: Member) -> tuple[Any, ...]:
    """By agent, then by settings: numbers by size, before everything else."""
    numbers = (int, float)
    values = [
        (0, value, "") if isinstance(value, numbers) else (1, 0, _text(value))
        for _, value in sorted(member.settings.items())
    ]
    return member.run.agent, values


def _text(value: Any) -> str:
    """A setting's value, short: 0.001, on, mlp, 64x64."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return f"{value:.6g}"  # a sweep's values went through single precision
    if isinstance(value, (list, tuple)):
        return "x".join(map(_text, value))
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _drop_twice(pool: list[Member], key: tuple[str, str], left_out: list[LeftOut]) -> list[Member]:
    env, method = key
    best: dict[int, Member] = {}
    for member in pool:
        other = best.get(member.seed)
        if other is None or member.steps[-1] > other.steps[-1]:
            best[member.seed] = member
    for member in pool:
        kept = best[member.seed]
        if member is not kept:
            reason = f"seed {member.seed} of {method} on {env} is also in {kept.run.folder}, and counts once."
            left_out.append(LeftOut(member.run.folder, reason))
    return [best[seed] for seed in sorted(best)]


def _drop_unfinished(pool: list[Member], key: tuple[str, str], left_out: list[LeftOut]) -> list[Member]:
    env, method = key
    finished = [member for member in pool if member.run.finished]
    if not finished or len(finished) == len(pool):
        return pool
    left: dict[Path, list[Member]] = {}
    for member in pool:
        if not member.run.finished:
            left.setdefault(member.run.folder, []).append(member)
    for folder, members in left.items():
        seeds = f"seed{'s' * (len(members) > 1)} {', '.join(str(member.seed) for member in members)}"
        run = members[0].run
        reason = (
            f"{seeds} of {method} on {env}: unfinished ({run.last_step:,.0f} of {run.total_steps:,.0f} steps), "
            "where there are finished runs."
        )
        left_out.append(LeftOut(folder, reason))
    return finished


def _drop_shortest(pool: list[Member], left_out: list[LeftOut]) -> list[Member]:
    """Leaves out what ended before another seed's first evaluation: they have no step in common."""
    while max(member.steps[0] for member in pool) > min(member.steps[-1] for member in pool):
        shortest = min(pool, key=lambda member: member.steps[-1])
        reason = f"seed {shortest.seed} ended at step {shortest.steps[-1]:,.0f}, before the first evaluation of others."
        left_out.append(LeftOut(shortest.run.folder, reason))
        pool = [member for member in pool if member is not shortest]
    return pool
