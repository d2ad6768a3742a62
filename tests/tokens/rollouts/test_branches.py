"""Groups of conversations that branch: whole groups, shared beginnings, and what is measured of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.envs.adapters.tokens import make_tokens
from maxent_rl.errors import InvalidSettingError
from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives
from maxent_rl.tokens.agent import TokenAgent
from maxent_rl.tokens.tasks.bandit import Bandit
from maxent_rl.tokens.tasks.look_up import LookUp

TASK, GROUP, COUNT = LookUp(), 6, 48


def agent(*settings, objective="aepo_agentic"):
    return TokenAgent(
        objective=objective, objective_settings=settings or None, group_size=GROUP, num_minibatches=2, hidden_size=16,
        num_layers=1, num_heads=2, num_key_value_heads=1, intermediate_size=32,
    )  # fmt: skip


@functools.cache
def collected(*settings):
    """(state, batch, metrics) of a model that hardly knows more than that turns end."""
    learner = agent(*settings)
    state = jax.jit(lambda key: learner.init(key, make_tokens("look-up").spec))(jax.random.key(0))
    batch, metrics = jax.jit(lambda state, key: learner.collect(state, TASK, key, COUNT))(state, jax.random.key(1))
    return state, jax.device_get(batch), jax.device_get(metrics)


ONCE = ("fork_shared=once", "fork_root_share=0.2", "fork_round_penalty=1")


@pytest.mark.slow
def test_every_room_has_a_conversation_with_its_prompt():
    """One of six begins at the prompt, and no two turns in a row fork: at most two rooms are taken, the others are filled."""
    _, batch, metrics = collected(*ONCE)
    assert np.all(batch.mask[:, 0]) and metrics["rollout/roots"] == 1
    prompts = batch.context.prompts.reshape(-1, GROUP, batch.context.prompts.shape[1])
    np.testing.assert_array_equal(prompts, prompts[:, :1].repeat(GROUP, axis=1))
    assert 0 < metrics["rollout/branches"] <= 2 and 0 < metrics["rollout/branches_on_three"] <= 1
    assert metrics["rollout/distinct"] <= GROUP
    counts = (batch.copies[:, 0] > 1).reshape(-1, GROUP).sum(axis=1)
    assert counts.max() in (2, 3)  # the others begin alone
    assert np.all(np.asarray(batch.context.response_mask) | ~batch.mask)


@pytest.mark.slow
def test_shared_beginnings_are_alike_when_drawn_and_when_scored():
    state, batch, _ = collected(*ONCE)
    model = agent().model(state.params)
    scored = jax.device_get(
        jax.jit(lambda context, tokens: model.statistics(context, tokens))(batch.context, batch.tokens)
    )
    pairs = 0
    for first in range(0, COUNT, GROUP):
        for one in range(first, first + GROUP):
            for other in range(one + 1, first + GROUP):
                same = np.cumprod(batch.tokens[one] == batch.tokens[other]).astype(bool)
                shared = same & (batch.copies[one] > 1) & (batch.copies[other] > 1) & batch.mask[one]
                np.testing.assert_allclose(batch.logp_old[one, shared], batch.logp_old[other, shared], atol=2e-6)
                np.testing.assert_allclose(scored.logp[one, shared], scored.logp[other, shared], atol=2e-6)
                pairs += shared.any()
    assert pairs > 3
    np.testing.assert_allclose(scored.logp[batch.mask], batch.logp_old[batch.mask], atol=1e-4)


@pytest.mark.slow
def test_a_shared_token_counts_once_with_the_mean_of_its_advantages():
    """Two of three responses share a token: its gradient is the mean of their advantages, once."""
    objective = objectives.chain(
        objectives.Clipped(), objectives.Forking(fork_shared="once"), objectives.Aggregate(aggregation="token-sum")
    )
    copies = jnp.array([[2, 1], [2, 1], [1, 1]])
    batch = TokenBatch(
        jnp.zeros((3, 2)), jnp.ones((3, 2)), jnp.zeros(3), advantages=jnp.array([1.0, -3, 5]), copies=copies
    )
    slope = jax.grad(lambda logp: objective((), TokenOutputs(logp), batch)[0])(jnp.zeros((3, 2)))
    np.testing.assert_allclose(slope, -np.array([[0.5, 1], [-1.5, -3], [5, 5]]), rtol=1e-6)


def test_any_objective_may_ask_for_branches_and_a_task_without_replies_has_none():
    asked = objectives.make("grpo", fork_root_share=0.25)
    assert asked.sampling(asked.init()).branching.root_share == 0.25
    off = objectives.make("aepo_agentic", fork_conversations=False)
    assert off.sampling(off.init()).branching is None
    spec = make_tokens("modular-addition").spec
    agent().check(dataclasses.replace(spec, num_envs=COUNT), "tokens/modular-addition")
    with pytest.raises(InvalidSettingError, match=r"fork_root_share .*/modular-addition does not reply"):
        agent("fork_root_share=0.5").check(dataclasses.replace(spec, num_envs=COUNT), "tokens/modular-addition")


def learned(objective, *settings, task=TASK):
    """(parameters, metrics) of an iteration from a new model."""
    learner = agent(*settings, objective=objective)

    def run(key):
        state = learner.init(key, make_tokens(task.name).spec)
        after, metrics = learner.reinforce(state, task, key, COUNT)
        return after.params, metrics

    return run


@pytest.mark.slow
def test_turn_level_objectives_find_what_they_need_in_conversations():
    """Traced alone: GiGPO on conversations that branch as one that was tried says, and turn-level PPO with its critic."""
    _, metrics = jax.eval_shape(learned("gigpo", "fork_sensitivity=0.5"), jax.random.key(0))
    assert "rollout/branches_on_three" in metrics
    _, metrics = jax.eval_shape(learned("turn_ppo"), jax.random.key(0))
    assert "critic/explained_variance" in metrics and "rollout/branches" not in metrics


@pytest.mark.matrix
@pytest.mark.parametrize("objective", ["empg", "epo", "epo_released", "aepo_agentic", "gigpo", "turn_ppo"])
def test_an_iteration_learns_from_branches_by_every_objective_of_turns(objective):
    """In a bandit, where whoever names an arm earns something."""
    run = jax.jit(learned(objective, "fork_root_share=0.5", task=Bandit()))
    params, metrics = run(jax.random.key(5))
    assert metrics["policy/gradient_norm"] > 0 and metrics["rollout/branches"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, metrics)))
