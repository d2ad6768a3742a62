"""Data sets in Minari's format: a folder `data` with metadata.json, and main_data.hdf5 with one group for each episode.

The files are read and written without Minari, and nothing in them is executed: of the environment's description only the
name is read. An episode of n steps has n + 1 observations, the last of which the last step led to.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from maxent_rl.data.datasets.arrays_of_files import to_actions, to_flags, to_observations, to_rewards
from maxent_rl.data.datasets.dataset import Dataset
from maxent_rl.data.datasets.hdf5 import open_array, open_group, open_hdf5, write_array
from maxent_rl.data.datasets.units import stored_observations, told_space, written_actions, written_observations
from maxent_rl.errors import DataError
from maxent_rl.spaces import Kind, Space
from maxent_rl.storage.archives import Budget
from maxent_rl.storage.files import to_json, write_whole
from maxent_rl.storage.reading import parse_json, read_json, refuse_damage

_ID = re.compile(r"([-_\w][-_\w/]*/)?[-_\w]+-v\d+")
_VERSION = "0.5.3"  # of the format: the oldest Minari that the extra `offline` allows reads it
_FILE, _METADATA = "main_data.hdf5", "metadata.json"
_OURS = "maxent_rl"  # what our own files say beside what Minari's do


def find_minari(path: Path) -> Path | None:
    """The folder with the data: of a data set's folder, or of one that Minari has by that name; None if there is none."""
    for place in (path / "data", path, *([minari_root() / path / "data"] if is_minari_id(str(path)) else [])):
        if (place / _METADATA).is_file():
            return place
    return None


def is_minari_id(name: str) -> bool:
    """Whether a data set of Minari's could be called so."""
    return _ID.fullmatch(name) is not None


def minari_root() -> Path:
    """Where Minari keeps its data sets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def minari_pieces(folder: Path, size: int | None) -> Iterator[Dataset]:
    """Goes over a data set once, in pieces of at most `size` transitions, or in one.

    A step that is flagged both as terminal and as cut by a time limit is terminal, as Gymnasium allows both. An episode
    without an end is taken as cut there, unless it is the last one, which then is unfinished.

    Args:
      folder: as `find_minari` gives it.
      size: transitions.

    Raises:
      DataError: it is damaged, or is of a kind that is not handled.
      MissingDependencyError: h5py is not installed.
    """
    path = folder / _FILE
    with refuse_damage(folder / _METADATA, DataError):
        told = read_json(folder / _METADATA)
        total, env, about = int(told["total_episodes"]), _env(told), _about(told)
        acted = told_space(about, "action_space") or _choices(parse_json(told.get("action_space") or "{}"))
        if told.get("data_format", "hdf5") != "hdf5":
            raise DataError(
                f"{folder} has the data format {told['data_format']!r}; this version reads Minari's 'hdf5'."
            )
    if not path.is_file():
        raise DataError(f"{folder} has no {_FILE}, which its {_METADATA} describes.")
    with open_hdf5(path) as file:
        if len(file) != total:
            raise DataError(f"{path} has {len(file)} episodes; {_METADATA} says {total}.")
        parts: list[_Steps] = []
        held, budget = 0, Budget(path.stat().st_size)
        for index in range(total):
            episode = _Episode(file.id, index, index == total - 1, path)
            budget.take(episode.nbytes)
            position = 0
            while position < episode.length:
                count = episode.length - position if size is None else min(episode.length - position, size - held)
                parts.append(episode.read(position, position + count))
                position, held = position + count, held + count
                if held == size:
                    yield _joined(parts, acted, str(path), env, about)
                    parts, held = [], 0
        if parts:
            yield _joined(parts, acted, str(path), env, about)


class _Steps(NamedTuple):
    """Consecutive steps of an episode, as they stand in the file."""

    observation: NDArray[Any]
    action: NDArray[Any]
    reward: NDArray[Any]
    next_observation: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


class _Episode:
    """One group of the file.

    It is read by h5py's low-level functions: there can be tens of thousands of short episodes, and opening their arrays is
    all that takes time (4,566 of them: 3.4 s, by the usual ones 9.4 s, on two cores that had other work as well).
    """

    def __init__(self, file: Any, index: int, is_last: bool, path: Path) -> None:
        self._name = f"{path}, episode_{index},"
        group = open_group(file, f"episode_{index}", path)
        self._arrays = {
            key: open_array(group, key, self._name)
            for key in ("observations", "actions", "rewards", "terminations", "truncations")
        }
        self.nbytes = sum(math.prod(array.shape) * array.dtype.itemsize for array in self._arrays.values())
        sizes = {key: array.shape[0] for key, array in self._arrays.items() if array.shape}
        self.length = sizes.get("rewards", 0)
        if not self.length:
            raise DataError(f"{self._name} is empty.")
        expected = dict.fromkeys(self._arrays, self.length) | {"observations": self.length + 1}
        if sizes != expected:
            raise DataError(f"{self._name} has rows for {sizes}; expected, for {self.length} steps, {expected}.")
        self._terminated = self._flags("terminations")
        self._truncated = self._flags("truncations") & ~self._terminated
        ended = self._terminated | self._truncated
        if ended[:-1].any():
            raise DataError(f"{self._name} has {self.length} steps, but ends at step {int(np.argmax(ended)) + 1}.")
        if not ended[-1] and not is_last:
            self._truncated[-1] = True

    def _flags(self, key: str) -> NDArray[np.bool_]:
        return to_flags(self._arrays[key].rows(0, self.length), self._name, key)

    def read(self, first: int, last: int) -> _Steps:
        """Steps `first` up to `last`."""
        observation = self._arrays["observations"].rows(first, last + 1)
        return _Steps(
            observation[:-1],
            self._arrays["actions"].rows(first, last),
            self._arrays["rewards"].rows(first, last),
            observation[1:],
            self._terminated[first:last],
            self._truncated[first:last],
        )


def _joined(parts: list[_Steps], acted: Space | None, name: str, env: str | None, about: dict[str, Any]) -> Dataset:
    try:
        steps = _Steps(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    except ValueError as error:
        raise DataError(f"{name} has episodes whose observations or actions differ in shape ({error}).") from error
    seen = told_space(about, "observation_space")
    return Dataset(
        observation=to_observations(stored_observations(steps.observation, seen), name),
        action=to_actions(steps.action, name, acted),
        reward=to_rewards(steps.reward, name),
        next_observation=to_observations(stored_observations(steps.next_observation, seen), name),
        terminated=steps.terminated,
        truncated=steps.truncated,
        env=env,
        about=about,
    )


def _env(told: dict[str, Any]) -> str | None:
    if _OURS in told:
        name: str | None = told[_OURS]["env"]
        return name
    try:
        return str(parse_json(told["env_spec"])["id"])
    except (KeyError, TypeError, ValueError):  # absent, null, or of another version: the data is what counts
        return None


def _about(told: dict[str, Any]) -> dict[str, Any]:
    if _OURS in told:
        return dict(told[_OURS]["about"])
    return {key: told[key] for key in ("dataset_id", "algorithm_name", "author", "code_permalink") if told.get(key)}


def write_minari(data: Dataset, path: Path) -> None:
    """Writes a data set's folder, which is there whole or not at all.

    Args:
      data: the transitions.
      path: of the folder, whose name is the data set's.

    Raises:
      OSError: full disk, missing permission, or the folder is there and not empty.
      MissingDependencyError: h5py is not installed.
    """
    episodes = data.episodes
    with write_whole(path) as partial:
        folder = partial / "data"
        folder.mkdir(parents=True)
        actions = written_actions(data)
        with open_hdf5(folder / _FILE, "w") as file:
            for index, (start, length) in enumerate(zip(episodes.start, episodes.length, strict=True)):
                rows = slice(start, start + length)
                group = file.create_group(f"episode_{index}")
                group.attrs["id"], group.attrs["total_steps"] = index, int(length)
                last = data.next_observation[start + length - 1]
                seen = np.concatenate([data.observation[rows], last[None]])
                write_array(group.id, "observations", written_observations(data, seen))
                write_array(group.id, "actions", actions[rows])
                write_array(group.id, "rewards", data.reward[rows])
                write_array(group.id, "terminations", data.terminated[rows])
                write_array(group.id, "truncations", data.truncated[rows])
                group.create_group("infos")  # without one, Minari cannot print an episode
        size = round((folder / _FILE).stat().st_size / 1e6, 1)
        (folder / _METADATA).write_text(to_json(_metadata(data, path) | {"dataset_size": size}))


def _metadata(data: Dataset, path: Path) -> dict[str, Any]:
    """What Minari wants to know, and what we do."""
    described = {
        "total_episodes": len(data.episodes.start),
        "total_steps": data.size,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(_observed(data)),
        "action_space": json.dumps(_acted(data)),
        "dataset_id": _id_for(path),
        "minari_version": _VERSION,
        _OURS: {"env": data.env, "about": data.about},
    }
    env_spec = None if data.env is None else _env_spec(data.env)
    return described if env_spec is None else described | {"env_spec": env_spec}


def _env_spec(name: str) -> str | None:
    """What Gymnasium says of an environment, for Minari; None where it has none, or cannot tell it as JSON.

    That is so where a class, or a function, was registered instead of its name, or arguments that JSON does not have. Nothing
    of the data depends on it.
    """
    try:
        return gymnasium.spec(name).to_json() if name in gymnasium.registry else None
    except Exception:  # foreign arguments are copied, and may fail in any way
        return None


def _id_for(path: Path) -> str:
    """What Minari calls a data set: its place below Minari's root, or the folder's name where it lies elsewhere."""
    root, whole = minari_root().resolve(), path.resolve()
    name = whole.relative_to(root).as_posix() if whole.is_relative_to(root) else path.name
    return name if is_minari_id(name) else f"{re.sub(r'[^-_/a-zA-Z0-9]', '-', name)}-v0"


def _observed(data: Dataset) -> dict[str, Any]:
    """The observation space, as Minari writes it."""
    seen = written_observations(data, data.observation[:1])
    if seen.dtype.kind in "iub":
        bounds = (0, 1) if seen.dtype.kind == "b" else (np.iinfo(seen.dtype).min, np.iinfo(seen.dtype).max)
        return _box(seen.shape[1:], seen.dtype, *bounds)
    return _box(seen.shape[1:], seen.dtype, -np.inf, np.inf)


def _acted(data: Dataset) -> dict[str, Any]:
    """The action space, as Minari writes it."""
    space = told_space(data.about, "action_space")
    if space is None and data.is_discrete:
        choices = int(data.about.get("num_actions") or data.action.max() + 1)
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": choices}
    if space is None:
        # A data set of before spaces were described has the bounds alone.
        low, high = data.about.get("action_low"), data.about.get("action_high")
        return _box(data.action.shape[1:], data.action.dtype, low or -np.inf, high or np.inf)
    if space.kind == "discrete":
        return {"type": "Discrete", "dtype": space.dtype, "start": space.start[0], "n": space.sizes[0]}
    if space.kind == "multi_discrete":
        sizes, start = (np.reshape(each, space.shape).tolist() for each in (space.sizes, space.start))
        return {"type": "MultiDiscrete", "dtype": space.dtype, "nvec": sizes, "start": start}
    if space.kind == "multi_binary":
        return {"type": "MultiBinary", "n": list(space.shape)}
    low, high = (np.reshape(np.asarray(bounds, float), space.shape) for bounds in (space.low, space.high))
    return _box(space.shape, np.dtype(space.dtype), low, high)


def _choices(told: dict[str, Any]) -> Space | None:
    """The action space of a file's metadata, where actions are choices."""
    sizes: Any = {"Discrete": told.get("n"), "MultiDiscrete": told.get("nvec")}.get(str(told.get("type")))
    if told.get("type") == "MultiBinary":
        shape = tuple(np.atleast_1d(told["n"]).astype(int).tolist())
        sizes = np.full(shape, 2)
    if sizes is None:
        return None
    kind: Kind = "discrete" if told["type"] == "Discrete" else "multi_discrete"
    counted = np.asarray(sizes, int)
    start = np.broadcast_to(np.asarray(told.get("start", 0), int), counted.shape)
    flat = (tuple(np.ravel(each).tolist()) for each in (counted, start))
    return Space(kind, counted.shape, "int64", None, None, *flat)


def _box(shape: tuple[int, ...], dtype: np.dtype[Any], low: Any, high: Any) -> dict[str, Any]:
    bounds = {key: np.broadcast_to(np.asarray(bound), shape).tolist() for key, bound in (("low", low), ("high", high))}
    return {"type": "Box", "dtype": dtype.name, "shape": list(shape), **bounds}
