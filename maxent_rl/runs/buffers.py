"""The buffer of a run: what an agent of each kind stores its steps in."""

from __future__ import annotations

from typing import Any

from maxent_rl.agents.base import relabels_goals, rollout_time
from maxent_rl.data.buffers.hindsight import HindsightLayout
from maxent_rl.data.buffers.replay import ReplayLayout
from maxent_rl.data.buffers.rollout import RolloutLayout
from maxent_rl.data.buffers.rows import RowLayout
from maxent_rl.types import Spec


def make_layout(agent: Any, spec: Spec) -> RowLayout:
    """Lays out the buffer that an agent's kind needs for the environments of one seed."""
    if agent.learns == "rollout":
        return RolloutLayout.create(spec, rollout_time(agent, spec), spec.num_envs)
    if relabels_goals(agent):
        return HindsightLayout.create_relabelling(
            spec, agent.replay_size, spec.num_envs, agent.batch_size, agent.goal_relabel_share
        )
    return ReplayLayout.create(spec, agent.replay_size, spec.num_envs, agent.batch_size, agent.n_step)
