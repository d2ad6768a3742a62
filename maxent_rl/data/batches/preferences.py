"""Preferences over segments of behaviour: one file, what is checked when it is read, and the batches drawn from it.

Source: Contrastive Preference Learning (arXiv 2310.13639), whose "sparse" data are fixed pairs of segments with a label each,
and whose "dense" data are segments with a score each, of which any two can be compared. A file is a plain npz archive:
nothing in it is pickled, so reading it executes nothing, and it is read whole or not at all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from maxent_rl.errors import DataError
from maxent_rl.storage.archives import open_archive, write_archive
from maxent_rl.storage.files import to_json
from maxent_rl.storage.reading import parse_json
from maxent_rl.types import Array, SegmentPairs

LARGEST_ACTION = 1.0 - 1e-5
_FORMAT = "maxent_rl segment preferences 1"
_HELD_OUT_SHARE, _MOST_HELD_OUT = 0.1, 512
_REQUIRED = ("format", "observation", "action", "pairs", "label", "about")


@dataclasses.dataclass(frozen=True)
class Preferences:
    """A data set as it stands in its file: N segments of K steps, M pairs of them.

    Attributes:
      observation: [N, K, observation] before each action.
      action: [N, K, action] within +-(1 - 1e-5).
      pairs: [M, 2] int32 which segments are compared; M may be 0 where there are scores ("dense" data).
      label: [M] 1 where the second is preferred, 0 where the first is, 1/2 for a tie, or any probability between.
      env: name of the environment.
      about: how it was made, as JSON values; its "flip" is the share of labels that are wrong on purpose.
      score: [N] how good each segment is, or None.
    """

    observation: NDArray[np.float32]
    action: NDArray[np.float32]
    pairs: NDArray[np.int32]
    label: NDArray[np.float32]
    env: str
    about: dict[str, Any]
    score: NDArray[np.float32] | None = None

    @property
    def flip(self) -> float:
        """Share of labels that are wrong on purpose."""
        return float(self.about.get("flip", 0.0))

    def check(self, name: str) -> None:
        """Refuses arrays that do not fit together or hold impossible numbers.

        Args:
          name: of the file, for messages.

        Raises:
          DataError: saying what is wrong, what was expected, and where.
        """
        _check_shapes(self, name)
        entries = {"observation": self.observation, "action": self.action, "label": self.label}
        entries |= {} if self.score is None else {"score": self.score}
        for key, array in entries.items():
            if not np.isfinite(array).all():
                where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
                raise DataError(f"{name} holds NaN or infinity: {key}{list(where)}.")
        if np.abs(self.action).max() > LARGEST_ACTION + 1e-6:
            raise DataError(
                f"{name} has actions as large as {np.abs(self.action).max():g}; expected them within "
                f"+-{LARGEST_ACTION:g}, the environment's range being [-1, 1]."
            )
        if len(self.label) and not (self.label.min() >= 0.0 and self.label.max() <= 1.0):
            wrong = self.label[(self.label < 0.0) | (self.label > 1.0)][0]
            raise DataError(f"{name} has the label {wrong:g}; expected 0 (first preferred) to 1 (second preferred).")
        if len(self.pairs) and not (self.pairs.min() >= 0 and self.pairs.max() < len(self.observation)):
            wrong = self.pairs[(self.pairs < 0) | (self.pairs >= len(self.observation))][0]
            raise DataError(f"{name} compares segment {wrong}, but has the segments 0 to {len(self.observation) - 1}.")
        if not 0.0 <= self.flip <= 1.0:
            raise DataError(f"{name} says that {self.flip:g} of its labels are wrong; expected a share from 0 to 1.")

    def save(self, path: Path) -> None:
        """Writes the file, which is there whole or not at all.

        Raises:
          DataError: the arrays do not fit together.
          OSError: full disk, missing permission.
        """
        self.check(str(path))
        arrays = {"observation": self.observation, "action": self.action, "pairs": self.pairs, "label": self.label}
        arrays |= {} if self.score is None else {"score": self.score}
        about = to_json(self.about | {"env": self.env})
        write_archive(path, {"format": _FORMAT, "about": about, **arrays}, compressed=True)


def _check_shapes(data: Preferences, name: str) -> None:
    shapes = {key: getattr(data, key).shape for key in ("observation", "action", "pairs", "label")}
    segments = shapes["observation"][:2]
    if len(shapes["observation"]) != 3 or len(shapes["action"]) != 3 or shapes["action"][:2] != segments:
        raise DataError(
            f"{name} has observations of shape {shapes['observation']} and actions of shape {shapes['action']}; expected "
            "[segments, steps, entries] with the same segments and steps."
        )
    if 0 in shapes["observation"] or 0 in shapes["action"]:
        raise DataError(f"{name} is empty: its observations have shape {shapes['observation']}.")
    if shapes["pairs"] != (*shapes["label"], 2):
        raise DataError(
            f"{name} has pairs of shape {shapes['pairs']} and labels of shape {shapes['label']}; expected [M, 2] and [M]."
        )
    if data.score is not None and data.score.shape != segments[:1]:
        raise DataError(
            f"{name} has scores of shape {data.score.shape}; expected one for each of {segments[0]} segments."
        )
    if not len(data.pairs) and (data.score is None or segments[0] < 2):
        raise DataError(f"{name} compares nothing: it has no pairs, and no scores of two segments or more.")


def read_preferences(path: str | Path) -> Preferences:
    """Reads a data set of preferences.

    Raises:
      DataError: the file is missing, damaged, something else, or holds impossible numbers.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}; expected a file that `experiments/dataset.py preferences` wrote.")
    with open_archive(path, "a data set of preferences", _REQUIRED) as archive:
        if str(archive.array("format")) != _FORMAT:
            raise DataError(f"{path} has the format {str(archive.array('format'))!r}; this version reads {_FORMAT!r}.")
        arrays = {key: archive.array(key) for key in (*_REQUIRED[1:], "score") if key in archive.names}
        about = parse_json(str(arrays.pop("about")))
        env = about.pop("env")
        found = Preferences(**_typed(arrays, path), env=str(env), about=about)
    found.check(str(path))
    return found


def _typed(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in their types; only numbers that such a conversion keeps are converted."""
    for key, array in arrays.items():
        if array.dtype.kind not in ("iu" if key == "pairs" else "fiu"):
            wanted = "whole numbers" if key == "pairs" else "numbers"
            raise DataError(f"{path} has {key} of type {array.dtype}; expected {wanted}.")
    wide = arrays["pairs"]
    if wide.size and (wide.min() < -(2**31) or wide.max() >= 2**31):
        raise DataError(f"{path} compares segment {wide.max()}, which it cannot have.")
    return {key: array.astype(np.int32 if key == "pairs" else np.float32) for key, array in arrays.items()}


@struct.dataclass
class PreferenceData:
    """What batches are drawn from, on the device.

    Attributes:
      observation: [N, K, observation].
      action: [N, K, action].
      pairs: [M, 2] the pairs that are drawn, or None for any two segments.
      label: [M] of those pairs, or None.
      score: [N] from which any other pair's label follows, or None where pairs are fixed.
      flip: [] share of the labels from scores that are wrong; the same pair is always labelled alike.
    """

    observation: Array
    action: Array
    pairs: Array | None
    label: Array | None
    score: Array | None
    flip: Array

    @property
    def size(self) -> int:
        """Pairs, or, where any two segments can be compared, segments."""
        return int(self.observation.shape[0] if self.pairs is None else self.pairs.shape[0])

    def sample(self, key: Array, batch_size: int) -> SegmentPairs:
        """Draws pairs uniformly, with replacement; where any two segments can be compared, never one with itself.

        Args:
          key: [] random key.
          batch_size: how many.

        Returns:
          [batch] pairs.
        """
        first_key, second_key = jax.random.split(key)
        first = jax.random.randint(first_key, (batch_size,), 0, self.size)
        if self.pairs is not None and self.label is not None:
            return self._gather(self.pairs[first], self.label[first])
        second = jax.random.randint(second_key, (batch_size,), 0, self.size - 1)
        pairs = jnp.stack([first, second + (second >= first)], axis=-1)
        return self._gather(pairs, self._label(pairs))

    def _gather(self, pairs: Array, label: Array) -> SegmentPairs:
        return SegmentPairs(observation=self.observation[pairs], action=self.action[pairs], label=label)

    def _label(self, pairs: Array) -> Array:
        """Labels [batch] by score; whether one is wrong follows from the two segments alone, in either order."""
        assert self.score is not None
        label = compare(self.score[pairs[:, 0]], self.score[pairs[:, 1]])

        def wrong(low: Array, high: Array) -> Array:
            return jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), low), high), self.flip)

        flipped = jax.vmap(wrong)(pairs.min(axis=-1), pairs.max(axis=-1))
        return jnp.where(flipped, 1.0 - label, label)


def compare(first: Any, second: Any) -> Array:
    """[...] 1 where the second score is higher, 0 where the first is, 1/2 where they are equal."""
    return jnp.where(first == second, 0.5, jnp.where(first < second, 1.0, 0.0))


def divide(data: Preferences) -> tuple[PreferenceData, SegmentPairs | None]:
    """What is learned from, and the last tenth of the pairs (at most 512), which are kept apart to measure on.

    Of data without pairs, the last tenth of the segments are kept apart, and compared with each other. Data of fewer than
    ten pairs (or 20 segments) are learned from whole.

    Returns:
      (data, held-out pairs or None).
    """
    observation, action = jnp.asarray(data.observation), jnp.asarray(data.action)
    flip = jnp.float32(data.flip)
    if len(data.pairs):
        kept = min(int(_HELD_OUT_SHARE * len(data.pairs)), _MOST_HELD_OUT)
        last = len(data.pairs) - kept
        pairs, label = jnp.asarray(data.pairs), jnp.asarray(data.label)
        whole = PreferenceData(observation, action, pairs[:last], label[:last], None, flip)
        return whole, (whole._gather(pairs[last:], label[last:]) if kept else None)
    assert data.score is not None
    kept = int(_HELD_OUT_SHARE * len(data.score))
    last = len(data.score) - kept
    score = jnp.asarray(data.score)
    whole = PreferenceData(observation[:last], action[:last], None, None, score[:last], flip)
    if kept < 2:
        return whole, None
    apart = PreferenceData(observation[last:], action[last:], None, None, score[last:], flip)
    return whole, apart.sample(jax.random.key(0), min(kept, _MOST_HELD_OUT))
