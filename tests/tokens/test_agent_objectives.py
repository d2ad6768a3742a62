"""The token agent and its objective: settings, references, statistics and side responses; what is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from echo_task import (
    SPEC,
    TASK,
    assert_equal,
    collected,
    recomputed,
    reinforce,
    rows,
    warm_started,
)
from flax import struct

from maxent_rl.agents import check_agent
from maxent_rl.errors import InvalidSettingError, UnknownNameError
from maxent_rl.tokens import objectives
from maxent_rl.tokens.objectives import PRESETS, Preset, Sampling, Side, Stage
from maxent_rl.tokens.tasks import END_TOKEN, PAD_TOKEN

AGENT = TOKEN_AGENTS_UNDER_TEST["grpo"]
GROUP = AGENT.group_size


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
        few = {"mask": jnp.zeros((GROUP, 3), bool), "logp": statistic[:GROUP], "highest": statistic[:GROUP]}
        return {"highest": statistic, "logp": statistic, "prompts": prompts, "side": few | {"prompts": prompts[:GROUP]}}

    def statistics(self, state):
        return {"highest": lambda log_probs, tokens: jnp.max(log_probs, axis=-1)}

    def sampling(self, state):
        return Sampling(Side(share=0.3, temperature=jnp.where(state["batches"] < 1, 50.0, 1.0)))

    def prepare(self, state, batch):
        side = batch.side
        given = {"highest": batch.statistics["highest"], "logp": batch.logp_old, "prompts": batch.context.prompts}
        highest, prompts = side.statistics["highest"], side.context.prompts
        given["side"] = {"mask": side.mask, "logp": side.logp_old, "highest": highest, "prompts": prompts}
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (None, {"clip_low": 0.2}),
        (("clip-low=0.1", " clip_high = 3e-1 "), {"clip_low": 0.1, "clip_high": 0.3}),
        (("scale=none", "leave_one_out=TRUE"), {"scale": "none", "leave_one_out": True}),
        (("kl_weight=1",), {"kl_weight": 1}),
        (("group-advantage.scale=none", "kl_penalty.kl_weight=1"), {"scale": "none", "kl_weight": 1}),
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
