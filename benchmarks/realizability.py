"""Do the diagnostics predict the error of values learned off-policy? `python benchmarks/realizability.py`.

Random processes of 20 states and 2 actions, linear values of 5 features that hold Q^pi exactly, data of a policy somewhere
between the target policy and another one. Of each process the exact mis-alignment (beta) and concentrability (C) are known;
LSTD learns from 100 data sets of 500 transitions, and its error is set beside `predicted_error`. As beta of processes drawn at
random is seldom near 0 or 1, as many processes are kept of each range of beta, where so many are found; nothing is looked at
but beta.

    random      features are independent normal numbers
    smoothed    a part of each feature, drawn for each process, is what the process itself makes of it one step ahead

Rank correlations (Spearman) over the processes, of the root mean square error with what is predicted, with C alone and with
the amplification 1 / (1 - beta^2) alone: of the start value, and of all values under the target policy's occupancy.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from common import RESULTS, command_line, markdown_table, new_result, summary, write_json
from numpy.typing import NDArray

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

STATES, ACTIONS, FEATURES, DISCOUNT = 20, 2, 5, 0.9
PAIRS = STATES * ACTIONS
EDGES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.9999)
"""Of the ranges of beta."""
KINDS = ("random", "smoothed")


@dataclasses.dataclass(frozen=True)
class Realizability:
    """Flags of this benchmark."""

    tries: int = 10_000
    """Processes that are drawn."""
    kept: int = 8
    """Processes of each range of beta that are learned from."""
    datasets: int = 100
    """Data sets of each process."""
    transitions: int = 500
    """Transitions of each data set."""
    output: Path = RESULTS
    """Folder in which realizability.json is written."""


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


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Realizability, description=__doc__)
    result = new_result("realizability", options)
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("maxent_rl", "numpy")}
    result["versions"]["realizability"] = versions
    for kind in KINDS:
        processes = learn(kind, options)
        run = {"contender": kind, "repeat": 0, "values": correlations(processes), "processes": processes}
        result["runs"].append(run)
    result |= {"summary": summary(result["runs"]), "complete": True}
    write_json(options.output / "realizability.json", result)
    print(markdown_table(result))
    return 0


if __name__ == "__main__":
    command_line(main)
