"""Both loops that act: episode boundaries, seeds, faults, tracing, sharding; where values are known.

SAC and PPO stand for their kinds; with `-m matrix` every other agent too.
"""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, BACKENDS, NUM_ENVS, every_agent
from environments import HostPoint, Point
from flax import struct
from support.devices import run_on_devices

from maxent_rl.errors import NonFiniteError
from maxent_rl.runs.config import RunConfig
from maxent_rl.seeds.variants import can_vary
from maxent_rl.training.loops.device import device_steps
from maxent_rl.training.loops.host import host_step
from maxent_rl.training.loops.learner import make_learning
from maxent_rl.training.loops.make import learns_nothing, make_loop

SAC = AGENTS_UNDER_TEST["sac"].agent
# Both kinds in both loops, and the other places where a target is written in one of them.
CHOSEN = {*itertools.product(("sac", "ppo"), BACKENDS), ("sac-discrete", "host"), ("dqn-online", "host")}
BOOTSTRAPPING = [
    pytest.param(*case, marks=[pytest.mark.matrix] * (case not in CHOSEN))
    for case in itertools.product(AGENTS_UNDER_TEST, BACKENDS)
]


def never():
    return False


def loop_of(env, agent=SAC, **settings):
    """A loop, begun; two environments of one seed unless said otherwise."""
    loop = make_loop(RunConfig(env="test", **({"num_envs": NUM_ENVS} | settings)), agent, env, jax.local_devices())
    loop.start()
    return loop


def loop_for(name, backend, **settings):
    row = AGENTS_UNDER_TEST[name]
    return loop_of(row.env(backend), row.agent, **settings)


def agents_of(*loops):
    return zip(*(jax.tree.leaves(loop.learner.seeds.agent) for loop in loops), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("terminates", [True, False], ids=["terminated", "truncated"])
@pytest.mark.parametrize(("name", "backend"), BOOTSTRAPPING)
def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not(name, backend, terminates):
    """Every step pays 1 and ends the episode; with discount 1/2 the value is 1 by termination, 2 by truncation."""
    row = AGENTS_UNDER_TEST[name]
    agent = row.agent.replace(**row.probe)
    loop = loop_of(row.one_step(backend, terminates), agent, num_envs=1)
    loop.advance(600, never)
    loop.check()
    state = jax.tree.map(lambda leaf: leaf[0], loop.learner.seeds.agent)
    np.testing.assert_allclose(row.values(agent, state, jnp.zeros((9, 1))), 1.0 if terminates else 2.0, atol=0.15)
    assert loop.take_metrics()[0]["episode/length"] == 1
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_where_environments_cannot_be_saved_the_episodes_before_end_at_the_seam(name):
    """What a resumed run learns from must not reach out of one episode into the next."""
    loop = loop_for(name, "host")
    loop.advance(5, never)
    rows = jnp.array(loop.learner.seeds.rows)
    assert not loop.set_state(loop.get_state(), None, rows, 5)
    found = loop.learning.layout.unpack(loop.learner.seeds.rows[0])
    inserted = 5 * NUM_ENVS
    np.testing.assert_array_equal(
        np.asarray(found.truncated)[:inserted], [0.0] * (inserted - NUM_ENVS) + [1.0] * NUM_ENVS
    )
    np.testing.assert_array_equal(np.asarray(loop.learner.seeds.rows)[..., :-1], np.asarray(rows)[..., :-1])
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [("sac", "host"), ("sac", "device"), ("pmoe", "device"), ("sac-discrete", "host")]
)
def test_learns_the_point(name, backend):
    """Driving to the origin from a distance of up to 1: about -4 at best, -13 untrained, over 20 steps.

    By discrete SAC -2.3 with deviation 0.4 over 20 seeds, untrained -39 with deviation 12, and -17 at best.
    """
    row = AGENTS_UNDER_TEST[name]
    agent = row.agent.replace(hidden_sizes=(32, 32), learning_rate=3e-3, replay_size=2_000)
    loop = loop_of(row.env(backend), agent, num_seeds=2, num_envs=1)
    before = [outcome.mean for outcome in loop.evaluate(20)]
    loop.advance(1_000, never)
    after = [outcome.mean for outcome in loop.evaluate(20)]
    assert max(before) < -7 and min(after) > -5
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac", "ppo")
def test_a_seed_alone_and_among_others(name, backend):
    """Bit-equal start states, actions and rows while actions are uniform; nearly equal parameters after.

    An agent that acts by its policy from the start has bit-equal start states, and rows up to rounding. Eight seeds side by
    side are those of `test_seeds.py`.
    """
    many, alone = loop_for(name, backend, num_seeds=2), loop_for(name, backend, seed=1)
    for loop in (many, alone):
        loop.advance(10, never)
    rows, other = np.asarray(many.learner.seeds.rows), np.asarray(alone.learner.seeds.rows)
    uniform = int(many._schedule.start) > 0
    near = np.testing.assert_array_equal if uniform else functools.partial(np.testing.assert_allclose, atol=1e-5)
    near(rows[1, :20], other[0, :20])
    np.testing.assert_array_equal(rows[1, :NUM_ENVS, :2], other[0, :NUM_ENVS, :2])  # observations of the first step
    assert not np.array_equal(rows[0, :NUM_ENVS, :2], rows[1, :NUM_ENVS, :2])
    for loop in (many, alone):
        loop.advance(20, never)
    for a, b in agents_of(many, alone):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-3, atol=1e-4)
    many.close(), alone.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac", "ppo")
def test_where_the_steps_are_cut_changes_nothing_and_neither_does_evaluating(name, backend):
    """Logging, evaluating and saving happen between chunks: 35 steps at once equal 35 steps in pieces.

    An evaluation depends on the step alone.
    """
    whole, pieces = loop_for(name, backend), loop_for(name, backend)
    whole.advance(35, never)
    first, again = pieces.evaluate(3)[0], pieces.evaluate(3)[0]
    assert first == again and len(set(first.returns)) == 3 and first.lengths == [20, 20, 20]
    metrics = []
    for until in (1, 10, 11, 29, 35):
        pieces.advance(until, never)
        metrics.append(pieces.take_metrics()[0])
        outcome = pieces.evaluate(3)[0]
        assert until > 1 or outcome.returns != first.returns
    for a, b in agents_of(whole, pieces):
        np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(whole.learner.seeds.agent))
    assert {*AGENTS_UNDER_TEST[name].metrics, "episode/return"} <= set(metrics[-2])
    assert all(np.isfinite(value) for value in metrics[-2].values())
    whole.check(), pieces.check()
    whole.close(), pieces.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_parallel_environments_keep_the_ratio(backend):
    """The two of other tests here, whose program this shares: the ratio is a number."""
    row = AGENTS_UNDER_TEST["sac"]
    loop = loop_of(row.env(backend), row.agent.replace(updates_per_step=0.5))
    loop.advance(60, never)
    learning_steps = 60 * NUM_ENVS - 20
    assert int(loop.learner.counters.update) == learning_steps // 2
    loop.close()


def counting(agent):
    """The agent, and a list that grows whenever its update is traced."""
    traces = []

    @struct.dataclass
    class Counting(type(agent)):
        def update(self, state, batch, key):
            traces.append(batch)
            return super().update(state, batch, key)

    return Counting(**vars(agent)), traces


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac")
def test_the_step_is_traced_once(name, backend):
    """Neither step counts nor chunks nor numeric hyper-parameters compile anything anew."""
    row = AGENTS_UNDER_TEST[name]
    step = host_step if backend == "host" else device_steps
    agent, traces = counting(row.agent)
    compiled = step._cache_size()
    first = loop_of(row.env(backend), agent)
    first.advance(15, never)
    first.take_metrics()
    traced = len(traces)
    first.advance(20, never)
    first.take_metrics()
    first.advance(35, never)
    assert len(traces) == traced and step._cache_size() == compiled + 1
    values = {field: getattr(agent, field) for field in can_vary(agent)}
    changed = {
        field: value + 1 if isinstance(value, int) else 0.9 * value + 0.01
        for field, value in values.items()
        if value is not None
    }
    assert {"learning_rate", "discount"} <= set(changed)
    if hasattr(agent, "start_steps"):
        changed |= {"start_steps": 10, "updates_per_step": 2.0}
    shapes_only = 1  # `make_learning` asks for the metrics' names without compiling
    second = loop_of(row.env(backend), agent.replace(**changed), total_steps=77, log_every=7)
    second.advance(17, never)
    assert len(traces) == traced + shapes_only and step._cache_size() == compiled + 1
    first.close(), second.close()


@pytest.mark.slow
def test_nan_reward_stops_the_host_loop_with_step_and_culprit():
    loop = loop_of(functools.partial(HostPoint, fault_at=7), num_seeds=2, num_envs=1)
    with pytest.raises(NonFiniteError, match=r"(?s)step 7.*reward"):
        loop.advance(30, never)
    loop.close()


@pytest.mark.slow
def test_nan_reward_stops_the_device_loop_with_seed_step_and_culprit():
    loop = loop_of(Point(fault_at=7), num_seeds=2, num_envs=3)
    loop.advance(30, never)
    with pytest.raises(NonFiniteError, match="Seed 0, environment step 21: reward is NaN"):
        loop.check()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("ppo")
def test_nan_reward_stops_every_agent_with_step_and_culprit(name, backend):
    row = AGENTS_UNDER_TEST[name]
    loop = loop_of(row.env(backend, fault_at=7), row.agent, num_seeds=2)
    with pytest.raises(NonFiniteError, match=r"(?si)environment step 14.*reward"):
        loop.advance(30, never)
        loop.check()
    loop.close()


@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac", "ppo")
def test_nan_loss_stops_with_step_and_culprit(name, backend):
    """A learning rate of 1e30 makes the first step's parameters infinite or huge, and the next losses NaN or infinite."""
    row = AGENTS_UNDER_TEST[name]
    loop = loop_of(row.env(backend), row.agent.replace(learning_rate=1e30))
    with pytest.raises(
        NonFiniteError, match=r"Seed 0, environment step 2[024].*: (critic|actor|temperature|router)/\w+ is NaN"
    ):
        loop.advance(20, never)
        loop.check()
    loop.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupt_ends_advancing(backend):
    loop = loop_for("sac", backend)
    loop.advance(25, lambda: True)
    assert loop.step == 0
    loop.close()


@pytest.mark.parametrize(
    ("name", "total_steps", "settings", "words"),
    [
        ("sac", 20, {}, r"20 steps, as the first update is due at step 22: .* lower --start-steps"),
        ("sac", 21, {}, None),
        ("sac", 199, {"start_steps": None}, r"first update is due at step 202:"),
        ("sac", 50, {"updates_per_step": 0.01}, r"first update is due at step 120:"),
        ("ppo", 18, {}, r"18 steps, as the first update is due at step 20: .* lower --rollout-size"),
        ("ppo", 20, {}, None),
    ],
)
def test_a_run_that_ends_before_it_learns_says_so(name, total_steps, settings, words):
    """3,000 steps on CartPole, with the default start of ten episodes, gave the score of an untrained policy as a result."""
    agent, spec = (
        AGENTS_UNDER_TEST[name].agent.replace(**settings),
        dataclasses.replace(Point().spec, num_envs=NUM_ENVS),
    )
    learning = make_learning(agent, spec, NUM_ENVS)
    sentence = learns_nothing(RunConfig(total_steps=total_steps, num_envs=NUM_ENVS), agent, learning)
    assert (sentence is None) if words is None else re.search(words, sentence)


SHARDED = """
import jax, numpy as np
from test_loops import BACKENDS, loop_for, never

def run(devices):
    found = {}
    for backend in BACKENDS:
        loop = loop_for(NAME, backend, num_seeds=4)
        loop.advance(14, never), loop.take_metrics(), loop.advance(20, never), loop.check()
        mesh = loop.learning.mesh
        assert (mesh.devices.size if mesh else 1) == devices
        outcomes = loop.evaluate(2)
        assert len(outcomes) == 4
        leaves = jax.tree.leaves((loop.learner.seeds.agent, loop.learner.seeds.rows))
        found |= {f"{backend}{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
    return found
"""


@pytest.mark.slow
@every_agent("sac", "ppo")
def test_seeds_sharded_over_two_devices_equal_seeds_on_one(tmp_path, name):
    one, two = run_on_devices(__file__, f"NAME = {name!r}\n{SHARDED}", (1, 2), tmp_path)
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_allclose(one[key], two[key], rtol=1e-3, atol=1e-4, err_msg=key)
