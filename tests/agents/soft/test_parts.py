"""What later work adds to SAC, each part alone and all together: structure, what each changes, seeds, and resuming."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import assert_alike, batch_of, init, same, update
from support.closeness import assert_close

from maxent_rl import resume, train
from maxent_rl.agents import PMOE, SAC, ADPOOnline, SACDiscrete, acting_state, check_agent
from maxent_rl.agents.offline.cql import CQL
from maxent_rl.agents.soft.base import Following, SoftActorCritic
from maxent_rl.agents.soft.held_noise import HeldNoise, hold_probabilities
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import STATISTICS, ReturnBound, TanhGaussianPolicy, TrunkPlan
from maxent_rl.runs.config import RunConfig, agent_from
from maxent_rl.runs.presets import PRESETS, apply_preset
from maxent_rl.training.runner import _with_schedule
from maxent_rl.types import Spec

SPEC = Spec((3,), (2,), 100, num_envs=2)
SMALL = SAC(hidden_sizes=(8,), batch_size=8)
BATCH_NORMALISED = {"policy_norm": "batch", "critic_norm": "batch"}
EVERY_PART = {
    "critic_norm": "batch", "policy_norm": "batch", "critic_value": "categorical", "num_bins": 11, "reward_scale": "bound",
    "projection": "norms", "policy_delay": 2, "held_noise": 16, "learning_rate_schedule": "cosine", "scheduled_updates": 50,
    "weight_decay": 0.01, "critic_hidden_sizes": (16, 16), "batch_renorm": True,
}  # fmt: skip
AGENTS = {
    "crossq": SMALL.replace(
        **BATCH_NORMALISED, norm_after=True, batch_renorm=True, target_network=False, policy_delay=3
    ),
    "every part": SMALL.replace(**EVERY_PART),
    "quantile": SMALL.replace(critic_value="quantile", num_quantiles=5, critic_norm="rms", actor_value="mean"),
    "gaussian": SMALL.replace(critic_value="categorical", categorical_target="gaussian", target_value="mean"),
    "simbav2": SMALL.replace(network="simbav2", projection="columns", log_std_squash=True, update_order="policy_first"),
    "bronet": SMALL.replace(network="bronet", target_value="mean", adam_beta1=0.5),
    "flash": SMALL.replace(network="flash", projection="norms"),
    "experts": PMOE(hidden_sizes=(8,), batch_size=8, **EVERY_PART),
    "anchored": ADPOOnline(hidden_sizes=(8,), batch_size=8, num_candidates=3, **EVERY_PART),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name in ("crossq", "every part") else pytest.param(name, marks=pytest.mark.matrix) for name in AGENTS],
)
def test_updates_keep_structure_stay_finite_and_are_those_of_each_seed_alone(name):
    """Three updates of two seeds side by side, whose policies learn in the same of them."""
    agent = AGENTS[name]
    check_agent(agent, SPEC, "test")
    keys = jax.vmap(jax.random.key)(jnp.arange(2))

    batch = batch_of(seed=3)

    def run(key):
        def step(state, index):
            state = agent.watch(state, jax.tree.map(lambda leaf: leaf[:2], batch), jax.random.fold_in(key, index))
            return agent.update(state, batch, jax.random.fold_in(key, index))

        before = agent.init(key, SPEC)
        return before, *jax.lax.scan(step, before, jnp.arange(3))  # which compiles an update once

    run = jax.jit(jax.vmap(run))
    before, after, metrics = run(keys)
    assert_alike(before, after)
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert not same(before.policy, after.policy) and not same(before.critics, after.critics)
    swapped = run(keys[::-1])[1]
    assert_close(jax.tree.map(lambda leaf: leaf[::-1], swapped.critics), after.critics, rtol=1e-4)
    one = jax.tree.map(lambda leaf: leaf[0], after)
    part, observation = acting_state(agent, one), jnp.ones((3, 3))
    np.testing.assert_array_equal(agent.mode(part, observation), agent.mode(one, observation))
    assert np.abs(agent.act(one, jnp.ones((2, 3)), jax.random.key(0))).max() <= 1


@pytest.mark.slow
def test_the_policy_learns_in_one_of_three_updates_and_tells_of_its_last_step():
    agent = SMALL.replace(policy_delay=3)
    state = init(agent, jax.random.key(0), SPEC)
    changes, told = [], []
    for index in range(6):
        after, metrics = update(agent, state, batch_of(), jax.random.key(index))
        assert not same(after.critics, state.critics)
        assert same(after.policy, state.policy) == same(after.log_alpha, state.log_alpha)
        changes.append(not same(after.policy, state.policy))
        told.append(float(metrics["actor/entropy"]))
        state = after
    assert changes == [False, False, True, False, False, True]
    assert told[:2] == [0.0, 0.0] and told[2] == told[3] == told[4] != told[5]


@pytest.mark.slow
def test_without_batch_normalisation_one_pass_gives_what_two_give():
    """Check 5 of crossq.md."""
    state = init(SMALL, jax.random.key(0), SPEC)
    following = Following(0.1 * jnp.ones((8, 2)), jnp.zeros(8))
    (present, after), moved = SMALL.judge_both(state.critics, batch_of(), following, jax.random.key(0))
    batch = batch_of()
    assert_close(present, SMALL.judge(state.critics, batch.observation, batch.action, jax.random.key(0)))
    assert_close(after, SMALL.judge_next(state.critics, batch, following, jax.random.key(0)))
    assert STATISTICS not in moved


@pytest.mark.slow
def test_without_discount_what_follows_changes_critics_by_statistics_alone():
    """Check 4 of crossq.md: other next observations give another step of the critics, unless there is nothing to share."""
    for norm, is_same in (("batch", False), ("none", True)):
        agent = SMALL.replace(critic_norm=norm, discount=0.0, target_network=False)
        state = init(agent, jax.random.key(0), SPEC)
        steps = [
            update(agent, state, batch_of(next_observation=jnp.full((8, 3), value)), jax.random.key(1))[0].critics
            for value in (0.0, 3.0)
        ]
        assert same(*steps) == is_same


@pytest.mark.slow
def test_rates_of_their_own_are_the_length_of_adams_first_step():
    agent = SMALL.replace(learning_rate=1e-3, policy_learning_rate=3e-4, temperature_learning_rate=1e-2)
    state = init(agent, jax.random.key(0), SPEC)
    after, _ = update(agent, state, batch_of(), jax.random.key(1))
    largest = lambda name: max(  # noqa: E731
        float(jnp.max(jnp.abs(a - b)))
        for a, b in zip(jax.tree.leaves(getattr(state, name)), jax.tree.leaves(getattr(after, name)), strict=True)
    )
    np.testing.assert_allclose(
        [largest("critics"), largest("policy"), largest("log_alpha")], [1e-3, 3e-4, 1e-2], rtol=1e-2
    )


def test_a_delayed_policys_rate_goes_by_the_critics_updates():
    """The second step of a policy that learns in one of two updates comes after two of four: half of the rate is left."""
    agent = SMALL.replace(learning_rate_schedule="linear", learning_rate_end=0.0, scheduled_updates=4, policy_delay=2)
    adam, weights, steps = agent._policy_optimizer(), jnp.zeros(2), []
    state = adam.init(weights)
    for _ in range(2):
        step, state = adam.update(jnp.ones(2), state, weights)
        steps.append(float(step[0]))
    np.testing.assert_allclose(steps, [-1e-3, -5e-4], rtol=1e-4)


def test_how_long_noise_is_held():
    """Check 3 of flashsac.md, and by 4,000 draws."""
    probabilities = hold_probabilities(16)
    np.testing.assert_allclose(probabilities[:4], [0.631175, 0.157794, 0.070131, 0.039448], atol=1e-6)
    np.testing.assert_allclose(probabilities @ np.arange(1, 17), 2.133832, atol=1e-5)
    np.testing.assert_allclose(probabilities[3:].sum(), 0.140901, atol=1e-5)
    draw = jax.jit(jax.vmap(lambda key: HeldNoise.create(key, 1, 1, 16).left))
    left = np.asarray(draw(jax.random.split(jax.random.key(0), 4_000)))
    # Five standard errors of a share about 0.63.
    assert abs(np.mean(left == 1) - 0.631175) < 5 * math.sqrt(0.631 * 0.369 / 4_000) and left.max() <= 16


def test_noise_is_held_for_as_long_as_it_was_drawn_for():
    noise = dataclasses.replace(HeldNoise.create(jax.random.key(0), 2, 3, 16), left=jnp.int32(3))
    second = noise.next(jax.random.key(1))
    third = second.next(jax.random.key(2))
    fourth = third.next(jax.random.key(3))
    assert same(noise.noise, second.noise) and same(noise.noise, third.noise) and not same(noise.noise, fourth.noise)


@pytest.mark.slow
def test_exploration_acts_by_its_noise_and_not_by_the_key():
    agent = SMALL.replace(held_noise=16)
    state, observation = init(agent, jax.random.key(0), SPEC), jnp.ones((2, 3))
    actions = [agent.act(state, observation, jax.random.key(key)) for key in range(2)]
    np.testing.assert_array_equal(*actions)
    policy = agent.policy(state.policy, observation)
    np.testing.assert_array_equal(actions[0], policy.from_noise(state.held_noise.noise)[0])
    others = [agent.act(acting_state(agent, state), observation, jax.random.key(key)) for key in range(2)]
    assert not same(*others)


def test_divisors_of_a_constant_reward():
    """Check 7 of categorical-critic.md: 1,000 steps of 1 have sums up to 99.9957 with a deviation of 19.8623."""
    ones, zeros = jnp.ones((1_000, 1)), jnp.zeros((1_000, 1))
    scale = ReturnBound.create(1).add(ones, zeros, 0.99)
    np.testing.assert_allclose(scale.largest, 99.9957, rtol=1e-5)
    np.testing.assert_allclose(scale.divisor(5.0), 19.9991, rtol=1e-5)
    np.testing.assert_allclose(scale.divisor(None), 19.8623, rtol=1e-4)
    step = jax.jit(lambda scale, reward: scale.add(reward[None], jnp.zeros((1, 1)), 0.99))
    alone = ReturnBound.create(1)
    for reward in np.ones((1_000, 1), np.float32):
        alone = step(alone, reward)
    assert_close(alone.divisor(5.0), scale.divisor(5.0), rtol=1e-4)


def test_a_return_ends_with_its_episode():
    reward, done = jnp.array([[1.0], [2.0], [3.0], [4.0]]), jnp.array([[0.0], [0.0], [1.0], [0.0]])
    scale = ReturnBound.create(1).add(reward, done, 0.9)
    sums = [1.0, 2.9, 5.61, 4.0]
    np.testing.assert_allclose(scale.statistics.variance, np.var(sums), rtol=1e-5)
    np.testing.assert_allclose(scale.largest, 5.61, rtol=1e-6)


@pytest.mark.slow
def test_rewards_in_other_units_leave_the_update_as_it_is():
    """Check 8 of categorical-critic.md; values are told in units of return."""
    agent = SMALL.replace(reward_scale="bound", critic_value="categorical")
    state, results = init(agent, jax.random.key(0), SPEC), []
    for unit in (1.0, 64.0):
        watched = state
        for index in range(20):
            batch = batch_of(seed=index)
            step = jax.tree.map(lambda leaf: leaf[:2], dataclasses.replace(batch, reward=unit * batch.reward))
            watched = agent.watch(watched, step, jax.random.key(index))
        batch = batch_of()
        results.append(
            update(agent, watched, dataclasses.replace(batch, reward=unit * batch.reward), jax.random.key(1))
        )
    (first, told), (second, told_second) = results
    assert_close(second.critics, first.critics, rtol=1e-5)
    np.testing.assert_allclose(told_second["critic/target_mean"], 64.0 * told["critic/target_mean"], rtol=1e-4)


@pytest.mark.parametrize(("size", "entropy"), [(1, -0.478181), (3, -1.434544), (6, -2.869089), (17, -8.129085)])
def test_target_entropy_for_each_dimension(size, entropy):
    """Check 1 of flashsac.md, by the preset; -1 for each is SAC's."""
    _, agent = apply_preset("flashsac", RunConfig(agent="sac"), SAC())
    policy = {"params": {"head": {"bias": jnp.zeros(2 * size)}}}
    np.testing.assert_allclose(agent._default_target_entropy(policy), entropy, atol=2e-5)
    assert SMALL._default_target_entropy(policy) == -size


def test_squashed_log_standard_deviations():
    """Check 2 of flashsac.md: 0 gives -4, 1 gives 0.569565."""
    network = TanhGaussianPolicy(TrunkPlan(hidden_sizes=(4,)), 2, squash=True)
    variables = network.init(jax.random.key(0), jnp.zeros(3), -10.0, 2.0)
    head = variables["params"]["head"]
    head = {"kernel": jnp.zeros_like(head["kernel"]), "bias": jnp.array([0.0, 0.0, 0.0, 1.0])}
    policy = network.apply({"params": {**variables["params"], "head": head}}, jnp.zeros(3), -10.0, 2.0)
    np.testing.assert_allclose(policy.log_std, [-4.0, 0.569565], atol=1e-5)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (SMALL.replace(critic_value="quantile", dropped_quantiles=25), "--dropped-quantiles"),
        (SMALL.replace(network="flash", critic_norm="layer"), "has its own"),
        (SMALL.replace(network="bronet", critic_hidden_sizes=(8, 16)), "--critic-hidden-sizes"),
        (SMALL.replace(adam_beta1=1.0), "--adam-beta1"),
        (SMALL.replace(learning_rate_schedule="linear"), "--scheduled-updates"),
        (CQL(critic_value="categorical"), "CQL's penalty"),
        (PMOE(network="simbav2", hidden_sizes=(8,)), "--num-experts 1"),
    ],
)
def test_what_does_not_go_together_is_refused(agent, words):
    with pytest.raises(InvalidSettingError) as caught:
        check_agent(agent, SPEC, "test")
    assert words in str(caught.value)


@pytest.mark.slow
def test_discrete_actions_take_the_parts_that_make_sense():
    spec = Spec((3,), (), 100, num_actions=4)
    agent = SACDiscrete(
        hidden_sizes=(8,), batch_size=8, critic_norm="layer", policy_norm="rms", policy_delay=2, reward_scale="spread",
        network="mlp", projection="hidden", target_network=False,
    )  # fmt: skip
    check_agent(agent, spec, "test")
    state = init(agent, jax.random.key(0), spec)
    after, _ = update(agent, state, batch_of(action=jnp.arange(8.0) % 4), jax.random.key(1))
    assert_alike(state, after)
    for setting in ({"critic_norm": "batch"}, {"critic_value": "quantile"}, {"held_noise": 4}):
        with pytest.raises(InvalidSettingError):
            check_agent(agent.replace(**setting), spec, "test")


def test_settings_of_before_are_read_as_they_were_meant():
    values = {"critic_layer_norm": True, "start_steps": None}
    config = {"run": {"agent": "sac"}, "agent": values}
    agent = agent_from(SAC, config)
    assert agent.critic_norm == "layer" and agent.most_start_steps == 10_000
    assert values == {"critic_layer_norm": True, "start_steps": None}
    assert SoftActorCritic.of_before({"critic_norm": "rms"}) == {"critic_norm": "rms"}


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if "sac" in preset.agents])
def test_presets_are_settings_that_work(name):
    run, agent = apply_preset(name, RunConfig(agent="sac"), SAC())
    check_agent(_with_schedule(run, agent), Spec((17,), (6,), 1_000), "test")


@pytest.mark.slow
def test_interrupted_and_resumed_every_part_learns_the_same_to_the_bit(tmp_path):
    """Batch statistics, divisors of rewards, held noise and the schedule are all in the checkpoint."""
    agent = SMALL.replace(**EVERY_PART | {"scheduled_updates": None}, start_steps=16, replay_size=64)
    settings = {"num_seeds": 2, "num_envs": 2, "eval_episodes": 2, "eval_every": 1_000, "progress": False}
    whole = train(agent, "maxent/MultiGoal", total_steps=96, output_dir=str(tmp_path / "whole"), **settings)
    part = train(agent, "maxent/MultiGoal", total_steps=60, output_dir=str(tmp_path / "part"), **settings)
    agent_of = lambda result: result.agent.scheduled_updates  # noqa: E731
    assert agent_of(whole) == 96 and agent_of(part) == 60
    again = train(
        agent.replace(scheduled_updates=96),
        "maxent/MultiGoal",
        total_steps=60,
        output_dir=str(tmp_path / "again"),
        **settings,
    )
    rest = resume(again.folder, total_steps=96, progress=False)
    assert same(rest.states, whole.states)
