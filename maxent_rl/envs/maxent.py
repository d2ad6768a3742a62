"""The environments of our own by name, the family `maxent/`: several right answers, classics, pixels, chance, and sets.

`maxent/GridCoverage` and all others of `submodular.named` pay for the set of what a trajectory visits; with `-visited`
behind the name, observations tell that set.
"""

from __future__ import annotations

import itertools

from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.own.chance import CHANCE, make_chance
from maxent_rl.envs.own.classic import CartPole, MountainCar
from maxent_rl.envs.own.grids import DynamicObstacles, LavaGap
from maxent_rl.envs.own.pixels import Catch
from maxent_rl.envs.own.reach import Reach
from maxent_rl.envs.own.several_answers import MultiGoal, Optima
from maxent_rl.errors import unknown_name

_ENVIRONMENTS: dict[str, DeviceEnv] = {
    "TwoOptima": Optima(((-0.6,), (0.6,))),
    "FourOptima": Optima(tuple(itertools.product((-0.5, 0.5), repeat=2))),
    "MultiGoal": MultiGoal(),
    "CartPole": CartPole(),
    "MountainCar": MountainCar(),
    "Reach": Reach(),
    "LavaGap": LavaGap(),
    "DynamicObstacles": DynamicObstacles(),
    "Catch": Catch(),
    "CatchContinuous": Catch(continuous=True),
}


def make_maxent(name: str) -> DeviceEnv:
    """Makes an environment by the name after `maxent/`.

    Raises:
      UnknownNameError: naming the nearest right ones.
    """
    # Imported here because the tables of these environments are made with it, which other environments need not wait for.
    from maxent_rl.envs.submodular.named import SUBMODULAR, make_submodular

    family, _, number = name.partition("-")
    if family in SUBMODULAR:
        return make_submodular(family, number)
    if family in CHANCE:
        return make_chance(family, number)
    if name not in _ENVIRONMENTS:
        known = [*_ENVIRONMENTS, *CHANCE, *SUBMODULAR]
        raise unknown_name("environment", f"maxent/{name}", [f"maxent/{each}" for each in known])
    return _ENVIRONMENTS[name]
