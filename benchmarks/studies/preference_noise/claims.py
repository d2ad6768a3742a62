"""What ADPO's paper says of its noise suite beside what the noise study finds, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.studies.preference_noise.scores import BySize, Sized, best_counts, gain, of_kind, values, whole
from benchmarks.studies.preference_noise.setting import DPO, SHORT
from maxent_rl.reports.statistics import mean

_WITHOUT = (*DPO, "dpo-soft-0.1")
_ANCHORED = ("pairwise", "listwise", "kde")


def claims(found: BySize) -> str:
    """The paper's statements and the same quantities here, for the largest network unless the row says otherwise."""
    result = found[max(found)]
    rows = [
        ("listwise is the best of DPO and ADPO", "11 of 12; in an earlier version 9", _listwise(result)),
        ("gain over DPO", "+12 to +93 %", _over_dpo(result)),
        ("gain of a dynamic over a fixed anchor", "+5 to +11 %", _dynamic(result)),
        ("heavy tails, KDE against DPO", "0.809 against 0.472", _heavy(result)),
        ("TRPO is the best of all", "8 of 12", f"{best_counts(result, list(result['win_mass']))['trpo']} of 12"),
        ("TRPO over DPO, all scenarios", "+2.5 to +10.6 %", _ranges(result, ["trpo"], of_kind())),
        ("listwise over DPO, shift", "+13.6 %", _means(result, _listwises(), "shift")),
        ("listwise over DPO, flips", "+9.3 %", _means(result, _listwises(), "flips")),
        ("PPO over DPO, shift", "-8.8 %", _means(result, ["ppo"], "shift")),
        (
            "from the smallest to the largest network",
            "ADPO 0.558 to 0.791, TRPO to 0.796, PPO 0.772 to 0.748",
            _sizes(found),
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (("claim", "paper", "here"), ("---",) * 3, *rows))


def _listwises() -> list[str]:
    return ["listwise-fixed", "listwise-dynamic"]


def _listwise(result: Sized) -> str:
    parts = []
    for anchor in ("fixed", "dynamic"):
        names = [*_WITHOUT, *[f"{each}-{anchor}" for each in _ANCHORED]]
        parts.append(f"{best_counts(result, names)[f'listwise-{anchor}']} of 12 with {anchor} anchors")
    return "; ".join(parts)


def _over_dpo(result: Sized) -> str:
    return "; ".join(f"listwise, {_anchor(name)}: {_ranges(result, [name], of_kind())}" for name in _listwises())


def _ranges(result: Sized, names: Sequence[str], among: Sequence[str]) -> str:
    """Smallest and largest gain in a scenario over each DPO."""
    parts = []
    for name in names:
        for base in DPO:
            found = [gain(result, name, base, [scenario]) for scenario in among]
            parts.append(f"{min(found):+.0%} to {max(found):+.0%} over {SHORT[base]}")
    return ", ".join(parts)


def _means(result: Sized, names: Sequence[str], kind: str) -> str:
    """Gain of the mean over the severities of a kind, over each DPO."""
    parts = []
    for name in names:
        over = ", ".join(f"{gain(result, name, base, of_kind(kind)):+.1%} over {SHORT[base]}" for base in DPO)
        parts.append(f"{_anchor(name)}: {over}" if "-" in name else over)
    return "; ".join(parts)


def _dynamic(result: Sized) -> str:
    parts = []
    for each in _ANCHORED:
        found = [gain(result, f"{each}-dynamic", f"{each}-fixed", [scenario]) for scenario in of_kind()]
        parts.append(f"{each} {min(found):+.0%} to {max(found):+.0%}")
    return ", ".join(parts)


def _heavy(result: Sized) -> str:
    severest = of_kind("heavy tails")[-1]

    def shown(name: str) -> str:
        return f"{values(result, name, severest).mean():.3f}"

    adpo = ", ".join(f"{_anchor(name)} {shown(name)}" for name in ("kde-fixed", "kde-dynamic"))
    return f"severest: {adpo} against " + ", ".join(f"{SHORT[base]} {shown(base)}" for base in DPO)


def _sizes(found: BySize) -> str:
    names = {"listwise-fixed": "listwise, fixed", "listwise-dynamic": "listwise, dynamic", "trpo": "TRPO", "ppo": "PPO"}
    smallest, largest = found[min(found)], found[max(found)]
    return ", ".join(
        f"{label} {mean(whole(smallest, name)):.3f} to {mean(whole(largest, name)):.3f}"
        for name, label in names.items()
    )


def _anchor(name: str) -> str:
    return f"{name.rpartition('-')[2]} anchor"
