"""The named losses on preferences, and how one is made with settings of one's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax import Array
from jax.typing import ArrayLike

from maxent_rl.errors import unknown_name
from maxent_rl.settings import check_settings
from maxent_rl.tokens.batch import TokenOutputs
from maxent_rl.tokens.preferences.absolute import BCO, NCA, SPPO, APODown, APOZero, Transported, TransportedPair
from maxent_rl.tokens.preferences.batch import PreferenceAux, PreferenceBatch
from maxent_rl.tokens.preferences.losses import (
    CPO,
    DPO,
    EXO,
    IPO,
    KTO,
    ORPO,
    RPO,
    AnchoredPair,
    ConservativeDPO,
    Hinge,
    PreferenceLoss,
    RobustDPO,
    SimPO,
    SoftDPO,
)
from maxent_rl.tokens.preferences.margins import WPO, AlphaPO, DiscoPOP, DivergenceDPO, LengthDesensitisedDPO
from maxent_rl.tokens.preferences.mixture import Likelihood

LOSSES: dict[str, PreferenceLoss] = {
    "dpo": DPO(),
    "cdpo": ConservativeDPO(),
    "soft": SoftDPO(),
    "robust": RobustDPO(),
    "ipo": IPO(),
    "hinge": Hinge(),
    "exo": EXO(),
    "rpo": RPO(),
    "adpo_pair": AnchoredPair(),
    "simpo": SimPO(),
    "orpo": ORPO(),
    "cpo": CPO(),
    "kto": KTO(),
    "nca": NCA(),
    "bco": BCO(),
    "sppo": SPPO(),
    "apo_zero": APOZero(),
    "apo_down": APODown(),
    "aot": TransportedPair(),
    "aot_unpaired": Transported(),
    "f_dpo": DivergenceDPO(),
    "discopop": DiscoPOP(),
    "wpo": WPO(),
    "ld_dpo": LengthDesensitisedDPO(),
    "alphapo": AlphaPO(),
    "likelihood": Likelihood(),
}

# What TRL calls the same thing.
ELSEWHERE: dict[str, str] = {
    "label_smoothing": "flip_probability, of cdpo and robust",
    "simpo_gamma": "gap",
    "gamma": "gap",
    "rpo_alpha": "likelihood_weight, of rpo",
    "cpo_alpha": "likelihood_weight, of cpo",
    "lambda": "odds_weight, of orpo",
    "tau": "anchor_temperature, of adpo_pair",
    "discopop_tau": "tau, of discopop",
    "ld_alpha": "tail_weight, of ld_dpo",
    "f_divergence_type": "divergence, of f_dpo",
    "f_alpha_divergence_coef": "alpha, of f_dpo",
    "loss_weights": "the weights of preferences.mixture",
}


def names() -> tuple[str, ...]:
    """The names that `make` and `preference_loss` take."""
    return tuple(LOSSES)


def settings(name: str) -> dict[str, Any]:
    """The hyper-parameters of a named loss, with their defaults.

    Raises:
      UnknownNameError: there is no such loss.
    """
    loss = _named(name)
    return {field.name: getattr(loss, field.name) for field in dataclasses.fields(loss)}  # type: ignore[arg-type]


def make(name: str, **overrides: Any) -> PreferenceLoss:
    """Makes a named loss: a pytree of its hyper-parameters, to be called as `preference_loss` is, without the name.

    Raises:
      UnknownNameError: no such loss or hyper-parameter, with the nearest right ones.
      InvalidSettingError: a value out of its bounds.
    """
    known = settings(name)
    for setting in overrides:
        if setting not in known:
            hint = f"What other trainers call {setting} is {ELSEWHERE[setting]} here." if setting in ELSEWHERE else ""
            raise unknown_name(f"hyper-parameter of {name}", setting, known, hint)
    loss: PreferenceLoss = dataclasses.replace(_named(name), **overrides)  # type: ignore[type-var]
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(loss)):
        check_settings(loss)
    return loss


def preference_loss(
    name: str,
    outputs: ArrayLike | TokenOutputs,
    batch: PreferenceBatch,
    mismatched_logp: ArrayLike | None = None,
    **overrides: Any,
) -> tuple[Array, PreferenceAux]:
    """The loss of each pair of responses, by name.

    Args:
      name: one of `names()`.
      outputs: [2B, T] log-probability of each token under the policy that learns, in nats; or what holds it.
      batch: which responses are the better, and the reference.
      mismatched_logp: [2B, T] for "kto": the same of the responses to other prompts.
      **overrides: hyper-parameters of the loss.

    Returns:
      (loss [B], aux); [2B] for "kto", which has no pairs. What does not count has a loss of 0 without gradient; the mean of
      the rest is `losses.masked_mean(loss, aux.counts)`.

    Raises:
      UnknownNameError: no such loss or hyper-parameter, with the nearest right ones.
      InvalidSettingError: a value out of its bounds.
      ShapeError: arrays that do not fit together.
      MissingInputError: the loss needs what the batch does not have.
    """
    return make(name, **overrides)(outputs, batch, mismatched_logp)


def _named(name: object) -> PreferenceLoss:
    if not isinstance(name, str) or name not in LOSSES:
        given = name if isinstance(name, str) else type(name).__name__  # an array, where the name has been forgotten
        hint = "Objectives of reinforcement fine-tuning (grpo, ...) are those of objectives.make."
        raise unknown_name("preference loss", given, LOSSES, hint)
    return LOSSES[name]
