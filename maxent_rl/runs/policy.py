"""The exported policy: a folder of arrays (npz) and JSON, from which the agent acts without anything else of the run.

Nothing in it is pickled: reading a policy executes no code from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from maxent_rl.agents.base import acting_state, fresh_memory, recalling, remember
from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.errors import (
    CheckpointError,
    IncompatibleEnvironmentError,
    InvalidSettingError,
    NonFiniteError,
    PolicyError,
)
from maxent_rl.runs.config import agent_from
from maxent_rl.seeds.variants import variant_name
from maxent_rl.settings import check_settings
from maxent_rl.spaces import Space, flatten, is_size, to_agent, to_environment
from maxent_rl.storage.archives import open_archive
from maxent_rl.storage.arrays import Arrays, from_arrays, to_arrays
from maxent_rl.storage.files import as_path, storage_errors
from maxent_rl.storage.reading import open_regular, read_json, refuse_damage
from maxent_rl.types import PyTree, Spec

_FORMAT = 1


def policy_arrays(agent: Any, states: PyTree) -> Arrays:
    """What acting needs of agent states with leading axis [seed], as `export_policy` takes it."""
    return to_arrays(acting_state(agent, states))


def export_policy(folder: Path, config: dict[str, Any], arrays: Arrays, spec: Spec, step: int) -> None:
    """Writes the policies of all seeds of all variants, replacing an earlier export file by file.

    Args:
      folder: made if missing.
      config: as from `config.describe`.
      arrays: as from `policy_arrays`; with variants, all seeds of the first, then of the next.
      spec: the environment's shapes.
      step: environment steps of training behind it.
    """
    description = {
        "format": _FORMAT,
        "step": step,
        "env": config["run"]["env"],
        "backend": config["run"]["backend"],
        "max_episode_steps": config["run"].get("max_episode_steps"),
        "seeds": list(range(config["run"]["seed"], config["run"]["seed"] + config["run"]["num_seeds"])),
        "variants": config["run"]["variants"],
        "run": {"agent": config["run"]["agent"]},
        "agent": config["agent"],
        "spec": dataclasses.asdict(spec),
    }
    with storage_errors(f"write the policy to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "arrays.npz.partial"
        with open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(partial, folder / "arrays.npz")
        partial = folder / "policy.json.partial"
        partial.write_text(json.dumps(description, indent=2) + "\n")
        os.replace(partial, folder / "policy.json")


class Policy:
    """A trained policy of one seed: `policy(observation)` takes what the environment gives, and gives what it takes.

    Policies of agents that remember need to be told what happened; for the others this changes nothing:

    ```python
    memory = policy.memory()
    action = policy(observation, memory=memory)
    memory = policy.remember(memory, observation, action, reward)
    ```

    Attributes:
      agent: the agent with its hyper-parameters, those of the variant included.
      state: the agent's state, as far as acting needs it.
      spec: shapes of observations and actions.
      env: the environment's name.
      backend: its physics backend, or None.
      max_episode_steps: after which the run cut its episodes; None for the environment's own limit.
      seed: the seed that was trained.
      variant: the hyper-parameters that tell it from the other variants of its run; empty where nothing varied.
      step: environment steps of training behind it.
    """

    def __init__(
        self,
        agent: Any,
        state: PyTree,
        spec: Spec,
        description: dict[str, Any],
        seed: int,
        variant: dict[str, float] | None = None,
    ) -> None:
        self.agent, self.state, self.spec, self.seed, self.variant = agent, state, spec, seed, variant or {}
        self.env: str = description["env"]
        self.backend: str | None = description["backend"]
        self.max_episode_steps: int | None = description.get("max_episode_steps")
        self.step: int = description["step"]
        self._mode, self._act = jax.jit(agent.mode), jax.jit(agent.act)
        self._remember = jax.jit(partial(remember, agent))

    @property
    def name(self) -> str:
        """What tells it from the other policies of its run, in words: `learning_rate=0.001, seed 3`."""
        return ", ".join(filter(None, [variant_name(self.variant), f"seed {self.seed}"]))

    def memory(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        """What the policy remembers at the start of episodes, for batches of `batch_shape` observations."""
        return fresh_memory(self.agent, self.state, batch_shape)

    def remember(self, memory: PyTree, observation: Any, action: ArrayLike, reward: ArrayLike) -> PyTree:
        """The memory after a step: the observation before it and the action, as of a call, and the reward."""
        taken = to_agent(action, self.spec.action_space)
        seen = (jnp.asarray(each, jnp.float32) for each in (self._vector(observation), taken, reward))
        return self._remember(self.state, memory, *seen)

    def __call__(self, observation: Any, key: jax.Array | None = None, *, memory: PyTree = None) -> NDArray[Any]:
        """Chooses actions.

        Args:
          observation: as the environment gives it, one or a batch: arrays [..., *shape], in dicts or tuples where the
            environment has them; or the vectors [..., observation] that they become (`spaces` has the rule).
          key: None for the most likely action; a random key for a sample.
          memory: of the episodes so far; None at their start, and for policies that do not remember.

        Returns:
          [...] actions as the environment's `step` takes them, in its own units, shape and type.

        Raises:
          InvalidSettingError: it is no observation of the environment; or no random key.
          NonFiniteError: NaN or infinity in an observation.
        """
        array = self._vector(observation)
        if key is not None and not isinstance(key, jax.Array):
            raise InvalidSettingError(f"key= takes a random key, such as jax.random.key(0), or None, got {key!r}.")
        state = self.state if memory is None else recalling(self.agent, self.state, memory)
        action = self._mode(state, array) if key is None else self._act(state, array, key)
        return to_environment(np.asarray(action), self.spec.action_space)

    def _vector(self, observation: Any) -> NDArray[np.float32]:
        """[..., observation] as the agent sees it."""
        own, vector = self.spec.observation_space, Space("box", (self.spec.observation_size,))
        try:
            array = flatten(own or vector, observation, "The policy was given")
        except IncompatibleEnvironmentError as error:
            # The vector that it becomes is welcome, too.
            if own is None or not _is_array(observation) or observation.shape[-1:] != vector.shape:
                raise InvalidSettingError(str(error)) from error
            array = flatten(vector, observation, "The policy was given")
        finite = np.isfinite(array)
        if not finite.all():
            entry = int(np.argwhere(~finite)[0, -1])
            raise NonFiniteError(f"The policy was given an observation whose entry {entry} is NaN or infinite.")
        return array


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, jax.Array))


def load_policy(
    path: str | Path, seed: int | None = None, agent: type[Any] | None = None, *, variant: int | None = None
) -> Policy:
    """Reads a trained policy.

    Args:
      path: a run's folder, or a policy folder in it.
      seed: which of the run's seeds; None for the first.
      agent: the agent's class, for agents that are not in the registry.
      variant: which of the run's variants, counted from 0 in the order of config.json; None for the first.

    Returns:
      The policy, callable on observations.

    Raises:
      PolicyError: the folder is missing, damaged, or of another format.
      InvalidSettingError: the run has no such seed or variant.
    """
    folder = policy_folder(as_path(path, "a run's folder"))
    if variant is not None and not isinstance(variant, int):
        raise InvalidSettingError(f"variant= takes the number of a variant, counted from 0, got {variant!r}.")
    with refuse_damage(f"The policy in {folder}", PolicyError):
        description, built, spec, arrays = _read(folder, agent)
        seeds: list[int] = description["seeds"]
        if seed is not None and seed not in seeds:
            raise InvalidSettingError(f"The policy in {folder} has seeds {seeds}, not {seed}.")
        chosen = seeds[0] if seed is None else seed
        varied: dict[str, list[float]] = description.get("variants", {})
        count = len(next(iter(varied.values()), [None]))
        if variant is not None and not 0 <= variant < count:
            raise InvalidSettingError(f"The policy in {folder} has the variants 0 to {count - 1}, not {variant}.")
        index = variant or 0
        values = {name: column[index] for name, column in varied.items()}
        built = dataclasses.replace(built, **values)
        template = jax.eval_shape(lambda key: acting_state(built, built.init(key, spec)), jax.random.key(0))
        member = index * len(seeds) + seeds.index(chosen)
        row = {key: value[member] for key, value in arrays.items()}
        try:
            state = jax.tree.map(jnp.asarray, from_arrays(template, row))
        except CheckpointError as error:
            raise PolicyError(f"The policy in {folder} does not fit its description: {error}") from error
    return Policy(built, state, spec, description, chosen, values)


def _read(folder: Path, agent: type[Any] | None) -> tuple[dict[str, Any], Any, Spec, Arrays]:
    """Description, agent, spec, and the arrays of all seeds and variants."""
    try:
        description = read_json(folder / "policy.json")
        if description["format"] != _FORMAT:
            raise PolicyError(f"{folder} has policy format {description['format']}, this version reads {_FORMAT}.")
        _check(description)
        name = description["run"]["agent"]
        if agent is None and name not in AGENTS:
            raise PolicyError(f"The policy in {folder} is of agent {name!r}: pass its class as `agent`.")
        built = agent_from(agent or agent_class(name), description)
        check_settings(built)
        spec = _spec_from(description["spec"])
        open_regular(folder / "arrays.npz").close()  # there is one
        with open_archive(folder / "arrays.npz", "the arrays of a policy", (), PolicyError) as archive:
            return description, built, spec, {each: archive.array(each) for each in archive.names}
    except FileNotFoundError as error:
        raise PolicyError(f"There is no policy in {folder}: {Path(error.filename).name} is missing.") from error


def _check(description: dict[str, Any]) -> None:
    """Refuses what has another type than `export_policy` gives it; others are checked where they are used.

    Raises:
      ValueError: naming it.
    """
    seeds, variants = description["seeds"], description.get("variants", {})
    columns = list(variants.values())
    sound = {
        "env": isinstance(description["env"], str),
        "backend": isinstance(description["backend"], (str, NoneType)),
        "max_episode_steps": description.get("max_episode_steps") is None or is_size(description["max_episode_steps"]),
        "step": is_size(description["step"]),
        "seeds": isinstance(seeds, list) and bool(seeds) and all(map(is_size, seeds)),
        "variants": all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns)
        and all(isinstance(value, (int, float)) for column in columns for value in column),
    }
    wrong = [name for name, fits in sound.items() if not fits]
    if wrong:
        raise ValueError(f"its {wrong[0]} cannot be {str(description.get(wrong[0]))[:60]!r}")


def load_policies(path: str | Path, seed: int | None = None, variant: int | None = None) -> list[Policy]:
    """Reads all trained policies of a run, variant by variant; arguments narrow the choice.

    Args:
      path: a run's folder, or a policy folder in it.
      seed: only this seed; None for all.
      variant: only this variant, counted from 0; None for all.

    Raises:
      PolicyError, InvalidSettingError: as `load_policy` does.
    """
    first = load_policy(path, seed=seed, variant=variant)
    # `load_policy` has just found this file sound.
    description = read_json(policy_folder(Path(path)) / "policy.json")
    count = max((len(values) for values in description.get("variants", {}).values()), default=1)
    variants = range(count) if variant is None else [variant]
    seeds = description["seeds"] if seed is None else [seed]
    wanted = [(index, other) for index in variants for other in seeds]
    return [first, *(load_policy(path, seed=other, variant=index) for index, other in wanted[1:])]


def policy_folder(path: Path) -> Path:
    """The policy folder in a run's folder, or the given one where it has none."""
    return path / "policy" if (path / "policy").is_dir() else path


def _spec_from(values: dict[str, Any]) -> Spec:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    for name in ("observation_space", "action_space"):
        if fields.get(name) is not None:
            fields[name] = Space.of(fields[name])
    # Policies of before spaces were described have the bounds of one axis of float32 alone.
    low, high = fields.pop("action_low", None), fields.pop("action_high", None)
    if low is not None:
        fields["action_space"] = Space("box", fields["action_shape"], low=low, high=high)
    spec = Spec(**fields)
    shapes: dict[str, Any] = {name: getattr(spec, name) for name in ("observation_shape", "action_shape")}
    for name, shape in shapes.items():
        if not isinstance(shape, tuple) or not all(map(is_size, shape)):
            raise ValueError(f"its {name} cannot be {str(shape)[:60]!r}")
    if not is_size(spec.horizon) or not (spec.num_actions is None or is_size(spec.num_actions)):
        raise ValueError(f"its spec has the horizon {spec.horizon!r} and {spec.num_actions!r} actions")
    if spec.choices is not None and not all(map(is_size, spec.choices)):
        raise ValueError(f"its choices cannot be {str(spec.choices)[:60]!r}")
    return spec
