"""The study's tables: what came of each claim, and what each contender reached."""

from __future__ import annotations

from benchmarks.lab.claims import HEAD, NOTE, Claim, by_seed, judged, measured_places, row
from benchmarks.lab.statistics import show_interquartile
from benchmarks.lab.study import Result, Results
from benchmarks.lab.tables import markdown
from benchmarks.studies.conversations.setting import LABELS, Balance, Corridor, Forked, Imitation, Modulation

_SPREAD = "entropy of the batch, spread"
_BEYOND = "rising beyond the clip, early"
CLAIMS = [
    Claim("EMPG", "fewer iterations to 90 % right", Modulation.part, "iterations to 90 %", "grpo", "empg"),
    Claim("EMPG", "ends no lower", Modulation.part, "pass@1, end", "empg", "grpo", "not less"),
    Claim(
        "EMPG",
        "unsure turns give less of the gradient",
        Modulation.part,
        "gradient of unsure turns, early",
        "grpo",
        "empg",
    ),
    Claim("EMPG", "the scale alone does that", Modulation.part, "gradient of unsure turns, early", "grpo", "scale"),
    Claim("EMPG", "both together end above the scale alone", Modulation.part, "pass@1, end", "empg", "scale"),
    Claim("EMPG", "both together end above the bonus alone", Modulation.part, "pass@1, end", "empg", "bonus"),
    Claim("EPO", "the bonus keeps entropy", Corridor.part, "entropy, end", "bonus", "none"),
    Claim("EPO", "the penalty of v1 changes nothing", Corridor.part, "pass@1, end", "indicator", "bonus", "not more"),
    Claim(
        "EPO", "v2, published weights: entropy steadier than by the bonus", Corridor.part, _SPREAD, "bonus", "published"
    ),
    Claim("EPO", "v2, weight 2: entropy steadier than by the bonus", Corridor.part, _SPREAD, "bonus", "hinge"),
    Claim("EPO", "v2, weight 2: more right answers than by the bonus", Corridor.part, "pass@1, end", "hinge", "bonus"),
    Claim("EPO", "more right answers than without either", Corridor.part, "pass@1, end", "hinge", "none"),
    Claim("AEPO", "a clip with a gradient keeps more entropy", Balance.part, "entropy, end", "bound", "clip"),
    Claim("AEPO", "more tokens rise beyond it", Balance.part, _BEYOND, "bound", "clip"),
    Claim("AEPO", "more right answers", Balance.part, "pass@1, end", "aepo", "clip"),
    Claim("AEPO", "the penalty spreads forks", Forked.part, "share of the top three", "no penalty", "penalty"),
    Claim("AEPO", "a heavier one does", Forked.part, "share of the top three", "no penalty", "heavy"),
    Claim("AEPO", "more different conversations with the penalty", Forked.part, "different", "penalty", "no penalty"),
    Claim("SPEAR", "a reward for calls makes it call earlier", Imitation.part, "calls, early", "fading", "dr_bot"),
    Claim("SPEAR", "a constant one leaves more calls in the end", Imitation.part, "calls, end", "constant", "fading"),
    Claim("SPEAR", "where it fades, calls fall again", Imitation.part, "calls, fall", "fading", "constant"),
    Claim("SPEAR", "imitation is faster than without", Imitation.part, "pass@1, early", "imitation", "dr_bot"),
    Claim("SPEAR", "both are faster than neither", Imitation.part, "pass@1, early", "spear", "dr_bot"),
    Claim("SPEAR", "and end higher", Imitation.part, "pass@1, end", "spear", "dr_bot"),
]
_LEARNED = ("pass@1, first", "pass@1, early", "pass@1, end", "pass@8, end", "calls, end", "entropy, end")
_COLUMNS = {
    Modulation.part: (*_LEARNED, "iterations to 90 %", "gradient of unsure turns, early"),
    Corridor.part: (*_LEARNED, _SPREAD),
    Balance.part: (*_LEARNED, _BEYOND),
    Imitation.part: (*_LEARNED, "calls, early", "calls, fall", "iterations to 90 %"),
    Forked.part: ("forks", "share of the top three", "different", "right"),
}


def tables(results: Results) -> str:
    """The claims, then each part's contenders."""
    rows = [
        row(claim, place, judged(results[claim.part], place, claim), LABELS[claim.part])
        for claim in CLAIMS
        for place in measured_places(results, claim)
    ]
    shown = [_contenders(part, results[part]) for part in _COLUMNS if part in results]
    return "\n\n".join([markdown(HEAD, rows, texts=3), NOTE, *shown])


def _contenders(part: str, result: Result) -> str:
    """All that is told of every contender, with a note."""
    rows, seeds = [], 0
    for name, label in LABELS[part].items():
        runs = by_seed(result, part, name).values()
        if runs:
            each = [[run["values"][metric] for run in runs if metric in run["values"]] for metric in _COLUMNS[part]]
            rows.append([label, *(show_interquartile([values]) for values in each)])
            seeds = max(seeds, len(runs))
    machines = ", ".join(dict.fromkeys(run["machine"] for run in result["runs"]))
    note = f"Interquartile means of {seeds} seeds and their intervals; {machines}."
    note += "" if result["complete"] else " Not complete."
    return "\n\n".join([markdown([part, *_COLUMNS[part]], rows), note])
