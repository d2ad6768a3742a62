"""The study's tables: who bears which noise, and what the paper says of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.lab.study import Results
from benchmarks.studies.preference_noise.claims import claims
from benchmarks.studies.preference_noise.methods import ALL
from benchmarks.studies.preference_noise.scores import (
    BySize,
    Sized,
    best_counts,
    by_size,
    certain,
    gain,
    interval,
    leader,
    values,
    whole,
)
from benchmarks.studies.preference_noise.setting import DPO, LABELS, SHORT
from benchmarks.studies.preference_noise.task import SCENARIOS
from maxent_rl.reports.statistics import Interval, mean

_WHAT = {
    "pairwise-fixed": "is DPO with soft labels, β 1.25 and the reference",
    "dpo-hard-0.1": "is ADPO pairs with hard labels, τ 10, fixed anchor",
    "dpo-hard-1": "is ADPO pairs with hard labels, τ 1, fixed anchor",
    "dpo-hard-free": "is ADPO pairs with hard labels, τ 1, uniform anchor",
    "dpo-soft-0.1": "is ADPO pairs with soft labels, τ 10, fixed anchor",
}
_ADPO = ("pairwise-fixed", "pairwise-dynamic", "listwise-fixed", "listwise-dynamic", "kde-fixed", "kde-dynamic")


def tables(results: Results) -> str:
    """All tables, for each number of items that was measured."""
    return "\n\n".join(all_of(found) for found in by_size(results["preference_noise"]).values())


def all_of(found: BySize) -> str:
    """All tables of one number of items: of all sizes of network, then of the largest."""
    hidden, largest = max(found.items())
    parts = [overview(found), f"Hidden layers of {hidden}:", scenarios(largest), gains(largest)]
    if set(ALL) <= set(largest["win_mass"]):
        parts.append(claims(found))
    return "\n\n".join([*parts, note(found)])


def overview(found: BySize) -> str:
    """By method and size: mean WinMass over scenarios with its interval, accuracy, and in how many scenarios it is best."""
    names = [name for name in LABELS if all(name in result["win_mass"] for result in found.values())]
    head = ["method", *[f"WinMass, {hidden}" for hidden in found], *[f"accuracy, {hidden}" for hidden in found]]
    rows = []
    counts = {hidden: best_counts(result, names) for hidden, result in found.items()}
    for name in names:
        masses = [interval(whole(result, name)) for result in found.values()]
        shares = [f"{mean(whole(result, name, 'accuracy')):.3f}" for result in found.values()]
        best = " / ".join(str(counts[hidden][name]) for hidden in found)
        rows.append([LABELS[name], *map(show, masses), *shares, best, _WHAT.get(name, "")])
    return _markdown([*head, f"best in, of {len(SCENARIOS)}", ""], rows)


def scenarios(result: Sized) -> str:
    """Mean WinMass of each method in each scenario with half the width of its interval; the best in bold."""
    names = [name for name in LABELS if name in result["win_mass"]]
    best = {scenario: leader(result, scenario, names) for scenario in SCENARIOS}
    rows = []
    for name in names:
        cells = []
        for scenario in SCENARIOS:
            found = interval([values(result, name, scenario)])
            spread = "" if np.isnan(found.low) else f" ± {(found.high - found.low) / 2:.3f}"
            text = f"{found.estimate:.3f}"
            cells.append(f"**{text}**{spread}" if best[scenario] == name else text + spread)
        rows.append([LABELS[name], *cells])
    return _markdown(["WinMass", *SCENARIOS], rows)


def gains(result: Sized) -> str:
    """What ADPO, and TRPO, gain over each DPO, and ADPO over TRPO and over its fixed anchor, in percent."""
    pairs = [(name, base) for base in DPO for name in (*_ADPO, "ppo", "trpo")]
    pairs += [(name, "trpo") for name in _ADPO]
    pairs += [(f"{each}-dynamic", f"{each}-fixed") for each in ("pairwise", "listwise", "kde")]
    rows = []
    for name, base in pairs:
        if name in result["win_mass"] and base in result["win_mass"]:
            cells = []
            for scenario in SCENARIOS:
                sure = certain(values(result, name, scenario) - values(result, base, scenario))
                text = f"{gain(result, name, base, [scenario]):+.0%}"
                cells.append(f"**{text}**" if sure else text)
            over = "fixed anchor" if base.endswith("-fixed") else SHORT.get(base, LABELS[base])
            rows.append([LABELS[name], over, *cells])
    return _markdown(["gain of", "over", *SCENARIOS], rows)


def note(found: BySize) -> str:
    """What the tables show, how it was learned, and on which machine."""
    result = next(iter(found.values()))
    settings = result["settings"]
    seconds = ", ".join(f"{each['seconds']:.0f} s" for each in found.values())
    machines = " and ".join(dict.fromkeys(each["machine"] for each in found.values()))
    seeds = len(settings["seeds"])
    return (
        f"Means of {seeds} seed{'s' if seeds > 1 else ''}, 95 % intervals from the bootstrap over seeds; gains are of means,"
        " bold where the interval of the difference, seed by seed, excludes 0. "
        f"{settings['items']} items, {settings['contexts']:,} contexts to learn from, {settings['steps']} steps of"
        f" {settings['batch_size']} contexts. All methods, scenarios and seeds: {seconds} with compiling for hidden layers of"
        f" {', '.join(map(str, found))}, on a {machines}."
    )


def show(found: Interval) -> str:
    """`estimate (low to high)`, or the estimate alone where there is no interval."""
    if np.isnan(found.low):
        return f"{found.estimate:.3f}"
    return f"{found.estimate:.3f} ({found.low:.3f} to {found.high:.3f})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    texts = 2 if "over" in head else 1
    dashes = ["---" if index < texts or not title else "---:" for index, title in enumerate(head)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, dashes, *rows))
