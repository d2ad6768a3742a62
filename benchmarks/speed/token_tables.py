"""Tables of the losses over tokens: a few rows beside all other speeds, and all sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.lab.measure import show_number, show_spread
from benchmarks.speed.tokens import size_name

OURS = "maxent_rl"
NAMES = {OURS: "maxent_rl", "trl": "TRL", "trl-full": "TRL, all logits", "naive": "JAX, all logits", "liger": "Liger"}
LOSSES = {"grpo": "GRPO", "clip_cov": "Clip-Cov"}
UNITS = {"seconds": " s", "memory_mb": " MB"}
Result = Mapping[str, Any]


def rows(result: Result) -> list[list[str]]:
    """For every vocabulary and every other contender the largest size at which both ran: time and memory of GRPO's loss."""
    found = []
    for vocabulary in result["settings"]["vocabularies"]:
        for other in result["settings"]["contenders"]:
            both = [
                size_name("grpo", tokens, vocabulary)
                for tokens in result["settings"]["tokens"]
                if _value(result, other, size_name("grpo", tokens, vocabulary), "seconds")
            ]
            if other != OURS and both:
                found += [_row(result, other, both[-1], metric) for metric in UNITS]
    return [row for row in found if row is not None]


def _row(result: Result, other: str, size: str, metric: str) -> list[str] | None:
    own, theirs = (_value(result, name, size, metric) for name in (OURS, other))
    if own is None or theirs is None:
        return None
    tokens, _, vocabulary = size.removeprefix("grpo ").partition("x")
    what = f"GRPO's loss and gradients, {int(tokens):,} tokens, vocabulary {int(vocabulary):,}"
    if metric == "memory_mb":
        what = f"Peak memory of {what}"
    return [what, own + UNITS[metric], f"{NAMES[other]}: {theirs}{UNITS[metric]}", _ratio(result, other, size, metric)]


def table(result: Result) -> str:
    """All sizes: time and memory of everyone, and in brackets ours over theirs."""
    contenders = result["settings"]["contenders"]
    names = [NAMES[name] for name in contenders]
    lines = [
        "| " + " | ".join(["vocabulary", "tokens", "loss", "", *names]) + " |",
        "| ---: | ---: | --- | --- |" + " ---: |" * len(names),
    ]
    for vocabulary in result["settings"]["vocabularies"]:
        for tokens in result["settings"]["tokens"]:
            spots = result["settings"].get("spot_objectives", []) if tokens == min(result["settings"]["tokens"]) else []
            for objective in dict.fromkeys((*result["settings"]["objectives"], *spots)):
                size = size_name(objective, tokens, vocabulary)
                for metric, unit in UNITS.items():
                    cells = [_cell(result, name, size, metric) for name in contenders]
                    what = "time," if metric == "seconds" else "memory,"
                    head = [f"{vocabulary:,}", f"{tokens:,}", LOSSES[objective], what + unit]
                    lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join([*lines, "", _caption(result)])


def _caption(result: Result) -> str:
    versions: dict[str, str] = {}
    for packages in result["versions"].values():
        versions |= {name: packages[name] for name in ("jax", "trl", "liger-kernel", "torch") if name in packages}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    counts = sorted({value["count"] for metrics in result["summary"].values() for value in metrics.values()})
    runs = f"{' to '.join(map(str, counts[:1] + counts[1:][-1:]))} run{'' if counts == [1] else 's'}"
    text = f"Median (smallest to largest) of {runs}; [ours over theirs]."
    unfinished = "" if result.get("complete") else " Not complete."
    return f"{text} Width {result['settings']['width']}, float32; {result['hardware']['summary']}; {told}.{unfinished}"


def _cell(result: Result, name: str, size: str, metric: str) -> str:
    value = _value(result, name, size, metric)
    if value is None:
        reason = result.get("skipped", {}).get(f"{name} {size}")
        return "" if reason is None else f"does not fit: {reason}"
    ratio = _ratio(result, name, size, metric)
    return f"{value} [{ratio}]" if ratio else value


def _value(result: Result, name: str, size: str, metric: str) -> str | None:
    value = result["summary"].get(f"{name} {size}", {}).get(metric)
    return None if value is None else show_spread(value)


def _ratio(result: Result, other: str, size: str, metric: str) -> str:
    value = result.get("ratios", {}).get(f"{OURS} {size} / {other} {size}: {metric}")
    return "" if value is None else show_number(value["median"])
