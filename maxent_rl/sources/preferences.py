"""Makes a data set of preferences: plays a trained policy, cuts segments from its episodes, and labels pairs of them.

Source: Contrastive Preference Learning (arXiv 2310.13639): a half-trained SAC policy with Gaussian noise on its actions,
segments of 64 steps, labels by the regret under a trained oracle (the official code's "rl_sum").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.agents.base import Agent, HasCritics
from maxent_rl.data.batches.preferences import LARGEST_ACTION, Preferences, compare
from maxent_rl.errors import DataError, IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.opening import open_environment
from maxent_rl.playing.trajectories import Trajectory, keep_playing
from maxent_rl.runs.policy import Policy
from maxent_rl.runs.state import Restored, state_values
from maxent_rl.seeds.streams import environment_seed
from maxent_rl.types import Array, PyTree

Floats = NDArray[np.float32]
Report = Callable[[int], None]
"""Is told how many episodes have been played."""

_SIDE_BY_SIDE = 64  # episodes; more would be faster by little, and each takes memory to its end
_OBSERVATIONS_AT_ONCE = 1024  # whose values are computed together, with 64 actions each
_HELD_OUT_SHARE = 0.1
_CHOOSE = 1  # a stream of random numbers, beside that of `trajectories`


class Segments(NamedTuple):
    """N segments of K steps, none across an episode's end.

    Attributes:
      observation: [N, K, observation] before each action.
      action: [N, K, action].
      reward: [N, K].
    """

    observation: Floats
    action: Floats
    reward: Floats


@dataclasses.dataclass(frozen=True)
class Making:
    """How a data set is made; see `experiments/dataset.py` for what the settings mean."""

    episodes: int = 250
    segments: int | None = None
    length: int = 64
    label: Literal["regret", "return"] = "regret"
    action_noise: float = 0.3
    flip: float = 0.0
    pairs: int | None = None
    seed: int = 0
    num_envs: int | None = None


def make_preferences(
    policy: Policy, making: Making, oracle: Restored | None, report: Report = lambda _: None
) -> tuple[Preferences, dict[str, float]]:
    """Plays, cuts and labels.

    Args:
      policy: plays.
      making: the settings.
      oracle: whose critics label by regret.
      report: is told of progress.

    Returns:
      (the data, what is worth telling of it: mean returns of episodes and of the better half, ties, ...).

    Raises:
      InvalidSettingError: regret labels without an oracle that has critics.
      IncompatibleEnvironmentError: discrete actions, or an oracle of another environment.
      DataError: no episode is as long as a segment.
    """
    check_sources(policy, making, oracle)
    played: list[Floats] = []
    returns: list[float] = []
    parts: list[Segments] = []
    for trajectories in play(policy, making):
        returns += [each.total for each in trajectories]
        played += [np.array([each.length], np.float32) for each in trajectories]
        parts += [cut(each, making.length) for each in trajectories if each.length >= making.length]
        report(len(returns))
    if not parts:
        longest = int(np.max(played))
        raise DataError(f"No episode has {making.length} steps (the longest has {longest}): lower --length.")
    generator = np.random.default_rng(environment_seed(making.seed, _CHOOSE))
    segments = _chosen(Segments(*map(np.concatenate, zip(*parts, strict=True))), making.segments, generator)
    score = return_score(segments) if making.label == "return" else regret_score(segments, _values(oracle, making.seed))
    pairs = draw_pairs(len(score), making.pairs, generator)
    clean = np.asarray(compare(score[pairs[:, 0]], score[pairs[:, 1]]), np.float32)
    label = flip_labels(clean, making.flip, generator)
    about = {name: value for name, value in dataclasses.asdict(making).items() if name != "num_envs"}
    about |= {"policy_step": policy.step, "oracle_step": oracle.step if oracle else None}
    told = {
        "episodes": len(returns),
        "segments": len(score),
        "return_mean": float(np.mean(returns)),
        "return_better_half": float(np.mean(np.sort(returns)[len(returns) // 2 :])),
        "ties": int(np.sum(clean == 0.5)),
        "flipped": int(np.sum(label != clean)),
    }
    action = np.clip(segments.action, -LARGEST_ACTION, LARGEST_ACTION)
    data = Preferences(segments.observation, action, pairs, label, policy.env, about | told, score)
    return data, told


def check_sources(policy: Policy, making: Making, oracle: Restored | None) -> None:
    """Refuses policies and oracles that cannot make the data, before anything is played."""
    if policy.spec.num_actions is not None:
        raise IncompatibleEnvironmentError(
            f"{policy.env} has discrete actions; preferences over segments are for continuous ones."
        )
    if making.label != "regret":
        return
    if oracle is None:
        raise InvalidSettingError("Regret labels need --oracle RUN, an agent with critics; or take --label return.")
    if not isinstance(oracle.agent, HasCritics):
        name = type(oracle.agent).__name__
        raise InvalidSettingError(f"Regret labels need an agent with critics, such as sac; the oracle is a {name}.")
    if oracle.policy.env != policy.env:
        raise IncompatibleEnvironmentError(
            f"The oracle was trained on {oracle.policy.env}, the policy on {policy.env}."
        )


def play(policy: Policy, making: Making) -> Iterator[list[Trajectory]]:
    """Plays episodes, some of them side by side at a time, with sampled actions and Gaussian noise on them."""
    together = min(making.episodes, _SIDE_BY_SIDE)
    choose = partial(noisy_action, making.action_noise)  # one object: each new one compiles anew
    source = open_environment(policy, num_envs=making.num_envs)
    played = keep_playing(policy, source, together, seed=making.seed, choose=choose)
    for first in range(0, making.episodes, together):
        yield next(played)[: making.episodes - first]


def noisy_action(
    scale: float, agent: Agent[Any], state: PyTree, observation: Array, key: Array | None
) -> tuple[Array, PyTree]:
    """`Choose` for actions drawn from the policy, with Gaussian noise of that scale added and clipped to the box."""
    assert key is not None
    policy_key, noise_key = jax.random.split(key)
    action = agent.act(state, observation, policy_key)
    return jnp.clip(action + scale * jax.random.normal(noise_key, action.shape), -1.0, 1.0), ()


def cut(trajectory: Trajectory, length: int) -> Segments:
    """Cuts an episode into segments, one after the other from its first step; a shorter rest is left out."""
    count = trajectory.length // length

    def parts(array: Floats) -> Floats:
        return array[: count * length].reshape(count, length, *array.shape[1:])

    return Segments(parts(trajectory.observation[:-1]), parts(trajectory.action), parts(trajectory.reward))


def return_score(segments: Segments) -> Floats:
    """[N] the sum of the rewards of all steps."""
    return np.asarray(segments.reward.sum(axis=1, dtype=np.float64), np.float32)


def regret_score(segments: Segments, values: Callable[[Floats], Floats]) -> Floats:
    """How little was lost against acting as the oracle: `sum_{t<K-1} r_t + V(s_{K-1}) - V(s_0)`, without discount.

    Args:
      segments: N of them.
      values: the oracle's V, [n, observation] to [n].

    Returns:
      [N] minus the regret, in units of return.

    Source: Contrastive Preference Learning (arXiv 2310.13639), official code, label "rl_sum".
    """
    paid = segments.reward[:, :-1].sum(axis=1, dtype=np.float64)
    first, last = values(segments.observation[:, 0]), values(segments.observation[:, -1])
    return np.asarray(paid + last - first, np.float32)


def draw_pairs(count: int, pairs: int | None, generator: np.random.Generator) -> NDArray[np.int32]:
    """Which of `count` segments are compared: [M, 2].

    Args:
      count: N segments.
      pairs: M; None for N/2, each segment in one pair; 0 for none, so that any two can be compared by their scores.
      generator: of random numbers.

    The last tenth of the pairs compare the last tenth of the segments and no others, so that what is measured on them is
    measured on segments that nothing was learned from. Within each part segments are used as evenly as can be.
    """
    if pairs == 0:
        return np.zeros((0, 2), np.int32)
    if count < 2:
        raise DataError(f"There are {count} segments, of which no two can be compared: raise --episodes.")
    pairs = count // 2 if pairs is None else pairs
    apart = int(_HELD_OUT_SHARE * pairs)
    last = min(max(2, int(_HELD_OUT_SHARE * count)), count - 2) if apart and count >= 4 else 0
    parts = [_pairs_within(np.arange(count - last), pairs - (apart if last else 0), generator)]
    parts += [_pairs_within(np.arange(count - last, count), apart, generator)] if last else []
    return np.concatenate(parts).astype(np.int32)


def _pairs_within(segments: NDArray[np.int64], pairs: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """[pairs, 2]: neighbours of as many permutations as it takes."""
    each = len(segments) // 2
    rounds = [generator.permutation(segments)[: 2 * each].reshape(each, 2) for _ in range(-(-pairs // each))]
    return np.concatenate(rounds)[:pairs]


def flip_labels(label: Floats, flip: float, generator: np.random.Generator) -> Floats:
    """Turns each label round with probability `flip`; ties stay ties."""
    return np.where(generator.random(len(label)) < flip, 1.0 - label, label).astype(np.float32)


def _chosen(segments: Segments, count: int | None, generator: np.random.Generator) -> Segments:
    """All segments in a new order, or `count` of them.

    Raises:
      InvalidSettingError: there are fewer.
    """
    there = len(segments.reward)
    if count is not None and count > there:
        raise InvalidSettingError(f"--segments is {count}, but these episodes have {there}: raise --episodes.")
    kept = generator.permutation(there)[:count]
    return Segments(*(each[kept] for each in segments))


def _values(oracle: Restored | None, seed: int) -> Callable[[Floats], Floats]:
    """The oracle's V at many observations, some at a time."""
    assert oracle is not None
    compute = jax.jit(partial(state_values, oracle.agent))
    size = _OBSERVATIONS_AT_ONCE

    def values(observation: Floats) -> Floats:
        found = []
        for number, first in enumerate(range(0, len(observation), size)):
            part = observation[first : first + size]
            padded = np.pad(part, ((0, size - len(part)), (0, 0)))  # one shape, one program
            key = jax.random.fold_in(jax.random.key(seed), number)
            found.append(np.asarray(compute(oracle.state, padded, key))[: len(part)])
        return np.concatenate(found)

    return values
