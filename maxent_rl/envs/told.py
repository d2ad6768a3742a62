"""Values and exceptions of foreign environments in a few words, for sentences about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

REAL_KINDS = "fiub"
"""NumPy's kinds of types that are real numbers, or truth values."""


def raised(error: BaseException) -> str:
    """An exception in a few words: its type, and the first line of what it says."""
    text = said(error)
    return f"{type(error).__name__} ({text})" if text else type(error).__name__


def said(error: BaseException) -> str:
    """The first line of what an exception says, without its full stop; empty where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:")[:200] if lines else ""


def told(value: Any) -> str:
    """A value in a few words: what matters of an array is its shape, or else its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, (str, bool, int, float, complex)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:36]}..."
    array = None if isinstance(value, (Mapping, set)) else as_array(value)
    if array is None and isinstance(
        getattr(value, "shape", None), tuple
    ):  # such as what is traced, which has no numbers
        return f"an array of shape {value.shape}"
    if array is None or (array.dtype.kind == "O" and not isinstance(value, np.ndarray)):
        count = f" of {len(value)}" if isinstance(value, (Mapping, set, tuple, list)) else ""
        return f"a {type(value).__module__}.{type(value).__qualname__}".replace(" builtins.", " ") + count
    return f"an array of shape {array.shape}" + ("" if array.dtype.kind in REAL_KINDS else f" of type {array.dtype}")


def as_array(value: Any) -> NDArray[Any] | None:
    """The value as an array; None where it is none, as a list of lists of different lengths."""
    try:
        return np.asarray(value)
    except Exception:  # whatever the conversion of a foreign type raises, as of a tensor that wants gradients
        return None
