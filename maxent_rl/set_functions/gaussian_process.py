"""What observations of a Gaussian process tell: information gain, log-determinant and entropy, by one incremental Cholesky.

All three are 0.5 logdet(I + K_S / noise) and a constant for each element that counts. The memory holds the Cholesky factor L
of A = K_S + noise I and its inverse: a gain then takes four products of a vector with a matrix of `capacity` rows, O(n^2),
and no triangular solve, which is slow on CPUs under `vmap`.

Single precision: the conditional variance of an element is a difference of numbers of the size of its variance, so that its
relative error is around 1e-7 times variance / (conditional variance + noise). With a jitter of 1e-6, walks of 40 steps over a
grid have gains within 1e-6 for a Matern-5/2 lengthscale of 1 cell, 2e-4 for 5 cells and 0.1 for 30 cells, where already
rounding the table changes the value by 0.4. Smooth covariances with little noise want float64 tables and JAX at float64.
Repeated elements have no such difference.

Source: Submodular Reinforcement Learning (arXiv 2307.13372); its released code has the log-determinant with a jitter of
1e-6, an offset of 9.965784, which is -log2(1e-3), and repeats counted.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import InvalidSettingError, ShapeError
from maxent_rl.set_functions.base import SetFunction, Table, refuse_longer, refuse_shape
from maxent_rl.types import Array

RELEASED_JITTER = 1e-6
RELEASED_OFFSET = 9.965784


class Observed(NamedTuple):
    """Which elements were observed, and how they hang together.

    Attributes:
      factor: [capacity, capacity] lower Cholesky factor of the observations' covariance; 0 where free.
      inverse: [capacity, capacity] its inverse.
      indices: [capacity] int32 the elements in order of observation; -1 where free.
      number: [] int32 how many there are.
    """

    factor: Array
    inverse: Array
    indices: Array
    number: Array


class GaussianProcessFunction(SetFunction):
    """0.5 logdet(I + K_S / noise) in nats, and `constant` for each element that counts; base of the three below.

    Attributes:
      covariance: [element, element] of the process; its type decides the precision.
      capacity: the most elements of a trajectory.
    """

    covariance: Table
    capacity: int = 0

    @property
    @abc.abstractmethod
    def noise(self) -> float:
        """What independent noise adds to the variance of each observation, above 0."""

    @property
    @abc.abstractmethod
    def constant(self) -> float:
        """What each counted element adds besides, at least 0, in nats."""

    @property
    def counts_repeats(self) -> bool:
        """Whether an element that is visited again is a further observation; else it adds nothing."""
        return False

    @property
    def ground_set_size(self) -> int | None:
        """One for each row of the covariance."""
        return len(self.covariance.values)

    def empty(self) -> Observed:
        """Nothing was observed."""
        square = jnp.zeros((self.capacity, self.capacity), self.covariance.floats().dtype)
        return Observed(square, square, jnp.full(self.capacity, -1, jnp.int32), jnp.zeros((), jnp.int32))

    def add(self, memory: Observed, element: Array) -> tuple[Observed, Array]:
        """Observes one element, in O(capacity^2)."""
        factor, inverse, indices, number = memory
        covariance = self.covariance.floats()
        same = indices == element
        known, first = jnp.any(same), jnp.argmax(same)
        between = jnp.where(indices >= 0, covariance[element, indices], 0.0)
        projected = product(inverse, between)
        # Once more for what is left: one solve by the inverse alone is not stable, and in float32 its errors would grow from
        # element to element where elements are all but determined by others.
        projected = projected + product(inverse, between - product(factor, projected))
        # A repeat's covariance with the rest is column `first` of A less the noise on its diagonal. Written out, the variance
        # that is left is no difference of almost equal numbers, and neither are its coefficients A^-1 `between`.
        of_noise = self.noise * inverse[:, first]
        left = jnp.where(known, self.noise - jnp.sum(of_noise**2), covariance[element, element] - jnp.sum(projected**2))
        projected = jnp.where(known, factor[first] - of_noise, projected)
        back = product(jnp.where(known, of_noise, projected), inverse)
        places = jnp.arange(self.capacity)
        coefficients = jnp.where(known, (places == first) - back, back)
        # What is left is at least what the noise of the others brings in. Where rounding hides it, this keeps the rows of the
        # inverse as short as they are in truth, so that errors do not grow.
        left = jnp.maximum(left, self.noise * jnp.sum(coefficients**2))
        gain, deviation = 0.5 * jnp.log1p(left / self.noise) + self.constant, jnp.sqrt(left + self.noise)
        # Out of bounds, and so dropped, is what adds nothing.
        taken = jnp.bool_(True) if self.counts_repeats else ~known
        place = jnp.where(taken, number, self.capacity)
        after = Observed(
            factor.at[place].set(jnp.where(places == number, deviation, projected), mode="drop"),
            inverse.at[place].set(jnp.where(places == number, 1.0, -coefficients) / deviation, mode="drop"),
            indices.at[place].set(jnp.asarray(element, jnp.int32), mode="drop"),
            number + taken,
        )
        return after, jnp.where(taken, gain, 0.0)

    def value(self, trajectory: Array) -> Array:
        """By the determinant of all observations of indices [n].

        An element that is observed k times tells as much as once with a k-th of the noise, so that the matrix is one of
        distinct elements, and the rows of repeats are those of the identity.

        Raises:
          ShapeError: n is above the capacity.
        """
        refuse_longer(self, trajectory)
        trajectory = jnp.asarray(trajectory)
        same = trajectory[:, None] == trajectory
        first = ~jnp.any(jnp.tril(same, -1), axis=1)
        times = jnp.sum(same, axis=1) if self.counts_repeats else jnp.ones(len(trajectory), jnp.int32)
        covariance = self.covariance.floats()[trajectory[:, None], trajectory]
        root = jnp.sqrt(jnp.where(first, times, 0).astype(covariance.dtype))
        matrix = jnp.eye(len(trajectory), dtype=covariance.dtype) + root[:, None] * root * covariance / self.noise
        counted = len(trajectory) if self.counts_repeats else jnp.sum(first)
        determinant: Array = 0.5 * jnp.linalg.slogdet(matrix)[1] + self.constant * counted
        return determinant

    def single(self, element: Array) -> Array:
        """From the element's variance alone."""
        return 0.5 * jnp.log1p(self.covariance.floats()[element, element] / self.noise) + self.constant

    def summary(self, memory: Observed) -> Array:
        """[element] 1 where something was visited."""
        size = len(self.covariance.values)
        places = jnp.where(memory.indices >= 0, memory.indices, size)
        return jnp.zeros(size, jnp.float32).at[places].set(1.0, mode="drop")


@dataclasses.dataclass(frozen=True)
class InformationGain(GaussianProcessFunction):
    """Mutual information of a Gaussian process and noisy observations of distinct elements: 0.5 logdet(I + K_S / noise).

    Attributes:
      covariance: [element, element] of the process.
      noise_variance: of an observation, above 0.
      capacity: the most elements of a trajectory.
    """

    covariance: Table
    noise_variance: float
    capacity: int = dataclasses.field()

    def __post_init__(self) -> None:
        """Refuses what is no covariance, no noise and no room."""
        refuse_process(self, "noise variance", self.noise_variance)

    @property
    def noise(self) -> float:
        """The noise variance."""
        return self.noise_variance

    @property
    def constant(self) -> float:
        """0."""
        return 0.0


@dataclasses.dataclass(frozen=True)
class LogDeterminant(GaussianProcessFunction):
    """0.5 logdet(K_S + jitter I) + offset |S|: the design criterion D, made positive.

    Attributes:
      covariance: [element, element] of the process.
      jitter: added to each variance, above 0.
      offset: what each element adds besides, in nats; at least -0.5 log(jitter).
      capacity: the most elements of a trajectory.
      distinct: whether an element counts once; else as often as it is visited, as a further observation.
    """

    covariance: Table
    jitter: float
    offset: float
    capacity: int = dataclasses.field()
    distinct: bool = False

    def __post_init__(self) -> None:
        """Refuses what is no covariance, and offsets with which a visit could lower the value."""
        refuse_process(self, "jitter", self.jitter)
        if not self.constant >= 0 or not math.isfinite(self.offset):
            raise InvalidSettingError(
                f"The offset must be finite and at least -0.5 log(jitter) = {-0.5 * math.log(self.jitter):g}, or a visit "
                f"could lower the value (all that is sure of a conditional variance is that it is no less than the jitter); "
                f"got {self.offset:g}."
            )

    @property
    def noise(self) -> float:
        """The jitter."""
        return self.jitter

    @property
    def constant(self) -> float:
        """The offset and 0.5 log(jitter), the least that an element can add."""
        return self.offset + 0.5 * math.log(self.jitter)

    @property
    def counts_repeats(self) -> bool:
        """Unless elements count once."""
        return not self.distinct


@dataclasses.dataclass(frozen=True)
class Entropy(GaussianProcessFunction):
    """Differential entropy of noisy observations of distinct elements: 0.5 logdet(2 pi e (K_S + noise I)) in nats.

    Attributes:
      covariance: [element, element] of the process.
      noise_variance: of an observation, at least 1 / (2 pi e), or observations could lower the entropy.
      capacity: the most elements of a trajectory.
    """

    covariance: Table
    noise_variance: float
    capacity: int = dataclasses.field()

    def __post_init__(self) -> None:
        """Refuses what is no covariance, and noise with which a visit could lower the value."""
        refuse_process(self, "noise variance", self.noise_variance)
        if self.constant < 0:
            raise InvalidSettingError(
                f"The noise variance must be at least 1 / (2 pi e) = {1 / (2 * math.pi * math.e):g}, or a visit could lower "
                f"the entropy (that of narrower noise is negative); got {self.noise_variance:g}."
            )

    @property
    def noise(self) -> float:
        """The noise variance."""
        return self.noise_variance

    @property
    def constant(self) -> float:
        """The entropy of the noise, the least that an observation can add."""
        return 0.5 * math.log(2 * math.pi * math.e * self.noise_variance)


def product(left: Array, right: Array) -> Array:
    """Of a matrix and a vector, either first: at full precision also on devices that round factors by default."""
    return jnp.matmul(left, right, precision="highest")


def refuse_process(function: GaussianProcessFunction, noise_name: str, noise: float) -> None:
    """Refuses what no function of a Gaussian process can be made of.

    Raises:
      InvalidSettingError: the capacity is below 1, the noise not above 0, or the covariance not one.
      ShapeError: the covariance is not square.
    """
    if function.capacity < 1:
        raise InvalidSettingError(f"The capacity must be at least 1, got {function.capacity}.")
    if not 0 < noise < math.inf:
        raise InvalidSettingError(f"The {noise_name} must be above 0 and finite, got {noise:g}.")
    refuse_covariance(function.covariance)


def refuse_covariance(covariance: Table) -> None:
    """Refuses a table that is the covariance of nothing.

    Raises:
      ShapeError: it is not square.
      InvalidSettingError: it is not finite, not symmetric, or has a negative eigenvalue beyond rounding.
    """
    refuse_shape("covariance", covariance, ("element", "element"))
    values = covariance.values
    if values.shape[0] != values.shape[1]:
        raise ShapeError(f"A covariance must be square, got {list(values.shape)}.")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InvalidSettingError(
            f"A covariance must be finite; that of {row} and {column} is {values[row, column]:g}."
        )
    exact = values.astype(np.float64)
    largest = float(np.max(np.abs(exact)))
    tolerance = largest * (1e-9 if values.dtype == np.float64 else 1e-5)
    apart = np.abs(exact - exact.T)
    if np.max(apart) > tolerance:
        row, column = np.unravel_index(np.argmax(apart), apart.shape)
        raise InvalidSettingError(
            f"A covariance must be symmetric; that of {row} and {column} is {exact[row, column]:g}, the other way round "
            f"{exact[column, row]:g}."
        )
    try:
        # Many times faster than eigenvalues, which are needed for the message only.
        np.linalg.cholesky(exact + (tolerance + np.finfo(np.float64).tiny) * np.eye(len(exact)))
    except np.linalg.LinAlgError:
        least = float(np.linalg.eigvalsh(exact)[0])
        raise InvalidSettingError(
            f"A covariance must have no negative eigenvalue, or there are no such variables; the least is {least:g}."
        ) from None
