"""What the papers claim, as differences between contenders that are there or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.lab.statistics import mean_and_error
from benchmarks.lab.study import Result, runs_of

Direction = Literal["more", "less", "equal"]
_CONFIDENCE = 0.95


class Claim(NamedTuple):
    """A claim, and where it would be seen.

    Attributes:
      paper: whose.
      says: what, in words.
      question: that was asked.
      metric: in which it is seen.
      one: the contender that it is about.
      other: with whom it is compared, seed by seed; or a number.
      direction: more, less, or equal but for `margin`.
      margin: differences below this are none.
    """

    paper: str
    says: str
    question: str
    metric: str
    one: str
    other: str | float
    direction: Direction
    margin: float = 0.0


def _bapo(epochs: int) -> list[Claim]:
    question, often = f"bapo-{epochs}", "once" if epochs == 1 else f"{epochs} times"
    return [
        Claim(
            "BAPO",
            f"entropy is kept where batches are replayed {often}",
            question,
            "entropy_half",
            "bapo",
            "clip",
            "more",
        ),
        Claim(
            "BAPO",
            f"the same, bounds by the gradient ({often})",
            question,
            "entropy_half",
            "bapo-gradient",
            "clip",
            "more",
        ),
        Claim(
            "BAPO",
            f"the search by value ends within its range ({often}); our sheet: it cannot",
            question,
            "low_between",
            "bapo",
            0.0,
            "more",
        ),
    ]


CLAIMS = [
    Claim("HAPO", "fewer upper clips at forks than DAPO's", "hapo", "fork_clip_high", "hapo", "dapo", "less"),
    Claim("HAPO", "the entropy of forks falls more slowly", "hapo", "fork_entropy_quarter", "hapo", "dapo", "more"),
    Claim("ProGRPO", "pass@1 is GRPO's", "progrpo", "pass@1", "progrpo", "grpo", "equal", 0.02),
    Claim("ProGRPO", "more different right answers", "progrpo", "distinct", "progrpo", "grpo", "more"),
    Claim("ProGRPO", "and more than an entropy bonus finds", "progrpo", "distinct", "progrpo", "grpo-bonus", "more"),
    Claim("ProGRPO", "no gain where one answer is right", "progrpo-single", "pass@1", "progrpo", "grpo", "equal", 0.02),
    *_bapo(1),
    *_bapo(4),
    *_bapo(8),
    Claim("ARES", "easy prompts: shorter than under GRPO", "ares", "length_0", "ares", "grpo", "less"),
    Claim("ARES", "hard prompts: longer", "ares", "length_3", "ares", "grpo", "more"),
    Claim("ARES", "as many right answers", "ares", "reward", "ares", "grpo", "equal", 0.02),
    Claim("ARES", "released code, easy prompts: shorter", "ares", "length_0", "ares-released", "grpo", "less"),
    Claim("ARES", "released code, hard prompts: longer", "ares", "length_3", "ares-released", "grpo", "more"),
    Claim("ARES", "released code: as many right answers", "ares", "reward", "ares-released", "grpo", "equal", 0.02),
    Claim("G2RPO", "gradients of both tasks nearer each other", "g2rpo", "log_ratio", "gaussian", "deviation", "less"),
    Claim("G2RPO", "and nearer than without any scale", "g2rpo", "log_ratio", "gaussian", "none", "less"),
    Claim("G2RPO", "outliers weigh less", "g2rpo", "outlier_share", "gaussian", "deviation", "less"),
    Claim("G2RPO", "the second task is learned better", "g2rpo", "hit_1", "gaussian", "deviation", "more"),
    Claim("G2RPO", "the band holds up the entropy", "g2rpo", "entropy_0", "gaussian-band", "gaussian", "more"),
    Claim("RiskPO", "pass@16 above GRPO's", "riskpo", "pass@16", "riskpo", "grpo", "more"),
    Claim("RiskPO", "on the hardest third, too", "riskpo", "pass@16 hard", "riskpo", "grpo", "more"),
    Claim("RiskPO", "released code: pass@16 above GRPO's", "riskpo", "pass@16", "riskpo-released", "grpo", "more"),
    Claim("COPO", "more prompts have a gradient", "copo", "learning", "copo", "grpo", "more"),
    Claim("COPO", "more right answers than GRPO", "copo", "right", "copo", "grpo", "more"),
    Claim("COPO", "more than by leaving uniform groups out", "copo", "right", "copo", "dapo", "more"),
    Claim(
        "EMPO",
        "without labels: better where most answers are right",
        "empo",
        "right where most are",
        "empo",
        0.5,
        "more",
    ),
    Claim("EMPO", "our sheet: worse where most are wrong", "empo", "right where most are wrong", "empo", 0.3, "less"),
    Claim("EMPO", "as good as with labels", "empo", "right", "empo", "grpo", "equal", 0.02),
    Claim("EMPO", "a vote of all answers is as good", "empo", "right", "empo", "voting", "equal", 0.02),
]


class Found(NamedTuple):
    """What came of a claim: the values of both, and their difference with its interval."""

    one: float
    other: float
    difference: float
    low: float
    high: float
    holds: str


def judged(result: Result, claim: Claim) -> Found | None:
    """What came of a claim; None where it has not been measured."""
    one = values_of(result, claim.question, claim.one, claim.metric)
    if isinstance(claim.other, str):
        other: Sequence[float] = values_of(result, claim.question, claim.other, claim.metric)
    else:
        other = [claim.other] * len(one)
    if not one or len(one) != len(other):
        return None
    difference, error = mean_and_error([a - b for a, b in zip(one, other, strict=True)])
    half = 0.0 if error == 0 or math.isnan(error) else float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(one) - 1)) * error
    low, high = difference - half, difference + half
    return Found(float(np.mean(one)), float(np.mean(other)), difference, low, high, _verdict(claim, low, high))


def _verdict(claim: Claim, low: float, high: float) -> str:
    if claim.direction == "equal":
        if -claim.margin <= low and high <= claim.margin:
            return "holds"
        return "does not hold" if low > claim.margin or high < -claim.margin else "not decided"
    low, high = (low, high) if claim.direction == "more" else (-high, -low)
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 or low == high == 0 else "not decided"


def values_of(result: Result, question: str, contender: str, metric: str) -> list[float]:
    """A metric of every seed; empty where it was not measured."""
    runs = [run for run in runs_of(result["runs"], question, contender) if "error" not in run]
    return [run["values"][metric] for run in sorted(runs, key=lambda run: run["repeat"]) if metric in run["values"]]
