"""Choosing and building the loop for an environment: host or device, on one local device or several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import gymnasium
import jax

from maxent_rl import envs as environments
from maxent_rl.agents.base import Agent, check_agent, check_kind, relabels_goals
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.env import Env
from maxent_rl.envs.goals import GoalRule, HasGoals, PaysForGoals
from maxent_rl.envs.host import HostEnvs
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.evaluation import Outcomes
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.mesh import make_mesh
from maxent_rl.seeds.processes import Processes
from maxent_rl.seeds.streams import ENVIRONMENT, environment_seed
from maxent_rl.seeds.variants import member_agent, member_name, variant_agents
from maxent_rl.training.loops.device import DeviceLoop
from maxent_rl.training.loops.hindsight import Hindsight
from maxent_rl.training.loops.host import HostLoop
from maxent_rl.training.loops.learner import make_learning
from maxent_rl.training.loops.offline import LoadData, make_offline_loop
from maxent_rl.training.loops.plan import Learner, Learning, Schedule
from maxent_rl.training.loops.tokens import make_token_loop
from maxent_rl.types import Array, Learns, PyTree, Spec


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

    def start(self) -> None:
        """Begins the first episodes; not called when a state is taken back."""
        ...

    def advance(self, until: int, interrupted: Callable[[], bool]) -> None:
        """Trains until vector step `until`; returns earlier once `interrupted()`."""
        ...

    def check(self) -> None:
        """Raises `NonFiniteError` if a value was not finite since the start."""
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
) -> Loop:
    """Builds environments and training state, after checking that agent, environment and machine fit.

    Args:
      run: settings of the run.
      agent: the agent.
      env: an environment's name, a device environment, or a function that makes a Gymnasium environment.
      devices: the local devices to share the seeds among.
      processes: that share the members among them; None for all processes that there are.
      load: reads what agents learn from that do not act (`sources.load.load_data`), who alone need it.

    Raises:
      UnknownNameError: no such environment or backend.
      IncompatibleEnvironmentError: spaces that the agent or the library does not handle.
      InvalidSettingError: hyper-parameters that cannot work, or a buffer larger than the memory.
    """
    check_kind(agent)
    if isinstance(env, gymnasium.Env):
        raise IncompatibleEnvironmentError(
            "The environment was given as an instance; give a function that makes it, as every seed needs its own."
        )
    variants = variant_agents(agent, run.variants)
    members = (processes or Processes()).share(run.members)
    return _BUILDERS[agent.learns](_Order(run, agent, variants, members, _environment(env, run), devices, load))


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
    """

    run: RunConfig
    agent: Any
    variants: list[Any]
    members: Sequence[dict[str, float]]
    env: DeviceEnv | Callable[[list[int]], HostEnvs]
    devices: list[jax.Device]
    load: LoadData | None


def _acting(order: _Order) -> Loop:
    """The loop of an agent that learns from what it does: on the device, or with environments of the host."""
    run, env = order.run, order.env
    agent, names = member_agent(order.agent, order.members), tuple(map(member_name, order.members))
    seeds = tuple(int(member["seed"]) for member in order.members)
    if not callable(env):
        plan = _plan(order, env.spec)
        if relabels_goals(agent) and not isinstance(env, PaysForGoals):
            raise IncompatibleEnvironmentError(
                f"{run.env} lacks compute_reward(achieved, desired) and compute_terminated of the same, by which relabelled steps "
                "are paid; give it both, or leave --goal-relabel out."
            )
        return DeviceLoop(agent, *plan, seeds, names, env)
    env_seeds = [environment_seed(seed, ENVIRONMENT, index) for seed in seeds for index in range(run.num_envs)]
    host_envs = env(env_seeds)
    try:
        learning, schedule = _plan(order, host_envs.spec)
        hindsight = Hindsight(_goal_rule(host_envs, run.env), learning, schedule) if relabels_goals(agent) else None
        return HostLoop(agent, learning, schedule, seeds, names, host_envs, env, hindsight)
    except BaseException:
        host_envs.close()
        raise


def _goal_rule(host_envs: HostEnvs, name: str) -> GoalRule:
    if not isinstance(host_envs, HasGoals):
        raise IncompatibleEnvironmentError(
            f"{name} cannot say what other goals pay, which relabelled steps are paid by; leave --goal-relabel out, or use a "
            "goal environment of Gymnasium's form."
        )
    return host_envs.goal_rule()


def _offline(order: _Order) -> Loop:
    """The loop of an agent that learns from fixed data, wherever it is evaluated."""
    spec = _spec(order.env)
    return make_offline_loop(order.run, order.members, order.variants, order.env, spec, order.devices, order.load)


def _task(order: _Order) -> Loop:
    """The loop of an agent that learns from a task of tokens."""
    return make_token_loop(order.run, order.members, order.variants, order.env, _spec(order.env), order.devices)


_BUILDERS: dict[Learns, Callable[[_Order], Loop]] = {
    "replay": _acting,
    "rollout": _acting,
    "data": _offline,
    "task": _task,
}


def _environment(env: Env, run: RunConfig) -> DeviceEnv | Callable[[list[int]], HostEnvs]:
    """A device environment, or what makes host environments from their seeds."""
    if isinstance(env, str) and environments.is_device(env):
        return environments.make_device(env, run.backend)
    if not isinstance(env, str) and not callable(env):
        _check_device_env(env, run)
        return env
    if run.backend is not None:
        raise InvalidSettingError(f"--backend chooses the physics of brax/ environments; {run.env} has none to choose.")
    return partial(environments.make_host, env)


def _spec(env: DeviceEnv | Callable[[list[int]], HostEnvs]) -> Spec:
    """What an agent must know of an environment that no loop steps in training."""
    if not callable(env):
        return env.spec
    probe = env([0])
    probe.close()
    return probe.spec


def _check_device_env(env: Any, run: RunConfig) -> None:
    name = type(env).__name__
    if run.backend is not None:
        raise InvalidSettingError(f"--backend chooses the physics of brax/ environments; {name} has none to choose.")
    if not isinstance(getattr(env, "spec", None), Spec):
        raise IncompatibleEnvironmentError(f"{name} is neither a function nor a device environment with a `spec`.")
    try:
        hash(env)
    except TypeError as error:
        raise IncompatibleEnvironmentError(
            f"{name} cannot be hashed, and the jitted loop needs that: make it a frozen dataclass."
        ) from error


def _plan(order: _Order, spec: Spec) -> tuple[Learning, Schedule]:
    run, members, devices = order.run, len(order.members), order.devices
    spec = dataclasses.replace(spec, num_envs=run.num_envs)
    for variant in order.variants:
        check_agent(variant, spec, run.env)
    agent = order.variants[0]
    layout = make_layout(agent, spec)
    mesh = make_mesh(members, devices, run.batch_devices, layout.batch_parts, layout.batch_words)
    learning = make_learning(agent, spec, run.num_envs, mesh)
    needed = 4 * members * layout.capacity * layout.width
    available = _available_memory(devices)
    if available is not None and needed > available:
        raise InvalidSettingError(
            f"The buffers of {members} {'agents' if run.variants else 'seed(s)'} with "
            f"{layout.capacity:,} transitions each need {needed / 1e9:.1f} GB, but {available / 1e9:.1f} GB are free: "
            f"lower {layout.size_setting} or --num-seeds."
        )
    return learning, Schedule.create(agent, spec, run.num_envs)


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


def _available_memory(devices: list[jax.Device]) -> int | None:
    """Bytes free for the buffers; None where that cannot be told."""
    statistics = devices[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        free = statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
        return int(free) * len(devices)
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
