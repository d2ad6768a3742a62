"""Which preference losses bear noise: DPO and its kin, ADPO, PPO and TRPO on a bandit with twelve kinds of bad data.

    python benchmarks/preference_noise.py measure    # 12 scenarios, 10 seeds, 15 methods, three sizes of network
    python benchmarks/preference_noise.py render     # tables into benchmarks/README.md, and results/preference_noise.png

All methods, seeds and scenarios of a size learn in one program. After each size the results are written, and the same command
goes on with the sizes that are not done, or whose settings have changed. Source: ADPO (arXiv 2510.18913), the bandits.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from common import BUSY, RESULTS, ROOT, BenchmarkError, busy_share, command_line, new_result, write_json
from multimodal_study import refuse_unknown
from preference_noise_methods import (
    ALL,
    ANCHOR_TEMPERATURE,
    FLIP_PROBABILITY,
    SCORE_TEMPERATURE,
    Learning,
    Scores,
    run_suite,
)
from preference_noise_tables import FOLDER, file_name, overview, render
from preference_noise_task import OUTLIER_STD, SCENARIOS, Sizes, stack
from preference_noise_trust import TrustRegion
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Result = dict[str, Any]
_PACKAGES = ("maxent_rl", "jax", "jaxlib", "optax", "flax", "numpy")
_POLL_SECONDS, _SAMPLE_SECONDS = 0.1, 1.0


@dataclasses.dataclass(frozen=True)
class Measure:
    """Lets everyone learn, size by size."""

    hidden_sizes: tuple[int, ...] = (64, 128, 256)
    """Units of each of the two hidden layers; one program for each entry."""
    num_seeds: int = 10
    """Seeds of each method and scenario."""
    seed: int = 0
    """The first seed."""
    methods: tuple[str, ...] = ALL
    """Who learns, in this order."""
    sizes: Sizes = Sizes()  # noqa: RUF009  # frozen
    learning: Learning = Learning()  # noqa: RUF009
    fresh: bool = False
    """Forget what was measured before."""
    output: Path = RESULTS
    """Folder in which preference_noise/items-P-hidden-H.json are written."""

    def run(self) -> int:
        """Measures what is not done yet; returns the exit status."""
        refuse_unknown("method", self.methods, ALL)
        if self.num_seeds < 1:
            raise BenchmarkError(f"Expected at least one seed, got {self.num_seeds}.")
        console, done = Console(stderr=True, soft_wrap=True), {}
        for hidden in self.hidden_sizes:
            path = self.output / FOLDER / file_name(self.sizes.items, hidden)
            found = None if self.fresh else _read(path, self._settings(hidden))
            if found is None:
                found = self._measure(hidden, console)
                write_json(path, found)
                console.print(f"Written: {path}", highlight=False)
            else:
                console.print(f"Hidden layers of {hidden}: done before", highlight=False)
            done[hidden] = found
        print(overview(done))
        return 0

    def _settings(self, hidden: int) -> dict[str, Any]:
        """All that decides the numbers, as JSON has it."""
        settings = {
            "hidden": hidden,
            "seeds": list(range(self.seed, self.seed + self.num_seeds)),
            "methods": list(self.methods),
            **dataclasses.asdict(self.sizes),
            **dataclasses.asdict(self.learning),
            "scenarios": {name: corruption._asdict() for name, corruption in SCENARIOS.items()},
            "outlier_std": OUTLIER_STD,
            "score_temperature": SCORE_TEMPERATURE,
            "anchor_temperature": ANCHOR_TEMPERATURE,
            "flip_probability": FLIP_PROBABILITY,
            "trust_region": TrustRegion()._asdict(),
        }
        found: dict[str, Any] = json.loads(json.dumps(settings))
        return found

    def _measure(self, hidden: int, console: Console) -> Result:
        busy = busy_share(_SAMPLE_SECONDS)
        if busy > BUSY:
            console.print(f"Warning: other processes use {busy:.0%} of the machine; the time will not be its own.")
        result = new_result("preference_noise", self)
        del result["runs"]
        result["settings"] = self._settings(hidden)
        result["versions"] = {"python": platform.python_version()} | {
            name: importlib.metadata.version(name) for name in _PACKAGES
        }
        began = time.monotonic()
        try:
            scores = self._learn(hidden, console)
        except ValueError as error:
            raise BenchmarkError(str(error)) from error
        result["seconds"] = round(time.monotonic() - began, 1)
        result["busy_before"] = round(busy, 3)
        for metric in ("win_mass", "accuracy"):
            result[metric] = {
                name: {
                    scenario: np.round(np.float64(row), 5).tolist()
                    for scenario, row in zip(SCENARIOS, getattr(found, metric), strict=True)
                }
                for name, found in scores.items()
            }
        return result | {"complete": True}

    def _learn(self, hidden: int, console: Console) -> dict[str, Scores]:
        """Runs the program, and shows which methods are done."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task(f"Hidden layers of {hidden}: compiling", total=len(self.methods))

            def report(name: str, win_mass: Any) -> None:
                progress.update(bar, advance=1, description=f"Hidden layers of {hidden}: {name} {float(win_mass):.3f}")

            seeds = jnp.arange(self.seed, self.seed + self.num_seeds)
            scores = run_suite(
                seeds, stack(list(SCENARIOS.values())), hidden, self.sizes, self.learning, self.methods, report
            )
            # A program that runs cannot be waited for and interrupted at once.
            while not all(leaf.is_ready() for leaf in jax.tree.leaves(scores)):
                time.sleep(_POLL_SECONDS)
        return {name: scores[name] for name in self.methods}


@dataclasses.dataclass(frozen=True)
class Render:
    """Tables between the markers of benchmarks/README.md, and the figure, from what has been measured."""

    results: Path = RESULTS
    """Folder with the results, and of the figure."""
    readme: Path = ROOT / "benchmarks" / "README.md"
    """File with the markers."""
    items: int = Sizes.items
    """Items of the task."""

    def run(self) -> int:
        """Renders; returns the exit status."""
        render(self.results, self.readme, self.items)
        return 0


def _read(path: Path, settings: dict[str, Any]) -> Result | None:
    """The results of a size, if they were measured with these settings."""
    if not path.exists():
        return None
    found: Result = json.loads(path.read_text(encoding="utf-8"))
    return found if found.get("complete") and found["settings"] == settings else None


def main() -> int:
    """Measures or renders; returns the exit status."""
    options = tyro.cli(Measure | Render, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    try:
        return int(options.run())
    except KeyboardInterrupt:
        print("\nStopped; the sizes that are done are kept, and the same command goes on.", flush=True)
        os._exit(130)  # Python's own exit would wait for the program that still runs, up to some minutes.


if __name__ == "__main__":
    command_line(main)
