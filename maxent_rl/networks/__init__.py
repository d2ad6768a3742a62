"""Flax modules: trunks (plain and residual), policies' heads, and ensembles of critics."""

from maxent_rl.networks.critic import Critic, CriticEnsemble
from maxent_rl.networks.on_policy import CategoricalPolicy, GaussianPolicy, ValueFunction
from maxent_rl.networks.policy import TanhGaussianPolicy
from maxent_rl.networks.running_statistics import RewardScale, RunningStatistics
from maxent_rl.networks.trunk import MLP, TRUNKS, Activation, SimbaTrunk, make_trunk

__all__ = [
    "MLP",
    "TRUNKS",
    "Activation",
    "CategoricalPolicy",
    "Critic",
    "CriticEnsemble",
    "GaussianPolicy",
    "RewardScale",
    "RunningStatistics",
    "SimbaTrunk",
    "TanhGaussianPolicy",
    "ValueFunction",
    "make_trunk",
]
