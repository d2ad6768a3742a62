"""Training on an environment with several right answers, in this process, and counting which of them are held."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit
from maxent_rl.agents.base import acting_state
from maxent_rl.envs import make_device
from maxent_rl.errors import MaxentRLError
from maxent_rl.pictures.expertise import Expertise
from maxent_rl.pictures.experts import play_experts
from maxent_rl.pictures.landscapes import shares
from maxent_rl.playing.trajectories import Trajectory
from maxent_rl.runs import command_line as command
from maxent_rl.runs.policy import Policy
from maxent_rl.training.compilation import enable_compilation_cache
from maxent_rl.training.loops.make import Loop, make_loop

_PACKAGES = ("maxent_rl", "jax", "jaxlib", "flax", "optax", "numpy")
_KEPT_ACTIONS, _KEPT_EPISODES = 200, 40  # of the first seed, for the figure
_ROWS = 1024  # states are looked at in multiples of so many, so that not every number of steps compiles anew
_UNTRAINED = {"backend": None, "step": 0}
_LAST = 0.9  # training metrics are means over what is left after this share of the steps


def measure_toy(unit: Unit) -> Measured:
    """Trains all seeds of a unit, samples episodes of each, and counts.

    Raises:
      BenchmarkError: the settings do not work, or training gave numbers that are not finite.
    """
    enable_compilation_cache()
    if unit.contender == "uniform":
        return uniform(unit, command.parse([*unit.flags]).run.seeds)
    try:
        parsed = command.parse(list(unit.flags))
        run, agent = parsed.run, parsed.hyper
        run.check()
        loop = make_loop(run, agent, run.env, jax.local_devices()[:1])
        speed, training = _train(loop, run, agent)
        by_mode = loop.evaluate(int(unit.measured["mode_episodes"]))
        found = []
        for index, seed in enumerate(run.seeds):
            state = jax.tree.map(lambda leaf, index=index: leaf[index], acting_state(agent, loop.learner.seeds.agent))
            described = {"env": run.env, "backend": None, "step": run.total_steps}
            policy = Policy(agent, state, loop.learning.spec, described, seed)
            values, more = look_at(policy, int(unit.measured["episodes"]), unit.measured["least_share"], keep=not index)
            values |= {"return_mode": by_mode[index].mean, "steps_per_second": speed}
            found.append(Seed(seed, values, more | {"training": training[index]}))
    except MaxentRLError as error:
        raise BenchmarkError(str(error)) from error
    return Measured(found, versions(*_PACKAGES))


def look_at(policy: Policy, episodes: int, least_share: float, keep: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Samples episodes of a policy and counts where they come to.

    Args:
      policy: trained on an environment with a reward map.
      episodes: how many.
      least_share: of them that must come to an optimum for it to count as covered.
      keep: whether to keep some of them, for the figure.

    Returns:
      (values, more): numbers by metric; shares by optimum, usage of the experts, and what was kept.
    """
    reward_map = make_device(policy.env).reward_map
    trajectories, expertise = play_experts(policy, episodes, seed=policy.seed)
    reached = shares(reward_map, trajectories)[:-1]
    values = {
        "covered": covered(reached, least_share),
        "return": float(np.mean([each.total for each in trajectories])),
        "entropy": _policy_entropy(policy, trajectories),
        "once": covered(reached, 0.5 / episodes),
        "somewhere": float(reached.sum()),
    }
    more: dict[str, Any] = {"shares": reached.round(4).tolist()}
    if expertise is not None:
        values["router_entropy"] = float(np.mean(expertise.router_entropy))
        values["collapsed"] = float(expertise.collapsed is not None)
        more["usage"] = expertise.weights.mean(axis=0).round(4).tolist()
    return values, more | ({"kept": _kept(trajectories, expertise)} if keep else {})


def uniform(unit: Unit, seeds: Sequence[int]) -> Measured:
    """What uniform actions give: chance, which covers wide optima too."""
    env: Any = make_device(unit.env)
    found = []
    for seed in seeds:
        policy = Policy(_Uniform(), jnp.zeros(env.spec.action_size), env.spec, {"env": unit.env} | _UNTRAINED, seed)
        found.append(Seed(seed, *look_at(policy, int(unit.measured["episodes"]), unit.measured["least_share"], False)))
    return Measured(found, versions(*_PACKAGES))


@struct.dataclass
class _Uniform:
    """An agent without settings; its state [action] is there for its shape."""

    def act(self, state: jax.Array, observation: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (*observation.shape[:-1], *state.shape), minval=-1.0, maxval=1.0)

    def mode(self, state: jax.Array, observation: jax.Array) -> jax.Array:
        return jnp.zeros((*observation.shape[:-1], *state.shape))

    def distribution(self, state: jax.Array, observation: jax.Array) -> _Flat:
        return _Flat(jnp.full(observation.shape[:-1], state.size * jnp.log(2.0)))


class _Flat(NamedTuple):
    """A distribution of which the entropy is all that is asked."""

    value: jax.Array

    def entropy(self, key: jax.Array) -> jax.Array:
        return self.value


def covered(reached: Any, least_share: float) -> int:
    """How many optima have at least a share of all samples, of shares [optimum]."""
    return int(np.sum(np.asarray(reached) >= least_share))


def _train(loop: Loop, run: Any, agent: Any) -> tuple[float, list[dict[str, float]]]:
    """Trains to the end: environment steps per second of each seed once all is compiled, and the last metrics."""
    total = math.ceil(run.total_steps / run.num_envs)
    begin = min((agent.start_steps or 0) // run.num_envs + 1, total - 1)
    last = max(int(_LAST * total), begin)
    loop.start()
    _advance(loop, begin)
    began = time.monotonic()
    _advance(loop, last)
    loop.take_metrics()
    _advance(loop, total)
    seconds = time.monotonic() - began
    metrics = [
        {name: round(float(value), 5) for name, value in each.items() if np.isfinite(value)}
        for each in loop.take_metrics()
    ]
    return (total - begin) * run.num_envs / seconds, metrics


def _advance(loop: Loop, until: int) -> None:
    loop.advance(until, lambda: False)
    loop.check()


def _policy_entropy(policy: Policy, trajectories: list[Trajectory]) -> float:
    """Mean over the states of the episodes, in nats, from one sample in each, scored under the whole policy."""
    observation = np.concatenate([each.observation[:-1] for each in trajectories])
    rows = np.resize(observation, (-(-len(observation) // _ROWS) * _ROWS, observation.shape[1]))
    entropy = _entropies(policy.agent, policy.state, rows, jax.random.key(policy.seed))
    return float(np.mean(np.asarray(entropy)[: len(observation)]))


@jax.jit
def _entropies(agent: Any, state: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
    return agent.distribution(state, jnp.asarray(observation)).entropy(key)


def _kept(trajectories: list[Trajectory], expertise: Expertise | None) -> list[dict[str, Any]]:
    """Some episodes as text, so that the results stay readable: positions and actions, and who acted."""
    some = trajectories[: _KEPT_ACTIONS if trajectories[0].length == 1 else _KEPT_EPISODES]
    return [
        {"observation": _text(each.observation), "action": _text(each.action)}
        | ({} if expertise is None else {"expert": " ".join(map(str, np.asarray(each.notes).tolist()))})
        for each in some
    ]


def _text(points: Any) -> str:
    return ", ".join(" ".join(f"{value:.3g}" for value in point) for point in points)
