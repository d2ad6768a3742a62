"""What `dataset_study.py` runs: online runs, the five kinds of data of each, and offline runs on them."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from dataset_study import KINDS, Settings

from maxent_rl import train
from maxent_rl.agents.registry import agent_class
from maxent_rl.agents.values.dqn import DQNOnline
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import write_dataset
from maxent_rl.data.measures.coverage import Binning, Limits
from maxent_rl.data.measures.quality import state_action_coverage, trajectory_quality
from maxent_rl.runs.config import RunConfig
from maxent_rl.sources.load import load_data
from maxent_rl.sources.transitions import Collecting, collect
from maxent_rl.training.loops.make import make_loop

_ONLINE_EVALUATIONS = 100  # whose best is the expert's return; the paper has 500


def make_datasets(env: str, discount: float, settings: Settings, folder: Path) -> list[dict[str, Any]]:
    """Trains the behaviour policies of an environment, side by side, and makes and measures the five data sets of each.

    Args:
      env: name of the environment.
      discount: of the environment.
      settings: of the study.
      folder: of the study: the data goes to its `data`.

    Returns:
      An entry of the results for each data set.
    """
    began = time.monotonic()
    agent = DQNOnline(
        discount=discount,
        learning_rate=settings.online_learning_rate,
        hidden_sizes=settings.hidden_sizes,
        replay_size=settings.size,
    )
    own = folder / "online" / env.replace("/", "-")
    shutil.rmtree(own, ignore_errors=True)
    trained = train(
        agent, env, progress=False, output_dir=str(own), total_steps=settings.size, seed=settings.seed,
        num_seeds=settings.behaviours, eval_every=settings.size // _ONLINE_EVALUATIONS, eval_episodes=settings.episodes,
        checkpoint_every=settings.size,
    )  # fmt: skip
    found = []
    for behaviour in range(settings.behaviours):
        made = {}
        for kind in KINDS:
            wanted = Collecting(
                kind=kind, policy=str(trained.folder), env=env, size=settings.size, seed=settings.seed + behaviour,
                policy_seed=settings.seed + behaviour,
            )  # fmt: skip
            made[kind] = collect(wanted).data
        found += _measured(env, behaviour, made, settings, folder)
    seconds = round((time.monotonic() - began) / len(found), 2)
    shutil.rmtree(own)
    return [each | {"seconds": seconds} for each in found]


def _measured(
    env: str, behaviour: int, made: dict[str, Dataset], settings: Settings, folder: Path
) -> list[dict[str, Any]]:
    """Writes and measures the data sets of one online run; limits and reference are those of its replay data."""
    replay, random_return = made["replay"], float(made["random"].returns.mean())
    expert_return, binning = float(replay.about["expert_return"]), Binning(Limits.of(replay), settings.edges)
    found = []
    for kind, data in made.items():
        name = f"{env.removeprefix('maxent/')}/{behaviour}/{kind}"
        file = Path("data") / f"{name.replace('/', '-')}.npz"
        path = folder / file
        path.unlink(missing_ok=True)
        write_dataset(data, path)
        coverage = state_action_coverage(data, replay, binning)
        returns = data.returns
        mean = float(returns.mean()) if len(returns) else float("nan")
        found.append(
            {
                "name": name,
                "env": env,
                "behaviour": behaviour,
                "kind": kind,
                "file": str(file),
                "size": data.size,
                "return_mean": mean,
                "random_return": random_return,
                "expert_return": expert_return,
                "tq": trajectory_quality(mean, random_return, expert_return),
                "saco": coverage.saco,
                "log_saco": coverage.log_saco,
                "distinct": coverage.distinct,
                "reference_distinct": coverage.reference_distinct,
            }
        )
    return found


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
    fields = {field.name for field in dataclasses.fields(kind)}
    wanted = dataclasses.asdict(settings) | {"discount": discount}
    built = kind(**{name: value for name, value in wanted.items() if name in fields})
    run = RunConfig(
        agent=agent, env=data["env"], dataset=str(folder / data["file"]), total_steps=settings.updates,
        num_seeds=settings.num_seeds, seed=settings.seed,
    )  # fmt: skip
    loop = make_loop(run, built, data["env"], jax.local_devices(), load=load_data)
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
