"""Tables of the noise study, as Markdown, and their place in benchmarks/README.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import BenchmarkError
from preference_noise_methods import ALL
from preference_noise_task import KINDS, SCENARIOS
from render import insert

from maxent_rl.reports.statistics import Interval, mean, stratified_bootstrap

Result = Mapping[str, Any]
Results = Mapping[int, Result]
"""By units of the hidden layers."""

FOLDER = "preference_noise"
MARKERS = "<!-- preference-noise:begin -->", "<!-- preference-noise:end -->"

LABELS = {
    "reference": "reference, not trained further",
    "dpo-hard-0.1": "DPO, hard labels, β 0.1",
    "dpo-hard-1": "DPO, hard labels, β 1",
    "dpo-hard-free": "DPO, hard labels, β 1, no reference",
    "dpo-soft-0.1": "DPO, soft labels, β 0.1",
    "ipo-0.1": "IPO, β 0.1",
    "robust-dpo-0.1": "robust DPO, β 0.1, ε 0.1",
    "pairwise-fixed": "ADPO pairs, fixed anchor",
    "pairwise-dynamic": "ADPO pairs, dynamic anchor",
    "listwise-fixed": "ADPO listwise, fixed anchor",
    "listwise-dynamic": "ADPO listwise, dynamic anchor",
    "kde-fixed": "ADPO KDE, fixed anchor",
    "kde-dynamic": "ADPO KDE, dynamic anchor",
    "ppo": "PPO",
    "trpo": "TRPO",
}
_WHAT = {
    "pairwise-fixed": "is DPO with soft labels, β 1.25 and the reference",
    "dpo-hard-0.1": "is ADPO pairs with hard labels, τ 10, fixed anchor",
    "dpo-hard-1": "is ADPO pairs with hard labels, τ 1, fixed anchor",
    "dpo-hard-free": "is ADPO pairs with hard labels, τ 1, uniform anchor",
    "dpo-soft-0.1": "is ADPO pairs with soft labels, τ 10, fixed anchor",
}
DPO = ("dpo-hard-0.1", "dpo-hard-1", "dpo-hard-free")
_ADPO = ("pairwise-fixed", "pairwise-dynamic", "listwise-fixed", "listwise-dynamic", "kde-fixed", "kde-dynamic")
SHORT = {"dpo-hard-0.1": "DPO β 0.1", "dpo-hard-1": "DPO β 1", "dpo-hard-free": "DPO without reference"}


def file_name(items: int, hidden: int) -> str:
    """Where the results of a size stand."""
    return f"items-{items}-hidden-{hidden}.json"


def load(results: Path, items: int) -> dict[int, Result]:
    """What has been measured, by units of the hidden layers."""
    read = (json.loads(path.read_text(encoding="utf-8")) for path in (results / FOLDER).glob(file_name(items, "*")))  # type: ignore[arg-type]
    return dict(sorted((each["settings"]["hidden"], each) for each in read))


def render(results: Path, readme: Path, items: int) -> None:
    """Writes tables and figure of what has been measured.

    Args:
      results: folder with the results; the figure goes there too.
      readme: file with the markers.
      items: of the task.

    Raises:
      BenchmarkError: nothing has been measured, or the markers are missing.
    """
    found = load(results, items)
    if not found:
        raise BenchmarkError(f"There are no results of {items} items in {results / FOLDER}: measure first.")
    from preference_noise_figure import draw

    figure = results / f"{FOLDER}.png"
    draw(found, figure)
    print(f"Written: {figure}", file=sys.stderr)
    hidden, largest = max(found.items())
    picture = f"![WinMass of every method in every scenario](results/{figure.name})"
    parts = [overview(found), f"Hidden layers of {hidden}:", scenarios(largest), picture, gains(largest)]
    if set(ALL) <= set(largest["win_mass"]):
        from preference_noise_claims import claims

        parts.append(claims(found))
    text = "\n\n".join([*parts, note(found)])
    print(text)
    if not insert(readme, text, MARKERS):
        raise BenchmarkError(f"{readme} has no lines {MARKERS[0]} and {MARKERS[1]} to write the tables between.")
    print(f"Written: {readme}", file=sys.stderr)


def overview(found: Results) -> str:
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


def scenarios(result: Result) -> str:
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


def gains(result: Result) -> str:
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


def note(found: Results) -> str:
    """What the tables show, how it was learned, and on which machine."""
    result = next(iter(found.values()))
    settings = result["settings"]
    seconds = ", ".join(f"{each['seconds']:.0f} s" for each in found.values())
    machines = " and ".join(dict.fromkeys(each["hardware"]["summary"] for each in found.values()))
    seeds = len(settings["seeds"])
    return (
        f"Means of {seeds} seed{'s' if seeds > 1 else ''}, 95 % intervals from the bootstrap over seeds; gains are of means,"
        " bold where the interval of the difference, seed by seed, excludes 0. "
        f"{settings['items']} items, {settings['contexts']:,} contexts to learn from, {settings['steps']} steps of"
        f" {settings['batch_size']} contexts. All methods, scenarios and seeds: {seconds} with compiling for hidden layers of"
        f" {', '.join(map(str, found))}, on a {machines}."
    )


def values(result: Result, name: str, scenario: str, metric: str = "win_mass") -> np.ndarray:
    """[seed] of a method in a scenario."""
    return np.asarray(result[metric][name][scenario], np.float64)


def whole(result: Result, name: str, metric: str = "win_mass", kind: str | None = None) -> list[np.ndarray]:
    """[seed] of a method for each scenario, of one kind or of all."""
    return [values(result, name, scenario, metric) for scenario in of_kind(kind)]


def of_kind(kind: str | None = None) -> list[str]:
    """The scenarios of a kind, or all."""
    kinds = KINDS if kind is None else (kind,)
    return [scenario for scenario in SCENARIOS if any(scenario.startswith(each) for each in kinds)]


def leader(result: Result, scenario: str, names: Sequence[str]) -> str:
    """Who has the highest mean WinMass in a scenario."""
    return max(names, key=lambda name: float(values(result, name, scenario).mean()))


def best_counts(result: Result, names: Sequence[str]) -> dict[str, int]:
    """In how many scenarios each method has the highest mean WinMass among these."""
    leaders = [leader(result, scenario, names) for scenario in SCENARIOS]
    return {name: leaders.count(name) for name in names}


def gain(result: Result, name: str, base: str, among: Sequence[str]) -> float:
    """How much higher the mean WinMass over some scenarios is than that of another method, as a share of the latter."""
    of = {each: np.mean([values(result, each, scenario).mean() for scenario in among]) for each in (name, base)}
    return float(of[name] / of[base] - 1.0)


def interval(scores: Sequence[np.ndarray]) -> Interval:
    """Mean over scenarios and seeds, with its interval over seeds."""
    return stratified_bootstrap(mean, list(scores))


def certain(differences: np.ndarray) -> bool:
    """Whether the interval of the mean difference [seed] leaves out 0."""
    found = interval([differences])
    return bool(found.low > 0 or found.high < 0)


def show(found: Interval) -> str:
    """`estimate (low to high)`, or the estimate alone where there is no interval."""
    if np.isnan(found.low):
        return f"{found.estimate:.3f}"
    return f"{found.estimate:.3f} ({found.low:.3f} to {found.high:.3f})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    texts = 2 if "over" in head else 1
    dashes = ["---" if index < texts or not title else "---:" for index, title in enumerate(head)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, dashes, *rows))
