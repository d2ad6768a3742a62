"""Command lines drawn at random, right ones and wrong ones: what they are answered, and whether they did what they say."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import random
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.lab.measure import ROOT
from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.faults import samples
from benchmarks.studies.faults.setting import CommandLines
from maxent_rl.agents.soft.pmoe import PMOE
from maxent_rl.data.datasets.files import read_dataset

_LIMIT = 60
_NOWHERE, _GIVEN, _MIXTURE = "runs/nowhere", "runs/Pendulum-v1/sac/given", "runs/Pendulum-v1/pmoe/given"
_PAIRS = (
    *(("sac", "Pendulum-v1"), ("sac", "maxent/MultiGoal"), ("pmoe", "Pendulum-v1"), ("ppo", "CartPole-v1")),
    *(
        ("sac-discrete", "CartPole-v1"),
        ("dqn-online", "CartPole-v1"),
        ("reppo", "Pendulum-v1"),
        ("ppo", "maxent/MultiGoal"),
    ),
)
_NUMBERS = {
    "total_steps": (100, 5000),
    "num_seeds": (1, 4),
    "seed": (0, 1000),
    "eval_every": (1, 500),
    "eval_episodes": (1, 5),
    "checkpoint_every": (1, 500),
    "keep_checkpoints": (1, 5),
    "log_every": (1, 500),
}
_WRONG = ("abc", "-3", "nan", "1e400", "1.5", "", "0x10", "1,2", "None of them", "9" * 400)
Check = Callable[[str], str]
"""Takes what was printed; what was done otherwise than asked, or nothing."""


class Line(NamedTuple):
    """A command line, and what must come of it.

    Attributes:
      arguments: of the command.
      check: of a right one; None for one that must be refused.
    """

    arguments: list[str]
    check: Check | None


def measure_lines(unit: Unit, plan: CommandLines) -> Measured:
    """Gives a command its lines, one after the other, in a folder of their own."""
    sys.path.insert(0, str(ROOT / "experiments"))
    main = importlib.import_module(unit.env).main
    draw, found = random.Random(f"{plan.seed} {unit.env}"), []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        samples.write_run(Path(_GIVEN))
        mixture = PMOE(hidden_sizes=(4,), num_experts=2, batch_size=8, replay_size=200, start_steps=20)
        samples.write_run(Path(_MIXTURE), mixture, "pmoe")
        samples.KINDS["npz"].write(Path())
        for index in range(unit.measured["lines"]):
            line = _LINES[unit.env](draw, index)
            line = line if index % 2 else _spoilt(line, draw, unit.env)
            told, status, wrong = _outcome(main, line)
            more = {"line": shlex.join([unit.env, *line.arguments]), "status": status, "said": told, "wrong": wrong}
            found.append(Seed(index, {"right": float(not wrong), "valid": float(line.check is not None)}, more))
    return Measured(found, {"maxent_rl": importlib.metadata.version("maxent_rl")})


def _outcome(main: Callable[[list[str]], int], line: Line) -> tuple[str, int | None, str]:
    """What was said last, the exit status, and what is wrong with them."""
    before = _files()
    output, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), _limited():
            status = main(list(line.arguments))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        raise  # of whoever measures
    except BaseException as error:
        return "", None, f"{type(error).__name__}: {str(error)[:200]}"
    said = _without_places(errors.getvalue().strip() or output.getvalue().strip()).splitlines()[-1:] or [""]
    text = output.getvalue() + errors.getvalue()
    if "Traceback" in text:
        return said[0][:300], status, "a traceback"
    if line.check is None:
        wrong = "exit 0" if not status else "" if said[0] else "no sentence"
        return said[0][:300], status, wrong or ("it wrote files" if _files() != before else "")
    return said[0][:300], status, f"exit {status}" if status else line.check(output.getvalue())


def _without_places(text: str) -> str:
    """What was said, wherever the library and its Python lie."""
    return text.replace(sys.executable, "python").replace(f"{ROOT}{os.sep}", "")


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {_LIMIT} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def _drawn_numbers(draw: random.Random, most: int = 4) -> dict[str, int]:
    names = draw.sample(list(_NUMBERS), draw.randint(1, most))
    return {name: draw.randint(*_NUMBERS[name]) for name in names}


def _flags(values: dict[str, Any]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _run(draw: random.Random, index: int) -> Line:
    agent, env = draw.choice(_PAIRS)
    values = _drawn_numbers(draw)
    hyper = {"learning_rate": draw.choice((1e-3, 3e-4)), "discount": draw.choice((0.9, 0.99))}
    hyper = dict(draw.sample(list(hyper.items()), draw.randint(0, 2)))

    def check(output: str) -> str:
        told = json.loads(output)
        got = {**{name: told["run"][name] for name in values}, **{name: told["agent"][name] for name in hyper}}
        asked = values | hyper | {"agent": agent, "env": env}
        got |= {name: told["run"][name] for name in ("agent", "env")}
        return "" if got == asked else f"{got} instead of {asked}"

    return Line(["--agent", agent, "--env", env, *_flags(values | hyper), "--dry-run"], check)


def _sweep(draw: random.Random, index: int) -> Line:
    agents = draw.sample(("sac", "pmoe"), draw.randint(1, 2))
    envs = draw.sample(("Pendulum-v1", "maxent/MultiGoal", "HalfCheetah-v5"), draw.randint(1, 3))
    sizes, rates = draw.sample((8, 16, 32, 64), draw.randint(1, 4)), draw.sample((1e-3, 3e-4, 1e-4), draw.randint(1, 3))
    seeds = draw.randint(1, 5)
    line = ["--agents", *agents, "--envs", *envs, "--set", f"batch-size={','.join(map(str, sizes))}"]
    line += [
        f"learning-rate={','.join(map(str, rates))}",
        "--num-seeds",
        str(seeds),
        "--dry-run",
        "--name",
        f"study{index}",
    ]

    def check(output: str) -> str:
        asked = len(agents) * len(envs) * len(sizes)
        each = f"{len(rates)} variants x {seeds} seeds, to do"
        fits = output.count("to do") == asked == output.count(each) and f": {asked} jobs" in output
        return "" if fits else f"not {asked} jobs of {each}: {output[:200]}"

    return Line(line, check)


def _evaluate(draw: random.Random, index: int) -> Line:
    episodes, seed = draw.randint(1, 2), draw.choice((None, 0, 1))
    line = [
        _GIVEN,
        "--episodes",
        str(episodes),
        "--json",
        "--eval-seed",
        str(draw.randint(0, 99)),
    ]
    line += [] if seed is None else ["--seed", str(seed)]
    line += draw.choice(([], ["--stochastic"], ["--num-envs", "1"]))

    def check(output: str) -> str:
        told = json.loads(output)
        found = [(row["seed"], len(row["returns"])) for row in told["seeds"]]
        asked = [(each, episodes) for each in ((0, 1) if seed is None else (seed,))]
        return (
            "" if found == asked and told["stochastic"] == ("--stochastic" in line) else f"{found} instead of {asked}"
        )

    return Line(line, check)


def _dataset(draw: random.Random, index: int) -> Line:
    size, output = draw.randint(3, 60), f"made{index}.npz"
    if draw.random() < 0.3:
        times = draw.randint(2, 3)
        return Line(["join", *["data.npz"] * times, "--output", output], lambda _: _has(output, 40 * times))
    kind = draw.choice((["--kind", "random", "--env", "Pendulum-v1"], ["--policy", _GIVEN]))
    return Line(["collect", *kind, "--size", str(size), "--output", output], lambda _: _has(output, size))


def _has(path: str, size: int) -> str:
    found = read_dataset(path).size
    return "" if found == size else f"{found} transitions instead of {size}"


def _report(draw: random.Random, index: int) -> Line:
    output = f"report{index}"
    line = ["runs", "--output", output, "--bootstrap", "5", "--at", draw.choice(("final", "best", "200"))]
    return Line(line, lambda _: "" if any(Path(output).glob("*.html")) else "no page was written")


def _experts(draw: random.Random, index: int) -> Line:
    output = f"pictures{index}"
    line = [_MIXTURE, "--episodes", "1", "--seed", "0", "--output", output]
    return Line(line, lambda _: "" if any(Path(output).rglob("*.png")) else "no picture was drawn")


def _spoilt(line: Line, draw: random.Random, command: str) -> Line:
    """A line that is wrong in one way."""
    arguments = list(line.arguments)
    flags = [place for place, each in enumerate(arguments) if each.startswith("--")]
    numbers = [place for place in flags if place + 1 < len(arguments) and arguments[place + 1].isdecimal()]
    ways: list[Callable[[], list[str]]] = [
        lambda: [*arguments, "--lerning-rat", "3"],
        lambda: [*arguments, draw.choice(("stray", "--=3", "-x", "--resum", "--\0", "--é"))],
        lambda: [*arguments[: (place := draw.choice(flags))], arguments[place][:-2] + "zz", *arguments[place + 1 :]],
    ]
    if numbers:
        ways.append(
            lambda: [*arguments[: (place := draw.choice(numbers) + 1)], draw.choice(_WRONG), *arguments[place + 1 :]]
        )
        ways.append(lambda: arguments[: draw.choice(numbers) + 1])
    ways += [partial(_with, arguments, own) for own in _OWN[command]]
    return Line(draw.choice(ways)(), None)


def _with(arguments: list[str], own: list[str]) -> list[str]:
    """The line with flags more, or another line."""
    return [*arguments, *own] if own and own[0].startswith("--") else own


_OWN: dict[str, list[list[str]]] = {
    "run": [
        *(
            ["--resume", _NOWHERE],
            ["--config", _NOWHERE],
            ["--from-step", "100"],
            ["--resume", ""],
            ["--preset", "fasst"],
        ),
        *(["--agent", "sacc"], ["--env", "Pendulumm-v1"], ["--env", "nomodule_at_all:Id"], ["--name", ".."]),
        *(["--device", "abacus"], ["--coordinator", "somewhere"], ["--process-id", "1"], ["--hidden-sizes", "0"]),
        *(["--discount", "2"], ["--teacher", _NOWHERE], ["--resume", _GIVEN, "--config", _GIVEN], ["--num-seeds", "0"]),
    ],
    "sweep": [
        *(["--agents", "sacc"], ["--envs", "Pendulumm"], ["--set", "lerning-rate=1,2"], ["--set", "discount"]),
        *(["--retries", "-1"], ["--set", "seed=1,2"], ["--set", "batch-size=0,1"], ["--name", "a/b"]),
        *(["--max-seeds-per-job", "0"], ["--preset", "fasst"]),
    ],
    "evaluate": [
        [_NOWHERE],
        ["--seed", "7"],
        ["--variant", "3"],
        ["--num-envs", "0"],
        ["--episodes", "0"],
        ["data.npz"],
        [],
    ],
    "dataset": [
        *(
            ["collect"],
            ["join", "data.npz"],
            ["join", _NOWHERE, "--output", "x.npz"],
            ["measure", _NOWHERE],
            ["colect"],
            [],
        ),
        *(["measure", "data.npz", "--edges", "0"], ["join", "data.npz", "--output", "x.csv"], ["preferences"]),
        *(["join", "data.npz", "--output", "data.npz"], ["collect", "--policy", "data.npz", "--output", "x.npz"]),
    ],
    "report": [
        [_NOWHERE],
        ["--metric", "retrun_mean"],
        ["--at", "never"],
        ["--bootstrap", "0"],
        ["--normalize-by", _NOWHERE],
    ],
    "experts": [[_NOWHERE], ["--seed", "7"], ["--episodes", "0"], ["data.npz"], []],
}
_LINES: dict[str, Callable[[random.Random, int], Line]] = {
    "run": _run,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "dataset": _dataset,
    "report": _report,
    "experts": _experts,
}
