"""The loop over fixed data: seeds, chunks, resuming, variants, devices, and faults.

Few agents stand for the kinds of data; with `-m matrix` every other agent too.
"""

import json

import jax
import numpy as np
import pytest
from agents_under_test import BACKENDS, NUM_ENVS, OFFLINE_AGENTS_UNDER_TEST, every_offline_agent
from environments import Point
from support.devices import run_on_devices

from maxent_rl import load_policy, resume, train
from maxent_rl.errors import CheckpointError, InvalidSettingError, NonFiniteError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.records import read_csv
from maxent_rl.sources.load import load_data
from maxent_rl.training.loops.make import make_loop

SETTINGS = {
    "total_steps": 40, "eval_every": 20, "eval_episodes": 2, "checkpoint_every": 15, "log_every": 10, "num_seeds": 2,
    "progress": False, "name": "run",
}  # fmt: skip
TIMING = {"seconds", "steps_per_second"}

# One that begins from the data and has phases, and one of many that learn from transitions: for tests of the loop's own work.
REPRESENTATIVES = ("cpl", "dqn")
KINDS = (*REPRESENTATIVES, "adpo", "dt")  # one for each kind of data: preferences, transitions, candidates, windows


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """For each agent that is asked for, the settings of a run that say where its data is."""

    class Sources(dict):
        def __missing__(self, name):
            row = OFFLINE_AGENTS_UNDER_TEST[name]
            self[name] = {row.source: row.make(tmp_path_factory.mktemp(name))}
            return self[name]

    return Sources()


@pytest.fixture(autouse=True)
def same_programs():
    """The default device is part of what a program is compiled for: loops here share those of `train`, which sets it."""
    with jax.default_device(jax.local_devices()[0]):
        yield


def never():
    return False


def loop_for(name, source, env="device", agent=None, **settings):
    row = OFFLINE_AGENTS_UNDER_TEST[name]
    run = RunConfig(agent=name, env=row.env_name, **source, **settings)
    return make_loop(run, agent or row.agent, row.env(env), jax.local_devices(), load=load_data)


def run(folder, name, source, agent=None, env="device", **settings):
    row = OFFLINE_AGENTS_UNDER_TEST[name]
    return train(agent or row.agent, row.env(env), output_dir=str(folder), **source, **(SETTINGS | settings))


def table(folder, name):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in read_csv(folder / name)]


def assert_same_states(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@every_offline_agent(*KINDS)
def test_a_seed_alone_learns_what_it_learns_among_others_and_chunks_change_nothing(name, sources):
    """Alone, or first among others than before: in the same program, which is compiled once."""
    count = 1 if name in REPRESENTATIVES else 2
    many, alone = (
        loop_for(name, sources[name], **each) for each in ({"num_seeds": 2}, {"seed": 1, "num_seeds": count})
    )
    many.advance(30, never)
    for until in (1, 7, 30):
        alone.advance(until, never)
        found = alone.evaluate(2)
        assert alone.evaluate(2) == found
    for a, b in zip(jax.tree.leaves(many.learner.seeds.agent), jax.tree.leaves(alone.learner.seeds.agent), strict=True):
        np.testing.assert_allclose(np.asarray(a)[1], np.asarray(b)[0], rtol=1e-4, atol=1e-5)
    for key, value in many.evaluate(2)[1].extra.items():
        assert alone.evaluate(2)[0].extra[key] == pytest.approx(value, rel=1e-3, abs=1e-4)
    metrics = many.take_metrics()
    assert len(metrics) == 2 and all(np.isfinite(value) for row in metrics for value in row.values())


@pytest.mark.slow
@every_offline_agent(*REPRESENTATIVES)
def test_a_run_that_is_stopped_and_resumed_equals_one_that_is_not(tmp_path, name, sources):
    agent, env = OFFLINE_AGENTS_UNDER_TEST[name].agent, OFFLINE_AGENTS_UNDER_TEST[name].env("device")
    whole = run(tmp_path / "whole", name, sources[name])
    part = run(tmp_path / "part", name, sources[name], total_steps=25)
    resumed = resume(part.folder, total_steps=40, agent=type(agent), env=env, progress=False)
    assert_same_states(whole.states, resumed.states)
    assert table(whole.folder, "metrics.csv")[-2:] == table(resumed.folder, "metrics.csv")[-2:]
    assert table(whole.folder, "eval.csv")[-2:] == table(resumed.folder, "eval.csv")[-2:]


@pytest.mark.slow
@pytest.mark.parametrize("env", BACKENDS)
@every_offline_agent(*REPRESENTATIVES)
def test_a_run_leaves_a_policy_that_plays_as_the_last_evaluation_did(tmp_path, name, env, sources):
    result = run(tmp_path, name, sources[name], env=env)
    rows = table(result.folder, "eval.csv")
    assert [row["step"] for row in rows] == [20, 20, 40, 40] and np.isfinite(rows[-1]["return_mean"])
    assert (result.folder / "learning_curve.png").stat().st_size > 10_000
    policy = load_policy(result.folder, seed=1, agent=type(OFFLINE_AGENTS_UNDER_TEST[name].agent))
    arrays = np.load(result.folder / "policy" / "arrays.npz").files
    assert not [key for key in arrays for word in OFFLINE_AGENTS_UNDER_TEST[name].learning if word in key]
    row = OFFLINE_AGENTS_UNDER_TEST[name]
    assert np.shape(policy(np.zeros((5, 2)))) == ((5,) if row.discrete else (5, 2))
    assert np.isfinite(evaluate_policy(policy, 2, env=row.env(env)).mean)


@pytest.mark.slow
@every_offline_agent(*REPRESENTATIVES)
def test_variants_are_what_they_would_be_alone(name, sources):
    agent, rates = OFFLINE_AGENTS_UNDER_TEST[name].agent, (1e-3, 1e-2)
    together = loop_for(name, sources[name], variants={"learning_rate": rates})
    together.advance(20, never)
    for index, rate in enumerate(rates):
        alone = loop_for(name, sources[name], agent=agent.replace(learning_rate=rate))
        alone.advance(20, never)
        pairs = zip(*(jax.tree.leaves(loop.learner.seeds.agent) for loop in (together, alone)), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(np.asarray(a)[index], np.asarray(b)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every_offline_agent(*REPRESENTATIVES)
def test_nan_stops_the_run_with_step_and_culprit(name, sources):
    agent = OFFLINE_AGENTS_UNDER_TEST[name].agent.replace(learning_rate=1e30)
    loop = loop_for(name, sources[name], agent=agent)
    with pytest.raises(NonFiniteError, match=r"Seed 0, environment step [1-5]: [\w/]+ is NaN or infinite"):
        loop.advance(20, never)
        loop.check()


@pytest.mark.slow
def test_an_interrupt_ends_advancing(sources):
    loop = loop_for("adpo", sources["adpo"])
    loop.advance(25, lambda: True)
    assert loop.step == 0


@every_offline_agent(*REPRESENTATIVES)
def test_environments_side_by_side_are_refused(name, sources):
    with pytest.raises(InvalidSettingError, match="learns from fixed data and steps no environments"):
        loop_for(name, sources[name], num_envs=NUM_ENVS)


@every_offline_agent(*REPRESENTATIVES)
def test_without_its_data_the_flag_is_named_and_another_agent_refuses_it(name, sources):
    flag = f"--{OFFLINE_AGENTS_UNDER_TEST[name].source}"
    with pytest.raises(InvalidSettingError, match=f"--agent {name} learns from .*: pass {flag}"):
        loop_for(name, {})
    with pytest.raises(InvalidSettingError, match=f"--agent sac reads no {flag}"):
        train("sac", Point(), progress=False, **sources[name])


def test_without_its_data_an_agent_says_which_one_acts():
    with pytest.raises(InvalidSettingError, match="pass --dataset PATH; --agent dqn-online learns by acting"):
        loop_for("dqn", {})
    with pytest.raises(InvalidSettingError, match=r"pass --dataset PATH\.$"):
        loop_for("cql-discrete", {})


@pytest.mark.slow
@every_offline_agent(*REPRESENTATIVES)
def test_a_run_does_not_go_on_with_other_data(tmp_path, name, sources):
    row = OFFLINE_AGENTS_UNDER_TEST[name]
    result = run(tmp_path, name, sources[name], total_steps=20)
    config = json.loads((result.folder / "config.json").read_text())
    other = row.make(tmp_path / "other", seed=5)
    config["run"][row.source] = other
    (result.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="data is not what this run was trained on"):
        resume(result.folder, total_steps=40, agent=type(row.agent), env=row.env("device"), progress=False)


SHARDED = """
import jax, numpy as np
from agents_under_test import OFFLINE_AGENTS_UNDER_TEST
from test_offline import loop_for, never

def run(devices):
    loop = loop_for(NAME, {OFFLINE_AGENTS_UNDER_TEST[NAME].source: VALUE}, num_seeds=4)
    loop.advance(14, never), loop.take_metrics(), loop.advance(20, never), loop.check()
    mesh = loop.learning.mesh
    assert (mesh.devices.size if mesh else 1) == devices
    assert len(loop.evaluate(2)) == 4
    leaves = jax.tree.leaves(loop.learner.seeds.agent)
    return {str(index): np.asarray(leaf) for index, leaf in enumerate(leaves)}
"""


@pytest.mark.slow
@every_offline_agent("dqn")
def test_seeds_sharded_over_two_devices_equal_seeds_on_one(tmp_path, name, sources):
    (value,) = sources[name].values()
    one, two = run_on_devices(__file__, f"NAME, VALUE = {name!r}, {value!r}\n{SHARDED}", (1, 2), tmp_path)
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_allclose(one[key], two[key], rtol=1e-3, atol=1e-4, err_msg=key)
