"""Our losses against what TRL's own functions have said, recorded by benchmarks/speed/peers/trl_golden_values.py.

Values and gradients of 44 losses on three batches with holes, one-token responses and, in the last one, tokens that have
moved by nats. `python tests/tokens/test_trl_golden.py` prints the largest differences.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl import losses
from maxent_rl.tokens import PreferenceBatch, TokenBatch, TokenOutputs, objectives, preferences

GOLDEN = json.loads((Path(__file__).parent / "golden" / "trl.json").read_text())
NAMES = {
    "sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "exo_pair": "exo", "nca_pair": "nca", "robust": "robust",
    "bco_pair": "bco", "sppo_hard": "sppo", "aot": "aot", "aot_unpaired": "aot_unpaired", "apo_zero": "apo_zero",
    "apo_down": "apo_down", "discopop": "discopop", "sft": "likelihood", "sigmoid_norm": "dpo",
}  # fmt: skip
DIVERGENCES = {
    "forward_kl": "forward_kl", "js_divergence": "jensen_shannon", "alpha_divergence": "alpha",
}  # fmt: skip


def preference_of(trainer, config):
    """Ours that is the same."""
    if trainer == "CPOTrainer":
        if config["loss_type"] == "sigmoid":
            return preferences.make("cpo", beta=config["beta"], likelihood_weight=0.0)
        name, further = ("alphapo", {"alpha": config["alpha"]}) if "alpha" in config else ("simpo", {})
        return preferences.make(name, beta=config["beta"], gap=config["simpo_gamma"], **further)
    kind, settings = config["loss_type"], {}
    if "f_divergence_type" in config:
        settings = {"divergence": DIVERGENCES[config["f_divergence_type"]]}
        return preferences.make("f_dpo", beta=0.1, **settings)
    if "ld_alpha" in config:
        return preferences.make("ld_dpo", beta=0.1, tail_weight=config["ld_alpha"])
    if "use_weighting" in config:
        return preferences.make("wpo", beta=0.1)
    if "label_smoothing" in config:
        name = "epsilon" if kind == "exo_pair" else "flip_probability"
        settings = {name: config["label_smoothing"]}
    if kind in ("ipo", "sigmoid_norm"):
        settings = {"length_average": True}
    settings |= {"likelihood_average": "batch"} if kind == "sft" else {"beta": 0.1}
    return preferences.make(NAMES[kind], **settings)


def total_of(trainer, config, given):
    """Our loss as a function of (log-probabilities, entropies)."""
    if trainer in ("GRPOTrainer", "RLOOTrainer"):
        ours = objectives.make("rloo")
        if trainer == "GRPOTrainer":
            ours = objectives.from_trl(config | {"max_completion_length": GOLDEN["length_limit"]}).objective
        batch = TokenBatch(
            given["old"], given["mask"] > 0, jnp.zeros(6), advantages=given["advantages"], logp_ref=given["reference"]
        )
        return lambda logp, entropy: ours(ours.init(), TokenOutputs(logp, entropy), batch)[0]
    if trainer == "ORPOTrainer":
        both = [preferences.make("orpo", odds_weight=weight) for weight in (config["beta"], 0.0)]
        return lambda logp, _: mean_of(both[0], logp, given) - mean_of(both[1], logp, given)
    ours = preferences.make("kto", beta=0.1) if trainer == "KTOTrainer" else preference_of(trainer, config)
    return lambda logp, _: mean_of(ours, logp, given)


def mean_of(ours, logp, given):
    batch = PreferenceBatch(
        given["mask"] > 0, given["reference"], mismatched_mask=given["mask"] > 0,
        mismatched_logp_ref=given["mismatched_reference"],
    )  # fmt: skip
    loss, aux = ours(logp, batch, given["mismatched"])
    return losses.masked_mean(loss, aux.counts)


@functools.cache
def batches():
    """The arrays of all batches, one upon the other, with NaN where masked."""
    found = {}
    for name in GOLDEN["batches"][0]["batch"]:
        array = np.asarray([each["batch"][name] for each in GOLDEN["batches"]], np.float32)
        mask = np.asarray([each["batch"]["mask"] for each in GOLDEN["batches"]])
        found[name] = jnp.asarray(np.where(mask > 0, array, np.nan) if array.ndim == 3 and name != "mask" else array)
    return found


def differences(index):
    """(of the value, of the gradient) in each batch: in units of the largest number that is compared."""
    cases = [batch["cases"][index] for batch in GOLDEN["batches"]]

    def value_and_slopes(given):
        total = total_of(cases[0]["trainer"], cases[0]["config"], given)
        return jax.value_and_grad(total, argnums=(0, 1))(given["logp"], given["entropy"])

    values, slopes = jax.vmap(value_and_slopes)(batches())
    mask, found = np.asarray(batches()["mask"]) > 0, []
    for number, case in enumerate(cases):
        recorded = [*case["gradients"], None][:2]
        wanted = [np.zeros(mask[0].shape) if each is None else np.where(mask[number], each, 0.0) for each in recorded]
        apart = max(np.abs(slope[number] - want).max() for slope, want in zip(slopes, wanted, strict=True))
        value = abs(float(values[number]) - case["loss"]) / max(abs(case["loss"]), 0.1)
        found.append((value, apart / max(np.abs(wanted[0]).max(), 1e-6)))
    return found


def title(case):
    settings = (f"{name}={value}" for name, value in case["config"].items() if name != "loss_type")
    return " ".join([case["trainer"], case["config"].get("loss_type", ""), *settings])


CASES = GOLDEN["batches"][0]["cases"]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CASES)), ids=[title(case).replace(" ", "-") for case in CASES])
def test_ours_is_trls(index):
    """In single precision, of sums of some thirty numbers around 1."""
    for number, (value, slope) in enumerate(differences(index)):
        assert value < 2e-5 and slope < 2e-5, (number, value, slope)


if __name__ == "__main__":
    for place, each in enumerate(CASES):
        found = differences(place)
        print(f"{title(each):75s} {max(value for value, _ in found):9.1e} {max(slope for _, slope in found):9.1e}")
