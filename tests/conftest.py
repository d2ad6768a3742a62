"""Settings that all tests share."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Before JAX is imported, here and in the processes that tests start: compiling is most of what tests do. Without LLVM's
# optimisations a SAC update compiles 2.6 times as fast and runs at two thirds of the speed; compiled programs are kept.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Matrices of tests are small: a second thread of NumPy's would only wait, on a core that another worker needs.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Loops emitted by LLVM alone rather than by way of MLIR, and modules that are not split among threads: the same update
# takes 0.5 s instead of 1.8 s to compile and runs as fast. A version of XLA that lacks a flag would end the process.
if version("jaxlib").startswith("0.10."):
    quick, others = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1", "XLA_FLAGS"
    if quick not in os.environ.get(others, ""):  # workers inherit it
        os.environ[others] = f"{quick} {os.environ.get(others, '')}".strip()  # the last one of a kind wins
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
# Small ones too: they are most of what eager tests compile, again in every worker and after every module.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import jax
import pytest
from support.compiling import collect_rarely, share_contexts
from support.margins import Recorder
from support.rotation import TURNS, in_turn

RECORDER = pytest.StashKey[Recorder]()
ON_REQUEST = ("matrix", "learning")
COMPUTING = {"losses", "distributions", "networks", "agents", "tokens", "data", "set_functions"}

# No deadline: the first example compiles. Derandomised: a test that fails one time in a hundred should not exist.
hypothesis.settings.register_profile("maxent_rl", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("maxent_rl")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--margins FILE`: see support/margins.py; `--turn COMMIT`: what CI runs."""
    parser.addoption("--margins", type=Path, help="append to FILE how much of its tolerance every comparison used")
    parser.addoption(
        "--turn",
        metavar="COMMIT",
        help=f"of the files with slow tests, run those of one in {TURNS}, chosen by the commit",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Comparisons are recorded on demand only."""
    share_contexts()
    gc.disable()  # until all tests are imported
    path = config.getoption("--margins")
    if path is not None:
        config.stash[RECORDER] = recorder = Recorder(path)
        recorder.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Says whose comparisons follow, and writes those of each test."""
    recorder = item.config.stash.get(RECORDER, None)
    if recorder is not None:
        recorder.test = item.nodeid
    result = yield
    if recorder is not None:
        recorder.flush()
    return result


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests first: begun last, one of them would keep one worker busy while the others have nothing left.

    A file's tests stay together, which share fixtures and compiled programs. The matrix of loops and all agents, and long
    trainings, run where they are asked for.
    """
    for marker in ON_REQUEST:
        if marker not in config.option.markexpr:
            left_out = [item for item in items if item.get_closest_marker(marker)]
            items[:] = [item for item in items if not item.get_closest_marker(marker)]
            config.hook.pytest_deselected(items=left_out)
    leave_out_until_their_turn(config, items)
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in COMPUTING:
            item.add_marker("computing")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def leave_out_until_their_turn(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests of seven files in eight, with `--turn`: those of a file together, which share fixtures and programs."""
    commit = config.getoption("--turn")
    if commit is None:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    waiting = {item for item in slow if item.path not in in_turn(commit, sorted({item.path for item in slow}))}
    items[:] = [item for item in items if item not in waiting]
    config.hook.pytest_deselected(items=list(waiting))


def pytest_collection_finish() -> None:
    """All that stays until the end is there."""
    collect_rarely()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Frees a module's compiled programs: on CPUs each takes several memory mappings, of which Linux allows 65,530.

    A worker that waits until there are 25,000 is not faster, as modules share few programs, and grows to 4 GB.
    """
    if nextitem is None or nextitem.path != item.path:
        jax.clear_caches()


@pytest.fixture(scope="session")
def half_precision() -> None:
    """For tests that compute in float16, which XLA compiles for no processor without instructions that convert it (F16C)."""
    try:
        jax.jit(lambda number: number.astype("float16"))(jax.numpy.ones(3)).block_until_ready()
    except jax.errors.JaxRuntimeError:
        pytest.skip("XLA has no float16 with these instructions")


@pytest.fixture
def optimised() -> Iterator[None]:
    """LLVM's optimisations, for a training so long that they pay: 200 updates of a mixture of four take 0.5 s, not 1.7 s."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
