"""Damaged and hostile files of all kinds: whatever is done to one, reading it is a result or a sentence, in bounded memory."""

import random
import resource
from pathlib import Path

import pytest

from benchmarks.studies.faults.mutations import mutate
from benchmarks.studies.faults.samples import KINDS
from maxent_rl.errors import MaxentRLError

MUTATIONS = {
    "configuration": 2400,
    "policy": 900,
    "checkpoint": 100,
    "segment": 700,
    "tables": 1200,
    "report": 400,
    "npz": 1700,
    "hdf5": 600,
    "minari": 500,
    "preferences": 700,
    "sweep": 500,
    "references": 300,
}
MOST_BYTES = 2**30


@pytest.fixture
def bounded_memory():
    """No more than a gigabyte beyond what is there can be allocated."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(kind, folder, count, seed):
    """Reads sound files, then damaged ones `count` times; what was refused, and what was raised besides."""
    sound, draw = KINDS[kind], random.Random(f"{kind} {seed}")
    sound.write(folder)
    sound.read(folder)
    files = sorted({path for pattern in sound.files for path in folder.glob(pattern) if path.is_file()})
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    sentences, raw = [], []
    for number in range(count):
        path = draw.choice(files)
        content = mutate(contents[path], path.name, draw)
        path.write_bytes(content)
        try:
            sound.read(folder)
        except MaxentRLError as error:
            sentences.append(str(error))
        except BaseException as error:
            raw.append((number, path.name, type(error).__name__, str(error)[:200]))
        for each, before in contents.items():  # a resumed table is written anew
            if each == path or each.suffix == ".csv":
                each.write_bytes(before)
    return sentences, raw


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks into /proc for the memory that is in use")
@pytest.mark.parametrize("kind", MUTATIONS)
def test_ten_thousand_damaged_files_are_sentences(kind, tmp_path, bounded_memory):
    sentences, raw = damaged(kind, tmp_path, MUTATIONS[kind], seed=0)
    assert not raw, f"{len(raw)} of {MUTATIONS[kind]}: {raw[:5]}"
    assert all(told.strip() and "\n" not in told and len(told) < 4000 for told in sentences)
    assert not [told for told in sentences if "does not fit into memory" in told]


def test_as_many_as_are_promised():
    assert sum(MUTATIONS.values()) >= 10_000 and MUTATIONS.keys() == KINDS.keys()
