"""The work that contenders are given, and what is read of ours."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.lab.measure import BenchmarkError
from benchmarks.lab.processes import Finished
from benchmarks.speed import contenders, throughput, time_to_return
from benchmarks.speed.contenders import Product
from benchmarks.speed.work import OnPolicyWork, Work


def test_ours_logs_at_the_windows_ends_and_does_nothing_else_within():
    flags = Work(start_steps=1000, warmup_steps=500, window_steps=3000).product_flags()
    given = dict(zip(flags[::2], flags[1::2], strict=False))
    assert (given["--log-every"], given["--total-steps"]) == ("1500", "4500")
    assert (given["--eval-every"], given["--checkpoint-every"]) == ("0", "0")


def test_a_window_that_would_need_many_log_lines_is_refused():
    with pytest.raises(BenchmarkError, match="common divisor"):
        Work(start_steps=1000, warmup_steps=1, window_steps=3000).product_flags()


def test_a_rollout_counts_all_its_gradient_steps():
    work = OnPolicyWork(warmup_steps=4096, window_steps=8192, num_envs=8, rollout_size=2048, epochs=3, minibatches=4)
    assert work.begin == 4096
    assert work.gradient_steps == 4 * 3 * 4
    given = work.product_flags()
    for flag, value in (("--agent", "ppo"), ("--rollout-size", "2048"), ("--log-every", "4096")):
        assert given[given.index(flag) + 1] == value
    assert "--start-steps" not in given + work.flags()


@pytest.mark.parametrize("wrong", [{"window_steps": 3000}, {"warmup_steps": 1000}, {"num_envs": 3}])
def test_a_window_that_cuts_a_rollout_is_refused(wrong):
    sizes = {"warmup_steps": 2048, "window_steps": 4096, "num_envs": 8} | wrong
    with pytest.raises(BenchmarkError, match="multiples of the rollout"):
        OnPolicyWork(**sizes).product_flags()


@pytest.mark.parametrize(("updates", "fits"), [(2, True), (1, False)])
def test_ours_is_held_to_its_own_count_of_updates(updates, fits, monkeypatch):
    rows = [
        {"step": 2048.0, "seconds": 7.0, "updates": 1.0},
        {"step": 6144.0, "seconds": 9.0, "updates": 1.0 + updates},
    ]
    product = Product(rows, 1000.0, {}, Finished("", "", 990.0, 10.0, 0))
    monkeypatch.setattr(contenders, "run_product", lambda flags: product)
    work = OnPolicyWork(warmup_steps=2048, window_steps=4096, rollout_size=2048, epochs=3, minibatches=4)
    if not fits:
        with pytest.raises(BenchmarkError, match="12 gradient steps in 4096 environment steps, not 24"):
            contenders.measure_product(work, 0)
        return
    values = contenders.measure_product(work, 0).values
    assert (values["steps_per_second"], values["updates_per_second"]) == (2048.0, 12.0)


def test_experts_are_contenders_by_their_number():
    settings = throughput.Experts(contenders=("sac", "pmoe 4"), arguments="--quiet")
    runs = settings.runs()
    (sac, sac_more), (pmoe, pmoe_more) = (runs[name].args for name in ("sac", "pmoe 4"))
    assert (sac.agent, sac_more) == ("sac", ["--quiet"])
    assert (pmoe.agent, pmoe_more) == ("pmoe", ["--num-experts", "4", "--quiet"])
    assert dataclasses.replace(pmoe, agent="sac") == sac
    assert [ratio.title for ratio in settings.ratios] == ["pmoe 4 / sac"]
    with pytest.raises(BenchmarkError, match="Unknown contender 'pmoe many'"):
        throughput.Experts(contenders=("pmoe many",)).runs()


def test_ours_takes_braxs_policy_when_ppo_is_compared():
    work, more = throughput.Ppo(contenders=("maxent_rl",)).runs()["maxent_rl"].args
    assert (work.env, work.backend, work.num_envs) == ("brax/halfcheetah", "spring", 64)
    assert {"tanh_gaussian", "--state-dependent-std", "swish", "--no-normalize-rewards"} <= set(more)
    with pytest.raises(BenchmarkError, match="--num-envs one of --minibatches"):
        throughput.Ppo(contenders=("maxent_rl",), num_envs=16).runs()


def test_the_moments_of_log_lines_follow_from_the_last_write():
    rows = [{"step": 100.0, "seconds": 7.0, "updates": 0.0}, {"step": 200.0, "seconds": 10.0, "updates": 100.0}]
    product = Product(rows, 1000.0, {}, Finished("", "", 0.0, 0.0, 0))
    assert product.at(100) == (997.0, 0)
    assert product.at(200) == (1000.0, 100)


def test_a_return_is_passed_at_the_first_evaluation_above_it():
    curve = [
        {"step": 5000, "seconds": 10.0, "return_mean": 0.0},
        {"step": 10000, "seconds": 20.0, "return_mean": 2000.0},
        {"step": 15000, "seconds": 30.0, "return_mean": 500.0},
    ]
    assert time_to_return.crossings(curve, (1000.0, 3000.0)) == {
        "seconds_to_1000": 20.0,
        "steps_to_1000": 10000,
        "interpolated_seconds_to_1000": 15.0,
    }


def test_a_curve_that_is_still_being_written_is_read_up_to_its_last_whole_line(tmp_path):
    path = tmp_path / "curve.jsonl"
    assert time_to_return.read_curve(path) == []
    path.write_text('{"step": 1}\n{"st')
    assert time_to_return.read_curve(path) == [{"step": 1}]
