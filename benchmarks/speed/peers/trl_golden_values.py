"""What TRL's own loss functions say of small seeded batches, in double precision: values and gradients, as JSON.

    .peers/trl/bin/python benchmarks/speed/peers/trl_golden_values.py tests/tokens/golden/trl.json

The functions are the trainers' (`GRPOTrainer._compute_loss`, `DPOTrainer._compute_loss`, ...), called on trainers that were
never built: an object of the class with the attributes that the function reads, and, in place of a model's forward pass, the
log-probabilities and entropies that it would give. `tests/tokens/test_trl_golden.py` compares ours with what is written.
"""

from __future__ import annotations

import argparse
import collections
import json
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

ROWS, TOKENS, BATCHES, LIMIT = 6, 5, 3, 8
"""Responses, tokens, batches, and the length limit that `dr_grpo` divides by."""

KINDS = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")
GRPO: list[dict[str, Any]] = [
    *({"loss_type": kind} for kind in KINDS),
    {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.15},
    {"loss_type": "luspo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.15},
    {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
    {"loss_type": "dapo", "beta": 0.1, "use_bias_correction_kl": True},
    {"loss_type": "grpo", "delta": 1.5},
    {"loss_type": "grpo", "top_entropy_quantile": 0.4},
    {"loss_type": "grpo", "off_policy_mask_threshold": 0.05},
    {"loss_type": "dr_grpo", "entropy_coef": 0.1},
    {"loss_type": "dapo", "entropy_coef": 0.1, "top_entropy_quantile": 0.4},
]
"""Configurations of GRPOTrainer; what is not said has its default."""
DEFAULTS = {
    "epsilon": 0.2, "epsilon_high": None, "delta": None, "beta": 0.0, "importance_sampling_level": "token",
    "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None, "use_bias_correction_kl": True, "entropy_coef": 0.0,
    "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05, "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0,
    "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0, "steps_per_generation": 1,
}  # fmt: skip
DPO: list[dict[str, Any]] = [
    *(
        {"loss_type": kind}
        for kind in (
            "sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
            "apo_down", "discopop", "sft", "sigmoid_norm",
        )
    ),
    {"loss_type": "exo_pair", "label_smoothing": 1e-3},
    {"loss_type": "robust", "label_smoothing": 0.1},
    {"loss_type": "aot", "label_smoothing": 0.1},
    {"loss_type": "sigmoid", "f_divergence_type": "forward_kl"},
    {"loss_type": "sigmoid", "f_divergence_type": "js_divergence"},
    {"loss_type": "sigmoid", "f_divergence_type": "alpha_divergence"},
    {"loss_type": "sigmoid", "ld_alpha": 0.5},
    {"loss_type": "sigmoid", "use_weighting": True},
]  # fmt: skip
"""Configurations of DPOTrainer, with beta 0.1."""


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="to write")
    args = parser.parse_args()
    found = []
    for seed in range(BATCHES):
        batch = make_batch(seed)
        cases = [case("GRPOTrainer", config, *grpo(config, batch)) for config in GRPO]
        cases += [case("RLOOTrainer", {}, *rloo(batch))]
        cases += [case("DPOTrainer", config, *dpo(config, batch)) for config in DPO]
        cases += [case("KTOTrainer", {"loss_type": "kto"}, *kto(batch))]
        cases += pairs_without_reference(batch)
        found.append({"batch": {name: array.tolist() for name, array in batch.items()}, "cases": cases})
    versions = {name: version(name) for name in ("trl", "torch", "numpy")}
    text = json.dumps({"versions": versions, "length_limit": LIMIT, "batches": found}, allow_nan=False)
    args.file.write_text(text.replace('{"trainer"', '\n{"trainer"') + "\n")
    print(f"wrote {sum(len(each['cases']) for each in found)} values of {versions} to {args.file}")


def make_batch(seed: int) -> dict[str, np.ndarray]:
    """Responses with holes (tool results), rows of one token, and in the last batch tokens that have moved by up to 3 nats."""
    draw = np.random.default_rng(seed)
    shape = ROWS, TOKENS
    mask = draw.uniform(size=shape) < 0.7
    mask[:, 1] |= ~mask.any(axis=-1)
    mask[0] = np.arange(TOKENS) == 2
    old = -draw.gamma(1.0, size=shape) - 0.05
    moved = 0.3 if seed < BATCHES - 1 else 1.2
    arrays = {
        "old": old,
        "logp": np.minimum(old + np.clip(moved * draw.normal(size=shape), -3, 3), -1e-3),
        "reference": np.minimum(old + np.clip(moved * draw.normal(size=shape), -3, 3), -1e-3),
        # In steps that single precision has, in which TRL takes the quantile that others are compared with.
        "entropy": np.ceil(256 * draw.gamma(1.0, size=shape)) / 256,
        "mismatched": -draw.gamma(1.0, size=shape) - 0.05,
        "mismatched_reference": -draw.gamma(1.0, size=shape) - 0.05,
        "advantages": draw.normal(size=ROWS),
    }
    rounded = {name: array if name == "entropy" else array.round(4) for name, array in arrays.items()}
    return rounded | {"mask": mask.astype(int)}


def case(trainer: str, config: dict[str, Any], loss: torch.Tensor, *inputs: torch.Tensor) -> dict[str, Any]:
    """The value, and the gradient in what the model said: of log-probabilities, and of entropies where it has any."""
    slopes = torch.autograd.grad(loss, inputs, allow_unused=True)
    rounded = [None if slope is None or not slope.any() else significant(slope) for slope in slopes]
    return {"trainer": trainer, "config": config, "loss": significant(loss), "gradients": rounded}


def significant(tensor: torch.Tensor) -> Any:
    """The numbers with nine significant digits."""
    array = tensor.detach().double().numpy()
    return np.array([float(f"{value:.9g}") for value in array.ravel()]).reshape(array.shape).tolist()


def tensors(batch: dict[str, np.ndarray]) -> types.SimpleNamespace:
    """In double precision; what the model says takes a gradient."""
    given = types.SimpleNamespace(**{name: torch.from_numpy(array).double() for name, array in batch.items()})
    given.mask = torch.from_numpy(batch["mask"])
    given.logp.requires_grad_(True)
    given.entropy.requires_grad_(True)
    return given


def unbuilt(kind: type, **attributes: Any) -> Any:
    """A trainer of the class with these attributes alone."""
    trainer = object.__new__(kind)
    model = types.SimpleNamespace(training=True, is_gradient_checkpointing=False)
    alone = types.SimpleNamespace(
        device="cpu", num_processes=1, sync_gradients=True, gather=lambda x: x, gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x, pad_across_processes=lambda x, dim, pad_index: x,
    )  # fmt: skip
    common = {
        "accelerator": alone, "model": model, "aux_loss_enabled": False, "_total_train_tokens": 0, "_tp_size": 1,
        "_metrics": {mode: collections.defaultdict(list) for mode in ("train", "eval")},
    }  # fmt: skip
    for name, value in (common | attributes).items():
        object.__setattr__(trainer, name, value)
    return trainer


def grpo(config: dict[str, Any], batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """(loss, log-probabilities, entropies): as GRPOTrainer has it."""
    given, settings = tensors(batch), DEFAULTS | config
    high = settings["epsilon"] if settings["epsilon_high"] is None else settings["epsilon_high"]
    args = types.SimpleNamespace(**settings)
    trainer = unbuilt(
        GRPOTrainer, args=args, loss_type=settings["loss_type"], beta=settings["beta"], epsilon_low=settings["epsilon"],
        epsilon_high=high, importance_sampling_level=settings["importance_sampling_level"], use_vllm=False,
        top_entropy_quantile=settings["top_entropy_quantile"], vllm_importance_sampling_correction=False,
        off_policy_mask_threshold=settings["off_policy_mask_threshold"], max_completion_length=LIMIT,
        current_gradient_accumulation_steps=1, entropy_coef=settings["entropy_coef"], use_adaptive_entropy=False,
        _entropy_bonus_enabled=settings["entropy_coef"] != 0.0,
        _get_per_token_logps_and_entropies=lambda *_, **__: (given.logp, given.entropy, None),
    )  # fmt: skip
    inputs = responses(given) | {
        "old_per_token_logps": given.old,
        "ref_per_token_logps": given.reference,
        "num_items_in_batch": given.mask.sum(),
    }
    return trainer._compute_loss(trainer.model, inputs), given.logp, given.entropy


def rloo(batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """The same of RLOOTrainer, whose old log-probabilities are those of whole responses."""
    given = tensors(batch)
    trainer = unbuilt(
        RLOOTrainer, epsilon_low=0.2, epsilon_high=0.2, beta=0.0, args=types.SimpleNamespace(**DEFAULTS),
        _get_per_token_logps_and_entropies=lambda *_, **__: (given.logp, given.entropy, None),
    )  # fmt: skip
    inputs = responses(given) | {"old_logps": (given.old * given.mask).sum(1), "completion_mask": given.mask}
    return trainer._compute_loss(trainer.model, inputs), given.logp, given.entropy


def responses(given: types.SimpleNamespace) -> dict[str, torch.Tensor]:
    """What a trainer is given of responses; the tokens themselves are the model's to read, and there is none."""
    nothing = torch.zeros_like(given.mask)
    return {
        "prompt_ids": nothing[:, :1], "prompt_mask": nothing[:, :1], "completion_ids": nothing,
        "completion_mask": torch.ones_like(given.mask), "tool_mask": given.mask, "advantages": given.advantages,
    }  # fmt: skip


class Saying:
    """In place of a model: log-probabilities by label, 0 where a label is masked, after one place for the prompt."""

    training, is_gradient_checkpointing = True, False

    def __init__(self, logp: torch.Tensor, dtype: torch.dtype = torch.float64) -> None:
        self.logp, self.dtype = logp, dtype

    def __call__(self, labels: torch.Tensor, **_: Any) -> types.SimpleNamespace:
        """What TRL reads of a model's outputs."""
        shown = (self.logp * (labels[:, 1:] != -100)).to(self.dtype)
        # Of WPO's alignment, which we do not have, the weights are those without it.
        zeros = torch.zeros_like(shown)
        return types.SimpleNamespace(
            log_probs=shown, entropy=zeros, mean_logits=zeros, is_top1=zeros > 0, log_sum_sq_probs=zeros
        )


def read(mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a preference trainer is given of responses after a prompt of one token."""
    completion = torch.nn.functional.pad(mask, (1, 0))
    ids = torch.ones_like(completion)
    return {"input_ids": ids, "attention_mask": ids, "completion_mask": completion}


def dpo(config: dict[str, Any], batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """As DPOTrainer has it; ours has the chosen response of each pair beside the rejected one, TRL's after all chosen."""
    given = tensors(batch)
    order = torch.cat([torch.arange(0, ROWS, 2), torch.arange(1, ROWS, 2)])
    # TRL's alpha divergence has bounds for single precision and below.
    alpha = config.get("f_divergence_type") == "alpha_divergence"
    dtype = torch.float32 if alpha else torch.float64
    trainer = unbuilt(
        DPOTrainer, loss_types=[config["loss_type"]], loss_weights=[1.0], beta=0.1, precompute_ref_logps=False,
        label_smoothing=config.get("label_smoothing", 0.0), ld_alpha=config.get("ld_alpha"), f_alpha_divergence_coef=0.5,
        f_divergence_type=config.get("f_divergence_type", "reverse_kl"), use_weighting=config.get("use_weighting", False),
        args=types.SimpleNamespace(discopop_tau=0.05, gradient_checkpointing_kwargs=None),
        ref_model=Saying(given.reference[order], dtype),
    )  # fmt: skip
    loss = trainer._compute_loss(Saying(given.logp[order], dtype), read(given.mask[order]), return_outputs=False)
    return loss, given.logp


def kto(batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """As KTOTrainer has it: rows of even number are good, and there is a response to another prompt for each."""
    given = tensors(batch)
    trainer = unbuilt(
        KTOTrainer, loss_type="kto", beta=0.1, calculate_KL=True, precompute_ref_logps=False, desirable_weight=1.0,
        undesirable_weight=1.0, args=types.SimpleNamespace(gradient_checkpointing_kwargs=None),
        ref_model=Saying(given.reference),
    )  # fmt: skip
    sums = {id(trainer.ref_model): (given.mismatched_reference * given.mask).sum(1)}
    object.__setattr__(
        trainer, "_compute_kl_logps", lambda model, _: sums.get(id(model), (given.mismatched * given.mask).sum(1))
    )
    inputs = read(given.mask) | {"label": torch.arange(ROWS) % 2 == 0}
    return trainer._compute_loss(Saying(given.logp), inputs, return_outputs=False), given.logp


def pairs_without_reference(batch: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """CPOTrainer's and ORPOTrainer's losses of preference, without the likelihood that they add."""
    found = []
    configs: tuple[dict[str, Any], ...] = (
        {"loss_type": "sigmoid", "beta": 0.1},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "alpha": 0.25},
    )
    for config in configs:
        given = tensors(batch)
        settings = {"alpha": 0.0, "label_smoothing": 0.0, "simpo_gamma": 0.5} | config
        trainer = unbuilt(CPOTrainer, **settings)
        losses, *_ = trainer.cpo_loss(*totals(given, average=config["loss_type"] == "simpo"))
        found.append(case("CPOTrainer", config, losses.mean(), given.logp))
    given = tensors(batch)
    losses, *_ = unbuilt(ORPOTrainer, beta=0.1).odds_ratio_loss(*totals(given, average=True))
    return [*found, case("ORPOTrainer", {"beta": 0.1}, -losses.mean(), given.logp)]


def totals(given: types.SimpleNamespace, average: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-likelihoods of chosen and rejected responses, or their means over tokens."""
    sums = (given.logp * given.mask).sum(1) / (given.mask.sum(1) if average else 1)
    return sums[0::2], sums[1::2]


if __name__ == "__main__":
    main()
