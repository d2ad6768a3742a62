"""Small environments with known answers, for host and device."""

from __future__ import annotations

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.types import Spec

DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)


@dataclasses.dataclass(frozen=True)
class Point:
    """A point that is moved in the plane and pays minus its squared distance from the origin, on the device."""

    horizon: int = 20
    fault_at: int = 0

    @property
    def spec(self):
        return Spec((2,), (2,), self.horizon)

    def reset(self, key):
        position = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return (position, jnp.int32(0)), position

    def step(self, state, action):
        position, elapsed = state
        position, elapsed = position + 0.1 * action, elapsed + 1
        reward = -jnp.sum(position**2)
        reward = jnp.where((self.fault_at > 0) & (elapsed == self.fault_at), jnp.nan, reward)
        return (position, elapsed), position, reward, jnp.any(jnp.abs(position) > 3)


@dataclasses.dataclass(frozen=True)
class DiscretePoint(Point):
    """The same point, moved right, left, up or down."""

    @property
    def spec(self):
        return Spec((2,), (), self.horizon, num_actions=len(DIRECTIONS))

    def step(self, state, action):
        return super().step(state, jnp.asarray(DIRECTIONS)[action])


@dataclasses.dataclass(frozen=True)
class OneStepDevice:
    """Every step pays 1 and ends the episode, by termination or by the horizon."""

    terminates: bool
    num_actions: int | None = None

    @property
    def spec(self):
        return Spec((1,), () if self.num_actions else (1,), 1, num_actions=self.num_actions)

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, state, action):
        return state, jnp.zeros(1), jnp.float32(1.0), jnp.asarray(self.terminates)


class HostPoint(gymnasium.Env):
    """The same point for Gymnasium; at step `fault_at` of an episode the reward is NaN."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, horizon=20, fault_at=0):
        self.horizon, self.fault_at = horizon, fault_at
        self.position, self.elapsed = np.zeros(2, np.float32), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position, self.elapsed = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        return self.position.copy(), {}

    def step(self, action):
        self.position = self.position + np.float32(0.1) * action.astype(np.float32)
        self.elapsed += 1
        reward = float("nan") if self.elapsed == self.fault_at else -float((self.position**2).sum())
        return self.position.copy(), reward, False, self.elapsed >= self.horizon, {}


class HostDiscretePoint(HostPoint):
    """The same discrete point for Gymnasium."""

    action_space = gymnasium.spaces.Discrete(len(DIRECTIONS))

    def step(self, action):
        return super().step(DIRECTIONS[action])


class OneStepHost(gymnasium.Env):
    """Every step pays 1 and ends the episode, by termination or by truncation."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, terminates, num_actions=None):
        self.terminates = terminates
        if num_actions:
            self.action_space = gymnasium.spaces.Discrete(num_actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, self.terminates, not self.terminates, {}


class HostReach(gymnasium.Env):
    """`maxent/Reach` for Gymnasium, as gymnasium-robotics writes goal environments; `terminates` ends episodes at the goal."""

    observation_space = gymnasium.spaces.Dict(
        {
            name: gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
            for name in ("observation", "achieved_goal", "desired_goal")
        }
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def __init__(self, terminates=False, horizon=50):
        self.terminates, self.horizon = terminates, horizon
        self.place, self.goal, self.move, self.elapsed = np.zeros(3), np.zeros(3), np.zeros(3), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-0.05, 0.05, 3), self.np_random.uniform(-0.3, 0.3, 3)
        self.move, self.elapsed = np.zeros(3), 0
        return self.observe(), {}

    def step(self, action):
        before, self.elapsed = self.place, self.elapsed + 1
        self.place = np.clip(before + 0.05 * action, -0.3, 0.3)
        self.move = self.place - before
        reward = float(self.compute_reward(self.place, self.goal, {}))
        terminated = self.compute_terminated(self.place, self.goal, {})
        return self.observe(), reward, terminated, self.elapsed >= self.horizon, {"is_success": reward == 0.0}

    def observe(self):
        return {
            "observation": self.move.copy(),
            "achieved_goal": self.place.copy(),
            "desired_goal": self.goal.copy(),
        }

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.05).astype(np.float32)

    def compute_terminated(self, achieved_goal, desired_goal, info):
        # For one step at a time, as the mazes of gymnasium-robotics have it.
        return bool(self.terminates and np.linalg.norm(achieved_goal - desired_goal) <= 0.05)


class HostCatch(gymnasium.Env):
    """`maxent/CatchContinuous` or `maxent/Catch` for Gymnasium; images as `layout` says, "wide" being nonsense."""

    def __init__(self, continuous=True, layout="last"):
        self.shape = {"last": (32, 32, 1), "first": (1, 32, 32), "grey": (32, 32), "wide": (16, 64)}[layout]
        self.observation_space = gymnasium.spaces.Box(0, 255, self.shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,)) if continuous else gymnasium.spaces.Discrete(3)
        self.continuous, self.column, self.row, self.paddle = continuous, 0, 0, np.float32(12)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.column, self.row, self.paddle = int(self.np_random.integers(29)), 0, np.float32(12)
        return self.image(), {}

    def step(self, action):
        moved = np.float32(action[0]) if self.continuous else action - 1
        self.paddle = np.clip(np.float32(self.paddle + 4 * moved), 0, 24)
        self.row += 4
        caught = self.paddle <= self.column <= self.paddle + 4
        landed = self.row == 28
        return self.image(), float(2 * caught - 1) * landed, landed, False, {}

    def image(self):
        image = np.zeros((32, 32), np.uint8)
        image[self.row : self.row + 4, self.column : self.column + 4] = 255
        first = int(np.round(self.paddle))
        image[28:, first : first + 8] = 255
        return image.reshape(self.shape)


def host_point():
    """A factory, as `train` takes it."""
    return HostPoint()


def host_discrete_point():
    """Likewise."""
    return HostDiscretePoint()
