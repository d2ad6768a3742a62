"""What training runs on a device can be written out for GPUs and TPUs, though tests have none: nothing of it needs a host."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import (
    AGENTS_UNDER_TEST,
    NUM_ENVS,
    NUM_RESPONSES,
    OFFLINE_AGENTS_UNDER_TEST,
    TOKEN_AGENTS_UNDER_TEST,
)
from jax.experimental import io_callback
from support.lowering import PLATFORMS, lower_for, on_each_platform

from maxent_rl.runs.config import RunConfig
from maxent_rl.sources.load import load_data
from maxent_rl.training.loops import device, host, offline, tokens
from maxent_rl.training.loops.make import make_loop


class Lowered(Exception):
    """The loop has called its program, which was lowered and need not run."""


def lower_what_a_loop_runs(monkeypatch, loop, module, name):
    """Has the loop advance by a step, and lowers the program that it calls, with what it calls it with."""
    program = getattr(module, name)

    def lowered(*arguments):
        assert "func.func public @main" in lower_for(PLATFORMS, program, *arguments)
        raise Lowered

    monkeypatch.setattr(module, name, lowered)
    with pytest.raises(Lowered):
        loop.advance(1, lambda: False)
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["device", "host"])
@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_loops_that_act(name, backend, monkeypatch):
    row = AGENTS_UNDER_TEST[name]
    loop = make_loop(
        RunConfig(env="test", num_envs=NUM_ENVS, num_seeds=2), row.agent, row.env(backend), jax.local_devices()
    )
    loop.start()
    module, program = (device, "device_steps") if backend == "device" else (host, "host_step")
    lower_what_a_loop_runs(monkeypatch, loop, module, program)


@pytest.mark.slow
def test_the_loop_over_fixed_data(monkeypatch, tmp_path):
    row = OFFLINE_AGENTS_UNDER_TEST["td3-bc"]
    run = RunConfig(agent="td3-bc", env=row.env_name, **{row.source: row.make(tmp_path)})
    loop = make_loop(run, row.agent, row.env("device"), jax.local_devices(), load=load_data)
    lower_what_a_loop_runs(monkeypatch, loop, offline, "offline_updates")


@pytest.mark.slow
def test_the_loop_of_language_models(monkeypatch):
    run = RunConfig(agent="grpo", env="tokens/modular-addition", num_envs=NUM_RESPONSES)
    loop = make_loop(run, TOKEN_AGENTS_UNDER_TEST["grpo"], run.env, jax.local_devices())
    lower_what_a_loop_runs(monkeypatch, loop, tokens, "iterate")


@on_each_platform
@pytest.mark.parametrize("call", [jax.pure_callback, io_callback])
def test_a_call_back_to_the_host_would_be_found(call, platform):
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    program = jax.jit(lambda number: call(partial(np.add, np.float32(1)), shape, number))
    with pytest.raises(ValueError, match=f"backend cpu is different from the lowering platform {platform}"):
        lower_for(platform, program, shape)


def test_a_call_back_would_be_found_in_one_program_for_all():
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    program = jax.jit(lambda number: jax.pure_callback(partial(np.add, np.float32(1)), shape, number))
    with pytest.raises(NotImplementedError, match="multi-platform lowering for python_callback"):
        lower_for(PLATFORMS, program, shape)


@pytest.mark.parametrize(
    ("decompose", "name", "where"),
    [(jax.scipy.linalg.schur, "schur", "cuda', 'tpu"), (jnp.linalg.eigvals, "eig", "tpu")],
)
def test_what_only_some_can_decompose_would_be_found(decompose, name, where):
    with pytest.raises(NotImplementedError, match=rf"primitive '{name}' not found for platforms \['{where}'\]"):
        lower_for(PLATFORMS, jax.jit(decompose), jax.ShapeDtypeStruct((3, 3), jnp.float32))
