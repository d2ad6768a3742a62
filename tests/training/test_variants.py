"""Variants of hyper-parameters side by side in one program: each is the run that it would be alone."""

import dataclasses
import json
from typing import ClassVar

import jax
import numpy as np
import pytest
from environments import HostPoint, Point, host_point
from flax import struct

from maxent_rl import RunConfig, load_policy, resume, train
from maxent_rl.agents import SAC
from maxent_rl.errors import CheckpointError, InvalidSettingError, NonFiniteError, UnknownNameError
from maxent_rl.training.device_loop import device_steps
from maxent_rl.training.host_loop import host_step
from maxent_rl.training.loop import make_loop
from maxent_rl.training.recorder import read_csv

AGENT = SAC(hidden_sizes=(16,), batch_size=16, replay_size=500, start_steps=20, target_entropy=-1.0)
VARIANTS = {"learning_rate": (1e-3, 3e-4, 3e-4), "discount": (0.99, 0.99, 0.9)}
BACKENDS = {"host": host_point, "device": Point()}
SETTINGS = {
    "total_steps": 120, "eval_every": 40, "eval_episodes": 2, "checkpoint_every": 30, "log_every": 20, "num_seeds": 2,
    "progress": False, "name": "run",
}  # fmt: skip


def never():
    return False


def loop_of(env, agent=AGENT, **settings):
    loop = make_loop(RunConfig(env="test", **settings), agent, env, jax.local_devices())
    loop.start()
    return loop


def trained(env, agent, until, **settings):
    loop = loop_of(env, agent, **settings)
    loop.advance(until, never)
    loop.check()
    metrics, outcomes = loop.take_metrics(), loop.evaluate(2)
    loop.close()
    return loop.learner.seeds, metrics, outcomes


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
    among, _, _ = trained(env, agent, start + 1, seed=3, num_seeds=2, variants=VARIANTS)
    alone, _, _ = trained(env, agent.replace(learning_rate=rate, discount=discount), start + 1, seed=seed)
    member = variant * 2 + 1
    np.testing.assert_array_equal(jax.random.key_data(among.key)[member], jax.random.key_data(alone.key)[0])
    np.testing.assert_allclose(among.rows[member], alone.rows[0], rtol=1e-4, atol=1e-5)
    assert_near(*(jax.tree.map(lambda leaf, i=i: leaf[i], s.agent) for s, i in ((among, member), (alone, 0))), 1e-4)
    policies = [np.asarray(jax.tree.leaves(among.agent.policy)[-1][index]) for index in range(6)]
    assert len({policy.tobytes() for policy in policies}) == 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_variants_of_a_seed_draw_the_same_numbers_and_what_does_not_differ_is_equal(backend):
    """Two variants with the same values are the same to the bit; others learn something else from the same start."""
    variants = {"learning_rate": (1e-3, 1e-3, 1e-2)}
    seeds, metrics, outcomes = trained(BACKENDS[backend], AGENT, 60, num_seeds=2, variants=variants)
    rows = np.asarray(seeds.rows)
    for seed in (0, 1):
        np.testing.assert_array_equal(rows[seed, :20], rows[4 + seed, :20])
        assert metrics[seed] == metrics[2 + seed] and outcomes[seed] == outcomes[2 + seed]
        assert metrics[seed]["critic/loss"] != metrics[4 + seed]["critic/loss"]
    for leaf in jax.tree.leaves(seeds.agent):
        np.testing.assert_array_equal(np.asarray(leaf)[:2], np.asarray(leaf)[2:4])
    assert not np.array_equal(rows[0, :20], rows[1, :20])


@struct.dataclass
class CountingSAC(SAC):
    """SAC that counts how often its update is traced."""

    traces: ClassVar[int] = 0

    def update(self, state, batch, key):
        type(self).traces += 1
        return super().update(state, batch, key)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_variants_are_traced_and_compiled_once(backend):
    CountingSAC.traces = 0
    step = host_step if backend == "host" else device_steps
    step.clear_cache()
    agent = CountingSAC(**{field.name: getattr(AGENT, field.name) for field in dataclasses.fields(AGENT)})
    trained(BACKENDS[backend], agent, 40)
    plain = CountingSAC.traces
    CountingSAC.traces = 0
    step.clear_cache()
    trained(BACKENDS[backend], agent, 40, variants=VARIANTS)
    assert CountingSAC.traces == plain and step._cache_size() == 1
    other = {"discount": (0.5, 0.9, 0.8), "learning_rate": (1e-4, 1e-4, 1e-2)}
    trained(BACKENDS[backend], agent, 50, variants=other)
    assert CountingSAC.traces == plain + 1 and step._cache_size() == 1  # one more asks for the metrics' names alone


@pytest.fixture(scope="module", params=BACKENDS)
def whole(request, tmp_path_factory):
    env = BACKENDS[request.param]
    folder = str(tmp_path_factory.mktemp(request.param))
    return env, train(AGENT, env, output_dir=folder, variants=VARIANTS, **SETTINGS)


def table(folder, name):
    rows = read_csv(folder / name)
    return [{k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in rows]


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


@pytest.mark.parametrize(
    ("variants", "error", "words"),
    [
        ({"lerning_rate": (1e-3,)}, UnknownNameError, "Did you mean 'learning_rate'"),
        ({"start_steps": (10, 20)}, InvalidSettingError, "--start-steps cannot vary within a run"),
        ({"batch_size": (16, 32)}, InvalidSettingError, "--batch-size cannot vary within a run"),
        ({"discount": (0.9, 1.5)}, InvalidSettingError, "--discount must be at least 0 and at most 1, got 1.5"),
        ({"target_entropy": (-1.0, 3.0)}, InvalidSettingError, "--target-entropy must be less than"),
        ({"discount": ()}, InvalidSettingError, "same number of values"),
        ({"discount": (0.9, 0.8), "learning_rate": (1e-3,)}, InvalidSettingError, "same number of values"),
    ],
)
def test_impossible_variants_are_refused(tmp_path, variants, error, words):
    with pytest.raises(error) as caught:
        train(AGENT, HostPoint, output_dir=str(tmp_path), variants=variants, **SETTINGS)
    assert words in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fault_names_the_variant(tmp_path, backend):
    variants = {"learning_rate": (1e-3, 1e30)}
    with pytest.raises(NonFiniteError, match=r"Seed [01] of learning_rate=1e\+30, environment step 2"):
        train(AGENT, BACKENDS[backend], output_dir=str(tmp_path), variants=variants, **SETTINGS)
