"""Environments with several right answers, which a policy of one mode cannot hold.

`maxent/TwoOptima` and `maxent/FourOptima` are bandits: one step, one of several actions that are equally good.
`maxent/MultiGoal` is a point mass with four goals, as the soft Q-learning literature has it (arXiv 1702.08165, section
5.1): it starts in the middle, and every goal is as near as the others. The numbers are our own.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from maxent_rl.envs.reward_map import RewardMap
from maxent_rl.types import Array, Spec


@dataclasses.dataclass(frozen=True)
class Optima:
    """A bandit: action a pays `sum_i exp(-|a - c_i|^2 / (2 width^2))`, which is 1 at each optimum c_i, and nothing between.

    Attributes:
      optima: points of the action space [-1, 1]^action, far apart as `width` goes.
      width: standard deviation of each peak.
    """

    optima: tuple[tuple[float, ...], ...]
    width: float = 0.1

    @property
    def spec(self) -> Spec:
        """One observation that never changes; an episode is one step."""
        return Spec(observation_shape=(1,), action_shape=(len(self.optima[0]),), horizon=1)

    def reset(self, key: Array) -> tuple[Array, Array]:
        """Starts an episode; nothing is random."""
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """Pays for the action [action] and ends the episode."""
        return state, jnp.zeros(1), self.value(action), jnp.ones((), bool)

    def value(self, action: Array) -> Array:
        """Reward [...] of actions [..., action]."""
        return jnp.sum(jnp.exp(-0.5 * (self._distances(action) / self.width) ** 2), axis=-1)

    def shares(self, actions: Array) -> Array:
        """[optimum] share of actions [n, action] that lie within two widths of each optimum."""
        return jnp.mean(self._distances(actions) < self._near, axis=0)

    @property
    def reward_map(self) -> RewardMap:
        """What actions pay."""
        size = len(self.optima[0])
        names = ("action",) if size == 1 else tuple(f"action {index + 1}" for index in range(size))
        return RewardMap("action", self.value, "reward of the action", self.optima, "optimum", self._near, 1.0, names)

    @property
    def _near(self) -> float:
        """How near an optimum an action counts as one of its own."""
        return 2 * self.width

    def _distances(self, action: Array) -> Array:
        distances: Array = jnp.linalg.norm(action[..., None, :] - jnp.array(self.optima), axis=-1)
        return distances


@dataclasses.dataclass(frozen=True)
class MultiGoal:
    """A point in the plane, moved by its action, that is to reach any one of four goals.

    Each step costs the squared distance to the nearest goal and the squared length of the action, each weighted; an
    episode ends at a goal, with a bonus, or at the horizon.

    Attributes:
      goals: positions in the plane.
      radius: how near a goal counts as reached.
      bonus: reward for reaching it.
      distance_cost: weight of the squared distance to the nearest goal.
      action_cost: weight of the squared length of the action.
      start_spread: standard deviation of the start around the middle.
      edge: positions are kept within [-edge, edge]^2.
      horizon: steps of an episode, at most.
    """

    goals: tuple[tuple[float, float], ...] = ((5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0))
    radius: float = 1.0
    bonus: float = 10.0
    distance_cost: float = 0.1
    action_cost: float = 0.3
    start_spread: float = 0.1
    edge: float = 7.0
    horizon: int = 30

    @property
    def spec(self) -> Spec:
        """Observations are positions."""
        return Spec(observation_shape=(2,), action_shape=(2,), horizon=self.horizon)

    def reset(self, key: Array) -> tuple[Array, Array]:
        """Starts near the middle."""
        position = self.start_spread * jax.random.normal(key, (2,))
        return position, position

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """Moves by the action [2]."""
        position = jnp.clip(state + action, -self.edge, self.edge)
        reached = self.nearest(position) >= 0
        reward = self.landscape(position) - self.action_cost * jnp.sum(action**2) + self.bonus * reached
        return position, position, reward, reached

    def landscape(self, position: Array) -> Array:
        """What being at positions [..., 2] pays: [...]."""
        return -self.distance_cost * jnp.min(self._distances(position), axis=-1) ** 2

    @property
    def reward_map(self) -> RewardMap:
        """What positions pay, costs of the action and the bonus at a goal aside."""
        axes = ("x", "y")
        return RewardMap(
            "observation", self.landscape, "reward of the position", self.goals, "goal", self.radius, self.edge, axes
        )

    def nearest(self, position: Array) -> Array:
        """[...] int32 index of the goal that positions [..., 2] have reached; -1 for none."""
        distances = self._distances(position)
        return jnp.where(jnp.min(distances, axis=-1) < self.radius, jnp.argmin(distances, axis=-1), -1).astype(
            jnp.int32
        )

    def _distances(self, position: Array) -> Array:
        distances: Array = jnp.linalg.norm(position[..., None, :] - jnp.array(self.goals), axis=-1)
        return distances
