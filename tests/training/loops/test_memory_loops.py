"""On-policy agents that remember: what both loops carry for them, what an update is given, and what a checkpoint holds."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, NUM_ENVS
from environments import HostPoint, Point
from flax import struct
from support.devices import run_on_devices

from maxent_rl import resume, train
from maxent_rl.agents.base import check_agent
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.records import read_csv
from maxent_rl.settings import static
from maxent_rl.sources.load import load_data
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.training.loops.device import device_steps
from maxent_rl.training.loops.host import host_step
from maxent_rl.training.loops.learner import make_learning
from maxent_rl.training.loops.make import make_loop

WINDOW, HORIZON, EDGE = 10, 7, 0.6


@dataclasses.dataclass(frozen=True)
class Edged(Point):
    """The point, whose episodes end to the right of an edge too, some at once."""

    horizon: int = HORIZON

    def step(self, state, action):
        state, position, reward, _ = super().step(state, action)
        return state, position, reward, position[0] > EDGE


class HostEdged(HostPoint):
    def __init__(self):
        super().__init__(HORIZON)

    def step(self, action):
        position, reward, _, truncated, more = super().step(action)
        ended = bool(position[0] > EDGE)
        return position, reward, ended, truncated and not ended, more


ENVS = {"host": HostEdged, "device": Edged()}
STEPS = {"host": host_step, "device": device_steps}


@struct.dataclass
class Memory:
    steps: jax.Array
    trace: jax.Array


@struct.dataclass
class Remembering:
    """Its last update left in it what it recalled."""

    weight: jax.Array
    recalled: Memory
    memory: Any = None


@struct.dataclass
class Rememberer:
    """Acts by the steps of the episode so far, and by a trace that its weight takes part in, as does the trace's start."""

    learns: ClassVar[str] = "rollout"
    discount: float = 0.9
    rate: float = 0.1
    rollout_size: int = static(WINDOW * NUM_ENVS)
    history: bool = static(True)

    def init(self, key, spec):
        nothing = Memory(jnp.zeros(spec.num_envs, jnp.int32), jnp.zeros((spec.num_envs, 2)))
        return Remembering(jax.random.normal(key, (2,)), nothing)

    def act(self, state, observation, key):
        drawn = 0.5 * jax.random.normal(key, observation.shape[:-1])
        return self.mode(state, observation).at[..., 0].add(drawn)

    def mode(self, state, observation):
        memory = self.memory(state, observation.shape[:-1]) if state.memory is None else state.memory
        if not self.history:
            return state.weight * observation
        first = jnp.tanh(state.weight[0] * observation[..., 0] + memory.trace[..., 0])
        return jnp.stack([first, memory.steps / HORIZON], axis=-1)

    def update(self, state, batch, key):
        if self.history:
            state = dataclasses.replace(state, recalled=state.memory)
        slope = jnp.mean(batch.reward[..., None] * batch.observation, axis=(0, 1)) + jnp.mean(state.recalled.trace)
        weight = state.weight + self.rate * slope
        return dataclasses.replace(state, weight=weight), {"critic/loss": jnp.mean(state.recalled.steps)}

    def memory(self, state, batch_shape):
        if not self.history:
            return ()
        return Memory(jnp.zeros(batch_shape, jnp.int32), jnp.broadcast_to(state.weight, (*batch_shape, 2)))

    def recalling(self, state, memory):
        return dataclasses.replace(state, memory=memory)

    def remember(self, state, memory, observation, action, reward):
        if not self.history:
            return ()
        seen = state.weight * observation + action + reward[..., None]
        return Memory(memory.steps + 1, 0.5 * memory.trace + 0.1 * seen)


def never():
    return False


def loop_of(backend, agent=None, begin=True, **settings):
    run = RunConfig(env="test", **({"num_envs": NUM_ENVS} | settings))
    loop = make_loop(run, agent or Rememberer(), ENVS[backend], jax.local_devices(), load=load_data)
    if begin:
        loop.start()
    return loop


def copied(tree):
    """On the host: the loops write into their buffers."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def of_member(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def assert_equal(one, other, compare=np.testing.assert_array_equal, **tolerance):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        compare(np.asarray(a), np.asarray(b), **tolerance)


def assert_near(one, other, **tolerance):
    assert_equal(one, other, np.testing.assert_allclose, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


def followed(memory, weight, rows):
    """The memories before each step and after the last, by a plain loop over a window's rows [step, env, width]."""
    memories = [memory]
    for observation, action, reward, ended in zip(
        rows[..., :2], rows[..., 2:4], rows[..., -3], rows[..., -2] + rows[..., -1] > 0, strict=True
    ):
        steps, trace = memories[-1].steps + 1, 0.5 * memories[-1].trace
        trace = trace + 0.1 * (weight * observation + action + reward[:, None])
        for env in np.flatnonzero(ended):
            steps[env], trace[env] = 0, weight
        memories.append(Memory(steps, trace))
    return memories


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
def test_memories_last_an_episode_and_an_update_recalls_the_one_its_window_began_with(backend):
    """Against a replay of the rows on the host, seed by seed and window by window."""
    loop, seeds, windows = loop_of(backend, num_seeds=2), 2, 6
    weights = copied(loop.learner.seeds.agent.weight)
    memories = [Memory(np.zeros(NUM_ENVS, np.int32), np.tile(weight, (NUM_ENVS, 1))) for weight in weights]
    ends, running = np.zeros(2), 0
    for window in range(1, windows + 1):
        # Also where a window's first part is looked at alone: nothing but an update moves on what it begins with.
        loop.advance(WINDOW * window - 3, never)
        for seed in range(seeds):
            assert_near(of_member(loop.learner.seeds.window_memory, seed), memories[seed])
        loop.advance(WINDOW * window, never)
        state = copied(dataclasses.replace(loop.learner.seeds, key=None))
        metrics = loop.take_metrics()
        for seed in range(seeds):
            rows = state.rows[seed].reshape(WINDOW, NUM_ENVS, -1)
            within = followed(memories[seed], weights[seed], rows)
            for step, before in zip(rows, within, strict=False):
                np.testing.assert_allclose(step[:, 3], before.steps / HORIZON, rtol=1e-6)
            assert_near(of_member(state.agent.recalled, seed), memories[seed])
            assert metrics[seed]["critic/loss"] == memories[seed].steps.mean()
            assert_near(of_member(state.memory, seed), within[-1])
            assert_equal(of_member(state.window_memory, seed), of_member(state.memory, seed))
            memories[seed], running = within[-1], running + within[-1].steps.sum()
            ends += rows[..., -2:].sum(axis=(0, 1))
        assert state.agent.memory is None and not np.array_equal(state.agent.weight, weights)
        weights = state.agent.weight
    assert (ends > 0).all() and running > 0, "episodes that terminate, are truncated, and go on beyond a window"
    loop.check(), loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
def test_a_seed_remembers_alone_what_it_remembers_among_others(backend):
    many, alone = loop_of(backend, num_seeds=3), loop_of(backend, seed=2)
    for loop in (many, alone):
        loop.advance(2 * WINDOW + 4, never)
    for part in ("agent", "memory", "window_memory"):
        among, single = (getattr(loop.learner.seeds, part) for loop in (many, alone))
        assert_near(of_member(among, 2), of_member(single, 0))
    many.close(), alone.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
def test_variants_remember_what_they_would_alone(backend):
    among = loop_of(backend, num_seeds=2, variants={"rate": (0.1, 0.1, 0.3)})
    alone = loop_of(backend, Rememberer(rate=0.3), seed=1)
    for loop in (among, alone):
        loop.advance(2 * WINDOW + 4, never)
    for part in ("agent", "memory", "window_memory"):
        members, single = (copied(getattr(loop.learner.seeds, part)) for loop in (among, alone))
        assert_equal(of_member(members, slice(0, 2)), of_member(members, slice(2, 4)))
        assert_near(of_member(members, 5), of_member(single, 0))
    assert not np.array_equal(members.trace[1], members.trace[5])
    among.close(), alone.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
def test_where_the_steps_are_cut_changes_nothing_and_compiles_nothing(backend):
    whole, pieces, step = loop_of(backend), loop_of(backend), STEPS[backend]
    whole.advance(3 * WINDOW + 2, never)
    compiled = step._cache_size()
    for until in (1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 2):
        pieces.advance(until, never)
        pieces.take_metrics(), pieces.evaluate(2)
    assert step._cache_size() == compiled
    for part in ("agent", "memory", "window_memory"):
        assert_equal(*(getattr(loop.learner.seeds, part) for loop in (whole, pieces)))
    whole.close(), pieces.close()


SETTINGS = {
    "total_steps": 120, "eval_every": 40, "eval_episodes": 2, "checkpoint_every": 30, "log_every": 20, "num_seeds": 2,
    "num_envs": NUM_ENVS, "progress": False, "name": "run",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
@pytest.mark.parametrize("stop", [66, 80], ids=["within a window", "between windows"])
def test_stopping_and_resuming_equals_not_stopping(tmp_path, backend, stop):
    env, agent = ENVS[backend], Rememberer()
    whole = train(agent, env, output_dir=str(tmp_path / "whole"), **SETTINGS)
    part = train(agent, env, output_dir=str(tmp_path / "part"), **(SETTINGS | {"total_steps": stop}))
    rest = resume(part.folder, agent=Rememberer, env=env, progress=False, total_steps=120)
    assert_equal(whole.states, rest.states)
    evaluations = [result.folder / "eval.csv" for result in (whole, rest)]
    timed = ("seconds", "steps_per_second")
    one, other = ([{k: v for k, v in row.items() if k not in timed} for row in read_csv(each)] for each in evaluations)
    assert one[-2:] == other[-2:] and one[-1]["step"] == 120


@pytest.mark.parametrize("backend", ENVS)
def test_a_state_that_is_taken_back_has_both_memories(backend):
    first, second = loop_of(backend), loop_of(backend, begin=False)
    first.advance(WINDOW + 4, never)
    state, env_state, rows = to_arrays(first.get_state()), first.get_env_state(), copied(first.learner.seeds.rows)
    assert {name for name in state if "memory" in name} == {
        f"['learner'].seeds.{which}.{leaf}" for which in ("memory", "window_memory") for leaf in ("steps", "trace")
    }
    second.set_state(from_arrays(second.get_state(), state), env_state, jnp.asarray(rows), first.step)
    for loop in (first, second):
        loop.advance(2 * WINDOW + 3, never)
    for part in ("agent", "memory", "window_memory", "rows"):
        assert_equal(*(getattr(loop.learner.seeds, part) for loop in (first, second)))
    first.close(), second.close()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 0], ids=["within a window", "between windows"])
def test_new_episodes_after_a_resume_begin_with_fresh_memories_and_a_window_keeps_its_own(steps):
    """As where the state of host environments cannot be saved."""
    loop = loop_of("host", num_seeds=2)
    loop.advance(WINDOW + steps, never)
    before = copied(loop.learner.seeds.window_memory)
    assert (before.steps > 0).any()
    loop.set_state(loop.get_state(), None, loop.learner.seeds.rows, loop.step)
    seeds = loop.learner.seeds
    assert not np.asarray(seeds.memory.steps).any()
    fresh = np.broadcast_to(np.asarray(seeds.agent.weight)[:, None], before.trace.shape)
    np.testing.assert_array_equal(seeds.memory.trace, fresh)
    assert_equal(seeds.window_memory, before if steps else seeds.memory)
    loop.close()


@struct.dataclass
class Prepared(Rememberer):
    prepares_from: ClassVar[str] = "preferences"

    def prepare(self, state, data, held_out, key):
        return dataclasses.replace(state, weight=data), {"fit": jnp.float32(1.0)}


@pytest.mark.parametrize("backend", ENVS)
def test_episodes_begin_with_the_memory_of_an_agent_that_is_prepared(backend):
    loop = loop_of(backend, Prepared(), begin=False, dataset="data")
    loop.prepare(jnp.array([3.0, -2.0]), None)
    loop.start()
    for memory in (loop.learner.seeds.memory, loop.learner.seeds.window_memory):
        np.testing.assert_array_equal(memory.trace, np.full((1, NUM_ENVS, 2), (3.0, -2.0)))
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
def test_a_memory_may_be_empty(tmp_path, backend):
    agent, env = Rememberer(history=False), ENVS[backend]
    loop = loop_of(backend, agent, num_seeds=2)
    loop.advance(WINDOW + 3, never)
    assert int(loop.learner.counters.update) == 1 and len(loop.evaluate(3)) == 2
    assert loop.learner.seeds.memory == () and loop.learner.seeds.window_memory == ()
    loop.close()
    part = train(agent, env, output_dir=str(tmp_path), **(SETTINGS | {"total_steps": 30}))
    policy = resume(part.folder, agent=Rememberer, env=env, progress=False, total_steps=60).policy(seed=1)
    observation, memory = np.full(2, 0.1, np.float32), policy.memory()
    np.testing.assert_array_equal(policy(observation, memory=memory), policy(observation))
    assert policy.remember(memory, observation, policy(observation), 1.0) == ()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ENVS)
@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_agents_that_do_not_remember_carry_not_a_single_array_more(name, backend):
    loop = loop_of(backend, AGENTS_UNDER_TEST[name].agent)
    assert loop.learner.seeds.memory == () and loop.learner.seeds.window_memory == ()
    assert not [array for array in to_arrays(loop.get_state()) if "memory" in array]
    loop.close()


def test_a_memory_that_an_on_policy_agent_keeps_is_no_reason_to_refuse_it():
    spec = dataclasses.replace(Point().spec, num_envs=NUM_ENVS)
    check_agent(Rememberer(), spec, "Point")
    assert make_learning(Rememberer(), spec, NUM_ENVS).metric_names == ("critic/loss",)


SHARED = """
import jax, numpy as np
from test_memory_loops import ENVS, WINDOW, Rememberer, loop_of, never

def run(devices):
    found, batch = {}, {1: 1, 2: 1, 4: 2}[devices]
    for backend in ENVS:
        loop = loop_of(backend, Rememberer(rollout_size=4 * WINDOW), num_envs=4, num_seeds=2, batch_devices=batch)
        assert (loop.learning.mesh.devices.size if loop.learning.mesh else 1) == devices
        loop.advance(WINDOW + 3, never), loop.take_metrics(), loop.advance(3 * WINDOW + 4, never), loop.check()
        seeds = loop.learner.seeds
        leaves = jax.tree.leaves((seeds.agent, seeds.memory, seeds.window_memory, seeds.rows))
        found |= {f"{backend}{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
        loop.close()
    return found
"""


@pytest.mark.slow
def test_memories_shared_among_devices_are_those_of_one_device(tmp_path):
    """Seeds on two devices, and seeds and the environments of a window on four."""
    one, *others = run_on_devices(__file__, SHARED, (1, 2, 4), tmp_path)
    for other in others:
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_allclose(other[key], one[key], rtol=1e-3, atol=1e-5, err_msg=key)
