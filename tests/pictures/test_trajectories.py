"""Pictures of trajectories show the walk as it was, what it reached and where nobody can go."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from environments import Point
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from maxent_rl import envs
from maxent_rl.agents.on_policy.subpo import SubPO
from maxent_rl.envs.submodular.field_map import FieldMap, HasFieldMap
from maxent_rl.envs.submodular.named import grid_coverage
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, StorageError
from maxent_rl.pictures import trajectories as trajectory_pictures
from maxent_rl.pictures.trajectories import (
    MOST_PANELS,
    MOST_PATHS,
    Panel,
    distinct,
    draw_trajectories,
    panel,
    picture_policies,
    scales,
    worth,
)
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.trajectories import Trajectory, collect_trajectories
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, load_policies, policy_arrays

UP, RIGHT, DOWN, LEFT = 1, 2, 3, 4
BLOCKED = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], bool)
WEIGHTS = np.arange(1.0, 13.0).reshape(3, 4)
GRID = grid_coverage(WEIGHTS, horizon=4, start=1, blocked=BLOCKED)
AGENT = SubPO(hidden_sizes=(8,))


def walk(env, actions):
    """The trajectory of given actions."""
    state, observation = env.reset(jax.random.key(0))
    observations, rewards = [observation], []
    for action in actions:
        state, observation, reward, _ = env.step(state, np.int32(action))
        observations.append(observation)
        rewards.append(reward)
    return Trajectory(np.array(observations), np.array(actions), np.array(rewards, np.float32))


def drawn(env, trajectories):
    axes = Figure().subplots()
    return axes, panel(axes, env.field_map, trajectories)


def paths(axes):
    """[path][segment, end, 2] the coloured lines, without what lies beneath them."""
    found = (each for each in axes.collections if isinstance(each, LineCollection) and each.get_array() is not None)
    return [np.array(each.get_segments()) for each in found]


def reached(axes):
    """[row, column] opacity of what is shaded."""
    return np.asarray(axes.get_images()[1].get_array())[..., 3]


@pytest.mark.slow
def test_the_line_is_the_walk_and_its_colours_are_the_steps():
    axes, shown = drawn(GRID, [walk(GRID, [LEFT, LEFT, DOWN, RIGHT])])  # the second goes against the edge
    (line,) = paths(axes)
    places = np.array([(1, 0), (0, 0), (0, 0), (0, 1), (1, 1)])
    np.testing.assert_array_equal(line[:, 0], places[:-1])
    np.testing.assert_array_equal(line[:, 1], places[1:])
    np.testing.assert_array_equal(shown.paths.get_array(), [1, 2, 3, 4])
    assert (shown.paths.norm.vmin, shown.paths.norm.vmax) == (0, 4)
    start, end = (each for each in axes.lines if each.get_marker() in "os")
    assert (start.get_marker(), *start.get_xydata()[0]) == ("o", 1, 0)
    assert (end.get_marker(), *end.get_xydata()[0]) == ("s", 1, 1)


def test_what_is_shaded_is_the_union_of_the_footprints():
    axes, _ = drawn(GRID, [walk(GRID, [RIGHT, RIGHT, DOWN, DOWN])])
    covered = {(0, 1), (0, 2), (1, 1), (0, 3), (1, 3), (2, 3)}  # row, column; nothing of the blocked cells
    assert {tuple(map(int, cell)) for cell in np.argwhere(reached(axes) > 0)} == covered
    assert len(np.unique(reached(axes))) == 2


def test_what_more_trajectories_reach_is_darker():
    axes, _ = drawn(GRID, [walk(GRID, [DOWN, DOWN, DOWN, DOWN]), walk(GRID, [RIGHT, RIGHT, DOWN, DOWN])])
    assert len(paths(axes)) == 2
    assert reached(axes)[0, 1] > reached(axes)[2, 3] == reached(axes)[2, 1] > reached(axes)[1, 2] == 0


def test_the_background_is_the_field_and_what_is_blocked_is_a_wall():
    axes, shown = drawn(GRID, [walk(GRID, [DOWN])])
    value = shown.field.get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(value), BLOCKED)
    np.testing.assert_array_equal(value.compressed(), WEIGHTS[~BLOCKED])
    colour = shown.field.to_rgba(value)
    brightness = colour[..., :3].mean(axis=-1)
    assert brightness[BLOCKED].max() < brightness[~BLOCKED].min() - 0.2
    np.testing.assert_array_equal(np.argsort(-brightness[~BLOCKED], kind="stable"), np.arange((~BLOCKED).sum()))
    assert axes.get_ylim() == (2.5, -0.5) and axes.get_xlim() == (-0.5, 3.5)  # row 0 is at the top


def test_a_graph_has_nodes_edges_and_names_and_no_walls():
    env = envs.make_device("maxent/SteinerTree")
    axes, shown = drawn(env, [walk(env, [1, 1])])
    field_map = env.field_map
    assert not [each for each in axes.get_children() if isinstance(each, AxesImage)]
    row, column = np.nonzero(np.isfinite(field_map.value))
    np.testing.assert_array_equal(shown.field.get_offsets(), np.stack([column, row], axis=1))
    np.testing.assert_array_equal(shown.field.get_array(), field_map.value[row, column])
    lines = axes.collections[0].get_segments()
    np.testing.assert_array_equal(lines, field_map.edges)
    assert {(text.get_text(), *text.xy) for text in axes.texts} == {(name, *at) for *at, name in field_map.marks}
    np.testing.assert_array_equal(paths(axes)[0], [[(4, 0), (1, 1)], [(1, 1), (0, 2)]])
    np.testing.assert_array_equal(axes.collections[1].get_offsets(), [(4, 0), (1, 1), (0, 2)])  # reached


def test_marks_of_a_kind_have_one_colour_and_stand_in_their_cells():
    field_map = dataclasses.replace(GRID.field_map, marks=((0.0, 0.0, "a"), (3.0, 2.0, "b"), (1.0, 1.0, "a")))
    axes = Figure().subplots()
    panel(axes, field_map, [walk(GRID, [DOWN])])
    colour = {}
    for text, (column, row, name) in zip(axes.texts, field_map.marks, strict=True):
        assert text.get_text() == name
        np.testing.assert_array_equal(np.rint(text.xy), (column, row))
        colour.setdefault(name, set()).add(text.get_color())
    assert len(colour["a"]) == len(colour["b"]) == 1 and colour["a"] != colour["b"]


@pytest.mark.parametrize(("env", "bars"), [(GRID, 2), (grid_coverage(np.ones((2, 2)), 1, 0), 1)])
def test_a_field_of_one_value_has_no_scale_but_a_word(env, bars):
    figure = Figure()
    axes = figure.subplots()
    scales(figure, [axes], env.field_map, panel(axes, env.field_map, [walk(env, [DOWN])]))
    assert len(figure.axes) == 1 + bars
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("weight of the cell: 1 everywhere" in labels) == (bars == 1)
    assert ("wall" in labels) == (env is GRID)


def test_the_title_says_f_with_the_start_and_of_others_the_return():
    trajectory = walk(GRID, [DOWN, DOWN])
    union = WEIGHTS[0, 1] + WEIGHTS[0, 2] + WEIGHTS[1, 1] + WEIGHTS[2, 1]
    assert worth(GRID, [trajectory]) == f"F = {union:g}"
    assert worth(dataclasses.replace(GRID, scale=0.5), [walk(dataclasses.replace(GRID, scale=0.5), [DOWN, DOWN])]) == (
        f"F = {union / 2:g}"
    )
    assert worth(Point(), [trajectory]) == f"return = {trajectory.total:g}"
    other = walk(GRID, [])
    start = WEIGHTS[0, 1] + WEIGHTS[0, 2] + WEIGHTS[1, 1]
    assert worth(GRID, [trajectory, other]) == f"mean F = {(union + start) / 2:g} ({start:g} to {union:g})"


def test_equal_trajectories_are_drawn_once_in_the_order_in_which_they_were_played():
    down, right = walk(GRID, [DOWN, DOWN]), walk(GRID, [RIGHT, DOWN])
    assert distinct([down, right, walk(GRID, [DOWN, DOWN]), right]) == [down, right]


@pytest.mark.parametrize("count", [1, 3, MOST_PANELS])
def test_any_number_of_panels_share_one_scale_of_time(count):
    parts = [Panel(f"panel {index}", [walk(GRID, [DOWN] * (1 + index % 4))]) for index in range(count)]
    figure = draw_trajectories(GRID.field_map, parts, ("A title with $", "details"))
    figure.canvas.draw()
    shown = [axes for axes in figure.findobj(match=type(figure.axes[0])) if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in shown] == [part.title for part in parts]
    ends = {
        each.norm.vmax
        for axes in shown
        for each in axes.collections
        if isinstance(each, LineCollection) and each.get_array() is not None
    }
    assert ends == {min(count, 4)}


def export(folder, seeds, env="maxent/TwoRooms"):
    spec = envs.make_device(env).spec
    states = jax.jit(jax.vmap(lambda key: AGENT.init(key, spec)))(jax.random.split(jax.random.key(0), seeds))
    description = describe(RunConfig(agent="subpo", env=env, num_seeds=seeds), AGENT)
    export_policy(folder, description, policy_arrays(AGENT, states), spec, step=7)
    return load_policies(folder)


@pytest.fixture
def seen(monkeypatch):
    """What is drawn, in the order of drawing."""
    figures = []

    def draw(*arguments):
        figures.append(arguments)
        return draw_trajectories(*arguments)

    monkeypatch.setattr(trajectory_pictures, "draw_trajectories", draw)
    return figures


@pytest.mark.slow
def test_a_policy_is_drawn_as_evaluation_plays_it(tmp_path, seen):
    policies = export(tmp_path, 2)
    path = picture_policies(policies, tmp_path / "new" / "trajectories.png", episodes=3)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in path.parent.iterdir()] == ["trajectories.png"]
    ((field_map, panels, titles),) = seen
    assert isinstance(field_map, FieldMap)
    assert titles == ("SubPO on maxent/TwoRooms", "after 7 steps  \u00b7  most likely actions")
    for policy, part in zip(policies, panels, strict=True):
        (trajectory,) = part.trajectories  # neither the start nor the actions are random
        assert trajectory.total == pytest.approx(evaluate_policy(policy, 1).mean)
        assert part.title == f"seed {policy.seed}: F = {trajectory.total + 4:.4g}"  # 4 cells are seen from the start


@pytest.mark.slow
def test_sampled_episodes_are_drawn_up_to_a_number_and_counted_in_the_title(tmp_path, seen):
    (policy,) = export(tmp_path, 1)
    picture_policies([policy], tmp_path / "here.png", episodes=MOST_PATHS + 2, seed=3, stochastic=True)
    ((_, (part,), titles),) = seen
    played = collect_trajectories(policy, MOST_PATHS + 2, seed=3)
    assert len(part.trajectories) == MOST_PATHS
    for each, expected in zip(part.trajectories, played, strict=False):
        np.testing.assert_array_equal(each.observation, expected.observation)
    returns = evaluate_policy(policy, MOST_PATHS + 2, seed=3, stochastic=True).returns
    assert part.title == f"seed 0: mean F = {np.mean(returns) + 4:.4g} ({min(returns) + 4:g} to {max(returns) + 4:g})"
    assert "sampled actions" in titles[1] and f"{MOST_PATHS + 2} episodes, at most {MOST_PATHS} drawn" in titles[1]


@pytest.mark.slow
def test_of_many_policies_the_first_are_drawn_and_the_title_says_so(tmp_path, seen):
    picture_policies(export(tmp_path, MOST_PANELS + 1, "maxent/SteinerTree"), tmp_path / "here.png")
    ((_, panels, titles),) = seen
    assert [part.title.partition(":")[0] for part in panels] == [f"seed {seed}" for seed in range(MOST_PANELS)]
    assert f"the first {MOST_PANELS} of {MOST_PANELS + 1} policies" in titles[1]


@pytest.mark.slow
def test_environments_without_a_plane_are_refused(tmp_path):
    policies = export(tmp_path, 1, "maxent/EpsilonBandit")
    assert not isinstance(envs.make_device("maxent/EpsilonBandit"), HasFieldMap)
    with pytest.raises(IncompatibleEnvironmentError, match="maxent/EpsilonBandit cannot be drawn"):
        picture_policies(policies, tmp_path / "here.png")
    assert not (tmp_path / "here.png").exists()


@pytest.mark.slow
def test_what_cannot_be_written_is_one_sentence(tmp_path):
    policies = export(tmp_path, 1, "maxent/SteinerTree")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot write"):
        picture_policies(policies, tmp_path / "file" / "here.png")
    with pytest.raises(InvalidSettingError, match=r"as \.png"):
        picture_policies(policies, tmp_path / "here.svg")
