"""No file decides what is imported: every command that reads a policy refuses a module it names, unless that is allowed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from teachers import make_teacher

from maxent_rl.errors import InvalidSettingError
from maxent_rl.playing.opening import open_environment
from maxent_rl.runs.policy import load_policy

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
MODULE = "module_of_somebody_else"
COMMANDS = {
    "evaluate": ("evaluate", "{policy} --episodes 1"),
    "evaluate with a picture": ("evaluate", "{policy} --episodes 1 --picture {folder}/new.png"),
    "experts": ("experts", "{policy} --output {folder}/new"),
    "collect": ("dataset", "collect --policy {policy} --size 1 --output {folder}/new.npz"),
    "collect at random": ("dataset", "collect --policy {policy} --kind random --size 1 --output {folder}/new.npz"),
    "preferences": ("dataset", "preferences --policy {policy} --label return --output {folder}/new.npz"),
}


def load(name: str) -> Any:
    if name == "dataset":  # reads one of its neighbours
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", EXPERIMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("policy"), env_name=f"{MODULE}:Env-v0")


@pytest.mark.parametrize(("name", "flags"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_imports_what_a_policy_names_only_if_that_is_allowed(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str, flags: str
) -> None:
    (tmp_path / f"{MODULE}.py").write_text("raise SystemError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    main, arguments = load(name).main, flags.format(policy=policy, folder=tmp_path).split()
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert f"imports the Python module '{MODULE}'" in told and "--allow-env-import" in told
    with pytest.raises(SystemError, match="it ran"):
        main([*arguments, "--allow-env-import"])
    assert not list(tmp_path.glob("new*"))


def test_so_does_the_library_which_takes_a_module_that_is_imported_already(policy: str) -> None:
    with pytest.raises(InvalidSettingError, match=f"in Python with import {MODULE}"):
        open_environment(load_policy(policy))
