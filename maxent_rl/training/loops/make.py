"""Choosing and building the loop for an environment: host or device, on one local device or several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import gymnasium
import jax

from maxent_rl import envs as environments
from maxent_rl.agents.base import WritesResponses, check_agent, learns_offline, learns_on_policy
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.envs.env import Env
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.evaluation import Outcomes
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.mesh import make_mesh
from maxent_rl.seeds.processes import Processes
from maxent_rl.seeds.streams import ENVIRONMENT, environment_seed
from maxent_rl.seeds.variants import member_agent, member_name, variant_agents
from maxent_rl.training.loops.device import DeviceLoop
from maxent_rl.training.loops.host import HostLoop
from maxent_rl.training.loops.learner import make_learning
from maxent_rl.training.loops.offline import LoadData, make_offline_loop
from maxent_rl.training.loops.plan import Learner, Learning, Schedule
from maxent_rl.training.loops.tokens import make_token_loop
from maxent_rl.types import Array, PyTree, Spec


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
    agent: Any,
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
    if isinstance(env, gymnasium.Env):
        raise IncompatibleEnvironmentError(
            "The environment was given as an instance; give a function that makes it, as every seed needs its own."
        )
    variants = variant_agents(agent, run.variants)
    members = (processes or Processes()).share(run.members)
    seeds = tuple(int(member["seed"]) for member in members)
    names = tuple(map(member_name, members))
    on_device = environments.is_device(env) if isinstance(env, str) else not callable(env)
    if on_device:
        device_env = environments.make_device(env, run.backend) if isinstance(env, str) else env
        assert not callable(device_env)
        if not isinstance(env, str):
            _check_device_env(env, run)
        if isinstance(variants[0], WritesResponses):
            return make_token_loop(run, members, variants, cast(TokenEnv, device_env), devices)
        if learns_offline(agent):
            return make_offline_loop(run, members, variants, device_env, device_env.spec, devices, load)
        learning, schedule = _plan(run, len(members), variants, device_env.spec, devices)
        return DeviceLoop(member_agent(agent, members), learning, schedule, seeds, names, device_env)
    if run.backend is not None:
        raise InvalidSettingError(f"--backend chooses the physics of brax/ environments; {run.env} has none to choose.")
    assert isinstance(env, str) or callable(env)

    def make_envs(seeds: list[int]) -> Any:
        return environments.make_host(env, seeds)

    if learns_offline(agent):
        probe = make_envs([0])
        probe.close()
        return make_offline_loop(run, members, variants, make_envs, probe.spec, devices, load)
    env_seeds = [environment_seed(seed, ENVIRONMENT, index) for seed in seeds for index in range(run.num_envs)]
    host_envs = make_envs(env_seeds)
    try:
        learning, schedule = _plan(run, len(members), variants, host_envs.spec, devices)
        return HostLoop(member_agent(agent, members), learning, schedule, seeds, names, host_envs, make_envs)
    except BaseException:
        host_envs.close()
        raise


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


def _plan(
    run: RunConfig, members: int, variants: list[Any], spec: Spec, devices: list[jax.Device]
) -> tuple[Learning, Schedule]:
    spec = dataclasses.replace(spec, num_envs=run.num_envs)
    for variant in variants:
        check_agent(variant, spec, run.env)
    agent = variants[0]
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
    if isinstance(agent, WritesResponses):
        return _stays_warm(run, agent)
    if learns_offline(agent):
        return None
    first = Schedule.create(agent, learning.spec, run.num_envs).first_update * run.num_envs
    if run.total_steps > first - run.num_envs:
        return None
    flag = "--start-steps"
    if learns_on_policy(agent):
        flag = "--num-envs" if agent.rollout_size is None else "--rollout-size"
    return (
        f"This run learns nothing in its {run.total_steps:,} steps, as the first update is due at step {first:,}: "
        f"raise --total-steps or lower {flag}."
    )


def _stays_warm(run: RunConfig, agent: Any) -> str | None:
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
