"""A teacher: whose weights it has, and how these follow those of the policy.

Source: the average over steps is that of Mean teachers (arXiv 1703.01780) and, as a self-teacher, of SDPO (arXiv 2601.20802),
which moves by 0.05 after each optimiser step; averages of several models: SALSA (arXiv 2411.01798).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import optax
from flax import struct

from maxent_rl.errors import InvalidSettingError, PolicyError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.settings import Fraction
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.tokens.objectives import TeacherName
from maxent_rl.tokens.teachers.stored import find_all, read_soup, unreadable
from maxent_rl.types import Array, PyTree


@struct.dataclass
class TeacherState:
    """A teacher's weights.

    Attributes:
      config: the shape of its transformer.
      params: its parameters; None for those of the policy itself.
    """

    config: TransformerConfig = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    params: PyTree | None


@struct.dataclass
class Teacher:
    """Who teaches a policy.

    Attributes:
      kind: "ema", an average over the policy's optimiser steps; "frozen", the policy as reinforcement began; "self", the
        policy as it is, which can only know better if it is told more; "policies", other models, or the average of several.
      rate: [] of "ema", the share of the way to the policy that it goes after each step: 1 copies it, 0 is "frozen".
      policies: of "policies", folders of runs (`StoredModel.find`).

    Raises:
      InvalidSettingError: "policies" without any.
    """

    kind: TeacherName = struct.field(pytree_node=False)  # type: ignore[no-untyped-call]
    rate: Fraction | Array = 0.05
    policies: tuple[str, ...] = struct.field(pytree_node=False, default=())  # type: ignore[no-untyped-call]

    def __post_init__(self) -> None:
        """Refuses a teacher without weights."""
        if self.kind == "policies" and not self.policies:
            raise InvalidSettingError("A teacher of the kind policies needs the folders of one or more runs, got none.")

    def check(self, env: str, vocabulary_size: int) -> None:
        """Looks at the policies of others, before anything is built.

        Args:
          env: the environment that is to be learned.
          vocabulary_size: V of its task.

        Raises:
          PolicyError: one is missing, damaged, or no language model.
          InvalidSettingError: one has another vocabulary, or no such seed.
          ShapeError: several of different shape.
        """
        for stored in find_all(self.policies):
            stored.check_vocabulary(env, vocabulary_size)

    def init(self, model: LanguageModel) -> TeacherState:
        """Its state before the first step; that of "ema" and "frozen" is the policy, until it begins."""
        if self.kind == "self":
            return TeacherState(model.config, None)
        if self.kind != "policies":
            return TeacherState(model.config, model.params)
        try:
            stored = find_all(self.policies)
        except PolicyError as error:
            # Whoever needs the shape of a state alone, as of an exported policy, need not have the folder.
            return TeacherState(model.config, unreadable(error, model.params))
        return TeacherState(stored[0].config, read_soup(stored))

    def begin(self, state: TeacherState, params: PyTree) -> TeacherState:
        """As reinforcement begins, from the policy's parameters."""
        return dataclasses.replace(state, params=params) if self.kind in ("ema", "frozen") else state

    def follow(self, state: TeacherState, params: PyTree) -> TeacherState:
        """After an optimiser step that has led to these parameters."""
        if self.kind != "ema":
            return state
        return dataclasses.replace(state, params=optax.incremental_update(params, state.params, self.rate))

    def model(self, state: TeacherState, policy: LanguageModel) -> LanguageModel:
        """The teacher as a language model, at the policy's temperature.

        Args:
          state: its own.
          policy: as it is now.
        """
        params: Any = policy.params if state.params is None else state.params
        return dataclasses.replace(policy, config=state.config, params=params)
