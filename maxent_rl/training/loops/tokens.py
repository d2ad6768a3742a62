"""Training of language models on verifiable tasks: prompts, responses, checks and optimiser steps in one loop on the device.

A vector step is one iteration: while the warm start lasts, one step of supervised learning from right answers; then one
batch of responses and what is learned from it. Each response (or right answer) counts as an environment step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.agents.base import Agent, check_agent
from maxent_rl.agents.programs import program_of_agent
from maxent_rl.data.buffers.rollout import RolloutLayout
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.evaluation import Outcomes
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.mesh import make_mesh, over_seeds, sharded, spread
from maxent_rl.seeds.streams import EVALUATION, LEARN
from maxent_rl.tokens.agent import TokenAgent, TokenState
from maxent_rl.training.compilation import compiler_options
from maxent_rl.training.loops.contract import check_learning
from maxent_rl.training.loops.faults import note_metrics
from maxent_rl.training.loops.learner import metric_means
from maxent_rl.training.loops.plan import LEARNER, Learner, Learning, Planned, SeedState
from maxent_rl.training.loops.without_envs import LearnerLoop
from maxent_rl.types import Array, Metrics, Spec

_SUPERVISED_STEPS, _SUPERVISED = "supervised/steps", "supervised/loss"


class TokenLoop(LearnerLoop):
    """Trains all seeds of a token agent; see `make.Loop` for what the methods promise."""

    def __init__(
        self, agent: TokenAgent, learning: Learning, members: Sequence[dict[str, float]], env: TokenEnv
    ) -> None:
        super().__init__(agent, learning, members)
        self._env = env

    def advance(self, until: int, interrupted: Callable[[], bool]) -> None:
        """Trains until iteration `until`; looks for an interrupt between iterations."""
        while self.step < until and not interrupted():
            self._learner = iterate(self._agent, self._learner, self._env, self.learning)
            self.step = int(self._learner.counters.step)

    def take_metrics(self) -> list[dict[str, float]]:
        """Means since the last call, one dict per seed: over the iterations of the warm start, and over all others."""
        self._learner, rows = metric_means(self._learner, self.learning)
        updates = np.asarray(self._learner.seeds.agent.updates)
        return [_split(row) | {"updates": int(taken)} for row, taken in zip(rows, updates, strict=True)]

    def evaluate(self, episodes: int) -> list[Outcomes]:
        """Answers held-out prompts by the likeliest tokens; the further columns are of sampled responses."""
        seeds = self._learner.seeds
        found = _examine(self._agent, seeds.agent, seeds.key, self._learner.counters.step, episodes, self._env)
        host = {name: np.asarray(value) for name, value in found.items()}
        return [_outcomes({name: value[index] for name, value in host.items()}) for index in range(len(self.seeds))]


def plan_token_loop(
    run: RunConfig,
    members: Sequence[dict[str, float]],
    variants: Sequence[Any],
    env: object,
    spec: Spec,
    devices: list[jax.Device],
) -> Planned:
    """Checks that agent, task and machine fit.

    Args:
      run: settings of the run.
      members: seeds and what varies, of this process.
      variants: one agent for each variant.
      env: to evaluate in, which holds the task.
      spec: of the environment.
      devices: the local devices to share the seeds among.

    Raises:
      IncompatibleEnvironmentError: an agent that does not write responses.
      InvalidSettingError: settings that cannot work.
    """
    spec = dataclasses.replace(spec, num_envs=run.num_envs)
    for variant in variants:
        check_agent(variant, spec, run.env)
    if not isinstance(env, TokenEnv):
        raise IncompatibleEnvironmentError(f"{run.env} is no task of tokens: use one such as tokens/modular-addition.")
    if run.batch_devices > 1:
        raise InvalidSettingError(
            f"--batch-devices {run.batch_devices} divides sampled batches of transitions, which --agent {run.agent} does not "
            "have: several devices share its seeds, so raise --num-seeds instead."
        )
    agent = variants[0]
    mesh = make_mesh(len(members), devices, 1, run.num_envs)
    learning = Learning(
        agent=type(agent),
        spec=spec,
        layout=RolloutLayout.create(spec, 0, run.num_envs),  # responses that are replayed are part of the agent's state
        num_envs=run.num_envs,
        metric_names=_metric_names(agent, env, run.num_envs),
        mesh=mesh,
    )
    return Planned(learning, partial(TokenLoop, agent, learning, members, env))


def _metric_names(agent: TokenAgent, env: TokenEnv, num_envs: int) -> tuple[str, ...]:
    key = jax.random.key(0)
    state = jax.eval_shape(lambda key: agent.init(key, env.spec), key)

    def reinforce(agent: TokenAgent, state: TokenState, key: Array) -> tuple[TokenState, Metrics]:
        return agent.reinforce(state, env.task, key, num_envs)

    return tuple(sorted({*check_learning(agent, "reinforce", reinforce, state, key), _SUPERVISED, _SUPERVISED_STEPS}))


@partial(jax.jit, static_argnames=("env", "learning"), donate_argnames="learner", compiler_options=compiler_options())
def iterate(agent: Agent[Any], learner: Learner, env: TokenEnv, learning: Learning) -> Learner:
    """Takes one iteration of all seeds.

    Args:
      agent: with numbers as arrays.
      learner: of all seeds; donated.
      env: holds the task.
      learning: the static side.
    """

    def run(agent: Agent[Any], learner: Learner) -> Learner:
        before = learner.counters
        # Which members are in their warm start decides which of three programs runs: under vmap a branch that differs
        # between members would compute both sides for all of them, also long after the last warm start.
        warm = learner.seeds.agent.warm
        kinds = (_imitate, _reinforce, _either)[: 1 + min(warm.size, 2)]  # one member alone is in no mixed company
        which = jnp.where(jnp.all(warm), 0, jnp.where(jnp.any(warm), 2, 1))
        branches = [
            lambda agent, seeds, kind=kind: over_seeds(partial(kind, env, learning, before.step), agent, seeds)
            for kind in kinds
        ]
        seeds = jax.lax.switch(which, branches, agent, learner.seeds)
        counters = dataclasses.replace(
            before,
            step=before.step + 1,
            update=before.update + 1,  # the optimiser steps of each member are in its own state
            metric_count=before.metric_count + 1,
        )
        return Learner(seeds, counters)

    after: Learner = sharded(learning.mesh, run, (spread(agent), LEARNER), LEARNER)(agent, learner)
    return after


def _imitate(env: TokenEnv, learning: Learning, step: Array, agent: TokenAgent, seed: SeedState) -> SeedState:
    key = jax.random.fold_in(jax.random.fold_in(seed.key, LEARN), step)
    state, metrics = agent.imitate(seed.agent, env.task, key, learning.num_envs, step)
    return _record(learning, step, seed, state, metrics | {_SUPERVISED_STEPS: jnp.ones(())})


def _reinforce(env: TokenEnv, learning: Learning, step: Array, agent: TokenAgent, seed: SeedState) -> SeedState:
    key = jax.random.fold_in(jax.random.fold_in(seed.key, LEARN), step)
    state, metrics = agent.reinforce(seed.agent, env.task, key, learning.num_envs)
    return _record(learning, step, seed, state, metrics)


def _either(env: TokenEnv, learning: Learning, step: Array, agent: TokenAgent, seed: SeedState) -> SeedState:
    branches = [partial(kind, env, learning, step, agent) for kind in (_imitate, _reinforce)]
    found: SeedState = jax.lax.cond(seed.agent.warm, *branches, seed)
    return found


def _record(learning: Learning, step: Array, seed: SeedState, state: TokenState, metrics: Metrics) -> SeedState:
    metrics = {name: jnp.asarray(metrics.get(name, 0.0), jnp.float32) for name in learning.metric_names}
    return dataclasses.replace(
        seed,
        agent=state,
        metric_sums={name: seed.metric_sums[name] + metrics[name] for name in seed.metric_sums},
        fault=note_metrics(learning, seed.fault, step + 1, metrics),
    )


def _split(row: dict[str, float]) -> dict[str, float]:
    """From means over all iterations to means over those of the warm start, and over the others; what had none is left out."""
    warm = row.pop(_SUPERVISED_STEPS, 0.0)
    supervised = row.pop(_SUPERVISED, 0.0)
    metrics = {name: value / (1.0 - warm) for name, value in row.items()} if warm < 1.0 else {}
    return metrics | ({_SUPERVISED: supervised / warm} if warm else {})


@program_of_agent("prompts", "env")
def _examine(
    agent: Agent[Any], states: TokenState, keys: Array, step: Array, prompts: int, env: TokenEnv
) -> dict[str, Array]:
    def one(agent: TokenAgent, state: TokenState, key: Array) -> dict[str, Array]:
        key = jax.random.fold_in(jax.random.fold_in(key, EVALUATION), step)
        return agent.examine(state, env.task, key, prompts)

    found: dict[str, Array] = over_seeds(one, agent, states, keys)
    return found


def _outcomes(found: dict[str, Any]) -> Outcomes:
    """One seed's evaluation: returns of the likeliest responses, and what sampled ones gave."""
    sampled = found["sampled_reward"]
    samples = sampled.shape[-1]
    extra = {
        "pass@1": float(np.mean(sampled)),
        f"pass@{samples}": float(np.mean(np.any(sampled > 0, axis=-1))),
        "entropy": float(found["entropy"]),
        "sampled_length": float(found["sampled_length"]),
        "distinct_answers": float(found["distinct_answers"]),
    }
    return Outcomes([float(r) for r in found["reward"]], [int(n) for n in found["length"]], extra)
