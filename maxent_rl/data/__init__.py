"""Data that agents learn from: buffers, batches of fixed data, data sets in files, and measures of their worth.

The names here are the ones to use from outside; each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxent_rl.data.batches.preferences import Preferences, read_preferences
    from maxent_rl.data.buffers.replay import ReplayLayout
    from maxent_rl.data.buffers.rollout import RolloutLayout
    from maxent_rl.data.buffers.rows import Replay, RowLayout
    from maxent_rl.data.datasets.dataset import Dataset
    from maxent_rl.data.datasets.files import open_chunks, read_dataset, write_dataset
    from maxent_rl.data.datasets.passes import open_source
    from maxent_rl.data.measures.diagnostics import Diagnosis, diagnose
    from maxent_rl.data.measures.policy_features import ActionProbabilities
    from maxent_rl.data.measures.quality import Quality, measure

_HOMES = {
    **dict.fromkeys(("Preferences", "read_preferences"), "batches.preferences"),
    "ReplayLayout": "buffers.replay",
    "RolloutLayout": "buffers.rollout",
    **dict.fromkeys(("Replay", "RowLayout"), "buffers.rows"),
    "Dataset": "datasets.dataset",
    **dict.fromkeys(("open_chunks", "read_dataset", "write_dataset"), "datasets.files"),
    "open_source": "datasets.passes",
    **dict.fromkeys(("Diagnosis", "diagnose"), "measures.diagnostics"),
    "ActionProbabilities": "measures.policy_features",
    **dict.fromkeys(("Quality", "measure"), "measures.quality"),
}
__all__ = [
    "ActionProbabilities",
    "Dataset",
    "Diagnosis",
    "Preferences",
    "Quality",
    "Replay",
    "ReplayLayout",
    "RolloutLayout",
    "RowLayout",
    "diagnose",
    "measure",
    "open_chunks",
    "open_source",
    "read_dataset",
    "read_preferences",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"maxent_rl.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'maxent_rl.data' has no attribute {name!r}")
