"""Sound files of every kind that the library reads, made without training, and what reads each of them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.agents import SAC
from maxent_rl.agents.base import acting_state
from maxent_rl.data.batches.preferences import Preferences, read_preferences
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.files import open_chunks, read_dataset, write_dataset
from maxent_rl.reports.results import read_references
from maxent_rl.reports.runs import find_runs
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.config import RunConfig, config_from, describe, read_config
from maxent_rl.runs.policy import export_policy, load_policies
from maxent_rl.runs.records import Recorder, read_csv
from maxent_rl.settings import check_settings
from maxent_rl.spaces import Space
from maxent_rl.storage.arrays import to_arrays
from maxent_rl.storage.files import write_json
from maxent_rl.sweep.dashboard import Progress
from maxent_rl.sweep.folder import ATTEMPT, FINISHED, is_finished, read_manifest, read_mark, write_manifest
from maxent_rl.sweep.jobs import Sweep, expand
from maxent_rl.types import Spec

RUN = RunConfig(env="Pendulum-v1", total_steps=300, num_seeds=2)
AGENT = SAC(hidden_sizes=(4,), batch_size=8, replay_size=200, start_steps=20)
SPEC = Spec(
    (3,),
    (1,),
    200,
    observation_space=Space("box", (3,)),
    action_space=Space("box", (1,), low=(-2.0,), high=(2.0,)),
)
CAPACITY, WIDTH = 200, 9
_STEPS = (100, 200, 300)


class Kind(NamedTuple):
    """Files of a kind.

    Attributes:
      write: writes them into an empty folder.
      files: those that can be damaged, as patterns below the folder.
      read: reads them all, as the library does.
    """

    write: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], Any]


def write_run(folder: Path, agent: Any = AGENT, name: str = RUN.agent) -> None:
    """A run's folder without checkpoints: configuration, tables, policy."""
    folder.mkdir(parents=True, exist_ok=True)
    config = describe(dataclasses.replace(RUN, agent=name), agent)
    write_json(folder / "config.json", config)
    record = Recorder(folder, config={}, tensorboard=False)
    for step in _STEPS:
        record.metrics(step, [{"seed": seed, "seconds": step * 0.01, "critic/loss": 1.0 / step} for seed in (0, 1)])
        record.evaluation(
            step,
            [{"seed": seed, "return_mean": -step - seed, "return_std": 1.0, "returns": "-1.0 -2.0"} for seed in (0, 1)],
        )
    shapes = jax.eval_shape(lambda key: acting_state(agent, agent.init(key, SPEC)), jax.random.key(0))
    states = jax.tree.map(lambda leaf: np.zeros((2, *leaf.shape), leaf.dtype), shapes)
    export_policy(folder / "policy", config, to_arrays(states), SPEC, 300)


def write_checkpoints(folder: Path) -> None:
    """Three checkpoints of a hundred rows each."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=3)
    for step in _STEPS:
        arrays = {"['learner'].a": np.linspace(0, 1, 40, dtype=np.float32).reshape(2, 20), "step": np.array(step)}
        rows = np.random.default_rng(step).normal(size=(2, 100, WIDTH)).astype(np.float32)
        meta = {"fingerprint": {"agent": "sac"}, "best": -math.inf, "seconds": 1.0, "rows": {"eval.csv": 2}}
        checkpoints.save(step, arrays, meta, rows, CAPACITY, None)
    checkpoints.wait()
    checkpoints.close()
    for path in folder.glob(
        "checkpoints/*/_CHECKPOINT_METADATA"
    ):  # when it was written must not decide what is damaged
        path.write_text(re.sub(r"nsecs\": \d+", f'nsecs": {10**18}', path.read_text()))


def dataset() -> Dataset:
    """Two episodes of twenty steps of Pendulum's shapes."""
    seen = np.random.default_rng(0).normal(size=(2, 21, 3)).astype(np.float32)
    ends = np.zeros((2, 20), bool)
    ends[:, -1] = True
    return Dataset(
        observation=seen[:, :-1].reshape(40, 3),
        action=np.random.default_rng(1).uniform(-2, 2, (40, 1)).astype(np.float32),
        reward=np.ones(40, np.float32),
        next_observation=seen[:, 1:].reshape(40, 3),
        terminated=np.zeros(40, bool),
        truncated=ends.reshape(40),
        env="Pendulum-v1",
        about={"kind": "random", "action_space": dataclasses.asdict(SPEC.action_space), "size": 40},  # type: ignore[arg-type]
    )


def _write_npz(folder: Path) -> None:
    write_dataset(dataset(), folder / "data.npz")


def _write_hdf5(folder: Path) -> None:
    import h5py

    data = dataset()
    with h5py.File(folder / "data.hdf5", "w") as file:
        file["observations"], file["actions"], file["rewards"] = data.observation, data.action, data.reward
        file["terminals"] = data.terminated
        file.create_dataset("timeouts", data=data.truncated, compression="gzip", chunks=(20,))


def _write_minari(folder: Path) -> None:
    write_dataset(dataset(), folder / "walk-v0")


def _write_preferences(folder: Path) -> None:
    random = np.random.default_rng(0)
    seen, done = random.normal(size=(6, 5, 3)).astype(np.float32), random.uniform(-0.9, 0.9, (6, 5, 1))
    pairs = np.array([[0, 1], [2, 3], [4, 5]], np.int32)
    found = Preferences(
        seen, done.astype(np.float32), pairs, np.array([0, 1, 0.5], np.float32), "Pendulum-v1", {"kind": "r"}
    )
    found.save(folder / "preferences.npz")


def _write_sweep(folder: Path) -> None:
    run = dataclasses.replace(RUN, output_dir=str(folder))
    place, jobs = expand(Sweep(run, (AGENT,), ("Pendulum-v1",), {"batch_size": (8, 16)}, name="study"))
    write_manifest(place, jobs)
    jobs[0].folder.mkdir(parents=True)
    write_json(jobs[0].folder / FINISHED, {"step": 300})
    write_json(jobs[0].folder / ATTEMPT, {"token": "a/1", "host": "here", "pid": 1, "node": None})
    (jobs[0].folder / "metrics.csv").write_text("step,seed\n100,0\n")
    (jobs[0].folder / "eval.csv").write_text("step,seed,return_mean\n100,0,-3.0\n")


def _read_configuration(folder: Path) -> None:
    run, agent = config_from(read_config(folder))
    run.check()
    check_settings(agent)


def read_rows(folder: Path) -> None:
    """The rows of the newest checkpoint, as those that go on and those that collect read them."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=3, read_only=True)
    try:
        checkpoints.member_rows(300, CAPACITY, WIDTH, 1)
        checkpoints.restore_rows(300, jnp.zeros((2, CAPACITY, WIDTH)))
    finally:
        checkpoints.close()


def read_checkpoint(folder: Path) -> None:
    """The newest checkpoint."""
    checkpoints = Checkpoints(folder / "checkpoints", keep=3, read_only=True)
    try:
        checkpoints.restore(300)
    finally:
        checkpoints.close()


def _read_tables(folder: Path) -> None:
    for name in ("metrics.csv", "eval.csv"):
        read_csv(folder / name)
    Recorder(folder, config={}, tensorboard=False, resume_step=300, expected_rows={"eval.csv": 6}).close()


def _read_report(folder: Path) -> None:
    runs, left_out = find_runs([folder])
    assert len(runs) + len(left_out) == 2
    assert any(run.folder == folder / "sound" for run in runs)


def _write_two(folder: Path) -> None:
    write_run(folder / "damaged")
    write_run(folder / "sound")


def _read_data(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        read_dataset(folder / name)
        list(open_chunks(folder / name, 7))

    return read


def _read_sweep(folder: Path) -> None:
    jobs = read_manifest(folder / "study")
    for path in (folder / "study").rglob("*.json"):
        read_mark(path)
    for job in jobs:
        is_finished(job)
        Progress(job).read()


KINDS: dict[str, Kind] = {
    "configuration": Kind(write_run, ("config.json",), _read_configuration),
    "policy": Kind(write_run, ("policy/policy.json", "policy/arrays.npz"), load_policies),
    "checkpoint": Kind(write_checkpoints, ("checkpoints/300/**/*",), read_checkpoint),
    "segment": Kind(write_checkpoints, ("checkpoints/replay/*-000000000300.npy",), read_rows),
    "tables": Kind(write_run, ("metrics.csv", "eval.csv"), _read_tables),
    "report": Kind(_write_two, ("damaged/config.json", "damaged/*.csv"), _read_report),
    "npz": Kind(_write_npz, ("data.npz",), _read_data("data.npz")),
    "hdf5": Kind(_write_hdf5, ("data.hdf5",), _read_data("data.hdf5")),
    "minari": Kind(_write_minari, ("walk-v0/data/*",), _read_data("walk-v0")),
    "preferences": Kind(
        _write_preferences, ("preferences.npz",), lambda folder: read_preferences(folder / "preferences.npz")
    ),
    "sweep": Kind(
        _write_sweep, ("study/*.json", f"study/**/{FINISHED}", f"study/**/{ATTEMPT}", "study/**/*.csv"), _read_sweep
    ),
    "references": Kind(
        lambda folder: write_json(folder / "references.json", {"Pendulum-v1": [-1500, -150]}),
        ("references.json",),
        lambda folder: read_references(folder / "references.json"),
    ),
}
"""By name."""
