"""On-policy agents in both loops: when they learn, and from what."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST
from environments import HostPoint, Point
from flax import struct
from support.closeness import assert_close
from support.devices import run_on_devices
from support.seeds import learning_seed

from maxent_rl.agents import PPO
from maxent_rl.envs.device import step_within
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.buffers import make_layout
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.mesh import make_mesh
from maxent_rl.training.loops.make import make_loop
from maxent_rl.training.loops.plan import Schedule
from maxent_rl.training.runner import train
from maxent_rl.types import Spec

AGENT = AGENTS_UNDER_TEST["ppo"].agent
BACKENDS = {"host": HostPoint, "device": Point()}


def never():
    return False


def loop_of(env, agent=AGENT, **settings):
    loop = make_loop(RunConfig(env="test", **settings), agent, env, jax.local_devices())
    loop.start()
    return loop


@pytest.mark.parametrize(("size", "num_envs", "time"), [(20, 1, 20), (20, 2, 10), (20, 3, 6), (2, 8, 1)])
def test_an_update_is_due_after_every_whole_window(size, num_envs, time):
    schedule = Schedule.create(AGENT.replace(rollout_size=size), Spec((2,), (2,), 20), num_envs)
    due = [int(schedule.updates_due(np.int32(step))) for step in range(1, 3 * time + 1)]
    assert schedule.start == 0 and due == ([0] * (time - 1) + [1]) * 3


@pytest.mark.slow
def test_episodes_that_are_staggered_begin_at_other_times_of_the_horizon():
    """Twenty steps of horizon, four environments: the first episodes have 20, 15, 10 and 5 steps left."""
    loop = loop_of(Point(), AGENT, num_envs=4, num_seeds=2, stagger_episodes=True)
    np.testing.assert_array_equal(loop.get_state()["envs"].elapsed, [[0, 5, 10, 15]] * 2)
    together = loop_of(Point(), AGENT, num_envs=4, num_seeds=2)
    assert not np.any(together.get_state()["envs"].elapsed)


def test_episodes_of_host_environments_are_not_staggered():
    with pytest.raises(
        InvalidSettingError, match="--stagger-episodes is for agents that act in environments on the device"
    ):
        loop_of(HostPoint, stagger_episodes=True)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_that_fill_no_window_are_collected_and_not_learned_from(backend):
    loop = loop_of(BACKENDS[backend], num_envs=2)
    loop.advance(9, never)
    assert int(loop.learner.counters.update) == 0 and "actor/loss" not in loop.take_metrics()[0]
    loop.advance(10, never)
    assert int(loop.learner.counters.update) == 1 and "actor/loss" in loop.take_metrics()[0]
    loop.advance(19, never)
    assert int(loop.learner.counters.update) == 1 and loop.learner.seeds.rows.shape == (1, 20, 9)
    loop.close()


@struct.dataclass
class Counted(PPO):
    """Acts by how often it has learned, and says what of that a window holds."""

    def act(self, state, observation, key):
        return jnp.full((*observation.shape[:-1], 2), state.optimizer[1][0].count.astype(jnp.float32))

    def update(self, state, batch, key):
        after, metrics = super().update(state, batch, key)
        spread = jnp.max(batch.action) - jnp.min(batch.action)
        return after, metrics | {"spread": spread, "policy": jnp.max(batch.action)}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_action_of_a_window_is_the_newest_policys(backend):
    agent = Counted(**{field.name: getattr(AGENT, field.name) for field in dataclasses.fields(AGENT)})
    loop = loop_of(BACKENDS[backend], agent.replace(epochs=1, minibatches=1), num_envs=2)
    for window in range(3):
        loop.advance(10 * (window + 1), never)
        metrics = loop.take_metrics()[0]
        assert (metrics["policy"], metrics["spread"]) == (window, 0), "one gradient step for each window before"
    loop.close()


@pytest.mark.slow
def test_an_exported_policy_acts_within_the_box_whatever_the_number_of_environments(tmp_path):
    result = train(
        AGENT, Point(), total_steps=40, num_envs=2, eval_episodes=1, output_dir=str(tmp_path), progress=False
    )
    policy = result.policy()
    assert policy.spec.num_envs == 2
    action = policy(np.full((500, 2), 0.5), jax.random.key(0))
    assert np.abs(action).max() == 1.0, "a Gaussian of deviation 1 leaves the box in a third of its samples"


def test_environments_on_the_device_get_actions_in_their_box():
    state, _ = Point().reset(jax.random.key(0))
    for action, within in (((5.0, -0.5), (1.0, -0.5)), ((-1.5, 1.0), (-1.0, 1.0))):
        (position, _), *_ = step_within(Point(), state, jnp.array(action))
        assert_close(position, state[0] + 0.1 * jnp.array(within), rtol=1e-6, scale=1.0)  # positions lie in [-1, 1]


SHARED = """
import jax, numpy as np
from test_on_policy import AGENT, BACKENDS, loop_of, never

def run(devices):
    found = {}
    for name, env in BACKENDS.items():
        loop = loop_of(env, num_envs=4, batch_devices=devices)
        assert (loop.learning.mesh.devices.size if loop.learning.mesh else 1) == devices
        loop.advance(11, never), loop.check()
        found |= {f"{name}{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(loop.learner.seeds.agent))}
    return found
"""


@pytest.mark.slow
def test_devices_that_share_the_environments_of_a_window_learn_the_same_up_to_rounding(tmp_path):
    one, two = run_on_devices(__file__, SHARED, (1, 2), tmp_path)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_devices_that_cannot_share_the_environments_are_refused():
    layout = make_layout(AGENT, dataclasses.replace(Point().spec, num_envs=3))
    with pytest.raises(InvalidSettingError, match="--batch-devices 2 cannot share --num-envs 3 evenly"):
        make_mesh(1, jax.local_devices() * 2, 2, layout.batch_parts, layout.batch_words)


@pytest.mark.slow
def test_cart_pole_is_solved_within_20k_steps(tmp_path):
    """500 is the most there is, and what each of 8 seeds gets; untrained policies get about 20."""
    agent = PPO(rollout_size=1024, minibatches=16, learning_rate=1e-3)
    settings = {"seed": learning_seed(), "output_dir": str(tmp_path), "progress": False}
    result = train(agent, "CartPole-v1", total_steps=20_000, num_envs=8, **settings)
    assert result.evaluations[-1][1][0].mean >= 475


class Cart(gymnasium.ObservationWrapper):
    """CartPole with a Dict observation, whose keys are in the order of the plain one."""

    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1"))
        low, high = np.split(self.env.observation_space.low, 2), np.split(self.env.observation_space.high, 2)
        self.observation_space = gymnasium.spaces.Dict(
            {name: gymnasium.spaces.Box(low[i], high[i]) for i, name in enumerate(("cart", "pole"))}
        )

    def observation(self, observation):
        return {"pole": observation[2:], "cart": observation[:2]}


@pytest.mark.slow
def test_a_dict_observation_trains_as_the_vector_that_it_becomes(tmp_path):
    agent = PPO(rollout_size=64, minibatches=2, epochs=2, hidden_sizes=(8,))
    settings = {"total_steps": 256, "log_every": 64, "eval_episodes": 2, "progress": False}
    plain = train(agent, "CartPole-v1", output_dir=str(tmp_path / "plain"), **settings)
    parts = train(agent, Cart, output_dir=str(tmp_path / "parts"), **settings)
    jax.tree.map(np.testing.assert_array_equal, plain.states, parts.states)
    assert parts.evaluations == plain.evaluations
    cart = Cart()
    observation, _ = cart.reset(seed=3)
    assert parts.policy()(observation) == plain.policy()(np.concatenate([observation["cart"], observation["pole"]]))


@dataclasses.dataclass(frozen=True)
class Locks:
    """Three wheels at once: each pays a third where it is turned to what is shown."""

    choices: tuple[int, ...] = (2, 3, 4)

    @property
    def spec(self):
        return Spec((sum(self.choices),), (len(self.choices),), 8, choices=self.choices)

    def observe(self, state):
        key, step = state
        shown = jax.random.randint(jax.random.fold_in(key, step), (3,), 0, jnp.array(self.choices))
        return shown, jnp.concatenate([jax.nn.one_hot(shown[i], size) for i, size in enumerate(self.choices)])

    def reset(self, key):
        state = (key, jnp.int32(0))
        return state, self.observe(state)[1]

    def step(self, state, action):
        reward = jnp.mean((self.observe(state)[0] == action).astype(jnp.float32))
        state = (state[0], state[1] + 1)
        return state, self.observe(state)[1], reward, jnp.bool_(False)


@pytest.mark.slow
def test_several_choices_at_once_are_learned(tmp_path):
    """8 is the most there is; choices at random get 8/3 (1/2 + 1/3 + 1/4) = 2.9."""
    agent = PPO(rollout_size=256, minibatches=4, epochs=4, learning_rate=1e-2, hidden_sizes=(16,))
    settings = {"total_steps": 6 * 256, "num_envs": 8, "num_seeds": 2, "eval_episodes": 20, "progress": False}
    result = train(agent, Locks(), seed=learning_seed(), output_dir=str(tmp_path), **settings)
    assert min(outcome.mean for outcome in result.evaluations[-1][1]) > 5.5
