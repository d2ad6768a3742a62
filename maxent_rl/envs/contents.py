"""What objects hold, as something to compare them by: a compiled program is kept for what is equal, and only for that."""

from __future__ import annotations

import dataclasses
import hashlib
import numbers
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def contents(value: Any) -> Hashable:
    """What a value is compared by: arrays by their numbers, plain objects by their attributes, and these likewise.

    Args:
      value: for instance an environment.
    """
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not dataclasses.is_dataclass(value):
        return type(value), _contents(attributes)
    return _contents(value)


def _contents(value: Any) -> Hashable:
    kind = type(value)
    if isinstance(value, jax.core.Tracer):
        return kind, _Same(value)
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        numbers_of: Any = value
        if jnp.issubdtype(numbers_of.dtype, jax.dtypes.prng_key):
            numbers_of = jax.random.key_data(numbers_of)
        array = np.asarray(numbers_of)
        if not array.dtype.hasobject:
            return kind, array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()
        return kind, array.shape, _contents(array.tolist())
    if isinstance(value, numbers.Number):
        return kind, repr(value)  # 1, 1.0 and True are equal, and make different programs
    if isinstance(value, (tuple, list)):
        return kind, tuple(map(_contents, value))
    if isinstance(value, Mapping):
        return kind, tuple((_contents(key), _contents(entry)) for key, entry in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        attributes = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        return kind, _contents(attributes | getattr(value, "__dict__", {}))
    try:
        hash(value)
    except TypeError:
        return kind, _Same(value)
    return kind, value


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
    """Something that is equal to itself alone."""

    value: Any

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value
