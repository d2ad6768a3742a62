"""Presets: named sets of settings that stand in for the defaults; any of them can still be set by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.runs.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Preset:
    """Settings in place of the defaults.

    Attributes:
      about: what it is for, in a sentence.
      run: settings of `RunConfig`.
      agents: for each agent's name its hyper-parameters.
    """

    about: str
    run: dict[str, Any]
    agents: dict[str, dict[str, Any]]


_FAST_SAC = {
    "updates_per_step": 0.125,
    "learning_rate": 1e-3,
    "start_steps": 2_000,
    "initial_temperature": 0.2,
    "target_update_rate": 0.01,
}

_PAPER_SAC = {"learning_rate": 3e-4, "most_start_steps": 10_000}

# What is called "published" below is what the authors' code ran on MuJoCo; docs/training.md has what differs here.
_CROSSQ = {
    "adam_beta1": 0.5,
    "policy_delay": 3,
    "target_network": False,
    "policy_norm": "batch",
    "critic_norm": "batch",
    "norm_after": True,
    "batch_renorm": True,
}
_ENTROPY = {"temperature_mode": "dual", "initial_temperature": 0.01, "entropy_per_dimension": -0.5}
_CATEGORICAL = _ENTROPY | {"critic_value": "categorical", "log_std_min": -10.0}  # of XQC, SimbaV2 and FlashSAC alike
_TWO_UPDATES = {"discount": 0.995, "updates_per_step": 2.0}  # of XQC, SimBa and SimbaV2
_XQC = (
    _CATEGORICAL
    | _TWO_UPDATES
    | {
        "learning_rate": 3e-4,
        "learning_rate_schedule": "linear",
        "hidden_sizes": (256,) * 4,
        "critic_hidden_sizes": (512,) * 4,
        "policy_norm": "batch",
        "critic_norm": "batch",
        "policy_delay": 3,
        "projection": "columns",
        "reward_scale": "spread",
    }
)
_SIMBA = (
    _ENTROPY
    | _TWO_UPDATES
    | {
        "network": "simba",
        "hidden_sizes": (128,),
        "critic_hidden_sizes": (512, 512),
        "learning_rate": 1e-4,
        "weight_decay": 1e-2,
        "normalize_observations": True,
    }
)
_SIMBAV2 = (
    _CATEGORICAL
    | _TWO_UPDATES
    | {
        "network": "simbav2",
        "hidden_sizes": (128,),
        "critic_hidden_sizes": (512, 512),
        "learning_rate": 1e-4,
        "learning_rate_schedule": "linear",
        "learning_rate_end": 0.5,
        "log_std_squash": True,
        "normalize_observations": True,
        "projection": "columns",
        "reward_scale": "bound",
        "update_order": "policy_first",
    }
)
_FLASHSAC = _CATEGORICAL | {
    "network": "flash",
    "hidden_sizes": (128, 128),
    "critic_hidden_sizes": (256, 256),
    "learning_rate": 3e-4,
    "learning_rate_schedule": "cosine",
    "learning_rate_end": 0.5,
    "most_start_steps": 10_000,
    "batch_size": 512,
    "target_update_rate": 0.01,
    "policy_delay": 2,
    "update_order": "policy_first",
    "log_std_squash": True,
    "entropy_per_dimension": -0.478181,  # of a Gaussian with a standard deviation of 0.15
    "projection": "norms",
    "reward_scale": "bound",
    "held_noise": 16,
}
_BRO_RESETS = tuple(
    10 * (step - 2_500) for step in (15_001, 50_001, 250_001, 500_001, 750_001, 1_000_001, 1_500_001, 2_000_001)
)
"""Updates by those environment steps: ten for each one after the first 2,500."""
# Twice as many updates of half the rows cost what one did, and learn faster; so do a low temperature at the start and an
# entropy that is held higher than SAC's. Fewer random steps than SAC's are sooner still, and leave some seeds a poor gait.
_EFFICIENT = _CROSSQ | {
    "batch_size": 128,
    "updates_per_step": 2.0,
    "initial_temperature": 0.1,
    "entropy_per_dimension": -0.5,
}

_CONTINUOUS_SUBPO = {
    "baseline": "value",
    "discount": 0.99,
    "trace_decay": 0.95,
    "entropy_bonus": 0.01,
    "learning_rate": 1e-2,
    "hidden_sizes": (128, 128),
    "activation": "relu",
}
_CLIPPED_SUBPO = {
    "epochs": 4,
    "minibatches": 4,
    "normalize_advantages": True,
    "learning_rate": 3e-3,
    "entropy_bonus": 0.01,
}

_THOUSANDS = {"num_envs": 1_024, "total_steps": 50_000_000}
_LARGE_REPPO = {"rollout_size": 1_024 * 128}

PRESETS = {
    "fast": Preset(
        about="least wall-clock instead of fewest samples: more environment steps for each gradient step",
        run={"num_envs": 8},
        agents={"sac": _FAST_SAC, "pmoe": _FAST_SAC},  # alike, so that the two can be compared
    ),
    "paper": Preset(
        about="SAC's paper: a learning rate of 3e-4 for all, and 10,000 steps at the start",
        run={},
        agents={"sac": _PAPER_SAC, "pmoe": _PAPER_SAC},
    ),
    "crossq": Preset(
        about="CrossQ as published, with critics of 2,048 units: joint batch normalisation in place of a target network",
        run={},
        agents={"sac": _CROSSQ | {"critic_hidden_sizes": (2048, 2048)}},
    ),
    "crossq-small": Preset(
        about="CrossQ with critics of SAC's width: 0.9 times SAC's arithmetic",
        run={},
        agents={"sac": _CROSSQ},
    ),
    "tqc": Preset(
        about="truncated quantile critics, two of SAC's width, as libraries ship them: 1.1 times SAC's arithmetic",
        run={},
        agents={
            "sac": {
                "critic_value": "quantile",
                "actor_value": "mean",
                "learning_rate": 3e-4,
                "most_start_steps": 10_000,
            }
        },
    ),
    "xqc": Preset(about="XQC as published (for GPUs): 27 times SAC's arithmetic", run={}, agents={"sac": _XQC}),
    "simba": Preset(about="SimBa as published (for GPUs)", run={}, agents={"sac": _SIMBA}),
    "simbav2": Preset(
        about="SimbaV2 as published (for GPUs): 97 times SAC's arithmetic", run={}, agents={"sac": _SIMBAV2}
    ),
    "bro": Preset(
        about="BRO's published form with ten updates for each step (for GPUs): 82 times SAC's arithmetic",
        run={},
        agents={"bro": {"updates_per_step": 10.0, "resets": _BRO_RESETS}},
    ),
    "flashsac": Preset(
        about="FlashSAC as published for CPU simulators (for GPUs): 36 times SAC's arithmetic",
        run={},
        agents={"sac": _FLASHSAC},
    ),
    "efficient": Preset(
        about="fewest samples at SAC's cost: CrossQ at SAC's width, two updates of half the rows",
        run={},
        agents={"sac": _EFFICIENT},
    ),
    "multimodal": Preset(
        about="several equally good actions kept apart: experts that begin apart, and the whole mixture's entropy",
        run={},
        agents={
            "pmoe": {"router": "exact", "density": "mixture", "expert_spread": 0.8, "expert_log_std": -1.2},
            "pmoe-ppo": {"router": "exact", "expert_spread": 0.8},
        },
    ),
    "cpl-bc": Preset(
        about="CPL-BC: no bias, behaviour cloning beside the preferences",
        run={},
        agents={"cpl": {"bias": 1.0, "bc_coefficient": 1.0}},
    ),
    "cpl-kl": Preset(
        about="CPL-KL: scores relative to the cloned policy",
        run={},
        agents={"cpl": {"alpha": 0.2, "bias": 0.75, "reference": True, "warmup_multiplier": 0.1}},
    ),
    "cpl-paper": Preset(
        about="the schedule and width of CPL's published runs on MetaWorld",
        run={"total_steps": 500_000},
        agents={"cpl": {"bc_steps": 200_000, "hidden_sizes": (512, 512)}},
    ),
    "reppo-brax": Preset(
        about="REPPO's published settings for Brax: 1,024 environments, for machines with an accelerator",
        run=_THOUSANDS,
        agents={"reppo": _LARGE_REPPO | {"minibatches": 128, "epochs": 4, "reward_factor": 0.1}},
    ),
    "reppo-dmc": Preset(
        about="REPPO's published settings for the DeepMind Control tasks of MuJoCo Playground: 1,024 environments",
        run=_THOUSANDS,
        agents={"reppo": _LARGE_REPPO | {"minibatches": 64, "epochs": 8}},
    ),
    "reppo-humanoid": Preset(
        about="REPPO's published settings for the humanoids of MuJoCo Playground: 1,024 environments, values within 10 of 0",
        run=_THOUSANDS,
        agents={
            "reppo": _LARGE_REPPO
            | {"minibatches": 16, "epochs": 8, "discount": 0.97, "critic_width": 1_024}
            | {"value_low": -10.0, "value_high": 10.0}
        },
    ),
    "subpo-clipped": Preset(
        about="several clipped steps on each window, as PPO takes them, in place of one exact gradient: fewer samples",
        run={},
        agents={"subpo": _CLIPPED_SUBPO, "modpo": _CLIPPED_SUBPO},
    ),
    "subpo-continuous": Preset(
        about="for continuous actions after the published settings: 15 environments, a value function, generalised advantages",
        run={"num_envs": 15},
        agents={"subpo": _CONTINUOUS_SUBPO, "modpo": _CONTINUOUS_SUBPO},
    ),
}


def apply_preset(name: str, run: RunConfig, agent: Any) -> tuple[RunConfig, Any]:
    """Puts a preset's settings in place of those of a run and its agent.

    Args:
      name: one of `PRESETS`.
      run: settings, whose `agent` names the agent.
      agent: its hyper-parameters.

    Raises:
      UnknownNameError: there is no such preset.
      InvalidSettingError: the preset says nothing of this agent.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    preset = PRESETS[name]
    if run.agent not in preset.agents:
        known = ", ".join(sorted(preset.agents))
        raise InvalidSettingError(f"--preset {name} has no settings for the agent {run.agent!r}, only for: {known}.")
    return dataclasses.replace(run, **preset.run), dataclasses.replace(agent, **preset.agents[run.agent])
