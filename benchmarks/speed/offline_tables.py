"""The table of the offline agents' speeds, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.lab.measure import show_spread

AGENT_NAMES = {"iql": "IQL", "td3-bc": "TD3+BC", "cql": "CQL"}


def table(result: Mapping[str, Any]) -> str:
    """Updates per second of ours, d3rlpy and the bare update, one line for each agent."""
    lines = [
        "| Updates per second | maxent_rl | d3rlpy | ratio | d3rlpy's bare update | our bare update | share of it |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    metric, settings = "updates_per_second", result["settings"]
    for agent in settings["agents"]:
        cells = [
            _cell(result, f"maxent_rl {agent}", metric),
            _cell(result, f"d3rlpy {agent}", metric),
            _ratio(result, agent, "d3rlpy"),
            _cell(result, f"d3rlpy {agent}", f"bare_{metric}"),
            _cell(result, f"bare {agent}", metric),
            _ratio(result, agent, "bare"),
        ]
        lines.append("| " + " | ".join([AGENT_NAMES.get(agent, agent), *cells]) + " |")
    versions = [
        f"{package} {found[package]}"
        for contender, packages in (("maxent_rl", ("jax",)), ("d3rlpy", ("d3rlpy", "torch")))
        for found in [result["versions"].get(f"{contender} {settings['agents'][0]}", {})]
        for package in packages
        if package in found
    ]
    busy = max((run["busy_before"] for run in result["runs"]), default=0.0)
    layers = " x ".join(map(str, settings["hidden_sizes"]))
    lines += [
        "",
        f"Median (smallest to largest) of {settings['repeats']} alternating runs on a {result['hardware']['summary']}; "
        f"layers of {layers}, batches of {settings['batch_size']}, two critics, "
        f"{settings['cql_actions']} actions of each kind for CQL. {', '.join(versions)}."
        + (f" Others used up to {busy:.0%} of the machine." if busy > 0.1 else ""),
    ]
    return "\n".join(lines)


def _cell(result: Mapping[str, Any], contender: str, metric: str) -> str:
    value = result["summary"].get(contender, {}).get(metric)
    return "" if value is None else show_spread(value)


def _ratio(result: Mapping[str, Any], agent: str, other: str) -> str:
    value = result["ratios"].get(f"maxent_rl {agent} / {other} {agent}: updates_per_second")
    return "" if value is None else show_spread(value)
