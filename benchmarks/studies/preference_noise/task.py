"""The bandit of the noise study: a reward, what corrupts its scores or moves its contexts, and a data set of both.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913), four corruptions of three severities. How large they
are, how the reward is made and how much data there is are not known from the paper, and chosen here.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

OUTLIER_STD = 5.0
_REWARD_UNITS, _REWARD_SCALE = 32, 1.5
_SCALING_CONTEXTS = 4096


class Corruption(NamedTuple):
    """How the data differs from clean data; all zeros are clean. A reward has mean 0 and deviation 1 over contexts.

    Attributes:
      noise: standard deviation of the Gaussian noise on every score.
      outliers: share of the scores with Gaussian noise of standard deviation 5 besides.
      shift: mean of every coordinate of the contexts that are tested on; those that are learned from have mean 0.
      flips: share of the contexts whose scores are all reversed, and with them every preference.
      cauchy: scale of the Cauchy noise on every score.
    """

    noise: float = 0.0
    outliers: float = 0.0
    shift: float = 0.0
    flips: float = 0.0
    cauchy: float = 0.0


KINDS = {
    "outliers": [Corruption(noise=std, outliers=share) for std, share in ((0.2, 0.1), (0.5, 0.2), (1.0, 0.3))],
    "shift": [Corruption(shift=mean) for mean in (0.5, 1.0, 1.5)],
    "flips": [Corruption(flips=share) for share in (0.1, 0.2, 0.3)],
    "heavy tails": [Corruption(cauchy=scale) for scale in (0.1, 0.3, 1.0)],
}
"""By kind: three severities, the mildest first. Suggested values, not the paper's."""

SCENARIOS = {f"{kind} {place}": each for kind, found in KINDS.items() for place, each in enumerate(found, start=1)}
"""The twelve by name: kind and severity."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the task is, the same for all methods."""

    items: int = 4
    """Items to choose from (P)."""
    context_size: int = 16
    """Numbers in a context."""
    contexts: int = 2048
    """Contexts that are learned from, drawn once with the scores of all their items."""
    test_contexts: int = 2048
    """Contexts that are tested on."""


class Reward(NamedTuple):
    """A random network of two layers with a tanh between, one output for each item, brought to mean 0 and deviation 1."""

    inner: Array
    outer: Array
    mean: Array
    deviation: Array

    def __call__(self, contexts: Array) -> Array:
        """[..., context_size] to [..., items]."""
        return (_raw(self.inner, self.outer, contexts) - self.mean) / self.deviation


class Task(NamedTuple):
    """One seed of one scenario.

    Attributes:
      contexts: [contexts, context_size] to learn from.
      scores: [contexts, items] of their items, corrupted.
      test_contexts: [test_contexts, context_size].
      test_best: [test_contexts] the item whose true reward is the highest.
    """

    contexts: Array
    scores: Array
    test_contexts: Array
    test_best: Array


class Keys(NamedTuple):
    """Where the random numbers of a seed come from; the scenarios of a seed share all of them."""

    reward: Array
    reference: Array
    contexts: Array
    test_contexts: Array
    noise: Array
    batches: Array


def keys_of(seed: Array) -> Keys:
    """The keys of a seed []."""
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def make_reward(key: Array, sizes: Sizes) -> Reward:
    """A reward under which every item is as good as the others on average."""
    inner_key, outer_key, context_key = jax.random.split(key, 3)
    inner = jax.random.normal(inner_key, (sizes.context_size, _REWARD_UNITS)) * _REWARD_SCALE / sizes.context_size**0.5
    outer = jax.random.normal(outer_key, (_REWARD_UNITS, sizes.items))
    raw = _raw(inner, outer, jax.random.normal(context_key, (_SCALING_CONTEXTS, sizes.context_size)))
    return Reward(inner, outer, jnp.mean(raw, axis=0), jnp.std(raw, axis=0))


def make_task(keys: Keys, corruption: Corruption, sizes: Sizes) -> Task:
    """Draws the data of one seed and scenario.

    Args:
      keys: of the seed.
      corruption: of the scenario; its numbers may be traced.
      sizes: of the task.
    """
    reward = make_reward(keys.reward, sizes)
    contexts = jax.random.normal(keys.contexts, (sizes.contexts, sizes.context_size))
    test_contexts = jax.random.normal(keys.test_contexts, (sizes.test_contexts, sizes.context_size)) + corruption.shift
    best = jnp.argmax(reward(test_contexts), axis=-1)
    return Task(contexts, corrupt(keys.noise, reward(contexts), corruption), test_contexts, best)


def corrupt(key: Array, scores: Array, corruption: Corruption) -> Array:
    """Scores [contexts, items] as they are seen."""
    noise_key, chosen_key, outlier_key, flip_key, cauchy_key = jax.random.split(key, 5)
    reversed_ = jax.random.uniform(flip_key, (*scores.shape[:-1], 1)) < corruption.flips
    far = jax.random.uniform(chosen_key, scores.shape) < corruption.outliers
    seen = jnp.where(reversed_, -scores, scores)
    seen += corruption.noise * jax.random.normal(noise_key, scores.shape)
    seen += jnp.where(far, OUTLIER_STD * jax.random.normal(outlier_key, scores.shape), 0.0)
    return seen + corruption.cauchy * jax.random.cauchy(cauchy_key, scores.shape)


def stack(corruptions: list[Corruption]) -> Corruption:
    """Several corruptions as one, with arrays [scenario] to map over."""
    stacked: Corruption = jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *corruptions)
    return stacked


def _raw(inner: Array, outer: Array, contexts: Array) -> Array:
    return jnp.tanh(contexts @ inner) @ outer
