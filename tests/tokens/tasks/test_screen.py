"""The screen: read as it was written, played as a simulator in plain Python plays it, judged by an oracle that errs."""

import dataclasses
import functools
import itertools
import re

import jax
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens.tasks import Screen
from maxent_rl.tokens.tasks.writing import END_TOKEN

PLAIN = Screen(judge_noise=0.25)
EVERY = Screen(
    side=5, icons=5, operations=5, acts=("tap", "scroll", "type", "frame"), digits=3, scrolls=2, widest=2, dense=True,
    questions=0.3, weights=(0.2, 0.3, 0.5), judge_noise=0.0,
)  # fmt: skip
COUNT = 64
STEPS = "abceghijklmno"
both = pytest.mark.parametrize("task", [PLAIN, EVERY], ids=["plain", "every"])
MOVES = {"^": (-1, 0), "v": (1, 0), "<": (0, -1), ">": (0, 1)}


@functools.cache
def prompts(task, seed=0):
    return np.asarray(task.prompts(jax.random.key(seed), COUNT)[0])


@functools.cache
def lines(task, slips=False):
    """(tokens [COUNT, K, S], turns [COUNT]): the best ones, or demonstrations."""

    def one(key, prompt):
        return task.lines(key if slips else None, task.read(prompt))

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), COUNT), prompts(task)))


@functools.partial(jax.jit, static_argnames="task")
def spoken(task, prompts, lines, numbers):
    def one(prompt, line, number):
        return task.spoken(jax.random.key(0), task.read(prompt), line, number)

    return jax.vmap(one)(prompts, lines, numbers)


# The simulator, from the text of the prompt and of the turns alone.


class Simulator:
    def __init__(self, task, text):
        self.task, self.turn, self.scrolled, self.earned = task, 0, 0, []
        shape = r"([A-Z])(\d)(\d)" + (r"(\d)" if task.widest > 1 else "()")
        found = list(itertools.islice(re.finditer(shape, text), task.icons))
        self.icons = [(m[1], int(m[2]), int(m[3]), int(m[4] or 1)) for m in found]
        rest = text[found[-1].end() :]
        self.goal = [rest] if rest[0] in "#@" else self.numbered(rest)

    @staticmethod
    def numbered(rest):
        """The operations of `atBbs^cda` but the last one, which is done."""
        letters, *steps = re.split(f"([{STEPS}])", rest)
        assert (
            letters == "" and steps[::2] == [*STEPS[: len(steps) // 2 - 1], STEPS[0]] and steps[-3:] == ["d", "a", ""]
        )
        return steps[1:-3:2]

    def listing(self):
        wide = self.task.widest > 1
        return "".join(f"{name}{row}{column}{width if wide else ''}" for name, row, column, width in self.icons)

    def say(self, said, ended):
        """(reply, reward, whether it ends) to a turn without its end token."""
        shapes = {
            "t": r"[A-D][0-9]{2}", "s": r"[\^v<>]", "w": f"[0-9]{{1,{self.task.digits}}}", "d": "", "=": r"[0-9]{1,2}",
            "f": r"[A-D][0-9]{4}" if "frame" in self.task.acts else "(?!)",
        }  # fmt: skip
        kind, what = said[:1], said[1:]
        formed = ended and kind in shapes and bool(re.fullmatch(shapes[kind], what)) and kind != ""
        if formed and kind in "tf":
            formed = all(int(digit) < self.task.side for digit in what[1:])
        w_form, w_kind, w_parameter = self.task.weights
        question = self.goal[0][0] in "#@"
        due = "=" if question else (self.goal[self.turn][0] if self.turn < len(self.goal) else "d")
        right = formed and kind == due
        if question:
            reward = formed * (w_form + (1 - w_form) * (right and self.judged(what)))
            return None, reward, True
        score = self.score(due, what) if right else 0.0
        self.earned.append((w_form * formed, w_kind * right, w_parameter * score))
        reward = sum(self.earned[-1]) / (len(self.goal) + 1)
        over = self.turn >= len(self.goal) or (formed and kind == "d")
        reply = ("." if formed else "?") + STEPS[self.turn + 1]
        if formed and kind == "s" and self.scrolled < self.task.scrolls:
            self.scrolled += 1
            down, right_by = MOVES[what]
            side, widest = self.task.side, self.task.widest
            columns = side // widest * widest
            self.icons = [
                (name, (row + down) % side, (column + right_by * widest) % columns, width)
                for name, row, column, width in self.icons
            ]
            reply = self.listing() + STEPS[self.turn + 1]
        self.turn += 1
        return reply, reward, over

    def score(self, due, what):
        wanted = self.goal[self.turn][1:] if due != "d" else ""
        boxes = [(column, row, column + width, row + 1) for name, row, column, width in self.icons if name == wanted]
        if due in ("t", "f"):
            if what[0] != wanted:
                return 0.0
            what = what[1:]
        if due == "t":
            x, y = int(what[1]) + 0.5, int(what[0]) + 0.5
            if any(a <= x <= c and b <= y <= d for a, b, c, d in boxes) or not self.task.dense:
                return float(any(a <= x <= c and b <= y <= d for a, b, c, d in boxes))
            return max(np.exp(-((x - (a + c) / 2) ** 2 + (y - (b + d) / 2) ** 2) / 2) for a, b, c, d in boxes)
        if due == "f":
            top, left, bottom, right = (int(digit) for digit in what)
            return max(overlap((left, top, right + 1, bottom + 1), box) for box in boxes)
        if due == "w" and self.task.dense:
            shared = sum(min(what.count(digit), wanted.count(digit)) for digit in set(what))
            return 2 * shared / (len(what) + len(wanted))
        return float(what == wanted)

    def judged(self, what):
        label = self.goal[0][1]
        if self.goal[0][0] == "#":
            return what == str(sum(name == label for name, *_ in self.icons))
        cells = {
            f"{row}{column + more}" for name, row, column, width in self.icons if name == label for more in range(width)
        }
        return what in cells


def overlap(first, second):
    """By counting cells."""
    one, other = (
        {(x, y) for x in range(a, c) for y in range(b, d)} for a, b, c, d in (first, second)
    )  # cells of whole numbers
    return len(one & other) / len(one | other) if one & other else 0.0


def text_of(task, line):
    line = line[line != 0]
    ended = len(line) > 0 and line[-1] == END_TOKEN
    return task.decode(line), ended


@pytest.mark.slow
def test_a_screen_is_read_as_it_was_written():
    """The simulator reads those of the other task."""
    task = EVERY
    again = jax.jit(jax.vmap(lambda prompt: task.write(task.read(prompt))))(prompts(task))
    np.testing.assert_array_equal(again, prompts(task))
    goals = [Simulator(task, task.decode(prompt)).goal for prompt in prompts(task)]
    difficulty = np.asarray(task.difficulties(prompts(task)))
    np.testing.assert_array_equal(difficulty, [len(goal) for goal in goals])
    asks = [goal[0][0] in "#@" for goal in goals]
    np.testing.assert_array_equal(np.asarray(task.kinds(prompts(task))) > 0, asks)
    assert 0 < np.mean(asks) < 0.6 and set(difficulty) == set(range(1, task.operations + 1))
    assert {act for goal in goals for act in goal[0][0]} | {"#"} >= set("tw#")
    assert max(sum(step[0] == "s" for step in goal) for goal in goals) == task.scrolls


@pytest.mark.slow
@both
def test_the_best_lines_earn_everything_and_demonstrations_less_the_longer_they_are(task):
    said = jax.device_get(spoken(task, prompts(task), *lines(task)))
    judged = np.asarray(task.kinds(prompts(task))) > 0
    np.testing.assert_allclose(said.turn_rewards.sum(-1)[~judged], 1.0, rtol=1e-6)
    assert said.ended.all() and np.all((said.turn_rewards.sum(-1)[judged] > 0.999) | (task.judge_noise > 0))
    shown = jax.device_get(spoken(task, prompts(task), *lines(task, slips=True)))
    assert shown.ended.all()
    earned = shown.turn_rewards.sum(-1)[~judged]
    assert 0.2 < np.mean(earned > 0.999) < 0.9 and earned.max() <= 1 + 1e-6 and earned.min() >= 0


def perturbed(task, seed):
    """Lines of which some say something else: another token, none, an end too early, or none at all."""
    draw = np.random.default_rng(seed)
    found = np.array(lines(task, slips=True)[0])
    change = draw.random(found.shape) < 0.08
    found = np.where(change, draw.integers(1, task.vocabulary_size, found.shape), found)
    numbers = np.full(COUNT, task.max_turns)
    found[..., 0] = np.maximum(found[..., 0], 1)  # a turn has one token at least
    ends = np.cumsum(found == END_TOKEN, axis=-1) - (found == END_TOKEN) > 0
    empty = np.cumsum(found == 0, axis=-1) > 0
    return np.where(ends | empty, 0, found), numbers


@both
def test_turns_are_rewarded_and_replied_to_as_the_simulator_says(task):
    """All shapes of turns: right, wrong, unreadable, of another kind, done too early, and scrolls beyond the page's end."""
    said, numbers = perturbed(task, 3)
    out = jax.device_get(spoken(task, prompts(task), said, numbers))
    parts = np.asarray(task.reward_parts(prompts(task), out.turn_rewards))
    np.testing.assert_allclose(parts.sum(-1), out.turn_rewards.sum(-1), atol=1e-6)
    seen = set()
    for row, prompt in enumerate(prompts(task)):
        simulator, over, heard = Simulator(task, task.decode(prompt)), False, []
        for turn in range(task.max_turns):
            if over:
                assert out.turn_rewards[row, turn] == 0
                continue
            text, ended = text_of(task, said[row, turn])
            reply, reward, over = simulator.say(text, ended)
            if reply is not None or task.judge_noise == 0:
                np.testing.assert_allclose(out.turn_rewards[row, turn], reward, atol=1e-6, err_msg=f"{text} {turn}")
            heard += [] if over or turn + 1 == task.max_turns else [reply]
            seen.add(reply and (reply[0] if reply[0] in ".?" else "screen"))
        told = out.tokens[row][out.there[row] & ~out.mask[row]]
        assert task.decode(told) == "".join(heard)
        assert out.ended[row] == over
        if simulator.goal[0][0] not in "#@":
            earned = np.sum(simulator.earned, axis=0) / (len(simulator.goal) + 1)
            np.testing.assert_allclose(parts[row], earned, atol=1e-6)
    assert seen == {".", "?", "screen", None}


def test_the_judge_is_wrong_about_a_share_and_always_about_the_same():
    """Every answer of one digit to every question, in programs of as many rows."""
    answers = np.zeros((10, PLAIN.max_turns, PLAIN.turn_length), np.int32)
    answers[:, 0, :3] = [[*PLAIN.encode(f"={digit}"), END_TOKEN] for digit in range(10)]
    asked = np.repeat(prompts(PLAIN)[np.asarray(PLAIN.kinds(prompts(PLAIN))) > 0], 10, axis=0)
    wrong, number = [], len(asked) // COUNT * COUNT
    for begin in range(0, number, COUNT):
        said = np.resize(np.roll(answers, -begin, axis=0), (COUNT, *answers.shape[1:]))
        rows = asked[begin : begin + COUNT]
        earned, again = (np.asarray(spoken(PLAIN, rows, said, np.ones(COUNT, int)).turn_rewards[:, 0]) for _ in "12")
        np.testing.assert_array_equal(earned, again)
        assert set(np.round(earned, 5).tolist()) <= {np.float32(0.1).item(), 1.0, 0.1}
        for prompt, line, reward in zip(rows, said, earned, strict=True):
            wrong.append(abs(Simulator(PLAIN, PLAIN.decode(prompt)).say(*text_of(PLAIN, line[0]))[1] - reward) > 0.5)
    assert number >= 64 and abs(np.mean(wrong) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / number)


def test_paid_at_the_end_an_episode_earns_all_or_nothing():
    task = dataclasses.replace(PLAIN, pays="success")
    given = prompts(PLAIN), *lines(PLAIN, slips=True)
    steps, ends = (jax.device_get(spoken(each, *given)).turn_rewards for each in (PLAIN, task))
    goals = np.asarray(PLAIN.kinds(prompts(PLAIN))) == 0
    np.testing.assert_allclose(ends.sum(-1)[goals], steps.sum(-1)[goals] > 0.999, rtol=1e-6)
    assert np.count_nonzero(ends[goals]) == np.sum(steps.sum(-1)[goals] > 0.999) > 0
    np.testing.assert_array_equal(ends[~goals], steps[~goals])  # an answer ends its episode


@pytest.mark.parametrize(
    ("sizes", "error", "words"),
    [
        ({"acts": ("tip",)}, UnknownNameError, "Did you mean 'tap'"),
        ({"acts": ("scroll",)}, InvalidSettingError, "needs a kind of operation besides scroll"),
        ({"icons": 9, "side": 4, "widest": 3}, InvalidSettingError, "no room for 9 icons of up to 3 cells"),
        ({"weights": (0.5, 0.5, 0.5)}, InvalidSettingError, "sum to 1"),
        ({"pays": "never"}, UnknownNameError, "never"),
        ({"side": 11}, InvalidSettingError, "side must be"),
    ],
)
def test_what_no_screen_can_be_is_refused(sizes, error, words):
    with pytest.raises(error, match=re.escape(words)):
        Screen(**sizes)


def test_room_is_enough_for_the_longest_conversation():
    """A scroll that moves the screen first, and then turns without an end: the last turn's tokens are all there."""
    noise = np.tile(PLAIN.encode("77777"), (COUNT, PLAIN.max_turns, 1)).astype(np.int32)
    noise[:, 0] = [*PLAIN.encode("s^"), END_TOKEN, 0, 0]
    out = jax.device_get(spoken(PLAIN, prompts(PLAIN), noise, np.full(COUNT, PLAIN.max_turns)))
    longest = np.asarray(PLAIN.difficulties(prompts(PLAIN))) == PLAIN.operations
    assert np.all(out.mask.sum(-1)[longest] == 3 + 5 * PLAIN.operations) and np.all(out.ended)
    assert (
        PLAIN.response_length - 2 == out.there.sum(-1)[longest].min()
    )  # the scroll had an end, and was two tokens shorter
