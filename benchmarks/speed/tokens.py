"""Losses over tokens, forward and backward, from hidden states and the unembedding: `python -m benchmarks.speed.tokens`.

Time and peak memory of the losses of GRPO and Clip-Cov, with the gradients in hidden states [N, T, D] and unembedding [D, V]:

    maxent_rl   token_statistics, in chunks of tokens
    trl         what TRL's GRPO trainer does: tiles of tokens and vocabulary (PyTorch, CPU)
    trl-full    TRL's selective_log_softmax and entropy_from_logits, of all logits at once
    naive       all logits at once, in JAX
    liger       Liger's chunked GRPO loss, one sequence after the other (PyTorch, CPU); it gives no entropy

Every run is a fresh process and float32. What does not fit into the memory of the machine is left out, and the results say so.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from benchmarks.lab.measure import (
    BenchmarkError,
    Contender,
    Measurement,
    Options,
    Ratio,
    command_line,
    exit_status,
    measure,
)
from benchmarks.lab.processes import Process, scratch
from benchmarks.speed.contenders import measure_peer, peer_python

OURS = ("maxent_rl", "naive")
OBJECTIVES = ("grpo", "clip_cov")
_PEERS = {"trl": "trl_token_losses.py", "trl-full": "trl_token_losses.py", "liger": "liger_token_losses.py"}
DRIVER = "benchmarks.speed.token_contenders"
_SHOW = ("seconds", "memory_mb")
# Of the memory that a contender takes above its inputs: so many times all logits, as measured at the small sizes. TRL's full
# path holds them with their gradient and a row of something else, JAX the softmax and its logarithm besides.
_TIMES_ALL_LOGITS = {"trl-full": 2.8, "naive": 4.2}
_SHARE_OF_MEMORY = 0.9
_AGREEMENT = 1e-3  # how far losses and gradients of the same batch may differ, relatively


@dataclasses.dataclass(frozen=True)
class TokenLosses(Options):
    """Flags of this benchmark."""

    repeats: int = 3
    """Times that every contender runs."""
    iterations: int = 1
    """Timed iterations of each run, after one that is not timed."""
    tokens: tuple[int, ...] = (2048, 4096, 8192, 16384)
    """Tokens of all sequences together (N * T)."""
    vocabularies: tuple[int, ...] = (32768, 151936)
    """Sizes of the vocabulary (V)."""
    width: int = 896
    """Width of the hidden states (D)."""
    objectives: tuple[str, ...] = OBJECTIVES[:1]
    """Losses that are measured at every size: grpo, clip_cov."""
    spot_objectives: tuple[str, ...] = OBJECTIVES[1:]
    """Losses that are measured at the fewest tokens alone: they differ in arrays [N, T], a millionth of the work."""
    contenders: tuple[str, ...] = ("maxent_rl", "trl", "trl-full", "naive")
    """Who is measured."""
    beside: str | None = None
    """Write token_losses-NAME.json, beside the results of another run: liger."""
    quick: bool = False
    """One run of small sizes, to see that everything works; the numbers mean nothing."""


def main() -> int:
    """Measures; returns the exit status."""
    options = tyro.cli(TokenLosses, description=__doc__)
    if options.quick:
        options = dataclasses.replace(
            options, repeats=1, pause=0.0, tokens=(64, 128), vocabularies=(512,), width=32, iterations=1
        )
    contenders, skipped = plan(options, available_memory())
    for name, reason in skipped.items():
        print(f"Left out: {name}: {reason}", file=sys.stderr)
    beside = "quick" if options.quick else options.beside  # never instead of real results
    name = "token_losses" + (f"-{beside}" if beside else "")
    result = measure(name, contenders, options, ratios(options), _SHOW, skipped)
    different = disagreements(result)
    for line in different:
        print(f"error: {line}", file=sys.stderr)
    return exit_status(result) or bool(different)


def size_name(objective: str, tokens: int, vocabulary: int) -> str:
    """How results name what is computed, behind the contender's name."""
    return f"{objective} {tokens}x{vocabulary}"


def sizes(options: TokenLosses) -> list[tuple[str, int, int]]:
    """Objective, tokens and vocabulary of everything that is measured."""
    spots = [name for name in options.spot_objectives if name not in options.objectives]
    return [
        (objective, tokens, vocabulary)
        for vocabulary in options.vocabularies
        for tokens in options.tokens
        for objective in (*options.objectives, *(spots if tokens == min(options.tokens) else ()))
    ]


def plan(options: TokenLosses, memory: float) -> tuple[dict[str, Contender], dict[str, str]]:
    """What is measured, by name, and what is left out because it would need more than `memory` bytes, with the reason."""
    contenders: dict[str, Contender] = {}
    skipped = {}
    for objective, tokens, vocabulary in sizes(options):
        flags = [
            *("--objective", objective, "--tokens", str(tokens), "--vocabulary", str(vocabulary)),
            *("--width", str(options.width), "--iterations", str(options.iterations)),
        ]
        for contender in options.contenders:
            name = f"{contender} {size_name(objective, tokens, vocabulary)}"
            if contender == "liger" and objective != "grpo":
                continue  # which it does not have
            # Four bytes each: inputs and their gradients, and what the contender holds of all logits.
            inputs = 2 * options.width * (tokens + vocabulary)
            needed = 4 * (inputs + _TIMES_ALL_LOGITS.get(contender, 0) * tokens * vocabulary)
            if needed > _SHARE_OF_MEMORY * memory:
                skipped[name] = f"needs {needed / 1e9:.0f} GB"
            elif contender in OURS:
                contenders[name] = partial(_ours, [*flags, "--contender", contender])
            else:
                python = peer_python(options.peers, "trl")
                contenders[name] = partial(_peer, python, _PEERS[contender], [*flags, "--contender", contender])
    return contenders, skipped


def ratios(options: TokenLosses) -> list[Ratio]:
    """Ours over each of the others at each size, in time and memory."""
    return [
        Ratio(metric, f"maxent_rl {size_name(*size)}", (f"{other} {size_name(*size)}",))
        for size in sizes(options)
        for other in options.contenders
        if other != "maxent_rl" and "maxent_rl" in options.contenders
        for metric in _SHOW
    ]


def available_memory() -> float:
    """Bytes that a process can still have."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def disagreements(result: dict[str, Any]) -> list[str]:
    """Where contenders computed different things of the same batch; Clip-Cov spares tokens at random, so only its entropy."""
    found: dict[tuple[str, int, str], dict[str, float]] = {}
    for run in result["runs"]:
        contender, _, what = run["contender"].partition(" ")
        for metric in ("entropy",) if what.startswith("clip_cov") else ("entropy", "loss", "gradient_norm"):
            if metric in run.get("values", {}):
                found.setdefault((what, run["repeat"], metric), {})[contender] = run["values"][metric]
    return [
        f"{what}: {metric} is {', '.join(f'{value:.6g} ({name})' for name, value in values.items())}"
        for (what, _, metric), values in found.items()
        if max(values.values()) - min(values.values()) > _AGREEMENT * max(map(abs, values.values()))
    ]


def _ours(flags: list[str], repeat: int) -> Measurement:
    with scratch() as folder:
        finished = Process([sys.executable, "-m", DRIVER, *flags, "--seed", str(repeat)], Path(folder)).wait()
    try:
        printed = json.loads(finished.output.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise BenchmarkError(f"{DRIVER} printed no measurement.") from error
    return Measurement(printed["values"], printed["versions"])


def _peer(python: Path, script: str, flags: list[str], repeat: int) -> Measurement:
    measured = measure_peer(python, script, [*flags, "--seed", str(repeat)])
    values = {name: value for name, value in measured.values.items() if name != "peak_memory_mb"}
    return measured._replace(values=values)  # of the whole process, inputs and all: not comparable


if __name__ == "__main__":
    command_line(main)
