"""Flax modules: trunks (plain and residual), policies' heads, ensembles of critics, and a transformer over tokens."""

from maxent_rl.networks.anchors import Anchor, AnchorName, AnchorState
from maxent_rl.networks.bounded_policy import BoundedMeanGaussianPolicy, DeterministicPolicy
from maxent_rl.networks.critic import Critic, CriticEnsemble
from maxent_rl.networks.dichotomy import FutureReader, HistoryReader, LatentPolicy, OutcomeEnergy
from maxent_rl.networks.encoder import Encoder, encode, init_encoded, with_encoder_of
from maxent_rl.networks.episode_memory import AttentionReader, EpisodeReader, RecurrentReader
from maxent_rl.networks.on_policy import (
    GaussianMixturePolicy,
    GaussianPolicy,
    OrthogonalCategoricalPolicy,
    OrthogonalMultiCategoricalPolicy,
    ValueFunction,
)
from maxent_rl.networks.policy import CategoricalPolicy, TanhGaussianMixturePolicy, TanhGaussianPolicy
from maxent_rl.networks.running_statistics import RewardScale, RunningStatistics
from maxent_rl.networks.sequence import SequenceConfig, SequenceReader
from maxent_rl.networks.temperature import Temperature, TemperatureMode
from maxent_rl.networks.transformer import Transformer, TransformerCache, TransformerConfig, init_cache, unembedding
from maxent_rl.networks.trunk import MLP, TRUNKS, Activation, FeedForward, SimbaTrunk, make_trunk, orthogonal

__all__ = [
    "MLP",
    "TRUNKS",
    "Activation",
    "Anchor",
    "AnchorName",
    "AnchorState",
    "AttentionReader",
    "BoundedMeanGaussianPolicy",
    "CategoricalPolicy",
    "Critic",
    "CriticEnsemble",
    "DeterministicPolicy",
    "Encoder",
    "EpisodeReader",
    "FeedForward",
    "FutureReader",
    "GaussianMixturePolicy",
    "GaussianPolicy",
    "HistoryReader",
    "LatentPolicy",
    "OrthogonalCategoricalPolicy",
    "OrthogonalMultiCategoricalPolicy",
    "OutcomeEnergy",
    "RecurrentReader",
    "RewardScale",
    "RunningStatistics",
    "SequenceConfig",
    "SequenceReader",
    "SimbaTrunk",
    "TanhGaussianMixturePolicy",
    "TanhGaussianPolicy",
    "Temperature",
    "TemperatureMode",
    "Transformer",
    "TransformerCache",
    "TransformerConfig",
    "ValueFunction",
    "encode",
    "init_cache",
    "init_encoded",
    "make_trunk",
    "orthogonal",
    "unembedding",
    "with_encoder_of",
]
