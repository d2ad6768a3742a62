"""The tables of all speeds that were measured, as Markdown; what has not been measured is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.lab.measure import show_number, show_spread, spread
from benchmarks.speed import accelerator_tables, offline_tables, token_tables

Result = Mapping[str, Any]

# The contenders' names as people know them.
NAMES = {
    "maxent_rl": "maxent_rl",
    "fast": "maxent_rl, fast",
    "sbx": "SBX",
    "sbx-zoo": "SBX, 10,000 start steps",
    "sb3": "Stable-Baselines3",
    "brax": "Brax's SAC",
    "rejax": "rejax",
    "trl": "TRL",
    "sac": "SAC",
}
OFFLINE, ACCELERATOR, LIGER = "offline-throughput", "accelerator", "token_losses-liger"


def load(folder: Path) -> tuple[dict[str, Result], list[str]]:
    """Reads the results of all benchmarks that tables show: (by name, names of those missing)."""
    found = {name: folder / f"{name}.json" for name in (*SECTIONS, LIGER, OFFLINE, ACCELERATOR)}
    results = {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}
    return results, [name for name in found if name not in results]


def tables(results: Mapping[str, Result]) -> str:
    """All tables: everything in one, then all sizes of the losses over tokens, the offline agents, and an accelerator."""
    together = {name: result for name, result in results.items() if name in SECTIONS}
    parts = [render_table(together)] if together else []
    if "token_losses" in results:
        parts.append(f"### Losses over tokens\n\n{token_tables.table(results['token_losses'])}")
    if LIGER in results:
        parts.append(f"### Beside Liger\n\n{token_tables.table(results[LIGER])}")
    if OFFLINE in results:
        parts.append(f"### Offline agents\n\n{offline_tables.table(results[OFFLINE])}")
    if ACCELERATOR in results:
        parts.append(f"### On an accelerator\n\n{accelerator_tables.table(results[ACCELERATOR])}")
    return "\n\n".join(parts)


def render_table(results: Mapping[str, Result]) -> str:
    """One table of all that was measured, and a line on the machine and the versions."""
    lines = ["| What | maxent_rl | Compared with | Ratio |", "| --- | --- | --- | --- |"]
    for name, section in SECTIONS.items():
        if name in results:
            lines += [f"| {' | '.join(row)} |" for row in section(results[name])]
    machines = list(dict.fromkeys(result["hardware"]["summary"] for result in results.values()))
    repeats = sorted({count for result in results.values() for count in _counts(result)})
    times = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    text = (
        f"Median (smallest to largest) of {times} alternating runs on a {' and a '.join(machines)}. {versions(results)}"
    )
    partial = [name for name, result in results.items() if not result.get("complete")]
    text += f" Interrupted before all repeats were done: {', '.join(partial)}." if partial else ""
    return "\n".join([*lines, "", text])


def versions(results: Mapping[str, Result]) -> str:
    """What ran, as one sentence."""
    wanted = {
        "maxent_rl": ("jax", "gymnasium", "mujoco", "brax"),
        "sbx": ("sbx-rl", "jax"),
        "sb3": ("stable_baselines3", "torch"),
        "brax": ("brax", "jax"),
        "rejax": ("rejax", "jax"),
        "trl": ("trl", "torch"),
    }
    found: dict[str, list[str]] = {}
    for result in results.values():
        for contender, packages in result["versions"].items():
            name = contender.split(" ")[0]
            found.setdefault(
                name, [f"{package} {packages[package]}" for package in wanted.get(name, ()) if package in packages]
            )
    parts = [f"{NAMES[name]}: {', '.join(found[name])}" for name in wanted if found.get(name)]
    return f"Versions: {'; '.join(parts)}." if parts else ""


def _counts(result: Result) -> list[int]:
    return [value["count"] for metrics in result["summary"].values() for value in metrics.values()]


def _cell(result: Result, contender: str, metric: str, unit: str = "") -> str | None:
    """`median (smallest to largest) unit` of a contender, None where it was not measured."""
    value = result["summary"].get(contender, {}).get(metric)
    return None if value is None else f"{show_spread(value)}{unit}"


def _ratio(result: Result, contender: str, other: str, metric: str) -> str:
    """The median ratio of two contenders, as `measure` wrote it."""
    value = result.get("ratios", {}).get(f"{contender} / {other}: {metric}")
    return "" if value is None else show_spread(value)


def _against(
    result: Result,
    what: str,
    ours: str,
    peers: tuple[str, ...],
    metric: str,
    unit: str,
    names: Mapping[str, str] = NAMES,
) -> list[list[str]]:
    """A row for each peer that was measured beside ours."""
    own = _cell(result, ours, metric, unit)
    rows = []
    for peer in peers:
        other = _cell(result, peer, metric, unit)
        if own is not None and other is not None:
            name, _, how = peer.partition(" ")
            label = f"{names.get(name, name)}{f', {how}' if how else ''}"
            rows.append([what, own, f"{label}: {other}", _ratio(result, ours, peer, metric)])
    return rows


def _host(result: Result) -> list[list[str]]:
    return _against(result, "SAC on HalfCheetah-v5", "maxent_rl", ("sbx", "sb3"), "steps_per_second", " steps/s")


def _device(result: Result) -> list[list[str]]:
    settings = result["settings"]
    what = f"SAC on brax/halfcheetah, spring, {settings['num_envs']} environments"
    return _against(result, what, "maxent_rl", ("brax", "rejax"), "steps_per_second", " steps/s")


def _ppo(result: Result) -> list[list[str]]:
    settings, names = result["settings"], NAMES | {"brax": "Brax's PPO"}
    what = f"PPO on brax/halfcheetah, spring, {settings['num_envs']} environments"
    return _against(result, what, "maxent_rl", ("brax",), "steps_per_second", " steps/s", names)


def _ppo_host(result: Result) -> list[list[str]]:
    what = f"PPO on HalfCheetah-v5, {result['settings']['num_envs']} environments"
    return _against(result, what, "maxent_rl", ("sb3",), "steps_per_second", " steps/s")


def _experts(result: Result) -> list[list[str]]:
    rows = []
    for name in result["settings"]["contenders"]:
        count = name.removeprefix("pmoe ")
        if count != name:
            what = f"PMOE on HalfCheetah-v5, {count} expert{'' if count == '1' else 's'}"
            rows += _against(result, what, name, ("sac",), "steps_per_second", " steps/s")
    return rows


def _limits(result: Result) -> list[list[str]]:
    metric, own = "updates_per_second", _cell(result, "train", "updates_per_second", " updates/s")
    compared = {
        "update": "the bare update loop",
        "scan": "32 bare updates per dispatch",
        "matmul": "matrix products alone",
    }
    rows = []
    for other, name in compared.items():
        value = _cell(result, other, metric, " updates/s")
        if own is not None and value is not None:
            ratio = _ratio(result, "train", other, metric) or _share(result, "train", other, metric)
            rows.append(["Training on HalfCheetah-v5 against its limits", own, f"{name}: {value}", ratio])
    return rows


def _share(result: Result, one: str, other: str, metric: str) -> str:
    """The ratio of medians, for a pair whose ratio was not written."""
    found = result["summary"]
    return show_number(found[one][metric]["median"] / found[other][metric]["median"])


def _seeds(result: Result) -> list[list[str]]:
    rows = []
    for part, what in (("train", "Training"), ("bare", "Bare update loop")):
        apart = [name for name in result["summary"] if name.startswith(f"{part}: ") and "process" in name]
        metric, unit = "updates_per_second", " updates/s in all"
        own = _cell(result, f"{part}: 4 seeds", metric, unit)
        if own is not None and apart:
            best = max(apart, key=lambda name: result["summary"][name][metric]["median"])
            ratios = [value for title, value in result["ratios"].items() if title.startswith(f"{part}: 4 seeds /")]
            ratio = show_spread(ratios[0]) if ratios else ""
            label = best.removeprefix(f"{part}: ")
            rows.append(
                [f"{what}, 4 seeds in one process", own, f"{label}: {_cell(result, best, metric, unit)}", ratio]
            )
    return rows


def _return(result: Result) -> list[list[str]]:
    rows = []
    metrics = [f"seconds_to_{threshold:.0f}" for threshold in result["settings"]["thresholds"]]
    for ours in ("maxent_rl", "fast"):
        for metric in metrics:
            target = f"{float(metric.rpartition('_')[2]):,.0f}"
            what = f"Return {target} on HalfCheetah-v5{', fast' if ours == 'fast' else ''}"
            own = _seconds(result, ours, metric)
            for peer in ("sbx", "sbx-zoo"):
                other = _seconds(result, peer, metric)
                if own is not None and other is not None:
                    rows.append([what, own, f"{NAMES.get(peer, peer)}: {other}", _ratio(result, ours, peer, metric)])
    return rows


def _seconds(result: Result, contender: str, metric: str) -> str | None:
    """When a return was passed, and by how many of the seeds; for the others how long they were given."""
    runs = [run for run in result["runs"] if run["contender"] == contender and run.get("curve")]
    given = [run["curve"][-1]["seconds"] for run in runs if metric not in run["values"]]
    passed = _cell(result, contender, metric, " s")
    if not runs or not given:
        return passed if runs else None
    missed = f"not within {show_spread(spread(given))} s"
    return missed if passed is None else f"{passed} in {len(runs) - len(given)} of {len(runs)} seeds, else {missed}"


def _startup(result: Result) -> list[list[str]]:
    metric, rows = "first_update_seconds", []
    for how in ("cold", "warm"):
        what = f"Command to first gradient step, {how} compilation cache"
        found = _against(result, what, f"maxent_rl {how}", (f"sbx {how}",), metric, " s")
        own = _cell(result, f"maxent_rl {how}", metric, " s")
        rows += found or ([[what, own, "", ""]] if own else [])
    return rows


def _memory(result: Result) -> list[list[str]]:
    what = "Peak memory, replay buffer of 1,000,000 transitions"
    return _against(result, what, "maxent_rl", ("sbx", "sb3"), "peak_memory_mb", " MB")


SECTIONS: dict[str, Callable[[Result], list[list[str]]]] = {
    "throughput-host": _host,
    "throughput-device": _device,
    "throughput-ppo": _ppo,
    "throughput-ppo-host": _ppo_host,
    "throughput-experts": _experts,
    "limits": _limits,
    "seeds": _seeds,
    "time_to_return": _return,
    "startup": _startup,
    "memory": _memory,
    "token_losses": token_tables.rows,
}
