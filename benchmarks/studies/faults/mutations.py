"""Damage drawn at random: of bytes, of JSON, of arrays. The same generator gives the same damage."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 10**9, 10**12, -(10**30), 10**79, float("nan"), float("inf")),
    *("", "a", "..", "../../x", "/etc", "3", "NaN", "\0", "\n", "\ud800", "é", "x" * 3000, "module:Id", "sac", "box"),
    *([], {}, [[]], [1, 2], ["a"], [None], [0] * 500, {"a": 1}, {"": {}}),
)
_BLOCK = 64


def mutate(content: bytes, name: str, draw: random.Random) -> bytes:
    """Damages a file: half the time what it says, where it is known how to, else its bytes.

    Args:
      content: of the file.
      name: of the file, whose ending says what it is.
      draw: decides.
    """
    if draw.random() < 0.5:
        if name.endswith((".json", "metadata")):
            return _json(content, draw)
        if name.endswith(".npz"):
            return _archive(content, draw)
        if name.endswith(".npy"):
            return draw.choice(_BYTES)(content[:-15], draw)  # without its checksum, as files of before have none
    return draw.choice(_BYTES)(content, draw)


def _flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _insert(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.randbytes(draw.choice((1, 4, _BLOCK))) + content[place:]


def _leave_out(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + content[place + draw.choice((1, 8, _BLOCK)) :]


def _overwrite(content: bytes, draw: random.Random) -> bytes:
    place, length = draw.randrange(len(content) + 1), draw.choice((1, 8, _BLOCK))
    filling = draw.choice((b"\0" * length, b"\xff" * length, b"9" * length, draw.randbytes(length)))
    return content[:place] + filling + content[place + length :]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    place, length = draw.randrange(len(content) + 1), draw.choice((1, _BLOCK, 1000))
    return content[:place] + content[place : place + length] * draw.choice((2, 20)) + content[place + length :]


_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _cut,
    _insert,
    _leave_out,
    _overwrite,
    _repeat,
)


def _json(content: bytes, draw: random.Random) -> bytes:
    """One value of JSON by another, or by none, or with one more."""
    told = json.loads(content)
    places: list[tuple[Any, Any]] = []
    _collect(told, places)
    if not places or draw.random() < 0.02:
        return draw.choice((b"[" * 3000, b'{"a":' * 3000, b"[" * 60 + b"]" * 60, b"[]", b"null", b"9" * 5000, b"{}"))
    holder, key = draw.choice(places)
    action = draw.random()
    if action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, dict):
        holder[draw.choice(("unknown", "", "seed", "é"))] = draw.choice(_HOSTILE)
    elif action < 0.3:
        holder[key] = [holder[key]]
    else:
        holder[key] = draw.choice(_HOSTILE)
    return json.dumps(told).encode()


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        places.append((value, key))
        _collect(value[key], places)


def _archive(content: bytes, draw: random.Random) -> bytes:
    """An archive with one array by another, or one whose header or method was changed, with the right checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = draw.choice(list(members))
    action = draw.random()
    if action < 0.3:
        members[name] = draw.choice(_BYTES)(members[name][:128], draw) + members[name][128:]
    elif action < 0.4:
        del members[name]
    else:
        members[name] = _array(np.load(io.BytesIO(members[name])), draw)
    written, method = io.BytesIO(), draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(written, "w", method) as file:
        for each, data in members.items():
            file.writestr(each, data)
    return written.getvalue()


def _array(array: Any, draw: random.Random) -> bytes:
    """An array of another shape, type or with other numbers, as a file."""
    if array.dtype.kind == "U":
        told = str(array)
        changed: Any = np.array(
            _json(told.encode(), draw).decode() if told.startswith("{") else draw.choice(("", "x", told * 2))
        )
    else:
        choices: tuple[Callable[[], Any], ...] = (
            lambda: array.astype(
                draw.choice(("float64", "int8", "bool", "complex64", "U3", "S2", "float16", "uint64"))
            ),
            lambda: array[..., None],
            lambda: array[1:] if array.ndim else array,
            lambda: array.reshape(-1)[:0],
            lambda: np.zeros((0, *array.shape[1:]), array.dtype),
            lambda: (
                np.full_like(array, draw.choice((-1, 2, 99)))
                if array.dtype.kind in "iu"
                else array * np.float32(np.nan)
            ),
            lambda: np.asfortranarray(array),
            lambda: np.zeros((), array.dtype),
            lambda: array.astype(array.dtype.newbyteorder(">")),
        )
        changed = draw.choice(choices)()
    buffer = io.BytesIO()
    np.save(buffer, changed, allow_pickle=False)
    return buffer.getvalue()
