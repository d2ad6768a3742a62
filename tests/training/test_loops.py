"""Both loops: episode boundaries, seeds, faults, tracing, sharding; on environments whose values are known."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import HostPoint, OneStepDevice, OneStepHost, Point
from flax import struct

from maxent_rl.agents import SAC
from maxent_rl.errors import NonFiniteError
from maxent_rl.training.config import RunConfig
from maxent_rl.training.device_loop import device_steps
from maxent_rl.training.host_loop import host_step
from maxent_rl.training.loop import make_loop

AGENT = SAC(hidden_sizes=(16,), batch_size=16, replay_size=2_000, start_steps=20, learning_rate=1e-2)


def never():
    return False


def loop_of(env, agent=AGENT, **settings):
    run = RunConfig(env="test", **settings)
    loop = make_loop(run, agent, env, jax.local_devices())
    loop.start()
    return loop


BACKENDS = {"host": HostPoint, "device": Point()}


@pytest.mark.parametrize("backend", ["host", "device"])
@pytest.mark.parametrize("terminates", [True, False], ids=["terminated", "truncated"])
def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not(backend, terminates):
    """Every step pays 1 and ends the episode; with discount 1/2 the value is 1 by termination, 2 by truncation."""
    if backend == "host":

        def env():
            return OneStepHost(terminates)
    else:
        env = OneStepDevice(terminates)
    agent = AGENT.replace(
        discount=0.5, temperature_mode="fixed", initial_temperature=1e-6, target_update_rate=0.1, hidden_sizes=(16,)
    )
    loop = loop_of(env, agent)
    loop.advance(600, never)
    loop.check()
    state = jax.tree.map(lambda leaf: leaf[0], loop.learner.seeds.agent)
    actions = jnp.linspace(-1, 1, 9)[:, None]
    q = agent.values(state.critics, jnp.zeros((9, 1)), actions, jax.random.key(0))
    np.testing.assert_allclose(q, 1.0 if terminates else 2.0, atol=0.15)
    assert loop.take_metrics()[0]["episode/length"] == 1
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_learns_the_point(backend):
    """Driving to the origin from a distance of up to 1: about -4 at best, -13 untrained, over 20 steps."""
    loop = loop_of(BACKENDS[backend], AGENT.replace(hidden_sizes=(32, 32), learning_rate=3e-3), num_seeds=2)
    before = [outcome.mean for outcome in loop.evaluate(20)]
    loop.advance(1_000, never)
    after = [outcome.mean for outcome in loop.evaluate(20)]
    assert max(before) < -7 and min(after) > -5
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_seed_alone_and_among_others(backend):
    """Bit-equal start states, actions and replay rows while actions are uniform; nearly equal parameters after."""
    many = loop_of(BACKENDS[backend], num_seeds=8)
    alone = loop_of(BACKENDS[backend], seed=3, num_seeds=1)
    for loop in (many, alone):
        loop.advance(20, never)
    np.testing.assert_array_equal(many.learner.seeds.rows[3, :20], alone.learner.seeds.rows[0, :20])
    assert not np.array_equal(many.learner.seeds.rows[3, :20], many.learner.seeds.rows[4, :20])
    for loop in (many, alone):
        loop.advance(40, never)
    for a, b in zip(*(jax.tree.leaves(loop.learner.seeds.agent) for loop in (many, alone)), strict=True):
        np.testing.assert_allclose(a[3], b[0], rtol=1e-3, atol=1e-4)
    many.close(), alone.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_the_steps_are_cut_changes_nothing(backend):
    """Logging, evaluating and saving happen between chunks: 60 steps at once equal 60 steps in pieces."""
    whole, pieces = loop_of(BACKENDS[backend]), loop_of(BACKENDS[backend])
    whole.advance(60, never)
    for until in (1, 13, 30, 31, 60):
        pieces.advance(until, never)
        pieces.evaluate(2)
    for a, b in zip(*(jax.tree.leaves(loop.learner.seeds.agent) for loop in (whole, pieces)), strict=True):
        np.testing.assert_array_equal(a, b)
    whole.close(), pieces.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_depends_on_the_step_alone(backend):
    loop = loop_of(BACKENDS[backend])
    first, again = loop.evaluate(3)[0], loop.evaluate(3)[0]
    assert first == again and len(set(first.returns)) == 3 and first.lengths == [20, 20, 20]
    loop.advance(1, never)
    assert loop.evaluate(3)[0].returns != first.returns
    loop.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_envs", [1, 4])
def test_parallel_environments_keep_the_ratio(backend, num_envs):
    loop = loop_of(BACKENDS[backend], AGENT.replace(updates_per_step=0.5), num_envs=num_envs)
    loop.advance(60, never)
    learning_steps = 60 * num_envs - 20
    assert int(loop.learner.counters.update) == learning_steps // 2
    loop.close()


@struct.dataclass
class CountingSAC(SAC):
    """SAC that counts how often its update is traced."""

    traces: ClassVar[int] = 0

    def update(self, state, batch, key):
        type(self).traces += 1
        return super().update(state, batch, key)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_step_is_traced_once(backend):
    """Neither step counts nor chunks nor numeric hyper-parameters compile anything anew."""
    CountingSAC.traces = 0
    step = host_step if backend == "host" else device_steps
    step.clear_cache()
    agent = CountingSAC(**{field.name: getattr(AGENT, field.name) for field in dataclasses.fields(AGENT)})
    first = loop_of(BACKENDS[backend], agent)
    first.advance(25, never)
    first.take_metrics()
    traced = CountingSAC.traces
    first.advance(40, never)
    first.take_metrics()
    first.advance(70, never)
    assert CountingSAC.traces == traced and step._cache_size() == 1
    changed = agent.replace(
        learning_rate=1e-3, discount=0.9, target_update_rate=0.1, initial_temperature=0.5, start_steps=10,
        updates_per_step=2.0, log_std_min=-5.0,
    )  # fmt: skip
    shapes_only = 1  # `make_learning` asks for the metrics' names without compiling
    second = loop_of(BACKENDS[backend], changed, total_steps=77, log_every=7)
    second.advance(33, never)
    assert CountingSAC.traces == traced + shapes_only and step._cache_size() == 1
    first.close(), second.close()


def test_nan_reward_stops_the_host_loop_with_step_and_culprit():
    loop = loop_of(functools.partial(HostPoint, fault_at=7), num_seeds=2)
    with pytest.raises(NonFiniteError, match=r"(?s)step 7.*reward"):
        loop.advance(30, never)
    loop.close()


def test_nan_reward_stops_the_device_loop_with_seed_step_and_culprit():
    loop = loop_of(Point(fault_at=7), num_seeds=2, num_envs=3)
    loop.advance(30, never)
    with pytest.raises(NonFiniteError, match="Seed 0, environment step 21: reward is NaN"):
        loop.check()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_loss_stops_with_step_and_culprit(backend):
    """A learning rate of 1e30 makes the first update's parameters infinite and the second update's loss NaN."""
    loop = loop_of(BACKENDS[backend], AGENT.replace(learning_rate=1e30))
    with pytest.raises(
        NonFiniteError, match=r"Seed 0, environment step 2[12].*: (critic|actor|temperature)/\w+ is NaN"
    ):
        loop.advance(40, never)
        loop.check()
    loop.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_ends_advancing(backend):
    loop = loop_of(BACKENDS[backend])
    loop.advance(50, lambda: True)
    assert loop.step == 0
    loop.close()


SHARDED = """
import sys, jax, numpy as np
sys.path.insert(0, {tests!r})
from test_loops import AGENT, BACKENDS, loop_of, never
assert len(jax.local_devices()) == {devices}
for name, env in BACKENDS.items():
    loop = loop_of(env, num_seeds=4)
    loop.advance(40, never), loop.take_metrics(), loop.advance(50, never)
    mesh = loop.learning.mesh
    assert (mesh.devices.size if mesh else 1) == {devices}
    outcomes = loop.evaluate(2)
    assert len(outcomes) == 4
    leaves = jax.tree.leaves((loop.learner.seeds.agent, loop.learner.seeds.rows))
    np.savez({out!r} + "/" + name + ".npz", *[np.asarray(leaf) for leaf in leaves])
"""


@pytest.mark.slow
def test_seeds_sharded_over_two_devices_equal_seeds_on_one(tmp_path):
    here = str(Path(__file__).parent)
    for devices in (1, 2):
        out = tmp_path / str(devices)
        out.mkdir()
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        path = os.pathsep.join([here, str(Path(here).parent), os.environ.get("PYTHONPATH", "")])
        code = SHARDED.format(tests=here, devices=devices, out=str(out))
        environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    for name in BACKENDS:
        one, two = np.load(tmp_path / "1" / f"{name}.npz"), np.load(tmp_path / "2" / f"{name}.npz")
        for key in one.files:
            np.testing.assert_allclose(one[key], two[key], rtol=1e-3, atol=1e-4)
