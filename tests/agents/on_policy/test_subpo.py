"""SubPO and MODPO: gradients against enumeration, the sheet's worked numbers, what they reduce to, and what they reach."""

import dataclasses
import itertools
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import init, same, update
from support.closeness import assert_close

from maxent_rl.agents import check_agent
from maxent_rl.agents.base import rollout_time
from maxent_rl.agents.on_policy.subpo import MODPO, SubPO
from maxent_rl.envs.device import reset_batch, step_batch
from maxent_rl.envs.registry import make_device
from maxent_rl.envs.submodular.env import SubmodularEnv
from maxent_rl.envs.submodular.motions import FreeChoice, GridWalk
from maxent_rl.envs.submodular.planning import time_policy_value
from maxent_rl.errors import InvalidSettingError
from maxent_rl.set_functions import Coverage, Modular, Table
from maxent_rl.types import Spec, Transition

# The sheet's worked example: three elements chosen freely at two steps, covering {1, 2}, {2, 3} and {4}.
WORKED = SubmodularEnv(
    FreeChoice(3, 0.0, 2), Coverage(Table(np.array([[0, 1], [1, 2], [3, -1]], np.int32)), Table(np.ones(4))), 2
)
LOGITS = jnp.array([[0.2, 0.0, -0.1], [0.0, 0.3, 0.0]])
MARGINAL = [[0.046809, 0.004916, -0.051725], [0.008250, 0.039674, -0.047924]]
PREFIX = [[0.113080, 0.092582, -0.205662], MARGINAL[1]]
ADDITIVE = [PREFIX[0], [0.089114, 0.120292, -0.209406]]
EXACT = {"linear": True, "baseline": "none"}
ENVS = 8


def begun(agent, spec):
    return init(agent, jax.random.key(0), spec)


def tabular_state(agent, env, logits, envs=1):
    """A linear policy on one-hot observations of time with these logits [step, action]."""
    return _tabular_state(type(agent), agent, env, logits, envs)


@partial(jax.jit, static_argnums=(0, 2, 4))
def _tabular_state(kind, agent, env, logits, envs):
    state = agent.init(jax.random.key(0), dataclasses.replace(env.spec, num_envs=envs))
    head = state.parameters["policy"]["params"]["head"]
    kernel = jnp.zeros_like(head["kernel"]).at[: len(logits)].set(logits)
    parameters = state.parameters | {
        "policy": {"params": {"head": {"kernel": kernel, "bias": jnp.zeros_like(head["bias"])}}}
    }
    return dataclasses.replace(state, parameters=parameters)


@partial(jax.jit, static_argnames="env")
def roll(env, actions):
    """The window [time, env] of these actions [time, env], from the start; of deterministic environments."""
    keys = jax.random.split(jax.random.key(0), actions.shape[1])[None]

    def step(state, action):
        after, found = step_batch(env, state, action[None])
        flags = (found.terminated, found.truncated)
        row = (state.observation, action[None], found.reward, found.next_observation, *flags)
        return after, jax.tree.map(lambda leaf: leaf[0].astype(jnp.float32), row)

    _, rows = jax.lax.scan(step, reset_batch(env, keys), actions)
    return Transition(*rows, steps=jnp.ones(actions.shape))


def ascent(agent, state, batch):
    """The gradient that an update follows, upwards and summed over time, in the logits [step, action]."""
    return _ascent(type(agent), agent, state, batch)


@partial(jax.jit, static_argnums=0)
def _ascent(kind, agent, state, batch):
    _, samples = agent.evaluate(state, batch)
    units = agent.units(samples)
    gradient = jax.grad(lambda p: agent.loss(p, units, None, jax.random.key(0))[0])(state.parameters)
    return -len(batch.reward) * gradient["policy"]["params"]["head"]["kernel"][: len(batch.reward)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "expected"),
    [(SubPO(**EXACT), MARGINAL), (SubPO(**EXACT, horizon="myopic"), PREFIX), (MODPO(**EXACT), ADDITIVE)],
    ids=["marginal gains", "released code", "additive"],
)
def test_the_worked_example(agent, expected):
    """Expectations over all nine trajectories, each with the gradient that an update would follow on it alone."""
    state = tabular_state(agent, WORKED, LOGITS)
    trajectories = jnp.array(list(itertools.product(range(3), repeat=2)))
    each = jax.vmap(lambda actions: ascent(agent, state, roll(WORKED, actions[:, None])))(trajectories)
    policy = jax.nn.softmax(LOGITS)
    chance = policy[0, trajectories[:, 0]] * policy[1, trajectories[:, 1]]
    np.testing.assert_allclose(jnp.tensordot(chance, each, axes=1), expected, atol=1e-5)


def test_the_worked_objective_and_its_derivative():
    value, slope = jax.jit(jax.value_and_grad(lambda logits: time_policy_value(WORKED, jax.nn.softmax(logits))))(LOGITS)
    np.testing.assert_allclose(value, 2.581671, atol=1e-5)
    np.testing.assert_allclose(slope, MARGINAL, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["mean", "value"])
def test_gradients_of_samples_are_those_of_the_exact_objective(baseline):
    """100 windows of chance: four standard errors hold the exact gradient, and not that of additive rewards."""
    env = make_device("maxent/EpsilonBandit-0.3")
    logits = 0.3 * jax.random.normal(jax.random.key(1), (3, 6))
    exact = jax.jit(jax.grad(lambda each: time_policy_value(env, jax.nn.softmax(each))))(logits)

    def samples(agent):
        state = tabular_state(agent, env, logits, 512)

        def one(key):
            reset_key, act_key = jax.random.split(key)

            def step(envs, key):
                action = agent.act(state, envs.observation[0], key)[None]
                after, found = step_batch(env, envs, action)
                row = (envs.observation, action, found.reward, found.next_observation, found.terminated)
                return after, jax.tree.map(lambda leaf: leaf[0].astype(jnp.float32), row)

            envs = reset_batch(env, jax.random.split(reset_key, 512)[None])
            _, (seen, action, reward, following, ended) = jax.lax.scan(step, envs, jax.random.split(act_key, 3))
            batch = Transition(seen, action, reward, following, ended, jnp.zeros_like(ended), jnp.ones_like(ended))
            return ascent(agent, state, batch)

        found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 100))
        return np.mean(found, axis=0), np.std(found, axis=0) / 10

    mean, error = samples(SubPO(linear=True, baseline=baseline))
    assert np.all(np.abs(mean - exact) < 4 * error), (mean - exact) / error
    assert np.max(np.abs(exact)) > 5 * np.max(error)
    if baseline == "mean":
        for other in (MODPO(linear=True), SubPO(linear=True, horizon="myopic")):
            wrong, error = samples(other)
            assert np.max(np.abs(wrong - exact) / error) > 10


@pytest.mark.slow
def test_a_baseline_lowers_the_spread_and_credit_to_come_has_less_of_it_than_the_whole():
    trajectories = jax.random.randint(jax.random.key(0), (500, 2, 64), 0, 3)
    batches = jax.vmap(lambda actions: roll(WORKED, actions))(trajectories)

    def spread(agent, paid=lambda batch: batch):
        state = tabular_state(agent, WORKED, jnp.zeros((2, 3)))
        return float(jnp.sum(jnp.var(jax.vmap(lambda batch: ascent(agent, state, paid(batch)))(batches), axis=0)))

    def whole(batch):
        """F of the whole trajectory for every action."""
        total = jnp.sum(batch.reward, axis=0)
        return batch.replace(reward=batch.reward.at[0].set(0).at[1].set(total))

    plain, compared = spread(SubPO(**EXACT)), spread(SubPO(linear=True, baseline="mean"))
    assert compared < 0.5 * plain
    assert plain < 0.9 * spread(SubPO(**EXACT), whole)


@pytest.mark.slow
def test_equal_gains_and_a_mean_have_no_gradient():
    apart = SubmodularEnv(FreeChoice(3, 0.0, 2), Modular(Table(np.ones(3, np.float32)), repeats=True), 2)
    agent = SubPO(linear=True, baseline="mean")
    actions = jax.random.randint(jax.random.key(0), (2, ENVS), 0, 3)
    assert not np.any(ascent(agent, tabular_state(agent, apart, LOGITS, ENVS), roll(apart, actions)))


MODULAR = SubmodularEnv(GridWalk(3, 3, 4), Modular(Table(np.linspace(0.1, 1.7, 9, dtype=np.float32)), repeats=True), 5)
SPEC = dataclasses.replace(MODULAR.spec, num_envs=ENVS)
SETTINGS = {
    "plain": {},
    "none": {"baseline": "none"},
    "value": {"baseline": "value", "discount": 0.99, "trace_decay": 0.95},
    "clipped": {"epochs": 2, "minibatches": 4, "normalize_advantages": True},
    "natural": {"natural_gradient": True},
    "recurrent": {"history": "recurrent", "history_size": 8},
    "annealed": {"entropy_bonus": 0.1, "entropy_annealing": True},
    "held": {"target_entropy": 1.0},
}


def trained(agent, env, updates=3, envs=ENVS):
    """The state after a few updates, each from a window of whole episodes by the agent's own actions."""
    spec = dataclasses.replace(env.spec, num_envs=envs)
    check_agent(agent, spec, "test")

    def window(state, key):
        def step(carry, key):
            envs_state, memory = carry
            seen, acting = envs_state.observation[0], agent.recalling(state, memory)
            action = agent.act(acting, seen, key)
            after, found = step_batch(env, envs_state, action[None])
            row = (action, found.reward[0], found.next_observation[0], found.terminated[0], found.truncated[0])
            memory = agent.remember(state, memory, seen, action, found.reward[0])
            return (after, memory), (seen, *(leaf.astype(jnp.float32) for leaf in row))

        reset_key, act_key = jax.random.split(key)
        start = reset_batch(env, jax.random.split(reset_key, envs)[None]), agent.memory(state, (envs,))
        _, rows = jax.lax.scan(step, start, jax.random.split(act_key, rollout_time(agent, spec)))
        return Transition(*rows, steps=jnp.ones_like(rows[2]))

    def update(state, key):
        window_key, update_key = jax.random.split(key)
        state, metrics = agent.update(state, window(state, window_key), update_key)
        return agent.recalling(state, None), metrics

    keys = jax.random.split(jax.random.key(7), updates)
    return jax.jit(lambda state: jax.lax.scan(update, state, keys))(begun(agent, spec))


# What is made of the advantages is the same program for both: the test after this one.
ADVANTAGES = {name: SETTINGS[name] for name in ("value", "recurrent")}


@pytest.mark.slow
@pytest.mark.parametrize("settings", ADVANTAGES.values(), ids=ADVANTAGES)
def test_with_additive_rewards_marginal_gains_are_plain_policy_gradient(settings):
    """The same numbers, read from the reward by the one and from the observation by the other: two programs."""
    small = {"hidden_sizes": (8,), "value_hidden_sizes": (8,)} | settings
    ours, metrics = trained(SubPO(**small), MODULAR)
    plain, others = trained(MODPO(**small), MODULAR)
    # Adam divides each entry by its own size, so that what is small in a gradient keeps fewer digits.
    assert_close(jax.tree.leaves(ours), jax.tree.leaves(plain), rtol=1e-4)
    assert_close(metrics, others, rtol=1e-4, scale=1.0)
    start = begun(SubPO(**small), SPEC)
    for name in start.parameters:
        assert not same(start.parameters[name], ours.parameters[name]), name
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((ours, metrics)))


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_where_no_additive_reward_is_told_the_two_are_the_same_program(settings):
    """And so the same to the bit."""
    small = {"hidden_sizes": (8,), "value_hidden_sizes": (8,)} | settings
    spec = dataclasses.replace(MODULAR.spec, num_envs=ENVS, additive_reward=False)
    batch = jax.eval_shape(lambda: roll(MODULAR, jnp.zeros((5, ENVS), int)))

    def program(agent):
        state = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec))
        return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(agent.update)(state, batch, jax.random.key(1))))

    assert program(MODPO(**small)) == program(SubPO(**small))


@pytest.mark.slow
def test_one_update_is_reinforce_with_rewards_to_go():
    """Written out by hand: Adam on minus the mean of log-probability times what came after, less the others' mean."""
    agent = SubPO(hidden_sizes=(8,))
    state = begun(agent, SPEC)
    batch = roll(MODULAR, jax.random.randint(jax.random.key(1), (5, ENVS), 0, 5))

    @jax.jit
    def by_hand(start):
        to_go = jnp.cumsum(batch.reward[::-1], axis=0)[::-1]
        others = (jnp.sum(to_go, axis=1, keepdims=True) - to_go) / (ENVS - 1)

        def loss(parameters):
            policy = agent.policy(parameters, batch.observation[..., :-1])
            chosen = jnp.take_along_axis(policy.log_probs, batch.action[..., None].astype(int), axis=-1)[..., 0]
            return -jnp.mean(chosen * (to_go - others))

        optimizer = optax.adam(5e-3, eps=1e-5)
        step, _ = optimizer.update(jax.grad(loss)(start), optimizer.init(start))
        return optax.apply_updates(start, step)

    expected, found = by_hand(state.parameters), update(agent, state, batch, jax.random.key(2))[0].parameters
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
def test_a_single_step_is_judged_by_the_normalizer_that_acted(steps):
    """With one step there is no ratio that would make up for a normaliser which has seen the window too."""
    agent = SubPO(hidden_sizes=(8,), normalize_observations=True, epochs=steps)
    state = begun(agent, SPEC)
    batch = roll(MODULAR, jax.random.randint(jax.random.key(1), (5, ENVS), 0, 5))
    after, samples = agent.evaluate(state, batch)
    now = agent.policy_at(state.parameters, samples).log_prob(batch.action)
    assert after.normalizer.count > state.normalizer.count
    assert np.allclose(now, samples.log_prob, atol=1e-6) == (steps == 1)


@pytest.mark.slow
def test_without_values_nothing_is_learned_from_an_episode_that_the_window_cuts():
    """The second environment's episode ended early, and the one after it is cut; the first one's ends with the window."""
    zeros = jnp.zeros((3, 3))
    ends = zeros.at[2, 0].set(1).at[0, 1].set(1).at[2, 2].set(1)
    paid = jnp.arange(1.0, 10.0).reshape(3, 3)
    batch = Transition(jnp.zeros((3, 3, 2)), zeros, paid, jnp.zeros((3, 3, 2)), ends, zeros, jnp.ones((3, 3)))
    found = SubPO(baseline="none").advantages(paid, zeros, zeros, batch)
    np.testing.assert_array_equal(found, [[12, 2, 18], [11, 0, 15], [7, 0, 9]])
    compared = SubPO().advantages(paid, zeros, zeros, batch)
    assert_close(compared, np.array([[2, -13, 11], [-4, 0, 4], [-2, 0, 2]]), rtol=1e-6)


@pytest.mark.slow
def test_networks_do_not_read_the_additive_reward():
    agent, env = SubPO(hidden_sizes=(8,)), make_device("maxent/TwoRooms-visited")
    state = begun(agent, env.spec)
    seen = env.reset(jax.random.key(0))[1]
    moved = seen.at[-1].set(99.0)
    assert env.spec.additive_reward and same(agent.distribution(state, seen), agent.distribution(state, moved))
    plain = Spec((3,), (), 10, num_actions=2)
    assert agent.init(jax.random.key(0), plain).input_size == 3


@pytest.mark.slow
def test_the_natural_gradient_is_the_fisher_matrix_solved():
    """On a table the Fisher matrix of samples is a small one; the step moves the policy by the given divergence."""
    agent = SubPO(**EXACT, natural_gradient=True, damping=0.01, fisher_iterations=50, trust_region=1e-4)
    state = tabular_state(agent, WORKED, LOGITS, 400)
    logits = jax.random.categorical(jax.random.key(0), jnp.broadcast_to(LOGITS[:, None], (2, 400, 3)))
    batch = roll(WORKED, logits)
    after, _ = update(agent, state, batch, jax.random.key(1))

    @jax.jit
    def compared():
        units = agent.units(agent.evaluate(state, batch)[1])
        flat, shape = jax.flatten_util.ravel_pytree({"policy": state.parameters["policy"]})
        scores = jax.jacobian(lambda each: agent.policy_at(shape(each), units).log_prob(units.action))(flat)
        gradient = jax.grad(lambda each: agent.loss(shape(each), units, None, jax.random.key(0))[0])(flat)
        fisher = scores.T @ scores / len(scores) + 0.01 * jnp.eye(len(flat))
        moved = jax.flatten_util.ravel_pytree({"policy": after.parameters["policy"]})[0] - flat
        before, now = (agent.policy_at(each.parameters, units) for each in (state, after))
        return fisher, gradient, moved, jnp.mean(before.divergence(now))

    fisher, gradient, moved, divergence = map(np.asarray, compared())
    direction = np.linalg.solve(fisher, gradient)
    expected = -direction * np.sqrt(2e-4 / (direction @ gradient))
    np.testing.assert_allclose(moved, expected, atol=1e-4, rtol=1e-2)
    assert 0.5e-4 < divergence < 1.1e-4  # less than asked for by the damping's share


@pytest.mark.slow
def test_the_entropy_bonus_is_annealed_by_the_number_of_the_update():
    bare = {"hidden_sizes": (8,), "learning_rate": 1e-9, "entropy_bonus": 0.6}
    plain, annealed = SubPO(**bare), SubPO(**bare, entropy_annealing=True)
    batch = roll(MODULAR, jax.random.randint(jax.random.key(1), (5, ENVS), 0, 5))
    third = begun(annealed, SPEC)
    for _ in range(2):
        third, _ = update(annealed, third, batch, jax.random.key(0))
    moments = lambda agent, state: optax.tree.get(update(agent, state, batch, jax.random.key(0))[0].optimizer, "mu")  # noqa: E731
    reset = dataclasses.replace(
        third, optimizer=optax.tree.set(third.optimizer, mu=jax.tree.map(jnp.zeros_like, third.parameters))
    )
    weaker = dataclasses.replace(plain, entropy_bonus=0.2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
        moments(annealed, reset),
        moments(weaker, reset),
    )


@pytest.mark.parametrize(
    ("settings", "envs", "words"),
    [
        ({"horizon": "myopic", "baseline": "value"}, 8, "--horizon myopic has no value function"),
        ({}, 1, "--num-envs must be at least 2"),
        ({"rollout_size": 24}, 8, "--rollout-size must be a multiple of 40 (test has 5 steps, --num-envs is 8), got 24"),
        ({"history": "transformer", "context": 4}, 8, "--context 5 would do"),
        ({"history": "transformer", "history_size": 12}, 8, "--history-size must be a multiple of twice --history-heads"),
        ({"history": "recurrent", "minibatches": 3}, 8, "--minibatches 3 cannot share 8 environments evenly"),
        ({"minibatches": 3}, 8, "--minibatches 3 cannot share the 40 steps of an update (--num-envs 8) evenly: 2 or 4"),
        ({"trust_region": 0.0}, 8, "--trust-region must be greater than 0"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_the_reason(settings, envs, words):
    with pytest.raises(InvalidSettingError, match=words.replace("(", r"\(").replace(")", r"\)")):
        check_agent(SubPO(**settings), dataclasses.replace(MODULAR.spec, num_envs=envs), "test")
