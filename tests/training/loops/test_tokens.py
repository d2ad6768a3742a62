"""Training on token tasks: what a run leaves, seeds and variants as if alone, stopping and going on, faults, command lines."""

from __future__ import annotations

import json
import os
import re
import signal
import threading

import jax
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, NUM_RESPONSES, TOKEN_AGENTS_UNDER_TEST
from environments import Point
from support.devices import run_on_devices

from maxent_rl import RunConfig, load_policy, resume, train
from maxent_rl.envs import make_device
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, NonFiniteError
from maxent_rl.playing.evaluation import evaluate_policy
from maxent_rl.runs.records import read_csv
from maxent_rl.tokens.rollouts import examine
from maxent_rl.tokens.tasks import ModularAddition
from maxent_rl.training import runner
from maxent_rl.training.loops.make import learns_nothing, make_loop
from maxent_rl.training.loops.tokens import iterate

ENV, NAME = "tokens/modular-addition", "grpo"
# Seeds 0 and 1 leave their warm start at different iterations, the later one in WARM; of 20 in the run.
AGENT = TOKEN_AGENTS_UNDER_TEST[NAME].replace(
    objective_settings=("kl_weight=0.1",), learning_rate=1e-3, warm_start_learning_rate=1e-2, warm_start_loss=2.25,
    warm_start_steps=12 * NUM_RESPONSES,
)  # fmt: skip
ITERATIONS = 20
# To compare runs whose sums are rounded differently: there must be something to learn. Where all rewards are equal, the
# gradient of the KL divergence from a reference just taken is rounding alone, and Adam makes whole steps of that.
PLAIN = AGENT.replace(objective_settings=None, warm_start_loss=1.3, warm_start_steps=30 * NUM_RESPONSES)
EASY, COMPARED = TokenEnv(ModularAddition(10)), 30
SETTINGS = {
    "total_steps": ITERATIONS * NUM_RESPONSES, "eval_every": 5 * NUM_RESPONSES, "eval_episodes": 6, "num_seeds": 2,
    "checkpoint_every": 3 * NUM_RESPONSES, "log_every": 2 * NUM_RESPONSES, "num_envs": NUM_RESPONSES,
    "progress": False, "name": "run",
}  # fmt: skip
TIMING = {"seconds", "steps_per_second"}


def never():
    return False


def run(folder, agent=AGENT, env=ENV, **settings):
    return train(agent, env, output_dir=str(folder), **(SETTINGS | settings))


def loop_of(agent=AGENT, env=ENV, **settings):
    run = RunConfig(agent=NAME, env=ENV, **({"num_envs": NUM_RESPONSES, "num_seeds": 2} | settings))
    loop = make_loop(run, agent, env, jax.local_devices())
    loop.start()
    return loop


def compared(agent=PLAIN, **settings):
    """Learners, metrics and evaluations of runs that are to be compared."""
    loop = loop_of(agent, EASY, **settings)
    loop.advance(COMPARED, never)
    loop.check()
    return loop.learner.seeds.agent, loop.take_metrics(), loop.evaluate(6)


@pytest.fixture(autouse=True)
def same_programs():
    """The default device is part of what a program is compiled for: loops here share those of `train`, which sets it."""
    with jax.default_device(jax.local_devices()[0]):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def table(folder, name):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in read_csv(folder / name)]


def assert_same_run(first, second):
    for name in ("metrics.csv", "eval.csv"):
        np.testing.assert_equal(table(first.folder, name), table(second.folder, name))
    assert_same_arrays(first.states, second.states)


def assert_same_arrays(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def warm_iterations(states, iterations=ITERATIONS):
    """Iterations of each member's warm start: two optimiser steps each, where the others take four."""
    return ((4 * iterations - np.asarray(states.updates)) // 2).tolist()


@pytest.mark.slow
def test_a_run_leaves_its_files(whole):
    names = {path.name for path in whole.folder.iterdir()}
    pictures = {"learning_curve.png", "token_curves.png"}
    assert {"config.json", "metrics.csv", "eval.csv", "checkpoints", "policy"} | pictures <= names
    assert (whole.folder.parent.parent.name, whole.folder.parent.name) == ("tokens-modular-addition", "lm")
    config = json.loads((whole.folder / "config.json").read_text())
    assert config["run"]["env"] == ENV and config["agent"]["objective_settings"] == ["kl_weight=0.1"]
    assert whole.step == SETTINGS["total_steps"] and not whole.interrupted
    with np.load(whole.folder / "policy" / "arrays.npz") as arrays:
        assert arrays.files and all("params" in name for name in arrays.files)


@pytest.mark.slow
def test_tables_are_tidy(whole):
    metrics, evaluations = table(whole.folder, "metrics.csv"), table(whole.folder, "eval.csv")
    each = [(step * NUM_RESPONSES, seed) for step in range(2, 21, 2) for seed in (0, 1)]
    assert [(row["step"], row["seed"]) for row in metrics] == each
    assert [(row["step"], row["seed"]) for row in evaluations] == [(80 * n, k) for n in (1, 2, 3, 4) for k in (0, 1)]
    wanted = {"episode/return", "episode/length", "actor/entropy", "policy/clip_fraction_high", "policy/gradient_norm"}
    assert wanted | {"rollout/mixed_groups", "rollout/truncated", "supervised/loss"} <= set(metrics[0])
    for row in evaluations:
        assert {"return_mean", "pass@1", "pass@3", "entropy", "sampled_length", "distinct_answers"} <= set(row)
        assert 0 <= row["pass@1"] <= row["pass@3"] <= 1 and 0 < row["entropy"] < np.log(14)
        assert row["distinct_answers"] == row["pass@3"]  # there is one right answer
        assert len(row["returns"].split()) == 6 and 1 <= row["sampled_length"] <= 3
        assert row["lengths"].split() and set(row["lengths"].split()) <= {"1", "2", "3"}


@pytest.mark.slow
def test_each_seed_leaves_its_warm_start_at_its_own_iteration(whole):
    """Its rows then have what reinforcement measures; a mean of both kinds of iteration would be neither."""
    warm = warm_iterations(whole.states)
    assert warm[0] != warm[1] and min(warm) > 0 and max(warm) < ITERATIONS
    assert not whole.states.warm.any()
    for row in table(whole.folder, "metrics.csv"):
        left, done = warm[int(row["seed"])], row["step"] / NUM_RESPONSES
        assert np.isfinite(row["supervised/loss"]) == (done - 2 < left)
        assert np.isfinite(row["actor/entropy"]) == np.isfinite(row["episode/length"]) == (done > left)
        assert row["updates"] == 2 * done + 2 * max(done - left, 0)
        if done > left:
            assert 0 < row["actor/entropy"] < np.log(14) and 1 <= row["episode/length"] <= 3


@pytest.mark.slow
def test_the_policy_is_the_trained_one(whole):
    """And has the reward that the loop's evaluation finds on the same prompts."""
    task, key = make_device(ENV).task, jax.random.key(5)
    prompts, _ = task.prompts(jax.random.split(key)[0], 30, held_out=True)
    for seed in (0, 1):
        policy = load_policy(whole.folder, seed=seed)
        params = jax.tree.map(lambda leaf, seed=seed: leaf[seed], whole.states.params)
        assert_same_arrays(policy.state.params, params)
        responses = policy(np.asarray(prompts, np.float32))
        found = jax.jit(lambda params: examine(AGENT.model(params), task, key, 30, 3, AGENT.eval_samples))(params)
        mask = np.cumsum(responses == task.end_token, axis=1) - (responses == task.end_token) == 0
        np.testing.assert_array_equal(task.reward(prompts, responses, mask), found["reward"])
        np.testing.assert_array_equal(mask.sum(axis=1), found["length"])
        assert policy(prompts[0]).shape == (3,) and policy.spec.num_actions == 14
        outcome = evaluate_policy(policy, 5)
        assert outcome == evaluate_policy(policy, 5, env=make_device(ENV)) and outcome.lengths == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "interrupt_at",
    [
        pytest.param("in the warm start", marks=pytest.mark.slow),
        "in that of one seed",
        pytest.param("after it", marks=pytest.mark.slow),
    ],
)
def test_interrupt_and_resume_equal_not_stopping(whole, tmp_path, monkeypatch, interrupt_at):
    first, last = sorted(warm_iterations(whole.states))
    at = {"in the warm start": first - 1, "in that of one seed": first, "after it": last + 2}[interrupt_at]
    make, stopped = runner.make_loop, threading.Event()

    def stopping(*arguments):
        loop = make(*arguments)
        inner = loop.advance

        def advance(until, interrupted):
            inner(min(until, at) if loop.step < at else until, interrupted)
            if loop.step == at and not stopped.is_set():
                stopped.set()
                os.kill(os.getpid(), signal.SIGTERM)

        loop.advance = advance
        return loop

    monkeypatch.setattr(runner, "make_loop", stopping)
    part = run(tmp_path)
    assert part.interrupted and part.step == at * NUM_RESPONSES
    assert part.states.warm.sum() == {"in the warm start": 2, "in that of one seed": 1, "after it": 0}[interrupt_at]
    assert_same_run(whole, resume(part.folder, progress=False))


@pytest.mark.slow
def test_going_on_from_an_earlier_checkpoint_drops_what_came_after(whole, tmp_path):
    part = run(tmp_path, total_steps=4 * NUM_RESPONSES)
    with open(part.folder / "metrics.csv", "a") as file:
        file.write("96,0,1.0,1.0,99\n96,1,3.")
    rest = resume(part.folder, progress=False, total_steps=SETTINGS["total_steps"])
    np.testing.assert_equal(table(rest.folder, "metrics.csv"), table(whole.folder, "metrics.csv"))
    assert_same_arrays(rest.states, whole.states)


@pytest.mark.slow
def test_a_run_with_a_critic_goes_on_to_the_bit(tmp_path):
    """Cut where the critic learns alone; the policy of neither seed moves before it has, and then does."""
    agent = AGENT.replace(
        objective="vapo", warm_start_steps=3 * NUM_RESPONSES, critic_warm_start_steps=4 * NUM_RESPONSES
    )
    whole = run(tmp_path / "whole", agent, total_steps=10 * NUM_RESPONSES)
    part = run(tmp_path / "part", agent, total_steps=6 * NUM_RESPONSES)
    assert part.states.critic.waiting.tolist() == [NUM_RESPONSES] * 2
    assert_same_arrays(part.states.params, part.states.reference)
    rest = resume(part.folder, progress=False, total_steps=10 * NUM_RESPONSES)
    np.testing.assert_equal(table(rest.folder, "metrics.csv"), table(whole.folder, "metrics.csv"))
    assert_same_arrays(rest.states, whole.states)
    moved = jax.tree.map(
        lambda a, b: np.any(a != b, axis=tuple(range(1, a.ndim))), rest.states.params, part.states.params
    )
    assert np.all(np.any(jax.tree.leaves(moved), axis=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "words"),
    [("warm_start_learning_rate", r"(16|32|48): supervised/loss is NaN"), ("learning_rate", r"\d+: \w+/\w+ is NaN")],
)  # fmt: skip
def test_nan_stops_the_run_with_step_and_culprit_and_keeps_the_last_checkpoint(tmp_path, rate, words):
    settings = {"log_every": NUM_RESPONSES, "checkpoint_every": NUM_RESPONSES, "eval_every": 0}
    with pytest.raises(
        NonFiniteError, match=rf"^Seed [01], environment step {words} or infinite\. The last good"
    ) as caught:
        run(tmp_path, AGENT.replace(**{rate: 1e30}), **settings)
    fault, good = (int(step) for step in re.findall(r"step (\d+)", str(caught.value)))
    assert good == fault - NUM_RESPONSES
    folder = next(tmp_path.rglob("checkpoints"))
    assert good == max(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.mark.slow
def test_where_the_iterations_are_cut_changes_nothing_and_compiles_nothing():
    whole, pieces = loop_of(), loop_of(AGENT, total_steps=999, log_every=7)
    whole.advance(10, never)
    compiled = iterate._cache_size()
    for until in (1, 2, 7, 10):
        pieces.advance(until, never)
        first, again = pieces.evaluate(6), pieces.evaluate(6)
        pieces.take_metrics()
        assert first == again
    assert_same_arrays(whole.learner.seeds.agent, pieces.learner.seeds.agent)
    numbers = {"learning_rate": 3e-4, "warm_start_steps": 0, "temperature": 0.9, "top_p": 0.95, "weight_decay": 0.1}
    loop_of(AGENT.replace(**numbers)).advance(2, never)
    assert iterate._cache_size() == compiled


def assert_near(one, index, other):
    """Parameters alike in norm: Adam makes a rounded entry of a small gradient a whole step."""
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        assert np.linalg.norm(a[index] - b[0]) < 3e-3 * np.linalg.norm(b[0])


@pytest.mark.slow
def test_a_seed_alone_and_among_others():
    """Bit-equal start states and random numbers, nearly equal numbers after: a batch of seeds may be rounded differently."""
    many, alone = loop_of(PLAIN, EASY, num_seeds=3), loop_of(PLAIN, EASY, seed=1, num_seeds=1)
    for a, b in zip(jax.tree.leaves(many.learner.seeds.agent), jax.tree.leaves(alone.learner.seeds.agent), strict=True):
        np.testing.assert_array_equal(a[1], b[0])
    among, metrics, outcomes = compared(num_seeds=3)
    single, lone, outcome = compared(seed=1, num_seeds=1)
    warm = warm_iterations(among, COMPARED)
    assert len(set(warm)) > 1 and warm_iterations(single, COMPARED) == warm[1:2] and warm[1] < COMPARED - 5
    assert metrics[1]["episode/return"] > 0 and metrics[1] == pytest.approx(lone[0], rel=1e-3, abs=1e-4)
    assert_near(among, 1, single)
    assert outcomes[1].returns == outcome[0].returns and outcomes[1].extra == pytest.approx(outcome[0].extra, rel=1e-3)


# In both tests, which so share a compiled program.
VARIANTS = {"learning_rate": (1e-3, 1e-3, 2e-4), "warm_start_loss": (1.3, 1.3, 1.6), "temperature": (1.0, 1.0, 0.9)}


@pytest.mark.slow
def test_a_variant_alone_and_among_others():
    """Also where it ends the warm start; of equal variants all is equal to the bit."""
    among, metrics, outcomes = compared(variants=VARIANTS)
    for leaf in jax.tree.leaves(among):
        np.testing.assert_array_equal(np.asarray(leaf)[:2], np.asarray(leaf)[2:4])
    assert metrics[:2] == metrics[2:4] and outcomes[:2] == outcomes[2:4]
    alone, lone, _ = compared(PLAIN.replace(**{name: v[2] for name, v in VARIANTS.items()}), seed=1, num_seeds=1)
    warm = warm_iterations(among, COMPARED)
    assert len(set(warm)) > 2 and warm[5:] == warm_iterations(alone, COMPARED) and metrics[5]["episode/return"] > 0
    assert_near(among, 5, alone)
    for name in ("supervised/loss", "episode/return", "episode/length", "actor/entropy", "updates"):
        assert metrics[5][name] == pytest.approx(lone[0][name], rel=1e-3)


@pytest.mark.slow
def test_a_run_of_variants_is_recorded_exported_and_goes_on(tmp_path):
    settings = {"variants": VARIANTS | {"warm_start_loss": (2.25, 2.4, 2.3)}}
    whole = run(tmp_path / "whole", PLAIN, EASY, **settings)
    part = run(tmp_path / "part", PLAIN, EASY, **settings, total_steps=7 * NUM_RESPONSES, checkpoint_every=0)
    rest = resume(part.folder, env=EASY, progress=False, total_steps=SETTINGS["total_steps"])
    assert_same_arrays(rest.states, whole.states)
    assert list(read_csv(whole.folder / "eval.csv")[0])[:5] == ["step", "seed", *settings["variants"]]
    policy = load_policy(whole.folder, seed=1, variant=1)
    assert_same_arrays(policy.state.params, jax.tree.map(lambda leaf: leaf[3], whole.states.params))
    assert (whole.folder / "token_curves.png").stat().st_size > 20_000


SHARDED = """
import jax, numpy as np
from test_tokens import COMPARED, EASY, PLAIN, loop_of, never

def run(devices):
    loop = loop_of(PLAIN, EASY, num_seeds=4)
    loop.advance(6, never), loop.take_metrics(), loop.advance(COMPARED, never), loop.check()
    assert (loop.learning.mesh.devices.size if loop.learning.mesh else 1) == devices
    leaves = jax.tree.leaves(loop.learner.seeds.agent.params)
    found = {f"leaf{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
    for name in ("step", "update"):
        counter = getattr(loop.learner.counters, name)
        assert {int(np.asarray(shard.data)) for shard in counter.addressable_shards} == {COMPARED}
    found["evaluated"] = np.array([outcome.extra["entropy"] for outcome in loop.evaluate(4)])
    found["rows"] = np.array([[row["actor/entropy"], row["updates"]] for row in loop.take_metrics()])
    return found
"""


@pytest.mark.slow
def test_seeds_on_two_devices_equal_seeds_on_one(tmp_path):
    """One device may still have a seed in its warm start when the other has none."""
    one, two = run_on_devices(__file__, SHARDED, (1, 2), tmp_path)
    assert one.keys() == two.keys()
    for name in one:
        assert np.linalg.norm(two[name] - one[name]) <= 3e-3 * np.linalg.norm(one[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "total", "words"),
    [
        ({"warm_start_steps": 100}, 112, r"^This run's 112 steps may all be warm start, which lasts up to 100 steps "),
        ({"warm_start_steps": 100}, 113, None),
        ({"warm_start_steps": 10**6, "warm_start_loss": 0.5}, 320, r"falls to 0\.5 before: raise --total-steps or lower "),
        ({"warm_start_steps": 0}, 16, None),
    ],
)  # fmt: skip
def test_a_run_that_ends_within_its_warm_start_says_so(settings, total, words):
    agent, learning = AGENT.replace(**settings), loop_of().learning
    found = learns_nothing(RunConfig(agent=NAME, env=ENV, total_steps=total, num_envs=NUM_RESPONSES), agent, learning)
    assert found is None if words is None else re.search(words, found)
    varied = RunConfig(agent=NAME, env=ENV, total_steps=96, num_envs=16, variants={"warm_start_steps": (16, 96)})
    assert "up to 96 steps" in learns_nothing(varied, agent, learning)


@pytest.mark.slow
def test_what_cannot_be_trained_is_refused(tmp_path):
    for settings, error, words in (
        ({"env": Point()}, IncompatibleEnvironmentError, "Point is no task of tokens: use one such as"),
        ({"agent": AGENTS_UNDER_TEST["sac"].agent}, IncompatibleEnvironmentError, "sequences of 3 tokens; use --agent lm"),
        ({"num_envs": 18}, InvalidSettingError, "--num-envs 18, the responses of an iteration, must be a multiple"),
        ({"backend": "spring"}, InvalidSettingError, "--backend"),
        ({"env": make_device(ENV), "backend": "spring"}, InvalidSettingError, "--backend"),
        ({"variants": {"num_layers": (1, 2)}}, InvalidSettingError, "--num-layers cannot vary within a run"),
        ({"variants": {"temperature": (1.0, 0.0)}}, InvalidSettingError, "--temperature must be greater than 0"),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            run(tmp_path, **settings)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InvalidSettingError, match=r"--batch-devices 2 .* raise --num-seeds instead"):
        make_loop(RunConfig(agent=NAME, env=ENV, num_envs=16, batch_devices=2), AGENT, ENV, jax.local_devices() * 2)
