"""A screen of icons that is to be operated: `A12B20C01D33atBbs^cw47eda` wants `tB20`, `s^`, `w47` and `d`, one in each turn.

After CRAFT-GUI (arXiv 2508.11360), whose screenshots, devices and judge these stand for; the form is the library's own.
"""

from __future__ import annotations

import dataclasses
import string
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError, unknown_name
from maxent_rl.settings import Fraction, Interval
from maxent_rl.tokens.tasks.conversation import ConversationTask, Reply
from maxent_rl.tokens.tasks.writing import END_TOKEN, FIRST_CHARACTER, PAD_TOKEN, fingerprint, join, write_token
from maxent_rl.types import Array

_ACTIONS = "tswfd="
"""What a model may do, by the character that it begins with."""
_TAP, _SCROLL, _TYPE, _FRAME, _DONE, _ANSWER = range(len(_ACTIONS))
_GOALS = ("tap", "scroll", "type", "frame")
_QUESTIONS = "#@"
_COUNT, _PLACE = range(len(_QUESTIONS))
_DIRECTIONS = "^v<>"
_ICONS_MOVE = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""(rows, columns) that icons move by where one scrolls in each of the directions."""
_NOTED, _UNREADABLE = ".?"
_STEPS = "abceghijklmno"
"""What operations are numbered with: letters that begin no action."""
_NUMBERS = 2.0**31


class Icons(NamedTuple):
    """I icons: what is written on them, and the cell [I] where each begins; width in cells. All [I] int32."""

    label: Array
    row: Array
    column: Array
    width: Array


class Goal(NamedTuple):
    """What is to be done on which screen.

    Attributes:
      icons: on the screen as it begins.
      kinds: [operations] int32: tap, scroll, type or frame; -1 beyond the last.
      values: [operations, digits] int32: the label, the direction or the digits; -1 beyond.
      question: [] int32: -1 for none, or how many icons have a label, or where one is; then there are no operations.
      label: [] int32 that is asked for; 0 where nothing is.
    """

    icons: Icons
    kinds: Array
    values: Array
    question: Array
    label: Array

    @property
    def number(self) -> Array:
        """[] int32 operations."""
        return jnp.sum(self.kinds >= 0, dtype=jnp.int32)


class Situation(NamedTuple):
    """How far a conversation has come.

    Attributes:
      goal: from the beginning.
      row: [I] where the icons are by now.
      column: [I] likewise.
      turn: [] int32 from 0.
      scrolled: [] int32 times that the screen has moved.
      formed: [] turns that could be read.
      right: [] bool: whether all of them were right.
    """

    goal: Goal
    row: Array
    column: Array
    turn: Array
    scrolled: Array
    formed: Array
    right: Array


class _Action(NamedTuple):
    """What a turn says: its kind [], its parameters [S - 2] (-1 beyond the last), how many, and whether it can be read."""

    kind: Array
    values: Array
    number: Array
    formed: Array


@dataclasses.dataclass(frozen=True)
class Screen(ConversationTask[Goal]):
    """Operations on a grid of labelled icons, one in each turn, or a question about it that a simulated judge looks at.

    A prompt lists the icons with row and column (and width, where there are wider ones), then the operations, each behind a
    letter that numbers it, and last the number of the first. A turn is a tap on an icon at its cell, `tB20`; a scroll, `s^`;
    digits typed, `w47`; a frame around an icon by its first and last cell, `fB2021`; or `d`, done, which is the last operation
    of a goal and ends the conversation. The reply is the screen where a scroll has moved it, otherwise a dot, or `?` where the
    turn could not be read, and the number of the next operation. Nothing says what was right.

    Turn k is held against operation k: it earns what `losses.gated_reward` makes of form, kind and parameters, divided by the
    number of turns that are due, so that an episode earns from 0 to 1, and 1 only where all is right. Any icon of a label
    is right. Questions, `#A` (how many?) and `@A` (where?), are answered in one turn, `=2` or `=12`, and judged: the judge is
    an oracle that is wrong about some answers, always about the same ones (`losses.judged_reward`).

    In demonstrations each turn has random parameters at times, so that a long episode is right less often than a short one.

    Attributes:
      side: cells of a row and of a column.
      icons: on the screen.
      labels: different ones.
      operations: most operations of a goal; goals of each number are equally likely, and it is their difficulty.
      acts: kinds of operations, of tap, scroll, type and frame.
      digits: of what is to be typed.
      scrolls: most of a goal; then the page is at its end, and does not move any more.
      widest: cells of an icon at most.
      questions: share of the prompts that ask.
      judge_noise: eta, share of the answers that the judge is wrong about.
      weights: of form, kind and parameters, which sum to 1.
      dense: whether a tap beside an icon earns the more the closer it is, and typing for each digit, in place of nothing.
      pays: each step, or at the end alone: the share of turns that could be read where all was right, and else nothing.
      slips: share of the turns of demonstrations that have random parameters, or a random cell for an icon.
    """

    side: Annotated[int, Interval(2, 10)] = 4
    icons: Annotated[int, Interval(1, 9)] = 4
    labels: Annotated[int, Interval(1, 26)] = 4
    operations: Annotated[int, Interval(1, 12)] = 4
    acts: tuple[str, ...] = ("tap", "scroll", "type")
    digits: Annotated[int, Interval(1, 4)] = 2
    scrolls: Annotated[int, Interval(0, 12)] = 1
    widest: Annotated[int, Interval(1, 3)] = 1
    questions: Fraction = 0.2
    judge_noise: Fraction = 0.05
    weights: tuple[float, float, float] = (0.1, 0.3, 0.6)
    dense: bool = False
    pays: Literal["steps", "success"] = "steps"
    slips: Fraction = 0.3

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
          InvalidSettingError: a size out of its bounds, or sizes that do not fit together.
          UnknownNameError: a kind of operation that there is not.
        """
        super().__post_init__()
        for act in self.acts:
            if act not in _GOALS:
                raise unknown_name("kind of operation", act, _GOALS)
        if not set(self.acts) - {"scroll"}:
            raise InvalidSettingError("A screen needs a kind of operation besides scroll: tap, type or frame.")
        if self.icons > self.side * (self.side // self.widest):
            raise InvalidSettingError(
                f"A screen of {self.side} x {self.side} cells has no room for {self.icons} icons of up to {self.widest} cells."
            )
        if min(self.weights) < 0 or abs(sum(self.weights) - 1.0) > 1e-6:
            raise InvalidSettingError(f"Three weights that are not negative sum to 1, got {self.weights}.")

    @property
    def name(self) -> str:
        """The task's name."""
        return "screen"

    @property
    def characters(self) -> str:
        """Digits, actions, questions, directions, replies and labels."""
        fixed = string.digits + _ACTIONS + _QUESTIONS + _DIRECTIONS + _NOTED + _UNREADABLE
        return fixed + _STEPS[: self.operations + 1] + string.ascii_uppercase[: self.labels]

    @property
    def prompt_length(self) -> int:
        """The icons, and the longest goal."""
        longest = 2 + (self.digits if "type" in self.acts else 1)
        return self._listing + self.operations * longest + 3

    @property
    def turn_length(self) -> int:
        """An action, its parameters, and the end."""
        return 2 + max(3, self.digits, 5 if "frame" in self.acts else 0)

    @property
    def reply_length(self) -> int:
        """The icons, where they have moved, and the number of the next operation."""
        return self._listing + 1

    @property
    def max_turns(self) -> int:
        """One for each operation, and one to say that it is done."""
        return self.operations + 1

    @property
    def response_length(self) -> int:
        """Room for all turns and replies, of which not all can be long: the screen moves only so often."""
        moves = min(self.scrolls, self.operations)
        return self.max_turns * self.turn_length + moves * self.reply_length + 2 * (self.operations - moves)

    def draw(self, key: Array) -> tuple[Goal, Array]:
        """Draws a screen, and a goal or a question."""
        size = (self.operations,)
        slots = self.side * (self.side // self.widest)
        of_icons, of_operations, of_question = (
            (slots, self.icons, self.icons),
            (1, *size * 4, (*size, self.digits)),
            (1,) * 4,
        )
        drawn = _numbers(key, *of_icons, *of_operations, *of_question)
        icons = self._icons_of(*drawn[:3])
        kinds, values = self._operations_of(icons, *drawn[3:9])
        asks, which, any_label, some_icon = (each[0] for each in drawn[9:])
        asks, which = asks < self.questions * _NUMBERS, which % len(_QUESTIONS)
        label = jnp.where(which == _COUNT, any_label % self.labels, icons.label[some_icon % self.icons])
        goal = Goal(
            icons,
            jnp.where(asks, -1, kinds),
            jnp.where(asks, -1, values),
            jnp.where(asks, which, -1),
            jnp.where(asks, label, 0),
        )
        return goal, jnp.ones((), bool)

    def _icons_of(self, slots: Array, labels: Array, widths: Array) -> Icons:
        """Icons of random numbers, of which those of the slots say where they are."""
        columns = self.side // self.widest
        place = jnp.argsort(slots)[: self.icons]
        column = place % columns * self.widest
        return Icons(labels % self.labels, place // columns, column, 1 + widths % self.widest)

    def _operations_of(
        self, icons: Icons, number: Array, kind: Array, other: Array, icon: Array, direction: Array, digits: Array
    ) -> tuple[Array, Array]:
        """Kinds and values of operations of random numbers; scrolls beyond the page's end become other kinds."""
        acts = jnp.array([_GOALS.index(act) for act in self.acts])
        others = jnp.array([_GOALS.index(act) for act in self.acts if act != "scroll"])
        kinds = acts[kind % len(acts)]
        beyond = jnp.cumsum(kinds == _SCROLL) > self.scrolls
        kinds = jnp.where((kinds == _SCROLL) & beyond, others[other % len(others)], kinds)
        kinds = jnp.where(jnp.arange(self.operations) < 1 + number % self.operations, kinds, -1)
        first = jnp.where(kinds == _SCROLL, direction % len(_DIRECTIONS), icons.label[icon % self.icons])
        values = jnp.where((kinds == _TYPE)[:, None], digits % 10, _first_of(first, self.digits))
        return kinds, jnp.where((kinds >= 0)[:, None], values, -1)

    def write(self, problem: Goal) -> Array:
        """`A12B20C01D33atBbs^cw47eda`, or `A12B20C01D33#B`."""
        listing = self._list(problem.icons)
        asks = problem.question >= 0
        question = write_token(self._first(_QUESTIONS) + problem.question, asks)
        label = write_token(self._first_label + problem.label, asks)
        base = jnp.array([self._first_label, self._first(_DIRECTIONS), FIRST_CHARACTER, self._first_label])
        values = jnp.where(problem.values >= 0, base[problem.kinds][:, None] + problem.values, PAD_TOKEN)
        there, step = problem.kinds[:, None] >= 0, self._first(_STEPS)
        numbers = step + jnp.arange(self.operations)[:, None]
        tokens = jnp.concatenate([numbers, self._first(_ACTIONS) + problem.kinds[:, None], values], axis=1)
        shown = jnp.concatenate([there, there, problem.values >= 0], axis=1)
        done = [step + problem.number, jnp.asarray(self._first(_ACTIONS) + _DONE), jnp.asarray(step)]
        pieces = [(listing, jnp.ones(listing.shape, bool)), (tokens.ravel(), shown.ravel())]
        pieces += [write_token(each, ~asks) for each in done] + [question, label]
        return join(pieces, pad_left=True)[-self.prompt_length :]

    def read(self, prompt: Array) -> Goal:
        """The icons and the goal."""
        text = jnp.roll(prompt, -jnp.argmax(prompt != PAD_TOKEN))
        icons = text[: self._listing].reshape(self.icons, -1)
        rest = text[self._listing :]
        place = jnp.arange(rest.shape[0])
        kind, step = rest - self._first(_ACTIONS), rest - self._first(_STEPS)
        begins = (kind >= 0) & (kind < len(_GOALS))
        marks = ((kind >= 0) & (kind < len(_ACTIONS))) | ((step >= 0) & (step <= self.operations))
        number = jnp.cumsum(begins) - 1
        offset = place - jax.lax.cummax(jnp.where(begins, place, -1))
        kinds = jnp.full(self.operations, -1).at[jnp.where(begins, number, self.operations)].set(kind, mode="drop")
        base = jnp.array([self._first_label, self._first(_DIRECTIONS), FIRST_CHARACTER, self._first_label])
        question = rest[0] - self._first(_QUESTIONS)
        asks = (question >= 0) & (question < len(_QUESTIONS))
        valued = ~marks & (rest != PAD_TOKEN) & ~asks & (number >= 0)
        values = jnp.full((self.operations, self.digits), -1)
        values = values.at[jnp.where(valued, number, self.operations), offset - 1].set(
            rest - base[kinds[number]], mode="drop"
        )
        return Goal(
            Icons(
                icons[:, 0] - self._first_label,
                icons[:, 1] - FIRST_CHARACTER,
                icons[:, 2] - FIRST_CHARACTER,
                icons[:, 3] - FIRST_CHARACTER if self.widest > 1 else jnp.ones(self.icons, jnp.int32),
            ),
            kinds,
            values,
            jnp.where(asks, question, -1),
            jnp.where(asks, rest[1] - self._first_label, 0),
        )

    def identity(self, problem: Goal) -> Array:
        """All of it: another goal on a screen is another problem."""
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(problem)])

    def difficulty(self, problem: Goal) -> Array:
        """How many operations; a question is as hard as one."""
        return jnp.maximum(problem.number, 1).astype(jnp.float32)

    def kind(self, problem: Goal) -> Array:
        """0 for operations, 1 for questions."""
        return (problem.question >= 0).astype(jnp.int32)

    def begin(self, problem: Goal, key: Array) -> Situation:
        """The screen as the prompt shows it."""
        nothing = jnp.zeros((), jnp.int32)
        icons = problem.icons
        return Situation(problem, icons.row, icons.column, nothing, nothing, jnp.zeros(()), jnp.ones((), bool))

    def reply(self, state: Situation, said: Array, length: Array) -> Reply:
        """What the turn earns, and what is to be seen after it."""
        action, goal = self._parsed_action(said, length), state.goal
        asks = goal.question >= 0
        form, kind, parameter = self.scores(state, action)
        earned = losses.gated_reward(form, kind, parameter, self.weights) / (goal.number + 1)
        judged = losses.judged_reward(form, kind * self._judgement(goal, action), self.weights[0])
        ended = asks | (state.turn >= goal.number) | (action.formed & (action.kind == _DONE))
        moves = action.formed & (action.kind == _SCROLL) & (state.scrolled < self.scrolls)
        row, column = self._moved(state.row, state.column, action.values[0], moves)
        after = Situation(
            goal,
            row,
            column,
            state.turn + 1,
            state.scrolled + moves,
            state.formed + form,
            state.right & (form * kind * parameter >= 1.0),
        )
        if self.pays == "success":
            earned = jnp.where(ended & after.right, after.formed / (goal.number + 1), 0.0)
        listing = self._list(goal.icons._replace(row=row, column=column))
        note = jnp.where(action.formed, self._first(_NOTED), self._first(_UNREADABLE))
        step = self._first(_STEPS) + jnp.minimum(after.turn, self.operations)
        moved = jnp.append(listing, step)
        return Reply(
            after,
            jnp.where(moves, moved, jnp.full_like(moved, step).at[0].set(note)).astype(jnp.int32),
            jnp.where(moves, self.reply_length, 2),
            jnp.where(asks, judged, earned).astype(jnp.float32),
            ended,
        )

    def reward_parts(self, prompts: Array, turn_rewards: Array) -> Array:
        """[N, 3] what form, kind and parameters (or the judge) earned; all of what is paid at the end is of the last."""
        if self.pays == "success":
            whole = jnp.sum(turn_rewards, axis=-1)
            return jnp.stack([jnp.zeros_like(whole), jnp.zeros_like(whole), whole], axis=-1)
        asks = self.kinds(prompts) > 0
        # As each part is paid only where the one before it is paid in full, they lie on top of each other.
        size = jnp.where(asks, 1.0, self.difficulties(prompts) + 1.0)[:, None]
        of_form, of_kind, _ = self.weights
        earned = turn_rewards * size
        form = jnp.minimum(earned, of_form)
        kind = jnp.clip(earned - of_form, 0.0, jnp.where(asks, 0.0, of_kind)[:, None])
        parts = jnp.stack([form, kind, earned - form - kind], axis=-1)
        return jnp.sum(parts / size[..., None], axis=1)

    def scores(self, state: Situation, action: Any) -> tuple[Array, Array, Array]:
        """How right an action is, [] from 0 to 1 each.

        Returns:
          (form, kind, parameter); of questions, whose parameters are for the judge, the last is 1.
        """
        goal = state.goal
        wanted = jnp.append(goal.kinds, -1)[jnp.minimum(state.turn, self.operations)]
        due = jnp.where(wanted < 0, jnp.where(goal.question >= 0, _ANSWER, _DONE), wanted)
        values = goal.values[jnp.minimum(state.turn, self.operations - 1)]
        box = jnp.stack([state.column, state.row, state.column + goal.icons.width, state.row + 1], axis=-1).astype(
            jnp.float32
        )
        those = (goal.icons.label == values[0]) & (action.values[0] == values[0])
        said = action.values[1:].astype(jnp.float32)
        point = jnp.stack([said[1], said[0]]) + 0.5
        near = losses.point_in_box(point, box)
        if self.dense:
            near = jnp.maximum(near, losses.point_closeness(point, box))
        parameter = [
            jnp.max(jnp.where(those, near, 0.0)),
            (action.values[0] == values[0]).astype(jnp.float32),
            self._typed(action, values),
        ]
        if "frame" in self.acts:
            frame = jnp.stack([said[1], said[0], said[3] + 1, said[2] + 1])
            parameter.append(jnp.max(jnp.where(those, losses.intersection_over_union(frame, box), 0.0)))
        parameter += [jnp.ones(())] * (len(_ACTIONS) - len(parameter))
        return action.formed.astype(jnp.float32), (action.kind == due).astype(jnp.float32), jnp.stack(parameter)[due]

    def _typed(self, action: _Action, values: Array) -> Array:
        said = action.values[: self.digits]
        if self.dense:
            return losses.token_f1(said, values, said >= 0, values >= 0)
        return jnp.all(said == values).astype(jnp.float32)

    def _judgement(self, goal: Goal, action: _Action) -> Array:
        """[] 1 or 0: what a judge says who is wrong about a fixed share of (screen, question, answer)."""
        icons = goal.icons
        those = icons.label == goal.label
        at = (icons.row == action.values[0]) & (icons.column <= action.values[1])
        at = at & (action.values[1] < icons.column + icons.width)
        counted = (action.number == 1) & (action.values[0] == jnp.sum(those))
        placed = (action.number == 2) & jnp.any(those & at)
        right = jnp.where(goal.question == _COUNT, counted, placed)
        of = jnp.concatenate([self.identity(goal), action.values[:2], action.number[None]])
        flipped = fingerprint(of).astype(jnp.float32) < self.judge_noise * 2.0**32
        return (right ^ flipped).astype(jnp.float32)

    def _parsed_action(self, said: Array, length: Array) -> _Action:
        """What a turn says."""
        kind = said[0] - self._first(_ACTIONS)
        number = length - 2
        place = jnp.arange(self.turn_length - 2)
        there = place < number
        raw = said[1:-1]
        ended = said[jnp.maximum(length - 1, 0)] == END_TOKEN
        digit, direction = raw - FIRST_CHARACTER, raw - self._first(_DIRECTIONS)
        label = raw[0] - self._first_label
        cells = ~there | ((digit >= 0) & (digit < self.side))
        at_icon = (label >= 0) & (label < self.labels) & jnp.all(cells[1:])
        digits = jnp.all(~there | ((digit >= 0) & (digit < 10)))
        formed = jnp.stack([
            (number == 3) & at_icon,
            (number == 1) & (direction[0] >= 0) & (direction[0] < len(_DIRECTIONS)),
            (number >= 1) & (number <= self.digits) & digits,
            (number == 5) & at_icon & ("frame" in self.acts),
            number == 0,
            (number >= 1) & (number <= 2) & digits,
        ])  # fmt: skip
        known = (kind >= 0) & (kind < len(_ACTIONS))
        kind = jnp.where(known, kind, 0)
        values = jnp.where(kind == _SCROLL, direction, jnp.where(self._labelled(kind), digit.at[0].set(label), digit))
        return _Action(kind, jnp.where(there, values, -1), number, (length >= 2) & ended & known & formed[kind])

    def _labelled(self, kind: Array) -> Array:
        """Whether the first parameter of a kind of action is the label of an icon."""
        return (kind == _TAP) | (kind == _FRAME)

    def _moved(self, row: Array, column: Array, direction: Array, moves: Array) -> tuple[Array, Array]:
        """Where icons [...] are after a scroll: what leaves the screen comes in again on the other side."""
        by = jnp.array(_ICONS_MOVE)[jnp.clip(direction, 0, len(_DIRECTIONS) - 1)] * jnp.where(moves, 1, 0)[..., None]
        width = self.side // self.widest * self.widest
        return (row + by[..., 0]) % self.side, (column + by[..., 1] * self.widest) % width

    def lines(self, key: Array | None, problem: Goal) -> tuple[Array, Array]:
        """What is to be done, turn by turn; with a key, some of the turns have random parameters."""
        kinds = jnp.append(problem.kinds, -1)
        kinds = jnp.where(kinds < 0, jnp.where(problem.question >= 0, _ANSWER, _DONE), kinds)
        directions = jnp.append(problem.values[:, 0], -1)
        slips, chance = self._slips(key)
        row, column = self._seen(problem.icons, kinds, jnp.where(slips, chance[:, 0] % len(_DIRECTIONS), directions))
        right = self._right(problem, kinds, row, column)
        of_answer = jnp.where(problem.question == _COUNT, 10, self.side)
        choices = jnp.stack([*map(jnp.asarray, (self.side, len(_DIRECTIONS), 10, self.side, 1)), of_answer])
        labels = self._labelled(kinds)[:, None] & (jnp.arange(right.shape[1]) == 0)
        values = jnp.where(slips[:, None] & (right >= 0) & ~labels, chance % choices[kinds][:, None], right)
        base = jnp.where(kinds == _SCROLL, self._first(_DIRECTIONS), FIRST_CHARACTER)[:, None]
        base = jnp.where(labels, self._first_label, base)
        pieces = [
            write_token(self._first(_ACTIONS) + kinds),
            (base + values, values >= 0),
            write_token(jnp.full_like(kinds, END_TOKEN)),
        ]
        number = jnp.where(problem.question >= 0, 1, problem.number + 1)
        return jnp.where((jnp.arange(self.max_turns) < number)[:, None], join(pieces), PAD_TOKEN), number

    def _slips(self, key: Array | None) -> tuple[Array, Array]:
        """Which turns [K] have random parameters, and from what these are taken [K, S - 2]; none without a key."""
        size = (self.max_turns, self.turn_length - 2)
        if key is None:
            return jnp.zeros(size[:1], bool), jnp.zeros(size, jnp.int32)
        whether, what = _numbers(key, *size[:1], size)
        return whether < self.slips * _NUMBERS, what

    def _seen(self, icons: Icons, kinds: Array, directions: Array) -> tuple[Array, Array]:
        """Rows and columns [K, I] of the icons before each turn, after scrolls in these directions [K]."""

        def turn(place: tuple[Array, Array], said: tuple[Array, Array]) -> tuple[Any, Any]:
            kind, direction = said
            return self._moved(*place, direction, kind == _SCROLL), place

        places: tuple[Array, Array] = jax.lax.scan(turn, (icons.row, icons.column), (kinds, directions))[1]
        return places

    def _right(self, problem: Goal, kinds: Array, row: Array, column: Array) -> Array:
        """Right parameters [K, S - 2] of each turn, -1 beyond, with icons where they are then."""
        values = jnp.pad(problem.values, ((0, 1), (0, 0)), constant_values=-1)
        label = jnp.where(kinds == _ANSWER, problem.label, values[:, 0])
        icon = jnp.argmax(problem.icons.label == label[:, None], axis=-1)
        row, column = (jnp.take_along_axis(each, icon[:, None], axis=1) for each in (row, column))
        cell = jnp.concatenate([row, column], axis=1)
        last = jnp.concatenate([row, column + problem.icons.width[icon][:, None] - 1], axis=1)
        number = jnp.full_like(row, jnp.sum(problem.icons.label == problem.label))
        answer = jnp.where(problem.question == _COUNT, self._wide(number), self._wide(cell))
        tap = jnp.concatenate([label[:, None], cell], axis=1)
        frame = jnp.concatenate([tap, last], axis=1)[:, : self.turn_length - 2]
        parameters = [tap, values[:, :1], values, frame, values[:, :0], answer]
        wide = jnp.stack([self._wide(each) for each in parameters])
        return jnp.take_along_axis(wide, kinds[None, :, None], axis=0)[0]

    def _wide(self, values: Array) -> Array:
        """[K, S - 2] with -1 beyond."""
        return jnp.pad(values, ((0, 0), (0, self.turn_length - 2 - values.shape[1])), constant_values=-1)

    def _list(self, icons: Icons) -> Array:
        """[listing] tokens: label, row and column (and width) of each icon."""
        columns = [self._first_label + icons.label, FIRST_CHARACTER + icons.row, FIRST_CHARACTER + icons.column]
        if self.widest > 1:
            columns.append(FIRST_CHARACTER + icons.width)
        return jnp.stack(columns, axis=1).ravel().astype(jnp.int32)

    @property
    def _listing(self) -> int:
        return self.icons * (4 if self.widest > 1 else 3)

    @property
    def _first_label(self) -> int:
        return self._first(string.ascii_uppercase[: self.labels])

    def _first(self, characters: str) -> int:
        """The token of the first of these characters, which follow each other."""
        return FIRST_CHARACTER + self.characters.index(characters[0])


def _numbers(key: Array, *shapes: int | tuple[int, ...]) -> list[Array]:
    """Whole numbers of these shapes, from 0 to 2^31, whose remainders are as good as equally likely.

    They are of one draw, as each is a program of its own, which has to be compiled.
    """
    sizes = [int(np.prod(shape)) for shape in shapes]
    drawn = (jax.random.bits(key, (sum(sizes),)) >> 1).astype(jnp.int32)
    parts = jnp.split(drawn, np.cumsum(sizes)[:-1].tolist())
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _first_of(values: Array, width: int) -> Array:
    """[..., width]: the values [...], and -1 behind them."""
    return jnp.pad(values[..., None], [(0, 0)] * values.ndim + [(0, width - 1)], constant_values=-1)
