"""Transcripts: who said what in which turn, read from arrays by hand, and the episodes of an evaluation."""

from __future__ import annotations

import dataclasses
import math

import jax
import numpy as np
import pytest
from agents_under_test import TOKEN_AGENTS_UNDER_TEST

from maxent_rl.agents.on_policy.subpo import SubPO
from maxent_rl.envs import make_device
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.transcripts import in_words, transcribe, transcripts
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import Policy, export_policy, load_policy, policy_arrays
from maxent_rl.tokens.conversing import UNKNOWN, Conversations
from maxent_rl.tokens.sampling import Responses
from maxent_rl.tokens.tasks import END_TOKEN, ModularAddition, QuerySum

TASK = QuerySum()


def conversations():
    """Three: one that asks, hears and answers; one that is cut in its second turn; one whose environment is broken."""
    end = END_TOKEN
    query, bang, dot, four, seven = TASK.encode("?!.47")
    tokens = np.zeros((3, 6), np.int32)
    tokens[0] = [query, end, four, bang, four, end]
    tokens[1] = [query, seven, 0, dot, query, query]
    tokens[2, :2] = [query, end]
    own = np.array([[1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0]], bool)
    turns = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0] * 6], np.int32)
    entropy = np.where(own, np.arange(6) / 10, 0.0)
    rewards = np.zeros((3, TASK.max_turns))
    rewards[0, 1], rewards[2, 0] = 1.0, np.nan
    return Conversations(
        said=Responses(tokens, own, np.where(own, -0.5, 0.0), entropy, np.where(own, -0.5, 0.0)),
        there=np.array([[1] * 6, [1] * 6, [1, 1, 0, 0, 0, 0]], bool),
        turns=turns,
        turn_rewards=rewards,
        ended=np.array([True, False, True]),
        calls=np.array([1, 0, 1]),
        fault=np.array([0, 0, UNKNOWN]),
    )


PROMPTS = TASK.encode_prompts(["0417:1=", "0003:2=", "9999:3="])


def test_turns_are_told_as_they_were_said():
    asked, cut, broken = transcripts(TASK, PROMPTS, conversations())
    assert [(each.text, each.closed, each.heard, each.reward) for each in asked.turns] == [
        ("?", True, "4", 0.0), ("!4", True, "", 1.0),
    ]  # fmt: skip
    assert [each.entropy for each in asked.turns] == pytest.approx([0.05, 0.4])
    assert asked.prompt == "0417:1=" and asked.total == 1.0 and asked.ending == "Episode 0 was ended in turn 1."
    assert [token.kind for token in cut.turns[0].said] == ["character", "character", "padding"]
    assert (cut.turns[0].heard, cut.turns[1].text, cut.turns[1].closed) == (".", "??", False)
    assert cut.ending == "Episode 1 was cut in turn 1, as there is room for 6 tokens."
    assert math.isnan(broken.total) and "replied with a token that is not among its 17" in broken.ending
    assert broken.told()["return"] is None and broken.told()["turns"][0]["reward"] is None


def test_a_conversation_that_fills_its_room_with_its_last_turn_was_cut_after_it():
    short = QuerySum(operands=1, spare=0)  # two turns
    said = conversations()
    assert transcripts(short, PROMPTS, said)[1].ending.startswith("Episode 1 was cut in turn 1")
    closed = dataclasses.replace(said.said, tokens=np.where(np.arange(6) == 5, END_TOKEN, said.said.tokens))
    told = transcripts(short, PROMPTS, dataclasses.replace(said, said=closed))
    assert told[1].ending == "Episode 1 was cut after turn 1, the last that there may be."


def test_a_transcript_in_words_has_a_line_for_each_that_speaks():
    told = in_words(transcripts(TASK, PROMPTS, conversations())[0], 7)
    assert told.splitlines() == [
        "episode 7: 0417:1=",
        "  turn 0  model        ?<end>    entropy 0.05, reward 0",
        "          environment  4",
        "  turn 1  model        !4<end>    entropy 0.40, reward 1",
        "  Episode 0 was ended in turn 1. Return 1.",
    ]


def test_a_response_is_a_conversation_of_one_turn():
    task = ModularAddition()
    tokens = task.encode_responses(["25"])
    found = dataclasses.replace(
        conversations(),
        said=Responses(tokens, tokens > 0, *[np.full(tokens.shape, -0.1)] * 3),
        there=tokens > 0,
        turns=np.zeros_like(tokens),
        turn_rewards=np.ones((1, 1)),
        ended=np.ones(1, bool),
        fault=np.zeros(1, int),
    )
    (told,) = transcripts(task, task.encode_prompts(["37+85="]), found)
    assert [(each.text, each.heard, each.reward) for each in told.turns] == [("25", "", 1.0)]
    assert told.ending == "Episode 0 was ended in turn 0." and told.prompt == "37+85="


def untrained(folder, env, agent, name) -> Policy:
    spec = make_device(env).spec
    states = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.split(jax.random.key(3), 1))
    export_policy(folder, describe(RunConfig(agent=name, env=env), agent), policy_arrays(agent, states), spec, step=0)
    return load_policy(folder)


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Policy:
    return untrained(tmp_path_factory.mktemp("policy"), "tokens/query-sum", TOKEN_AGENTS_UNDER_TEST["grpo"], "grpo")


@pytest.mark.slow
def test_a_policy_is_as_unsure_as_its_vocabulary_allows(policy):
    told = transcribe(policy, 4, seed=5)
    assert len({each.prompt for each in told}) > 1
    for each in told:
        entropies = [token.entropy for turn in each.turns for token in turn.said]
        assert min(entropies) > 0 and max(entropies) <= np.log(each.vocabulary_size) + 1e-5


@pytest.mark.matrix  # of responses: tests/test_token_commands.py
def test_the_conversations_are_those_of_an_evaluation(policy):
    told, outcomes = transcribe(policy, 4, seed=5), evaluate_policy(policy, 4, seed=5)
    for each, total, length in zip(told, outcomes.returns, outcomes.lengths, strict=True):
        assert (each.total, len(each.turns)) == (total, length)


def test_what_cannot_be_written_down_is_refused(policy, tmp_path):
    with pytest.raises(InvalidSettingError, match="at least 1 episode"):
        transcribe(policy, 0)
    with pytest.raises(
        IncompatibleEnvironmentError, match="policy for maxent/TwoRooms says nothing that could be written"
    ):
        transcribe(untrained(tmp_path, "maxent/TwoRooms", SubPO(hidden_sizes=(8,)), "subpo"))
