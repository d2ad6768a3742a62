"""A policy played by hand in the bare environment does what its evaluation does, and collected data replays there."""

from __future__ import annotations

import copy
import json
from typing import Any, ClassVar

import gymnasium
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from maxent_rl.data.datasets.files import read_dataset, write_dataset
from maxent_rl.data.datasets.units import told_space
from maxent_rl.envs import GymnasiumEnvs
from maxent_rl.playing.choosing import sampled_action
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.playing.trajectories import collect_trajectories
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import Policy, export_policy, load_policy, policy_arrays
from maxent_rl.seeds.streams import EVALUATION, environment_seed
from maxent_rl.sources.transitions import Collecting, _about, from_trajectory
from maxent_rl.types import Spec

SPACES: dict[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]] = {
    "one axis": (Box(-1, 1, (3,), np.float32), Box(np.float32([-2, 0]), np.float32([3, 1e4]))),
    "no axis": (Box(-1, 1, (), np.float64), Box(-3, 3, (), np.float64)),
    "two axes": (Box(-1, 1, (2, 3), np.float32), Box(-0.1, 0.3, (2, 2), np.float64)),
    "one choice": (Discrete(5, start=2), Discrete(3, start=-1)),
    "several choices": (Dict({"b": Box(-1, 1, (2,)), "a": Discrete(3)}), MultiDiscrete([2, 3], start=[5, -1])),
    "bits": (Tuple((MultiBinary(2), Box(-1, 1, (2,)))), MultiBinary(3)),
    "a picture": (Box(0, 255, (3, 4, 5), np.uint8), MultiDiscrete([[2, 3], [4, 5]])),
}


class Strict(gymnasium.Env):
    """Takes nothing but what its space contains, shows random things, and pays by the very number that it was given."""

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space, self.action_space, self.elapsed = observation_space, action_space, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.elapsed = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.elapsed += 1
        weights = np.arange(1, np.size(action) + 1)
        return self.observation_space.sample(), float(np.ravel(action) @ weights), False, self.elapsed >= 6, {}


@struct.dataclass
class Mixed:
    weight: jax.Array
    spec: Spec = struct.field(pytree_node=False)


@struct.dataclass
class Mixing:
    """Acts by a fixed random projection of the observation; nothing is learned."""

    learns: ClassVar[str] = "rollout"
    makes_several_choices: ClassVar[bool] = True
    rollout_size: int = 8
    discount: float = 0.9

    def init(self, key: Any, spec: Spec) -> Mixed:
        return Mixed(jax.random.normal(key, (spec.observation_size, spec.action_size)), spec)

    def mode(self, state: Mixed, observation: Any) -> Any:
        mixed = 1.5 * jnp.sin(observation @ state.weight)
        if state.spec.is_continuous:
            return mixed
        sizes = jnp.array(state.spec.choices or (state.spec.num_actions,))
        choices = jnp.floor(jnp.abs(mixed) * 7).astype(jnp.int32) % sizes
        return choices if state.spec.choices else choices[..., 0]

    def act(self, state: Any, observation: Any, key: Any) -> Any:
        return self.mode(state, observation + 0.3 * jax.random.normal(key, observation.shape))


def played(name: str, folder: Any) -> tuple[Any, Policy]:
    """An environment's maker, and an exported policy that was read back."""
    make = lambda: Strict(*copy.deepcopy(SPACES[name]))  # noqa: E731  # spaces hold random numbers
    envs = GymnasiumEnvs(make, [0])
    agent = Mixing()
    states = jax.tree.map(lambda leaf: leaf[None], agent.init(jax.random.key(1), envs.spec))
    export_policy(
        folder,
        describe(RunConfig(agent="Mixing", env="Strict"), agent),
        policy_arrays(agent, states),
        envs.spec,
        step=0,
    )
    loaded = load_policy(folder, agent=Mixing)
    assert loaded.spec == envs.spec
    return make, loaded


@pytest.mark.parametrize("name", SPACES)
def test_by_hand_it_gets_what_evaluation_says(name: str, tmp_path: Any) -> None:
    make, policy = played(name, tmp_path)
    told, env = evaluate_policy(policy, 2, env=make), make()
    for episode, wanted in enumerate(told.returns):
        observation, _ = env.reset(seed=environment_seed(0, EVALUATION, 0, episode))
        total, over = 0.0, False
        while not over:
            observation, reward, _, over, _ = env.step(policy(observation))
            total += float(np.float32(reward))
        assert total == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("ending", [".npz", ""])
@pytest.mark.parametrize("name", SPACES)
def test_what_was_collected_replays(name: str, ending: str, tmp_path: Any) -> None:
    make, policy = played(name, tmp_path / "policy")
    (trajectory,) = collect_trajectories(policy, 1, choose=sampled_action, env=make)
    data = from_trajectory(trajectory, policy.spec)
    about = json.loads(json.dumps(_about(Collecting(kind="random"), None, policy.spec)))
    path = tmp_path / f"collected{ending}"
    write_dataset(type(data)(**vars(data) | {"about": about}), path)
    if ending:
        with np.load(path) as archive:
            actions = archive["actions"]
    else:
        with h5py.File(path / "data" / "main_data.hdf5") as file:
            actions = file["episode_0/actions"][:]
            seen = file["episode_0/observations"][:]
        if isinstance(make().observation_space, Box):
            assert all(make().observation_space.contains(each.astype(make().observation_space.dtype)) for each in seen)
    env = make()
    env.reset(seed=0)
    paid = [env.step(action)[1] for action in actions]
    np.testing.assert_allclose(paid, trajectory.reward, rtol=1e-5, atol=1e-5)
    back = read_dataset(path)
    assert told_space(back.about, "action_space") == policy.spec.action_space
    np.testing.assert_allclose(back.action, data.action, rtol=1e-6)
    np.testing.assert_array_equal(back.observation, data.observation)
