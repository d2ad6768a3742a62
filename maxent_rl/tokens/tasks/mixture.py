"""Several tasks in one, with rewards on different scales: a letter before each prompt says which task it is of."""

from __future__ import annotations

import dataclasses
import string
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.copy_reverse import CopyReverse
from maxent_rl.tokens.tasks.modular_addition import ModularAddition
from maxent_rl.tokens.tasks.writing import FIRST_CHARACTER, PAD_TOKEN
from maxent_rl.types import Array


class Posed(NamedTuple):
    """Which task, [] int32, and its own prompt [longest] in its own tokens, padded on the left."""

    which: Array
    prompt: Array


@dataclasses.dataclass(frozen=True)
class Mixture(TokenTask[Posed]):
    """Problems of several tasks, each as likely, written with the characters of all of them.

    The letters before prompts are capitals, in the order of the tasks. `kinds` tells them apart; everything else is as the
    task itself has it, but that a right answer is worth what its scale says.

    Attributes:
      tasks: what is mixed.
      scales: what a right answer to each is rewarded with.
    """

    tasks: tuple[TokenTask[Any], ...] = (ModularAddition(10), CopyReverse())
    scales: tuple[float, ...] = (1.0, 10.0)

    def __post_init__(self) -> None:
        """Checks that there are as many scales as tasks, and letters for all of them.

        Raises:
          InvalidSettingError: there are not.
        """
        super().__post_init__()
        if not 1 <= len(self.tasks) <= len(string.ascii_uppercase) or len(self.scales) != len(self.tasks):
            raise InvalidSettingError(
                f"A mixture has from one to {len(string.ascii_uppercase)} tasks and a scale for each; got "
                f"{len(self.tasks)} tasks and {len(self.scales)} scales."
            )
        if any(letter in task.characters for task in self.tasks for letter in self._letters):
            raise InvalidSettingError(
                f"The tasks of a mixture must not have the characters {self._letters} that tell them apart."
            )

    @property
    def name(self) -> str:
        """The task's name."""
        return "mixture"

    @property
    def characters(self) -> str:
        """Those of all tasks, each once, and the letters that tell the tasks apart."""
        return "".join(dict.fromkeys("".join(task.characters for task in self.tasks))) + self._letters

    @property
    def prompt_length(self) -> int:
        """The longest prompt and its letter."""
        return self._longest + 1

    @property
    def response_length(self) -> int:
        """The longest of the tasks'."""
        return max(task.response_length for task in self.tasks)

    @property
    def _letters(self) -> str:
        return string.ascii_uppercase[: len(self.tasks)]

    @property
    def _longest(self) -> int:
        return max(task.prompt_length for task in self.tasks)

    def draw(self, key: Array) -> tuple[Posed, Array]:
        """Draws a task, and a problem of it."""
        which_key, key = jax.random.split(key)
        which = jax.random.randint(which_key, (), 0, len(self.tasks))
        drawn = [task.draw(key) for task in self.tasks]
        prompts = [_padded(task.write(one[0]), self._longest) for task, one in zip(self.tasks, drawn, strict=True)]
        return Posed(which, jnp.stack(prompts)[which]), jnp.stack([one[1] for one in drawn])[which]

    def write(self, problem: Posed) -> Array:
        """`B37+85=`, with padding before the letter."""
        tokens = jnp.stack([jnp.asarray(table)[problem.prompt] for table in self._into])[problem.which]
        letter = FIRST_CHARACTER + len(self.characters) - len(self.tasks) + problem.which
        tokens = jnp.pad(tokens, (1, 0))
        first = jnp.argmax(tokens != PAD_TOKEN)
        return jnp.where(jnp.arange(len(tokens)) == first - 1, letter, tokens).astype(jnp.int32)

    def read(self, prompt: Array) -> Posed:
        """The task by its letter, and the rest of the prompt."""
        place = prompt - (FIRST_CHARACTER + len(self.characters) - len(self.tasks))
        which = jnp.clip(jnp.max(place), 0, len(self.tasks) - 1)
        rest = jnp.where(place >= 0, PAD_TOKEN, prompt)[1:]
        return Posed(which, jnp.stack([jnp.asarray(table)[rest] for table in self._out_of])[which])

    def identity(self, problem: Posed) -> Array:
        """The task, and the problem's identity in it."""
        own = [task.identity(self._read(index, problem)) for index, task in enumerate(self.tasks)]
        length = max(len(one) for one in own)
        return jnp.append(
            jnp.stack([jnp.pad(one, (0, length - len(one))) for one in own])[problem.which], problem.which
        )

    def is_right(self, problem: Posed, response: Array) -> Array:
        """[] bool: as the task has it."""
        return jnp.stack(
            [
                task.is_right(self._read(index, problem), self._translated(index, response))
                for index, task in enumerate(self.tasks)
            ]
        )[problem.which]

    def answer(self, problem: Posed, response: Array) -> Array:
        """[] int32: as the task has it."""
        return jnp.stack(
            [
                task.answer(self._read(index, problem), self._translated(index, response))
                for index, task in enumerate(self.tasks)
            ]
        )[problem.which]

    def worth(self, problem: Posed) -> Array:
        """[] the scale of its task."""
        return jnp.asarray(self.scales, jnp.float32)[problem.which]

    def difficulty(self, problem: Posed) -> Array:
        """[] float32: as the task has it."""
        own = [task.difficulty(self._read(index, problem)) for index, task in enumerate(self.tasks)]
        return jnp.stack(own)[problem.which]

    def kind(self, problem: Posed) -> Array:
        """[] int32: which task."""
        return problem.which

    def candidates(self, problem: Posed) -> tuple[Array, Array]:
        """Those of all tasks, of which only its own are right."""
        responses, right = [], []
        for index, task in enumerate(self.tasks):
            own, own_right = task.candidates(self._read(index, problem))
            own = jnp.asarray(self._into[index])[own]
            responses.append(jnp.pad(own, ((0, 0), (0, self.response_length - own.shape[1]))))
            right.append(own_right & (problem.which == index))
        return jnp.concatenate(responses).astype(jnp.int32), jnp.concatenate(right)

    def _read(self, index: int, problem: Posed) -> Any:
        """The problem as task `index` reads it; means nothing where it is of another task."""
        return self.tasks[index].read(problem.prompt[self._longest - self.tasks[index].prompt_length :])

    def _translated(self, index: int, response: Array) -> Array:
        """A response in the tokens of task `index`."""
        return jnp.asarray(self._out_of[index])[jnp.clip(response, 0, self.vocabulary_size - 1)]

    @property
    def _into(self) -> list[np.ndarray]:
        """For each task, the mixture's token of each of its own; characters that it does not have become padding."""
        every, longest = self.characters, max(task.vocabulary_size for task in self.tasks)
        return [
            np.pad(
                np.array([0, 1, *(FIRST_CHARACTER + every.index(one) for one in task.characters)], np.int32),
                (0, longest - task.vocabulary_size),
            )
            for task in self.tasks
        ]

    @property
    def _out_of(self) -> list[np.ndarray]:
        """For each task, its own token of each of the mixture's; one that it does not have is none of its vocabulary."""
        found = []
        for task, into in zip(self.tasks, self._into, strict=True):
            table = np.full(self.vocabulary_size, task.vocabulary_size, np.int32)
            table[into[: task.vocabulary_size]] = np.arange(task.vocabulary_size)
            found.append(table)
        return found


def _padded(prompt: Array, length: int) -> Array:
    return jnp.pad(prompt, (length - len(prompt), 0))
