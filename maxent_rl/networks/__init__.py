"""Flax modules: trunks (plain and residual), policies' heads, and ensembles of critics."""

from maxent_rl.networks.critic import Critic, CriticEnsemble
from maxent_rl.networks.policy import CategoricalPolicy, TanhGaussianMixturePolicy, TanhGaussianPolicy
from maxent_rl.networks.running_statistics import RunningStatistics
from maxent_rl.networks.trunk import MLP, TRUNKS, SimbaTrunk, make_trunk

__all__ = [
    "MLP",
    "TRUNKS",
    "CategoricalPolicy",
    "Critic",
    "CriticEnsemble",
    "RunningStatistics",
    "SimbaTrunk",
    "TanhGaussianMixturePolicy",
    "TanhGaussianPolicy",
    "make_trunk",
]
