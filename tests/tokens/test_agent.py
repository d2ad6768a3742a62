"""The token agent: warm start, groups of responses, further rounds of them, acting and learning."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from echo_task import (
    TASK,
    Echo,
    assert_equal,
    collected,
    init,
    many,
    recomputed,
    reinforce,
    warm_started,
)
from support.closeness import assert_close
from support.seeds import learning_seed

from maxent_rl.agents.base import acting_state
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.tokens.tasks import END_TOKEN, ModularAddition

AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"]
GROUP = AGENT.group_size


@pytest.fixture(scope="module")
def state():
    return init(AGENT, jax.random.key(0))


@pytest.mark.slow
def test_imitation_lowers_the_loss_of_right_answers():
    """Of five tokens each is as likely at first; a policy that does not look at prompts is left with 0.94 nats.

    The last twenty losses are 0.72 on average over 20 seeds, with deviation 0.03.
    """
    _, losses = warm_started(AGENT.replace(warm_start_learning_rate=1e-2), 60, learning_seed())
    assert losses[0] == pytest.approx(math.log(5), abs=0.15)
    assert np.mean(losses[-20:]) < 0.85


@pytest.mark.slow
def test_the_warm_start_may_learn_prompts_too():
    """Their second letters, of five tokens each as likely at first, beside the answers."""
    plain, both = (warm_started(AGENT.replace(warm_start_prompts=prompts), 1)[1][0] for prompts in (False, True))
    assert both - plain == pytest.approx(math.log(5), abs=0.3)


@pytest.mark.slow
def test_the_warm_start_ends_after_its_steps_with_a_reference_and_a_new_optimiser():
    agent = AGENT.replace(objective_settings=("kl_weight=0.1",), warm_start_steps=2 * NUM_RESPONSES + 1)
    states, _ = warm_started(agent, 3)
    assert [bool(state.warm) for state in states] == [True, True, True, False]
    assert [int(state.updates) for state in states] == [0, 2, 4, 6]  # one for each minibatch
    for state in states[:3]:
        assert_equal(state.reference, states[0].params)
    assert_equal(states[3].reference, states[3].params)
    assert_equal(states[3].optimizer, states[0].optimizer)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(states[2].optimizer))


@pytest.mark.slow
def test_the_warm_start_ends_when_the_loss_has_come_down():
    _, losses = warm_started(AGENT.replace(warm_start_steps=10**6), 8)
    bar = sorted(losses)[1]
    states, _ = warm_started(AGENT.replace(warm_start_steps=10**6, warm_start_loss=bar), 8)
    ended = next(step for step, loss in enumerate(losses) if loss <= bar)
    assert [bool(state.warm) for state in states[1 : ended + 2]] == [True] * ended + [False]


@pytest.mark.parametrize(("steps", "warm"), [(0, False), (1, True)])
def test_without_steps_there_is_no_warm_start(steps, warm):
    assert bool(init(AGENT.replace(warm_start_steps=steps), jax.random.key(0)).warm) is warm


@pytest.mark.slow
def test_a_group_shares_its_prompt_and_its_rewards_are_those_of_the_task(state):
    batch, metrics = collected(AGENT, state, jax.random.key(1))
    prompts = batch.context.prompts.reshape(-1, GROUP, TASK.prompt_length)
    assert (prompts == prompts[:, :1]).all() and len(np.unique(prompts[:, 0], axis=0)) > 1
    assert not TASK.is_held_out(batch.context.prompts).any()
    assert all(len(np.unique(group, axis=0)) > 1 for group in np.asarray(batch.tokens).reshape(-1, GROUP, 3))
    np.testing.assert_array_equal(batch.rewards, TASK.reward(batch.context.prompts, batch.tokens, batch.mask))
    ended = (np.asarray(batch.tokens) == END_TOKEN).any(axis=1)
    np.testing.assert_array_equal(batch.truncated, ~ended)
    assert 0 < ended.sum() < NUM_RESPONSES
    assert batch.logp_ref is None and batch.side is None and batch.statistics == {} and state.reference is None
    assert metrics["episode/length"] == pytest.approx(batch.mask.sum() / NUM_RESPONSES)
    assert metrics["rollout/rounds"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6, "top_p": 0.7}], ids=["plain", "temperature and top-p"])
def test_training_finds_the_log_probabilities_and_entropies_that_sampling_recorded(state, settings):
    """Otherwise the first importance ratio is not 1."""
    agent = AGENT.replace(**settings)
    batch, metrics = collected(agent, state, jax.random.key(1))
    found = recomputed(agent, state.params, batch)
    mask = np.asarray(batch.mask)
    np.testing.assert_allclose(found.logp[mask], batch.logp_old[mask], atol=1e-5)
    np.testing.assert_allclose(found.entropy[mask], batch.entropy_old[mask], atol=1e-5)
    assert metrics["actor/entropy"] == pytest.approx(float(batch.entropy_old[mask].mean()), abs=1e-5)


@pytest.mark.slow
def test_an_iteration_takes_a_step_for_each_minibatch_of_each_epoch(state):
    agent = AGENT.replace(num_minibatches=4, num_epochs=3)
    after, metrics = reinforce(agent, state, jax.random.key(0))
    assert int(after.updates) == 12 and int(after.optimizer[1].count) == 12
    assert {"episode/return", "policy/clip_fraction_high", "policy/gradient_norm", "actor/entropy"} <= set(metrics)
    assert all(np.isfinite(value) and np.shape(value) == () for value in metrics.values())


@pytest.mark.slow
def test_further_rounds_bring_groups_that_teach_and_leave_the_metrics_of_the_first_round(state):
    """Reported rewards of chosen groups would stay near a half, however good the policy is."""
    first, plain = collected(AGENT, state, jax.random.key(2))
    batch, metrics = collected(AGENT.replace(sampling_rounds=30), state, jax.random.key(2))
    assert plain["rollout/mixed_groups"] < 1 == metrics["rollout/mixed_groups"]
    assert 1 < metrics["rollout/rounds"] <= 30
    for name in ("episode/return", "episode/length", "actor/entropy", "rollout/truncated"):
        assert_close(metrics[name], plain[name])
    groups = np.asarray(batch.rewards).reshape(-1, GROUP)
    assert ((groups.max(axis=1) == 1) & (groups.min(axis=1) == 0)).all()
    np.testing.assert_array_equal(batch.rewards, TASK.reward(batch.context.prompts, batch.tokens, batch.mask))
    kept = np.repeat([group.any() for group in np.asarray(first.rewards).reshape(-1, GROUP)], GROUP)
    found, expected = (jax.tree.map(lambda leaf: leaf[kept], one) for one in (batch, first))
    assert_equal((found.tokens, found.mask, found.context), (expected.tokens, expected.mask, expected.context))
    assert_close(found, expected)  # drawn by two programs, with and without further rounds


@pytest.mark.slow
def test_a_policy_that_is_always_right_stops_drawing_at_the_last_round(state):
    class Right(Echo):
        def is_right(self, problem, response):
            return jnp.ones((), bool)

    agent, task = AGENT.replace(sampling_rounds=3), Right()
    run = jax.jit(lambda key: agent.collect(state, task, key, NUM_RESPONSES)[1])
    metrics = run(jax.random.key(0))
    assert metrics["rollout/rounds"] == 3 and metrics["rollout/mixed_groups"] == 0 and metrics["episode/return"] == 1


@pytest.mark.slow
def test_responses_have_the_leading_axes_of_their_prompts(state):
    prompts, _ = TASK.prompts(jax.random.key(3), 6)
    prompts = np.asarray(prompts, np.float32)
    key = jax.random.key(4)
    acting, act, mode = acting_state(AGENT, state), jax.jit(AGENT.act), jax.jit(AGENT.mode)
    assert len(jax.tree.leaves(acting)) == len(jax.tree.leaves(state.params))
    flat = act(acting, prompts, key), mode(acting, prompts)
    assert flat[0].shape == flat[1].shape == (6, 3)
    grid = prompts.reshape(2, 3, 2)
    np.testing.assert_array_equal(act(acting, grid, key).reshape(6, 3), flat[0])
    np.testing.assert_array_equal(mode(acting, grid).reshape(6, 3), flat[1])
    np.testing.assert_array_equal(mode(acting, prompts[0]), flat[1][0])
    np.testing.assert_array_equal(act(acting, prompts[0], key), flat[0][0])
    assert (flat[0] != act(acting, prompts, jax.random.key(5))).any()


@pytest.mark.slow
def test_a_small_nucleus_or_temperature_leaves_the_likeliest_response(state):
    prompts, _ = TASK.prompts(jax.random.key(3), 6)
    act = jax.jit(lambda agent, key: agent.act(state, prompts, key))
    expected = jax.jit(AGENT.mode)(state, prompts)
    for settings in ({"top_p": 0.0}, {"temperature": 1e-4}):
        np.testing.assert_array_equal(act(AGENT.replace(**settings), jax.random.key(0)), expected)
    hot = AGENT.replace(temperature=100.0)
    assert (act(hot, jax.random.key(0)) != act(hot, jax.random.key(1))).any()


@pytest.mark.slow
def test_reinforcement_raises_the_reward():
    """By chance one response in forty is right; a policy of this size soon learns lengths, and that the end comes once.

    Over 20 seeds: 0.03 with deviation 0.01 at first, 0.12 with deviation 0.02 at last; without learning 0.024 with 0.003.
    """
    agent = AGENT.replace(learning_rate=3e-3, group_size=8, warm_start_steps=0)
    state, returns = init(agent, jax.random.key(learning_seed())), []
    for part in range(2):
        state, metrics = many(agent, state, jax.random.key(learning_seed(part)), "reinforce", 64)
        returns += metrics["episode/return"].tolist()
    assert np.mean(returns[:4]) < 0.065 and np.mean(returns[-32:]) > 0.055


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    "objective",
    ["grpo", *(pytest.param(name, marks=pytest.mark.learning) for name in ("dapo", "reinforce", "ppo_critic"))],
)
def test_reinforcement_learns_to_add(objective):
    """Half to nearly all are right after the warm start (untrained: one in two hundred); 384 iterations take most errors away.

    Over 20 seeds 0.77 of them, with deviation 0.14; four seeds learn here.
    """
    task = ModularAddition(10)
    agent = AGENT.replace(
        objective=objective, hidden_size=32, num_heads=4, num_key_value_heads=2, intermediate_size=64, group_size=8,
        learning_rate=1e-3, warm_start_learning_rate=3e-3, warm_start_steps=10**9, num_epochs=1,
    )  # fmt: skip

    def keys(part):
        return jax.random.split(jax.random.key(learning_seed(part)), 4)

    def learn(kind):
        return jax.jit(jax.vmap(lambda state, key: many(agent, state, key, kind, 256, task)))

    imitate, reinforce = learn("imitate"), learn("reinforce")
    state = jax.jit(jax.vmap(lambda key: agent.init(key, TokenEnv(task).spec)))(keys(0))
    for part in range(2):
        state, _ = imitate(state, keys(part))
    state, returns = jax.vmap(agent._begin)(state), []
    for part in range(6):
        state, metrics = reinforce(state, keys(part))
        returns.append(metrics["episode/return"])
    right = np.concatenate(returns, axis=1)
    before, after = right[:, :16].mean(axis=1), right[:, -32:].mean(axis=1)
    assert np.mean((after - before) / (1 - before)) > 0.4
