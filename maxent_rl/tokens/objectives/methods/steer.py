"""STEER: the more a token's update would change the entropy, in either direction, the less it weighs.

Source: Rethinking Entropy Interventions in RLVR: An Entropy Change Perspective (arXiv 2510.10150), in the form of the
released code. The form that the paper prints (the power of `1 - pi`) could not be confirmed; `one_minus_pi_power` sets it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.errors import InvalidSettingError
from maxent_rl.settings import Count, Interval, Positive, Weight, static
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.methods.discriminator import expected_discriminant
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Statistic, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

Least: TypeAlias = Annotated[float, Interval(0, 1, low_open=True)]
Most: TypeAlias = Annotated[float, Interval(1)]
_SMALLEST_LOG_PROB, _LARGEST_LOG_PROB = -18.420681, -1e-8  # log 1e-8 and log(1 - 1e-8)


@struct.dataclass
class Steer(Shape):
    """Weighs the policy loss of each token by how little its update changes the entropy.

    The change is estimated at each step from the policy as it is now and the entropy when the responses were drawn. omega,
    the paper's, neglects what becomes of the other tokens' logits: its sign is wrong for some tokens likelier than exp(-H),
    and its size is far too large for rare ones. exact, this library's, is exact to first order.
    """

    needs: ClassVar[tuple[str, ...]] = ("entropy_old",)
    steer_map: Literal["exponential", "linear"] = static("exponential")
    """How weights fall with the change: from 1, exponentially; or linearly between the two bounds."""
    steer_estimator: Literal["omega", "exact"] = static("omega")
    """How the change is estimated: the paper's score, or exactly to first order."""
    steer_least: Least = 0.8
    """The weight of the token with the largest change."""
    steer_most: Most = 1.2
    """The weight of the token with the smallest, under the linear map."""
    steer_floor: Positive = 0.02
    """Under the exponential map, changes below this are small whatever the largest is; lower it for exact."""
    one_minus_pi_power: Weight = 1.0
    """Power of `1 - pi` in omega; 1 as in the released code."""
    steer_rows: Count | None = static(None)
    """Rows that are compared with each other (8 in the released code); None for all of the step."""

    def statistics(self, state: PyTree) -> dict[str, Statistic]:
        """For the exact estimate, the mean discriminant over the vocabulary."""
        return {"expected_discriminant": expected_discriminant} if self.steer_estimator == "exact" else {}

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the weights [N, T], which the largest change of the step scales."""
        change = jnp.abs(jax.lax.stop_gradient(self.entropy_change(work)))
        return state, work.replace(found=jnp.where(work.mask, self.weights(change, work.mask), 0.0))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Multiplies the weight [N, T]."""
        weight = work.found
        assert weight is not None
        work = work.measure(**{"steer/weight": losses.masked_mean(weight, work.mask)})
        return state, work.replace(weight=weight if work.weight is None else work.weight * weight)

    def entropy_change(self, work: Work) -> Array:
        """How much each token's update lowers the entropy at its position, per unit of step: [N, T], 0 where not finite.

        Source: arXiv 2510.10150, the score Omega; exact: arXiv 2602.03392, theorem 3.3.
        """
        entropy, logp = work.batch.entropy_old, work.outputs.logp
        assert entropy is not None
        if self.steer_estimator == "exact":
            distance = losses.entropy_discriminant(logp, entropy) - work.batch.statistics["expected_discriminant"]
            change = work.ratio * work.advantages * distance
        else:
            logp = jnp.clip(logp, _SMALLEST_LOG_PROB, _LARGEST_LOG_PROB)
            ratio = jnp.exp(logp - jnp.clip(work.batch.logp_old, _SMALLEST_LOG_PROB, 0.0))
            # expm1: single precision has no number between 1 and 1 - 6e-8.
            # Where the token is as likely as exp(-H) no rounding must make it one that changes the entropy.
            beyond = losses.without_rounding(logp + entropy, jnp.maximum(-logp, entropy))
            change = work.advantages * ratio * (-jnp.expm1(logp)) ** self.one_minus_pi_power * beyond
        return jnp.where(work.mask & jnp.isfinite(change), change, 0.0)

    def weights(self, change: Array, mask: Array) -> Array:
        """The weight of each token [N, T] from the absolute change [N, T]; masked ones are not looked at."""
        rows = self.steer_rows or len(change)
        if rows and len(change) % rows:
            raise InvalidSettingError(f"--steer-rows {rows} must divide the {len(change)} rows of a step.")
        blocks, valid = (values.reshape(-1, max(rows, 1) * change.shape[1]) for values in (change, mask))
        largest = jnp.max(blocks, axis=-1, keepdims=True, initial=0.0, where=valid)
        if self.steer_map == "exponential":
            rate = -jnp.log(jnp.asarray(self.steer_least)) / jnp.maximum(largest, self.steer_floor)
            weight = jnp.clip(jnp.exp(-rate * blocks), self.steer_least, 1.0)
        else:
            smallest = jnp.min(blocks, axis=-1, keepdims=True, initial=jnp.inf, where=valid)
            spread = losses.apart(largest, smallest)
            share = (blocks - smallest) / jnp.where(spread, largest - smallest, 1.0)
            weight = self.steer_most - jnp.where(spread, share, 0.5) * (self.steer_most - self.steer_least)
            weight = jnp.clip(weight, self.steer_least, self.steer_most)
        return weight.reshape(change.shape)


PRESETS: dict[str, Preset] = {
    "steer": Preset(
        "each token weighs the less, the more its update changes the entropy",
        "Rethinking Entropy Interventions in RLVR: An Entropy Change Perspective, arXiv 2510.10150",
        (GroupAdvantage(), Steer(), Clipped(clip_low=0.2, clip_high=0.28, dual_clip=10.0), Aggregate()),
    ),
}
