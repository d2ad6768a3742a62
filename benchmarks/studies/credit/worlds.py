"""What is asked of policies: one small world for each claim, in which what the paper says could be seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.studies.credit.policy import World

DIGITS = 10
FORKS, TEMPLATE = 32, 4
THOUGHTS, LEVELS, OF_LEVEL = 8, 4, 12


@cache
def template() -> World:
    """Four symbols that are all but given, then a digit, one of ten, that is to be found: HAPO's forks."""
    draw = np.random.default_rng(0)
    right = np.arange(FORKS) % DIGITS
    logits = np.zeros((FORKS, TEMPLATE + 1, 1, DIGITS + 2))
    logits[:, :TEMPLATE, 0, DIGITS] = 6.0
    logits[:, TEMPLATE, 0, :DIGITS] = draw.normal(0, 1.0, (FORKS, DIGITS))
    logits[:, TEMPLATE, 0, DIGITS:] = -6.0

    def judge(prompts: Array, tokens: Array, mask: Array, key: Array) -> Array:
        formed = jnp.all(tokens[:, :TEMPLATE] == DIGITS, axis=1)
        return (formed & (tokens[:, TEMPLATE] == jnp.asarray(right)[prompts])).astype(jnp.float32)

    return World(logits, judge)


@cache
def sums(single: bool = False) -> World:
    """Three symbols of twelve whose sum is given: 144 right answers, one of which is likely at first, or that one alone."""
    draw, symbols, prompts = np.random.default_rng(1), 12, 32
    first = draw.integers(0, symbols, (prompts, 2))
    target = np.arange(prompts) % symbols
    path = np.concatenate([first, (target - first.sum(axis=1))[:, None] % symbols], axis=1)
    logits = np.zeros((prompts, 3, symbols, symbols))
    for prompt, symbols_of in enumerate(path):
        state = 0
        for place, symbol in enumerate(symbols_of):
            logits[prompt, place, state, symbol] += 2.5
            state = (state + symbol) % symbols

    def judge(prompts: Array, tokens: Array, mask: Array, key: Array) -> Array:
        if single:
            right = jnp.all(tokens == jnp.asarray(path)[prompts], axis=1)
        else:
            right = jnp.sum(tokens, axis=1) % symbols == jnp.asarray(target)[prompts]
        return right.astype(jnp.float32)

    return World(logits, judge, states=symbols)


@cache
def replayed() -> World:
    """Two digits that are right a tenth of the time at first: most samples are punished."""
    draw, prompts = np.random.default_rng(2), 32
    right = draw.integers(0, DIGITS, (prompts, 2))
    logits = draw.normal(0, 0.3, (prompts, 2, 1, DIGITS))
    logits[np.arange(prompts)[:, None], np.arange(2), 0, right] += 1.3
    return World(logits, _exactly(right))


@cache
def thinking() -> World:
    """Symbols that are thoughts, of four kinds, until an answer: right as often as there were thoughts enough for the prompt.

    Prompts of level l need l - 1 thoughts; with fewer an answer is right half as often for each that is missing.
    """
    draw, prompts = np.random.default_rng(3), LEVELS * OF_LEVEL
    needed = np.repeat(np.arange(LEVELS), OF_LEVEL)
    logits = draw.normal(0, 0.5, (prompts, THOUGHTS, 1, 5))
    logits[..., 4] += 0.6

    def judge(prompts: Array, tokens: Array, mask: Array, key: Array) -> Array:
        thoughts = jnp.sum(mask, axis=1) - 1
        missing = jnp.maximum(jnp.asarray(needed)[prompts] - thoughts, 0)
        ended = jnp.any(mask & (tokens == 4), axis=1)
        lucky = jax.random.uniform(key, prompts.shape) < 0.95 * 0.5**missing
        return (ended & lucky).astype(jnp.float32)

    return World(logits, judge, end=4)


@cache
def scales() -> World:
    """Two tasks with logits in common: one pays 0 or 1, the other 0.80 to 0.85 and, one time in a hundred, 10 for anything."""
    draw, prompts, features = np.random.default_rng(4), 24, 8
    task = np.arange(prompts) % 2
    right = draw.integers(0, DIGITS, prompts)

    def judge(prompts: Array, tokens: Array, mask: Array, key: Array) -> Array:
        hit = (tokens[:, 0] == jnp.asarray(right)[prompts]).astype(jnp.float32)
        outlier = jax.random.uniform(key, prompts.shape) < 0.01
        dense = 0.80 + 0.05 * hit + 10.0 * outlier
        return jnp.where(jnp.asarray(task)[prompts] == 0, hit, dense)

    return World(
        draw.normal(0, 0.3, (features, 1, 1, DIGITS)),
        judge,
        features=draw.normal(0, 1.0, (prompts, features)),
        task=task,
    )


@cache
def skills() -> World:
    """Two digits that some prompts have right half of the time at first and others once in two hundred times."""
    draw, prompts = np.random.default_rng(5), 40
    right = draw.integers(0, DIGITS, (prompts, 2))
    share = np.exp(np.linspace(np.log(0.005), np.log(0.5), prompts))
    logits = np.zeros((prompts, 2, 1, DIGITS))
    chance = np.sqrt(share)  # of each digit
    logits[np.arange(prompts)[:, None], np.arange(2), 0, right] = np.log(chance * (DIGITS - 1) / (1 - chance))[:, None]
    return World(logits, _exactly(right))


@cache
def taught() -> World:
    """One digit for each prompt, by a rule over features that all share; at first most prompts are sure and wrong."""
    draw, prompts, features = np.random.default_rng(6), 48, 8
    given = draw.normal(0, 1.0, (prompts, features)) / np.sqrt(features)
    rule, begin = (draw.normal(0, 1.0, (features, DIGITS)) for _ in range(2))
    right = np.argmax(given @ rule, axis=1)
    return World(4.0 * begin[:, None, None], _exactly(right[:, None]), features=given)


@cache
def majorities() -> World:
    """One digit; of 40 prompts the right one is the likeliest for 26, and for 14 the second, after one that is wrong."""
    draw, prompts = np.random.default_rng(7), 40
    right = draw.integers(0, DIGITS, prompts)
    probs = np.full((prompts, DIGITS), 0.2 / (DIGITS - 2))
    other = (right + draw.integers(1, DIGITS, prompts)) % DIGITS
    wrong = np.arange(prompts) >= 26
    probs[np.arange(prompts), right] = np.where(wrong, 0.3, 0.5)
    probs[np.arange(prompts), other] = np.where(wrong, 0.5, 0.3)
    return World(np.log(probs)[:, None, None], _exactly(right[:, None]))


def right_answers(world: World) -> np.ndarray:
    """[prompt, place] the one right answer to each prompt, of the worlds that have one."""
    found: np.ndarray = world.judge.right  # type: ignore[attr-defined]
    return found


def _exactly(right: np.ndarray) -> Callable[[Array, Array, Array, Array], Array]:
    """Pays 1 for the one right answer [prompt, place]."""

    def judge(prompts: Array, tokens: Array, mask: Array, key: Array) -> Array:
        return jnp.all(tokens == jnp.asarray(right)[prompts], axis=1).astype(jnp.float32)

    judge.right = right  # type: ignore[attr-defined]
    return judge
