"""A table of damaged and hostile inputs: each is put into sound files, which are then read as the library reads them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.lab.study import Measured, Seed, Unit
from benchmarks.studies.faults import samples
from maxent_rl.data.batches.preferences import read_preferences
from maxent_rl.data.datasets.files import read_dataset
from maxent_rl.errors import MaxentRLError
from maxent_rl.runs.config import config_from, read_config
from maxent_rl.runs.policy import load_policies
from maxent_rl.runs.records import Recorder
from maxent_rl.sweep.folder import FINISHED, is_finished, read_manifest
from maxent_rl.training import resume, train

Damage = Callable[[Path], object]


class Input(NamedTuple):
    """A file of a kind and what is done to it.

    Attributes:
      file: below the folder; the first that fits the pattern.
      damage: its name.
    """

    file: str
    damage: str


def _bytes(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _instead(make: Callable[[Path], object]) -> Damage:
    """Something else at the same place."""

    def damage(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return damage


def _value(*place: Any, value: Any = None, drop: bool = False) -> Damage:
    """A value within JSON by another, or none."""

    def change(content: bytes) -> bytes:
        told = json.loads(content)
        holder = told
        for key in place[:-1]:
            holder = holder[key]
        if drop:
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
        return json.dumps(told).encode()

    return _bytes(change)


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


FILES: dict[str, Damage] = {
    "missing": lambda path: shutil.rmtree(path) if path.is_dir() else path.unlink(),
    "empty": _bytes(lambda content: b""),
    "zeroed": _bytes(lambda content: bytes(len(content))),
    "cut in half": _bytes(lambda content: content[: len(content) // 2]),
    "one bit flipped": _bytes(lambda content: _flipped(content, len(content) * 2 // 5)),
    "text": _bytes(lambda content: b"hello\n" * 20),
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(Path.mkdir),
    "a device": _instead(lambda path: path.symlink_to("/dev/zero")),
    "a pickle": _bytes(
        lambda content: b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    ),
}
JSON: dict[str, Damage] = {
    "nested 3,000 times": _bytes(lambda content: b"[" * 3000),
    "nested 200 times": _bytes(lambda content: b'{"a":' * 200 + b"1" + b"}" * 200),
    "a list": _bytes(lambda content: b"[1, 2]"),
    "a number of 5,000 digits": _bytes(lambda content: b'{"step": ' + b"9" * 5000 + b"}"),
    "40 MB of it": _bytes(lambda content: b'{"a": "' + b"x" * 40_000_000 + b'"}'),
    "half a character": _bytes(lambda content: b'{"run": {"env": "\\ud800"}, "agent": {}}'),
    "not UTF-8": _bytes(lambda content: b'{"run": "\xff\xfe"}'),
}


def _archive(**changes: Any) -> Damage:
    """Arrays of an archive by others, written as NumPy does; None leaves one out."""

    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        buffer = io.BytesIO()
        changed = {name: value(arrays) if callable(value) else value for name, value in changes.items()}
        np.savez(buffer, **{name: value for name, value in (arrays | changed).items() if value is not None})
        return buffer.getvalue()

    return _bytes(change)


def _packed(method: int) -> Damage:
    def change(content: bytes) -> bytes:
        return _zip(_members(content), method)

    return _bytes(change)


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def _declared(shape: tuple[int, ...]) -> Damage:
    """The first array declares another shape than it has."""

    def change(content: bytes) -> bytes:
        members = _members(content)
        first = next(name for name in members if name.endswith(".npy"))
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return _zip(members | {first: buffer.getvalue() + bytes(64)})

    return _bytes(change)


def _bomb(content: bytes) -> bytes:
    """Nine hundred megabytes of zeros in one."""
    members = _members(content)
    first = next(name for name in members if name.endswith(".npy"))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (225_000_000,)})
    return _zip(members | {first: buffer.getvalue() + bytes(900_000_000)}, zipfile.ZIP_DEFLATED)


ARCHIVES: dict[str, Damage] = {
    "compressed by bzip2": _packed(zipfile.ZIP_BZIP2),
    "compressed by LZMA": _packed(zipfile.ZIP_LZMA),
    "40 GB declared": _declared((10_000_000_000,)),
    "1e12 rows declared": _declared((10**12, 3)),
    "a negative shape": _declared((-5, 3)),
    "a deflate bomb of 900 MB": _bytes(_bomb),
}


def _hdf5(change: Callable[[Any], object]) -> Damage:
    def damage(path: Path) -> None:
        import h5py

        with h5py.File(path, "a") as file:
            change(file)

    return damage


def _rows(name: str, **settings: Any) -> Callable[[Any], object]:
    def change(file: Any) -> None:
        del file[name]
        file.create_dataset(name, **settings)

    return change


def _linked(file: Any) -> None:
    import h5py

    del file["rewards"]
    file["rewards"] = h5py.ExternalLink("/etc/passwd", "rewards")


OWN: dict[str, Damage] = {
    **{f"{name} {told}": _value("run", name, value=value) for name, told, value in (
        ("total_steps", "NaN", float("nan")), ("total_steps", "a text", "many"), ("num_seeds", "10^30", 10**30),
        ("seed", "-1", -1), ("env", "a number", 7), ("agent", "a list of names", ["sac"]), ("variants", "a list", [1]),
        ("name", "../../x", "../../x"), ("unknown", "1", 1), ("device", "quantum", "quantum"),
    )},
    "hidden_sizes of texts": _value("agent", "hidden_sizes", value=["a"]),
    "discount infinite": _value("agent", "discount", value=float("inf")),
    "without run": _value("run", drop=True),
    "without agent": _value("agent", drop=True),
    "agent a list": _value("agent", value=[1]),
    "format 99": _value("format", value=99),
    "of an unknown agent": _value("run", "agent", value="sacc"),
    "seeds empty": _value("seeds", value=[]),
    "seeds of texts": _value("seeds", value=["a"]),
    "observation_shape of 10^12": _value("spec", "observation_shape", value=[10**12]),
    "action_space without bounds": _value("spec", "action_space", "low", value=[]),
    "step -1": _value("step", value=-1),
    "one array missing": _bytes(lambda content: _zip(dict(list(_members(content).items())[1:]))),
    "best changed": _bytes(lambda content: content.replace(b"-Infinity", b"7.5")),
    "fingerprint changed": _bytes(lambda content: content.replace(b'"sac"', b'"tac"')),
    "rows of another number": _bytes(lambda content: content.replace(b", 100, ", b", 900, ", 1)),
    "1e12 rows": _bytes(lambda content: content.replace(b", 100, ", b",10**12", 1).replace(b"10**12", b"999999", 1)),
    "NaN in its rows": lambda path: np.save(path, np.full_like(np.load(path), np.nan)),
    "without its checksum's end": _bytes(lambda content: content[:-3]),
    "of pickled objects": lambda path: np.save(path, np.array([{}], object), allow_pickle=True),
    "a line cut": _bytes(lambda content: content[:-9]),
    "a stray quotation mark": _bytes(lambda content: content.replace(b"200,0", b'200,"0', 1)),
    "NULs within": _bytes(lambda content: content.replace(b"200,0", b"\0\0\0\0\0", 1)),
    "a step of 5,000 digits": _bytes(lambda content: content.replace(b"200,0", b"2" * 5000 + b",0", 1)),
    "a line of 200,000 letters": _bytes(lambda content: content + b"x" * 200_000 + b"\n"),
    "another header": _bytes(lambda content: b"a,b\n" + content.split(b"\n", 1)[1]),
    "pickled objects": _archive(rewards=np.array([{}] * 40, object)),
    "NaN in rewards": _archive(rewards=np.full(40, np.nan, np.float32)),
    "infinite observations": _archive(observations=lambda arrays: arrays["observations"] * np.float32(np.inf)),
    "terminals of 7": _archive(terminals=np.full(40, 7)),
    "rewards of text": _archive(rewards=np.array(["a"] * 40)),
    "rewards of 3 rows": _archive(rewards=np.zeros(3, np.float32)),
    "no actions": _archive(actions=None),
    "about no JSON": _archive(about=np.array("{")),
    "about nested 3,000 times": _archive(about=np.array("[" * 3000)),
    "an action space of text": _archive(about=np.array('{"action_space": "box"}')),
    "another format": _archive(format=np.array("mine")),
    "pairs of segment 99": _archive(pairs=np.full((3, 2), 99, np.int32)),
    "labels of 7": _archive(label=np.full(3, 7.0, np.float32)),
    "rewards of 1e12 rows": _hdf5(_rows("rewards", shape=(10**12,), dtype="f4", chunks=(1000,))),
    "rewards of 40 GB never written": _hdf5(_rows("rewards", shape=(10**10,), dtype="f4")),
    "rewards in another file": _hdf5(_linked),
    "rewards a group": _hdf5(lambda file: (file.__delitem__("rewards"), file.create_group("rewards"))),
    "rewards of objects": _hdf5(lambda file: (file.__delitem__("rewards"), file.create_dataset("rewards", data=["a"] * 40))),
    "total_episodes a text": _value("total_episodes", value="many"),
    "total_episodes 10^12": _value("total_episodes", value=10**12),
    "action_space no JSON": _value("action_space", value="{"),
    "another data_format": _value("data_format", value="arrow"),
    "jobs a number": _value("jobs", value=3),
    "a job without run": _value("jobs", 0, "run", drop=True),
    "a job outside": _value("jobs", 0, "run", "env", value=".."),
    "step a text": _value("step", value="all"),
    "step infinite": _value("step", value=float("inf")),
}  # fmt: skip
DAMAGES = FILES | JSON | ARCHIVES | OWN


def _of(file: str, *names: str) -> list[Input]:
    return [Input(file, name) for name in names]


_META, _DATA, _SEGMENT = (
    "checkpoints/300/meta/metadata",
    "checkpoints/300/arrays/**/d/*",
    "checkpoints/replay/*-000000000300.npy",
)
_POLICY, _ARRAYS = "policy/policy.json", "policy/arrays.npz"
_SOME, _JSON = ("empty", "zeroed", "cut in half", "one bit flipped", "text"), tuple(JSON)
_MARK = f"study/**/{FINISHED}"
_OF_RUN = ("total_steps", "num_seeds", "seed -1", "env ", "agent a list of", "variants", "name ", "unknown", "device")
_RUN_DAMAGES = tuple(name for name in OWN if name.startswith(_OF_RUN))
_DECLARED = "40 GB declared"
INPUTS: dict[str, list[Input]] = {
    "checkpoint": [
        *_of(_META, "missing", *_SOME, "a pipe", "nested 3,000 times", "a list", "best changed", "fingerprint changed"),
        *_of(_META, "a folder"),
        *_of(_DATA, "missing", *_SOME, "a pipe"),
        *_of("checkpoints/300/arrays/manifest.ocdbt", "missing", "empty", "zeroed", "one bit flipped"),
        *_of("checkpoints/300/arrays/_METADATA", "missing", "cut in half", "nested 3,000 times"),
        *_of("checkpoints/300/arrays", "missing"),
    ],
    "segment": [
        *_of(
            _SEGMENT,
            "missing",
            *_SOME,
            "a pipe",
            "a folder",
            "a device",
            "a pickle",
            "rows of another number",
            "1e12 rows",
        ),
        *_of(_SEGMENT, "without its checksum's end", "of pickled objects", "NaN in its rows"),
    ],
    "policy": [
        *_of(_POLICY, "missing", *_SOME, "a pipe", "a folder", "a device", *_JSON, "format 99", "of an unknown agent"),
        *_of(_POLICY, "seeds empty", "seeds of texts", "observation_shape of 10^12", "action_space without bounds"),
        *_of(_POLICY, "step -1", "without run", "hidden_sizes of texts", "discount infinite", "agent a list"),
        *_of(_ARRAYS, "missing", *_SOME, "a pipe", "a device", "a pickle", *ARCHIVES, "one array missing"),
    ],
    "configuration": [
        *_of("config.json", "missing", "empty", "zeroed", "cut in half", "text", "a pipe", "a device", *_JSON),
        *_of("config.json", "without run", "without agent", "agent a list", "of an unknown agent", *_RUN_DAMAGES),
        *_of("config.json", "hidden_sizes of texts", "discount infinite"),
    ],
    "tables": [
        *_of("metrics.csv", "missing", *_SOME[:3], "text", "a line cut", "NULs within", "another header"),
        *_of("eval.csv", "missing", *_SOME[:3], "a stray quotation mark", "a step of 5,000 digits"),
        *_of("eval.csv", "a line of 200,000 letters", "a pipe"),
    ],
    "data sets": [
        *_of("data.npz", *_SOME, "a pipe", "a pickle", *ARCHIVES, "pickled objects", "NaN in rewards"),
        *_of(
            "data.npz", "infinite observations", "terminals of 7", "rewards of text", "rewards of 3 rows", "no actions"
        ),
        *_of("data.npz", "about no JSON", "about nested 3,000 times", "an action space of text"),
        *_of("data.hdf5", *_SOME[:3], "text", "a pipe", "rewards of 1e12 rows", "rewards of 40 GB never written"),
        *_of("data.hdf5", "rewards in another file", "rewards a group", "rewards of objects"),
        *_of("walk-v0/data/metadata.json", "missing", "text", "a pipe", "nested 3,000 times", "total_episodes a text"),
        *_of("walk-v0/data/metadata.json", "total_episodes 10^12", "action_space no JSON", "another data_format"),
        *_of("walk-v0/data/main_data.hdf5", "missing", "cut in half"),
        *_of(
            "preferences.npz",
            "text",
            _DECLARED,
            "another format",
            "pairs of segment 99",
            "labels of 7",
            "about no JSON",
        ),
    ],
    "sweep folders": [
        *_of("study/sweep.json", *_SOME[:3], "a pipe", *_JSON[:4], "format 99", "jobs a number", "a job without run"),
        *_of("study/sweep.json", "a job outside"),
        *_of(_MARK, "empty", "text", "a pipe", "nested 3,000 times", "a list", "step a text", "step infinite"),
    ],
}


def measure_inputs(unit: Unit) -> Measured:
    """Does to sound files what each input of a kind says, reads them, and says what the answer was."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name) / "sound"
        _WRITERS[unit.env](sound)
        for index, each in enumerate(INPUTS[unit.env]):
            folder = Path(name) / str(index)
            shutil.copytree(sound, folder)
            path = next(
                iter(sorted(path for path in folder.glob(each.file) if path.is_file() or path.name == "arrays"))
            )
            DAMAGES[each.damage](path)
            before = _digests(folder)
            answer, is_sentence = _answered(_READERS[unit.env], folder, each.file)
            kept = all(_digests(folder).get(file) == digest for file, digest in before.items() if "checkpoints" in file)
            shown = answer.replace(str(folder), "FOLDER")
            more = {
                "input": f"`{path.relative_to(folder).as_posix()}`: {each.damage}",
                "answer": " ".join(shown.split()),
            }
            found.append(Seed(index, {"sentence": float(is_sentence), "kept": float(kept)}, more))
            shutil.rmtree(folder)
    return Measured(found, {"maxent_rl": importlib.metadata.version("maxent_rl")})


def _answered(read: Callable[[Path, str], str], folder: Path, file: str) -> tuple[str, bool]:
    """What is said, and whether that is one sentence of ours."""
    try:
        return read(folder, file), True
    except MaxentRLError as error:
        return str(error), "\n" not in str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}", False


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _write_trained(folder: Path) -> None:
    """A run with checkpoints of the steps 100, 200 and 300."""
    settings: dict[str, Any] = {
        "total_steps": 300,
        "num_seeds": 2,
        "checkpoint_every": 100,
        "keep_checkpoints": 3,
        "eval_episodes": 0,
    }
    result = train(
        samples.AGENT, "Pendulum-v1", output_dir=str(folder.parent / "made"), name="run", progress=False, **settings
    )
    shutil.copytree(result.folder, folder)


def _resumed(folder: Path, file: str) -> str:
    return f"goes on to step {resume(folder, total_steps=301, progress=False).step}."


def _policy(folder: Path, file: str) -> str:
    return f"{len(load_policies(folder))} policies are read."


def _configuration(folder: Path, file: str) -> str:
    run, agent = config_from(read_config(folder))
    run.check()
    samples.check_settings(agent)
    return "is read."


def _tables(folder: Path, file: str) -> str:
    counts = {"metrics.csv": 6, "eval.csv": 6}
    recorder = Recorder(folder, config={}, tensorboard=False, resume_step=300, expected_rows=counts)
    recorder.close()
    return " ".join(recorder.remarks) or "goes on, with all rows."


def _data(folder: Path, file: str) -> str:
    if file == "preferences.npz":
        return f"{len(read_preferences(folder / file).pairs)} pairs are read."
    return f"{read_dataset(folder / file.split('/')[0]).size} transitions are read."


def _sweep(folder: Path, file: str) -> str:
    jobs = read_manifest(folder / "study")
    return f"{sum(map(is_finished, jobs))} of {len(jobs)} jobs count as finished; the others are done again."


def _write_data(folder: Path) -> None:
    folder.mkdir()
    for kind in ("npz", "hdf5", "minari", "preferences"):
        samples.KINDS[kind].write(folder)


def _write_sweep(folder: Path) -> None:
    folder.mkdir()
    samples.KINDS["sweep"].write(folder)


_WRITERS: dict[str, Callable[[Path], None]] = {
    "checkpoint": _write_trained,
    "segment": _write_trained,
    "policy": samples.write_run,
    "configuration": samples.write_run,
    "tables": samples.write_run,
    "data sets": _write_data,
    "sweep folders": _write_sweep,
}
_READERS: dict[str, Callable[[Path, str], str]] = {
    "checkpoint": _resumed,
    "segment": _resumed,
    "policy": _policy,
    "configuration": _configuration,
    "tables": _tables,
    "data sets": _data,
    "sweep folders": _sweep,
}
