"""Flax modules: trunks (plain and residual), policies' heads, ensembles of critics, and a transformer over tokens."""

from maxent_rl.networks.anchors import Anchor, AnchorName, AnchorState
from maxent_rl.networks.bounded_policy import BoundedMeanGaussianPolicy, DeterministicPolicy
from maxent_rl.networks.critic import Critic, CriticEnsemble
from maxent_rl.networks.dichotomy import FutureReader, HistoryReader, LatentPolicy, OutcomeEnergy
from maxent_rl.networks.encoder import Encoder, encode, init_encoded, with_encoder_of
from maxent_rl.networks.episode_memory import AttentionReader, EpisodeReader, RecurrentReader
from maxent_rl.networks.floored_policy import FlooredGaussianPolicy
from maxent_rl.networks.initializers import orthogonal
from maxent_rl.networks.normalization import (
    STATISTICS,
    BatchNorm,
    statistics_of,
    with_statistics,
    without_statistics,
)
from maxent_rl.networks.on_policy import (
    GaussianMixturePolicy,
    GaussianPolicy,
    OrthogonalCategoricalPolicy,
    OrthogonalMultiCategoricalPolicy,
    ValueFunction,
)
from maxent_rl.networks.policy import CategoricalPolicy, TanhGaussianMixturePolicy, TanhGaussianPolicy
from maxent_rl.networks.predictive_critic import Foresight, PredictiveCritic
from maxent_rl.networks.projection import ProjectionName, project
from maxent_rl.networks.running_statistics import ReturnBound, RewardScale, RunningStatistics
from maxent_rl.networks.sequence import SequenceConfig, SequenceReader
from maxent_rl.networks.shift import Shift
from maxent_rl.networks.temperature import Temperature, TemperatureMode
from maxent_rl.networks.transformer import Transformer, TransformerCache, TransformerConfig, init_cache, unembedding
from maxent_rl.networks.trunk import (
    MLP,
    TRUNKS,
    Activation,
    FeedForward,
    NormName,
    SimbaTrunk,
    TrunkName,
    TrunkPlan,
    head_size,
    make_trunk,
)
from maxent_rl.networks.value_head import (
    CategoricalHead,
    QuantileHead,
    ScalarHead,
    Step,
    ValueHead,
    ValueName,
    make_value_head,
)

__all__ = [
    "MLP",
    "STATISTICS",
    "TRUNKS",
    "Activation",
    "Anchor",
    "AnchorName",
    "AnchorState",
    "AttentionReader",
    "BatchNorm",
    "BoundedMeanGaussianPolicy",
    "CategoricalHead",
    "CategoricalPolicy",
    "Critic",
    "CriticEnsemble",
    "DeterministicPolicy",
    "Encoder",
    "EpisodeReader",
    "FeedForward",
    "FlooredGaussianPolicy",
    "Foresight",
    "FutureReader",
    "GaussianMixturePolicy",
    "GaussianPolicy",
    "HistoryReader",
    "LatentPolicy",
    "NormName",
    "OrthogonalCategoricalPolicy",
    "OrthogonalMultiCategoricalPolicy",
    "OutcomeEnergy",
    "PredictiveCritic",
    "ProjectionName",
    "QuantileHead",
    "RecurrentReader",
    "ReturnBound",
    "RewardScale",
    "RunningStatistics",
    "ScalarHead",
    "SequenceConfig",
    "SequenceReader",
    "Shift",
    "SimbaTrunk",
    "Step",
    "TanhGaussianMixturePolicy",
    "TanhGaussianPolicy",
    "Temperature",
    "TemperatureMode",
    "Transformer",
    "TransformerCache",
    "TransformerConfig",
    "TrunkName",
    "TrunkPlan",
    "ValueFunction",
    "ValueHead",
    "ValueName",
    "encode",
    "head_size",
    "init_cache",
    "init_encoded",
    "make_trunk",
    "make_value_head",
    "orthogonal",
    "project",
    "statistics_of",
    "unembedding",
    "with_encoder_of",
    "with_statistics",
    "without_statistics",
]
