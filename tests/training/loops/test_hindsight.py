"""Hindsight in both loops: the environment pays relabelled steps, whatever runs beside, and resuming changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import HostPoint, HostReach, Point
from support.devices import run_on_devices
from support.seeds import learning_seed

from maxent_rl import load_policy, resume, train
from maxent_rl.agents import SAC
from maxent_rl.envs.own.reach import Reach
from maxent_rl.errors import EnvironmentFailedError, IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.records import read_csv
from maxent_rl.training.loops.hindsight import draw_relabelled, sample_relabelled
from maxent_rl.training.loops.host import host_step
from maxent_rl.training.loops.make import make_loop

AGENT = SAC(hidden_sizes=(8,), batch_size=32, replay_size=150, start_steps=40, goal_relabel="future")
NUM_ENVS = 2
ACHIEVED, DESIRED = slice(0, 3), slice(3, 6)


def never():
    return False


def loop_of(env=HostReach, agent=AGENT, **settings):
    settings = {"num_envs": NUM_ENVS, "eval_episodes": 0} | settings
    loop = make_loop(RunConfig(env="reach", **settings), agent, env, jax.local_devices())
    loop.start()
    return loop


def numbers(loop):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((loop.learner.seeds.agent, loop.learner.seeds.rows))]


@pytest.mark.slow
@pytest.mark.parametrize("terminates", [False, True], ids=["holding", "ending"])
def test_relabelled_steps_are_paid_by_the_environments_own_methods(terminates):
    """The draws of 30 steps, of two seeds with two environments each, from a buffer that is written over."""
    make = functools.partial(HostReach, terminates=terminates)
    loop, env = loop_of(make, num_seeds=2), make()
    loop.advance(70, never)
    drawn = {}
    hindsight, draw = loop._hindsight, loop._hindsight.draw
    hindsight.draw = lambda learner, step: drawn.setdefault(step, draw(learner, step))
    loop.advance(100, never)
    assert len(drawn) == 30
    paid_well = 0
    for paid in drawn.values():
        batch = jax.tree.map(np.asarray, paid.batch)
        assert batch.observation.shape == (2, NUM_ENVS, 32, 9)  # an update for each environment step
        again = paid.transitions(loop.learning)
        reached, wanted = batch.next_observation[..., ACHIEVED], batch.next_observation[..., DESIRED]
        reached, wanted = reached.astype(np.float64), wanted.astype(np.float64)
        np.testing.assert_array_equal(again.reward, env.compute_reward(reached, wanted, {}))
        pairs = zip(reached.reshape(-1, 3), wanted.reshape(-1, 3), strict=True)
        ends = [env.compute_terminated(*pair, {}) for pair in pairs]
        np.testing.assert_array_equal(again.terminated, np.reshape(ends, again.terminated.shape))
        assert not np.any(again.terminated * again.truncated)
        paid_well += np.mean(again.reward[..., :26] == 0.0)
    assert 0.1 < paid_well / 30 < 0.9
    loop.close()


@pytest.mark.slow
def test_a_seed_alone_and_among_others_draws_and_learns_the_same():
    many, alone = loop_of(num_seeds=2), loop_of(seed=1)
    for loop in (many, alone):
        loop.advance(20, never)
    one, two = (loop._hindsight.draw(loop.learner, loop.step + 1) for loop in (many, alone))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a[1], b[0])
    assert not np.array_equal(*one.batch.observation)
    for loop in (many, alone):
        loop.advance(30, never)
    for a, b in zip(numbers(many), numbers(alone), strict=True):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-3, atol=1e-4)
    many.close(), alone.close()


@pytest.mark.slow
@pytest.mark.parametrize("env", [HostReach, Reach()], ids=["host", "device"])
def test_resuming_equals_not_stopping_wherever_it_stops(env):
    """Within an episode and within what is written over; shares of success that wait to be taken come back, too."""
    whole, first, second = loop_of(env), loop_of(env), loop_of(env)
    whole.advance(130, never)
    first.advance(97, never)
    states = first.get_env_state()
    rows = jnp.array(first.learner.seeds.rows)
    assert second.set_state(jax.tree.map(jnp.array, first.get_state()), states, rows, 97)
    second.advance(130, never)
    for a, b in zip(numbers(whole), numbers(second), strict=True):
        np.testing.assert_array_equal(a, b)
    expected, found = whole.take_metrics()[0], second.take_metrics()[0]
    assert expected == found and ("episode/success_rate" in found) == (env is HostReach)
    for loop in (whole, first, second):
        loop.close()


@pytest.mark.slow
def test_a_run_that_was_stopped_tells_the_shares_of_success_of_one_that_was_not(tmp_path):
    """Through the files: columns of both tables, and what an agent that saw a Dict exports."""

    class Near(HostReach):
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.goal = self.goal / 5.0  # which random steps do reach
            return self.observe(), {}

    how = {"num_envs": NUM_ENVS, "eval_episodes": 4, "eval_every": 100, "log_every": 50, "checkpoint_every": 70}
    how |= {"progress": False, "output_dir": str(tmp_path)}
    whole = train(AGENT, Near, total_steps=300, name="whole", **how)
    stopped = train(AGENT, Near, total_steps=170, name="stopped", **how)
    resume(stopped.folder, agent=SAC, env=Near, total_steps=300, progress=False)
    for table, column in (("metrics.csv", "episode/success_rate"), ("eval.csv", "success_rate")):
        rows, again = (read_csv(folder / table)[-2:] for folder in (whole.folder, stopped.folder))
        assert [(row["step"], row[column]) for row in rows] == [(row["step"], row[column]) for row in again]
    assert whole.evaluations[-1][1][0].extra == {"success_rate": rows[-1]["success_rate"]}
    observed, _ = Near().reset(seed=0)
    np.testing.assert_array_equal(whole.policy()(observed), load_policy(stopped.folder)(observed))


@pytest.mark.slow
def test_steps_with_no_update_one_or_two_run_one_program():
    """Of an update and a half for each step of both environments, after a start without any."""
    whole, loop = loop_of(), loop_of(agent=AGENT.replace(updates_per_step=0.75))
    whole.advance(22, never)
    before = draw_relabelled._cache_size(), host_step._cache_size()
    loop.advance(35, never), loop.check()
    assert int(loop.learner.counters.update) == (35 - 20) * 3 // 2
    assert (draw_relabelled._cache_size(), host_step._cache_size()) == before
    whole.close(), loop.close()


@pytest.mark.slow
def test_on_the_device_relabelled_steps_are_paid_within_the_program():
    loop, env = loop_of(Reach(), num_seeds=1), HostReach()
    loop.advance(80, never)
    loop.check()
    layout, learner = loop.learning.layout, loop.learner

    def draw(rows, key):
        replay = layout.empty().replace(rows=rows, inserted=learner.counters.inserted)
        return sample_relabelled(Reach(), loop.learning, replay, key)

    batch = jax.jit(draw)(learner.seeds.rows[0], jax.random.key(3))
    reached, wanted = (np.asarray(batch.next_observation)[:, place] for place in (ACHIEVED, DESIRED))
    sure = np.abs(np.linalg.norm(reached - wanted, axis=-1) - 0.05) > 1e-6  # XLA rounds otherwise than NumPy
    np.testing.assert_array_equal(batch.reward[sure], env.compute_reward(reached[sure], wanted[sure], {}))
    assert np.mean(batch.reward[:26] == 0.0) > 0.1 and not np.any(batch.terminated)


@pytest.mark.parametrize(
    ("env", "settings", "kind", "words"),
    [
        (HostPoint, {}, IncompatibleEnvironmentError, "needs a goal environment, .*; test observes a box"),
        (Point(), {}, IncompatibleEnvironmentError, "needs a goal environment, .*; test observes vectors of 2"),
        (HostReach, {"n_step": 3}, InvalidSettingError, "--goal-relabel future needs --n-step 1, got 3"),
        (HostReach, {"goal_relabel_share": 0.01}, InvalidSettingError, "--goal-relabel-share 0.01 of --batch-size 32"),
        (HostReach, {"goal_relabel_share": 1.5}, InvalidSettingError, "--goal-relabel-share must be at least 0 and at"),
        (HostReach, {"goal_relabel": "past"}, ValueError, "Unknown value for --goal-relabel 'past'"),
    ],
)
def test_what_cannot_be_relabelled_is_refused_before_anything_is_built(env, settings, kind, words):
    with pytest.raises(kind, match=words):
        make_loop(RunConfig(env="test"), AGENT.replace(**settings), env, jax.local_devices())


@pytest.mark.slow
def test_a_reward_of_another_goal_that_fails_ends_training_with_the_step():
    class Worn(HostReach):
        """Its rule breaks when it is first asked for many goals in training."""

        def compute_reward(self, achieved_goal, desired_goal, info):
            if len(achieved_goal) > 20:
                raise RuntimeError("out of patience")
            return super().compute_reward(achieved_goal, desired_goal, info)

    loop = loop_of(Worn)
    with pytest.raises(
        EnvironmentFailedError, match=r"Environment step 42 .*compute_reward raised RuntimeError \(out of"
    ):
        loop.advance(60, never)
    loop.close()


@pytest.mark.slow
def test_what_is_drawn_is_compiled_once_whatever_the_environment():
    """Its own methods are not part of the program, which so comes from the cache on disk in the next process."""
    found = set()
    for terminates in (False, True):
        loop = loop_of(functools.partial(HostReach, terminates=terminates))
        loop.advance(25, never)
        found.add((draw_relabelled._cache_size(), host_step._cache_size()))
        loop.close()
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize("env", [HostReach, Reach()], ids=["host", "device"])
def test_hindsight_learns_what_cannot_be_learned_without(env):
    """Within 5 cm of a goal up to 30 cm away on each axis, which random steps hardly ever meet.

    Over 20 seeds, means of 20 episodes: with hindsight -3.8 to -2.8 after 2,400 steps (mean -3.4, standard deviation 0.2);
    without, -50 to -48.
    """
    agent = SAC(
        hidden_sizes=(64, 64),
        learning_rate=1e-3,
        discount=0.95,
        initial_temperature=0.1,
        batch_size=128,
        replay_size=20_000,
        start_steps=500,
        normalize_observations=True,
    )
    for relabel in ("future", "none"):
        loop = loop_of(env, agent.replace(goal_relabel=relabel), seed=learning_seed(), num_envs=1, total_steps=2_400)
        loop.advance(2_400, never)
        loop.check()
        found = loop.evaluate(20)[0]
        assert found.mean > -6 if relabel == "future" else found.mean < -40
        if env is HostReach:
            share = found.extra["success_rate"]
            assert share > 0.9 if relabel == "future" else share < 0.2
        loop.close()


SHARDED = """
import jax, numpy as np
from test_hindsight import HostReach, loop_of, never

def run(devices):
    loop = loop_of(HostReach, num_seeds=2, batch_devices=min(devices, 2))
    loop.advance(20, never), loop.take_metrics(), loop.advance(60, never), loop.check()
    assert devices == 1 or dict(loop.learning.mesh.shape) == {"seed": devices // 2, "batch": 2}
    leaves = jax.tree.leaves((loop.learner.seeds.agent, loop.learner.seeds.rows))
    return {f"leaf{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
"""


@pytest.mark.slow
def test_relabelled_batches_divided_among_devices_give_the_same_up_to_rounding(tmp_path):
    one, four = run_on_devices(__file__, SHARDED, (1, 4), tmp_path)  # two seeds by two parts of a batch
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)
