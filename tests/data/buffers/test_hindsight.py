"""Hindsight: new goals are ones that the same episode of the same environment reached later, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.data import Replay
from maxent_rl.data.buffers.hindsight import HindsightLayout
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.buffers import make_layout
from maxent_rl.spaces import Space
from maxent_rl.types import Spec

# Not in the order of the parts, so that places are read off the space and not assumed.
SPACE = Space(
    "dict",
    names=("achieved_goal", "after", "desired_goal", "observation"),
    parts=(Space("box", (2,)), Space("discrete", sizes=(3,), start=(0,)), Space("box", (2,)), Space("box", (1,))),
)
ACHIEVED, DESIRED, EPISODE = slice(0, 2), slice(5, 7), 7
HORIZON, BATCH = 6, 256


def layout_of(num_envs=1, replay_size=1_000, share=0.75):
    spec = Spec((SPACE.size,), (1,), HORIZON, observation_space=SPACE)
    return HindsightLayout.create_relabelling(spec, replay_size, num_envs, BATCH, share)


def history(layout, steps, seed=0):
    """Steps of environments whose episodes end at random; what is achieved tells the environment, the episode and the step.

    Returns:
      (replay, key of each row still there to the key of the last row of its episode, number of the row at each place).
    """
    random, envs = np.random.default_rng(seed), layout.num_envs
    replay, episode, elapsed, keys = layout.empty(), np.zeros(envs, int), np.zeros(envs, int), []
    add = jax.jit(layout.add)
    for _ in range(steps):
        row = np.zeros((envs, layout.width), np.float32)
        following = row[:, SPACE.size + 1 : -3]
        for vector, moved in ((row[:, : SPACE.size], 0), (following, 1)):
            vector[:, ACHIEVED] = np.stack([np.arange(envs) * 1_000 + episode, elapsed + moved], axis=1)
            vector[:, DESIRED] = -1 - vector[:, ACHIEVED]
            vector[:, EPISODE] = episode
        elapsed = elapsed + 1
        terminated = random.random(envs) < 0.15
        truncated = (elapsed == HORIZON) & ~terminated
        row[:, -3], row[:, -2], row[:, -1] = -1.0, terminated, truncated
        keys += [tuple(key) for key in following[:, ACHIEVED].astype(int).tolist()]
        replay = add(replay, jnp.asarray(row))
        episode, elapsed = episode + (terminated | truncated), np.where(terminated | truncated, 0, elapsed)
    kept = keys[-layout.capacity :]
    last = {which: max(step for one, step in kept if one == which) for which, _ in kept}
    return replay, kept, last


def test_the_places_of_goals_follow_from_the_space():
    places = {"achieved_goal": (0, 2), "after": (2, 5), "desired_goal": (5, 7), "observation": (7, 8)}
    assert SPACE.places == places
    goals = layout_of().goals
    assert (goals.achieved, goals.desired, goals.shape) == ((0, 2), (5, 7), (2,))


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"achieved_goal": (2,), "desired_goal": (3,)}, "shapes differ"),
        ({"achieved_goal": (2,), "observation": (2,)}, "nothing is desired"),
        ({"observation": (2,)}, "no goals at all"),
    ],
)
def test_what_observes_no_goals_is_no_goal_environment(parts, why):
    space = Space("dict", names=tuple(parts), parts=tuple(Space("box", shape) for shape in parts.values()))
    assert space.goals is None, why
    assert Space("box", (4,)).goals is None


@pytest.mark.parametrize(
    ("num_envs", "replay_size", "steps"),
    [(1, 1_000, 3), (3, 1_000, 40), (3, 45, 100), (2, 4, 51), (1, 5, 200)],
    ids=["an unfinished episode", "several environments", "over and over", "less than an episode", "one environment"],
)
def test_new_goals_were_reached_later_in_the_same_episode(num_envs, replay_size, steps):
    layout = layout_of(num_envs, replay_size)
    replay, kept, last = history(layout, steps)
    drawn = jax.jit(layout.relabel)(replay, jax.random.key(1))
    batch, count = jax.tree.map(np.asarray, drawn.batch), layout.relabelled
    assert count == 192 and batch.observation.shape == (BATCH, SPACE.size)
    reached, goals = batch.next_observation[:, ACHIEVED], batch.next_observation[:, DESIRED]
    seen = set()
    for own, goal in zip(reached[:count].astype(int).tolist(), goals[:count].astype(int).tolist(), strict=True):
        assert tuple(goal) in kept, "the goal was never reached, or is no longer in the buffer"
        assert goal[0] == own[0], "a goal of another episode or environment"
        assert own[1] <= goal[1] <= last[own[0]], "a goal of the past"
        seen.add((*own, goal[1]))
    possible = {(which, step, later) for which, step in kept for later in range(step, last[which] + 1)}
    assert seen <= possible and len(seen) > min(60, len(possible)) * 0.6
    # What was wanted before is told, both observations have the new goal, and everything else is as it was.
    np.testing.assert_array_equal(drawn.achieved, reached[:count])
    np.testing.assert_array_equal(drawn.desired, goals[:count])
    np.testing.assert_array_equal(drawn.desired_before, -1 - reached[:count])
    np.testing.assert_array_equal(batch.observation[:count, DESIRED], goals[:count])
    np.testing.assert_array_equal(goals[count:], -1 - reached[count:])
    np.testing.assert_array_equal(batch.observation[:, EPISODE], batch.observation[:, 0] % 1_000)
    np.testing.assert_array_equal(batch.reward, -1.0)


def test_each_later_step_is_as_likely_as_the_others():
    """The first of six steps: goals of all six, each in a sixth of the draws."""
    layout = layout_of()
    rows = np.zeros((HORIZON, layout.width), np.float32)
    rows[:, SPACE.size + 1] = rows[:, SPACE.size + 2] = np.arange(HORIZON)
    rows[-1, -1] = 1.0
    replay = Replay(layout.empty().rows.at[:HORIZON].set(rows), jnp.int32(HORIZON))
    drawn = jax.jit(jax.vmap(layout.relabel, in_axes=(None, 0)))(replay, jax.random.split(jax.random.key(0), 64))
    own, later = np.asarray(drawn.achieved)[..., 0].ravel(), np.asarray(drawn.desired)[..., 0].ravel()
    for step in range(HORIZON):
        counts = np.bincount(later[own == step].astype(int), minlength=HORIZON)
        assert not counts[:step].any() and counts.sum() > 1_500
        assert step == HORIZON - 1 or stats.chisquare(counts[step:]).pvalue > 1e-4


def test_what_new_goals_pay_takes_the_place_of_what_was_paid():
    layout = layout_of(share=0.5)
    replay, _, _ = history(layout, 20)
    drawn = jax.jit(layout.relabel)(replay, jax.random.key(0))
    count = layout.relabelled
    reward, terminated = jnp.arange(count, dtype=jnp.float32), jnp.arange(count) % 2.0
    paid = jax.jit(layout.paid)(drawn.batch, reward, terminated)
    np.testing.assert_array_equal(paid.reward, [*range(count), *[-1.0] * count])
    np.testing.assert_array_equal(paid.terminated[:count], terminated)
    np.testing.assert_array_equal(paid.terminated[count:], drawn.batch.terminated[count:])
    assert not np.any(paid.terminated * paid.truncated), "what ends in a terminal state is not cut"
    np.testing.assert_array_equal(paid.truncated[count:], drawn.batch.truncated[count:])


def test_every_agent_of_the_family_that_collects_relabels():
    names = {name for name in AGENTS if hasattr(agent_class(name), "goal_relabel")}
    assert names >= {"sac", "pmoe", "sac-discrete", "adpo-online", "sac-preference"}
    spec = Spec((SPACE.size,), (1,), HORIZON, observation_space=SPACE)
    for name in names:
        agent = agent_class(name)(goal_relabel="future")
        layout = make_layout(agent, spec)
        assert isinstance(layout, HindsightLayout) and layout.relabelled == round(0.8 * agent.batch_size)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(InvalidSettingError, match=r"--goal-relabel-share 0.001 of --batch-size 256 is not a single"):
        layout_of(share=0.001)
