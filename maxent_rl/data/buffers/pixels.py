"""Pixels in rows of float32: three in each number, as whole numbers up to 2^24 are exact there.

A third of the memory that a float32 for each would take. A quarter, by the bits of four bytes as one float, would hold numbers
that are not numbers, whose bits a processor need not keep.
"""

from __future__ import annotations

from typing import Any, TypeVar

# NumPy's arrays and JAX's alike.
AnyArray = TypeVar("AnyArray", bound=Any)

_IN_A_NUMBER = 3


def packed_size(pixels: int) -> int:
    """Numbers that hold as many pixels."""
    return -(-pixels // _IN_A_NUMBER)


def pack_pixels(pixels: AnyArray) -> AnyArray:
    """[..., pixel] from 0 to 255, of which the whole part is kept, to [..., number] of float32."""
    arrays = pixels.__array_namespace__()
    count = packed_size(pixels.shape[-1])
    missing = arrays.zeros((*pixels.shape[:-1], _IN_A_NUMBER * count - pixels.shape[-1]), dtype=arrays.float32)
    # A number beyond a byte would change its neighbours.
    whole = arrays.floor(arrays.clip(pixels.astype(arrays.float32), 0, 255))
    padded = arrays.concat([whole, missing], axis=-1)
    first, second, third = (padded[..., part * count : (part + 1) * count] for part in range(_IN_A_NUMBER))
    packed: AnyArray = first + 256 * second + 65536 * third
    return packed


def unpack_pixels(packed: AnyArray, pixels: int) -> AnyArray:
    """[..., number] back to [..., pixel], whole numbers as float32."""
    arrays = packed.__array_namespace__()
    whole = packed.astype(arrays.int32)
    parts = [whole & 255, (whole >> 8) & 255, whole >> 16]
    unpacked: AnyArray = arrays.concat(parts, axis=-1)[..., :pixels].astype(arrays.float32)
    return unpacked
