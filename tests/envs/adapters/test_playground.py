"""MuJoCo Playground environments: flat observations, stable states, and clear words when the package is missing."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.envs.adapters.playground import PlaygroundEnv, make_playground
from maxent_rl.envs.device import reset_batch, step_batch
from maxent_rl.errors import MissingDependencyError, UnknownNameError


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "maxent_rl\[playground\]"'):
        make_playground("NoSuchTask")


@pytest.fixture(scope="module")
def installed() -> None:
    pytest.importorskip("mujoco_playground", reason="the optional extra `playground` is not installed")


@pytest.fixture(scope="module")
def cheetah(installed: None) -> PlaygroundEnv:
    return make_playground("CheetahRun")


def test_cheetah_run_has_the_shapes_and_horizon_of_its_configuration(cheetah: PlaygroundEnv) -> None:
    assert cheetah.spec.observation_shape == (17,)
    assert cheetah.spec.action_shape == (6,)
    assert cheetah.spec.horizon == 1000
    assert cheetah == make_playground("CheetahRun") and hash(cheetah) == hash(make_playground("CheetahRun"))


def form(leaf: Any) -> tuple[Any, ...]:
    return leaf.shape, leaf.dtype, leaf.weak_type


def test_the_state_keeps_structure_and_types(cheetah: PlaygroundEnv) -> None:
    state, observation = jax.eval_shape(cheetah.reset, jax.random.key(0))
    following, *rest = jax.eval_shape(cheetah.step, state, jnp.zeros(6))
    assert jax.tree.map(form, following) == jax.tree.map(form, state)
    assert [leaf.dtype for leaf in (observation, *rest)] == [jnp.float32, jnp.float32, jnp.float32, jnp.bool_]


def test_cheetah_run_is_truncated_at_the_horizon_and_starts_anew(cheetah: PlaygroundEnv) -> None:
    env = dataclasses.replace(cheetah, horizon=2)
    step = jax.jit(step_batch, static_argnums=0)
    state = jax.jit(reset_batch, static_argnums=0)(env, jax.random.split(jax.random.key(0), (1, 1)))
    for elapsed in (1, 2):
        state, out = step(env, state, jnp.full((1, 1, 6), 0.5))
        assert not out.terminated.any()
        assert bool(out.truncated[0, 0]) == (elapsed == 2)
        assert np.isfinite(out.next_observation).all() and 0 <= out.reward[0, 0] <= 1
    assert (state.observation != out.next_observation).any()
    assert state.elapsed[0, 0] == 0


def test_unknown_names_are_answered_with_the_right_ones(installed: None) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'playground/CheetahRun'"):
        make_playground("CheetaRun")
