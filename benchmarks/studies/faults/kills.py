"""Kills runs at a moment, or fills their disk, lets them go on, and compares what they leave with an undisturbed run."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from benchmarks.lab.measure import ROOT, BenchmarkError
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.faults.setting import Kills
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.config import read_config
from maxent_rl.runs.records import read_csv

_RUN, _DATASET = ROOT / "experiments" / "run.py", ROOT / "experiments" / "dataset.py"
_TIMING = {"seconds", "steps_per_second"}
_TEACHER = "--agent sac --env Pendulum-v1 --total-steps 300 --hidden-sizes 16 16 --eval-episodes 1 --start-steps 200"
_MOST_TRIES = 8  # until a kill falls into the moment that is wanted
_LIMIT = 900.0


def measure_kills(unit: Unit, plan: Kills, work: Path) -> Measured:
    """Does to copies of a run what the unit's moments say; a copy that is done is not done again.

    Raises:
      BenchmarkError: a run failed of itself, or no file system may be mounted.
    """
    flags = [part.format(**_given(work / "given")) if part.startswith("{") else part for part in unit.flags]
    folder = work / unit.contender.replace(", ", "-")
    whole = _Copy(folder / "whole", flags)
    if not whole.is_done():
        shutil.rmtree(whole.place, ignore_errors=True)
        whole.finish()
    found = []
    for index, moment in enumerate(unit.measured["moments"]):
        draw = random.Random(f"{plan.seed} {unit.contender} {index}")
        copy = _Copy(folder / f"{index}-{moment.replace(' ', '-')}", flags)
        kills, said = _full(copy, whole) if moment == "full disk" else (_killed(copy, whole, moment, draw), "")
        different = _difference(copy.folder, whole.folder) or (said if "traceback" in said else "")
        told = {"moment": moment, "kills": kills, "difference": different, "said": said}
        found.append(Seed(index, {"equal": float(not different)}, told))
        shutil.rmtree(copy.place, ignore_errors=True)
    versions = read_config(whole.folder)["versions"]
    shutil.rmtree(folder)
    return Measured(found, versions)


class _Child:
    """A process that runs a command line: forked from this one, which has imported the library and computed nothing yet.

    Importing takes as long as the runs themselves, and there are hundreds of them.
    """

    def __init__(self, script: Path, arguments: Sequence[str], output: Path) -> None:
        main = _main_of(script)  # imported here, once
        output.parent.mkdir(parents=True, exist_ok=True)
        self._output, self.returncode = output, None
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _become(main, script, arguments, output)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self) -> None:
        """Kills it, if it still runs, and waits for its end."""
        if self.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def wait(self) -> str:
        """Waits for its end; what it printed."""
        deadline = time.monotonic() + _LIMIT
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.02)
        return self._output.read_text(errors="replace")


def _become(main: Callable[[list[str]], int], script: Path, arguments: Sequence[str], output: Path) -> NoReturn:
    """What the forked process does until its end."""
    status = 70
    try:
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.argv = [str(script), *arguments]
        status = main(list(arguments))
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


@functools.cache
def _main_of(script: Path) -> Callable[[list[str]], int]:
    """The `main` of a command, with all that it imports as it works."""
    for module in (
        "maxent_rl.training.runner",
        "orbax.checkpoint",
        "gymnasium",
        "mujoco",
        "tensorboardX",
        "matplotlib.figure",
    ):
        importlib.import_module(module)
    sys.path.insert(0, str(script.parent))
    main: Callable[[list[str]], int] = importlib.import_module(script.stem).main
    return main


class _Copy:
    """A run in a place of its own, begun and gone on with by the same command."""

    def __init__(self, place: Path, flags: Sequence[str]) -> None:
        self.place = place
        where = ["--output-dir", str(place), "--name", "run", "--resume-or-start"]
        self._arguments = [*flags, *where]
        env = flags[flags.index("--env") + 1].replace("/", "-")
        self.folder = place / env / flags[flags.index("--agent") + 1] / "run"
        self.total = int(flags[flags.index("--total-steps") + 1])

    def start(self) -> _Child:
        return _Child(_RUN, self._arguments, self.place.with_name(f"{self.place.name}.txt"))

    def finish(self) -> None:
        process = self.start()
        output = process.wait()
        if process.returncode:
            raise BenchmarkError(f"{' '.join(self._arguments)} ended with {process.returncode}: {_last(output)}")

    def step(self) -> int:
        """The last one that was logged."""
        path = self.folder / "metrics.csv"
        rows = read_csv(path) if path.exists() else []
        return int(float(rows[-1]["step"])) if rows else 0

    def has_checkpoint(self) -> bool:
        return any(name.isdigit() for name in self._names())

    def is_writing(self) -> bool:
        """Whether something unfinished lies there."""
        if any(not name.isdigit() and name != "replay" for name in self._names()):
            return True
        return any(name.endswith(".partial") for name in _names(self.folder / "checkpoints" / "replay"))

    def is_done(self) -> bool:
        return (self.folder / "checkpoints" / str(self.total)).exists()

    def _names(self) -> list[str]:
        return _names(self.folder / "checkpoints")


def _killed(copy: _Copy, whole: _Copy, moment: str, draw: random.Random) -> list[dict[str, Any]]:
    """Kills a run at a moment, or at two, and lets it go on to its end; says where it was."""
    for _ in range(_MOST_TRIES):
        shutil.rmtree(copy.place, ignore_errors=True)
        kills = []
        wanted = ("any", "any") if moment == "twice" else (moment,)
        for number, each in enumerate(wanted):
            process = copy.start()
            first = copy.total * number / len(wanted)
            step = first + draw.random() * 0.8 * copy.total / len(wanted)
            kills.append(_kill(copy, process, each, step, draw.random() * 0.05))
        if all(kill is not None for kill in kills):
            copy.finish()
            return [kill for kill in kills if kill is not None]
    raise BenchmarkError(f"No kill of {copy.folder} fell into the moment {moment!r} in {_MOST_TRIES} tries.")


def _kill(copy: _Copy, process: subprocess.Popen[str], moment: str, step: float, delay: float) -> dict[str, Any] | None:
    """Kills a process in a moment; None where it came too early or too late for it."""
    conditions: dict[str, Callable[[], bool]] = {
        "any": lambda: copy.has_checkpoint() and copy.step() >= step,
        "writing": lambda: copy.has_checkpoint() and copy.step() >= step and copy.is_writing(),
        "early": lambda: (copy.folder / "config.json").exists(),
    }
    deadline = time.monotonic() + _LIMIT
    while not conditions[moment]():
        if process.poll() is not None:
            return None
        if time.monotonic() > deadline:
            process.kill()
            raise BenchmarkError(f"{copy.folder} did not come to the moment {moment!r}.")
        time.sleep(0.0005 if moment == "writing" and copy.step() >= step else 0.005)
    time.sleep(delay * (0.2 if moment == "writing" else 1.0))
    process.kill()
    fits = {"any": True, "writing": copy.is_writing(), "early": not copy.has_checkpoint()}[moment]
    if process.returncode != -signal.SIGKILL or not fits:
        return None
    return {"step": copy.step(), "writing": copy.is_writing()}


def _full(copy: _Copy, whole: _Copy) -> tuple[list[dict[str, Any]], str]:
    """Runs on a disk that fills up, then makes it larger; says where the run was, and its last sentence."""
    shutil.rmtree(copy.place, ignore_errors=True)
    copy.place.mkdir(parents=True)
    size = sum(path.stat().st_size for path in whole.place.rglob("*") if path.is_file())
    with _disk(copy.place, size // 2 // 1024) as grow:
        process = copy.start()
        output = process.wait()
        if process.returncode != 1:
            raise BenchmarkError(f"On a full disk {copy.folder} ended with {process.returncode}: {_last(output)}")
        step, traceback, said = copy.step(), "Traceback" in output, _last(output).replace(str(copy.folder), "RUN")
        grow()
        copy.finish()
        kept = copy.place.with_name(f"{copy.place.name}-kept")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(copy.place, kept)
    os.rmdir(copy.place)
    os.rename(kept, copy.place)
    return [{"step": step, "writing": True}], f"a traceback before: {said}" if traceback else said


@contextlib.contextmanager
def _disk(place: Path, kilobytes: int) -> Iterator[Callable[[], None]]:
    """A file system in memory, and what makes it large."""

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"No file system may be mounted here: {done.stderr.strip()}")

    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")
    try:
        yield lambda: mount("-o", "remount,size=200m")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _difference(folder: Path, whole: Path) -> str:
    """The first thing in which two runs differ; empty where they are the same to the bit.

    Found out in a process of its own: this one must not compute, as others are forked from it.
    """
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            told = _compared(folder, whole)
        except BaseException as error:
            told = f"it cannot be compared: {error}"
        os.write(writing, told.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        found = file.read()
    os.wait()
    return found


def _compared(folder: Path, whole: Path) -> str:
    for name in ("metrics.csv", "eval.csv"):
        tables = [
            [{key: value for key, value in row.items() if key not in _TIMING} for row in read_csv(each / name)]
            for each in (folder, whole)
        ]
        try:
            np.testing.assert_equal(*tables)
        except AssertionError as error:
            return f"{name}: {_last(str(error))}"
    arrays, expected = (_newest(each) for each in (folder, whole))
    if arrays.keys() != expected.keys():
        return "other arrays in the last checkpoint"
    wrong = [name for name in arrays if not np.array_equal(arrays[name], expected[name])]
    return f"the array {wrong[0]} of the last checkpoint" if wrong else ""


def _newest(folder: Path) -> dict[str, Any]:
    checkpoints = Checkpoints(folder / "checkpoints", keep=2, read_only=True)
    try:
        return checkpoints.restore(checkpoints.steps()[-1])[0]
    finally:
        checkpoints.close()


def _given(folder: Path) -> dict[str, str]:
    """A teacher and data to learn from, made once."""
    teacher, data = _Copy(folder / "teacher", _TEACHER.split()), folder / "transitions.npz"
    if not teacher.is_done():
        shutil.rmtree(teacher.place, ignore_errors=True)
        teacher.finish()
    if not data.exists():
        flags = ["collect", "--env", "Pendulum-v1", "--kind", "random", "--size", "1000", "--output", str(data)]
        collecting = _Child(_DATASET, flags, folder / "collecting.txt")
        output = collecting.wait()
        if collecting.returncode:
            raise BenchmarkError(f"No data could be collected: {_last(output)}")
    return {"teacher": str(teacher.folder), "transitions": str(data)}


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
