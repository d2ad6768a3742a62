"""What a policy can be: distributions that are pytrees, behind the small interface of `Distribution`."""

from maxent_rl.distributions.base import Distribution
from maxent_rl.distributions.categorical import Categorical
from maxent_rl.distributions.gaussian import Gaussian
from maxent_rl.distributions.mixture import GaussianMixture, TanhGaussianMixture
from maxent_rl.distributions.multi_categorical import MultiCategorical
from maxent_rl.distributions.tanh_gaussian import TanhGaussian, log_abs_det_tanh

__all__ = [
    "Categorical",
    "Distribution",
    "Gaussian",
    "GaussianMixture",
    "MultiCategorical",
    "TanhGaussian",
    "TanhGaussianMixture",
    "log_abs_det_tanh",
]
