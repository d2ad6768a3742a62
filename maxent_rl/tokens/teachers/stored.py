"""Language models that other runs have trained and exported, as teachers or as the first policy of a run."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maxent_rl.errors import CheckpointError, InvalidSettingError, PolicyError, ShapeError
from maxent_rl.networks.soups import soup
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.storage.archives import open_archive
from maxent_rl.storage.arrays import from_arrays
from maxent_rl.storage.reading import read_json, refuse_damage
from maxent_rl.tokens.model import LanguageModel, small_config
from maxent_rl.tokens.tasks import TASKS
from maxent_rl.types import PyTree

_SIZES = ("hidden_size", "num_layers", "num_heads", "num_key_value_heads", "intermediate_size")


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A policy of a run on a token task.

    Attributes:
      folder: with its policy.json and arrays.npz.
      member: which of the policies in it.
      env: the environment that it was trained on.
      config: the transformer's shape.
    """

    folder: Path
    member: int
    env: str
    config: TransformerConfig

    @classmethod
    def find(cls, path: str) -> StoredModel:
        """Looks at a policy without reading its parameters.

        Args:
          path: a run's folder, or a policy folder in it, and after a colon the seed, where it is not to be the first:
            `runs/tokens-countdown/lm/begun:1`.

        Raises:
          PolicyError: there is none, or it is damaged, or no language model.
          InvalidSettingError: the run has no such seed.
        """
        match = re.fullmatch(r"(.+):(\d+)", path)
        place, seed = (match[1], int(match[2])) if match else (path, None)
        folder = Path(os.path.expanduser(place))
        folder = folder / "policy" if (folder / "policy").is_dir() else folder
        with refuse_damage(f"The policy in {folder}", PolicyError):
            try:
                description = read_json(folder / "policy.json")
            except FileNotFoundError as error:
                raise PolicyError(f"There is no policy in {folder}: policy.json is missing.") from error
            settings, spec, seeds = description["agent"], description["spec"], description["seeds"]
            if not set(_SIZES) <= settings.keys():
                raise PolicyError(
                    f"The policy in {folder} is of agent {description['run']['agent']!r}, no language model."
                )
            if seed is not None and seed not in seeds:
                raise InvalidSettingError(f"The policy in {folder} has seeds {seeds}, not {seed}.")
            config = small_config(int(spec["num_actions"]), **{name: int(settings[name]) for name in _SIZES})
            return cls(folder, 0 if seed is None else seeds.index(seed), str(description["env"]), config)

    def read(self) -> PyTree:
        """Its parameters, as NumPy arrays.

        Raises:
          PolicyError: they are missing, damaged, or do not fit the description.
        """
        template = jax.eval_shape(lambda key: LanguageModel.create(self.config, key).params, jax.random.key(0))
        with open_archive(self.folder / "arrays.npz", "the arrays of a policy", (), PolicyError) as archive:
            found = {
                name.removeprefix(".params"): archive.array(name)[self.member]
                for name in archive.names
                if name.startswith(".params")
            }
        try:
            return jax.tree.map(np.asarray, from_arrays(template, found))
        except CheckpointError as error:
            raise PolicyError(f"The policy in {self.folder} does not fit its description: {error}") from error

    def check_vocabulary(self, env: str, vocabulary_size: int) -> None:
        """Refuses a model whose tokens mean something else than those of the task that is to be learned.

        Raises:
          InvalidSettingError: another number of tokens, or other characters.
        """
        own, wanted = self.config.vocabulary_size, vocabulary_size
        if own != wanted:
            raise InvalidSettingError(
                f"The policy in {self.folder} has a vocabulary of {own} tokens and {env} one of {wanted}: a teacher, or a "
                "first policy, must have the same."
            )
        characters, others = _characters(env), _characters(self.env)
        if characters and others and characters != others:
            raise InvalidSettingError(
                f"The policy in {self.folder} writes {others!r} ({self.env}) and {env} is written in {characters!r}: a "
                "teacher, or a first policy, must have the same vocabulary."
            )


def find_all(paths: Sequence[str]) -> list[StoredModel]:
    """The models at several places, of one shape.

    Raises:
      PolicyError, InvalidSettingError: as `StoredModel.find`.
      ShapeError: models of different shape, which have no average.
    """
    found = [StoredModel.find(path) for path in paths]
    for other in found[1:]:
        for name in (*_SIZES, "vocabulary_size"):
            one, another = getattr(found[0].config, name), getattr(other.config, name)
            if one != another:
                raise ShapeError(
                    f"A soup averages networks of one shape: {found[0].folder} has {name} {one} and {other.folder} {another}."
                )
    return found


def read_soup(models: Sequence[StoredModel]) -> PyTree:
    """The average of their parameters; of one model, its own.

    In a program it is read when that runs, not when it is traced: whoever wants to know its structure alone (of a policy that
    was exported, say) needs no folder.

    Args:
      models: of one shape.
    """
    template = jax.eval_shape(lambda key: LanguageModel.create(models[0].config, key).params, jax.random.key(0))

    def read() -> Any:
        parameters = [model.read() for model in models]
        mixed = parameters[0] if len(parameters) == 1 else soup(parameters)
        return jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), mixed, template)

    return jax.pure_callback(read, template)


def unreadable(error: PolicyError, like: PyTree) -> PyTree:
    """What stands for parameters that are not there: their shape can be looked at, and whoever runs it meets the error.

    Args:
      error: why they are not there.
      like: parameters of the same shape.
    """

    def fail() -> Any:
        raise error

    return jax.pure_callback(fail, jax.eval_shape(lambda: like))


def first_params(path: str, own: PyTree) -> PyTree:
    """The parameters of a run's policy, for another run to begin with.

    Args:
      path: as `StoredModel.find` takes it, looked at before by `check_first`.
      own: parameters of the same shape. Where the folder is no longer there, the shape can be had all the same.
    """
    try:
        return read_soup([StoredModel.find(path)])
    except PolicyError as error:
        return unreadable(error, own)


def check_first(path: str, config: TransformerConfig, env: str) -> None:
    """Looks at a policy to begin with.

    Raises:
      PolicyError: it is missing, damaged, or no language model.
      InvalidSettingError: it has another shape or vocabulary, or the run no such seed.
    """
    stored = StoredModel.find(path)
    stored.check_vocabulary(env, config.vocabulary_size)
    if stored.config != config:
        raise InvalidSettingError(
            f"The policy in {stored.folder} has another shape than this run's: give the sizes of that run (--hidden-size "
            f"{stored.config.hidden_size}, --num-layers {stored.config.num_layers} and so on)."
        )


def _characters(env: str) -> str:
    """What the task of an environment is written in; "" where it is none of ours."""
    task = TASKS.get(env.removeprefix("tokens/"))
    return task().characters if task is not None else ""
