"""Experts looked at: the numbers are those of a policy made by hand, and every picture is drawn from what a run has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import HostPoint, OneStepDevice, Point
from flax import struct

from maxent_rl import envs
from maxent_rl.agents.registry import agent_name
from maxent_rl.agents.soft.pmoe import PMOE
from maxent_rl.distributions import GaussianMixture
from maxent_rl.errors import InvalidSettingError
from maxent_rl.pictures import expert_pictures, landscapes
from maxent_rl.pictures.expertise import Expertise, principal_components
from maxent_rl.pictures.experts import (
    _training_rows,
    _warnings,
    look_at_experts,
    picture_folder,
    play_experts,
    run_folder,
)
from maxent_rl.pictures.style import colours
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.trajectories import Trajectory
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import Policy, export_policy, load_policy, policy_arrays
from maxent_rl.runs.records import Recorder

TITLES = ("Somewhere", "an agent")


class Bandit(OneStepDevice):
    """As plain as `maxent/FourOptima`, without its landscape."""

    spec = envs.make_device("maxent/FourOptima").spec

    def __init__(self):
        super().__init__(terminates=True)


@struct.dataclass
class ByHand:
    """Expert 0 rules where the first observation is positive and goes right, expert 1 elsewhere and goes up."""

    sure: float = 60.0

    def experts(self, state, observation):
        rules = jnp.where(observation[..., :1] > 0, jnp.array([0.0, -self.sure]), jnp.array([-self.sure, 0.0]))
        mean = jnp.broadcast_to(jnp.array([[0.5, 0.0], [0.0, 0.5]]), (*observation.shape[:-1], 2, 2))
        return GaussianMixture(rules, mean, jnp.broadcast_to(jnp.array([[-1.0], [-2.0]]), mean.shape))

    def act(self, state, observation, key):
        return self.experts(state, observation).sample(key)

    def mode(self, state, observation):
        return self.experts(state, observation).mode()


def by_hand(**settings):
    description = {"env": "Point", "backend": None, "step": 7}
    return Policy(ByHand(**settings), jnp.zeros(1), Point().spec, description, seed=0)


def run_of(folder, env, agent, metrics=True, **settings):
    """A run's folder with an untrained policy and, for every seed and variant, some metrics of a router."""
    spec = (envs.make_device if envs.is_device(env) else lambda name: envs.make_host(name, [0]))(env).spec
    run = RunConfig(agent=agent_name(agent), env=env, **settings)
    members = run.num_seeds * max([len(values) for values in run.variants.values()], default=1)
    states = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.split(jax.random.key(0), members))
    config = describe(run, agent)
    export_policy(folder / "policy", config, policy_arrays(agent, states), spec, step=3000)
    (folder / "config.json").write_text(json.dumps(config))
    if metrics:
        record = Recorder(folder, config=config, tensorboard=False)
        for step, usage, entropy in ((1000, None, None), (2000, (0.5, 0.5), 0.69), (3000, (0.999, 0.001), 0.01)):
            found = {} if usage is None else {f"router/usage_{index}": share for index, share in enumerate(usage)}
            found |= {} if entropy is None else {"router/entropy": entropy, "router/collapsed": float(step == 3000)}
            keys = [{"seed": run.seed + seed} for seed in range(run.num_seeds)]
            for name, values in run.variants.items():
                keys = [{**key, name: value} for value in values for key in keys]
            record.metrics(step, [key | {"updates": step, **found} for key in keys])
    return folder


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 8_000


@pytest.mark.slow
@pytest.mark.parametrize("env", [Point(), HostPoint], ids=["device", "host"])
def test_the_numbers_are_those_of_a_policy_made_by_hand(env):
    trajectories, expertise = play_experts(by_hand(), 4, env=env)
    seen = np.concatenate([each.observation[:-1] for each in trajectories])
    rules = (seen[:, 0] <= 0).astype(int)
    np.testing.assert_array_equal(expertise.observation, seen)
    np.testing.assert_array_equal(expertise.chosen, rules)
    np.testing.assert_allclose(expertise.usage, [np.mean(rules == 0), np.mean(rules == 1)], rtol=1e-6)
    np.testing.assert_allclose(expertise.weights, np.eye(2)[rules], atol=1e-6)
    np.testing.assert_allclose(expertise.router_entropy, 0.0, atol=1e-6)
    # The entropy of a Gaussian in two dimensions: 2 log_std + log(2 pi e).
    expected = np.array([-2.0, -4.0]) + math.log(2 * math.pi * math.e)
    np.testing.assert_allclose(expertise.expert_entropy.mean(axis=0), expected, rtol=1e-4)
    np.testing.assert_allclose(expertise.actions[0], [[0.5, 0.0], [0.0, 0.5]])
    assert expertise.draws and expertise.collapsed is None


def test_the_router_has_collapsed_where_one_expert_holds_over_99_percent():
    def held(weight):
        weights = np.full((10, 2), (weight, 1 - weight), np.float32)
        zeros = np.zeros((10, 2), np.float32)
        return Expertise(zeros, np.zeros(10, np.int32), weights, zeros[:, 0], zeros, zeros[..., None], True)

    assert held(0.98).collapsed is None
    assert held(0.995).collapsed == 0
    assert held(0.001).collapsed == 1


@pytest.mark.slow
@pytest.mark.parametrize("stochastic", [True, False])
@pytest.mark.parametrize("env", ["maxent/MultiGoal", "Pendulum-v1"])
def test_what_is_looked_at_is_what_evaluation_scores(tmp_path, env, stochastic):
    run = run_of(tmp_path, env, PMOE(hidden_sizes=(8,), num_experts=3))
    policy = load_policy(run)
    trajectories, expertise = play_experts(policy, 2, seed=5, stochastic=stochastic)
    expected = evaluate_policy(policy, 2, seed=5, stochastic=stochastic)
    np.testing.assert_allclose([each.total for each in trajectories], expected.returns, rtol=1e-4)
    assert expertise.num_experts == 3 and expertise.draws
    if not stochastic:  # the action is the mean of the heaviest expert
        actions = np.concatenate([each.action for each in trajectories])
        chosen = expertise.actions[np.arange(len(actions)), expertise.chosen]
        np.testing.assert_allclose(actions, chosen, atol=1e-5)


@pytest.mark.slow
def test_the_expert_that_is_noted_is_the_one_that_acted(tmp_path):
    # Deviations so small that an action tells whose it is.
    agent = PMOE(hidden_sizes=(8,), num_experts=4, log_std_min=-12.0, log_std_max=-11.0)
    policy = load_policy(run_of(tmp_path, "maxent/MultiGoal", agent))
    trajectories, expertise = play_experts(policy, 4)
    actions = np.concatenate([each.action for each in trajectories])
    gaps = np.linalg.norm(expertise.actions - actions[:, None], axis=-1)
    np.testing.assert_array_equal(gaps.argmin(axis=1), expertise.chosen)
    assert len(set(expertise.chosen)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "pictures"),
    [
        ("maxent/MultiGoal", ["timeline", "usage", "states", "landscape"]),
        pytest.param("maxent/TwoOptima", ["timeline", "usage", "landscape"], marks=pytest.mark.matrix),
        pytest.param("maxent/FourOptima", ["timeline", "usage", "landscape"], marks=pytest.mark.matrix),
        pytest.param("Pendulum-v1", ["timeline", "usage", "states"], marks=pytest.mark.matrix),
    ],
)
def test_every_environment_gets_the_pictures_that_it_allows(tmp_path, env, pictures):
    run = run_of(tmp_path, env, PMOE(hidden_sizes=(8,), num_experts=2))
    episodes = None if env.endswith("Optima") else 2
    found = look_at_experts(load_policy(run), run, run / "experts", episodes=episodes)
    assert found.pictures == [run / "experts" / f"{name}.png" for name in pictures]
    assert all(map(is_picture, found.pictures))
    assert len(found.trajectories) == (1000 if env.endswith("Optima") else 2)
    assert ("All states of" in " ".join(found.remarks)) == ("states" not in pictures)


@pytest.mark.slow
def test_attention_has_weights_but_no_choice(tmp_path):
    run = run_of(tmp_path, "maxent/MultiGoal", PMOE(hidden_sizes=(8,), num_experts=3, router="attention"))
    trajectories, expertise = play_experts(load_policy(run), 2, seed=1)
    assert not expertise.draws and "chooses none" in _warnings(expertise)[0]
    np.testing.assert_array_equal(expertise.chosen, expertise.weights.argmax(axis=1))
    expected = evaluate_policy(load_policy(run), 2, seed=1, stochastic=True).returns
    np.testing.assert_allclose([each.total for each in trajectories], expected, rtol=1e-4)


@pytest.mark.slow
def test_one_expert_is_none_to_look_at(tmp_path):
    run = run_of(tmp_path, "maxent/FourOptima", PMOE(hidden_sizes=(8,), num_experts=1))
    found = look_at_experts(load_policy(run), run, run / "experts", episodes=5)
    assert [path.name for path in found.pictures] == ["landscape.png"] and "--num-experts 2" in found.remarks[0]
    with pytest.raises(InvalidSettingError, match="single expert"):
        look_at_experts(load_policy(run), run, run / "experts", env=Bandit())


@pytest.mark.slow
def test_the_rows_of_metrics_are_those_of_one_seed_and_variant(tmp_path):
    agent = PMOE(hidden_sizes=(8,), num_experts=2)
    variants = {"learning_rate": (1e-3, 3e-4)}
    run = run_of(tmp_path, "maxent/FourOptima", agent, num_seeds=2, seed=4, variants=variants)
    policy = load_policy(run, seed=5, variant=1)
    rows = _training_rows(policy, run)
    assert [(row["step"], row["seed"], row["learning_rate"]) for row in rows] == [(2000, 5, 3e-4), (3000, 5, 3e-4)]
    assert picture_folder(policy) == Path("learning_rate_0.0003/seed_5")
    assert run_folder(run) == run_folder(run / "policy") == run


def test_usage_is_stacked_to_one_and_collapse_is_hatched():
    rows = [
        {"step": 1000.0, "router/usage_0": 0.25, "router/usage_1": 0.75, "router/entropy": 0.56, "router/collapsed": 0},
        {"step": 2000.0, "router/usage_0": 1.0, "router/usage_1": 0.0, "router/entropy": 0.0, "router/collapsed": 1},
    ]
    figure = expert_pictures.usage(rows, TITLES)
    shares, entropy = figure.axes
    first, second = (area.get_paths()[0].vertices for area in shares.collections[:2])
    assert first[:, 1].max() == second[:, 1].max() == 1.0
    assert np.isin(0.25, first[:, 1])
    assert any(line.get_ydata()[0] == math.log(2) for line in entropy.get_lines())
    (hatched,) = [patch for patch in entropy.patches if patch.get_hatch()]
    assert hatched.get_x() == 1000 and hatched.get_width() == 1000
    assert "collapsed" in entropy.get_legend().get_texts()[0].get_text()
    with_best = [row | {"router/best_0": 0.5, "router/best_1": 0.5} for row in rows[:1]]
    assert len(expert_pictures.usage(with_best, TITLES).axes) == 3


def test_principal_components_are_the_eigenvectors_of_the_covariance():
    noise = np.random.default_rng(0).normal(size=(500, 4))
    points = noise * [3.0, 0.1, 1.0, 0.5] @ np.linalg.qr(noise[:4])[0] + 7.0
    plane, shares = principal_components(points)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum(), rtol=1e-6)
    projected = (points - points.mean(axis=0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(plane), np.abs(projected), atol=1e-9)


def test_points_on_a_line_have_one_component_and_equal_points_none():
    plane, shares = principal_components(np.outer([0.0, 1.0, 2.0], [3.0, 4.0, 0.0]))
    np.testing.assert_allclose(plane, [[-5, 0], [0, 0], [5, 0]], atol=1e-12)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-12)
    plane, shares = principal_components(np.ones((5, 3)))
    assert not plane.any() and not shares.any()


def test_two_observations_are_drawn_as_they_are_and_one_over_time():
    walk = [Trajectory(np.zeros((4, 1)), np.zeros((3, 1)), np.zeros(3))] * 2
    two = np.arange(12.0).reshape(6, 2)
    plane, labels = expert_pictures.embed(two, walk)
    assert plane is two and labels == ("observation 1", "observation 2")
    plane, labels = expert_pictures.embed(two[:, :1], walk)
    np.testing.assert_array_equal(plane[:, 1], [0, 1, 2, 0, 1, 2])
    assert "step" in labels[1]
    _, labels = expert_pictures.embed(np.random.default_rng(0).normal(size=(6, 5)), walk)
    assert "% of the variance" in labels[0]


@pytest.mark.parametrize("count", [1, 4, 8, 12])
def test_no_two_experts_share_a_colour(count):
    assert len(set(colours(count))) == count


def test_shares_of_episodes_are_counted_by_where_they_end():
    goals = envs.make_device("maxent/MultiGoal").reward_map
    ends = [(5.0, 0.2), (4.5, 0.0), (0.0, -5.5), (1.0, 1.0)]
    walks = [Trajectory(np.array([(0.0, 5.0), end]), np.zeros((1, 2)), np.zeros(1)) for end in ends]
    np.testing.assert_allclose(landscapes.shares(goals, walks), [0.5, 0, 0, 0.25, 0.25])


def test_shares_of_actions_are_those_of_the_bandit():
    env = envs.make_device("maxent/FourOptima")
    actions = np.array([(-0.5, -0.5), (0.5, 0.4), (0.45, 0.5), (0.0, 0.0)], np.float32)
    episodes = [Trajectory(np.zeros((2, 1)), action[None], np.zeros(1)) for action in actions]
    found = landscapes.shares(env.reward_map, episodes)
    np.testing.assert_allclose(found, [0.25, 0, 0, 0.5, 0.25])
    np.testing.assert_allclose(found[:-1], env.shares(jnp.array(actions)))
    figure = landscapes.landscape(env.reward_map, episodes, None, TITLES)
    texts = [text.get_text() for part in figure.subfigs for legend in part.legends for text in legend.get_texts()]
    assert texts[3:5] == ["optimum 4 (0.5, 0.5): 50%", "none: 25%"]


@pytest.mark.parametrize("noise", [-1e-9, 0.0, 1e-9])
def test_the_sign_of_an_axis_does_not_depend_on_rounding(noise):
    """Of an axis whose entries are equally large, the one a last bit larger would turn the whole picture round."""
    plane, _ = principal_components(np.outer([0.0, 1.0, 3.0], [1.0, -1.0 - noise]))
    assert plane[0, 0] < plane[1, 0] < plane[2, 0]
