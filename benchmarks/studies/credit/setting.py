"""Which claims are looked at, and who is compared with whom for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from benchmarks.lab.study import Unit, refuse_unknown
from benchmarks.studies.credit import worlds
from benchmarks.studies.credit.policy import Training, World

_HIGHER = {"clip_low": 0.2, "clip_high": 0.28}


class Question(NamedTuple):
    """One experiment.

    Attributes:
      world: what is asked.
      training: how long policies learn.
      contenders: by name: objective and its settings.
    """

    world: Callable[[], World]
    training: Training
    contenders: dict[str, tuple[str, dict[str, Any]]]


def _replays(epochs: int) -> Question:
    return Question(
        worlds.replayed,
        Training(group=8, iterations=240 // epochs, epochs=epochs, learning_rate=0.1),
        {
            "clip": ("grpo", {}),
            "bapo": ("bapo", {}),
            "bapo-gradient": ("bapo", {"balance_by": "gradient"}),
            **({} if epochs < 8 else {"clip-higher": ("grpo", _HIGHER), "bapo-released": ("bapo_released", {})}),
        },
    )


_NO_PROMPTS = {"arm_prompt": "none"}  # no prompt has a likelihood in a table
_ARES = {"ares_window": 2, "ares_kl_width": 2, "drop_uniform_groups": False, "ares_kl_start": 0.05}

QUESTIONS: dict[str, Question] = {
    "hapo": Question(
        worlds.template,
        Training(group=8, iterations=60, epochs=4, learning_rate=0.15),
        {
            "dapo": ("dapo", {}),
            "hapo": ("hapo", {}),
            "hapo-one-width": ("hapo", {"clip_strength": 0.0}),
        },
    ),
    "progrpo": Question(
        worlds.sums,
        Training(group=16, iterations=300),
        {
            "grpo": ("grpo", _HIGHER),
            "grpo-bonus": ("grpo", _HIGHER | {"entropy_bonus": 0.01}),
            "progrpo": ("progrpo", _NO_PROMPTS),
        },
    ),
    "progrpo-single": Question(
        lambda: worlds.sums(single=True),
        Training(group=16, iterations=300),
        {"grpo": ("grpo", _HIGHER), "progrpo": ("progrpo", _NO_PROMPTS)},
    ),
    "bapo-1": _replays(1),
    "bapo-4": _replays(4),
    "bapo-8": _replays(8),
    "ares": Question(
        worlds.thinking,
        Training(group=8, iterations=200),
        {
            "grpo": ("grpo", {"kl_weight": 0.05, "aggregation": "seq-mean-token-mean", "clip_high": 0.3}),
            "ares": ("ares", _ARES),
            "ares-released": (
                "ares_released",
                {"ares_top": None, "ares_window": 2, "ares_filter": False, "kl_weight": 0.05},
            ),
            "ares-windows": ("ares", _ARES | {"ares_reward": "none", "ares_control": "none"}),
        },
    ),
    "g2rpo": Question(
        worlds.scales,
        Training(group=8, iterations=300, learning_rate=0.02),
        {
            "deviation": ("grpo", {}),
            "none": ("grpo", {"scale": "none"}),
            "gaussian": ("g2rpo", {"band_weight": 0.0}),
            "gaussian-band": ("g2rpo", {"band_weight": 0.5, "band_low": 1.0, "band_high": 2.4}),
        },
    ),
    "riskpo": Question(
        worlds.skills,
        Training(group=8, iterations=200),
        {
            "grpo": ("grpo", {}),
            "riskpo": ("riskpo", {}),
            "riskpo-released": ("riskpo_released", {}),
        },
    ),
    "copo": Question(
        worlds.taught,
        Training(group=6, iterations=300, learning_rate=0.02),
        {
            "grpo": ("grpo", {"aggregation": "seq-mean-token-mean"}),
            "dapo": ("dapo", {"aggregation": "seq-mean-token-mean", "clip_high": 0.2}),
            "copo": ("copo", {}),
            "copo-released": ("copo_released", {}),
        },
    ),
    "empo": Question(
        worlds.majorities,
        Training(group=16, iterations=200),
        {
            "grpo": ("grpo", {}),
            "empo": ("empo", {}),
            "voting": ("empo", {"agreement": "voting"}),
        },
    ),
}


@dataclasses.dataclass(frozen=True)
class Credit:
    """Which questions are measured, and with how many seeds."""

    questions: tuple[str, ...] = tuple(QUESTIONS)
    """Questions, in this order."""
    num_seeds: int = 5
    """Seeds of each contender, all in one program."""
    part: ClassVar[str] = "credit"

    def units(self) -> list[Unit]:
        """A unit for each contender of each question.

        Raises:
          BenchmarkError: an unknown question.
        """
        refuse_unknown("question", self.questions, QUESTIONS)
        found = []
        for name in self.questions:
            question = QUESTIONS[name]
            common = {"num_seeds": self.num_seeds, "version": 1} | dataclasses.asdict(question.training)
            for contender, (objective, settings) in question.contenders.items():
                found.append(Unit(name, contender, (), common | {"objective": objective, "settings": settings}))
        return found
