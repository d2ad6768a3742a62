"""Set functions with diminishing returns, as small objects that environments pay by."""

from maxent_rl.envs.rewards.base import SetFunction, Table
from maxent_rl.envs.rewards.combined import Concave, Distinct, OnGrid, PiecewiseConcave, Sum, Truncated
from maxent_rl.envs.rewards.coverage import Coverage
from maxent_rl.envs.rewards.facility import FacilityLocation
from maxent_rl.envs.rewards.gaussian_process import (
    RELEASED_JITTER,
    RELEASED_OFFSET,
    Entropy,
    InformationGain,
    LogDeterminant,
)
from maxent_rl.envs.rewards.items import ItemCollection
from maxent_rl.envs.rewards.kernels import matern52, posterior_covariance, sample_field, squared_exponential
from maxent_rl.envs.rewards.modular import Modular
from maxent_rl.envs.rewards.optimizing import Selection, best_subset, curvature, greedy, lazy_greedy

__all__ = [
    "RELEASED_JITTER",
    "RELEASED_OFFSET",
    "Concave",
    "Coverage",
    "Distinct",
    "Entropy",
    "FacilityLocation",
    "InformationGain",
    "ItemCollection",
    "LogDeterminant",
    "Modular",
    "OnGrid",
    "PiecewiseConcave",
    "Selection",
    "SetFunction",
    "Sum",
    "Table",
    "Truncated",
    "best_subset",
    "curvature",
    "greedy",
    "lazy_greedy",
    "matern52",
    "posterior_covariance",
    "sample_field",
    "squared_exponential",
]
