"""Variants of hyper-parameters side by side in one program: each is the run that it would be alone."""

import json

import jax
import numpy as np
import pytest
from agents_under_test import AGENTS_UNDER_TEST, BACKENDS, NUM_ENVS, every_agent
from environments import HostPoint, Point
from flax import struct

from maxent_rl import RunConfig, load_policy, resume, train
from maxent_rl.agents import SAC
from maxent_rl.errors import CheckpointError, InvalidSettingError, NonFiniteError, UnknownNameError
from maxent_rl.runs.records import read_csv
from maxent_rl.training.loops.device import device_steps
from maxent_rl.training.loops.host import host_step
from maxent_rl.training.loops.make import make_loop

AGENT = AGENTS_UNDER_TEST["sac"].agent
# Two numbers of three variants in all tests, which so share compiled programs.
VARIANTS = {"learning_rate": (1e-3, 3e-4, 3e-4), "discount": (0.99, 0.99, 0.9)}
SETTINGS = {
    "total_steps": 120, "eval_every": 40, "eval_episodes": 2, "checkpoint_every": 30, "log_every": 20, "num_seeds": 2,
    "num_envs": NUM_ENVS, "progress": False, "name": "run",
}  # fmt: skip


def never():
    return False


@pytest.fixture(autouse=True)
def same_programs():
    """The default device is part of what a program is compiled for: loops here share those of `train`, which sets it."""
    with jax.default_device(jax.local_devices()[0]):
        yield


def loop_of(env, agent=AGENT, **settings):
    loop = make_loop(RunConfig(env="test", **settings), agent, env, jax.local_devices())
    loop.start()
    return loop


def trained(env, agent, until, **settings):
    loop = loop_of(env, agent, **settings)
    loop.advance(until, never)
    loop.check()
    metrics = loop.take_metrics()
    loop.close()
    return loop.learner.seeds, metrics


def assert_near(one, other, tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if np.asarray(a).dtype.kind == "f":
            distance = np.linalg.norm(np.asarray(a) - np.asarray(b))
            assert distance < tolerance * max(np.linalg.norm(np.asarray(b)), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("env", ["Pendulum-v1", "brax/inverted_pendulum"])
def test_a_variant_alone_and_among_others(env):
    """300 updates on the same transitions: all are collected with uniform actions, which do not feed rounding back."""
    start, updates, variant, seed = 100, 300, 1, 4
    agent = AGENT.replace(hidden_sizes=(64, 64), batch_size=64, start_steps=start, updates_per_step=float(updates))
    rate, discount = (VARIANTS[name][variant] for name in ("learning_rate", "discount"))
    among, _ = trained(env, agent, start + 1, seed=3, num_seeds=2, variants=VARIANTS)
    alone, _ = trained(env, agent.replace(learning_rate=rate, discount=discount), start + 1, seed=seed)
    member = variant * 2 + 1
    np.testing.assert_array_equal(jax.random.key_data(among.key)[member], jax.random.key_data(alone.key)[0])
    np.testing.assert_allclose(among.rows[member], alone.rows[0], rtol=1e-4, atol=1e-5)
    assert_near(*(jax.tree.map(lambda leaf, i=i: leaf[i], s.agent) for s, i in ((among, member), (alone, 0))), 1e-4)
    policies = [np.asarray(jax.tree.leaves(among.agent.policy)[-1][index]) for index in range(6)]
    assert len({policy.tobytes() for policy in policies}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("ppo")
def test_every_agents_variants_are_what_they_would_be_alone(name, backend):
    """On transitions of the start, or of the first policy, then a few updates more."""
    row, seed, variant = AGENTS_UNDER_TEST[name], 4, 1
    env, settings = row.env(backend), {"num_envs": NUM_ENVS}
    values = {hyper: column[variant] for hyper, column in VARIANTS.items()}
    among, metrics = trained(env, row.agent, 12, seed=3, num_seeds=2, variants=VARIANTS, **settings)
    alone, lone = trained(env, row.agent.replace(**values), 12, seed=seed, **settings)
    member = variant * 2 + 1
    np.testing.assert_array_equal(jax.random.key_data(among.key)[member], jax.random.key_data(alone.key)[0])
    assert_near(*(jax.tree.map(lambda leaf, i=i: leaf[i], s.agent) for s, i in ((among, member), (alone, 0))), 1e-3)
    assert metrics[member]["critic/loss"] == pytest.approx(lone[0]["critic/loss"], rel=1e-3)
    for other in (member - 1, member - 2, member + 2):
        assert metrics[member]["critic/loss"] != metrics[other]["critic/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac")
def test_variants_of_a_seed_draw_the_same_numbers_and_what_does_not_differ_is_equal(name, backend):
    """Two variants with the same values are the same to the bit; others learn something else from the same start."""
    row, variants = AGENTS_UNDER_TEST[name], {"learning_rate": (1e-3, 1e-3, 1e-2), "discount": (0.99, 0.99, 0.99)}
    loop = loop_of(row.env(backend), row.agent, num_seeds=2, num_envs=NUM_ENVS, variants=variants)
    loop.advance(10, never)
    rows = np.asarray(loop.learner.seeds.rows)[:, :20]
    loop.advance(30, never)
    loop.check()
    metrics, outcomes = loop.take_metrics(), loop.evaluate(2)
    for seed in (0, 1):
        np.testing.assert_array_equal(rows[seed], rows[4 + seed])
        assert metrics[seed] == metrics[2 + seed] and outcomes[seed] == outcomes[2 + seed]
        assert metrics[seed]["critic/loss"] != metrics[4 + seed]["critic/loss"]
    for leaf in jax.tree.leaves(loop.learner.seeds.agent):
        np.testing.assert_array_equal(np.asarray(leaf)[:2], np.asarray(leaf)[2:4])
    assert not np.array_equal(rows[0], rows[1])
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac")
def test_all_variants_are_traced_and_compiled_once(name, backend):
    row, step, traces = AGENTS_UNDER_TEST[name], host_step if backend == "host" else device_steps, []
    env = row.env(backend)

    @struct.dataclass
    class Counting(type(row.agent)):
        def update(self, state, batch, key):
            traces.append(batch)
            return super().update(state, batch, key)

    agent = Counting(**vars(row.agent))

    def advance(until, **settings):
        loop = loop_of(env, agent, num_envs=NUM_ENVS, **settings)
        loop.advance(until, never)
        loop.close()

    compiled, shapes_only = step._cache_size(), 1  # `make_learning` asks for the metrics' names alone
    advance(20, variants=VARIANTS)
    assert shapes_only < len(traces) < shapes_only + 3 and step._cache_size() == compiled + 1  # three variants
    once = len(traces)
    advance(25, variants={"discount": (0.5, 0.9, 0.8), "learning_rate": (1e-4, 1e-4, 1e-2)})
    assert len(traces) == once + shapes_only and step._cache_size() == compiled + 1


@pytest.fixture(scope="module", params=BACKENDS)
def whole(request, tmp_path_factory):
    env = AGENTS_UNDER_TEST["sac"].env(request.param)
    folder = str(tmp_path_factory.mktemp(request.param))
    return env, train(AGENT, env, output_dir=folder, variants=VARIANTS, **SETTINGS)


def table(folder, name):
    rows = read_csv(folder / name)
    return [{k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in rows]


@pytest.mark.slow
def test_tables_have_a_row_for_each_step_variant_and_seed(whole):
    _, result = whole
    config = json.loads((result.folder / "config.json").read_text())
    assert config["run"]["variants"] == {name: list(values) for name, values in VARIANTS.items()}
    for name, every in (("metrics.csv", 20), ("eval.csv", 40)):
        rows = read_csv(result.folder / name)
        assert list(rows[0])[:4] == ["step", "seed", "learning_rate", "discount"]
        expected = [
            (step, seed, rate, discount)
            for step in range(every, 121, every)
            for rate, discount in zip(*VARIANTS.values(), strict=True)
            for seed in (0, 1)
        ]
        assert [tuple(row[key] for key in ("step", "seed", "learning_rate", "discount")) for row in rows] == expected


@pytest.mark.slow
def test_tensorboard_has_a_run_for_each_variant_and_seed(whole):
    pytest.importorskip("tensorboardX")
    _, result = whole
    runs = {str(path.parent.relative_to(result.folder / "tensorboard")) for path in result.folder.rglob("*tfevents*")}
    variants = (
        "learning_rate_0.001_discount_0.99",
        "learning_rate_0.0003_discount_0.99",
        "learning_rate_0.0003_discount_0.9",
    )
    assert runs == {f"{variant}/seed_{seed}" for variant in variants for seed in (0, 1)}


@pytest.mark.slow
def test_the_policy_of_each_variant_and_seed_is_the_trained_one(whole):
    _, result = whole
    observation = np.array([[0.5, -0.5], [0.1, 0.9]], np.float32)
    for variant in range(3):
        for seed in (0, 1):
            policy = load_policy(result.folder, seed=seed, variant=variant)
            state = jax.tree.map(lambda leaf, i=variant * 2 + seed: leaf[i], result.states)
            np.testing.assert_allclose(policy(observation), AGENT.mode(state, observation), rtol=1e-5, atol=1e-6)
            assert policy.variant == {name: values[variant] for name, values in VARIANTS.items()}
            assert policy.agent.discount == VARIANTS["discount"][variant]
    assert load_policy(result.folder).variant == result.policy(0, 0).variant
    with pytest.raises(InvalidSettingError, match="variants 0 to 2, not 3"):
        load_policy(result.folder, variant=3)


@pytest.mark.slow
def test_stopping_and_resuming_equals_not_stopping(whole, tmp_path):
    env, result = whole
    part = train(AGENT, env, output_dir=str(tmp_path), variants=VARIANTS, **(SETTINGS | {"total_steps": 60}))
    rest = resume(part.folder, agent=SAC, env=env, progress=False, total_steps=120)
    np.testing.assert_equal(table(rest.folder, "metrics.csv"), table(result.folder, "metrics.csv"))
    for a, b in zip(jax.tree.leaves(result.states), jax.tree.leaves(rest.states), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_checkpoint_of_other_variants_is_refused(tmp_path):
    settings = SETTINGS | {"total_steps": 30}
    result = train(AGENT, Point(), output_dir=str(tmp_path), variants={"discount": (0.9, 0.8)}, **settings)
    config = json.loads((result.folder / "config.json").read_text())
    config["run"]["variants"] = {"discount": [0.9, 0.7]}
    (result.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="another agent"):
        resume(result.folder, agent=SAC, env=Point(), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variants", "error", "words"),
    [
        ({"lerning_rate": (1e-3,)}, UnknownNameError, "Did you mean 'learning_rate'"),
        ({"start_steps": (10, 20)}, InvalidSettingError, "--start-steps cannot vary within a run"),
        ({"batch_size": (16, 32)}, InvalidSettingError, "--batch-size cannot vary within a run"),
        ({"discount": (0.9, 1.5)}, InvalidSettingError, "--discount must be at least 0 and at most 1, got 1.5"),
        ({"target_entropy": (-1.0, 3.0)}, InvalidSettingError, "--target-entropy must be less than"),
        ({"discount": ()}, InvalidSettingError, "--discount needs at least one value"),
        ({"discount": (0.9, 0.8), "learning_rate": (1e-3,)}, InvalidSettingError, "same number of values"),
    ],
)
def test_impossible_variants_are_refused(tmp_path, variants, error, words):
    with pytest.raises(error) as caught:
        train(AGENT.replace(target_entropy=-1.0), HostPoint, output_dir=str(tmp_path), variants=variants, **SETTINGS)
    assert words in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("sac")
def test_a_fault_names_the_variant(tmp_path, name, backend):
    row, variants = AGENTS_UNDER_TEST[name], {"learning_rate": (1e-3, 1e-3, 1e30), "discount": (0.99, 0.9, 0.99)}
    with pytest.raises(NonFiniteError, match=r"Seed [01] of learning_rate=1e\+30, discount=0\.99, environment step 2"):
        train(row.agent, row.env(backend), output_dir=str(tmp_path), variants=variants, **SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@every_agent("ppo")
def test_every_agents_variants_stop_go_on_and_are_exported(tmp_path, name, backend):
    row = AGENTS_UNDER_TEST[name]
    env, settings = row.env(backend), SETTINGS | {"variants": VARIANTS}
    result = train(row.agent, env, output_dir=str(tmp_path / "whole"), **settings)
    part = train(row.agent, env, output_dir=str(tmp_path / "part"), **(settings | {"total_steps": 70}))
    rest = resume(part.folder, agent=type(row.agent), env=env, progress=False, total_steps=120)
    for a, b in zip(jax.tree.leaves(result.states), jax.tree.leaves(rest.states), strict=True):
        np.testing.assert_array_equal(a, b)
    observation = np.array([[0.5, -0.5], [0.1, 0.9]], np.float32)
    for variant in range(3):
        policy = load_policy(result.folder, seed=1, variant=variant)
        state = jax.tree.map(lambda leaf, i=variant * 2 + 1: leaf[i], result.states)
        expected = row.agent.mode(state, observation)
        np.testing.assert_allclose(policy(observation), expected, rtol=1e-5, atol=1e-6)
        assert policy.agent.discount == VARIANTS["discount"][variant]
