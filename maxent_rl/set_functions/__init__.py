"""Set functions with diminishing returns, as small objects that environments pay by."""

from maxent_rl.set_functions.base import SetFunction, Table
from maxent_rl.set_functions.combined import Concave, Distinct, OnGrid, PiecewiseConcave, Sum, Truncated
from maxent_rl.set_functions.coverage import Coverage
from maxent_rl.set_functions.facility import FacilityLocation
from maxent_rl.set_functions.gaussian_process import (
    RELEASED_JITTER,
    RELEASED_OFFSET,
    Entropy,
    InformationGain,
    LogDeterminant,
)
from maxent_rl.set_functions.items import ItemCollection
from maxent_rl.set_functions.kernels import matern52, posterior_covariance, sample_field, squared_exponential
from maxent_rl.set_functions.modular import Modular
from maxent_rl.set_functions.optimizing import Selection, best_subset, curvature, greedy, lazy_greedy

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
