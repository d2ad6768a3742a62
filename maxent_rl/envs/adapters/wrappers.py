"""What stands between an environment and us: its layers, and wrappers that learn, which are refused.

A wrapper that scales by running statistics (`NormalizeObservation`, `NormalizeReward` and their like) has learned as much as
the agent has: the environments of an evaluation, an exported policy and a resumed run begin without it, and rewards have other
units than the environment's. Agents that scale by themselves keep their statistics wherever the policy goes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

from maxent_rl.errors import IncompatibleEnvironmentError

# Running statistics by what they hold: a centre, a spread, and how far they are or how fast they forget.
_PARTS = {
    "centre": ("mean", "means"),
    "spread": ("var", "vars", "variance", "variances", "std", "m2"),
    "progress": ("count", "counts", "num", "n", "alpha"),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}
_NAMED = re.compile(
    r"(.+_)?(rms|running_(mean|var|variance|std|ms|norm|stats?|statistics|mean_std)|welford)", re.IGNORECASE
)
_CALLED = re.compile(r"running_?(mean|std|stat|scal|norm|stand)|mean_?std|welford|empirical_?norm", re.IGNORECASE)
_OF_REWARDS = re.compile(r"rew|returns?|ret(_|$)", re.IGNORECASE)
_FEW = 64  # entries of a container that are looked into


def layers(env: gymnasium.Env[Any, Any]) -> Iterator[Any]:
    """The wrappers from the outside in, then the environment itself."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        yield layer
        layer = layer.env
    yield layer


def refuse_learning_wrappers(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Refuses wrappers that hold running statistics which still move.

    Frozen ones (`update_running_mean = False` in Gymnasium's) scale by fixed numbers, as any other transformation.

    Args:
      env: the environment, with its wrappers.
      name: for messages.

    Raises:
      IncompatibleEnvironmentError: saying which, and what to do instead.
    """
    learned = [(type(layer).__name__, what) for layer in _every_layer(env) for what in _learned(layer)]
    if not learned:
        return
    kinds = {what for _, what in learned}
    advice = []
    if "observations" in kinds:
        advice.append(
            "pass --normalize-observations (an agent without it: fixed numbers in gymnasium.wrappers.TransformObservation)"
        )
    if "rewards" in kinds:
        advice.append(
            "let PPO scale rewards (--normalize-rewards; other agents: a fixed factor in gymnasium.wrappers.TransformReward)"
        )
    wrappers = ", ".join(dict.fromkeys(layer for layer, _ in learned))
    raise IncompatibleEnvironmentError(
        f"{name} scales {' and '.join(sorted(kinds))} by running statistics ({wrappers}), which evaluation, the exported "
        f"policy and a resumed run would begin without: leave that out and {', and '.join(advice)}."
    )


def _every_layer(env: Any) -> Iterator[Any]:
    """All layers, also those below an environment that wraps another one without being a `gymnasium.Wrapper`."""
    seen: set[int] = set()
    while isinstance(env, gymnasium.Env) and id(env) not in seen:
        for layer in layers(env):
            seen.add(id(layer))
            yield layer
        held = vars(layer)
        env = next((held[name] for name in ("env", "_env") if isinstance(held.get(name), gymnasium.Env)), None)


def _learned(layer: Any) -> Iterator[str]:
    """What a layer holds running statistics of, "observations" or "rewards"; nothing where they are frozen."""
    if any(getattr(layer, flag, None) is False for flag in ("update_running_mean", "training")):
        return
    held = {name: value for name, value in vars(layer).items() if not _is_switch(value)}
    # A world of its own may well have means, variances and counts: those of a bandit's arms.
    wraps = isinstance(layer, gymnasium.Wrapper)
    found = [name for name in held if _NAMED.fullmatch(name.strip("_"))]
    found += [name for name, value in held.items() if any(_is_running(each, wraps) for each in _entries(value))]
    found += _centres(held) if wraps and not _is_noise(layer) else []
    for name in dict.fromkeys(found):
        words = name if re.search("obs", name, re.IGNORECASE) else f"{name} {type(layer).__name__}"
        yield "rewards" if _OF_REWARDS.search(words) or isinstance(layer, gymnasium.RewardWrapper) else "observations"


def _entries(value: Any) -> Iterator[Any]:
    """An attribute's value, or what a container of statistics (one for each key of a Dict observation) holds."""
    if isinstance(value, Mapping):
        return itertools.islice(value.values(), _FEW)
    return itertools.islice(value, _FEW) if isinstance(value, (list, tuple)) else iter([value])


def _is_running(value: Any, by_content: bool) -> bool:
    """Whether an object is running statistics, by the name of its class or by what it holds."""
    if isinstance(value, (gymnasium.Env, type)) or not hasattr(value, "__dict__") or _is_noise(value):
        return False
    if getattr(value, "training", None) is False:
        return False
    return bool(_CALLED.search(type(value).__name__)) or (by_content and bool(_centres(vars(value))))


def _centres(held: Mapping[str, Any]) -> list[str]:
    """The attributes that are means of running statistics: `obs_mean` beside `obs_var` and `obs_count`."""
    parts: dict[str, dict[str, str]] = {}
    for name, value in held.items():
        prefix, _, last = name.strip("_").lower().rpartition("_")
        if last in _PART_OF and not _is_switch(value) and not callable(value):
            parts.setdefault(prefix, {})[_PART_OF[last]] = name
    return [found["centre"] for found in parts.values() if len(found) == len(_PARTS)]


def _is_noise(value: Any) -> bool:
    # Noise has a mean and a deviation too, and may fade.
    return "nois" in type(value).__name__.lower()


def _is_switch(value: Any) -> bool:
    return value is None or isinstance(value, (bool, np.bool_, str))
