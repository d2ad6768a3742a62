"""The cache of compiled programs: on by default, where the user wants it, and never a reason to fail."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from maxent_rl.training.compilation import cache_folder, compiler_options

_PROGRAM = """
import jax
from maxent_rl.training.compilation import enable_compilation_cache
enable_compilation_cache()
print(jax.config.jax_compilation_cache_dir)
"""


def run(**environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_the_cache_is_below_the_users_cache_folder(tmp_path):
    assert run(XDG_CACHE_HOME=str(tmp_path)) == str(tmp_path / "maxent_rl" / "xla")
    assert (tmp_path / "maxent_rl" / "xla").is_dir()


@pytest.mark.slow
def test_the_users_own_choice_stands(tmp_path):
    assert run(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")
    assert run(XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    assert not (tmp_path / "maxent_rl").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(XDG_CACHE_HOME=str(tmp_path / "file")) == "None"


def test_without_xdg_the_folder_is_in_the_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "maxent_rl" / "xla"


def test_this_version_of_xla_knows_the_options():
    if compiler_options() is None:
        pytest.skip("options are given to the version of JAX that they were measured with, which this is not")
    product = jax.jit(lambda a: a @ a, compiler_options=compiler_options())
    assert product(jnp.ones((4, 4)))[0, 0] == 4.0
