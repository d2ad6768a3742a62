"""MuJoCo's warnings reach the user as Python warnings; neither terminal nor folder is littered."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from maxent_rl.envs.adapters.mujoco_log import quiet_import

START = """
import numpy as np
from maxent_rl.envs.registry import make_host
envs = make_host("HalfCheetah", [0])
envs.reset()
envs.step(np.zeros((1, 6)))
"""
# A joint that moves at 1e12 makes MuJoCo warn of bad numbers and reset the simulation.
DIVERGE = """
import mujoco
from maxent_rl.envs.adapters.mujoco_log import quiet_mujoco
quiet_mujoco()
quiet_mujoco()
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body><joint type='slide'/><geom size='1'/></body></worldbody></mujoco>"
)
data = mujoco.MjData(model)
data.qvel[0] = 1e12
mujoco.mj_step(model, data)
print("alive")
"""


def run(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    environment = {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_making_and_stepping_halfcheetah_leaves_terminal_and_folder_clean(tmp_path: Path) -> None:
    done = run(START, tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_diverging_simulation_is_a_python_warning_and_no_file(tmp_path: Path) -> None:
    done = run(DIVERGE, tmp_path)
    assert done.stdout == "alive\n"
    assert "UserWarning: MuJoCo: " in done.stderr and "QVEL" in done.stderr
    assert not list(tmp_path.iterdir())


def test_where_warnings_are_errors_the_process_lives_on_and_the_text_is_printed(tmp_path: Path) -> None:
    done = run(DIVERGE, tmp_path, "-W", "error::UserWarning")
    assert done.stdout == "alive\n"
    assert done.stderr.startswith("MuJoCo: ") and "QVEL" in done.stderr


def test_a_handler_that_somebody_has_chosen_stays(tmp_path: Path) -> None:
    own = DIVERGE.replace(
        "import mujoco\n", "import mujoco\nmujoco.set_mju_user_warning(lambda text: print('mine'))\n", 1
    )
    done = run(own, tmp_path)
    assert (done.stdout, done.stderr) == ("mine\nalive\n", "")


def test_only_the_lines_about_warp_are_dropped_while_importing(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_import():
        print("Failed to import warp: No module named 'warp'\nFailed to import mujoco_warp: no\nwhat matters")
    assert capsys.readouterr().out == "what matters\n"


def test_what_brax_says_of_itself_is_dropped_and_other_warnings_come_through() -> None:
    with warnings.catch_warnings(record=True) as caught, quiet_import():
        warnings.warn("Brax System, piplines and environments are not actively being maintained.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(each.message) for each in caught] == ["something else"]


def test_what_was_printed_before_a_failed_import_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), quiet_import():
        print("Failed to import warp: no\na hint")
        raise ImportError
    assert capsys.readouterr().out == "a hint\n"
