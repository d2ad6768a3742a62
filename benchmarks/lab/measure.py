"""Alternating runs, what the machine was doing, their statistics, and results as JSON and as a table.

A benchmark is a set of named contenders, each a function that takes one measurement in processes of its own, and a set of
comparisons between them. The runs alternate (A B A B), so that a machine that grows slower or busier does so for all, and a
ratio is formed within each repeat before its median is taken. After every run the results are written, so that an interrupt
loses only the run it interrupts.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
SPEED = ROOT / "benchmarks" / "speed"
BUSY = 0.10
"""Share of all cores that others may use before a run without a warning."""

# Settings of the user's that change speeds; they are recorded, not changed.
_VARIABLES = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_SAMPLE_SECONDS = 1.0


class BenchmarkError(Exception):
    """A measurement that could not be taken; its message is for the person."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags that every benchmark takes."""

    repeats: int = 5
    """Times that every contender runs."""
    pause: float = 3.0
    """Seconds of rest before each run."""
    output: Path = SPEED / "results"
    """Folder in which NAME.json is written."""
    peers: Path = ROOT / ".peers"
    """Folder of the peers' virtual environments (benchmarks/speed/peers/make.sh)."""


class Ratio(NamedTuple):
    """A comparison: the metric of one contender over that of another, or over the best of several."""

    metric: str
    contender: str
    others: tuple[str, ...]
    other_metric: str | None = None

    @property
    def title(self) -> str:
        """How tables name it."""
        over = " or ".join(self.others)
        return f"{self.contender} / {'best of ' if len(self.others) > 1 else ''}{over}"


class Measurement(NamedTuple):
    """What one run of one contender gave.

    Attributes:
      values: numbers by metric; each gets a median and a range.
      versions: of what ran.
      more: anything else worth keeping, as JSON.
    """

    values: dict[str, float]
    versions: dict[str, str]
    more: dict[str, Any] = {}  # noqa: RUF012  # never written to


Contender = Callable[[int], Measurement]
"""Takes the number of the repeat (from 0) and measures once."""


def measure(
    name: str,
    contenders: Mapping[str, Contender],
    options: Options,
    ratios: Sequence[Ratio] = (),
    show: Sequence[str] = (),
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Runs all contenders in turn, `options.repeats` times, and writes and shows the results.

    Args:
      name: of the benchmark: results go to `options.output`/NAME.json.
      contenders: by name, in the order in which they run.
      options: flags of the benchmark; all of them are recorded.
      ratios: comparisons; those whose contenders did not all run are left out.
      show: metrics for the table, all if empty.
      skipped: contenders that cannot run on this machine, and why; only written down.

    Returns:
      The results as written.
    """
    console = Console(stderr=True, soft_wrap=True)
    result = new_result(name, options) | ({"skipped": dict(skipped)} if skipped else {})
    path = options.output / f"{name}.json"
    total = options.repeats * len(contenders)
    try:
        for index in range(total):
            repeat, contender = index // len(contenders), list(contenders)[index % len(contenders)]
            _run(result, contender, contenders[contender], repeat, options.pause, console, f"[{index + 1}/{total}]")
            _finish(result, ratios, path)
        result["complete"] = not any("error" in run for run in result["runs"])
    except KeyboardInterrupt:
        console.print("Stopped; the finished runs are kept.")
    if result["runs"]:
        _finish(result, ratios, path)
        print(markdown_table(result, show))
        console.print(f"Written: {path}")
    return result


_PLACES = ("output", "peers", "teachers")


def new_result(name: str, options: Any) -> dict[str, Any]:
    """A result without runs: when, on what machine and with which settings (a dataclass) a benchmark was run."""
    settings = json.loads(json.dumps(dataclasses.asdict(options), default=str))  # as they will be read
    return {
        "benchmark": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "complete": False,
        "hardware": hardware(),
        "settings": {key: value for key, value in settings.items() if key not in _PLACES},
        "environment": {key: os.environ[key] for key in _VARIABLES if key in os.environ},
        "versions": {},
        "runs": [],
    }


def exit_status(result: Mapping[str, Any]) -> int:
    """0 where every run gave a measurement, 1 where one failed, 130 after an interrupt."""
    if any("error" in run for run in result["runs"]):
        return 1
    return 0 if result["complete"] else 130


def _run(
    result: dict[str, Any], name: str, contender: Contender, repeat: int, pause: float, console: Console, progress: str
) -> None:
    """One run of one contender; a failure is recorded and shown, and the others go on."""
    time.sleep(pause)
    load, busy = os.getloadavg()[0], busy_share(_SAMPLE_SECONDS)
    if busy > BUSY:
        console.print(f"Warning: other processes use {busy:.0%} of the machine; the numbers will not be its own.")
    run: dict[str, Any] = {"contender": name, "repeat": repeat, "load_average": load, "busy_before": round(busy, 3)}
    console.print(f"{progress} {name} ...", highlight=False)
    began = time.monotonic()
    try:
        measured = contender(repeat)
    except BenchmarkError as error:
        result["runs"].append(run | {"error": str(error)})
        console.print(f"{progress} {name}: failed: {error}", highlight=False, markup=False)
        return
    result["runs"].append(run | {"values": measured.values} | measured.more)
    result["versions"][name] = measured.versions
    told = ", ".join(f"{key} {show_number(value)}" for key, value in list(measured.values.items())[:3])
    console.print(f"{progress} {name}: {told} ({time.monotonic() - began:.0f} s)", highlight=False, markup=False)


def _finish(result: dict[str, Any], ratios: Sequence[Ratio], path: Path) -> None:
    result["summary"] = summary(result["runs"])
    found = {f"{ratio.title}: {ratio.metric}": compare(result["runs"], ratio) for ratio in ratios}
    result["ratios"] = {title: value for title, value in found.items() if value is not None}
    write_json(path, result)


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Median and range of every metric of every contender, over the runs that did not fail."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for metric, value in run.get("values", {}).items():
            gathered.setdefault(run["contender"], {}).setdefault(metric, []).append(value)
    return {
        contender: {metric: spread(values) for metric, values in metrics.items()}
        for contender, metrics in gathered.items()
    }


def compare(runs: Sequence[Mapping[str, Any]], ratio: Ratio) -> dict[str, float] | None:
    """Median and range of a ratio that is formed within each repeat; None where no repeat has both sides."""
    by_repeat: dict[int, dict[str, dict[str, float]]] = {}
    for run in runs:
        by_repeat.setdefault(run["repeat"], {})[run["contender"]] = run.get("values", {})
    ratios = []
    for found in by_repeat.values():
        own = found.get(ratio.contender, {}).get(ratio.metric)
        other_metric = ratio.other_metric or ratio.metric
        others = [found.get(other, {}).get(other_metric) for other in ratio.others]
        if own is not None and all(other is not None for other in others):
            ratios.append(own / max(others))
    return spread(ratios) if ratios else None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest, largest and number of values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "count": len(values)}


def common_speed(points: Sequence[Sequence[tuple[float, float]]]) -> tuple[float, float]:
    """The speed of processes that run side by side, over the while that all of them were measured.

    Args:
      points: for each process (time, work done until then), rising; between points work is taken to be even.

    Returns:
      (work per second of all together, share of the longest process's time that they have in common).

    Raises:
      BenchmarkError: they have no time in common.
    """
    begin, end = max(process[0][0] for process in points), min(process[-1][0] for process in points)
    if end <= begin:
        raise BenchmarkError("The processes were not measured at the same time: measure for longer.")
    work = sum(_work_at(process, end) - _work_at(process, begin) for process in points)
    return work / (end - begin), (end - begin) / max(process[-1][0] - process[0][0] for process in points)


def _work_at(points: Sequence[tuple[float, float]], moment: float) -> float:
    for (before, done), (after, more) in itertools.pairwise(points):
        if before <= moment <= after:
            return done + (more - done) * (moment - before) / (after - before)
    raise ValueError(f"{moment} lies outside {points[0][0]} to {points[-1][0]}.")


def markdown_table(result: Mapping[str, Any], show: Sequence[str] = ()) -> str:
    """The summary of a result as Markdown: median (smallest to largest) of each metric, then the ratios."""
    found = result["summary"]
    metrics = list(show) or list(dict.fromkeys(metric for values in found.values() for metric in values))
    lines = [
        "| " + " | ".join(["", *(metric.replace("_", " ") for metric in metrics)]) + " |",
        "| --- |" + " ---: |" * len(metrics),
    ]
    for contender, values in found.items():
        cells = [show_spread(values[metric]) if metric in values else "" for metric in metrics]
        lines.append("| " + " | ".join([contender, *cells]) + " |")
    lines += [""] if result.get("ratios") else []
    lines += [f"- {title}: {show_spread(value)}" for title, value in result.get("ratios", {}).items()]
    return "\n".join(lines)


def show_spread(value: Mapping[str, float]) -> str:
    """`median (smallest to largest)`, or the number alone where there is one."""
    if value["count"] == 1:
        return show_number(value["median"])
    return f"{show_number(value['median'])} ({show_number(value['min'])} to {show_number(value['max'])})"


def show_number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_json(path: Path, value: Any) -> None:
    """Writes the whole file so that at any moment either the old one or the new one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of what runs."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def hardware() -> dict[str, Any]:
    """The machine in plain terms; no host names."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = platform.machine().replace("_", "-")
    return {
        "summary": f"{cores}-core {machine} CPU",
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.system(),
    }


def busy_share(seconds: float) -> float:
    """Share of all cores' time that is used during a while in which we sleep; 0 where it cannot be told."""
    before = _cpu_times()
    time.sleep(seconds)
    after = _cpu_times()
    if before is None or after is None or after[1] == before[1]:
        return 0.0
    return 1.0 - (after[0] - before[0]) / (after[1] - before[1])


def _cpu_times() -> tuple[int, int] | None:
    """(idle, all) ticks of all cores since the start of the machine."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return None
    return ticks[3] + ticks[4], sum(ticks)


def command_line(main: Callable[[], int]) -> None:
    """Runs a command's `main`: an error is one sentence, an interrupt no traceback.

    SIGTERM is taken as an interrupt, so that it too ends the processes that were started.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
