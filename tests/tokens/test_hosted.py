"""Environments in plain Python: what they say is read, and what goes wrong with one ends its own episode alone."""

import functools
import threading

import jax
import numpy as np
import pytest

from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks.transformer import Transformer, TransformerConfig
from maxent_rl.tokens.branching import Forks
from maxent_rl.tokens.conversing import converse
from maxent_rl.tokens.endings import endings
from maxent_rl.tokens.tasks.hosted import HostedTask

TEXTS = tuple(f"{number}" for number in range(8))
ROWS = 12


class Counter:
    """Counts its turns; the third ends the episode, and earns the number of the prompt."""

    def __init__(self, prompt, seed):
        self.prompt, self.turns = prompt, 0

    def reply(self, said):
        self.turns += 1
        return f"#{self.turns}", float(self.prompt) if self.turns == 3 else 0.0, self.turns == 3


def task_of(partner, **settings):
    return HostedTask(partner, TEXTS, "0123456789#", turn_room=2, reply_room=3, **settings)


@functools.cache
def model(size):
    transformer = Transformer(TransformerConfig(size, 8, 1, 1, 1, 8, 16))
    prompts = np.ones((1, 1), np.int32)
    return transformer, transformer.init(jax.random.key(0), prompts, prompts == 1)["params"]


def talk(task, key=1):
    transformer, params = model(task.vocabulary_size)
    prompts, mask = task.prompts(jax.random.key(0), ROWS)
    run = jax.jit(lambda key: converse(transformer, params, task, prompts, mask, key))
    return [task.decode(prompt) for prompt in prompts], jax.device_get(run(jax.random.key(key)))


@pytest.mark.slow
def test_replies_are_read_and_episodes_are_told_apart():
    task = task_of(Counter)
    prompts, found = talk(task)
    assert found.ended.all() and not task.faults
    np.testing.assert_array_equal(found.rewards, [float(text) for text in prompts])
    told = found.there & ~found.said.mask
    for row in range(ROWS):
        assert task.decode(found.said.tokens[row][told[row]]) == "#1#2"  # what the third said is read by nobody


@pytest.mark.slow
def test_an_environment_that_raises_or_waits_or_speaks_in_tongues_ends_its_episode_alone():
    released = threading.Event()

    class Moody(Counter):
        def reply(self, said):
            if self.prompt == "1":
                raise ValueError("out of sorts")
            if self.prompt == "2":
                released.wait(60)
            if self.prompt == "3":
                return "é", 0.0, False
            if self.prompt == "5":
                return "#", float("inf"), False
            if self.prompt == "4":
                return "##########", 1.0, self.turns > 0
            return super().reply(said)

    task = task_of(Moody, seconds=0.5)
    with pytest.warns(RuntimeWarning, match="episode"):
        prompts, found = talk(task)
    released.set()
    faults = " ".join(task.faults)
    for number, sentence in (
        (1, "turn 0 raised ValueError: out of sorts"), (2, "did not reply within 0.5 s"), (3, "no character 'é'"),
        (4, "has 10 tokens and was cut to 3"), (5, "turn 0 gave the reward inf"),
    ):  # fmt: skip
        assert (str(number) in prompts) == (sentence in faults), number
    failed = np.isin(prompts, ["1", "2", "3", "5"])
    assert failed.any() and np.isnan(found.rewards[failed]).all() and found.ended[failed].all()
    assert endings(found, task)[int(np.argmax(failed))].endswith("was ended in turn 0 without a reward.")
    well = np.isin(prompts, ["0", "6", "7"])
    np.testing.assert_array_equal(found.rewards[well], [float(text) for text in np.array(prompts)[well]])


@pytest.mark.slow
def test_forks_of_an_environment_beside_the_program_are_refused():
    task = task_of(Counter)
    transformer, params = model(task.vocabulary_size)
    prompts, mask = task.prompts(jax.random.key(0), ROWS)
    with pytest.raises(
        IncompatibleEnvironmentError, match=r"hosted cannot be forked: .* both branches would talk to one"
    ):
        converse(transformer, params, task, prompts, mask, jax.random.key(1), forks=Forks(size=4, roots=2))


def test_a_task_without_prompts_or_characters_for_them_is_refused():
    with pytest.raises(InvalidSettingError, match="needs prompts, each with at least one character"):
        HostedTask(Counter, ("1", ""), "01")
    with pytest.raises(InvalidSettingError, match="no character '7'"):
        HostedTask(Counter, ("7",), "01")
