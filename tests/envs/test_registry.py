"""Names lead to the environment that a person meant, or to words that say which ones there are."""

from __future__ import annotations

import functools
import re
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from environments import HostPoint, host_point

from maxent_rl.envs.registry import BACKENDS, canonical_name, has_name, is_device, make_device, make_host, make_single
from maxent_rl.errors import (
    IncompatibleEnvironmentError,
    InvalidSettingError,
    MissingDependencyError,
    UnknownNameError,
)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("HalfCheetah", "HalfCheetah-v5"),
        ("Hopper", "Hopper-v5"),
        ("Pendulum", "Pendulum-v1"),
        ("HalfCheetah-v4", "HalfCheetah-v4"),
        ("HalfCheetah-v5", "HalfCheetah-v5"),
        ("Pendulum-v1", "Pendulum-v1"),
        ("brax/halfcheetah", "brax/halfcheetah"),
        ("playground/CheetahRun", "playground/CheetahRun"),
        ("envpool/HalfCheetah", "envpool/HalfCheetah-v5"),
        ("envpool/HalfCheetah-v4", "envpool/HalfCheetah-v4"),
    ],
)
def test_a_bare_name_is_the_newest_version_and_full_names_stay(name: str, full: str) -> None:
    assert canonical_name(name) == full
    assert canonical_name(full) == full


def test_version_ten_is_newer_than_version_nine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium.envs.registration, "registry", gymnasium.registry)
    for version in (9, 10):
        monkeypatch.setitem(gymnasium.registry, f"Crossing-v{version}", gymnasium.spec("Pendulum-v1"))
    assert canonical_name("Crossing") == "Crossing-v10"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Halfcheeta", "Unknown environment 'Halfcheeta'. Did you mean 'HalfCheetah-v5'"),
        ("halfcheetah", "Did you mean 'HalfCheetah-v5'"),
        ("HalfCheetah-v99", "Did you mean 'HalfCheetah-v5'"),
        ("Pendulom", "Did you mean 'Pendulum-v1'"),
        ("bracks/halfcheetah", "Did you mean 'brax/halfcheetah'"),
        ("", "Unknown environment ''"),
        ("nowhere/Zq", "brax/NAME, playground/NAME, envpool/NAME, maxent/NAME"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_right_ones(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(words)):
        canonical_name(name)
    with pytest.raises(UnknownNameError):
        make_host(name, [0])


def test_a_wrong_name_after_a_right_prefix_is_answered_by_the_backend() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'brax/halfcheetah'"):
        make_device("brax/halfcheeta")


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("brax/halfcheetah", True),
        ("playground/CheetahRun", True),
        ("envpool/HalfCheetah", False),
        ("HalfCheetah", False),
        ("brax", False),
        ("nowhere/halfcheetah", False),
    ],
)
def test_the_prefix_says_where_an_environment_runs(name: str, device: bool) -> None:
    assert is_device(name) == device


def test_each_backend_names_a_function_that_exists() -> None:
    assert {"brax", "playground", "envpool"} <= set(BACKENDS)
    for backend in BACKENDS.values():
        assert callable(backend.load())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_host("brax/halfcheetah", [0]), "runs on the device; make it with `make_device`"),
        (lambda: make_single("brax/halfcheetah"), "runs on the device"),
        (lambda: make_device("HalfCheetah"), "HalfCheetah-v5 runs on the host; make it with `make_host`"),
        (lambda: make_device("HalfCheetah", "spring"), "--backend chooses the physics of brax/"),
        (lambda: make_device("playground/CheetahRun", "spring"), "--backend chooses the physics of brax/"),
    ],
)
def test_what_is_asked_of_the_wrong_kind_of_environment_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InvalidSettingError, match=re.escape(words)):
        make()


def test_host_environments_are_made_by_name_with_their_own_seeds() -> None:
    envs = make_host("Pendulum", [3, 4])
    first = envs.reset()
    assert (envs.num_envs, envs.spec.horizon) == (2, 200)
    expected, _ = gymnasium.make("Pendulum-v1").reset(seed=4)
    np.testing.assert_array_equal(first[1], expected)
    envs.close()


@pytest.mark.parametrize("make", [host_point, functools.partial(HostPoint, horizon=20), lambda: HostPoint()])
def test_a_function_makes_environments_that_are_not_registered(make: Any) -> None:
    envs = make_host(make, [3, 4])
    assert envs.reset().shape == (2, 2)
    assert envs.step(np.zeros((2, 2))).reward.shape == (2,)
    assert isinstance(make_single(make), HostPoint)


def test_a_function_is_named_in_messages() -> None:
    def crossing() -> dict[str, int]:
        return {}

    with pytest.raises(IncompatibleEnvironmentError, match="crossing gave a dict"):
        make_host(crossing, [0])  # type: ignore[arg-type]


def test_one_environment_is_made_as_gymnasium_makes_it() -> None:
    env = make_single("envpool/Pendulum", render_mode="rgb_array")
    assert env.spec is not None and env.spec.id == "Pendulum-v1"
    assert env.render_mode == "rgb_array"
    env.close()


def test_an_environment_that_needs_a_missing_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(
        MissingDependencyError, match=r"BipedalWalker-v3 needs a package that is not installed: .*[a-z\"`\]]\.$"
    ):
        make_single("BipedalWalker")


def test_envpool_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "maxent_rl\[envpool\]"'):
        make_host("envpool/HalfCheetah", [0])


def test_a_version_that_gymnasium_no_longer_makes_is_refused_in_one_sentence() -> None:
    with pytest.raises((IncompatibleEnvironmentError, MissingDependencyError), match="HalfCheetah-v2"):
        make_single("HalfCheetah-v2")


def test_a_module_that_registers_environments_may_stand_before_a_colon() -> None:
    assert canonical_name("gymnasium:Pendulum-v1") == "gymnasium:Pendulum-v1"
    with pytest.raises(UnknownNameError, match="'no_such_module', which should register it, cannot be imported"):
        canonical_name("no_such_module:Pendulum-v1")


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [
        ("ALE/Pong-v5", "ale-py", "ale_py"),
        ("MiniGrid-Empty-5x5-v0", "minigrid", "minigrid"),
        ("Meta-World/MT1", "metaworld", "metaworld"),
    ],
)
def test_environments_of_packages_that_register_them_say_how_to_have_them(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, module: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}, then name it {module}:{re.escape(name)}"):
        canonical_name(name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    with pytest.raises(UnknownNameError, match=f"name it {module}:{re.escape(name)}"):
        canonical_name(name)
    assert not has_name(name)


def test_a_choice_of_physics_says_that_an_environment_of_brax_is_meant() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown environment 'halfcheetah'\. Did you mean 'brax/halfcheetah'\?"
    ):
        canonical_name("halfcheetah", "spring")
    with pytest.raises(
        InvalidSettingError, match=r"HalfCheetah-v5 has none to choose\. Did you mean brax/halfcheetah\?"
    ):
        make_device("HalfCheetah", "spring")


def test_what_is_no_name_is_told() -> None:
    for make in (canonical_name, make_device, functools.partial(make_host, seeds=[0])):
        for name in (None, 5):
            with pytest.raises(UnknownNameError, match=f"Unknown environment {name}"):
                make(name)
    with pytest.raises(InvalidSettingError, match=r"a seed for each environment, \[0\] for a single one, got 0"):
        make_host("Pendulum", 0)
