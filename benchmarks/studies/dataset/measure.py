"""What the study runs: online runs, the five kinds of data of each, and offline runs on them."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.lab.measure import versions
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.dataset.setting import DATA, KINDS, DatasetPerspective
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

_PACKAGES = ("maxent_rl", "jax", "jaxlib", "flax", "optax", "numpy")
_ONLINE_EVALUATIONS = 100  # whose best is the expert's return; the paper has 500


def measure(unit: Unit, plan: DatasetPerspective, work: Path) -> Measured:
    """Makes the data of an environment, or lets an agent learn from all of them, making first what is not there.

    Args:
      unit: of the plan.
      plan: the settings.
      work: folder of the data, which stay, and of the online runs, which do not.
    """
    discount = unit.measured["discount"]
    if unit.contender == DATA:
        made = make_datasets(unit.env, discount, plan, work)
        return Measured([Seed(index, *entry) for index, entry in enumerate(made)], versions(*_PACKAGES))
    names = [data_name(unit.env, behaviour, kind) for behaviour in range(plan.behaviours) for kind in KINDS]
    if not all(data_file(work, name).exists() for name in names):
        make_datasets(unit.env, discount, plan, work)
    began, returns = time.monotonic(), {}
    for name in names:
        steps, returns[name] = learn(unit.env, data_file(work, name), unit.contender, discount, plan)
    seconds = round(time.monotonic() - began, 2)
    seeds = []
    for index in range(plan.num_seeds):
        own = {name: found[index] for name, found in returns.items()}
        # As text: a number in a line of its own, as JSON writes lists, would make the results unreadable.
        more = {"steps": as_text(steps), "returns": {name: as_text(curve) for name, curve in own.items()}}
        final = float(np.mean([curve[-1] for curve in own.values()]))
        seeds.append(Seed(plan.seed + index, {"final": final}, more | {"seconds": seconds}))
    return Measured(seeds, versions(*_PACKAGES))


def data_name(env: str, behaviour: int, kind: str) -> str:
    """How results call a data set."""
    return f"{env.removeprefix('maxent/')}/{behaviour}/{kind}"


def data_file(work: Path, name: str) -> Path:
    """Where a data set lies."""
    return work / "data" / f"{name.replace('/', '-')}.npz"


def as_text(numbers: Sequence[float]) -> str:
    """Numbers with all their digits."""
    return " ".join(f"{number!r}" for number in numbers)


def make_datasets(
    env: str, discount: float, settings: DatasetPerspective, work: Path
) -> list[tuple[dict[str, float], dict[str, Any]]]:
    """Trains the behaviour policies of an environment, side by side, and makes and measures the five data sets of each.

    Args:
      env: name of the environment.
      discount: of the environment.
      settings: of the study.
      work: folder of the study: the data goes to its `data`.

    Returns:
      For each data set its measures, and what else is to be known of it.
    """
    began = time.monotonic()
    agent = DQNOnline(
        discount=discount,
        learning_rate=settings.online_learning_rate,
        hidden_sizes=settings.hidden_sizes,
        replay_size=settings.size,
    )
    own = work / "online" / env.replace("/", "-")
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
        found += _measured(env, behaviour, made, settings, work)
    seconds = round((time.monotonic() - began) / len(found), 2)
    shutil.rmtree(own)
    return [(values, more | {"seconds": seconds}) for values, more in found]


def _measured(
    env: str, behaviour: int, made: dict[str, Dataset], settings: DatasetPerspective, work: Path
) -> list[tuple[dict[str, float], dict[str, Any]]]:
    """Writes and measures the data sets of one online run; limits and reference are those of its replay data."""
    replay, random_return = made["replay"], float(made["random"].returns.mean())
    expert_return, binning = float(replay.about["expert_return"]), Binning(Limits.of(replay), settings.edges)
    found = []
    for kind, data in made.items():
        name = data_name(env, behaviour, kind)
        path = data_file(work, name)
        path.unlink(missing_ok=True)
        write_dataset(data, path)
        coverage = state_action_coverage(data, replay, binning)
        returns = data.returns
        mean = float(returns.mean()) if len(returns) else float("nan")
        values = {
            "return_mean": mean,
            "random_return": random_return,
            "expert_return": expert_return,
            "tq": trajectory_quality(mean, random_return, expert_return),
            "saco": coverage.saco,
            "log_saco": coverage.log_saco,
            "distinct": coverage.distinct,
            "reference_distinct": coverage.reference_distinct,
        }
        found.append((values, {"name": name, "behaviour": behaviour, "kind": kind, "size": data.size}))
    return found


def learn(
    env: str, file: Path, agent: str, discount: float, settings: DatasetPerspective
) -> tuple[list[int], list[list[float]]]:
    """Learns from a data set.

    Args:
      env: name of the environment.
      file: of the data.
      agent: by name.
      discount: of the environment.
      settings: of the study.

    Returns:
      (updates at each evaluation, mean return [seed][evaluation]).
    """
    kind = agent_class(agent)
    fields = {field.name for field in dataclasses.fields(kind)}
    wanted = dataclasses.asdict(settings) | {"discount": discount}
    built = kind(**{name: value for name, value in wanted.items() if name in fields})
    run = RunConfig(
        agent=agent, env=env, dataset=str(file), total_steps=settings.updates,
        num_seeds=settings.num_seeds, seed=settings.seed,
    )  # fmt: skip
    loop = make_loop(run, built, env, jax.local_devices(), load=load_data)
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
