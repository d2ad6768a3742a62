"""Addition of two marked numbers among others: `4*37*8=` wants `1`, and may go on with a description of other company.

A problem is a core, the two marked numbers, whose sum is the label, and a context: the numbers around it. The context follows
from a description of a few tokens, which a policy may write behind its answer (`1;2103`); `render` puts the same core into
the context that a description says. So whatever is described, the label stays.

Source: after Syn-GRPO (arXiv 2511.19343), whose images and generator these stand for; the form is the library's own.
"""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Interval
from maxent_rl.tokens.tasks.base import TokenTask
from maxent_rl.tokens.tasks.writing import END_TOKEN, FIRST_CHARACTER, PAD_TOKEN, join, write_token
from maxent_rl.types import Array

_CHARACTERS = "0123456789*=;"
_MARK, _EQUALS, _GOES_ON = (FIRST_CHARACTER + _CHARACTERS.index(one) for one in "*=;")
_KINDS, _PLACES, _SPACINGS = 4, 3, 3


class Marked(NamedTuple):
    """Numbers [room + 2] int32, -1 behind the last, and the places [] of the two that are marked."""

    numbers: Array
    first: Array
    second: Array


@dataclasses.dataclass(frozen=True)
class Contexts(TokenTask[Marked]):
    """Two marked numbers of one digit are to be added modulo a number, whatever other numbers stand around them.

    A response begins with the answer; behind it stands the end, or `;` and a description: how many other numbers there are to
    be, of which kind (0: zeros, 1: the first marked number again, 2: those that follow it, 3: mixed), where they stand
    (0, 1, 2: none, half or all before the first marked number), and how many of the rest stand between the two (0, 1, 2: none,
    half, all). The answer counts by itself, whether what follows is a description or not, and ends or not.

    Problems are held out with their context: the same core comes in others.

    Attributes:
      modulus: the sum is taken modulo this; all numbers lie below it.
      room: the most other numbers that a description can ask for.
      least: the fewest other numbers of a problem that the task itself poses.
      most: the most of them.
    """

    modulus: Annotated[int, Interval(2, 10)] = 10
    room: Annotated[int, Interval(1, 9)] = 6
    least: Annotated[int, Interval(0, 9)] = 0
    most: Annotated[int, Interval(0, 9)] = 1

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
          InvalidSettingError: a size out of its bounds, or numbers of others that do not fit together.
        """
        super().__post_init__()
        if not self.least <= self.most <= self.room:
            raise InvalidSettingError(
                f"Contexts have from least to most other numbers, and room for these: got least={self.least}, "
                f"most={self.most} and room={self.room}."
            )

    @property
    def name(self) -> str:
        """The task's name."""
        return "contexts"

    @property
    def characters(self) -> str:
        """Digits, the mark, equals, and what stands before a description."""
        return _CHARACTERS

    @property
    def prompt_length(self) -> int:
        """All numbers, two marks, equals."""
        return self.room + 5

    @property
    def response_length(self) -> int:
        """The answer, `;`, a description and the end."""
        return 3 + len(self._choices)

    @property
    def _choices(self) -> tuple[int, ...]:
        """How many values each entry of a description can have."""
        return self.room + 1, _KINDS, _PLACES, _SPACINGS

    def draw(self, key: Array) -> tuple[Marked, Array]:
        """Draws the core and the description uniformly."""
        core_key, number_key, *keys = jax.random.split(key, 1 + len(self._choices))
        left, right = jax.random.randint(core_key, (2,), 0, self.modulus)
        number = jax.random.randint(number_key, (), self.least, self.most + 1)
        others = [jax.random.randint(one, (), 0, most) for one, most in zip(keys, self._choices[1:], strict=True)]
        return self.laid_out(left, right, jnp.stack([number, *others])), jnp.ones((), bool)

    def write(self, problem: Marked) -> Array:
        """`4*37*8=`."""
        pieces = []
        for place in range(self.room + 2):
            there = problem.numbers[place] >= 0
            pieces.append(write_token(_MARK, there & ((problem.first == place) | (problem.second == place))))
            pieces.append(write_token(FIRST_CHARACTER + problem.numbers[place], there))
        tokens = join([*pieces, write_token(_EQUALS)], pad_left=True)
        return tokens[-self.prompt_length :]  # two of all the numbers are marked

    def read(self, prompt: Array) -> Marked:
        """The numbers, and which of them are marked."""
        value = prompt - FIRST_CHARACTER
        is_number = (value >= 0) & (value < 10)
        place = jnp.cumsum(is_number) - 1
        here = is_number & (place == jnp.arange(self.room + 2)[:, None])
        numbers = jnp.where(jnp.any(here, axis=-1), jnp.sum(jnp.where(here, value, 0), axis=-1), -1)
        marked = is_number & (jnp.roll(prompt, 1) == _MARK)
        first, last = jnp.argmax(marked), marked.shape[0] - 1 - jnp.argmax(marked[::-1])
        return Marked(numbers.astype(jnp.int32), place[first].astype(jnp.int32), place[last].astype(jnp.int32))

    def identity(self, problem: Marked) -> Array:
        """All of it."""
        return jnp.concatenate([problem.numbers, jnp.stack([problem.first, problem.second])])

    def difficulty(self, problem: Marked) -> Array:
        """How many other numbers there are."""
        return (jnp.sum(problem.numbers >= 0) - 2).astype(jnp.float32)

    def answer(self, problem: Marked, response: Array) -> Array:
        """The first token, where it is a number and the end or a description follows."""
        value = response[0] - FIRST_CHARACTER
        follows = response[1] if response.shape[0] > 1 else jnp.asarray(PAD_TOKEN)
        right_form = (value >= 0) & (value < 10) & ((follows == END_TOKEN) | (follows == _GOES_ON))
        return jnp.where(right_form, value, -1).astype(jnp.int32)

    def is_right(self, problem: Marked, response: Array) -> Array:
        """[] bool: whether it is the sum."""
        return self.answer(problem, response) == self._label(problem)

    def candidates(self, problem: Marked) -> tuple[Array, Array]:
        """The right answers that demonstrations are taken from, with every description; others are right too."""
        every = np.array(list(itertools.product(*map(range, self._choices))), np.int32) + FIRST_CHARACTER
        count = len(every)
        answer = jnp.broadcast_to(FIRST_CHARACTER + self._label(problem), (count, 1))
        goes_on, end = (jnp.full((count, 1), token) for token in (_GOES_ON, END_TOKEN))
        return jnp.concatenate([answer, goes_on, every, end], axis=-1).astype(jnp.int32), jnp.ones(count, bool)

    def apart(self, responses: Array, mask: Array) -> Array:
        """[N, T'] bool: what stands behind the `;`."""
        goes_on = ((responses == _GOES_ON) & (jnp.arange(responses.shape[-1]) == 1)).astype(jnp.int32)
        return (jnp.cumsum(goes_on, axis=-1) - goes_on > 0) & jnp.asarray(mask, bool)

    def describe(self, responses: Array, mask: Array) -> tuple[Array, Array]:
        """The descriptions in responses [N, T'] with their mask.

        Returns:
          ([N, 4] int32, [N] bool whether it is well formed: every entry can be, and the end follows). Where it is not, the
          entries are held within what can be.
        """
        seen = jnp.where(jnp.asarray(mask, bool), responses, PAD_TOKEN)
        seen = jnp.pad(seen, ((0, 0), (0, max(self.response_length - seen.shape[1], 0))))
        entries = seen[:, 2 : 2 + len(self._choices)] - FIRST_CHARACTER
        most = jnp.asarray(self._choices)
        ended = seen[:, self.response_length - 1] == END_TOKEN
        good = (seen[:, 1] == _GOES_ON) & ended & jnp.all((entries >= 0) & (entries < most), axis=-1)
        return jnp.clip(entries, 0, most - 1).astype(jnp.int32), good

    def descriptions(self, key: Array, count: int) -> Array:
        """Draws descriptions uniformly: [count, 4] int32."""
        keys = jax.random.split(key, len(self._choices))
        drawn = [jax.random.randint(one, (count,), 0, most) for one, most in zip(keys, self._choices, strict=True)]
        return jnp.stack(drawn, axis=-1)

    def render(self, prompts: Array, descriptions: Array) -> Array:
        """Puts the cores of prompts [N, P] into the contexts of descriptions [N, 4]: prompts [N, P]."""
        rendered: Array = _render(self, prompts, descriptions)
        return rendered

    def labels(self, prompts: Array) -> Array:
        """[N] int32: the right answers, read from the prompts [N, P] themselves: the oracle of what must not change."""
        found: Array = _labels(self, prompts)
        return found

    def laid_out(self, left: Array, right: Array, description: Array) -> Marked:
        """A core in the context of a description [4]."""
        number, kind, place, spacing = description
        before = number * place // 2
        between = (number - before) * spacing // 2
        first, second = before, before + between + 1
        index = jnp.arange(self.room + 2)
        order = index - (index > first) - (index > second)  # of the others, from 0
        kinds = jnp.stack(
            [
                jnp.zeros_like(order),
                jnp.broadcast_to(left, order.shape),
                left + 1 + order,
                7 * left + 3 * right + 5 * order * order + order + 1,
            ]
        )
        numbers = jnp.where(index == first, left, jnp.where(index == second, right, kinds[kind] % self.modulus))
        numbers = jnp.where(index < number + 2, numbers, -1)
        return Marked(numbers.astype(jnp.int32), first.astype(jnp.int32), second.astype(jnp.int32))

    def _label(self, problem: Marked) -> Array:
        return (problem.numbers[problem.first] + problem.numbers[problem.second]) % self.modulus


@partial(jax.jit, static_argnames="task")
def _render(task: Contexts, prompts: Array, descriptions: Array) -> Array:
    def one(prompt: Array, description: Array) -> Array:
        problem = task.read(prompt)
        core = problem.numbers[problem.first], problem.numbers[problem.second]
        return task.write(task.laid_out(*core, description))

    rendered: Array = jax.vmap(one)(prompts, descriptions)
    return rendered


@partial(jax.jit, static_argnames="task")
def _labels(task: Contexts, prompts: Array) -> Array:
    return jax.vmap(lambda prompt: task._label(task.read(prompt)))(prompts)
