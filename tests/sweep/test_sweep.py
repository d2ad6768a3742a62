"""Sweeps without their processes: how they are laid out, what they refuse, and what their table says."""

import dataclasses
import io
import os
import re
import socket
import types
from typing import ClassVar

import pytest
from flax import struct
from rich.console import Console

from maxent_rl.agents import SAC
from maxent_rl.errors import (
    CheckpointError,
    InvalidSettingError,
    MaxentRLError,
    ProcessError,
    StorageError,
    UnknownNameError,
)
from maxent_rl.runs.config import RunConfig
from maxent_rl.storage.files import write_json
from maxent_rl.sweep import Sweep, expand, ray_cluster, run_sweep, worker
from maxent_rl.sweep import driver as driver_module
from maxent_rl.sweep.dashboard import Dashboard, State, Status
from maxent_rl.sweep.driver import _Driver
from maxent_rl.sweep.folder import (
    ATTEMPT,
    FAILED,
    FINISHED,
    is_finished,
    only_one,
    read_manifest,
    read_mark,
    write_manifest,
)
from maxent_rl.sweep.local import make_slots
from maxent_rl.sweep.process import JobProcess, Outcome
from maxent_rl.sweep.worker import STORAGE_ERROR, Claim


def sweep(values=None, **settings):
    run = RunConfig(**{"num_seeds": 4, "total_steps": 500, **settings.pop("run", {})})
    return Sweep(run, **{"agents": ("sac",), "envs": ("Pendulum-v1",), "values": values or {}, **settings})


def jobs_of(values=None, **settings):
    return expand(sweep(values, **settings))[1]


def test_numbers_and_seeds_are_one_job():
    (job,) = jobs_of({"learning_rate": ("1e-3", "3e-4"), "discount": ("0.9", "0.99")})
    assert job.run.variants == {"learning_rate": (1e-3, 1e-3, 3e-4, 3e-4), "discount": (0.9, 0.99, 0.9, 0.99)}
    assert job.run.seeds == (0, 1, 2, 3) and job.agent == SAC()
    assert job.name == "Pendulum-v1/sac/seeds0-3"


def test_structure_schedule_and_settings_of_the_run_are_jobs_of_their_own():
    jobs = jobs_of({"hidden_sizes": ("32x32", "64 64"), "start_steps": ("100", "none"), "num_envs": ("1", "2")})
    assert len(jobs) == len({job.name for job in jobs}) == 8 and not any(job.run.variants for job in jobs)
    found = {(job.agent.hidden_sizes, job.agent.start_steps, job.run.num_envs) for job in jobs}
    assert found == {(sizes, start, envs) for sizes in ((32, 32), (64, 64)) for start in (100, None) for envs in (1, 2)}
    assert jobs[0].name == "Pendulum-v1/sac/hidden_sizes=32x32,start_steps=100,num_envs=1,seeds0-3"


def test_every_agent_meets_every_environment_with_every_combination():
    jobs = jobs_of({"batch_size": ("16", "32"), "learning_rate": ("1e-3", "1e-4")}, envs=("Hopper", "brax/hopper"))
    assert [(job.run.env, job.agent.batch_size) for job in jobs] == [
        ("Hopper-v5", 16), ("Hopper-v5", 32), ("brax/hopper", 16), ("brax/hopper", 32),
    ]  # fmt: skip
    assert all(job.run.variants == {"learning_rate": (1e-3, 1e-4)} for job in jobs)
    assert jobs[3].name == "brax-hopper/sac/batch_size=32,seeds0-3"


def test_a_single_value_holds_for_all_jobs_and_names_none():
    (job,) = jobs_of({"learning_rate": ("1e-3",), "network": ("simba",), "total_steps": ("700",)})
    assert (job.agent.learning_rate, job.agent.network, job.run.total_steps) == (1e-3, "simba", 700)
    assert not job.run.variants and job.name.endswith("/seeds0-3")


def test_none_among_numbers_is_a_program_of_its_own():
    plain, varied = jobs_of({"target_entropy": ("-1", "none", "-2")})
    assert plain.agent.target_entropy is None and not plain.run.variants
    assert varied.run.variants == {"target_entropy": (-1.0, -2.0)}


def test_large_jobs_are_split_by_seeds_and_by_variants():
    values = {"learning_rate": ("1e-3", "3e-4", "1e-4")}
    jobs = jobs_of(values, max_seeds_per_job=3, max_variants_per_job=2)
    assert [(job.run.seeds, job.run.variants or job.agent.learning_rate) for job in jobs] == [
        ((0, 1, 2), {"learning_rate": (1e-3, 3e-4)}),
        ((3,), {"learning_rate": (1e-3, 3e-4)}),
        ((0, 1, 2), 1e-4),
        ((3,), 1e-4),
    ]
    assert [job.name.rpartition("/")[2] for job in jobs] == [
        "variants0-1,seeds0-2", "variants0-1,seed3", "learning_rate=0.0001,seeds0-2", "learning_rate=0.0001,seed3",
    ]  # fmt: skip


def test_names_follow_from_the_settings_alone_and_fit_into_a_folder():
    first, again = expand(sweep({"discount": ("0.9", "0.8")}))[0], expand(sweep({"discount": ("0.9", "0.8")}))[0]
    assert first == again != expand(sweep({"discount": ("0.9", "0.7")}))[0]
    assert re.fullmatch(r"runs/sac-Pendulum-v1-[0-9a-f]{6}", str(first))
    values = {"hidden_sizes": ["x".join(["256"] * depth) for depth in (40, 41)]}
    names = [job.run.name for job in jobs_of(values)]
    assert len(set(names)) == 2 and max(map(len, names)) <= 100


@pytest.mark.parametrize(
    ("values", "settings", "error", "words"),
    [
        ({"lerning_rate": ("1",)}, {}, UnknownNameError, "Did you mean 'learning_rate'"),
        ({"total_stepz": ("1",)}, {}, UnknownNameError, "Did you mean 'total_steps'"),
        ({"learning_rate": ("fast",)}, {}, InvalidSettingError, "--learning-rate must be a number, got 'fast'"),
        ({"learning_rate": ("1e-3", "-1")}, {}, InvalidSettingError, "--learning-rate must be greater than 0, got -1"),
        ({"batch_size": ("2.5",)}, {}, InvalidSettingError, "--batch-size must be a whole number"),
        ({"normalize_observations": ("maybe",)}, {}, InvalidSettingError, "must be true or false"),
        ({"network": ("mlp", "simbaa")}, {}, UnknownNameError, "Did you mean 'simba'"),
        ({"discount": ("0.9", "0.90")}, {}, InvalidSettingError, "--discount names 0.9 twice"),
        ({"discount": ()}, {}, InvalidSettingError, "--discount needs at least one value"),
        ({"seed": ("0", "1")}, {}, InvalidSettingError, "--seed cannot be swept by --set"),
        ({"total_steps": ("0",)}, {}, InvalidSettingError, "--total-steps must be at least 1"),
        ({}, {"agents": ("sacc",)}, UnknownNameError, "Did you mean 'sac'"),
        ({}, {"agents": ()}, InvalidSettingError, "--agents needs at least one name"),
        ({}, {"envs": ("Pendulum-v1", "Pendulum")}, InvalidSettingError, "--envs names Pendulum-v1 twice"),
        ({}, {"envs": ("Pendulumm",)}, UnknownNameError, "Did you mean"),
        ({}, {"max_seeds_per_job": 0}, InvalidSettingError, "--max-seeds-per-job must be at least 1"),
        ({}, {"name": "../up"}, InvalidSettingError, "--name must be a plain folder name"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_starts(values, settings, error, words):
    with pytest.raises(error) as caught:
        expand(sweep(values, **settings))
    assert words in str(caught.value)


def test_a_setting_that_one_agent_lacks_names_it(monkeypatch):
    fields = {"__annotations__": {"discount": float, "learns": ClassVar[str]}, "discount": 0.9, "learns": "replay"}
    other = struct.dataclass(type("Other", (), fields))
    monkeypatch.setitem(driver_module.expand.__globals__["AGENTS"], "other", "nowhere:Other")
    monkeypatch.setitem(
        driver_module.expand.__globals__, "agent_name", lambda agent: "sac" if isinstance(agent, SAC) else "other"
    )
    with pytest.raises(InvalidSettingError, match="other has no --learning-rate, only sac"):
        expand(sweep({"learning_rate": ("1e-3", "1e-4")}, agents=(SAC(), other())))


@pytest.fixture
def planned(tmp_path):
    values = {"batch_size": ("16", "32"), "learning_rate": ("1e-3", "1e-4")}
    return expand(sweep(values, name="study", run={"output_dir": str(tmp_path)}))


def test_the_manifest_repeats_the_jobs_wherever_the_folder_lies(planned, tmp_path):
    folder, jobs = planned
    write_manifest(folder, jobs)
    write_manifest(folder, jobs)  # the same once more is fine
    moved = tmp_path / "moved"
    folder.rename(moved)
    for job, read in zip(jobs, read_manifest(moved), strict=True):
        assert (read.name, read.agent) == (job.name, job.agent) and read.folder == moved / job.name
        assert dataclasses.replace(read.run, output_dir="") == dataclasses.replace(job.run, output_dir="")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": {"total_steps": 900}}, "whose --total-steps is 500, not 900"),
        ({"agents": (SAC(network="simba"),)}, "whose --network is mlp, not simba"),
        ({"values": {"batch_size": ("16", "32"), "learning_rate": ("1e-3", "1e-5")}}, "whose --variants is"),
        ({"values": {"batch_size": ("16", "64"), "learning_rate": ("1e-3", "1e-4")}}, "other jobs"),
    ],
)
def test_another_sweep_of_the_same_name_is_refused(planned, changes, words):
    folder, jobs = planned
    write_manifest(folder, jobs)
    run = {"output_dir": str(folder.parent)} | changes.pop("run", {})
    values = changes.pop("values", {"batch_size": ("16", "32"), "learning_rate": ("1e-3", "1e-4")})
    with pytest.raises(InvalidSettingError, match=words):
        run_sweep(sweep(values, name="study", run=run, **changes), progress=False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 9, "jobs": []}'])
def test_a_damaged_manifest_is_named(planned, content):
    folder, jobs = planned
    write_manifest(folder, jobs)
    (folder / "sweep.json").write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(str(folder / "sweep.json"))):
        write_manifest(folder, jobs)


def test_a_job_is_finished_by_its_mark_alone(planned):
    _, (job, _) = planned
    job.folder.mkdir(parents=True)
    assert not is_finished(job)
    (job.folder / FINISHED).write_text('{"step": 499}')
    assert not is_finished(job)
    (job.folder / FINISHED).write_text('{"step": 500}')
    assert is_finished(job)


def test_two_processes_do_not_work_on_one_sweep(tmp_path):
    with only_one(tmp_path), pytest.raises(StorageError, match="is being run by another process"), only_one(tmp_path):
        raise AssertionError("not reached")
    with only_one(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are not assigned on this system")
def test_processes_share_the_cores_without_overlap(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))

    def cores(*arguments):
        return [slot.cores for slot in make_slots(*arguments)]

    assert cores(3, "cpu") == [(0, 1), (2, 3), (4, 5)]
    assert cores(20, "cpu") == [(core,) for core in range(8)]
    assert cores(20, "cpu", 2) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert cores(20, "cpu", None, 3) == [(0, 1, 2), (3, 4, 5)]
    assert len(cores(20, "cpu", 10)) == 10  # asked for
    assert [slot.environment["PJRT_NPROC"] for slot in make_slots(2, "cpu")] == ["4", "4"]
    with pytest.raises(InvalidSettingError, match="--jobs must be at least 1"):
        make_slots(2, "cpu", 0)


def test_each_visible_gpu_carries_one_process(monkeypatch):
    monkeypatch.setattr("maxent_rl.sweep.local._probe", lambda device: ("gpu", 2))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    slots = make_slots(9, "auto")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["5", "7"]
    assert [slot.cores for slot in slots] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    crowded = make_slots(9, "auto", 4)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in crowded] == ["5", "7", "5", "7"]
    assert {slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in crowded} == {"0.450"}


class Scripted:
    """An executor of one slot whose jobs end as told."""

    description = "as told"

    def __init__(self, endings, on_submit=lambda: None):
        self.endings, self.on_submit = endings, on_submit
        self.submitted, self.running, self.interrupted = [], [], False

    def has_room(self):
        return not self.running

    def submit(self, job, token):
        self.submitted.append((job, token))
        self.running.append(job)
        self.on_submit()

    def started(self, job):
        return True

    def collect(self):
        running, self.running = self.running, []
        return [(job, Outcome("interrupted") if self.interrupted else self.endings[job].pop(0)) for job in running]

    def interrupt(self):
        self.interrupted = True

    def close(self):
        pass


FINISHED_, DIED = Outcome("finished"), Outcome("died", "its process ended unexpectedly (killed by SIGKILL)")


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(driver_module, "_SECONDS_BETWEEN_LOOKS", 0.0)


def drive(jobs, endings, retries=2, stop_after=None):
    statuses, output = {job: Status() for job in jobs}, io.StringIO()
    executor = Scripted(dict(zip(jobs, endings, strict=True)))
    with Dashboard(statuses, "a sweep", console=Console(file=output)) as dashboard:
        driver = _Driver(executor, statuses, dashboard, retries, "session")
        driver.run(lambda: stop_after is not None and len(executor.submitted) >= stop_after)
    return statuses, executor, output.getvalue()


def test_a_job_whose_process_died_is_tried_again_and_others_go_on(planned, no_waiting):
    _, (first, second) = planned
    statuses, executor, output = drive([first, second], [[DIED, DIED, FINISHED_], [FINISHED_]])
    assert [job for job, _ in executor.submitted] == [first, second, first, first]
    assert len({token for _, token in executor.submitted}) == 4
    assert [status.state for status in statuses.values()] == [State.FINISHED, State.FINISHED]
    assert f"{first.name}: retrying: {DIED.message}; retry 2 of 2" in output
    assert f"{second.name}: finished" in output


def test_a_job_that_keeps_dying_fails_and_an_error_of_its_own_is_not_tried_again(planned, no_waiting):
    _, (first, second) = planned
    error = Outcome("failed", "Seed 0, environment step 9: reward is NaN or infinite.")
    statuses, executor, output = drive([first, second], [[DIED, DIED], [error]], retries=1)
    assert [job for job, _ in executor.submitted] == [first, second, first]
    assert statuses[first].note == f"{DIED.message}, after 1 retries"
    assert statuses[second] == Status(State.FAILED, error.message)
    assert f"{second.name}: failed: {error.message}" in output


def test_an_interrupt_stops_what_runs_and_begins_nothing(planned, no_waiting):
    _, (first, second) = planned
    statuses, executor, _ = drive([first, second], [[FINISHED_], [FINISHED_]], stop_after=1)
    assert [job for job, _ in executor.submitted] in ([first], [])
    assert {status.state for status in statuses.values()} <= {State.STOPPED, State.FINISHED}
    assert statuses[second].state == State.STOPPED


def test_the_table_shows_states_steps_and_the_best_variant(planned):
    _, (first, second) = planned
    first.folder.mkdir(parents=True)
    (first.folder / "metrics.csv").write_text("step,seed,seconds\n100,0,1.0\n200,0,2.0\n300,0")
    rows = [f"200,{seed},{rate},{value}" for rate, value in ((1e-3, -9.0), (1e-4, -4.0)) for seed in (0, 1)]
    (first.folder / "eval.csv").write_text("\n".join(["step,seed,learning_rate,return_mean", *rows]) + "\n")
    statuses = {first: Status(State.RUNNING), second: Status(State.FAILED, "No [room] left.")}
    output = io.StringIO()
    with Dashboard(statuses, "a sweep", console=Console(file=output, force_terminal=True, width=200, height=40)):
        pass
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.getvalue())
    (line,) = {line.rstrip() for line in text.splitlines() if first.name in line}
    assert re.search(r"running\s+200/500\s+-4.0 \(learning_rate=0.0001\)", line)
    assert re.search(r"failed\s+0/500\s+–\s+No \[room\] left\.", text)
    assert "1 running, 1 failed" in text


def test_a_table_larger_than_the_terminal_shows_what_matters(planned):
    _, (job, _) = planned
    jobs = [dataclasses.replace(job, run=dataclasses.replace(job.run, name=f"job{index}")) for index in range(60)]
    statuses = {each: Status(State.FINISHED) for each in jobs}
    statuses[jobs[50]] = Status(State.FAILED, "lost")
    output = io.StringIO()
    with Dashboard(statuses, "a sweep", console=Console(file=output, force_terminal=True, width=120, height=20)):
        pass
    assert "job50" in output.getvalue() and "59 finished, 1 failed (46 not shown)" in output.getvalue()


def test_a_job_whose_disk_is_full_says_so_where_not_even_its_mark_can_be_written(tmp_path):
    process = object.__new__(JobProcess)
    process._folder, process._process = tmp_path, types.SimpleNamespace(poll=lambda: STORAGE_ERROR)
    outcome = process.poll()
    assert outcome.kind == "failed" and "as on a full disk" in outcome.message  # of which another try has no more
    write_json(tmp_path / FAILED, {"error": "Cannot write the log: No space left on device."})
    assert process.poll() == Outcome("failed", "Cannot write the log: No space left on device.")


@pytest.mark.parametrize("mark", ['{"step": "all"}', '{"step": Infinity}', "[500]", '{"step": null}', "[" * 3000])
def test_a_damaged_mark_is_none(planned, mark):
    _, (job, _) = planned
    job.folder.mkdir(parents=True)
    (job.folder / FINISHED).write_text(mark)
    assert not is_finished(job)


def test_a_clock_that_jumps_decides_nothing(planned, monkeypatch):
    """Who has a job is a matter of tokens and of seconds that only go forward, whatever the wall clock says."""
    _, (job, _) = planned
    job.folder.mkdir(parents=True)
    monkeypatch.setattr(worker.threading, "Thread", lambda **told: types.SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(worker, "_PREDECESSOR_SECONDS", 0.2)
    claims = [Claim(job.folder.parent, job, f"session/{number}", os.getppid()) for number in (1, 2)]
    for claim, now in zip(claims, (4e9, 0.0), strict=True):  # the second is long before the first
        monkeypatch.setattr("time.time", lambda now=now: now)
        claim.take()
    assert read_mark(job.folder / ATTEMPT)["token"] == "session/2"
    claims[0].release()  # has lost it
    assert read_mark(job.folder / ATTEMPT)["token"] == "session/2"
    claims[1].release()
    assert read_mark(job.folder / ATTEMPT) is None


def test_a_head_that_does_not_answer_any_more_is_one_sentence(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_SECONDS_BETWEEN_QUESTIONS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = ray_cluster._Head(f"127.0.0.1:{server.getsockname()[1]}", "auto")
        for _ in range(5):
            head.check()
    head.check()  # once may be an accident
    head.check()
    with pytest.raises(
        ProcessError, match="at auto does not answer any more: start the cluster, and run the same command"
    ):
        head.check()
    assert head.is_lost


def test_ray_is_asked_for_when_it_is_missing(tmp_path, monkeypatch):
    import builtins

    original = builtins.__import__

    def without_ray(name, *arguments, **settings):
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return original(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(MaxentRLError, match=r'pip install "maxent_rl\[sweep\]"'):
        run_sweep(sweep(run={"output_dir": str(tmp_path)}), ray_address="auto", progress=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ray_address": "auto", "jobs": 2}, "--jobs has no effect here: it is used only without --ray-address"),
        ({"gpus_per_job": 1.0}, "--gpus-per-job has no effect here: it is used only with --ray-address"),
    ],
)
def test_settings_of_the_other_kind_of_machine_are_refused(tmp_path, settings, words):
    with pytest.raises(InvalidSettingError, match=words):
        run_sweep(sweep(run={"output_dir": str(tmp_path)}), progress=False, **settings)
    assert not list(tmp_path.iterdir())
