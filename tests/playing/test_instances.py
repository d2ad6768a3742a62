"""How many environments are open at once: as many as one wants, and nothing that is played depends on it."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from environments import HostPoint, Point

from maxent_rl.agents import SAC
from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.host import HostSource
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.playing.evaluation import evaluate_host, evaluate_policy
from maxent_rl.playing.opening import side_by_side
from maxent_rl.playing.trajectories import collect_trajectories
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, load_policy, policy_arrays

AGENT = SAC(hidden_sizes=(8,))
SEEDS, EPISODES = (3, 4), 5


class Counted(HostPoint):
    """Counts how many of it are open; episodes last from 1 to 9 steps, as their start says."""

    open, most, made = 0, 0, 0

    def __init__(self) -> None:
        super().__init__()
        Counted.open, Counted.made = Counted.open + 1, Counted.made + 1
        Counted.most = max(Counted.most, Counted.open)

    def reset(self, **options: Any) -> Any:
        result = super().reset(**options)
        self.horizon = int(self.np_random.integers(1, 10))
        return result

    def close(self) -> None:
        Counted.open -= 1


@pytest.fixture(autouse=True)
def none_open() -> Any:
    Counted.open = Counted.most = Counted.made = 0
    yield
    assert Counted.open == 0


def states() -> Any:
    return jax.vmap(lambda key: AGENT.init(key, Point().spec))(jax.random.split(jax.random.key(0), len(SEEDS)))


def outcomes(width: int | None, sampled: bool) -> list[Any]:
    """Of both seeds; `width` of each seed's episodes side by side, or a source that does not say how many."""
    source: Any = partial(GymnasiumEnvs, Counted)
    source = source if width is None else HostSource(source, width)
    keys = jax.vmap(jax.random.key)(np.array(SEEDS)) if sampled else None
    return evaluate_host(AGENT, states(), SEEDS, 7, EPISODES, source, keys)


@pytest.mark.slow
@pytest.mark.parametrize("sampled", [False, True], ids=["most likely", "sampled"])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 64])
def test_what_an_evaluation_finds_does_not_depend_on_how_many_are_open(width: int, sampled: bool) -> None:
    expected = outcomes(None, sampled)
    assert len({length for each in expected for length in each.lengths}) > 3
    Counted.most = Counted.made = 0
    assert outcomes(width, sampled) == expected
    assert Counted.most == Counted.made == len(SEEDS) * min(width, EPISODES)


@pytest.fixture
def policy(tmp_path: Any) -> Any:
    config = describe(RunConfig(env="Point", max_episode_steps=4), AGENT)
    export_policy(tmp_path, config, policy_arrays(AGENT, states()), Point().spec, step=0)
    return load_policy(tmp_path)


@pytest.mark.slow
def test_trajectories_do_not_depend_on_it_either(policy: Any) -> None:
    together, apart = (collect_trajectories(policy, 5, env=Counted, num_envs=count) for count in (5, 2))
    assert Counted.made == 7 and len(together) == 5
    jax.tree.map(np.testing.assert_array_equal, [vars(each) for each in together], [vars(each) for each in apart])


def test_what_a_function_makes_is_opened_once_unless_more_are_asked_for(policy: Any) -> None:
    alone = evaluate_policy(policy, 6, env=Counted)
    assert Counted.most == 1
    assert evaluate_policy(policy, 6, env=Counted, num_envs=4) == alone
    assert Counted.most == 4


def test_a_policy_keeps_the_limit_of_its_run(policy: Any) -> None:
    assert policy.max_episode_steps == 4
    assert max(evaluate_policy(policy, 6, env=Counted).lengths) == 4


@pytest.mark.parametrize(
    ("env", "wanted", "members", "trained_in", "expected"),
    [
        ("Pendulum", None, 1, 1, 64),
        ("Pendulum", None, 10, 1, 6),
        ("Pendulum", None, 100, 1, 1),
        ("Pendulum", 2, 10, 4, 2),
        (Counted, None, 1, 1, 1),
        (Counted, None, 3, 8, 8),
        (Counted, 2, 3, 8, 2),
    ],
)
def test_the_default_is_what_suits_the_kind(
    env: Any, wanted: Any, members: int, trained_in: int, expected: int
) -> None:
    assert side_by_side(env, wanted, members=members, trained_in=trained_in) == expected


def test_environments_beyond_the_seeds_of_a_reset_rest() -> None:
    envs, alone = GymnasiumEnvs(Counted, [1, 2, 3]), GymnasiumEnvs(Counted, [9])
    envs.reset()
    envs.step(np.zeros((3, 2)))
    np.testing.assert_array_equal(envs.reset([9]), alone.reset())
    assert envs.num_envs == 1
    for one, other in zip(envs.step(np.ones((1, 2))), alone.step(np.ones((1, 2))), strict=True):
        np.testing.assert_array_equal(one, other)
    assert envs.reset([4, 5, 6]).shape == (3, 2)
    envs.close()
    alone.close()


def test_a_source_tells_what_to_do_where_no_more_can_be_opened() -> None:
    def make(seeds: list[int]) -> Any:
        raise OSError("address already in use: port 5005")

    with pytest.raises(IncompatibleEnvironmentError) as caught:
        HostSource(make, 3).check_more(3, 1)
    assert str(caught.value) == (
        "Evaluation needs 3 of these environments besides the 1 that training steps, and could not open them (OSError: "
        "address already in use: port 5005): evaluate in fewer (--eval-num-envs), or not at all (--eval-episodes 0)."
    )


def test_numbers_of_environments_that_cannot_be_are_refused() -> None:
    for settings in ({"eval_num_envs": 0}, {"eval_episodes": -1}, {"max_episode_steps": 0}):
        with pytest.raises(InvalidSettingError):
            RunConfig(**settings).check()
    assert issubclass(Counted, gymnasium.Env)
