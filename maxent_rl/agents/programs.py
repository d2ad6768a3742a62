"""Compiled programs of agents, kept by the agent's class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax

_Result = TypeVar("_Result")


def program_of_agent(*static: str) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """`jax.jit` for functions whose first argument is an agent: those named `static` are part of what a program is kept under.

    So is the agent's class. JAX takes two dataclasses with as many fields for one structure (`==`, with different hashes): it
    would now and then answer a call for one of SubPO and MODPO, or for a subclass without fields of its own, by the other's
    program.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        signature = inspect.signature(function)

        def of_class(kind: type[Any], *arguments: Any) -> _Result:
            return function(*arguments)

        of_class.__name__ = of_class.__qualname__ = function.__name__  # as profiles and messages of JAX name it
        positions = tuple(1 + list(signature.parameters).index(name) for name in static)
        program = jax.jit(of_class, static_argnums=(0, *positions))

        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> _Result:
            arguments = signature.bind(*given, **named)
            arguments.apply_defaults()
            found: _Result = program(type(arguments.args[0]), *arguments.args)
            return found

        return call

    return decorate
