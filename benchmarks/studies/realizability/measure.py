"""Processes that are drawn, what the diagnostics say of them, and how LSTD errs on their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.measure import versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.realizability.setting import (
    ACTIONS,
    DISCOUNT,
    EDGES,
    FEATURES,
    KINDS,
    PAIRS,
    STATES,
    Realizability,
)
from maxent_rl.data.measures.bellman import (
    Floats,
    Moments,
    concentrability,
    exact_moments,
    lstd,
    misalignment,
    predicted_error,
)
from maxent_rl.tabular.occupancy import occupancy


class Process(NamedTuple):
    """A process, its data and its values; pairs are states times actions.

    Attributes:
      following: [states, actions, states] probabilities of the next state.
      policy: [states, actions] to evaluate.
      start: [pairs] of the first pair.
      data: [pairs] share of each in the data, mu.
      features: [pairs, features].
      values: [pairs] Q^pi, scaled to a range of 1.
      reward: [pairs].
    """

    following: Floats
    policy: Floats
    start: Floats
    data: Floats
    features: Floats
    values: Floats
    reward: Floats

    @property
    def transition(self) -> Floats:
        """[pairs, pairs] P^pi."""
        return self.following.reshape(PAIRS, STATES) @ _spread(self.policy)

    def moments(self, weights: Floats) -> Moments:
        """Exact moments under shares [pairs] of pairs."""
        return exact_moments(self.features, self.transition, weights, self.reward, DISCOUNT)


def _spread(policy: Floats) -> Floats:
    """[states, pairs] from each state to its pairs."""
    spread: Floats = np.einsum("st,sa->sta", np.eye(STATES), policy).reshape(STATES, PAIRS)
    return spread


def draw(kind: str, rng: np.random.Generator) -> Process:
    """Draws a process with features of a kind."""
    following = rng.dirichlet(np.full(STATES, 0.2), size=(STATES, ACTIONS))
    policy = rng.dirichlet(np.ones(ACTIONS), size=STATES)
    other = rng.dirichlet(np.full(ACTIONS, 0.1), size=STATES)
    mix = rng.random()
    behaviour = (1.0 - mix) * policy + mix * other
    steps = following.reshape(PAIRS, STATES)
    data = occupancy(steps @ _spread(behaviour), (behaviour / STATES).ravel(), 0.99)
    features = rng.normal(size=(PAIRS, FEATURES))
    if kind == "smoothed":
        ahead = steps @ _spread(policy) @ features
        share = rng.random()
        features = (1.0 - share) * ahead / ahead.std() + share * features
    values = features @ rng.normal(size=FEATURES)
    values /= np.ptp(values)
    reward = values - DISCOUNT * steps @ _spread(policy) @ values
    return Process(following, policy, (policy / STATES).ravel(), data, features, values, reward)


class Predicted(NamedTuple):
    """What the diagnostics say of a process, exactly."""

    beta: float
    amplification: float
    concentrability: float
    target: Floats


def predict(process: Process) -> Predicted:
    """The exact diagnostics."""
    target = occupancy(process.transition, process.start, DISCOUNT)
    moments = process.moments(process.data)
    found = misalignment(moments)
    return Predicted(
        found.beta, found.amplification, concentrability(process.moments(target).full, moments.full), target
    )


def errors(process: Process, target: Floats, options: Realizability, rng: np.random.Generator) -> tuple[float, float]:
    """Root mean squares over data sets of LSTD's error: of the start value, and of all values under the occupancy [pairs]."""
    size = options.transitions
    cumulative = process.following.reshape(PAIRS, STATES).cumsum(axis=1)
    ahead = np.einsum("sa,sad->sd", process.policy, process.features.reshape(STATES, ACTIONS, FEATURES))
    start, everywhere = [], []
    for _ in range(options.datasets):
        pairs = rng.choice(PAIRS, size, p=process.data / process.data.sum())
        states = (rng.random(size)[:, None] > cumulative[pairs]).sum(axis=1).clip(max=STATES - 1)
        phi, phi2 = process.features[pairs], ahead[states]
        moments = Moments(
            phi.T @ phi / size, phi.T @ phi2 / size, phi2.T @ phi2 / size, phi.T @ process.reward[pairs] / size, DISCOUNT
        )  # fmt: skip
        error = process.features @ lstd(moments) - process.values
        start.append(float(process.start @ error) ** 2)
        everywhere.append(float(target @ error**2))
    return float(np.sqrt(np.mean(start))), float(np.sqrt(np.mean(everywhere)))


def learn(kind: str, options: Realizability) -> list[dict[str, float]]:
    """Draws processes and learns from those that are kept."""
    found: list[dict[str, float]] = []
    counts = np.zeros(len(EDGES) - 1, int)
    for seed in range(options.tries):
        rng = np.random.default_rng([KINDS.index(kind), seed])
        process = draw(kind, rng)
        said = predict(process)
        place = int(np.searchsorted(EDGES, said.beta, side="right")) - 1
        if not 0 <= place < len(counts) or counts[place] == options.kept:
            continue
        counts[place] += 1
        start, everywhere = errors(process, said.target, options, rng)
        predicted = predicted_error(
            said.concentrability, said.amplification, FEATURES, options.transitions, DISCOUNT, 1.0
        )
        found.append(
            {
                "beta": said.beta,
                "amplification": said.amplification,
                "concentrability": said.concentrability,
                "predicted_error": predicted,
                "start_value_error": start,
                "value_error": everywhere,
            }
        )
    return found


def measure(unit: Unit, plan: Realizability, work: Path) -> Measured:
    """Draws processes of a kind, learns from those that are kept, and correlates their errors with what was predicted."""
    processes = learn(unit.contender, plan)
    return Measured([Seed(0, correlations(processes), {"processes": processes})], versions("maxent_rl", "numpy"))


def correlations(processes: list[dict[str, float]]) -> dict[str, float]:
    """Rank correlations of both errors with what is said to predict them."""
    betas = [each["beta"] for each in processes]
    found: dict[str, float] = {"processes": len(processes), "least beta": min(betas), "largest beta": max(betas)}
    for error in ("start_value_error", "value_error"):
        for said in ("predicted_error", "concentrability", "amplification"):
            name = f"{error.removesuffix('_error')} with {said.removesuffix('_error')}"
            found[name] = spearman(*(np.array([each[key] for each in processes]) for key in (error, said)))
    return found


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Rank correlation of numbers without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    one, other = (rank - rank.mean() for rank in ranks)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))
