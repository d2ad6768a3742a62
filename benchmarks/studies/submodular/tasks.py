"""What the study trains on: environments by name with the settings of everyone who learns there, and small ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from maxent_rl.envs import make_device
from maxent_rl.envs.submodular.env import Motion, SubmodularEnv
from maxent_rl.envs.submodular.motions import GridWalk
from maxent_rl.envs.submodular.named import grid_coverage
from maxent_rl.errors import IncompatibleEnvironmentError
from maxent_rl.set_functions import InformationGain, ItemCollection, Table, matern52
from maxent_rl.types import Array, PyTree

DISCRETE = "--baseline mean --learning-rate 5e-3 --entropy-bonus 10 --entropy-annealing"
_VALUE = "--baseline value --trace-decay 0.95 --discount 0.99 --entropy-bonus 0.01"
CONTINUOUS = f"{_VALUE} --learning-rate 5e-3"
ANT = f"{_VALUE} --learning-rate 1e-3 --rollout-size 1600 --epochs 4 --minibatches 4 --normalize-observations"
CLIPPED = (
    "--epochs 4 --minibatches 4 --normalize-advantages --learning-rate 3e-3 --entropy-bonus 0.01 --no-entropy-annealing"
)
PACKAGES = ("maxent_rl", "jax", "jaxlib", "flax", "optax", "numpy", "brax")
"""Whose versions decide the numbers."""
SMALL = "small/"
"""How the names of instances of our own begin, whose optimum is found by enumeration."""

CONTENDERS: dict[str, str] = {
    "modpo": "--agent modpo",
    "subpo": "--agent subpo",
    "subpo-clipped": f"--agent subpo {CLIPPED}",
    "subpo-visited": "--agent subpo",
    "subpo-recurrent": "--agent subpo --history recurrent --history-size 32 --history-layers 1",
    "subpo-myopic": "--agent subpo --horizon myopic",
}
"""By name, in the order of the tables: flags of experiments/run.py, which win over those of the task. `-visited` is a matter
of the environment's name; the clipped steps are those of `--preset subpo-clipped`."""
REFERENCES = "references"
"""The contender that does not learn."""
LABELS = {
    "modpo": "additive rewards (modpo)",
    "subpo": "subpo",
    "subpo-clipped": "subpo, clipped steps",
    "subpo-visited": "subpo, sees what was visited",
    "subpo-recurrent": "subpo, recurrent",
    "subpo-myopic": "subpo, myopic credit",
}
"""Contenders as people read them, in the order of the tables."""
MARKOV = ("modpo", "subpo", "subpo-clipped")
HISTORY = (*MARKOV, "subpo-visited", "subpo-recurrent")


class Task(NamedTuple):
    """How an environment is learned and planned in.

    Attributes:
      steps: environment steps of each seed.
      contenders: who learns.
      flags: settings of all of them.
      num_envs: environments of each seed.
      evaluations: of a run, spread evenly.
      episodes: of each evaluation and each kind of action.
      lookahead: of the greedy plan that looks further than one step.
      samples: trials of each sequence of the greedy plans, where chance decides.
    """

    steps: int
    contenders: tuple[str, ...] = MARKOV
    flags: str = DISCRETE
    num_envs: int = 128
    evaluations: int = 20
    episodes: int = 32
    lookahead: int = 4
    samples: int = 1


_SHORT = Task(1_000_000, ("modpo", "subpo"), lookahead=3)
TASKS: dict[str, Task] = {
    "maxent/GridCoverage": Task(2_000_000),
    "maxent/BimodalCoverage": Task(1_000_000, (*MARKOV, "subpo-visited", "subpo-myopic")),
    "maxent/FieldCoverage": Task(1_000_000),
    "maxent/ObstacleCoverage": Task(2_000_000),
    "maxent/TwoRooms": Task(1_000_000, HISTORY, lookahead=6),
    "maxent/ItemCollection": Task(1_000_000, HISTORY, lookahead=6),
    "maxent/InformativePath": Task(1_000_000, lookahead=3),
    "maxent/ExperimentDesign": Task(1_000_000, lookahead=3),
    "maxent/SteinerTree": Task(1_000_000, (*MARKOV, "subpo-visited"), lookahead=3),
    "maxent/EpsilonBandit-0.1": Task(
        1_000_000, ("modpo", "subpo", "subpo-visited"), episodes=512, lookahead=2, samples=256
    ),
    "maxent/PointCoverage": Task(1_000_000, ("modpo", "subpo", "subpo-visited"), CONTINUOUS, lookahead=3),
    "maxent/AntCoverage": Task(128_000, ("modpo", "subpo"), ANT, num_envs=16, evaluations=4, episodes=2),
    SMALL + "Grid4x4": _SHORT,
    SMALL + "Grid5x5": _SHORT,
    SMALL + "Items4x4": _SHORT,
    SMALL + "Field4x4": _SHORT,
}
"""By name of the environment, in the order in which they are measured."""


def make_env(name: str) -> SubmodularEnv:
    """An environment by the name in `TASKS`, or that with `-visited` behind it."""
    if name.startswith(SMALL):
        return _SMALL[name.removeprefix(SMALL)]()
    env: Any = make_device(name)
    return env  # type: ignore[no-any-return]


def discrete(env: SubmodularEnv) -> SubmodularEnv:
    """The environment with actions that plans can try: as it is, or a point robot that goes in one of eight directions.

    Raises:
      IncompatibleEnvironmentError: its actions are neither discrete nor velocities in a plane.
    """
    if env.spec.num_actions is not None:
        return env
    if env.motion.action_size != 2:
        raise IncompatibleEnvironmentError(
            f"There are no plans for {env.motion.action_size} continuous actions at once."
        )
    return dataclasses.replace(env, motion=Compass(env.motion))


@dataclasses.dataclass(frozen=True)
class Compass:
    """A motion in a plane at full speed or none along each axis.

    Attributes:
      motion: with velocities [2] as actions.
    """

    motion: Motion

    @property
    def observation_size(self) -> int:
        """Of the motion."""
        return self.motion.observation_size

    @property
    def action_size(self) -> None:
        """Actions are discrete."""
        return None

    @property
    def num_actions(self) -> int:
        """Eight directions, and rest."""
        return 9

    @property
    def visits_start(self) -> bool:
        """As in the motion."""
        return self.motion.visits_start

    def reset(self, key: Array) -> PyTree:
        """As the motion."""
        return self.motion.reset(key)

    def move(self, state: PyTree, action: Array) -> tuple[PyTree, Array]:
        """Goes along each axis by -1, 0 or 1, the digits of the action."""
        return self.motion.move(state, jnp.stack([action // 3 - 1.0, action % 3 - 1.0]))

    def observe(self, state: PyTree) -> Array:
        """As the motion."""
        return self.motion.observe(state)

    def element(self, state: PyTree) -> Array:
        """As in the motion."""
        return self.motion.element(state)


def _small_grid(side: int, horizon: int) -> SubmodularEnv:
    """Coverage with weights drawn uniformly, from a corner."""
    return grid_coverage(np.random.default_rng(side).uniform(0.1, 1.0, (side, side)), horizon, 0)


def _small_items() -> SubmodularEnv:
    """Three kinds of items in all of 16 cells, of which 2, 2 and 1 count."""
    kinds = np.random.default_rng(0).permutation(np.array([0] * 6 + [1] * 3 + [2] * 1 + [-1] * 6))
    function = ItemCollection(Table(kinds.astype(np.int32)), Table(np.array([2, 2, 1], np.int32)))
    return SubmodularEnv(GridWalk(4, 4, 0), function, 6)


def _small_field() -> SubmodularEnv:
    """Measurements of a Gaussian process that is uncertain in some places more than in others."""
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, 4),) * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    deviation = np.random.default_rng(1).uniform(0.3, 2.0, 16)
    covariance = matern52(points, 0.7) * deviation[:, None] * deviation
    return SubmodularEnv(GridWalk(4, 4, 0), InformationGain(Table(covariance.astype(np.float32)), 0.05, 7), 6)


_SMALL: dict[str, Callable[[], SubmodularEnv]] = {
    "Grid4x4": lambda: _small_grid(4, 6),
    "Grid5x5": lambda: _small_grid(5, 8),
    "Items4x4": _small_items,
    "Field4x4": _small_field,
}
