"""The benchmark of losses over tokens: what is planned and left out, that contenders compute the same, and the tables."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.lab import measure
from benchmarks.speed import token_tables
from benchmarks.speed import tokens as benchmark
from benchmarks.speed.token_objectives import Rollout, loss_of

ALL = benchmark.TokenLosses(tokens=(64, 128), vocabularies=(512,), objectives=("grpo",), spot_objectives=())
OURS = dataclasses.replace(ALL, contenders=benchmark.OURS)


def test_what_does_not_fit_is_left_out_with_a_reason():
    contenders, skipped = benchmark.plan(OURS, memory=4.8e6)  # inputs and gradients: 4.1 and 4.6 MB
    assert list(contenders) == ["maxent_rl grpo 64x512"]
    assert set(skipped) == {"naive grpo 64x512", "maxent_rl grpo 128x512", "naive grpo 128x512"}
    assert all(reason.startswith("needs ") for reason in skipped.values())
    assert not benchmark.plan(OURS, memory=1e9)[1]


def test_a_missing_peer_is_named(tmp_path):
    options = benchmark.TokenLosses(peers=tmp_path, contenders=("trl",), tokens=(64,), vocabularies=(512,))
    with pytest.raises(measure.BenchmarkError, match=r"make\.sh trl"):
        benchmark.plan(options, memory=1e9)


def test_ours_is_compared_with_everyone_at_every_size():
    titles = [ratio.title for ratio in benchmark.ratios(ALL)]
    assert len(titles) == 2 * 3 * 2 and "maxent_rl grpo 64x512 / trl-full grpo 64x512" in titles


def test_spot_objectives_are_measured_at_the_fewest_tokens_alone():
    options = dataclasses.replace(ALL, spot_objectives=("clip_cov", "grpo"))
    assert benchmark.sizes(options) == [("grpo", 64, 512), ("clip_cov", 64, 512), ("grpo", 128, 512)]


def run(contender, what, repeat=0, **values):
    return {"contender": f"{contender} {what}", "repeat": repeat, "values": values}


def test_contenders_that_compute_different_things_are_told():
    same = {"loss": 1.0, "gradient_norm": 2.0, "entropy": 3.0}
    runs = [run("maxent_rl", "grpo 64x512", **same), run("trl", "grpo 64x512", **(same | {"loss": 1.0001}))]
    assert benchmark.disagreements({"runs": runs}) == []
    runs.append(run("naive", "grpo 64x512", **(same | {"gradient_norm": 2.1})))
    (line,) = benchmark.disagreements({"runs": runs})
    assert line == "grpo 64x512: gradient_norm is 2 (maxent_rl), 2 (trl), 2.1 (naive)"
    runs = [run("maxent_rl", "clip_cov 64x512", **same), run("trl", "clip_cov 64x512", **(same | {"loss": 1.1}))]
    assert benchmark.disagreements({"runs": runs}) == []  # it spares tokens at random


@pytest.mark.slow
def test_clip_cov_spares_one_token_of_large_covariance():
    """Of 64 tokens a share of 2e-4 is less than one: a single token without gradient, and one that may be spared."""
    keys = jax.random.split(jax.random.key(0), 2)
    logp, noise = jax.random.normal(keys[0], (8, 8)) - 3.0, 0.1 * jax.random.normal(keys[1], (8, 8))
    rollout = Rollout(logp + noise, jnp.ones((8, 8)), jnp.arange(8.0), 8)
    slope = jax.jit(jax.grad(lambda x: loss_of("clip_cov")(x, rollout, jax.random.key(1))))(logp)
    assert np.sum(slope == 0) == 1
    advantages = (np.arange(8.0) - 3.5) / np.arange(8.0).std(ddof=1)
    covariance = advantages[:, None] * (logp - logp.mean())
    assert 1 < covariance[slope == 0] < 5
    np.testing.assert_array_equal(
        np.sign(slope[slope != 0]), np.sign(-np.broadcast_to(advantages[:, None], (8, 8)))[slope != 0]
    )


@pytest.fixture
def result():
    speed = {"maxent_rl": 2.0, "trl": 4.0, "naive": 3.0}
    runs = [
        run(contender, f"grpo {tokens}x512", seconds=seconds * tokens / 64, memory_mb=10 * seconds)
        for contender, seconds in speed.items()
        for tokens in (64, 128)
        if (contender, tokens) != ("naive", 128)
    ]
    ratios = {f"{ratio.title}: {ratio.metric}": measure.compare(runs, ratio) for ratio in benchmark.ratios(ALL)}
    return {
        "complete": True,
        "hardware": {"summary": "2-core x86-64 CPU"},
        "versions": {"maxent_rl grpo 64x512": {"jax": "0.10.2"}, "trl grpo 64x512": {"trl": "1.16.0", "torch": "2.13.0"}},
        "settings": {
            "tokens": [64, 128], "vocabularies": [512], "objectives": ["grpo"], "contenders": list(speed), "width": 32,
        },
        "summary": measure.summary(runs),
        "ratios": {title: value for title, value in ratios.items() if value is not None},
        "skipped": {"naive grpo 128x512": "needs 30 GB"},
    }  # fmt: skip


def test_the_table_of_all_sizes(result):
    assert token_tables.table(result).splitlines() == [
        "| vocabulary | tokens | loss |  | maxent_rl | TRL | JAX, all logits |",
        "| ---: | ---: | --- | --- | ---: | ---: | ---: |",
        "| 512 | 64 | GRPO | time, s | 2 | 4 [0.5] | 3 [0.667] |",
        "| 512 | 64 | GRPO | memory, MB | 20 | 40 [0.5] | 30 [0.667] |",
        "| 512 | 128 | GRPO | time, s | 4 | 8 [0.5] | does not fit: needs 30 GB |",
        "| 512 | 128 | GRPO | memory, MB | 20 | 40 [0.5] | does not fit: needs 30 GB |",
        "",
        "Median (smallest to largest) of 1 run; [ours over theirs]. Width 32, float32; 2-core x86-64 CPU; "
        "jax 0.10.2, trl 1.16.0, torch 2.13.0.",
    ]


def test_the_rows_of_the_main_table_are_the_largest_sizes_that_both_ran(result):
    what = "GRPO's loss and gradients, {} tokens, vocabulary 512"
    assert token_tables.rows(result) == [
        [what.format(128), "4 s", "TRL: 8 s", "0.5"],
        [f"Peak memory of {what.format(128)}", "20 MB", "TRL: 40 MB", "0.5"],
        [what.format(64), "2 s", "JAX, all logits: 3 s", "0.667"],
        [f"Peak memory of {what.format(64)}", "20 MB", "JAX, all logits: 30 MB", "0.667"],
    ]


@pytest.mark.slow
def test_chunks_and_all_logits_compute_the_same_in_processes_of_their_own(tmp_path):
    options = benchmark.TokenLosses(
        repeats=1, pause=0.0, output=tmp_path, tokens=(64,), vocabularies=(512,), width=16, contenders=benchmark.OURS
    )
    contenders, _ = benchmark.plan(options, memory=1e9)
    measure.measure("token_losses", contenders, options, benchmark.ratios(options))
    written = json.loads((tmp_path / "token_losses.json").read_text())
    assert written["complete"] and benchmark.disagreements(written) == []
    assert {"seconds", "loss", "gradient_norm", "entropy"} <= set(written["runs"][0]["values"])
    assert "maxent_rl grpo 64x512 / naive grpo 64x512: seconds" in written["ratios"]
    assert str(tmp_path) not in json.dumps(written)
