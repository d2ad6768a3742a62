"""The token agent: warm start, groups of responses, what objectives are given, learning, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from flax import struct

from maxent_rl.agents import check_agent
from maxent_rl.agents.base import acting_state
from maxent_rl.envs.token_envs import TokenEnv
from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens.batch import TokenBatch
from maxent_rl.tokens import objectives
from maxent_rl.tokens.objectives import PRESETS, Preset, Side, Stage
from maxent_rl.tokens.rollout import _fill, collect
from maxent_rl.tokens.tasks import END_TOKEN, PAD_TOKEN, ModularAddition, TokenTask

AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"]
GROUP = AGENT.group_size


class Word(NamedTuple):
    """One or two letters, -1 for none."""

    letters: jax.Array


@dataclasses.dataclass(frozen=True)
class Echo(TokenTask[Word]):
    """`ab` wants `ab`, `b` wants `b`: the smallest task with prompts and responses of several lengths."""

    name: ClassVar[str] = "echo"
    characters: ClassVar[str] = "abc"
    prompt_length: ClassVar[int] = 2
    response_length: ClassVar[int] = 3

    def draw(self, key):
        letters = jax.random.randint(key, (2,), 0, 3)
        return Word(letters.at[0].set(jnp.where(jax.random.bernoulli(key), letters[0], -1))), jnp.ones((), bool)

    def write(self, problem):
        return jnp.where(problem.letters < 0, PAD_TOKEN, problem.letters + 2).astype(jnp.int32)

    def read(self, prompt):
        return Word(jnp.where(prompt == PAD_TOKEN, -1, prompt - 2))

    def identity(self, problem):
        return problem.letters

    def candidates(self, problem):
        first, second = self.write(problem)
        long = jnp.stack([first, second, jnp.int32(END_TOKEN)])
        short = jnp.stack([second, jnp.int32(END_TOKEN), jnp.int32(PAD_TOKEN)])
        return jnp.where(first == PAD_TOKEN, short, long)[None], jnp.ones(1, bool)


TASK = Echo()
SPEC = dataclasses.replace(TokenEnv(TASK).spec, num_envs=NUM_RESPONSES)


@jax.jit
def init(agent, key):
    return agent.init(key, SPEC)


@jax.jit
def imitate(agent, state, key, step):
    return agent.imitate(state, TASK, key, NUM_RESPONSES, step)


@jax.jit
def collected(agent, state, key):
    return collect(agent, agent.build_objective(3), state, TASK, key, NUM_RESPONSES)


@jax.jit
def reinforce(agent, state, key):
    return agent.reinforce(state, TASK, key, NUM_RESPONSES)


@partial(jax.jit, static_argnums=(3, 4, 5))
def many(agent, state, key, kind, count, task=TASK):
    """64 steps of one kind, each with `count` responses: state, and metrics [step]."""

    def one(state, key):
        if kind == "imitate":
            return agent.imitate(state, task, key, count, 0)
        return agent.reinforce(state, task, key, count)

    return jax.lax.scan(one, state, jax.random.split(key, 64))


@jax.jit
def recomputed(agent, params, batch):
    return agent.statistics(params, batch.context, batch.tokens)


@pytest.fixture(scope="module")
def state():
    return init(AGENT, jax.random.key(0))


def warm_started(agent, steps):
    """The states and losses of the first steps."""
    states, losses = [init(agent, jax.random.key(0))], []
    for step in range(steps):
        state, metrics = imitate(agent, states[-1], jax.random.key(step), step)
        states.append(state)
        losses.append(float(metrics["supervised/loss"]))
    return states, losses


def assert_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_imitation_lowers_the_loss_of_right_answers():
    """Of five tokens each is as likely at first; a policy that does not look at prompts is left with 0.94 nats."""
    _, losses = warm_started(AGENT.replace(warm_start_learning_rate=1e-2), 60)
    assert losses[0] == pytest.approx(math.log(5), abs=0.1)
    assert np.mean(losses[-5:]) < 0.8


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


def test_the_warm_start_ends_when_the_loss_has_come_down():
    _, losses = warm_started(AGENT.replace(warm_start_steps=10**6), 8)
    bar = sorted(losses)[1]
    states, _ = warm_started(AGENT.replace(warm_start_steps=10**6, warm_start_loss=bar), 8)
    ended = next(step for step, loss in enumerate(losses) if loss <= bar)
    assert [bool(state.warm) for state in states[1 : ended + 2]] == [True] * ended + [False]


@pytest.mark.parametrize(("steps", "warm"), [(0, False), (1, True)])
def test_without_steps_there_is_no_warm_start(steps, warm):
    assert bool(init(AGENT.replace(warm_start_steps=steps), jax.random.key(0)).warm) is warm


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


def test_an_iteration_takes_a_step_for_each_minibatch_of_each_epoch(state):
    agent = AGENT.replace(num_minibatches=4, num_epochs=3)
    after, metrics = reinforce(agent, state, jax.random.key(0))
    assert int(after.updates) == 12 and int(after.optimizer[1].count) == 12
    assert {"episode/return", "policy/clip_fraction_high", "policy/gradient_norm", "actor/entropy"} <= set(metrics)
    assert all(np.isfinite(value) and np.shape(value) == () for value in metrics.values())


def rows(*groups):
    """A batch of groups given as (name, rewards)."""
    rewards = np.array([reward for _, values in groups for reward in values], np.float32)
    names = np.repeat(np.array([name for name, _ in groups], np.float32), len(groups[0][1]))[:, None]
    return TokenBatch(names, names > 0, rewards, len(groups[0][1]), tokens=names, context={"name": names})


def test_informative_groups_take_the_place_of_uniform_ones_in_order():
    held = rows((1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (0, 0)))
    fresh = rows((5, (1, 1)), (6, (1, 0)), (7, (0, 0)), (8, (0, 1)))
    filled = _fill(held, fresh, 2)
    expected = rows((6, (1, 0)), (2, (0, 1)), (8, (0, 1)), (4, (0, 0)))
    assert_equal(filled, expected)
    assert_equal(_fill(expected, rows(*((9, (1, 1)),) * 4), 2), expected)
    assert_equal(_fill(filled, rows(*((9, (1, 0)),) * 4), 2), rows((6, (1, 0)), (2, (0, 1)), (8, (0, 1)), (9, (1, 0))))


def test_further_rounds_bring_groups_that_teach_and_leave_the_metrics_of_the_first_round(state):
    """Reported rewards of chosen groups would stay near a half, however good the policy is."""
    first, plain = collected(AGENT, state, jax.random.key(2))
    batch, metrics = collected(AGENT.replace(sampling_rounds=30), state, jax.random.key(2))
    assert plain["rollout/mixed_groups"] < 1 == metrics["rollout/mixed_groups"]
    assert 1 < metrics["rollout/rounds"] <= 30
    for name in ("episode/return", "episode/length", "actor/entropy", "rollout/truncated"):
        assert metrics[name] == pytest.approx(float(plain[name]))
    groups = np.asarray(batch.rewards).reshape(-1, GROUP)
    assert ((groups.max(axis=1) == 1) & (groups.min(axis=1) == 0)).all()
    np.testing.assert_array_equal(batch.rewards, TASK.reward(batch.context.prompts, batch.tokens, batch.mask))
    kept = np.repeat([group.any() for group in np.asarray(first.rewards).reshape(-1, GROUP)], GROUP)
    assert_equal(*(jax.tree.map(lambda leaf: leaf[kept], one) for one in (first, batch)))


def test_a_policy_that_is_always_right_stops_drawing_at_the_last_round(state):
    class Right(Echo):
        def is_right(self, problem, response):
            return jnp.ones((), bool)

    agent, task = AGENT.replace(sampling_rounds=3), Right()
    run = jax.jit(lambda key: collect(agent, agent.build_objective(3), state, task, key, NUM_RESPONSES)[1])
    metrics = run(jax.random.key(0))
    assert metrics["rollout/rounds"] == 3 and metrics["rollout/mixed_groups"] == 0 and metrics["episode/return"] == 1


@pytest.mark.slow
def test_objectives_with_a_reference_learn_from_its_log_probabilities():
    agent = AGENT.replace(objective_settings=("kl_weight=0.1",), warm_start_steps=NUM_RESPONSES)
    states, _ = warm_started(agent, 1)
    begun = states[-1]
    batch, _ = collected(agent, begun, jax.random.key(1))
    np.testing.assert_allclose(batch.logp_ref[batch.mask], batch.logp_old[batch.mask], atol=1e-5)
    after = begun
    for seed in range(4):  # there is nothing to learn in a batch without a right answer
        after, metrics = reinforce(agent.replace(learning_rate=1e-2), after, jax.random.key(seed))
    assert_equal(after.reference, begun.reference)
    moved, _ = collected(agent, after, jax.random.key(2))
    expected = recomputed(agent, begun.params, moved).logp
    np.testing.assert_allclose(moved.logp_ref[moved.mask], expected[moved.mask], atol=1e-5)
    assert np.abs(moved.logp_ref - moved.logp_old)[moved.mask].max() > 1e-3
    assert any("kl" in name for name in metrics)


@struct.dataclass
class Probe(Stage):
    """Asks for a statistic of the vocabulary and for hot side responses to 0.3 of the prompts; keeps what it was given."""

    slot: ClassVar[str] = "advantage"

    def init(self, key):
        return {"batches": jnp.zeros((), jnp.int32), "given": jax.tree.map(jnp.zeros_like, self.shapes())}

    def shapes(self):
        statistic, prompts = jnp.zeros((NUM_RESPONSES, 3)), jnp.zeros((NUM_RESPONSES, 2), jnp.int32)
        few = dict(mask=jnp.zeros((GROUP, 3), bool), logp=statistic[:GROUP], highest=statistic[:GROUP])
        return {"highest": statistic, "logp": statistic, "prompts": prompts, "side": few | {"prompts": prompts[:GROUP]}}

    def statistics(self, state):
        return {"highest": lambda log_probs, tokens: jnp.max(log_probs, axis=-1)}

    def side(self, state):
        return Side(share=0.3, temperature=jnp.where(state["batches"] < 1, 50.0, 1.0))

    def prepare(self, state, batch):
        side = batch.side
        given = {"highest": batch.statistics["highest"], "logp": batch.logp_old, "prompts": batch.context.prompts}
        given["side"] = dict(
            mask=side.mask, logp=side.logp_old, highest=side.statistics["highest"], prompts=side.context.prompts
        )
        return {"batches": state["batches"] + 1, "given": given}, batch


@pytest.mark.slow
def test_statistics_and_side_responses_that_an_objective_asks_for_arrive(monkeypatch):
    """Side responses go to the first prompts of the batch, also where further rounds have replaced those drawn first."""
    monkeypatch.setitem(PRESETS, "probe", Preset("a probe", "none", (Probe(), *PRESETS["grpo"].stages)))
    agent = AGENT.replace(objective="probe", sampling_rounds=4, temperature=0.5, warm_start_learning_rate=1e-2)
    states, _ = warm_started(agent, 60)
    after, metrics = reinforce(agent, states[-1], jax.random.key(0))
    assert np.isfinite(list(metrics.values())).all() and metrics["rollout/rounds"] > 1
    (probe,) = after.objective
    given, side = probe["given"], probe["given"]["side"]
    assert probe["batches"] == 1
    np.testing.assert_array_equal(side["prompts"], given["prompts"][:GROUP])
    assert (given["logp"] <= given["highest"] + 1e-5).all() and given["highest"][0, 0] > math.log(1 / 5)
    # Drawn at a high temperature, but scored at the policy's own: less likely than the batch is.
    assert side["mask"].any(axis=1).all() and (side["logp"] <= side["highest"] + 1e-5).all()
    assert side["logp"][side["mask"]].mean() < given["logp"][given["logp"] < 0].mean() - 1


@pytest.mark.parametrize("name", objectives.names())
def test_every_objective_is_given_what_it_needs(name):
    """Traced alone: a missing input, or a state that changes its shape, would show."""
    agent = AGENT.replace(objective=name)
    check_agent(agent, SPEC, "echo")
    state = jax.eval_shape(lambda key: agent.init(key, SPEC), jax.random.key(0))
    after, _ = jax.eval_shape(lambda state: agent.reinforce(state, TASK, jax.random.key(0), NUM_RESPONSES), state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_the_longest_right_answer_earns_its_whole_reward_under_dapo():
    """It fills the responses: a penalty near their end made it worth as little as a wrong one, and learning gave it up."""
    batch = rows((1, (1, 0)))
    tokens = jnp.array([[2, 3, END_TOKEN], [2, END_TOKEN, PAD_TOKEN]])
    batch = dataclasses.replace(batch, logp_old=-jnp.ones((2, 3)), mask=tokens > 0, tokens=tokens)
    agent = AGENT.replace(objective="dapo")
    for settings, sign in ((None, 1), (("overlong_margin=1", "overlong_weight=2"), -1)):
        objective = agent.replace(objective_settings=settings).build_objective(3)
        _, prepared = objective.prepare(objective.init(), batch)
        assert np.sign(prepared.advantages[:, 0]).tolist() == [sign, -sign]


def test_responses_have_the_leading_axes_of_their_prompts(state):
    prompts, _ = TASK.prompts(jax.random.key(3), 6)
    prompts = np.asarray(prompts, np.float32)
    key = jax.random.key(4)
    acting, act, mode = acting_state(AGENT, state), jax.jit(AGENT.act), jax.jit(AGENT.mode)
    assert len(jax.tree.leaves(acting)) == len(jax.tree.leaves(state.params))
    flat = act(acting, prompts, key), mode(acting, prompts)
    assert flat[0].shape == flat[1].shape == (6, 3)
    for found, expected in zip(
        (act(acting, prompts.reshape(2, 3, 2), key), mode(acting, prompts.reshape(2, 3, 2))), flat
    ):
        np.testing.assert_array_equal(found.reshape(6, 3), expected)
    np.testing.assert_array_equal(mode(acting, prompts[0]), flat[1][0])
    np.testing.assert_array_equal(act(acting, prompts[0], key), flat[0][0])
    assert (flat[0] != act(acting, prompts, jax.random.key(5))).any()


def test_a_small_nucleus_or_temperature_leaves_the_likeliest_response(state):
    prompts, _ = TASK.prompts(jax.random.key(3), 6)
    act = jax.jit(lambda agent, key: agent.act(state, prompts, key))
    expected = jax.jit(AGENT.mode)(state, prompts)
    for settings in ({"top_p": 0.0}, {"temperature": 1e-4}):
        np.testing.assert_array_equal(act(AGENT.replace(**settings), jax.random.key(0)), expected)
    hot = AGENT.replace(temperature=100.0)
    assert (act(hot, jax.random.key(0)) != act(hot, jax.random.key(1))).any()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (None, {"clip_low": 0.2}),
        (("clip-low=0.1", " clip_high = 3e-1 "), {"clip_low": 0.1, "clip_high": 0.3}),
        (("scale=none", "leave_one_out=TRUE"), {"scale": "none", "leave_one_out": True}),
        (("kl_weight=1",), {"kl_weight": 1}),
    ],
)
def test_settings_of_the_objective_are_read(texts, expected):
    objective = AGENT.replace(objective_settings=texts).build_objective(3)
    found = {field.name: getattr(s, field.name) for s in objective.stages for field in dataclasses.fields(s)}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"objective": "grpoo"}, UnknownNameError, "Did you mean 'grpo'"),
        ({"objective_settings": ("clip_lwo=0.1",)}, UnknownNameError, "Did you mean 'clip_low'"),
        ({"objective_settings": ("clip_low",)}, InvalidSettingError, "--objective-settings takes NAME=VALUE, got 'clip_low'"),
        ({"objective_settings": ("=1",)}, InvalidSettingError, "takes NAME=VALUE, got '=1'"),
        ({"objective_settings": ("clip_low=",)}, InvalidSettingError, "takes NAME=VALUE, got 'clip_low='"),
        ({"objective_settings": ("clip_low=-1",)}, InvalidSettingError, "--clip-low must be"),
        ({"objective_settings": ("clip_low=low",)}, InvalidSettingError, "--clip-low must be a number, got 'low'"),
        ({"objective_settings": ("scale=all",)}, UnknownNameError, "all"),
        ({"objective_settings": "clip_low=1"}, InvalidSettingError, "--objective-settings must be several values"),
        ({"group_size": 5}, InvalidSettingError, "--num-envs 16, the responses of an iteration, must be a multiple of"),
        ({"num_minibatches": 3}, InvalidSettingError, "--group-size 4 and of --num-minibatches 3."),
        ({"hidden_size": 18, "num_heads": 4}, InvalidSettingError, "multiple of twice --num-heads, got 18 and 4"),
        ({"num_heads": 4, "num_key_value_heads": 3}, InvalidSettingError, "multiple of --num-key-value-heads, got 4 and 3"),
        ({"hidden_size": 6}, InvalidSettingError, "--hidden-size must be a multiple of twice --num-heads, got 6 and 2"),
        ({"top_p": 1.5}, InvalidSettingError, "--top-p must be at least 0 and at most 1"),
        ({"temperature": 0.0}, InvalidSettingError, "--temperature must be greater than 0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings, error, words):
    with pytest.raises(error) as caught:
        check_agent(AGENT.replace(**settings), SPEC, "echo")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_reinforcement_raises_the_reward():
    """By chance one response in forty is right; a policy of this size soon learns lengths, and that the end comes once."""
    agent = AGENT.replace(learning_rate=3e-3, group_size=8, warm_start_steps=0)
    state, returns = init(agent, jax.random.key(0)), []
    for part in range(2):
        state, metrics = many(agent, state, jax.random.key(part), "reinforce", 64)
        returns += metrics["episode/return"].tolist()
    assert np.mean(returns[:4]) < 0.05 and np.mean(returns[-20:]) > 0.09


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["grpo", "dapo", "reinforce"])
def test_reinforcement_learns_to_add(objective):
    """One in two is right after the warm start (untrained: one in two hundred), three in four after 384 iterations more."""
    task = ModularAddition(10)
    agent = AGENT.replace(
        objective=objective, hidden_size=32, num_heads=4, num_key_value_heads=2, intermediate_size=64, group_size=8,
        learning_rate=1e-3, warm_start_learning_rate=3e-3, warm_start_steps=10**9, num_epochs=1,
    )  # fmt: skip
    state, returns = jax.jit(lambda key: agent.init(key, TokenEnv(task).spec))(jax.random.key(0)), []
    for part in range(2):
        state, _ = many(agent, state, jax.random.key(part), "imitate", 256, task)
    state = agent._begin(state)
    for part in range(6):
        state, metrics = many(agent, state, jax.random.key(part), "reinforce", 256, task)
        returns += metrics["episode/return"].tolist()
    print(objective, np.reshape(returns, (-1, 64)).mean(axis=1))
    assert np.mean(returns[:5]) < 0.6 and np.mean(returns[-20:]) > 0.7
