"""Learning from preferences between responses: DPO and its family over tokens, from a name.

    batch = PreferenceBatch(mask, logp_ref)                    # rows 2i chosen, rows 2i + 1 rejected
    loss, aux = preference_loss("dpo", logp, batch, beta=0.2)  # [B], one value for each pair
    total = losses.masked_mean(loss, aux.counts)

The formulas are those of `losses.preference`; here is what makes log-probabilities of responses of those of tokens. As with
objectives, masked positions may hold anything, NaN included.

Source: Direct Preference Optimization (arXiv 2305.18290) and what followed it. Where TRL's trainers differ from the papers, in
how rpo, orpo and cpo average the likelihood of the chosen responses, the default is the paper's, and
`likelihood_average="batch"` is TRL's.
"""

from maxent_rl.tokens.preferences.batch import PreferenceAux, PreferenceBatch, mismatched
from maxent_rl.tokens.preferences.losses import PreferenceLoss
from maxent_rl.tokens.preferences.mixture import Mixture, mixture
from maxent_rl.tokens.preferences.named import ELSEWHERE, LOSSES, make, names, preference_loss, settings

__all__ = [
    "ELSEWHERE",
    "LOSSES",
    "Mixture",
    "PreferenceAux",
    "PreferenceBatch",
    "PreferenceLoss",
    "make",
    "mismatched",
    "mixture",
    "names",
    "preference_loss",
    "settings",
]
