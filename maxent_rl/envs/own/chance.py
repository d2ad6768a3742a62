"""Small environments in which luck can be told from skill, by a number in the name that says how much chance decides.

`maxent/BernoulliBandit-0.1` is the bandit of Dichotomy of Control (arXiv 2210.13435): one arm pays rarely, the other often.
`maxent/FrozenLake-0.33` is Gymnasium's FrozenLake-v1 on its 4x4 map with that probability of slipping; 2/3 is its default.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from maxent_rl.errors import UnknownNameError
from maxent_rl.types import Array, Spec

_MAP = "SFFFFHFHFFFHHFFG"
_SIDE = 4
_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up, as Gymnasium numbers them


class Table(NamedTuple):
    """A finite environment in full.

    Attributes:
      probability: [state, action, next state].
      reward: [next state] for reaching it.
      terminal: [state].
    """

    probability: NDArray[np.float64]
    reward: NDArray[np.float64]
    terminal: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class BernoulliBandit:
    """Two arms, one step: arm 0 pays 1 with a probability, arm 1 with the rest of it.

    Attributes:
      probability: of arm 0 to pay.
    """

    probability: float = 0.1

    @property
    def spec(self) -> Spec:
        """One observation that never changes; an episode is one step."""
        return Spec(observation_shape=(1,), action_shape=(), horizon=1, num_actions=2)

    def reset(self, key: Array) -> tuple[Array, Array]:
        """Starts an episode; the state is the randomness of its only step."""
        return key, jnp.zeros(1)

    def step(self, state: Array, action: Array) -> tuple[Array, Array, Array, Array]:
        """Pulls an arm [] and ends the episode."""
        pays = jnp.where(action == 0, self.probability, 1.0 - self.probability)
        reward = jax.random.bernoulli(state, pays).astype(jnp.float32)
        return state, jnp.zeros(1), reward, jnp.ones((), bool)


@dataclasses.dataclass(frozen=True)
class FrozenLake:
    """A walk over ice with holes: 1 for reaching the goal, an end in a hole, and steps that may slip to either side.

    Attributes:
      slipping: probability that a step goes to the left or to the right of where it was meant to go, half of it each.
      horizon: steps of an episode, at most.
    """

    slipping: float = 2.0 / 3.0
    horizon: int = 100

    @property
    def spec(self) -> Spec:
        """Observations are the 16 tiles, one-hot; the actions are left, down, right and up."""
        return Spec(observation_shape=(len(_MAP),), action_shape=(), horizon=self.horizon, num_actions=len(_MOVES))

    def reset(self, key: Array) -> tuple[tuple[Array, Array], Array]:
        """Starts in the corner."""
        tile = jnp.zeros((), jnp.int32)
        return (tile, key), jax.nn.one_hot(tile, len(_MAP))

    def step(self, state: tuple[Array, Array], action: Array) -> tuple[tuple[Array, Array], Array, Array, Array]:
        """Moves in the direction of the action [], or slips."""
        tile, key = state
        key, slip_key = jax.random.split(key)
        chances = jnp.array([self.slipping / 2, 1.0 - self.slipping, self.slipping / 2])
        turn = jax.random.choice(slip_key, jnp.array([-1, 0, 1]), p=chances)
        tile = jnp.asarray(_LED_TO, jnp.int32)[tile, (action + turn) % len(_MOVES)]
        reached = jnp.asarray(_GOAL)[tile]
        return (
            (tile, key),
            jax.nn.one_hot(tile, len(_MAP)),
            reached.astype(jnp.float32),
            reached | jnp.asarray(_HOLE)[tile],
        )

    @property
    def table(self) -> Table:
        """All probabilities."""
        probability = np.zeros((len(_MAP), len(_MOVES), len(_MAP)))
        for turn, chance in ((-1, self.slipping / 2), (0, 1.0 - self.slipping), (1, self.slipping / 2)):
            for action in range(len(_MOVES)):
                led_to = _LED_TO[:, (action + turn) % len(_MOVES)]
                probability[np.arange(len(_MAP)), action, led_to] += chance
        return Table(probability, _GOAL.astype(np.float64), _GOAL | _HOLE)


def _led_to() -> NDArray[np.int64]:
    """[tile, direction] the tile that a step leads to: none beyond the edge, and none out of a hole or the goal."""
    led_to = np.empty((len(_MAP), len(_MOVES)), np.int64)
    for tile, kind in enumerate(_MAP):
        for direction, (down, right) in enumerate(_MOVES):
            row = min(max(tile // _SIDE + down, 0), _SIDE - 1)
            column = min(max(tile % _SIDE + right, 0), _SIDE - 1)
            led_to[tile, direction] = tile if kind in "HG" else row * _SIDE + column
    return led_to


_LED_TO = _led_to()
_GOAL, _HOLE = (np.array([kind == which for kind in _MAP]) for which in "GH")

CHANCE: dict[str, type[BernoulliBandit] | type[FrozenLake]] = {
    "BernoulliBandit": BernoulliBandit,
    "FrozenLake": FrozenLake,
}


def make_chance(family: str, number: str) -> BernoulliBandit | FrozenLake:
    """Makes one of `CHANCE` with the probability behind its name, or with its own where there is none.

    Raises:
      UnknownNameError: that is no probability.
    """
    return CHANCE[family](read_probability(family, number)) if number else CHANCE[family]()


def read_probability(family: str, number: str) -> float:
    """The probability behind the name of an environment.

    Raises:
      UnknownNameError: that is no probability.
    """
    try:
        probability = float(number)
    except ValueError:
        probability = -1.0
    if not 0.0 <= probability <= 1.0:
        raise UnknownNameError(
            f"maxent/{family} takes a probability from 0 to 1 behind its name, as in maxent/{family}-0.25; got {number!r}."
        )
    return probability
