"""Hindsight: part of each batch is replayed as if a goal that was reached later in the episode had been the one wanted.

Source: Hindsight Experience Replay (arXiv 1707.01495), strategy "future". The paper stores k relabelled copies of each step;
here the goals are drawn when batches are, so the buffer holds what happened and nothing else. What a step pays for its new
goal, the environment alone can say: whoever draws batches asks it.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from maxent_rl.data.buffers.replay import ReplayLayout, uniform_below
from maxent_rl.data.buffers.rows import Replay
from maxent_rl.errors import InvalidSettingError
from maxent_rl.spaces import Goals
from maxent_rl.types import Array, Spec, Transition


class Relabelled(NamedTuple):
    """A batch [..., batch] whose first R transitions have other goals.

    Attributes:
      batch: with the new goals in both observations; the rewards and terminations are those of the goals before.
      achieved: [..., R, goal] what the R transitions reached.
      desired: [..., R, goal] what they now wanted.
      desired_before: [..., R, goal] what they wanted when they were taken.
    """

    batch: Transition
    achieved: Array
    desired: Array
    desired_before: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class HindsightLayout(ReplayLayout):
    """A replay buffer of a goal environment, of which a part of each batch is relabelled.

    Attributes:
      goals: where goals stand in observations.
      relabelled: transitions of each batch that get another goal.
      horizon: the most steps of an episode.
    """

    goals: Goals
    relabelled: int
    horizon: int

    @classmethod
    def create_relabelling(
        cls, spec: Spec, replay_size: int, num_envs: int, batch_size: int, share: float
    ) -> HindsightLayout:
        """Lays out a buffer; arguments as of `ReplayLayout.create`.

        Args:
          spec: of a goal environment.
          replay_size: transitions.
          num_envs: environments that write side by side.
          batch_size: transitions in a batch.
          share: of a batch that is relabelled.

        Raises:
          InvalidSettingError: that is not a single transition.
        """
        relabelled = round(share * batch_size)
        if relabelled < 1:
            raise InvalidSettingError(
                f"--goal-relabel-share {share:g} of --batch-size {batch_size} is not a single transition: raise either, or "
                "leave --goal-relabel out."
            )
        assert spec.observation_space is not None
        assert spec.observation_space.goals is not None
        plain = ReplayLayout.create(spec, replay_size, num_envs, batch_size, n_step=1)
        known = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        return cls(**known, goals=spec.observation_space.goals, relabelled=relabelled, horizon=spec.horizon)

    def relabel(self, replay: Replay, key: Array) -> Relabelled:
        """Draws a batch uniformly, with replacement, and other goals for the first of its transitions.

        The new goal is what was achieved by this step or by a later one of the same episode, as far as that is in the buffer,
        each as likely as the others.

        Args:
          replay: with at least one row in it.
          key: [] random key.
        """
        count, filled = self.relabelled, jnp.minimum(replay.inserted, self.capacity)
        bits = jax.random.bits(key, (self.batch_size + count,))
        start = uniform_below(bits[: self.batch_size], filled)
        batch = self.unpack(replay.rows[start])
        later = uniform_below(bits[self.batch_size :], self._steps_left(replay, start[:count]))
        source = replay.rows[(start[:count] + later * self.num_envs) % self.capacity]
        goal = self.unpack(source).next_observation[:, slice(*self.goals.achieved)]
        wanted = slice(*self.goals.desired)
        observation, next_observation = (
            seen.at[:count, wanted].set(goal) for seen in (batch.observation, batch.next_observation)
        )
        return Relabelled(
            batch=dataclasses.replace(batch, observation=observation, next_observation=next_observation),
            achieved=batch.next_observation[:count, slice(*self.goals.achieved)],
            desired=goal,
            desired_before=batch.next_observation[:count, wanted],
        )

    def paid(self, batch: Transition, reward: Array, terminated: Array) -> Transition:
        """The batch with what its relabelled transitions pay, and whether they end an episode, for their new goals.

        Args:
          batch: of `relabel`.
          reward: [..., R].
          terminated: [..., R].
        """
        count = self.relabelled
        return dataclasses.replace(
            batch,
            reward=batch.reward.at[..., :count].set(reward),
            terminated=batch.terminated.at[..., :count].set(terminated),
            truncated=batch.truncated.at[..., :count].multiply(1.0 - terminated),
        )

    def _steps_left(self, replay: Replay, start: Array) -> Array:
        """Rows from each row of `start` [n] on, itself included, of its episode: [n] int32, at least 1."""
        offsets = jnp.arange(min(self.horizon, self.capacity // self.num_envs)) * self.num_envs
        rows = (start[:, None] + offsets) % self.capacity
        ends = replay.rows[rows, -2] + replay.rows[rows, -1] > 0
        newest = offsets + self.num_envs > (replay.inserted - 1 - start)[:, None] % self.capacity
        # The first row that ends the episode, or is the newest of its environment, is the last that counts.
        return jnp.argmax(ends | newest, axis=1) + 1
