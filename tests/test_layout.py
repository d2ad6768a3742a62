"""The library's shape: who imports whom, and how little `import maxent_rl` loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("brax", "gymnasium", "matplotlib", "mujoco", "orbax", "ray", "tensorboard", "tensorboardX", "wandb")


def test_imports_keep_to_the_layers():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_library_is_light():
    code = (
        "import sys, maxent_rl\n"
        "assert maxent_rl.__version__ and 'train' in maxent_rl.__all__\n"
        f"print(*sorted({set(HEAVY)!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
