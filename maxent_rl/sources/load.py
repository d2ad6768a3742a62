"""Where offline agents get their data: one function for each kind, by the name that an agent's `learns_from` says."""

from __future__ import annotations

import importlib
from typing import Any

from maxent_rl.agents.base import Agent, ChecksData, reads_data
from maxent_rl.agents.registry import AGENTS
from maxent_rl.data.batches.fixed import FixedData
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.config import RunConfig
from maxent_rl.settings import flag
from maxent_rl.types import PyTree, Spec

# Kind of data: the setting of a run that says where it is, and `module:function`, which takes (run, agent, spec, env) and
# gives the data to learn from and what `examine` measures on, or None.
SOURCES: dict[str, tuple[str, str]] = {
    "teacher": ("teacher", "maxent_rl.sources.candidates:load_candidates"),
    "preferences": ("dataset", "maxent_rl.sources.read_preferences:load"),
    "transitions": ("dataset", "maxent_rl.sources.read_transitions:load_transitions"),
    "windows": ("dataset", "maxent_rl.sources.read_transitions:load_windows"),
}


def load_data(run: RunConfig, agent: Any, spec: Spec, env: Any) -> tuple[FixedData, PyTree | None]:
    """Reads or makes what an agent learns from (or prepares itself from), and what is kept apart for measuring.

    Args:
      run: settings, which say where the data is.
      agent: one that `reads_data`, whose settings say what to make of it.
      spec: of the environment.
      env: a device environment, or what makes host environments from their seeds.

    Raises:
      InvalidSettingError: the run does not say where.
      MaxentRLError: one of its kinds, for data that is missing, damaged or of another environment.
    """
    check_source(run, agent)
    kind = reads_data(agent)
    assert kind is not None
    source = SOURCES[kind][1]
    module, _, function = source.partition(":")
    data, held_out = getattr(importlib.import_module(module), function)(run, agent, spec, env)
    if isinstance(agent, ChecksData):
        agent.check_data(data)
    return data, held_out


def check_source(run: RunConfig, agent: Agent[Any]) -> None:
    """Refuses a source of data that an agent does not read, and the lack of one that it does.

    Raises:
      InvalidSettingError: naming the flag.
    """
    kind = reads_data(agent)
    read = SOURCES[kind][0] if kind is not None else None
    for setting in ("teacher", "dataset"):
        if getattr(run, setting) is not None and setting != read:
            instead = "teach with --teacher-policies" if hasattr(agent, f"{setting}_policies") else "leave it out"
            raise InvalidSettingError(f"--agent {run.agent} reads no {flag(setting)}: {instead}.")
    if read is not None and getattr(run, read) is None:
        what = {"teacher": "a trained policy: pass --teacher RUN", "dataset": "a data set: pass --dataset PATH"}[read]
        online = f"{run.agent}-online"
        instead = f"; --agent {online} learns by acting" if online in AGENTS else ""
        raise InvalidSettingError(f"--agent {run.agent} learns from {what}{instead}.")
