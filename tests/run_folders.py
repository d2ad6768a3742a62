"""Folders of runs for tests, written by the recorder that writes real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxent_rl.runs.records import Recorder


def make_run(
    folder: Path,
    returns: Mapping[int, Sequence[float]] | Mapping[tuple[int, float], Sequence[float]],
    *,
    every: int = 1000,
    total: int | None = None,
    seconds_per_step: float | None = 0.01,
    varying: str = "learning_rate",
    agent: Mapping[str, Any] | None = None,
    **run: Any,
) -> Path:
    """Writes a run.

    Args:
      folder: of the run.
      returns: of each seed, one for each evaluation; of (seed, value of `varying`) for variants within the run.
      every: environment steps between evaluations.
      total: environment steps the run was to take; None for those that it took.
      seconds_per_step: in metrics.csv; None for a run without one.
      varying: the hyper-parameter in the keys of `returns`.
      agent: hyper-parameters in config.json.
      **run: settings in config.json.
    """
    folder.mkdir(parents=True)
    evaluations = len(next(iter(returns.values())))
    settings = {"agent": "sac", "env": "Pendulum-v1", "total_steps": total or evaluations * every, **run}
    described = {"run": settings, "agent": {"learning_rate": 3e-4, "hidden_sizes": [64, 64]} | dict(agent or {})}
    described |= {"versions": {"jax": "0.10.2"}, "hardware": {"machine": "x86_64", "cpus": 2}}
    (folder / "config.json").write_text(json.dumps(described))
    record = Recorder(folder, config={}, tensorboard=False)
    for index in range(evaluations):
        step = every * (index + 1)
        keys = [{"seed": key} if isinstance(key, int) else {"seed": key[0], varying: key[1]} for key in returns]
        if seconds_per_step is not None:
            record.metrics(step, [key | {"seconds": step * seconds_per_step} for key in keys])
        scores = [{"return_mean": curve[index], "length_mean": 200.0} for curve in returns.values()]
        record.evaluation(step, [key | score for key, score in zip(keys, scores, strict=True)])
    return folder
