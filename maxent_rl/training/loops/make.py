"""Choosing and building the loop for an environment: host or device, on one local device or several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import jax

from maxent_rl import envs as environments
from maxent_rl.agents.base import Agent, check_agent, check_kind, relabels_goals
from maxent_rl.envs.adapters.goals import HasGoals
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.door import admit, is_device_env, pays_for_goals
from maxent_rl.envs.env import Env
from maxent_rl.envs.host import HostEnvs, HostSource
from maxent_rl.envs.registry import no_physics
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.evaluation import Outcomes
from maxent_rl.playing.opening import side_by_side
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.mesh import make_mesh
from maxent_rl.seeds.processes import Processes
from maxent_rl.seeds.streams import ENVIRONMENT, environment_seed
from maxent_rl.seeds.variants import combinations, member_agent, member_name, variant_agents
from maxent_rl.training.loops.device import DeviceLoop
from maxent_rl.training.loops.hindsight import Hindsight
from maxent_rl.training.loops.host import HostLoop
from maxent_rl.training.loops.learner import make_learning
from maxent_rl.training.loops.offline import LoadData, plan_offline_loop
from maxent_rl.training.loops.plan import Learner, Learning, Planned, Schedule
from maxent_rl.training.loops.size import Room, Size, check_size
from maxent_rl.training.loops.tokens import plan_token_loop
from maxent_rl.types import Array, Learns, PyTree, Spec
from maxent_rl.usage import refuse_unused

_MANY = 256  # environments of the host that are not opened before it is known that there is memory for them


class Loop(Protocol):
    """A training in progress. Steps are vector steps: one step of all environments of each seed.

    Attributes:
      learning: the static side of the training.
      seeds: the seed of each member: all seeds, once for each variant.
      step: vector steps taken.
    """

    learning: Learning
    seeds: tuple[int, ...]
    step: int

    @property
    def learner(self) -> Learner:
        """The training state of all seeds."""
        ...

    def prepare(self, data: PyTree, held_out: PyTree) -> list[dict[str, float]]:
        """Lets an agent that `PreparesFromData` do so, before `start`; one dict of what that gave per member."""
        ...

    def open(self) -> None:
        """Resets the environments for `start`, before the run has a folder; not called when a state is taken back."""
        ...

    def start(self) -> None:
        """Begins the first episodes; not called when a state is taken back."""
        ...

    def advance(self, until: int, interrupted: Callable[[], bool]) -> None:
        """Trains until vector step `until`; returns earlier once `interrupted()`."""
        ...

    def check(self) -> None:
        """Raises `NonFiniteError` if a value was not finite since the start."""
        ...

    def take_remarks(self) -> list[str]:
        """What users should know of the environments, found since the last call: a sentence each, none twice."""
        ...

    def take_metrics(self) -> list[dict[str, float]]:
        """Means of metrics and episode statistics since the last call, one dict per member."""
        ...

    def evaluate(self, episodes: int) -> list[Outcomes]:
        """Plays episodes with the most likely actions, one entry per member; changes nothing."""
        ...

    def get_state(self) -> dict[str, Any]:
        """The arrays that decide what follows (a pytree of fixed structure), but for the rows of the replay buffer."""
        ...

    def get_env_state(self) -> dict[str, Any] | None:
        """The state of environments that live outside the pytree: nested dicts, lists, arrays and JSON values."""
        ...

    def set_state(self, state: dict[str, Any], env_state: dict[str, Any] | None, rows: Array, step: int) -> bool:
        """Takes back what `get_state` and `get_env_state` gave; False if new episodes had to be started."""
        ...

    def close(self) -> None:
        """Frees the environments."""
        ...


def make_loop(
    run: RunConfig,
    agent: Agent[Any],
    env: Env,
    devices: list[jax.Device],
    processes: Processes | None = None,
    load: LoadData | None = None,
    by_hand: Sequence[str] = (),
) -> Loop:
    """Builds environments and training state, after checking that agent, environment and machine fit.

    Arguments and errors are those of `plan_loop`.
    """
    planned = plan_loop(run, agent, env, devices, processes, load, by_hand)
    try:
        loop: Loop = planned.build()
    except BaseException:
        planned.close()
        raise
    return loop


def plan_loop(
    run: RunConfig,
    agent: Agent[Any],
    env: Env,
    devices: list[jax.Device],
    processes: Processes | None = None,
    load: LoadData | None = None,
    by_hand: Sequence[str] = (),
) -> Planned:
    """Checks that agent, environment, data and machine fit; host environments are open from then on.

    Args:
      run: settings of the run.
      agent: the agent.
      env: an environment's name, a device environment, or a function that makes a Gymnasium environment.
      devices: the local devices to share the seeds among.
      processes: that share the members among them; None for all processes that there are.
      load: reads what agents learn from that do not act (`sources.load.load_data`), who alone need it.
      by_hand: the settings that somebody gave, of which none may be without effect.

    Raises:
      UnknownNameError: no such environment or backend.
      IncompatibleEnvironmentError: spaces that the agent or the library does not handle.
      InvalidSettingError: hyper-parameters that cannot work, functions of the agent that do not give what loops work with, or
        a buffer larger than the memory.
      DataError: data that the agent cannot learn from.
    """
    check_kind(agent)
    variants = variant_agents(agent, run.variants)
    by_hand = (*by_hand, *(run.variants if "variants" in by_hand else ()))
    refuse_unused(by_hand, combinations(run, agent))  # before anything is opened or read
    share = -(-run.num_seeds * len(variants) // (processes or Processes()).count)
    source = _environment(env, run, share)
    size = None
    if not callable(source):
        size = _sized(run, variants, source.spec, source, share, devices)
    elif share * run.num_envs > _MANY:  # of those of the host one alone is opened first
        size = _sized(run, variants, _spec(source), source, share, devices)
    members = (processes or Processes()).share(run.members)
    if run.stagger_episodes and (callable(source) or _BUILDERS[agent.learns] is not _acting):
        raise InvalidSettingError(
            f"--stagger-episodes is for agents that act in environments on the device, which {run.agent} in {run.env} "
            "does not: leave it out."
        )
    limited = not isinstance(env, str)
    planned = _BUILDERS[agent.learns](_Order(run, agent, variants, members, source, devices, load, limited))
    planned = dataclasses.replace(planned, size=planned.size or size)
    try:
        refuse_unused(by_hand, combinations(run, agent), spec=planned.learning.spec, on_device=not callable(source))
    except BaseException:
        planned.close()
        raise
    return planned


@dataclasses.dataclass(frozen=True)
class _Order:
    """What a loop is built from.

    Attributes:
      run: settings of the run.
      agent: the agent.
      variants: one agent for each variant.
      members: seeds and what varies, of this process.
      env: a device environment, or what makes host environments from their seeds.
      devices: the local devices to share the seeds among.
      load: as of `make_loop`.
      limited: whether a function of the user's own makes the environment, which may not bear to be opened often.
    """

    run: RunConfig
    agent: Any
    variants: list[Any]
    members: Sequence[dict[str, float]]
    env: DeviceEnv | HostSource
    devices: list[jax.Device]
    load: LoadData | None
    limited: bool


def _acting(order: _Order) -> Planned:
    """The loop of an agent that learns from what it does: on the device, or with environments of the host."""
    run, env = order.run, order.env
    agent, names = member_agent(order.agent, order.members), tuple(map(member_name, order.members))
    seeds = tuple(int(member["seed"]) for member in order.members)
    if not callable(env):
        learning, schedule = _plan(order, env.spec)
        if relabels_goals(agent):
            pays_for_goals(env, run.env)
        return Planned(
            learning, partial(DeviceLoop, agent, learning, schedule, seeds, names, env, run.stagger_episodes)
        )
    env_seeds = [environment_seed(seed, ENVIRONMENT, index) for seed in seeds for index in range(run.num_envs)]
    host_envs = env(env_seeds)
    try:
        _check_limit(run, host_envs.spec)
        size = _sized(run, order.variants, host_envs.spec, env, len(seeds), order.devices)
        if order.limited and run.eval_episodes:
            env.check_more(len(seeds) * min(env.side_by_side, run.eval_episodes), len(env_seeds))
        learning, schedule = _plan(order, host_envs.spec)
        hindsight = _hindsight(host_envs, learning, schedule, run.env) if relabels_goals(agent) else None
    except BaseException:
        host_envs.close()
        raise
    build = partial(HostLoop, agent, learning, schedule, seeds, names, host_envs, env, hindsight)
    return Planned(learning, build, host_envs.close, size)


def _hindsight(host_envs: HostEnvs, learning: Learning, schedule: Schedule, name: str) -> Hindsight:
    if not isinstance(host_envs, HasGoals):
        raise IncompatibleEnvironmentError(
            f"{name} cannot say what other goals pay, which relabelled steps are paid by; leave --goal-relabel out, or use a "
            "goal environment of Gymnasium's form."
        )
    return Hindsight(host_envs.goal_rule(), learning, schedule)


def _offline(order: _Order) -> Planned:
    """The loop of an agent that learns from fixed data, wherever it is evaluated."""
    spec = _spec(order.env)
    _check_limit(order.run, spec)
    size = _sized(order.run, order.variants, spec, order.env, len(order.members), order.devices)
    planned = plan_offline_loop(order.run, order.members, order.variants, order.env, spec, order.devices, order.load)
    return dataclasses.replace(planned, size=size)


def _task(order: _Order) -> Planned:
    """The loop of an agent that learns from a task of tokens."""
    return plan_token_loop(order.run, order.members, order.variants, order.env, _spec(order.env), order.devices)


_BUILDERS: dict[Learns, Callable[[_Order], Planned]] = {
    "replay": _acting,
    "rollout": _acting,
    "data": _offline,
    "task": _task,
}


def _environment(env: Env, run: RunConfig, members: int) -> DeviceEnv | HostSource:
    """A device environment, or what makes host environments from their seeds."""
    on_device = environments.is_device(env) if isinstance(env, str) else is_device_env(env)
    if on_device and run.max_episode_steps is not None:
        raise InvalidSettingError(
            f"--max-episode-steps is for host environments; {run.env} runs on the device, where its spec has the horizon."
        )
    if isinstance(env, str) and on_device:
        return environments.make_device(env, run.backend)
    if run.backend is not None:
        raise no_physics(run.env)
    if not isinstance(env, str) and on_device:
        return admit(env)
    assert isinstance(env, str) or callable(env)
    make = partial(environments.make_host, env, horizon=run.max_episode_steps)
    return HostSource(make, side_by_side(env, run.eval_num_envs, members=members, trained_in=run.num_envs))


def _check_limit(run: RunConfig, spec: Spec) -> None:
    if run.max_episode_steps is not None and spec.horizon < run.max_episode_steps:
        raise InvalidSettingError(
            f"{run.env} ends its episodes itself after {spec.horizon:,} steps, before --max-episode-steps "
            f"{run.max_episode_steps:,}: make it with a longer limit of its own, or leave the flag out."
        )


def _spec(env: DeviceEnv | HostSource) -> Spec:
    """What an agent must know of an environment that no loop steps in training."""
    if not callable(env):
        return env.spec
    probe = env([0])
    try:
        # Their first use is an evaluation, which may be hours away: what a reset gives is looked at now.
        probe.reset()
    finally:
        probe.close()
    return probe.spec


def _plan(order: _Order, spec: Spec) -> tuple[Learning, Schedule]:
    run, members, devices = order.run, len(order.members), order.devices
    spec = dataclasses.replace(spec, num_envs=run.num_envs)
    for variant in order.variants:
        check_agent(variant, spec, run.env)
    agent = order.variants[0]
    layout = make_layout(agent, spec)
    mesh = make_mesh(members, devices, run.batch_devices, layout.batch_parts, layout.batch_words)
    learning = make_learning(agent, spec, run.num_envs, mesh)
    return learning, Schedule.create(agent, spec, run.num_envs)


def _sized(
    run: RunConfig,
    variants: list[Any],
    spec: Spec,
    env: DeviceEnv | HostSource,
    members: int,
    devices: list[jax.Device],
) -> Size | None:
    """What the run takes, of an agent that fits; errors are those of `check_size` and `check_agent`."""
    acting = dataclasses.replace(spec, num_envs=run.num_envs)
    for variant in variants:
        check_agent(variant, spec if variant.learns == "data" else acting, run.env)
    return check_size(run, variants[0], spec, env, members, Room.of(devices))


def learns_nothing(run: RunConfig, agent: Any, learning: Learning) -> str | None:
    """A sentence for runs that end before the first update, as their scores are those of an untrained policy.

    Of agents that write responses: for runs that may end before the first response is learned from.
    """
    if agent.learns == "task":
        return _stays_warm(run, agent)
    if agent.learns == "data":
        return None
    first = Schedule.create(agent, learning.spec, run.num_envs).first_update * run.num_envs
    if run.total_steps > first - run.num_envs:
        return None
    flag = "--start-steps"
    if agent.learns == "rollout":
        flag = "--num-envs" if agent.rollout_size is None else "--rollout-size"
    return (
        f"This run learns nothing in its {run.total_steps:,} steps, as the first update is due at step {first:,}: "
        f"raise --total-steps or lower {flag}."
    )


def _stays_warm(run: RunConfig, agent: Agent[Any]) -> str | None:
    longest = max(variant_agents(agent, run.variants), key=lambda variant: int(variant.warm_start_steps))
    if math.ceil(run.total_steps / run.num_envs) > math.ceil(longest.warm_start_steps / run.num_envs):
        return None
    return (
        f"This run's {run.total_steps:,} steps may all be warm start, which lasts up to {longest.warm_start_steps:,} steps "
        f"unless the loss of right answers falls to {longest.warm_start_loss:g} before: raise --total-steps or lower "
        "--warm-start-steps."
    )
