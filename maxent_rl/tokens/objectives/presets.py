"""The named objectives, as data: which stages each is made of. A new one is one entry here.

Source: the sheet of each method; where TRL and verl differ, the comment says whose form this is.
"""

from __future__ import annotations

import dataclasses

from maxent_rl.tokens.objectives.adpo import ADPO
from maxent_rl.tokens.objectives.advantages import (
    Baseline,
    DynamicSampling,
    GroupAdvantage,
    KLReward,
    NonzeroScale,
    OverlongFilter,
    OverlongPenalty,
    WhitenedReturns,
)
from maxent_rl.tokens.objectives.aepo import AEPO
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.covariance import ClipCov, KLCov
from maxent_rl.tokens.objectives.dcpo import DCPO
from maxent_rl.tokens.objectives.discriminator import ClipB, ClipV
from maxent_rl.tokens.objectives.entropy_target import EntropyTarget
from maxent_rl.tokens.objectives.lp_reg import LpReg
from maxent_rl.tokens.objectives.regularisers import EntropyBonus, KLPenalty, UncertainTokens
from maxent_rl.tokens.objectives.stage import Stage
from maxent_rl.tokens.objectives.steer import Steer
from maxent_rl.tokens.objectives.surrogates import (
    Clipped,
    ClippedWeight,
    GeometricMean,
    LogProbability,
    SoftGate,
    Unclipped,
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named objective.

    Attributes:
      about: what it is, in a sentence.
      source: the paper.
      stages: what it is made of.
    """

    about: str
    source: str
    stages: tuple[Stage, ...]


_SEQUENCE_MEAN = Aggregate("seq-mean-token-mean")

PRESETS: dict[str, Preset] = {
    "reinforce": Preset(
        "plain policy gradient against the mean reward of the batch",
        "Simple statistical gradient-following algorithms, R. J. Williams, 1992",
        (Baseline(), LogProbability(), Aggregate()),
    ),
    "ppo": Preset(
        "clipped surrogate on advantages that the caller gives (a critic's: TokenBatch(advantages=[N, T]), which "
        "losses.generalized_advantages and losses.whiten make), or without them on whitened returns",
        "arXiv 1707.06347",
        (WhitenedReturns(), Clipped(), Aggregate()),
    ),
    "grpo": Preset(
        "rewards normalised within the group, clipped surrogate, token mean (verl's form)",
        "DeepSeekMath, arXiv 2402.03300",
        (GroupAdvantage(), Clipped(), Aggregate()),
    ),
    "grpo_trl": Preset(
        "grpo with 1e-4 beside the standard deviation and every response weighing the same (TRL's loss type grpo)",
        "DeepSeekMath, arXiv 2402.03300",
        (GroupAdvantage(group_epsilon=1e-4), Clipped(), Aggregate("seq-mean-token-mean", count_rows="all")),
    ),
    "dr_grpo": Preset(
        "no standard deviation, and a constant in place of the length",
        "Dr. GRPO, arXiv 2503.20783",
        (
            GroupAdvantage("none"),
            Clipped(),
            Aggregate("seq-mean-token-sum-norm", count_rows="all", divide_rows=True),  # as TRL; verl does not divide
        ),
    ),
    "rloo": Preset(
        "each reward against the mean of the group's others",
        "Back to Basics, arXiv 2402.14740",
        (GroupAdvantage("none", leave_one_out=True), Clipped(), Aggregate()),
    ),
    "reinforce_pp": Preset(
        "returns whitened over all tokens of the batch, without groups",
        "REINFORCE++, arXiv 2501.03262",
        (WhitenedReturns(), Clipped(), Aggregate()),
    ),
    "dapo": Preset(
        "grpo with a wider upper clip, no uniform groups, and a penalty near the length limit",
        "DAPO, arXiv 2503.14476",
        (
            DynamicSampling(),
            OverlongPenalty(),
            GroupAdvantage(),
            Clipped(clip_low=0.2, clip_high=0.28),
            Aggregate(),
        ),
    ),
    "gspo": Preset(
        "the ratio of the whole response is clipped",
        "GSPO, arXiv 2507.18071",
        (GroupAdvantage(), Clipped(clip_low=3e-4, clip_high=4e-4, sequence_ratio=True), _SEQUENCE_MEAN),
    ),
    "cispo": Preset(
        "the clipped ratio is a weight, so that no token loses its gradient (TRL's bounds)",
        "MiniMax-M1, arXiv 2506.13585",
        (GroupAdvantage("batch", 1e-4), ClippedWeight(), Aggregate()),
    ),
    "gmpo": Preset(
        "the geometric mean of the tokens' clipped ratios",
        "GMPO, arXiv 2507.20673",
        (GroupAdvantage(), GeometricMean(), _SEQUENCE_MEAN),
    ),
    "sapo": Preset(
        "a sigmoid in place of the clip",
        "SAPO, arXiv 2511.20347",
        (GroupAdvantage(group_epsilon=1e-4), SoftGate(), Aggregate("seq-mean-token-mean", count_rows="all")),
    ),
    "gpg": Preset(
        "plain policy gradient, scaled up where few responses have a reward",
        "GPG, arXiv 2504.02546",
        (NonzeroScale(), LogProbability(), Aggregate()),
    ),
    "clip_cov": Preset(
        "no gradient for a few tokens, drawn among those that lower the entropy most",
        "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617",
        (GroupAdvantage(), Clipped(clip_low=1.0, clip_high=1.0), ClipCov(), Aggregate()),
    ),
    "kl_cov": Preset(
        "no clip, and the tokens that lower the entropy most held near where they were",
        "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617",
        (GroupAdvantage(), Unclipped(), KLCov(), Aggregate()),
    ),
    "clip_b": Preset(
        "without unlikely tokens whose punishment would lower the entropy, by the spread over the batch",
        "On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models, arXiv 2602.03392",
        (GroupAdvantage(), ClipB(), Clipped(), Aggregate()),
    ),
    "clip_v": Preset(
        "the same, by the distance from the mean over the vocabulary",
        "On the Entropy Dynamics in Reinforcement Fine-Tuning of Large Language Models, arXiv 2602.03392",
        (GroupAdvantage(), ClipV(), Clipped(), Aggregate()),
    ),
    "steer": Preset(
        "each token weighs the less, the more its update changes the entropy",
        "Rethinking Entropy Interventions in RLVR: An Entropy Change Perspective, arXiv 2510.10150",
        (GroupAdvantage(), Steer(), Clipped(clip_low=0.2, clip_high=0.28, dual_clip=10.0), Aggregate()),
    ),
    "lp_reg": Preset(
        "the rarest punished tokens are pulled to a policy without noise tokens",
        "Low-probability Tokens Sustain Exploration in RL with Verifiable Reward, arXiv 2510.03222",
        (GroupAdvantage(), Clipped(clip_low=1.0, clip_high=9.0), LpReg(), Aggregate()),
    ),
    "dcpo": Preset(
        "entropy held at a target by rewarding right answers under a virtual policy of another temperature",
        "Distribution-Centric Policy Optimization, arXiv 2601.12730",
        (GroupAdvantage(), DCPO(), Clipped(dual_clip=3.0), Aggregate()),
    ),
    "aepo_arbitrary": Preset(
        "entropy held at a target by right answers drawn at another temperature",
        "Arbitrary Entropy Policy Optimization, arXiv 2510.08141",
        (GroupAdvantage(), Clipped(dual_clip=3.0), AEPO(), Aggregate()),
    ),
    "entropy_target": Preset(
        "grpo with SAC's temperature, which holds the entropy at a target",
        "Soft Actor-Critic Algorithms and Applications, arXiv 1812.05905",
        (GroupAdvantage(), Clipped(), EntropyTarget(), Aggregate()),
    ),
    "adpo": Preset(
        "the group's likelihoods relative to those under the policy that drew it are moved to a softmax of the rewards",
        "ADPO: Anchored Direct Preference Optimization, arXiv 2510.18913",
        (GroupAdvantage("none"), ADPO(), _SEQUENCE_MEAN),
    ),
    "adpo_pair": Preset(
        "adpo for every pair of a group: each a logistic regression with a soft label",
        "ADPO: Anchored Direct Preference Optimization, arXiv 2510.18913",
        (GroupAdvantage("none"), ADPO("pairwise"), _SEQUENCE_MEAN),
    ),
    "adpo_verl": Preset(
        "adpo on the ranking of a group's best, by likelihoods per token, clipped (the authors' later code)",
        "ADPO: Anchored Direct Preference Optimization, arXiv 2510.18913",
        (
            GroupAdvantage("none"),
            ADPO(
                "plackett-luce",
                anchor_temperature=0.5,
                reward_temperature=0.3,
                length_normalize=True,
                log_ratio_most=5.0,
                anchored_most=10.0,
                ranking_top=3,
                ranking_smoothing=0.1,
                ranking_poly=1.0,
                temperature_least=0.2,
                temperature_most=1.5,
            ),
            _SEQUENCE_MEAN,
        ),
    ),
}

# Stages that `make` adds to any objective as soon as one of their settings is named: make("grpo", kl_weight=0.04). In
# this order: which groups are uniform is asked of rewards as they came, and a response left out keeps all its penalties.
OPTIONAL: tuple[type[Stage], ...] = (
    DynamicSampling,
    OverlongPenalty,
    KLReward,
    OverlongFilter,
    KLPenalty,
    EntropyBonus,
    EntropyTarget,
    UncertainTokens,
)

# What TRL and verl call the same thing, for those who write their names out of habit.
ELSEWHERE: dict[str, str] = {
    "beta": "kl_weight",
    "kl_loss_coef": "kl_weight",
    "kl_coef": "kl_reward_weight",
    "kl_loss_type": "kl_estimator",
    "use_bias_correction_kl": "kl_unbiased",
    "epsilon": "clip_low and clip_high",
    "clip_ratio": "clip_low and clip_high",
    "clip_ratio_low": "clip_low",
    "epsilon_high": "clip_high (ratio_high in cispo)",
    "clip_ratio_high": "clip_high",
    "clip_ratio_c": "dual_clip",
    "delta": "dual_clip",
    "importance_sampling_level": "sequence_ratio",
    "scale_rewards": "scale",
    "norm_adv_by_std_in_grpo": "scale",
    "gamma": "return_discount",
    "loss_type": "the name of the objective, or its aggregation",
    "loss_agg_mode": "aggregation",
    "max_completion_length": "aggregation_length, and overlong_limit",
    "entropy_coeff": "entropy_bonus",
    "clip_cov_ratio": "clip_share",
    "clip_cov_lb": "covariance_low",
    "clip_cov_ub": "covariance_high",
    "kl_cov_ratio": "kl_cov_share",
    "ppo_kl_coef": "kl_cov_weight",
    "top_entropy_quantile": "top_entropy_share",
    "mask_truncated_completions": "mask_truncated",
    "sapo_temperature_pos": "gate_positive",
    "sapo_temperature_neg": "gate_negative",
    "num_generations": "group_size of the batch",
    "tau": "anchor_temperature",
    "beta_reward": "reward_temperature",
}
