"""`train` and `resume`: what a run leaves, that resuming equals not stopping, and what faults say."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import threading
from types import SimpleNamespace
from typing import ClassVar

import jax
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, BACKENDS, NUM_ENVS
from environments import HostPoint, Point, host_point
from flax import struct
from support.seeds import learning_seed

from maxent_rl import RunConfig, load_policy, resume, train
from maxent_rl.agents import PPO, SAC, agent_name
from maxent_rl.agents.soft.sac_discrete import SACDiscrete
from maxent_rl.errors import (
    CheckpointError,
    IncompatibleEnvironmentError,
    InvalidSettingError,
    NonFiniteError,
    PolicyError,
    StorageError,
    UnknownNameError,
)
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.records import read_csv
from maxent_rl.storage.lock import only_one
from maxent_rl.training import runner
from maxent_rl.training.loops.plan import Schedule

AGENT = AGENTS_UNDER_TEST["sac"].agent.replace(replay_size=100)
SETTINGS = {
    "total_steps": 120, "eval_every": 40, "eval_episodes": 2, "checkpoint_every": 30, "log_every": 10, "num_seeds": 2,
    "num_envs": NUM_ENVS, "progress": False, "name": "run",
}  # fmt: skip
TIMING = {"seconds", "steps_per_second"}


def run(folder, env, agent=AGENT, **settings):
    return train(agent, env, output_dir=str(folder), **(SETTINGS | settings))


def go_on(folder, env, agent=AGENT, **settings):
    return resume(folder, agent=type(agent), env=env, progress=False, **settings)


def small(name):
    """The agent with a replay buffer of 100 rows, which wraps around in 120 steps."""
    agent = AGENTS_UNDER_TEST[name].agent
    return agent.replace(replay_size=100) if hasattr(agent, "replay_size") else agent


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run to the end."""

    name: str
    agent: object
    env: object
    result: object

    @property
    def row(self):
        return AGENTS_UNDER_TEST[self.name]


REPRESENTATIVES = {"sac-host", "sac-device", "ppo-host", "ppo-device"}
QUICK = {"sac-host", "ppo-device"}
RUNS = {f"{name}-{backend}": (name, backend) for name in AGENTS_UNDER_TEST for backend in BACKENDS}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            pair,
            id=key,
            marks=[pytest.mark.matrix] * (key not in REPRESENTATIVES) + [pytest.mark.slow] * (key not in QUICK),
        )
        for key, pair in RUNS.items()
    ],
)
def whole(request, tmp_path_factory):
    """A run to the end, of SAC and PPO on each kind of environment; with `-m matrix` of every agent that acts."""
    name, backend = request.param
    agent, env = small(name), AGENTS_UNDER_TEST[name].env(backend)
    return Whole(name, agent, env, run(tmp_path_factory.mktemp(f"{name}-{backend}"), env, agent))


def table(folder, name):
    rows = read_csv(folder / name)
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def assert_same_run(first, second):
    for name in ("metrics.csv", "eval.csv"):
        np.testing.assert_equal(table(first.folder, name), table(second.folder, name))
    for a, b in zip(jax.tree.leaves(first.states), jax.tree.leaves(second.states), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_leaves_its_files(whole):
    result = whole.result
    names = {path.name for path in result.folder.iterdir()}
    assert {"config.json", "metrics.csv", "eval.csv", "checkpoints", "policy", "learning_curve.png"} <= names
    assert {path.name for path in (result.folder / "policy").iterdir()} == {"arrays.npz", "policy.json"}
    assert not [path for path in result.folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".partial"}]
    assert not result.interrupted and result.step == 120


def test_config_names_settings_hyper_parameters_and_versions(whole):
    config = json.loads((whole.result.folder / "config.json").read_text())
    assert config["run"]["total_steps"] == 120 and config["run"]["agent"] == whole.name
    assert config["agent"]["hidden_sizes"] == list(whole.agent.hidden_sizes)
    assert {"jax", "gymnasium", "mujoco", "python"} <= set(config["versions"])


def test_tables_are_tidy(whole):
    folder = whole.result.folder
    metrics, evaluations = read_csv(folder / "metrics.csv"), read_csv(folder / "eval.csv")
    assert [(row["step"], row["seed"]) for row in metrics] == [(s, k) for s in range(10, 121, 10) for k in (0, 1)]
    assert [(row["step"], row["seed"]) for row in evaluations] == [(s, k) for s in (40, 80, 120) for k in (0, 1)]
    for row in evaluations:
        returns = [float(text) for text in row["returns"].split()]
        assert len(returns) == 2 and np.isclose(np.mean(returns), row["return_mean"])
        assert row["lengths"] == "20 20"
    last = metrics[-1]
    assert last["updates"] == whole.row.updates and np.isfinite(last["actor/entropy"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(whole.result.states))
    assert [row["episode/length"] for row in metrics if row["step"] % 40 == 0] == [20] * 6
    # A column that came late, with a number wherever there was an update.
    schedule = Schedule.create(whole.agent, Point().spec, NUM_ENVS)
    due = [int(schedule.updates_due(np.int32(step))) > 0 for step in range(1, 61)]
    expected = [any(due[first : first + 5]) for first in range(0, 60, 5)]
    assert [not np.isnan(row["critic/loss"]) for row in metrics if row["seed"] == 0] == expected and not expected[0]


@pytest.mark.slow
def test_the_policy_is_the_trained_one(whole):
    result, size = whole.result, () if whole.row.discrete else (2,)
    observation = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    for index in (0, 1):
        policy = load_policy(result.folder, seed=index)
        state = jax.tree.map(lambda leaf, index=index: leaf[index], result.states)
        expected = np.clip(whole.agent.mode(state, observation), *((0, 3) if whole.row.discrete else (-1, 1)))
        np.testing.assert_allclose(policy(observation), expected, rtol=1e-5, atol=1e-6)
        assert policy(observation[0]).shape == size and policy.step == 120
        assert np.abs(policy(observation, jax.random.key(0)) - policy(observation)).max() > 0


@pytest.mark.slow
def test_the_policy_can_be_evaluated_and_holds_nothing_that_only_learning_needs(whole):
    policy = load_policy(whole.result.folder, seed=1)
    outcome = evaluate_policy(policy, 2, env=whole.env)
    assert outcome.lengths == [20, 20] and outcome == evaluate_policy(policy, 2, env=whole.env)
    sampled = evaluate_policy(policy, 2, env=whole.env, stochastic=True)
    assert sampled.returns != outcome.returns
    with np.load(whole.result.folder / "policy" / "arrays.npz") as arrays:
        names = arrays.files
    assert names and not [name for name in names for part in whole.row.learning if part in name]


def test_checkpoints_keep_the_last_ones_and_the_best(whole):
    result = whole.result
    kept = sorted(int(path.name) for path in (result.folder / "checkpoints").iterdir() if path.name.isdigit())
    means = {step: np.mean([outcome.mean for outcome in outcomes]) for step, outcomes in result.evaluations}
    assert 120 in kept and max(means, key=means.get) in kept and len(kept) <= 3


@pytest.mark.parametrize("interrupt_at", [pytest.param(7, marks=pytest.mark.slow), 38])
def test_interrupt_and_resume_equal_not_stopping(whole, tmp_path, monkeypatch, interrupt_at):
    """For agents that learn from windows of ten vector steps, within one: the rest of it is in the checkpoint."""
    stop = threading.Event()

    make_loop = runner.make_loop

    def stopping(*arguments):
        loop = make_loop(*arguments)
        inner = loop.advance

        def advance(until, interrupted):
            inner(min(until, interrupt_at), interrupted)
            if loop.step == interrupt_at and not stop.is_set():
                stop.set()
                os.kill(os.getpid(), signal.SIGTERM)
            elif loop.step < until:
                inner(until, interrupted)

        loop.advance = advance
        return loop

    monkeypatch.setattr(runner, "make_loop", stopping)
    part = run(tmp_path, whole.env, whole.agent)
    assert part.interrupted and part.step == interrupt_at * NUM_ENVS
    rest = go_on(part.folder, whole.env, whole.agent)
    assert rest.step == 120 and not rest.interrupted
    assert_same_run(whole.result, rest)


@pytest.mark.slow
def test_resume_from_an_earlier_checkpoint_drops_what_came_after(whole, tmp_path):
    """As after a kill: rows were written that no checkpoint covers."""
    part = run(tmp_path, whole.env, whole.agent, total_steps=60)
    with open(part.folder / "metrics.csv", "a") as file:
        file.write("80,0,1.0,1.0,99\n100,0,3.")
    rest = go_on(part.folder, whole.env, whole.agent, total_steps=120)
    np.testing.assert_equal(table(whole.result.folder, "metrics.csv"), table(rest.folder, "metrics.csv"))
    assert_states_equal(whole.result, rest)


def assert_states_equal(first, second):
    for a, b in zip(jax.tree.leaves(first.states), jax.tree.leaves(second.states), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(whole):
    again = go_on(whole.result.folder, whole.env, whole.agent)
    assert_same_run(whole.result, again)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named(tmp_path):
    result = run(tmp_path, Point(), num_seeds=1)
    for path in (result.folder / "checkpoints" / "120").rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(b"damaged")
    with pytest.raises(
        CheckpointError,
        match=r"120 is missing or damaged.*of step 90 is whole: go on from it with --resume .* --from-step 90",
    ):
        go_on(result.folder, Point())


@pytest.mark.slow
def test_a_foreign_checkpoint_is_refused(tmp_path):
    result = run(tmp_path, Point(), num_seeds=1)
    config = json.loads((result.folder / "config.json").read_text())
    config["run"]["num_seeds"] = 2
    (result.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="another agent, environment or number of seeds"):
        go_on(result.folder, Point())


@pytest.mark.slow
def test_missing_replay_rows_are_named(tmp_path):
    result = run(tmp_path, Point(), num_seeds=1)
    for path in (result.folder / "checkpoints" / "replay").glob("*.npy"):
        path.unlink()
    with pytest.raises(CheckpointError, match="Replay rows"):
        go_on(result.folder, Point())


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="There is no run at"):
        resume(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match="There is no policy in"):
        load_policy(tmp_path)


@pytest.mark.slow
def test_a_damaged_policy_is_refused_and_nothing_is_executed(tmp_path):
    result = run(tmp_path, Point(), num_seeds=1, total_steps=20)
    arrays = result.folder / "policy" / "arrays.npz"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PolicyError, match="damaged"):
        load_policy(result.folder)
    np.savez(arrays, evil=np.array([print], dtype=object))
    with pytest.raises(PolicyError):
        load_policy(result.folder)
    with pytest.raises(InvalidSettingError, match=r"shape \(3,\); expected that of its observation space, \(2,\)"):
        arrays.write_bytes(whole)
        load_policy(result.folder)(np.zeros(3))


@pytest.mark.slow
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    class Late(Point):
        def step(self, state, action):
            state, observation, reward, terminated = super().step(state, action)
            return state, observation, jax.numpy.where(state[1] == 75, jax.numpy.nan, reward), terminated

    with pytest.raises(NonFiniteError, match=r"Seed 0, environment step 75: reward .* last good checkpoint .* 60 "):
        run(tmp_path, Late(horizon=1000), num_seeds=1, num_envs=1, eval_every=0)


@pytest.mark.slow
def test_the_sentence_of_a_run_that_learns_nothing_is_shown(tmp_path, capfd):
    run(tmp_path, Point(), total_steps=20, progress=True)
    assert "This run learns nothing in its 20 steps" in "".join(capfd.readouterr())


@pytest.mark.slow
def test_the_same_name_twice_is_refused(tmp_path):
    run(tmp_path, Point(), num_seeds=1, total_steps=20)
    with pytest.raises(StorageError, match="already holds a run"):
        run(tmp_path, Point(), num_seeds=1, total_steps=20)


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot make the folder"):
        run(tmp_path / "file", Point())


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maxent_rl.runs.checkpoints.np.save", full)
    with pytest.raises(StorageError, match=r"Cannot write the checkpoint of step 30 .*No space left on device"):
        run(tmp_path, Point(), num_seeds=1)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"total_steps": 0}, InvalidSettingError, "--total-steps must be at least 1, got 0"),
        ({"num_seeds": 0}, InvalidSettingError, "--num-seeds"),
        ({"num_envs": 500}, InvalidSettingError, "--total-steps"),
        ({"seed": -1}, InvalidSettingError, "--seed"),
        ({"device": "abacus"}, UnknownNameError, "abacus"),
        ({"nmu_seeds": 3}, UnknownNameError, "Did you mean 'num_seeds'"),
        ({"learning_rate": 3}, UnknownNameError, "Hyper-parameters belong to the agent"),
        ({"name": "../up"}, InvalidSettingError, "--name"),
        ({"backend": "spring"}, InvalidSettingError, "--backend"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, settings, error, words):
    with pytest.raises(error) as caught:
        run(tmp_path, host_point, **settings)
    assert words in str(caught.value)


@pytest.mark.slow
def test_a_buffer_larger_than_memory_is_refused(tmp_path):
    with pytest.raises(
        InvalidSettingError, match=r"takes at least .* of memory .*: it would fit with --replay-size at most"
    ):
        train(SAC(replay_size=10**12), Point(), output_dir=str(tmp_path), progress=False)


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'sac'"):
        train("sacc", "Pendulum")
    with pytest.raises(UnknownNameError, match="HalfCheetah"):
        train("sac", "Halfcheeta")


def test_what_is_no_environment_is_refused(tmp_path):
    for env, words in (
        (host_point(), "give a function that makes it"),
        (object(), "neither a function nor a device environment"),
    ):
        with pytest.raises(IncompatibleEnvironmentError, match=words):
            run(tmp_path, env)
    with pytest.raises(InvalidSettingError, match="--backend"):
        run(tmp_path, Point(), backend="spring")


def test_names_of_environments_and_agents_of_ones_own():
    assert runner._env_name(lambda: host_point()) == "custom"
    assert runner._env_name(functools.partial(host_point)) == "host_point"
    assert runner._env_name(Point()) == "Point"
    assert agent_name(SAC()) == "sac" and agent_name(type("SAC", (), {})()) == "custom-sac"


def test_agents_that_lack_what_the_loop_reads_are_refused(tmp_path):
    @struct.dataclass
    class Bare:
        batch_size: int = 3

    @struct.dataclass
    class Guessing(Bare):
        learns: ClassVar[str] = "guess"

    @struct.dataclass
    class Replaying(Bare):
        learns: ClassVar[str] = "replay"

    kinds = "one of 'replay', 'rollout', 'data', 'task'"
    for agent, words in (
        (Bare(), rf"Bare does not say what it learns from: give its class `learns: ClassVar\[str\]`, {kinds}\."),
        (Guessing(), f"{kinds}, got 'guess'."),
        (Replaying(), r"Replaying lacks replay_size, .* which the training loop reads of every off-policy agent."),
    ):
        with pytest.raises(InvalidSettingError, match=words):
            train(agent, Point(), output_dir=str(tmp_path), progress=False)
    with pytest.raises(InvalidSettingError, match=r"--hidden-sizes must be several values, got 8"):
        train(SAC(hidden_sizes=8), Point(), output_dir=str(tmp_path), progress=False)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return run(
        tmp_path_factory.mktemp("small"), Point(), num_seeds=1, num_envs=1, total_steps=4, eval_episodes=1
    ).folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda run: train(SAC, Point()), InvalidSettingError, "got the class SAC: write SAC()."),
        (lambda run: train(None, Point()), InvalidSettingError, "or a name, such as 'sac'; got None."),
        (lambda run: train(5, Point()), InvalidSettingError, "or a name, such as 'sac'; got 5."),
        (lambda run: train("Pendulum", "sac"), InvalidSettingError, "the agent first, then the environment"),
        (lambda run: train("sac", Point(), total_timesteps=5), UnknownNameError, "Did you mean 'total_steps'"),
        (lambda run: resume(5), InvalidSettingError, "Expected the path of a run's folder, got 5."),
        (lambda run: resume(None), InvalidSettingError, "Expected the path of a run's folder, got None."),
        (lambda run: resume(run), InvalidSettingError, "Point, which no name stands for: pass env=."),
        (lambda run: resume(run, agent=SAC()), InvalidSettingError, "got an instance: pass SAC."),
        (lambda run: resume(run, agent="sac"), InvalidSettingError, "agent= takes the agent's class"),
        (lambda run: resume(run, agent=PPO), InvalidSettingError, "one of the agent 'sac', not of PPO: leave agent= out."),
        (lambda run: resume(run, env=Point(), total_steps="x"), InvalidSettingError, "--total-steps must be a whole number"),
        (lambda run: load_policy(5), InvalidSettingError, "Expected the path of a run's folder, got 5."),
        (lambda run: load_policy(SimpleNamespace(folder=run)), InvalidSettingError, "pass its `folder`"),
        (lambda run: load_policy(run, agent=SAC()), InvalidSettingError, "got an instance: pass SAC."),
        (lambda run: load_policy(run, agent=PPO), InvalidSettingError, "not of PPO"),
        (lambda run: load_policy(run, variant="a"), InvalidSettingError, "variant= takes the number of a variant"),
        (lambda run: load_policy(run, seed="a"), InvalidSettingError, "has seeds [0], not a"),
        (lambda run: load_policy(run)(None), InvalidSettingError, "given NoneType as an observation; expected numbers"),
        (lambda run: load_policy(run)("x"), InvalidSettingError, "given str as an observation; expected numbers"),
        (lambda run: load_policy(run)([[1, 2], [3]]), InvalidSettingError, "given list as an observation; expected numbers"),
        (lambda run: load_policy(run)({"a": 1}), InvalidSettingError, "given dict as an observation; expected numbers"),
        (lambda run: load_policy(run)([1.0, np.nan]), NonFiniteError, "an observation whose entry 1 is NaN or infinite"),
        (lambda run: load_policy(run)([1.0, 2.0], 0), InvalidSettingError, "key= takes a random key"),
        (lambda run: evaluate_policy(run), InvalidSettingError, "Expected a policy, such as load_policy(FOLDER) gives"),
        (lambda run: evaluate_policy(load_policy(run)), InvalidSettingError, "which no name stands for: pass env=."),
        (lambda run: evaluate_policy(load_policy(run), 2.5, env=Point()), InvalidSettingError, "got 2.5 and 0"),
        (lambda run: evaluate_policy(load_policy(run), env=5), IncompatibleEnvironmentError, "int is neither a function"),
    ],
)  # fmt: skip
def test_what_is_passed_wrongly_is_one_sentence(small_run, call, error, words):
    with pytest.raises(error) as caught:
        call(small_run)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_agent_of_ones_own_goes_on_by_its_class_alone(tmp_path):
    @struct.dataclass
    class Mine(SAC):
        """SAC by another name."""

    result = run(tmp_path, Point(), Mine(**dataclasses.asdict(AGENT)), num_seeds=1, total_steps=4)
    with pytest.raises(UnknownNameError, match=r"Unknown agent 'mine'\. .*resume\(folder, agent=CLASS\)"):
        resume(result.folder, env=Point())
    with pytest.raises(InvalidSettingError, match="one of the agent 'mine', not of SAC"):
        resume(result.folder, agent=SAC, env=Point())
    assert resume(result.folder, agent=Mine, env=Point(), total_steps=6, progress=False).step == 6


@pytest.mark.slow
def test_values_in_other_types_are_taken_for_what_they_say(tmp_path):
    agent = AGENT.replace(
        batch_size=16.0, hidden_sizes=[8], learning_rate=np.float32(0.5), discount=jax.numpy.float32(0.5)
    )
    result = train(
        agent, Point(), output_dir=tmp_path, **(SETTINGS | {"total_steps": 4.0, "seed": np.int64(1), "num_seeds": 1})
    )
    config = json.loads((result.folder / "config.json").read_text())
    assert (config["run"]["total_steps"], config["run"]["seed"]) == (4, 1)
    assert {name: config["agent"][name] for name in ("batch_size", "hidden_sizes", "learning_rate", "discount")} == {
        "batch_size": 16, "hidden_sizes": [8], "learning_rate": 0.5, "discount": 0.5,
    }  # fmt: skip


class Failing(HostPoint):
    """Fails from its `at`-th step on, or as an episode starts."""

    def __init__(self, at):
        super().__init__()
        self.at, self.taken = at, 0

    def reset(self, *, seed=None, options=None):
        if self.at == 0:
            raise StorageError("the simulator does not start.")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.taken += 1
        if self.taken >= self.at:
            raise StorageError("the simulator has stopped.")
        return super().step(action)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "left"), [(0, False), (1, False), (9, False), (100, True)])
def test_a_start_that_fails_leaves_no_folder(tmp_path, at, left):
    """Rows are written every ten steps: what fails after them has something to keep. The door, too, takes some steps."""
    with pytest.raises(StorageError, match="the simulator"):
        run(
            tmp_path / "runs", functools.partial(Failing, at), num_seeds=1, num_envs=1, eval_every=0, checkpoint_every=0
        )
    assert (tmp_path / "runs").exists() == left


@pytest.mark.parametrize("name", ["Recorder", "Checkpoints", "Display"])
def test_nor_does_one_that_fails_once_the_folder_is_made(tmp_path, monkeypatch, name):
    def refuse(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, name, refuse)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "runs", Point())
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_without_a_terminal_one_is_told_what_is_compiled(tmp_path, capfd):
    run(tmp_path, Point(), num_seeds=1, total_steps=20, progress=True)
    told = capfd.readouterr().out.splitlines()
    assert told[0] == "sac on Point: 20 steps, seed 0"
    assert "compiling the training step (first run of these shapes)" in told and "playing the first evaluation" in told


def test_run_config_seeds():
    assert RunConfig(seed=3, num_seeds=2).seeds == (3, 4)


@pytest.mark.learning
@pytest.mark.usefixtures("optimised")
def test_pendulum_is_held_up_within_10k_steps(tmp_path):
    """Untrained and uniformly random policies get about -1,200. Over 8 seeds 10,000 steps lead to -150, with deviation 36."""
    agent = SAC(learning_rate=1e-3, hidden_sizes=(64, 64))
    settings = {"seed": learning_seed(), "output_dir": str(tmp_path), "progress": False}
    result = train(agent, "Pendulum", total_steps=10_000, **settings)
    assert result.evaluations[-1][1][0].mean >= -300


@pytest.mark.learning
@pytest.mark.usefixtures("optimised")
def test_discrete_sac_balances_the_pole_within_10k_steps(tmp_path):
    """500 is the most there is; untrained policies get less than 20. Over 8 seeds 10,000 steps lead to 431, deviation 33."""
    agent = SACDiscrete(
        hidden_sizes=(64, 64), batch_size=64, learning_rate=1e-3, start_steps=1_000, replay_size=10_000,
        target_entropy_share=0.89,
    )  # fmt: skip
    settings = {"seed": learning_seed(), "num_seeds": 2, "eval_every": 1_000, "progress": False}
    result = train(agent, "CartPole-v1", total_steps=10_000, output_dir=str(tmp_path), **settings)
    untrained, trained = ([outcome.mean for outcome in outcomes] for _, outcomes in result.evaluations[::9])
    assert max(untrained) < 50 and min(trained) > 300


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_gone_behind_to_the_same_numbers(whole, tmp_path):
    part = run(tmp_path, whole.env, whole.agent)
    (part.folder / "checkpoints" / "120" / "meta" / "metadata").write_text("{}")
    with pytest.raises(CheckpointError, match="of step 90 is whole"):
        go_on(part.folder, whole.env, whole.agent)
    with pytest.raises(CheckpointError, match=r"has checkpoints of the steps \[.*90, 120\], not of --from-step 100"):
        go_on(part.folder, whole.env, whole.agent, from_step=100)
    rest = go_on(part.folder, whole.env, whole.agent, from_step=90)
    assert (part.folder / "checkpoints-set-aside-1" / "120").is_dir()
    np.testing.assert_equal(table(whole.result.folder, "metrics.csv"), table(rest.folder, "metrics.csv"))
    assert_states_equal(whole.result, rest)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_in_its_own_folder_from_its_own_configuration(whole, tmp_path):
    """As after a kill before the first checkpoint: rows of tables and of replay are there already."""
    part = run(tmp_path, whole.env, whole.agent)
    for path in (part.folder / "checkpoints").iterdir():
        if path.name.isdigit():
            shutil.rmtree(path)
    rest = go_on(part.folder, whole.env, whole.agent)
    assert_same_run(whole.result, rest)


@pytest.mark.slow
def test_two_calls_do_not_run_one_run(tmp_path):
    part = run(tmp_path, Point(), num_seeds=1, total_steps=60)
    before = (part.folder / "metrics.csv").read_bytes()
    with only_one(part.folder / "run.lock", "It"), pytest.raises(StorageError, match="is being run by another process"):
        go_on(part.folder, Point(), total_steps=120)
    assert (part.folder / "metrics.csv").read_bytes() == before
    assert go_on(part.folder, Point(), total_steps=120).step == 120


@pytest.mark.slow
def test_stopped_at_once_says_what_is_safe(tmp_path, monkeypatch):
    part = run(tmp_path, Point(), num_seeds=1, total_steps=60)

    def impatient(self, until, interrupted):
        raise KeyboardInterrupt

    monkeypatch.setattr("maxent_rl.training.loops.device.DeviceLoop.advance", impatient)
    with pytest.raises(KeyboardInterrupt, match=r"step 60 is safe: go on with --resume .*run\."):
        go_on(part.folder, Point(), total_steps=120)
