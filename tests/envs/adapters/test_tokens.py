"""Token tasks as environments of one step, and who may act in them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, TOKEN_AGENTS_UNDER_TEST

from maxent_rl import envs
from maxent_rl.agents import check_agent
from maxent_rl.envs import reset_batch, step_batch
from maxent_rl.envs.adapters.tokens import TokenEnv, make_tokens
from maxent_rl.errors import IncompatibleEnvironmentError, UnknownNameError
from maxent_rl.tokens.tasks import END_TOKEN, TASKS, Countdown, make_task
from maxent_rl.types import Spec


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("countdown", (8, 6, 17)),
        ("copy-reverse", (9, 9, 12)),
        ("modular-addition", (6, 3, 14)),
        ("scratch", (12, 18, 16)),
        ("mixture", (10, 9, 26)),
    ],
)
def test_the_spec_is_that_of_the_task(name, sizes):
    env = envs.make_device(f"tokens/{name}")
    prompt, response, vocabulary = sizes
    assert env == TokenEnv(make_task(name), held_out=True) and hash(env) == hash(TokenEnv(make_task(name)))
    assert env.spec == Spec((prompt,), (response,), horizon=1, num_actions=vocabulary)
    assert envs.is_device(f"tokens/{name}")


@pytest.mark.slow
def test_an_episode_is_one_prompt_and_one_response():
    env = envs.make_device("tokens/countdown")
    state = reset_batch(env, jax.random.split(jax.random.key(0), (2, 30)))
    assert state.observation.shape == (2, 30, 8) and state.observation.dtype == jnp.float32
    prompts = state.observation.reshape(60, 8).astype(jnp.int32)
    assert env.task.is_held_out(prompts).all()
    responses, mask = env.task.demonstrations(jax.random.key(1), prompts)
    # Whatever follows the end token does not count; every other response is spoilt before it. Actions come as floats.
    action = jnp.where(mask, responses, 7).at[1::2, 0].set(END_TOKEN).astype(jnp.float32)
    state, step = step_batch(env, state, action.reshape(2, 30, 6))
    np.testing.assert_array_equal(step.reward.ravel(), [1, 0] * 30)
    assert step.terminated.all() and not step.truncated.any()
    np.testing.assert_array_equal(step.next_observation.reshape(60, 8), prompts)
    fresh = state.observation.reshape(60, 8).astype(jnp.int32)
    assert (fresh != prompts).any(axis=1).mean() > 0.9 and env.task.is_held_out(fresh).all()


@pytest.mark.slow
def test_training_prompts_can_be_asked_for():
    env = TokenEnv(Countdown(), held_out=False)
    prompts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 50))[0]
    assert not env.task.is_held_out(prompts).any()


def test_wrong_names_get_the_nearest_right_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'tokens/countdown'") as caught:
        envs.make_device("tokens/count-down")
    assert all(f"tokens/{name}" in str(caught.value) for name in TASKS)


@pytest.mark.parametrize("name", AGENTS_UNDER_TEST)
def test_agents_of_single_actions_are_refused(name):
    spec = envs.make_device("tokens/countdown").spec
    with pytest.raises(
        IncompatibleEnvironmentError, match=r"^tokens/countdown wants sequences of 6 tokens; use --agent lm\.$"
    ):
        check_agent(AGENTS_UNDER_TEST[name].agent, spec, "tokens/countdown")


@pytest.mark.slow
def test_a_conversation_is_played_turn_by_turn_and_seen_as_it_was_said():
    env = make_tokens("look-up")
    task = env.task
    state, seen = jax.jit(env.reset)(jax.random.key(0))
    problem = task.read(jnp.asarray(seen[: task.prompt_length], jnp.int32))
    lines, number = task.lines(None, problem)
    step, earned = jax.jit(env.step), []
    for turn in range(int(number)):
        state, seen, reward, ended = step(state, lines[turn])
        earned.append(float(reward))
    assert earned == [0.0] * (int(number) - 1) + [1.0] and bool(ended)
    said = task.spoken(jax.random.key(0), problem, lines, number)
    told = np.asarray(seen[task.prompt_length :], int)
    length = int(np.sum(said.there))
    np.testing.assert_array_equal(told[:length], said.tokens[:length])
    assert env.spec.horizon == task.max_turns and seen.shape == env.spec.observation_shape


@pytest.mark.slow
def test_a_conversation_of_nonsense_ends_with_its_turns():
    env = make_tokens("look-up")
    state, _ = jax.jit(env.reset)(jax.random.key(1))
    step = jax.jit(env.step)
    for turn in range(env.task.max_turns):
        state, _, reward, ended = step(state, jnp.full(env.task.turn_length, 3))
        assert reward == 0 and bool(ended) == (turn + 1 == env.task.max_turns)


@pytest.mark.slow
def test_padding_that_was_said_is_read_by_whoever_goes_on():
    """Training reads it, so an evaluation has to, too; what stands on both sides of a conversation is read by nobody."""
    env, agent = make_tokens("query-sum"), TOKEN_AGENTS_UNDER_TEST["grpo"]
    draw = np.random.default_rng(0)
    seen = np.zeros((64, *env.spec.observation_shape), np.int32)
    seen[:, 2:12] = draw.integers(2, env.spec.num_actions, (64, 10)) * (draw.random((64, 10)) < 0.5)
    seen[:, [2, 11]] = 3
    inside = np.broadcast_to((np.arange(seen.shape[1]) >= 2) & (np.arange(seen.shape[1]) < 12), seen.shape)

    @jax.jit
    def said(key):
        state = agent.init(key, env.spec)
        params = jax.tree.map(lambda leaf: 4 * leaf, state.params)  # untrained, it hardly looks at what it reads
        masks = np.concatenate([inside, seen != 0])
        both = agent.model(params).respond(np.tile(seen, (2, 1)), masks, None, state.response_length)
        return agent.mode(dataclasses.replace(state, params=params), jnp.asarray(seen, jnp.float32)), both.tokens

    found, both = jax.device_get(said(jax.random.key(0)))
    np.testing.assert_array_equal(found, both[:64])
    assert np.any(found != both[64:])
