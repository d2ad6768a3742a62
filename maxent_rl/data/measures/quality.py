"""What a data set is worth: trajectory quality (TQ), state-action coverage (SACo), and what the field asks for beside them.

Source: A Dataset Perspective on Offline Reinforcement Learning (arXiv 2111.04714): TQ is the mean return between a random
policy's and an expert's, SACo the number of different state-action pairs beside that of a reference, the data of the online
run that the data set comes from. Which offline methods work follows the two.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.passes import Source, chunks_of
from maxent_rl.data.measures.coverage import (
    EDGES,
    EXACT_LIMIT,
    Binning,
    Keys,
    Limits,
    Overlap,
    PairCounter,
    collision_probability,
    count_pairs,
    overlap,
    plugin_entropy,
    subsamples,
)
from maxent_rl.data.measures.findings import favoured
from maxent_rl.data.measures.returns import Distribution, record_episodes
from maxent_rl.errors import DataError, InvalidSettingError

SENSITIVITY_EDGES = (5, 10, 20, 50, 100)

_DRAWS = 5
_LOST = 0.95  # share of different pairs among all transitions above which nearly every pair is new, whatever the data


def trajectory_quality(mean_return: float, random_return: float, expert_return: float) -> float:
    """TQ = (g - g_random) / (g_expert - g_random), unclipped.

    Args:
      mean_return: g, the mean undiscounted return of the data set's complete episodes.
      random_return: that of a random policy.
      expert_return: the best there is to compare with; in the paper's tables the best evaluation of the online training.

    Returns:
      TQ; NaN, with a warning, where a return is not a number or both references are equal.
    """
    numbers = (mean_return, random_return, expert_return)
    if not all(map(math.isfinite, numbers)) or expert_return == random_return:
        warnings.warn(
            f"TQ is undefined for a mean return of {mean_return:g}, a random one of {random_return:g} and an expert one of "
            f"{expert_return:g}.",
            RuntimeWarning,
            stacklevel=2,
        )
        return math.nan
    return (mean_return - random_return) / (expert_return - random_return)


def coverage_ratio(distinct: float, reference_distinct: float) -> float:
    """SACo = u(D) / u(D_ref), of data sets of equal size; may exceed 1."""
    return distinct / reference_distinct


def log_coverage_ratio(distinct: float, reference_distinct: float) -> float:
    """The logarithmic form, lSACo = log u(D) / log u(D_ref); NaN where the reference has one pair alone."""
    return math.log(distinct) / math.log(reference_distinct) if reference_distinct != 1 else math.nan


@dataclasses.dataclass(frozen=True)
class Saco:
    """Coverage of a data set relative to a reference, at equal sizes.

    Attributes:
      saco: u(D) / u(D_ref).
      log_saco: log u(D) / log u(D_ref).
      distinct: u(D), at the size compared.
      reference_distinct: u(D_ref), at the size compared.
      size: transitions of each that are compared: those of the smaller data set.
      draws: random subsets of the larger one over which the numbers are means; 0 for equal sizes.
      spread: standard deviation of `saco` over the draws.
      standard_error: of `saco`, absolute, from counting by sketches; 0 where counts are exact.
      edges: of each coordinate's bins.
      resolution_lost: whether nearly every transition is a pair of its own, so that the number says little.
    """

    saco: float
    log_saco: float
    distinct: float
    reference_distinct: float
    size: int
    draws: int
    spread: float
    standard_error: float
    edges: int
    resolution_lost: bool


def state_action_coverage(
    data: Source,
    reference: Source,
    binning: Binning | None = None,
    *,
    draws: int = _DRAWS,
    seed: int = 0,
    exact_limit: int = EXACT_LIMIT,
) -> Saco:
    """SACo and lSACo. Of unequal data sets, random subsets of the larger one, as large as the smaller, are compared.

    Args:
      data: the data set.
      reference: the one to compare with, in the paper all transitions of the online training.
      binning: of both; by default 100 edges between the reference's limits.
      draws: subsets.
      seed: decides them.
      exact_limit: transitions up to which pairs are counted exactly, and by HyperLogLog beyond.
    """
    return _coverage(data, reference, binning or Binning(Limits.of(reference)), draws, seed, exact_limit)


def _coverage(data: Source, reference: Source, binning: Binning, draws: int, seed: int, exact_limit: int) -> Saco:
    counted = (count_pairs(data, binning, exact_limit), count_pairs(reference, binning, exact_limit))
    return _compare((data, reference), counted, binning, draws, seed)


def _compare(
    sources: tuple[Source, Source], counted: tuple[PairCounter, PairCounter], binning: Binning, draws: int, seed: int
) -> Saco:
    size = min(counter.size for counter in counted)
    sides = []
    for source, counter in zip(sources, counted, strict=True):
        if counter.size == size:
            sides.append([counter.distinct()])
            continue
        keys = [counter.keys] if counter.exact else _all_keys(source, binning)
        rng = np.random.default_rng(seed)
        drawn = subsamples(keys, counter.size, size, draws, rng, counter.exact_limit)
        sides.append([subset.distinct() for subset in drawn])
    own, others = (np.array([count.value for count in side]) for side in sides)
    relative = math.hypot(*(side[0].relative_error for side in sides))
    pairs = [(float(first), float(second)) for first, second in zip(*np.broadcast_arrays(own, others), strict=True)]
    ratios = [coverage_ratio(*pair) for pair in pairs]
    logs = [log_coverage_ratio(*pair) for pair in pairs]
    saco = float(np.mean(ratios))
    return Saco(
        saco=saco,
        log_saco=float(np.mean(logs)),
        distinct=float(own.mean()),
        reference_distinct=float(others.mean()),
        size=size,
        draws=0 if counted[0].size == counted[1].size else draws,
        spread=float(np.std(ratios)),
        standard_error=saco * relative,
        edges=binning.edges,
        resolution_lost=bool(max(own.mean(), others.mean()) > _LOST * size),
    )


def _all_keys(source: Source, binning: Binning) -> Iterator[Keys]:
    for chunk in chunks_of(source):
        yield binning.keys(chunk)


@dataclasses.dataclass(frozen=True)
class Quality:
    """All that is measured of a data set; NaN or None where it could not be, and `notes` say why.

    Attributes:
      size: transitions.
      env: name of the environment, where the file says it.
      tq: trajectory quality.
      random_return: its lower reference.
      expert_return: its upper reference.
      coverage: SACo and what belongs to it; None without a reference.
      sensitivity: the same for other numbers of edges.
      distinct: u(D), different pairs among all transitions.
      distinct_error: its standard error, relative; 0 where it was counted.
      collision_probability: a bound on the probability that the exact count is too low.
      entropy: of the pairs' shares (plug-in), in nats; None where they were not counted exactly.
      perplexity: its exponential, at most `distinct`.
      overlap: with the reference.
      action_entropy: in nats, of discrete actions, or of each entry's bins.
      returns: of the complete episodes.
      lengths: of the complete episodes.
      time_limits: share of the complete episodes that a time limit cut.
      tail: share of the transitions that belong to no complete episode.
      edges: of each coordinate's bins.
      shared_limits: whether the bins lie between the reference's limits, and not the data set's own.
      notes: what is missing or doubtful, a sentence each.
    """

    size: int
    env: str | None
    tq: float
    random_return: float | None
    expert_return: float | None
    coverage: Saco | None
    sensitivity: tuple[Saco, ...]
    distinct: float
    distinct_error: float
    collision_probability: float
    entropy: float | None
    perplexity: float | None
    overlap: Overlap | None
    action_entropy: tuple[float, ...]
    returns: Distribution
    lengths: Distribution
    time_limits: float
    tail: float
    edges: int
    shared_limits: bool
    notes: tuple[str, ...]

    @property
    def saco(self) -> float:
        """SACo; NaN without a reference."""
        return math.nan if self.coverage is None else self.coverage.saco

    @property
    def verdict(self) -> str:
        """Which methods the paper's findings favour, in one line."""
        line = favoured(self.tq, self.saco)
        if self.coverage is not None and self.coverage.resolution_lost:
            line += f" Doubtful: at {self.edges} edges SACo has lost its resolution."
        return line


def measure(
    data: Source,
    reference: Source | None = None,
    *,
    random_return: float | None = None,
    expert_return: float | None = None,
    edges: int = EDGES,
    sensitivity: tuple[int, ...] = SENSITIVITY_EDGES,
    discount: float = 1.0,
    draws: int = _DRAWS,
    seed: int = 0,
    exact_limit: int = EXACT_LIMIT,
) -> Quality:
    """Measures a data set.

    Args:
      data: the data set or its chunks.
      reference: what coverage is compared with; its limits are those of the bins.
      random_return: mean return of a random policy; the data set's `about` may have it ("random_return").
      expert_return: of an expert; the data set's `about` may have it ("expert_return").
      edges: of each coordinate's bins.
      sensitivity: further numbers of edges for which SACo is given.
      discount: of later rewards in returns; 1 in the paper's tables.
      draws: random subsets of the larger data set where sizes differ.
      seed: decides them.
      exact_limit: transitions up to which pairs are counted exactly.

    Raises:
      DataError: the data is empty or not finite, or data and reference do not fit together.
    """
    binning = Binning(Limits.of(data if reference is None else reference), edges)
    first = next(chunks_of(data), None)
    if first is None:
        raise DataError("The data set has no transitions to measure.")
    episodes = record_episodes(data, discount)
    random_return = _reference(random_return, first.about.get("random_return"))
    expert_return = _reference(expert_return, first.about.get("expert_return"))
    notes: list[str] = []
    tq = _quality(episodes.mean_return, random_return, expert_return, notes)
    counter, actions = _count_all(data, binning, exact_limit)
    count, coverage, common = counter.distinct(), None, None
    entropy = plugin_entropy(counter.frequencies()[1]) if counter.exact else None
    table: tuple[Saco, ...] = ()
    if reference is not None:
        coverage, common = _against(data, reference, counter, binning, draws, seed)
        del counter  # as large as the data; the other bins need as much again
        others = {number: Binning(binning.limits, number) for number in sensitivity if number != edges}
        found = {key: _coverage(data, reference, each, draws, seed, exact_limit) for key, each in others.items()}
        table = tuple(found.get(number, coverage) for number in sensitivity)
    _add_notes(notes, episodes.size, count.value, coverage, entropy)
    return Quality(
        size=episodes.size, env=first.env, tq=tq, random_return=random_return, expert_return=expert_return,
        coverage=coverage, sensitivity=table, distinct=count.value, distinct_error=count.relative_error,
        collision_probability=0.0 if count.relative_error else collision_probability(count.value),
        entropy=entropy, perplexity=None if entropy is None else math.exp(entropy), overlap=common,
        action_entropy=tuple(plugin_entropy(column) for column in actions),
        returns=Distribution.of(episodes.returns), lengths=Distribution.of(episodes.lengths),
        time_limits=episodes.time_limits / max(len(episodes.returns), 1), tail=episodes.tail / episodes.size,
        edges=edges, shared_limits=reference is not None, notes=tuple(notes),
    )  # fmt: skip


def _against(
    data: Source, reference: Source, counter: PairCounter, binning: Binning, draws: int, seed: int
) -> tuple[Saco, Overlap]:
    others = count_pairs(reference, binning, counter.exact_limit)
    return _compare((data, reference), (counter, others), binning, draws, seed), overlap(counter, others)


def _reference(given: float | None, stored: object) -> float | None:
    if given is None and isinstance(stored, (int, float)) and not isinstance(stored, bool):
        given = float(stored)
    if given is not None and not math.isfinite(given):
        raise InvalidSettingError(f"A reference return must be a finite number, got {given}.")
    return given


def _quality(mean: float, random_return: float | None, expert_return: float | None, notes: list[str]) -> float:
    if math.isnan(mean):
        notes.append("TQ cannot be computed: the data set has no complete episode.")
    elif random_return is None or expert_return is None:
        absent = {"a random policy's": random_return, "an expert's": expert_return}
        words = " and ".join(name for name, value in absent.items() if value is None)
        notes.append(
            f"TQ cannot be computed: {words} return is not known (--random-return, --expert-return, --random)."
        )
    elif random_return == expert_return:
        notes.append(f"TQ cannot be computed: the random and the expert return are both {expert_return:g}.")
    else:
        return trajectory_quality(mean, random_return, expert_return)
    return math.nan


def _count_all(data: Source, binning: Binning, exact_limit: int) -> tuple[PairCounter, list[NDArray[np.int64]]]:
    """Pairs, and how often each action, or each bin of each of its entries, occurs: [entries] of [bins]."""
    counter = PairCounter(exact_limit)
    actions: list[NDArray[np.int64]] = []
    for chunk in chunks_of(data):
        counter.add(binning.keys(chunk))
        for entry, column in enumerate(binning.action_bins(chunk).T):
            if entry == len(actions):
                actions.append(np.zeros(0, np.int64))
            longest = max(len(actions[entry]), int(column.max()) + 1)
            grown = np.bincount(column, minlength=longest)
            grown[: len(actions[entry])] += actions[entry]
            actions[entry] = grown
    return counter, actions


def _add_notes(notes: list[str], size: int, distinct: float, coverage: Saco | None, entropy: float | None) -> None:
    if coverage is None:
        notes.append(
            "SACo cannot be computed without a reference (--reference); bins lie between the data's own limits."
        )
    if distinct > _LOST * size or (coverage is not None and coverage.resolution_lost):
        notes.append(
            "Nearly every transition is a pair of its own at these bins: SACo has lost its resolution; take fewer edges "
            "(5 to 10)."
        )
    if entropy is None:
        notes.append("The entropy of the pairs is not given: they were estimated, not counted.")
