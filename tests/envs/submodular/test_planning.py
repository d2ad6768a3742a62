"""Plans: against trying everything in plain Python, the paper's worked numbers, and what is refused."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close, rounding

from maxent_rl import envs
from maxent_rl.envs.submodular import planning
from maxent_rl.envs.submodular.env import SubmodularEnv
from maxent_rl.envs.submodular.motions import FreeChoice
from maxent_rl.envs.submodular.named import grid_coverage
from maxent_rl.envs.submodular.planning import (
    best_plan,
    best_time_policy,
    greedy_plan,
    random_return,
    time_policy_value,
)
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.set_functions import Coverage, Table
from maxent_rl.types import Spec

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Trap:
    """Action 1 pays 1 and ends the episode, after which steps would pay 10; action 0 pays 0.4."""

    @property
    def spec(self):
        return Spec((1,), (), horizon=3, num_actions=2)

    def reset(self, key):
        return jnp.zeros((), bool), jnp.zeros(1)

    def step(self, state, action):
        reward = jnp.where(state, 10.0, jnp.where(action == 1, 1.0, 0.4))
        return state | (action == 1), jnp.zeros(1), reward, state | (action == 1)


def _small_grid():
    weights = np.random.default_rng(3).random((3, 4))
    return grid_coverage(weights, horizon=5, start=0)


def _worth(env, actions):
    """F of the trajectory in plain Python: the weight of a set."""
    footprints, weights = np.asarray(env.function.footprints), np.asarray(env.function.weights)
    cell, covered = env.motion.start, set(footprints[env.motion.start])
    for action in actions:
        cell = env.motion.led_to[cell, action]
        covered |= set(footprints[cell])
    return float(sum(weights[sorted(covered - {-1})]))


@pytest.mark.slow
def test_the_best_plan_is_the_best_of_all_sequences():
    env = _small_grid()
    plan = best_plan(env, KEY)
    best = max(_worth(env, actions) for actions in itertools.product(range(5), repeat=5))
    np.testing.assert_allclose(plan.objective, best, rtol=1e-5)
    np.testing.assert_allclose(_worth(env, np.asarray(plan.actions)), best, rtol=1e-5)
    np.testing.assert_allclose(plan.start, _worth(env, []), rtol=1e-6)


@pytest.mark.slow
def test_a_plan_is_found_in_whichever_chunk_it_lies(monkeypatch):
    env = dataclasses.replace(_small_grid(), scale=2.0)  # another environment, so that nothing compiled is found
    monkeypatch.setattr(planning, "_CHUNK", 7)
    np.testing.assert_allclose(best_plan(env, KEY).objective, 2 * best_plan(_small_grid(), KEY).objective, rtol=1e-5)


@pytest.mark.slow
def test_a_greedy_plan_takes_the_best_next_step_each_time():
    env = _small_grid()
    actions = np.asarray(greedy_plan(env, KEY).actions)
    for step in range(5):
        worths = [_worth(env, [*actions[:step], action]) for action in range(5)]
        np.testing.assert_allclose(worths[actions[step]], max(worths), rtol=1e-5)
    np.testing.assert_allclose(greedy_plan(env, KEY).objective, _worth(env, actions), rtol=1e-5)


@pytest.mark.slow
def test_looking_ahead_to_the_end_is_the_best_plan():
    env = _small_grid()
    np.testing.assert_allclose(greedy_plan(env, KEY, lookahead=5).objective, best_plan(env, KEY).objective, rtol=1e-5)


@pytest.mark.slow
def test_greed_fails_on_the_tree_whichever_way_ties_fall():
    env = envs.make_device("maxent/SteinerTree")
    greedy = [float(greedy_plan(env, key).objective) for key in jax.random.split(KEY, 20)]
    assert best_plan(env, KEY).objective == 5.0 and set(greedy) == {2.0}
    assert greedy_plan(env, KEY, lookahead=4).objective == 5.0


@pytest.mark.slow
def test_ties_are_drawn():
    env = grid_coverage(np.ones((9, 9)), horizon=2, start=40)
    first = {int(greedy_plan(env, key).actions[0]) for key in jax.random.split(KEY, 20)}
    assert first == {1, 2, 3, 4}


@pytest.mark.slow
def test_nothing_is_paid_after_an_episodes_end():
    plan = best_plan(Trap(), KEY)
    assert plan.actions.tolist() == [0, 0, 1] and plan.start == 0.0
    np.testing.assert_allclose(plan.objective, 1.8, rtol=1e-6)
    greedy = greedy_plan(Trap(), KEY)
    assert greedy.actions[0] == 1 and greedy.objective == 1.0
    assert random_return(Trap(), KEY, 200).max() <= 1.8 + 1e-6


@pytest.mark.slow
def test_the_papers_worked_example():
    function = Coverage(Table([[1, 2], [2, 3], [4, -1]]), Table([0.0, 1.0, 1.0, 1.0, 1.0]))
    env = SubmodularEnv(FreeChoice(3, 0.0, 2), function, 2)
    logits = jnp.array([[0.2, 0.0, -0.1], [0.0, 0.3, 0.0]])
    value, gradient = jax.value_and_grad(lambda logits: time_policy_value(env, jax.nn.softmax(logits)))(logits)
    # Gradients are sums in which values of up to 3 cancel; the paper's numbers are rounded to six places besides.
    of_the_paper = {"rtol": rounding(8), "scale": 3.0}
    assert_close(value, 2.581671, **of_the_paper)
    expected = np.array([[0.046809, 0.004916, -0.051725], [0.008250, 0.039674, -0.047924]])
    assert_close(gradient, expected, **of_the_paper)
    assert best_time_policy(env).objective == 3.0


def test_the_best_policy_of_time_is_the_best_of_all_choices():
    env = envs.make_device("maxent/EpsilonBandit-0.3")
    plan = best_time_policy(env)
    outcomes, elements = env.motion.outcomes, range(6)
    sets = [set(footprint) - {-1} for footprint in np.asarray(env.function.footprints).tolist()]
    weights = np.asarray(env.function.weights)
    worth = {
        each: sum(weights[sorted(set.union(*(sets[e] for e in each)))])
        for each in itertools.product(elements, repeat=3)
    }

    def expected(choice):
        return sum(
            outcomes[choice[0], each[0]] * outcomes[choice[1], each[1]] * outcomes[choice[2], each[2]] * value
            for each, value in worth.items()
        )

    values = {choice: expected(choice) for choice in itertools.combinations_with_replacement(elements, 3)}
    np.testing.assert_allclose(plan.objective, max(values.values()), rtol=1e-5)
    np.testing.assert_allclose(expected(np.asarray(plan.actions)), max(values.values()), rtol=1e-5)
    np.testing.assert_allclose(time_policy_value(env, jax.nn.one_hot(plan.actions, 6)), plan.objective, rtol=1e-5)
    assert plan.start == 0.0


def test_without_misses_choices_are_worth_the_set_that_they_choose():
    env = envs.make_device("maxent/EpsilonBandit-0")
    value = time_policy_value(env, jnp.stack([jax.nn.one_hot(action, 6) for action in (0, 3, 4)]))
    np.testing.assert_allclose(value, env.function.value(jnp.array([0, 3, 4])), rtol=1e-6)


@pytest.mark.slow
def test_random_actions_return_the_exact_mean():
    env = envs.make_device("maxent/EpsilonBandit-0.1")
    returns = random_return(env, KEY, 20_000)
    assert returns.shape == (20_000,)
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - float(time_policy_value(env, jnp.full((3, 6), 1 / 6)))) < 4 * error
    assert random_return(envs.make_device("maxent/PointCoverage"), KEY, 4).shape == (4,)


@pytest.mark.slow
def test_greed_does_not_see_what_chance_will_bring():
    """Where every action is missed no plan is better than chance; one that saw the draws ahead would be."""
    env = envs.make_device("maxent/EpsilonBandit-1")
    plans = jax.vmap(lambda key: greedy_plan(env, key, samples=4).objective)(jax.random.split(KEY, 4_000))
    error = np.std(plans) / np.sqrt(len(plans))
    assert abs(np.mean(plans) - float(best_time_policy(env).objective)) < 4 * error


@pytest.mark.slow
def test_with_trials_greed_is_good_where_chance_is_small():
    env = envs.make_device("maxent/EpsilonBandit-0.1")
    plans = jax.vmap(lambda key: greedy_plan(env, key, samples=32).objective)(jax.random.split(KEY, 500))
    assert np.mean(plans) > 0.95 * float(best_time_policy(env).objective)


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (lambda make: best_plan(make("TwoRooms"), KEY), InvalidSettingError, "5 choices over 40 steps make 9.1e"),
        (lambda make: greedy_plan(make("TwoRooms"), KEY, 12), InvalidSettingError, "5 choices over 12 steps"),
        (lambda make: greedy_plan(make("TwoRooms"), KEY, 0), InvalidSettingError, "at least 1 step ahead, got 0"),
        (lambda make: greedy_plan(make("TwoRooms"), KEY, 1, 0), InvalidSettingError, "at least once, got samples = 0"),
        (
            lambda make: best_plan(make("EpsilonBandit"), KEY),
            IncompatibleEnvironmentError,
            "needs deterministic dynamics",
        ),
        (
            lambda make: greedy_plan(make("PointCoverage"), KEY),
            IncompatibleEnvironmentError,
            r"actions of shape \(2,\)",
        ),
        (lambda make: best_time_policy(make("TwoRooms")), IncompatibleEnvironmentError, "the motion is a GridWalk"),
        (
            lambda make: time_policy_value(
                dataclasses.replace(make("EpsilonBandit"), motion=FreeChoice(6, 0.1, 9), horizon=9), jnp.ones((9, 6))
            ),
            InvalidSettingError,
            "6 choices over 9 steps make 1e",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(plan, error, message):
    with pytest.raises(error, match=message):
        plan(lambda name: envs.make_device(f"maxent/{name}"))


@dataclasses.dataclass(frozen=True)
class OncePaid:
    """Each action pays what it pays at its first use alone."""

    pays: tuple[float, ...]

    @property
    def spec(self):
        return Spec((1,), (), horizon=len(self.pays), num_actions=len(self.pays))

    def reset(self, key):
        return jnp.zeros(len(self.pays), bool), jnp.zeros(1)

    def step(self, state, action):
        reward = jnp.where(state[action], 0.0, jnp.array(self.pays)[action])
        return state.at[action].set(True), jnp.zeros(1), reward, jnp.zeros((), bool)


# An environment for each size of a chunk, so that nothing compiled is found.
@pytest.mark.parametrize(("pays", "chunk"), [((0.1, 0.2, 1.0), 4096), ((0.1, 0.3, 0.4), 5), ((0.1, 0.2, 1.5), 1)])
def test_of_plans_whose_gains_add_up_to_another_last_bit_the_first_is_the_best(monkeypatch, pays, chunk):
    """All orders of the three actions are equally good, but some sums of them come out larger."""
    monkeypatch.setattr(planning, "_CHUNK", chunk)
    plan = best_plan(OncePaid(pays), KEY)
    assert plan.actions.tolist() == [0, 1, 2]
    assert_close(plan.objective, sum(pays))
