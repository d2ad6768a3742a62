"""Brax environments: the adapter adds nothing to Brax's dynamics, and its states fit into jitted control flow."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.envs.adapters.brax import BACKENDS, BraxEnv, make_brax, step_state
from maxent_rl.envs.device import reset_batch, step_batch
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, MaxentRLError, UnknownNameError
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.types import Array

pytestmark = pytest.mark.filterwarnings("ignore:Brax System:UserWarning")

STEPS = 3


@pytest.fixture(scope="module")
def cheetah() -> BraxEnv:
    return make_brax("halfcheetah", "spring")


@pytest.fixture(scope="module")
def unrolled(cheetah: BraxEnv) -> tuple[Any, Any, Array, Array]:
    """(first state, last state, last reward, terminated) after STEPS steps of a `fori_loop` with action 0.5."""

    def run(key: Array) -> tuple[Any, Any, Array, Array]:
        first, _ = cheetah.reset(key)

        def body(_: Array, carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
            state, _, reward, terminated = cheetah.step(carry[0], jnp.full(6, 0.5))
            return state, reward, terminated

        return first, *jax.lax.fori_loop(0, STEPS, body, (first, jnp.zeros(()), jnp.array(False)))

    result: tuple[Any, Any, Array, Array] = jax.jit(run)(jax.random.key(0))
    return result


def types_of(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype), leaf.weak_type), tree)


@pytest.mark.slow
def test_halfcheetah_has_the_shapes_and_horizon_of_brax(cheetah: BraxEnv) -> None:
    assert cheetah.spec.observation_shape == (17,)
    assert cheetah.spec.action_shape == (6,)
    assert cheetah.spec.num_actions is None
    assert cheetah.spec.horizon == 1000


@pytest.mark.slow
def test_stepping_through_the_adapter_is_stepping_brax(
    cheetah: BraxEnv, unrolled: tuple[Any, Any, Array, Array]
) -> None:
    import brax.envs

    env = brax.envs.get_environment("halfcheetah", backend="spring")
    step = jax.jit(env.step)
    state, last, reward, terminated = unrolled
    assert 0 < abs(state.obs[:8] - env.sys.init_q[1:]).max() <= 0.1
    for _ in range(STEPS):
        state = step(state, jnp.full(6, 0.5))
    np.testing.assert_allclose(last.obs, state.obs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reward, state.reward, rtol=1e-5, atol=1e-5)
    assert reward.dtype == jnp.float32 and not terminated


@pytest.mark.slow
@pytest.mark.parametrize("name", ["halfcheetah", "inverted_pendulum", "fast"])
def test_the_state_keeps_structure_and_types(name: str) -> None:
    env = make_brax(name, "spring")
    state, observation = jax.eval_shape(env.reset, jax.random.key(0))
    following, *rest = jax.eval_shape(env.step, state, jnp.zeros(env.spec.action_shape))
    assert types_of(following) == types_of(state)
    assert types_of(rest[0]) == types_of(observation) == (env.spec.observation_shape, "float32", False)
    assert types_of(rest[1:]) == [((), "float32", False), ((), "bool", False)]


@pytest.mark.slow
def test_the_state_goes_through_a_checkpoint(cheetah: BraxEnv, tmp_path: Path) -> None:
    """Every leaf under a name of its own, of a type that files can hold, and back in its structure."""
    template = jax.eval_shape(cheetah.reset, jax.random.key(0))[0]
    leaves, structure = jax.tree.flatten(template)
    state = jax.tree.unflatten(
        structure,
        [(jnp.arange(leaf.size) + index).reshape(leaf.shape).astype(leaf.dtype) for index, leaf in enumerate(leaves)],
    )
    arrays = to_arrays({"envs": state})
    assert len(arrays) == len(leaves) and not any(array.dtype.hasobject for array in arrays.values())
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, arrays, {}, np.zeros((1, 0, 1), np.float32), 1, None)
    checkpoints.wait()
    found = from_arrays({"envs": jax.tree.map(jnp.zeros_like, state)}, checkpoints.restore(1)[0])["envs"]
    checkpoints.close()
    assert types_of(found) == types_of(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_a_step_leaves_the_given_state_as_it_is() -> None:
    """Brax writes metrics into the state it is given."""
    import brax.envs

    class Recorder:
        def step(self, state: Any, action: Array) -> Any:
            state.metrics.update(distance=action[0])
            return state

    state = brax.envs.State(None, jnp.zeros(1), jnp.zeros(()), jnp.zeros(()), {"distance": jnp.zeros(())})
    following = step_state(Recorder(), state, jnp.ones(1))
    assert state.metrics["distance"] == 0 and following.metrics["distance"] == 1


@pytest.mark.slow
def test_fast_follows_its_equations_and_truncates_at_the_horizon() -> None:
    """`fast` moves by semi-implicit Euler steps of 0.02 with acceleration 1 where the action is positive."""
    env = dataclasses.replace(make_brax("fast"), horizon=3)
    step = jax.jit(step_batch, static_argnums=0)
    state = reset_batch(env, jax.random.split(jax.random.key(0), (1, 2)))
    action = jnp.array([[[1.0], [-1.0]]])
    position = 0.0
    for elapsed in (1, 2, 3):
        state, out = step(env, state, action)
        position += 0.02 * 0.02 * elapsed
        np.testing.assert_allclose(out.reward[0], [position, 0.0], atol=1e-7)
        np.testing.assert_allclose(out.next_observation[0, 0], [position, 0.02 * elapsed], atol=1e-7)
        assert not out.terminated.any()
        assert (np.asarray(out.truncated) == (elapsed == 3)).all()
    np.testing.assert_array_equal(state.observation, 0.0)
    np.testing.assert_array_equal(state.elapsed, 0)


@pytest.mark.slow
def test_a_fallen_pendulum_terminates_and_is_not_truncated() -> None:
    """Bootstrapping must stop where the pole fell, and the final observation must show it fallen."""
    env = make_brax("inverted_pendulum")
    step = jax.jit(step_batch, static_argnums=0)
    state = jax.jit(reset_batch, static_argnums=0)(env, jax.random.split(jax.random.key(0), (1, 2)))
    for _ in range(60):
        state, out = step(env, state, jnp.array([[[1.0], [0.0]]]))
        assert out.reward.dtype == jnp.float32
        if out.terminated[0, 0]:
            break
    assert out.terminated[0, 0] and not out.truncated.any() and not out.terminated[0, 1]
    assert abs(out.next_observation[0, 0, 1]) > 0.2
    assert abs(state.observation[0, 0, 1]) <= 0.01
    np.testing.assert_array_equal(state.observation[0, 1], out.next_observation[0, 1])


def test_equal_environments_are_one_static_argument() -> None:
    """A run that makes its environment anew must not be compiled anew."""
    traces = []

    @partial(jax.jit, static_argnums=0)
    def first_observation(env: BraxEnv, key: Array) -> Array:
        traces.append(env)
        return env.reset(key)[1]

    for env in (make_brax("fast"), BraxEnv("fast"), pickle.loads(pickle.dumps(make_brax("fast", "spring")))):
        first_observation(env, jax.random.key(0))
    assert len(traces) == 1
    assert make_brax("fast", "mjx") != make_brax("fast")


@pytest.mark.parametrize(
    ("name", "backend", "words"),
    [
        ("halfcheeta", None, "Unknown environment 'brax/halfcheeta'. Did you mean 'brax/halfcheetah'"),
        ("HalfCheetah", None, "Did you mean 'brax/halfcheetah'"),
        ("fast", "sprung", "Unknown Brax backend 'sprung'. Did you mean 'spring'"),
    ],
)
def test_unknown_names_are_answered_with_the_right_ones(name: str, backend: str | None, words: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        make_brax(name, backend)
    assert words in str(caught.value)


@pytest.mark.slow
def test_an_unsupported_backend_is_refused_at_once() -> None:
    with pytest.raises(InvalidSettingError, match="brax/swimmer does not support the backend 'spring'"):
        make_brax("swimmer", "spring")


@pytest.mark.slow
def test_swimmer_works_or_says_which_versions_it_does_not_work_with() -> None:
    """Brax 0.14.2 calls `jnp.clip` with an argument that newer versions of jax no longer have."""
    with contextlib.suppress(MaxentRLError):
        assert make_brax("swimmer", "generalized").spec.action_shape == (2,)
        return
    with pytest.raises(IncompatibleEnvironmentError, match="does not run with the installed brax"):
        make_brax("swimmer", "generalized")


def test_a_horizon_below_one_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="horizon must be at least 1"):
        BraxEnv("fast", horizon=0)


def test_backends_are_those_of_brax() -> None:
    for backend in BACKENDS:
        assert make_brax("fast", backend).backend == backend


@pytest.mark.slow
def test_making_an_environment_leaves_terminal_and_folder_clean(tmp_path: Path) -> None:
    code = "from maxent_rl.envs.adapters.brax import make_brax as m; m('halfcheetah'); m('halfcheetah', 'positional')"
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "maintained" not in done.stderr and "settotalmass" not in done.stderr
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()
