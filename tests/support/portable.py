"""Runs the tests in the arithmetic of other processors: `make test-portable`, or `python tests/support/portable.py --help`.

XLA compiles for the newest instructions that a processor has, and splits work among as many threads as it has cores; sums
come out in another order, products and sums are fused or not. Each arithmetic here is one that users' machines have:
instructions up to SSE 4.2, AVX2 or AVX-512, one thread or two, and once a machine that is busy with other work. Numbers of
tests must hold in all of them; bits only where the same program runs twice.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from margins import thinnest

ROOT = Path(__file__).resolve().parents[2]
# What each set of instructions is called by XLA, by oneDNN (matrix products), and what it asks of /proc/cpuinfo.
INSTRUCTIONS = {
    "SSE4_2": ("SSE41", "sse4_2"),
    "AVX2": ("AVX2", "avx2"),
    "AVX512": ("AVX512_CORE", "avx512f"),
}


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """One way in which a processor computes.

    Attributes:
      instructions: the newest that XLA may use, a key of `INSTRUCTIONS`.
      threads: among which XLA splits work.
      busy: whether every core has other work to do meanwhile.
    """

    instructions: str
    threads: int
    busy: bool = False

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        return f"{self.instructions}-{self.threads}" + "-busy" * self.busy

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make JAX compute so; what compiled for another arithmetic is kept apart by JAX."""
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa={self.instructions}"
        return {
            "XLA_FLAGS": flags.strip(),
            "NPROC": str(self.threads),
            "ONEDNN_MAX_CPU_ISA": INSTRUCTIONS[self.instructions][0],
        }


def available() -> list[Arithmetic]:
    """What this processor can do; empty where it is none of x86-64."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    sets = [name for name, (_, needed) in INSTRUCTIONS.items() if needed in flags]
    quiet = [Arithmetic(name, threads) for name in sets for threads in (1, 2)]
    return [*quiet, *(Arithmetic(name, 2, busy=True) for name in sets[-1:])]


def chosen_by(commit: str, among: Sequence[Arithmetic]) -> Arithmetic:
    """One of them, the same for the same commit, so that over many commits all come by; none that takes twice as long."""
    quiet = [each for each in among if not each.busy]
    return quiet[zlib.crc32(commit.encode()) % len(quiet)]


@contextlib.contextmanager
def load(busy: bool) -> Iterator[None]:
    """Keeps every core busy, where asked for."""
    spin = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)] if busy else []
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(arithmetic: Arithmetic, arguments: Sequence[str]) -> tuple[int, str]:
    """Runs pytest in an arithmetic: its exit status, and a line of what was seen."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, load(arithmetic.busy):
        margins = Path(folder) / "margins.jsonl"
        command = [sys.executable, "-m", "pytest", "--margins", str(margins), *arguments]
        print(f"\n=== {arithmetic.name}: {' '.join(command[1:])}", flush=True)
        status = subprocess.run(command, cwd=ROOT, env=os.environ | arithmetic.environment).returncode
        thin = list(thinnest(margins)) if margins.exists() else []
    for share, place, test in thin:
        print(f"  used {share:.0%} of its tolerance: {place} ({test})")
    said = "passed" if status == 0 else f"FAILED (exit status {status})"
    return status, f"{arithmetic.name:14} {said:26} {time.monotonic() - began:6.0f} s  {len(thin)} thin tolerances"


def main() -> int:
    """The command line; exit status 1 where any arithmetic failed."""
    names = [arithmetic.name for arithmetic in available()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", nargs="+", choices=names, help="these alone")
    which.add_argument(
        "--chosen-by", metavar="COMMIT", help="one alone, chosen by a commit; this processor's if it has no other"
    )
    parser.add_argument("arguments", nargs="*", help="of pytest, after --; all quick tests without any")
    options = parser.parse_args()
    if not names:
        print("No other arithmetic: neither SSE4.2 nor AVX2 nor AVX-512 on this processor.")
        if not options.chosen_by:
            return 0
        return subprocess.run([sys.executable, "-m", "pytest", *options.arguments], cwd=ROOT).returncode
    picked = [each for each in available() if options.only is None or each.name in options.only]
    if options.chosen_by:
        picked = [chosen_by(options.chosen_by, picked)]
    arguments = options.arguments or [
        "-q",
        "-n",
        "auto",
        "--maxprocesses",
        "4",
        "--dist",
        "worksteal",
        "-m",
        "not slow",
    ]
    results = [run(arithmetic, arguments) for arithmetic in picked]
    print("\n" + "\n".join(line for _, line in results))
    return int(any(status != 0 for status, _ in results))


if __name__ == "__main__":
    sys.exit(main())
