"""A folder's lock: one at a time, and free when its owner has been killed."""

import os
import signal
import subprocess
import sys

import pytest

from maxent_rl.errors import StorageError
from maxent_rl.storage.lock import only_one

HOLDER = """
import sys, time
from pathlib import Path
from maxent_rl.storage.lock import only_one
with only_one(Path(sys.argv[1]), "It"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_holds_it_and_a_killed_owner_holds_nothing(tmp_path):
    path = tmp_path / "run.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            words = rf"It is being run by another process \(process {holder.pid} on .*\): wait\."
            with pytest.raises(StorageError, match=words), only_one(path, "It", "wait"):
                pass
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    with only_one(path, "It"):
        assert path.read_text().startswith(f"process {os.getpid()} on ")


def test_within_a_process_it_is_held_once_too(tmp_path):
    path = tmp_path / "folder" / "run.lock"
    with only_one(path, "It"), pytest.raises(StorageError, match="It is being run"), only_one(path, "It"):
        pass
    with only_one(path, "It"):
        pass
