"""Lets everyone learn with one size of network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.lab.measure import BenchmarkError, versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.preference_noise.methods import Scores, run_suite
from benchmarks.studies.preference_noise.setting import PreferenceNoise
from benchmarks.studies.preference_noise.task import SCENARIOS, stack

_PACKAGES = ("maxent_rl", "jax", "jaxlib", "optax", "flax", "numpy")
_POLL_SECONDS = 0.1


def measure(unit: Unit, plan: PreferenceNoise, work: Path) -> Measured:
    """WinMass and accuracy of every method in every scenario, seed by seed.

    Raises:
      BenchmarkError: the settings do not work.
    """
    began = time.monotonic()
    try:
        scores = learn(plan, unit.measured["hidden"])
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
    except KeyboardInterrupt:
        print("\nStopped; the sizes that are done are kept, and the same command goes on.", flush=True)
        os._exit(130)  # Python's own exit would wait for the program that still runs, up to some minutes.
    more = {"seconds": round(time.monotonic() - began, 1)}
    found = []
    for index, seed in enumerate(unit.measured["seeds"]):
        by_metric = {
            metric: {
                name: dict(
                    zip(SCENARIOS, np.round(np.float64(getattr(each, metric)[:, index]), 5).tolist(), strict=True)
                )
                for name, each in scores.items()
            }
            for metric in ("win_mass", "accuracy")
        }
        means = {name: float(np.mean(list(masses.values()))) for name, masses in by_metric["win_mass"].items()}
        found.append(Seed(seed, means, by_metric | more))
    return Measured(found, versions(*_PACKAGES))


def learn(plan: PreferenceNoise, hidden: int) -> dict[str, Scores]:
    """Runs the program, and shows which methods are done."""
    console = Console(stderr=True, soft_wrap=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"Hidden layers of {hidden}: compiling", total=len(plan.methods))

        def report(name: str, win_mass: Any) -> None:
            progress.update(bar, advance=1, description=f"Hidden layers of {hidden}: {name} {float(win_mass):.3f}")

        seeds = jnp.arange(plan.seed, plan.seed + plan.num_seeds)
        scores = run_suite(
            seeds, stack(list(SCENARIOS.values())), hidden, plan.sizes, plan.learning, plan.methods, report
        )
        # A program that runs cannot be waited for and interrupted at once.
        while not all(leaf.is_ready() for leaf in jax.tree.leaves(scores)):
            time.sleep(_POLL_SECONDS)
    return {name: scores[name] for name in plan.methods}
