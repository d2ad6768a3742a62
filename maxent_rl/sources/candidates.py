"""Data for distillation: states of a teacher's episodes, each with candidate actions that the teacher has scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray
from rich.console import Console

from maxent_rl.agents.imitation.adpo import ADPO
from maxent_rl.distributions import Categorical, Gaussian, GaussianMixture, TanhGaussian, TanhGaussianMixture
from maxent_rl.envs import has_name
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.host import HostEnvs
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.opening import check_spec
from maxent_rl.playing.trajectories import record_episodes
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.policy import Policy, load_policy
from maxent_rl.settings import static
from maxent_rl.types import Array, CandidateSets, Spec

_EPISODES = 16  # side by side
_LEARN, _HELD_OUT = 0, 1_000_000  # first number of the rounds of episodes from which each part comes


@struct.dataclass
class CandidateData:
    """A data set of candidate sets, [size] of them."""

    sets: CandidateSets
    size: int = static(0)

    def sample(self, key: Array, batch_size: int) -> CandidateSets:
        """Draws a batch, with replacement."""
        index = jax.random.randint(key, (batch_size,), 0, self.size)
        batch: CandidateSets = jax.tree.map(lambda leaf: leaf[index], self.sets)
        return batch


def load_candidates(
    run: RunConfig, agent: ADPO, spec: Spec, env: DeviceEnv | Callable[[list[int]], HostEnvs]
) -> tuple[CandidateData, CandidateSets]:
    """Plays the teacher and draws candidates; the same data for the same teacher and settings.

    Args:
      run: settings, which name the teacher.
      agent: says how many states and candidates.
      spec: of the environment.
      env: to play in.

    Raises:
      PolicyError: there is no teacher, or a damaged one.
      IncompatibleEnvironmentError: it was trained on another environment.
      InvalidSettingError: its policy is of another kind than the student's.
    """
    assert run.teacher is not None
    teacher = load_policy(run.teacher, seed=agent.teacher_seed)
    if teacher.env != run.env and has_name(teacher.env) and has_name(run.env):
        raise IncompatibleEnvironmentError(
            f"The teacher in {run.teacher} was trained on {teacher.env}, not on {run.env}: pass --env {teacher.env}."
        )
    check_spec(teacher, spec)
    parts, total = [], agent.num_states + agent.held_out_states
    # Shown on terminals only, and gone when it is done.
    with Console(stderr=True).status(f"Playing the teacher for {total:,} states"):
        for first, count in ((_LEARN, agent.num_states), (_HELD_OUT, agent.held_out_states)):
            observation = visited_states(teacher, env, count, agent.data_seed, first)
            key = jax.random.fold_in(jax.random.key(agent.data_seed), first)
            parts.append(draw_candidates(teacher, agent, observation, key))
    return CandidateData(parts[0], agent.num_states), parts[1]


def visited_states(
    policy: Policy, env: DeviceEnv | Callable[[list[int]], HostEnvs], count: int, seed: int, first: int
) -> NDArray[np.float32]:
    """States [count, observation] that a policy's sampled actions lead to, drawn from whole episodes.

    Args:
      policy: what acts.
      env: to play in.
      count: states; so many episodes are played that there are at least as many, and a random part of them is taken.
      seed: decides everything.
      first: number of the first round of episodes: other numbers, other episodes.
    """
    found: list[NDArray[np.float32]] = []
    number, total = first, 0
    while total < count:
        # Not more episodes than are needed where they are long.
        episodes = min(_EPISODES, math.ceil((count - total) / policy.spec.horizon))
        key = jax.random.fold_in(jax.random.key(seed), number)
        played = record_episodes(policy, env, episodes, seed=seed, step=number, key=key)
        visited = np.concatenate([each.observation[:-1] for each in played])
        elapsed = np.concatenate([np.arange(each.length) for each in played])
        found.append(visited[np.argsort(elapsed, kind="stable")])
        number, total = number + 1, total + len(visited)
    every = np.concatenate(found)
    chosen = np.random.default_rng([seed, first]).choice(len(every), count, replace=False)
    picked: NDArray[np.float32] = every[np.sort(chosen)]
    return picked


def draw_candidates(teacher: Policy, agent: ADPO, observation: NDArray[np.float32], key: Array) -> CandidateSets:
    """Candidate actions at states [n, observation], half of them from the teacher, half from a broader proposal.

    Args:
      teacher: what scores them.
      agent: says how many, and where the other half comes from.
      observation: [n, observation].
      key: [] random key.

    Raises:
      InvalidSettingError: the teacher's policy is of another kind than the student's.
    """
    if not hasattr(teacher.agent, "distribution"):
        raise InvalidSettingError(f"{type(teacher.agent).__name__} cannot teach: it has no distribution over actions.")
    policy = jax.jit(lambda seen: teacher.agent.distribution(teacher.state, seen))(jnp.asarray(observation))
    if isinstance(policy, Categorical):
        every: CandidateSets = _every_action(policy, jnp.asarray(observation), key)
        return every
    squashed = isinstance(policy, (TanhGaussian, TanhGaussianMixture))
    if squashed != (agent.density == "tanh"):
        kind, wanted = ("squashed by tanh", "tanh") if squashed else ("not squashed", "gaussian")
        raise InvalidSettingError(f"The teacher's policy is {kind}: pass --density {wanted}.")
    unsquashed: Gaussian | GaussianMixture
    if isinstance(policy, TanhGaussianMixture):
        unsquashed = policy.pre_tanh
    elif isinstance(policy, TanhGaussian):
        unsquashed = Gaussian(policy.mean, policy.log_std)
    else:
        unsquashed = policy
    seen = jnp.asarray(observation)
    sets: CandidateSets = _draw(unsquashed, agent.num_candidates, agent.proposal, squashed, seen, key)
    return sets


@partial(jax.jit, static_argnames=("count", "proposal", "squashed"))
def _draw(
    teacher: Gaussian | GaussianMixture, count: int, proposal: str, squashed: bool, observation: Array, key: Array
) -> CandidateSets:
    own_key, other_key = jax.random.split(key)
    moments = teacher.moments() if isinstance(teacher, GaussianMixture) else teacher
    own_count = (count + 1) // 2
    own = jax.vmap(teacher.sample, out_axes=-2)(jax.random.split(own_key, own_count))
    shape = (*observation.shape[:-1], count - own_count, moments.mean.shape[-1])
    if proposal == "broad":
        noise = jax.random.normal(other_key, shape)
        other = moments.mean[..., None, :] + 2.0 * jnp.exp(moments.log_std)[..., None, :] * noise
    else:
        other = jax.random.uniform(other_key, shape, minval=-1.0, maxval=1.0)
        other = jnp.arctanh(0.999999 * other) if squashed else other
    candidates = jnp.concatenate([own, other], axis=-2)
    return CandidateSets(
        observation=observation,
        candidates=candidates,
        teacher_log_prob=jax.vmap(teacher.log_prob, in_axes=-2, out_axes=-1)(candidates),
        drawn=jnp.broadcast_to((jnp.arange(count) < own_count).astype(jnp.float32), candidates.shape[:-1]),
        teacher=jnp.concatenate([moments.mean, moments.log_std], axis=-1),
    )


@jax.jit
def _every_action(teacher: Categorical, observation: Array, key: Array) -> CandidateSets:
    log_probs = teacher.log_probs
    every = jnp.arange(log_probs.shape[-1])
    return CandidateSets(
        observation=observation,
        candidates=jnp.broadcast_to(every.astype(jnp.float32), log_probs.shape),
        teacher_log_prob=log_probs,
        drawn=(every == teacher.sample(key)[..., None]).astype(jnp.float32),
        teacher=log_probs,
    )
