"""What one accelerator does in a few minutes: `python -m benchmarks.speed.accelerator`.

Measured on the device that JAX takes by itself, the most telling first, until the budget is spent:

    PPO, REPPO and FlashSAC with 2,048 environments each, and Brax's own PPO at the same work
    SAC and PPO with 1, 8, 64 and 256 seeds at once, and Brax's own SAC
    GRPO's loss with its gradients, in bfloat16, of 16,384 and 65,536 tokens; in chunks, and of all logits at once
    tokens per second of sampling from a small and from a larger language model

Results are written after every measurement, so that a run that is cut off keeps what it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tyro
from rich.console import Console

from benchmarks.lab.measure import (
    ROOT,
    SPEED,
    BenchmarkError,
    Ratio,
    command_line,
    compare,
    exit_status,
    new_result,
    show_number,
    summary,
    write_json,
)
from benchmarks.lab.processes import scratch
from benchmarks.speed.accelerator_figure import draw
from benchmarks.speed.accelerator_tables import table
from benchmarks.speed.contenders import measure_peer
from benchmarks.speed.work import OnPolicyWork, Task, Work

PROBES = "benchmarks.speed.accelerator_probes"
_LEAST_SECONDS = 5.0  # in which nothing can be measured
_TAIL = 400  # characters of what a process said in the end

_SMALL_MODEL = {
    "vocabulary_size": 64, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "head_size": 16,
    "intermediate_size": 128,
}  # fmt: skip
# The shape of Qwen2.5-0.5B.
_LARGER_MODEL = {
    "vocabulary_size": 151936, "hidden_size": 896, "num_layers": 24, "num_heads": 14, "num_key_value_heads": 2,
    "head_size": 64, "intermediate_size": 4864, "rope_theta": 1e6, "attention_bias": True, "dtype": "bfloat16",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Flags of this benchmark."""

    budget: float = 480.0
    """Seconds for all measurements; what they do not suffice for is left out, and the results say so."""
    limit: float = 100.0
    """Most seconds for one measurement, compiling included."""
    seconds: float = 1.5
    """Length of a window."""
    repeats: int = 5
    """Windows of a measurement."""
    seeds: tuple[int, ...] = (1, 8, 64, 256)
    """Numbers of seeds that are trained at once."""
    num_envs: int = 2048
    """Environments of PPO, REPPO and FlashSAC."""
    rollout_length: int = 20
    """Steps of each of them in an update of PPO and REPPO."""
    env: str = "brax/halfcheetah"
    """Environment, with spring physics."""
    tokens: tuple[int, ...] = (16384, 65536)
    """Tokens of all sequences of a loss together."""
    vocabulary: int = 151936
    """Size of the vocabulary."""
    width: int = 896
    """Width of the hidden states."""
    small: bool = False
    """Every path at sizes that a CPU does in a minute; the numbers mean nothing."""
    output: Path = SPEED / "results"
    """Folder in which accelerator.json and accelerator.png are written."""

    name: ClassVar[str] = "accelerator"
    models: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"config": _SMALL_MODEL, "responses": 1024, "prompt_length": 8, "response_length": 32},
        "0.5B": {"config": _LARGER_MODEL, "responses": 256, "prompt_length": 64, "response_length": 128},
    }


@dataclasses.dataclass(frozen=True)
class Small(Accelerator):
    """Sizes for a CPU: every path, and no number that means anything."""

    seconds: float = 0.02
    repeats: int = 2
    seeds: tuple[int, ...] = (1, 2)
    num_envs: int = 16
    rollout_length: int = 8
    env: str = "brax/fast"
    tokens: tuple[int, ...] = (64, 128)
    vocabulary: int = 512
    width: int = 32

    name: ClassVar[str] = "accelerator-small"  # never instead of real results
    models: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"config": _SMALL_MODEL, "responses": 4, "prompt_length": 3, "response_length": 5}
        for name in Accelerator.models
    }


class LeftOut(Exception):
    """Why something was not measured."""


class Measurement(NamedTuple):
    """Something to measure.

    Attributes:
      name: of it in the results.
      question: for the process of `accelerator_probes`, where no driver of a peer is run instead.
      driver: of the peer, with its work.
    """

    name: str
    question: dict[str, Any] = {}  # noqa: RUF012  # never written to
    driver: tuple[str, Task] | None = None


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(Accelerator, description=__doc__)
    if options.small:
        options = Small(budget=options.budget, limit=options.limit, output=options.output, small=True)
    return exit_status(measure_all(options))


def plan(options: Accelerator) -> list[Measurement]:
    """What is measured, in this order: what tells most comes first."""
    common = {"kind": "train", "env": options.env, "num_seeds": 1}
    many = common | {"num_envs": options.num_envs}
    wide, envs = _wide_ppo(options), f"envs={options.num_envs}"
    reppo = {"rollout_size": wide.rollout_size} | ({"hidden_sizes": [8], "critic_width": 8} if options.small else {})
    flash = {
        "updates_per_step": 2 / options.num_envs,
        "start_steps": 10 * options.num_envs,
        "batch_size": 16 if options.small else 2048,
        "replay_size": 1024 if options.small else 1_000_000,
        "scheduled_updates": 1_000_000,  # no more than a few thousand are measured
    }
    first = [
        Measurement(f"ppo {envs}", many | {"agent": "ppo", "settings": _ppo_settings(wide)}),
        Measurement(f"reppo {envs}", many | {"agent": "reppo", "settings": reppo}),
        Measurement(f"flashsac {envs}", many | {"agent": "sac", "preset": "flashsac", "settings": flash}),
    ]
    together = {count: _of_seeds(options, common, count) for count in options.seeds}
    ends, between = {options.seeds[0], options.seeds[-1]}, options.seeds[1:-1]
    seeds = [each for count in (*sorted(ends), *between) for each in together[count]]
    losses = [
        Measurement(
            f"loss {statistics} {tokens}x{options.vocabulary}",
            {
                "kind": "token_loss", "statistics": statistics, "tokens": tokens, "vocabulary": options.vocabulary,
                "width": options.width,
            },
        )
        for tokens in options.tokens
        for statistics in ("maxent_rl", "all-logits")
    ]  # fmt: skip
    answers = [
        Measurement(f"generation {name}", {"kind": "generation"} | settings)
        for name, settings in options.models.items()
    ]
    brax_ppo = Measurement(f"brax-ppo {envs}", driver=("brax_ppo.py", wide))
    brax_sac = Measurement("brax-sac seeds=1", driver=("brax_sac.py", _sac(options)))
    return [*first, *seeds[:2], *losses[:2], *answers, brax_ppo, *seeds[2:], *losses[2:], brax_sac]


def _wide_ppo(options: Accelerator) -> OnPolicyWork:
    """What PPO does with many environments, ours and Brax's alike."""
    rollout = options.num_envs * options.rollout_length
    epochs, minibatches = (1, 4) if options.small else (4, 32)
    return OnPolicyWork(
        env=options.env, backend="spring", num_envs=options.num_envs, rollout_size=rollout, epochs=epochs,
        minibatches=minibatches, hidden_sizes=(8,) if options.small else (256, 256), warmup_steps=4 * rollout,
        window_steps=4 * options.repeats * rollout,
    )  # fmt: skip


def _ppo_settings(work: OnPolicyWork) -> dict[str, Any]:
    """Ours, with the policy that Brax has; see `throughput ppo`."""
    return {
        "rollout_size": work.rollout_size, "epochs": work.epochs, "minibatches": work.minibatches,
        "hidden_sizes": list(work.hidden_sizes), "action_distribution": "tanh_gaussian", "state_dependent_std": True,
        "activation": "swish", "normalize_rewards": False,
    }  # fmt: skip


def _sac(options: Accelerator) -> Work:
    """What SAC does with each seed, ours and Brax's alike."""
    if options.small:
        return Work(
            env=options.env, backend="spring", num_envs=4, batch_size=8, replay_size=64, start_steps=16, warmup_steps=16,
            window_steps=32,
        )  # fmt: skip
    return Work(
        env=options.env, backend="spring", num_envs=4, replay_size=32_768, start_steps=1000, warmup_steps=500,
        window_steps=500 * options.repeats,
    )  # fmt: skip


def _of_seeds(options: Accelerator, common: dict[str, Any], count: int) -> list[Measurement]:
    """SAC and PPO with so many seeds."""
    sac, seeds = _sac(options), common | {"num_seeds": count}
    replay = {
        "batch_size": sac.batch_size, "replay_size": sac.replay_size, "start_steps": sac.start_steps,
        "updates_per_step": 1.0,
    }  # fmt: skip
    ppo = {"rollout_size": 64, "minibatches": 4, "epochs": 1} if options.small else {"rollout_size": 2048}
    return [
        Measurement(f"sac seeds={count}", seeds | {"agent": "sac", "num_envs": sac.num_envs, "settings": replay}),
        Measurement(
            f"ppo seeds={count}", seeds | {"agent": "ppo", "num_envs": 4 if options.small else 64, "settings": ppo}
        ),
    ]


def measure_all(options: Accelerator) -> dict[str, Any]:
    """Measures one thing after the other, and writes, renders and returns what was found."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    result = new_result(options.name, options) | {"skipped": {}, "models": options.models}
    deadline = time.monotonic() + options.budget
    measurements = plan(options)
    with scratch() as folder, contextlib.closing(Probes(Path(folder))) as probes:
        try:
            for index, measurement in enumerate(measurements):
                console.print(f"[{index + 1}/{len(measurements)}] {measurement.name} ...")
                console.print(f"    {_measure(measurement, options, deadline, probes, result)}")
                _write(result, options)
            result["complete"] = not any("error" in run for run in result["runs"])
        except KeyboardInterrupt:
            console.print("Stopped; what was measured is kept.")
    if result["runs"]:
        _write(result, options)
        print(table(result))
        if draw(result, options.output / f"{options.name}.png"):
            console.print(f"Written: {options.output / options.name}.json and .png")
    return result


def _measure(
    measurement: Measurement, options: Accelerator, deadline: float, probes: Probes, result: dict[str, Any]
) -> str:
    """Measures one thing, adds what came of it to the result, and gives a line for people."""
    name, left = measurement.name, deadline - time.monotonic()
    if left < _LEAST_SECONDS:
        spent = f"The budget of {options.budget:g} s was spent before."
        result["skipped"][name] = spent
        return spent
    seconds = min(options.limit, left)
    try:
        if measurement.driver is None:
            windows = probes.ask(
                {**measurement.question, "seconds": options.seconds, "repeats": options.repeats}, seconds
            )
            _describe(result, probes)
        else:
            probes.close()  # which may hold most of the device's memory
            windows = _peer(*measurement.driver, seconds, result)
    except LeftOut as reason:
        result["skipped"][name] = str(reason)
        return str(reason)
    except BenchmarkError as error:
        result["runs"].append({"contender": name, "repeat": 0, "error": str(error)})
        return f"failed: {error}"
    for repeat, values in enumerate(windows):
        result["runs"].append({"contender": name, "repeat": repeat, "values": values})
    metric, values = next(iter(summary(result["runs"])[name].items()))
    return f"{metric.replace('_', ' ')}: {show_number(values['median'])}"


def _peer(driver: str, work: Task, seconds: float, result: dict[str, Any]) -> list[dict[str, float]]:
    """Runs a driver of Brax with our own Python; its epochs are the windows."""
    late = time.monotonic() + seconds

    def look() -> None:
        if time.monotonic() > late:
            raise LeftOut(f"It was not done within {seconds:.0f} s.")

    measured = measure_peer(Path(sys.executable), driver, work.flags(), meanwhile=look)
    result["versions"]["brax"] = measured.versions
    windows = measured.more["epoch_seconds"][-(work.window_steps // work.warmup_steps) :]
    return [{"steps_per_second": work.warmup_steps / each} for each in windows]


def _describe(result: dict[str, Any], probes: Probes) -> None:
    """Writes down what the measuring process said of its device."""
    device = probes.about["device"]
    result["versions"]["maxent_rl"] = probes.about["versions"]
    if device["platform"] != "cpu":
        cores = result["hardware"]["cores"]
        memory = f" ({device['memory_gb']:.0f} GB)" if "memory_gb" in device else ""
        result["hardware"] |= {"accelerator": device, "summary": f"{device['kind']}{memory} beside {cores} CPU cores"}


def ratios(result: dict[str, Any]) -> Iterator[Ratio]:
    """Ours over Brax's, and losses in chunks over those of all logits."""
    for name in dict.fromkeys(run["contender"] for run in result["runs"]):
        kind, _, size = name.partition(" ")
        if kind in ("ppo", "sac"):
            yield Ratio("steps_per_second", name, (f"brax-{kind} {size}",))
        elif name.startswith("loss maxent_rl"):
            yield Ratio("tokens_per_second", name, (name.replace("maxent_rl", "all-logits"),))


def _write(result: dict[str, Any], options: Accelerator) -> None:
    result["summary"] = summary(result["runs"])
    found = {f"{ratio.title}: {ratio.metric}": compare(result["runs"], ratio) for ratio in ratios(result)}
    result["ratios"] = {title: value for title, value in found.items() if value is not None}
    write_json(options.output / f"{options.name}.json", result)


class Probes:
    """The process of `accelerator_probes`: started when it is first asked, and anew after it was late or has failed.

    Attributes:
      about: what it said of the device and of versions when it was last started.
    """

    def __init__(self, folder: Path, command: Sequence[str] = (sys.executable, "-m", PROBES)) -> None:
        """Nothing is started yet.

        Args:
          folder: working directory, where what it says besides its answers is written.
          command: program and arguments.
        """
        self._folder, self._command = folder, command
        self._process: subprocess.Popen[str] | None = None
        self.about: dict[str, Any] = {}

    def ask(self, question: dict[str, Any], seconds: float) -> list[dict[str, float]]:
        """What was measured in each window.

        Raises:
          LeftOut: it cannot be measured here, or was not within so many seconds.
          BenchmarkError: it failed.
        """
        deadline = time.monotonic() + seconds
        if self._process is None:
            self._start()
            self.about = self._read(deadline, seconds)
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._read(deadline, seconds)
        if "left_out" in answer:
            raise LeftOut(answer["left_out"])
        if "error" in answer:
            self.close()  # what it has left on the device is freed
            raise BenchmarkError(answer["error"])
        windows: list[dict[str, float]] = answer["values"]
        return windows

    def _start(self) -> None:
        with (self._folder / "errors.txt").open("w") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
                start_new_session=True,  # an interrupt reaches us first, and we end it
            )

    def _read(self, deadline: float, seconds: float) -> dict[str, Any]:
        """The next answer, which is one line; it is written at once, so that a line has come whole when some of it has."""
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0.0))
        if not ready:
            self.close()
            raise LeftOut(f"It was not done within {seconds:.0f} s.")
        line = self._process.stdout.readline()
        if not line:
            self.close()
            said = (self._folder / "errors.txt").read_text(errors="replace").strip()
            raise BenchmarkError(f"The measuring process ended and said: {said[-_TAIL:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._process = None


if __name__ == "__main__":
    command_line(main)
