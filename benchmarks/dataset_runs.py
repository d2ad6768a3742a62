"""What `dataset_study.py` runs: online runs, the five kinds of data of each, and offline runs on them."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from dataset_study import KINDS, Settings

from maxent_rl import train
from maxent_rl.agents.registry import agent_class
from maxent_rl.training.config import RunConfig
from maxent_rl.training.loop import make_loop

_ONLINE_EVALUATIONS = 100  # whose best is the expert's return; the paper has 500


def learn(
    data: dict[str, Any], agent: str, discount: float, settings: Settings, folder: Path
) -> tuple[list[int], list[list[float]]]:
    """Learns from a data set.

    Args:
      data: its entry in the results.
      agent: by name.
      discount: of the environment.
      settings: of the study.
      folder: of the study.

    Returns:
      (updates at each evaluation, mean return [seed][evaluation]).
    """
    kind = agent_class(agent)
    own = {
        "hidden_sizes": settings.hidden_sizes,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
    }
    if any(field.name == "discount" for field in dataclasses.fields(kind)):
        own["discount"] = discount
    run = RunConfig(
        agent=agent, env=data["env"], dataset=str(folder / data["file"]), total_steps=settings.updates,
        num_seeds=settings.num_seeds, seed=settings.seed,
    )  # fmt: skip
    loop = make_loop(run, kind(**own), data["env"], jax.local_devices())
    steps = [settings.updates * (index + 1) // settings.evaluations for index in range(settings.evaluations)]
    found = []
    try:
        for step in steps:
            loop.advance(step, lambda: False)
            loop.check()
            found.append([outcomes.mean for outcomes in loop.evaluate(settings.episodes)])
    finally:
        loop.close()
    return steps, np.round(np.transpose(found), 5).tolist()
