"""Results: every number of a report, computed once, for tables, figures and the page alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.reports import statistics
from maxent_rl.reports.methods import Group, Study, align
from maxent_rl.reports.statistics import Floats, Interval, Scores, normalize, stratified_bootstrap
from maxent_rl.storage.reading import read_json

References: TypeAlias = Mapping[str, tuple[float, float]]

# Lower is better for the gap alone.
AGGREGATES: dict[str, Callable[[Scores], Floats]] = {
    "interquartile mean": statistics.interquartile_mean,
    "mean": statistics.mean,
    "median": statistics.median,
    "optimality gap": statistics.optimality_gap,
}
CONFIDENCE = 0.95
_MOST_SHOWN = 8  # more curves than that cannot be told apart
_MOST_PAIRED = 4  # up to here all pairs of methods are compared
_MOST_POINTS = 250
_THRESHOLDS = 101


@dataclasses.dataclass(frozen=True)
class Options:
    """What a report is asked for.

    Attributes:
      metric: the column of eval.csv; more is better.
      at: which evaluation counts: "final", "best" (each seed's own), or a number of environment steps.
      resamples: of the stratified bootstrap.
      seed: of its random numbers.
    """

    metric: str = "return_mean"
    at: str | int = "final"
    resamples: int = 2000
    seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """What one method reached on one environment.

    Attributes:
      group: its seeds.
      step: environment step of the evaluation that counts (the last one considered, for "best").
      scores: [seed] the metric there.
      iqm: [] their interquartile mean.
    """

    env: str
    method: str
    group: Group
    step: float
    scores: Floats
    iqm: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A statistic over training.

    Attributes:
      x: [point] environment steps, or seconds.
      iqm: [point] interquartile mean.
    """

    x: Floats
    iqm: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class Improvement:
    """How likely a run of `first` is better than one of `second`; `envs` are those that both have."""

    first: str
    second: str
    envs: tuple[str, ...]
    chance: Interval


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """All numbers of a report.

    Attributes:
      rows: by environment, then by method.
      shown: the methods that figures show.
      curves, clocks: return over steps and over seconds, by environment and method.
      references: the returns that count as 0 and 1, by environment.
      given_references: whether these were given, or come from the runs themselves.
      common: the environments that all methods were scored on; aggregates are over these.
      aggregates: by method, by the name of the statistic; empty with fewer than two common environments.
      aggregate_curves: normalised scores over training, by method; likewise.
      thresholds: [threshold] of the profiles.
      profiles: [threshold] by method, over the common environments.
      improvements: comparisons of two methods.
      warnings: sentences that a reader must know to read the numbers rightly.
    """

    study: Study
    options: Options
    rows: tuple[Row, ...]
    shown: tuple[str, ...]
    curves: dict[tuple[str, str], Curve]
    clocks: dict[tuple[str, str], Curve]
    references: References
    given_references: bool
    common: tuple[str, ...]
    aggregates: dict[str, dict[str, Interval]]
    aggregate_curves: dict[str, Curve]
    thresholds: Floats
    profiles: dict[str, Interval]
    improvements: tuple[Improvement, ...]
    warnings: tuple[str, ...]

    def normalized(self, row: Row) -> Floats:
        """[] a row's interquartile mean on the scale of its environment's references."""
        return normalize(row.iqm.estimate, *self.references[row.env])


def read_references(path: Path) -> dict[str, tuple[float, float]]:
    """Reads the returns that count as 0 and as 1: JSON, `{"HalfCheetah-v5": [low, high], ...}`.

    Raises:
      InvalidSettingError: the file is missing or says something else.
    """
    try:
        entries = read_json(path)
        found = {str(env): (float(low), float(high)) for env, (low, high) in entries.items()}
    except OSError as error:
        raise InvalidSettingError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidSettingError(
            f'{path} must be JSON with two returns for each environment, such as {{"Pendulum-v1": [-1500, -150]}}.'
        ) from error
    for low, high in found.values():
        normalize(np.zeros(0), low, high)
    return found


def compute(study: Study, options: Options, references: References | None = None) -> Results:
    """Computes all numbers of a report.

    Args:
      study: what is compared.
      options: which numbers.
      references: returns that count as 0 and 1 for each environment; None takes the lowest and the highest evaluation of
        all counted seeds in the study.

    Raises:
      InvalidSettingError: `references` lacks an environment, or no seed has reached the step that counts.
    """
    estimate = partial(stratified_bootstrap, resamples=options.resamples, seed=options.seed, confidence=CONFIDENCE)
    iqm = partial(estimate, statistics.interquartile_mean)
    rows, warnings = _score(study, options, iqm)
    scale = _references(study, references)
    scored = {(row.env, row.method): normalize(row.scores, *scale[row.env]) for row in rows}
    methods = tuple(method for method in study.methods if any(row.method == method for row in rows))
    common = tuple(env for env in study.envs if all((env, method) in scored for method in methods))
    by_method = {method: [scored[env, method] for env in common] for method in methods} if common else {}
    shown = _shown(methods, scored)
    several = by_method if len(common) > 1 else {}
    thresholds = _thresholds(by_method)
    profile = partial(statistics.performance_profile, thresholds=thresholds)
    return Results(
        study=study,
        options=options,
        rows=rows,
        shown=shown,
        curves={key: _curve(iqm, *_thin(group.steps, group.values)) for key, group in _pick(study, shown)},
        clocks={key: curve for key, group in _pick(study, shown) if (curve := _clock(iqm, group)) is not None},
        references=scale,
        given_references=references is not None,
        common=common,
        aggregates={
            method: {name: estimate(statistic, scores) for name, statistic in AGGREGATES.items()}
            for method, scores in several.items()
        },
        aggregate_curves={
            method: curve
            for method in shown
            if method in several and (curve := _aggregate_curve(iqm, study, method, common, scale)) is not None
        },
        thresholds=thresholds,
        profiles={method: estimate(profile, scores) for method, scores in by_method.items() if method in shown},
        improvements=_improvements(estimate, scored, shown),
        warnings=(*warnings, *_coverage_warnings(methods, common, study, shown)),
    )


def _score(study: Study, options: Options, iqm: Callable[[Scores], Interval]) -> tuple[tuple[Row, ...], list[str]]:
    """What counts of each group, and what to say about groups that are not comparable."""
    rows, warnings = [], []
    for env in study.envs:
        ends = {}
        for method in study.methods:
            if (group := study.groups.get((env, method))) is None:
                continue
            index = len(group.steps) - 1
            if isinstance(options.at, int):
                index = int(np.searchsorted(group.steps, options.at, side="right")) - 1
                if index < 0 or group.steps[-1] < options.at:
                    span = f"evaluations from step {group.steps[0]:,.0f} to {group.steps[-1]:,.0f}"
                    warnings.append(f"{method} on {env} has {span}: it has no score at step {options.at:,}.")
                    continue
            scores = group.values.max(axis=1) if options.at == "best" else group.values[:, index]
            rows.append(Row(env, method, group, float(group.steps[index]), scores, iqm([scores])))
            ends[method] = float(group.steps[index])
            if group.unfinished:
                warnings.append(f"{method} on {env}: {group.unfinished} of {len(group.members)} seeds are unfinished.")
        if len(set(ends.values())) > 1:
            steps = ", ".join(f"{method} at {step:,.0f}" for method, step in ends.items())
            least = f"{min(ends.values()):.0f}"
            warnings.append(
                f"On {env} the scores are of different steps ({steps}); --at {least} compares like with like."
            )
    if not rows:
        raise InvalidSettingError(
            f"No run has an evaluation at step {options.at:,} or spans it: name another one with --at."
        )
    return tuple(rows), warnings


def _references(study: Study, given: References | None) -> dict[str, tuple[float, float]]:
    found = {}
    for env in study.envs:
        if given is not None:
            if env not in given:
                raise InvalidSettingError(
                    f"The reference returns lack {env!r}; they have: {', '.join(given) or 'none'}."
                )
            found[env] = given[env]
            continue
        values = np.concatenate([group.values.ravel() for (name, _), group in study.groups.items() if name == env])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        found[env] = (low, high if high > low else low + 1.0)
    return found


def _curve(iqm: Callable[[Scores], Interval], x: Floats, values: Floats) -> Curve:
    return Curve(x, iqm([values.T]))


def _clock(iqm: Callable[[Scores], Interval], group: Group) -> Curve | None:
    """The return over seconds; None where a run recorded no times, or its seeds share none."""
    seconds = [member.seconds for member in group.members]
    if not all(np.isfinite(own).all() for own in seconds):
        return None
    x, values = align(seconds, [member.values for member in group.members])
    return _curve(iqm, *_thin(x, values)) if x.size else None


def _aggregate_curve(
    iqm: Callable[[Scores], Interval], study: Study, method: str, envs: Sequence[str], scale: References
) -> Curve | None:
    groups = [study.groups[env, method] for env in envs]
    # Aligning is of rows: all seeds of all environments, told apart again afterwards.
    positions = [group.steps for group in groups for _ in group.members]
    curves = [row for env, group in zip(envs, groups, strict=True) for row in normalize(group.values, *scale[env])]
    x, values = _thin(*align(positions, curves))
    if not x.size:
        return None
    ends = np.cumsum([len(group.members) for group in groups])[:-1]
    return Curve(x, iqm([part.T for part in np.split(values, ends)]))


def _thin(x: Floats, values: Floats) -> tuple[Floats, Floats]:
    """As many points as a figure can show, the last one among them."""
    if len(x) <= _MOST_POINTS:
        return x, values
    kept = np.unique(np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(int))
    return x[kept], values[:, kept]


def _thresholds(scores: Mapping[str, Scores]) -> Floats:
    values = np.concatenate([task for tasks in scores.values() for task in tasks]) if scores else np.zeros(0)
    values = values[np.isfinite(values)]
    low, high = (min(values.min(), 0.0), max(values.max(), 1.0)) if values.size else (0.0, 1.0)
    return np.linspace(low, high, _THRESHOLDS)


def _improvements(
    estimate: Callable[..., Interval], scored: Mapping[tuple[str, str], Floats], shown: Sequence[str]
) -> tuple[Improvement, ...]:
    """All pairs of a few methods; of more, the best one against each other one."""
    ranked = sorted(shown, key=lambda method: -_rank(method, scored))
    pairs = combinations(ranked, 2) if len(ranked) <= _MOST_PAIRED else ((ranked[0], other) for other in ranked[1:])
    found = []
    for first, second in pairs:
        envs = tuple(env for env, method in scored if method == first and (env, second) in scored)
        if envs:
            sides = ([scored[env, method] for env in envs] for method in (first, second))
            chance = estimate(statistics.probability_of_improvement, *sides)
            found.append(Improvement(first, second, envs, chance))
    return tuple(found)


def _rank(method: str, scored: Mapping[tuple[str, str], Floats]) -> float:
    value = float(statistics.interquartile_mean([scores for (_, name), scores in scored.items() if name == method]))
    return -math.inf if math.isnan(value) else value


def _shown(methods: tuple[str, ...], scored: Mapping[tuple[str, str], Floats]) -> tuple[str, ...]:
    best = set(sorted(methods, key=lambda method: -_rank(method, scored))[:_MOST_SHOWN])
    return tuple(method for method in methods if method in best)


def _pick(study: Study, shown: Sequence[str]) -> list[tuple[tuple[str, str], Group]]:
    return [(key, group) for key, group in study.groups.items() if key[1] in shown]


def _coverage_warnings(methods: Sequence[str], common: Sequence[str], study: Study, shown: Sequence[str]) -> list[str]:
    warnings = []
    if not common and len(methods) > 1:
        warnings.append("No environment has a score of every method: there are no aggregates and no profiles.")
    elif len(common) < len(study.envs):
        missing = ", ".join(env for env in study.envs if env not in common)
        warnings.append(f"Not every method has a score on {missing}: aggregates and profiles are over the others.")
    if len(shown) < len(methods):
        warnings.append(f"Figures show the {len(shown)} best of {len(methods)} methods; the tables have all of them.")
    return warnings
