"""Damaged and hostile files: whatever is done to one, reading it is a result or one sentence, and takes bounded memory."""

import contextlib
import io
import math
import os
import random
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.faults.mutations import mutate
from benchmarks.studies.faults.samples import KINDS
from maxent_rl.errors import CheckpointError, DataError, MaxentRLError
from maxent_rl.runs.config import read_config
from maxent_rl.storage.archives import Budget, open_archive
from maxent_rl.storage.reading import open_regular, parse_json

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


@contextlib.contextmanager
def bounded_memory():
    """No more than a gigabyte beyond what is there can be allocated."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(kind, folder, count, seed, bound=contextlib.nullcontext):
    """Reads sound files, then damaged ones `count` times within `bound`; what was refused, and what was raised besides."""
    sound, draw = KINDS[kind], random.Random(f"{kind} {seed}")
    sound.write(folder)
    sound.read(folder)
    files = sorted({path for pattern in sound.files for path in folder.glob(pattern) if path.is_file()})
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    sentences, raw = [], []
    with bound():  # what the libraries need for themselves is there by now
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
def test_ten_thousand_damaged_files_are_sentences(kind, tmp_path):
    sentences, raw = damaged(kind, tmp_path, MUTATIONS[kind], seed=0, bound=bounded_memory)
    assert not raw, f"{len(raw)} of {MUTATIONS[kind]}: {raw[:5]}"
    assert all(told.strip() and "\n" not in told and len(told) < 4000 for told in sentences)
    assert not [told for told in sentences if "does not fit into memory" in told]


def test_as_many_as_are_promised():
    assert sum(MUTATIONS.values()) >= 10_000 and MUTATIONS.keys() == KINDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["configuration", "npz", "preferences", "sweep"])
def test_some_of_them(kind, tmp_path):
    _, raw = damaged(kind, tmp_path, 60, seed=1)
    assert not raw


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_folders_and_devices_are_not_read(make, tmp_path):
    path = tmp_path / "config.json"
    make(path)
    with pytest.raises(OSError, match="expected a file"):
        open_regular(path)
    with pytest.raises(CheckpointError, match="cannot be read as a run's configuration: it is a"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 3000, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ("9" * 81, "whole number of 81 digits"),
        ('"\\ud800"', "half a character"),
        ("{", "Expecting"),
    ],
)
def test_json_beyond_bounds_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_json_within_bounds_is_read():
    deep = "[" * 100 + "]" * 100
    assert parse_json(deep) and parse_json("9" * 80) == 10**80 - 1
    assert parse_json('{"a": [NaN, Infinity, "\\ud83d\\ude00"]}')["a"][1:] == [math.inf, "\U0001f600"]


def test_an_archive_that_declares_more_than_it_can_have_is_refused_before_anything_is_allocated(tmp_path):
    header, path = io.BytesIO(), tmp_path / "data.npz"
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", header.getvalue() + bytes(64))
    words = "declares 4,000,000,000,000 bytes, and 64 are there"
    with pytest.raises(DataError, match=words), open_archive(path, "an archive", ("a",)) as archive:
        archive.array("a")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr("a.npy", b"")
        with pytest.raises(DataError, match=f"by the method {method}"), open_archive(path, "an archive", ()):
            pass


def test_what_is_packed_too_often_is_not_unpacked():
    Budget(10**6).take(2 * 10**8)
    Budget(10).take(2**28)
    with pytest.raises(ValueError, match="too many to be believed"):
        Budget(10**6).take(10**9)
