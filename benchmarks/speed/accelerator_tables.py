"""Tables of what an accelerator does, as Markdown; what has not been measured is an empty cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.lab.measure import show_number, show_spread

Result = Mapping[str, Any]

AGENTS = {
    "ppo": "PPO",
    "brax-ppo": "Brax's PPO",
    "reppo": "REPPO",
    "flashsac": "FlashSAC",
    "sac": "SAC",
    "brax-sac": "Brax's SAC",
}
STATISTICS = {"maxent_rl": "in chunks", "all-logits": "all logits at once"}
_STEPS, _TOKENS = "steps_per_second", "tokens_per_second"


def table(result: Result) -> str:
    """All tables, what was left out, and a line on machine and versions."""
    settings = result["settings"]
    parts = [
        _lines(["environment steps per second", *AGENTS.values()], _of_envs(result) + _of_seeds(result)),
        _lines(["GRPO's loss and gradients, bfloat16", *STATISTICS.values(), "ratio of speeds"], _losses(result)),
        _lines(["sampling", "tokens per second"], _generation(result)),
        _left_out(result),
        f"Median (smallest to largest) of up to {settings['repeats']} windows in one process; {settings['env']} with spring "
        f"physics; {result['hardware']['summary']}; {_versions(result)}.{'' if result.get('complete') else ' Not complete.'}",
    ]
    return "\n\n".join(part for part in parts if part)


def measured(result: Result, prefix: str) -> list[str]:
    """The names that begin so, in whose measurement something was found, those of the smallest sizes first."""
    return sorted((name for name in result["summary"] if name.startswith(prefix)), key=lambda name: (len(name), name))


def value(result: Result, name: str, metric: str) -> Mapping[str, float] | None:
    """Median and range; None where it was not measured."""
    found: Mapping[str, float] | None = result["summary"].get(name, {}).get(metric)
    return found


def _of_envs(result: Result) -> list[list[str]]:
    size = f"envs={result['settings']['num_envs']}"
    return _rows(result, size, f"{result['settings']['num_envs']:,} environments")


def _of_seeds(result: Result) -> list[list[str]]:
    rows = []
    for count in result["settings"]["seeds"]:
        rows += _rows(result, f"seeds={count}", f"{count:,} seed{'s' if count > 1 else ''} together")
    return rows


def _rows(result: Result, size: str, label: str) -> list[list[str]]:
    """A row of all agents at some size; none where none was measured."""
    cells = [_cell(result, f"{agent} {size}", _STEPS) for agent in AGENTS]
    return [[label, *cells]] if any(cells) else []


def _losses(result: Result) -> list[list[str]]:
    rows = []
    for name in measured(result, "loss maxent_rl"):
        size = name.split()[-1]
        tokens, _, vocabulary = size.partition("x")
        label = f"{int(tokens):,} tokens, vocabulary {int(vocabulary):,}, tokens per second"
        names = [f"loss {statistics} {size}" for statistics in STATISTICS]
        ratio = result.get("ratios", {}).get(f"{names[0]} / {names[1]}: {_TOKENS}")
        rows.append([label, *(_cell(result, each, _TOKENS) for each in names), show_spread(ratio) if ratio else ""])
        planned = [value(result, each, "planned_memory_mb") for each in names]
        if any(planned):
            shown = ["" if each is None else show_number(each["median"]) for each in planned]
            rows.append(["the same, memory for temporaries, MB", *shown, ""])
    return rows


def _generation(result: Result) -> list[list[str]]:
    rows = []
    for name in measured(result, "generation"):
        how = result["models"][name.split()[-1]]
        config = how["config"]
        label = (
            f"{how['responses']:,} responses of {how['response_length']}, model of {config['num_layers']} layers of "
            f"{config['hidden_size']}, vocabulary {config['vocabulary_size']:,}, {config.get('dtype', 'float32')}"
        )
        rows.append([label, _cell(result, name, _TOKENS)])
    return rows


def _cell(result: Result, name: str, metric: str) -> str:
    found = value(result, name, metric)
    return "" if found is None else show_spread(found)


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; nothing without rows. Columns without any number are left out."""
    if not rows:
        return ""
    kept = [index for index in range(len(head)) if index == 0 or any(row[index] for row in rows)]
    lines = [[head[index] for index in kept], ["---", *["---:"] * (len(kept) - 1)]]
    lines += [[row[index] for index in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _left_out(result: Result) -> str:
    failed = {run["contender"]: f"failed: {run['error']}" for run in result["runs"] if "error" in run}
    told = [f"- {name}: {reason}" for name, reason in {**result.get("skipped", {}), **failed}.items()]
    return "\n".join(["Left out:", "", *told]) if told else ""


def _versions(result: Result) -> str:
    packages = result["versions"].get("maxent_rl", {}) | result["versions"].get("brax", {})
    return ", ".join(f"{name} {packages[name]}" for name in ("jax", "brax") if name in packages) or "versions unknown"
