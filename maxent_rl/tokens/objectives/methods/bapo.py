"""BAPO: clip bounds that are searched at each step, until rewarded tokens have their share of the loss.

Source: BAPO: Stabilizing Off-Policy Reinforcement Learning for LLMs via Balanced Policy Optimization with Adaptive Clipping
(arXiv 2510.18927): the paper's form as public summaries quote it, and that of the released code. Not confirmed: the loop's
guard at the limits, and whether the share is the paper's 0.4 or the README's 0.5.

By the value of the loss, as both have it, a higher lower bound makes what punished tokens contribute larger and not
smaller: the search over it never meets its aim but at its start, and goes from there to its limit. `balance_by="gradient"`,
this library's, counts only tokens that have a gradient, for which both bounds do what the paper says they do.
"""

from __future__ import annotations

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from maxent_rl import losses
from maxent_rl.settings import Fraction, Interval, Positive, Weight, static
from maxent_rl.tokens.objectives.advantages import GroupAdvantage
from maxent_rl.tokens.objectives.aggregates import Aggregate
from maxent_rl.tokens.objectives.shapes import Shape
from maxent_rl.tokens.objectives.stage import Preset, Work
from maxent_rl.tokens.objectives.surrogates import Clipped
from maxent_rl.types import PyTree

_ONE_STEP_LESS = 1e-3  # of a step: what is left by rounding alone is no step of its own


@struct.dataclass
class BalancedClip(Shape):
    """Raises the clip bounds step by step, until tokens of positive advantage contribute their share.

    Bounds are ratios. They begin anew at every optimiser step, and are the same for all its tokens.
    """

    balance_share: Weight = 0.4
    """The share of the contributions that tokens of positive advantage are to have; a target ratio tau of the released code
    is the share `tau / (1 + tau)`."""
    balance_by: Literal["value", "gradient"] = static("value")
    """What a token contributes: the size of its clipped loss; or that of its gradient, 0 where it is clipped."""
    balance_weight: Literal["probability", "one"] = static("probability")
    """Weigh tokens by their probability when they were drawn, or not."""
    balance_first: Literal["high", "low"] = static("high")
    """Which bound is raised first; the other one is raised when the first is at its limit."""
    ratio_low_from: Fraction = 0.6
    """The lower bound that the search begins with."""
    ratio_low_to: Fraction = 0.9
    """Its limit."""
    ratio_low_step: Positive = 0.02
    """Its step."""
    ratio_high_from: Annotated[float, Interval(1)] = 1.2
    """The upper bound that the search begins with."""
    ratio_high_to: Annotated[float, Interval(1)] = 3.0
    """Its limit."""
    ratio_high_step: Positive = 0.05
    """Its step."""

    def survey(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Finds the bounds, which all tokens of the step have, [N, T, 2]."""
        low, high, share, steps = self.search(work.ratio, work.advantages, work.batch.logp_old, work.mask)
        work = work.measure(
            **{"balance/low": low, "balance/high": high, "balance/share": share, "balance/steps": steps}
        )
        return state, work.replace(found=jnp.broadcast_to(jnp.stack([low, high]), (*work.mask.shape, 2)))

    def __call__(self, state: PyTree, work: Work) -> tuple[PyTree, Work]:
        """Sets the clip widths [N, T]."""
        assert work.found is not None
        return state, work.replace(clip_low=1.0 - work.found[..., 0], clip_high=work.found[..., 1] - 1.0)

    def search(
        self, ratio: Array, advantages: Array, logp_old: Array, mask: Array
    ) -> tuple[Array, Array, Array, Array]:
        """The bounds of a step.

        Args:
          ratio: [N, T] importance ratios.
          advantages: [N, T].
          logp_old: [N, T] nats.
          mask: [N, T] the tokens of the step.

        Returns:
          (lower bound, upper bound, the share at these, steps that were taken), [] each, without gradient.
        """
        ratio, advantages = jax.lax.stop_gradient((ratio, advantages))
        weight = jnp.where(mask, jnp.exp(logp_old) if self.balance_weight == "probability" else 1.0, 0.0)
        low_steps = _steps(self.ratio_low_from, self.ratio_low_to, self.ratio_low_step)
        high_steps = _steps(self.ratio_high_from, self.ratio_high_to, self.ratio_high_step)

        def bounds(taken: tuple[Array, Array]) -> tuple[Array, Array]:
            low = jnp.where(
                taken[0] < low_steps, self.ratio_low_from + taken[0] * self.ratio_low_step, self.ratio_low_to
            )
            high = self.ratio_high_from + taken[1] * self.ratio_high_step
            return low, jnp.where(taken[1] < high_steps, high, self.ratio_high_to)

        def sums(taken: tuple[Array, Array]) -> tuple[Array, Array]:
            size = weight * self.contribution(ratio, advantages, *bounds(taken))
            return jnp.sum(jnp.where(advantages > 0, size, 0.0)), jnp.sum(jnp.where(advantages < 0, size, 0.0))

        def goes_on(taken: tuple[Array, Array]) -> Array:
            positive, negative = sums(taken)
            total = positive + negative
            short = self.balance_share * total - positive > losses.rounding_of(total)
            return short & ((taken[0] < low_steps) | (taken[1] < high_steps))

        def step(taken: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = taken
            raises_high = high < high_steps if self.balance_first == "high" else low >= low_steps
            return low + ~raises_high, high + raises_high

        taken = jax.lax.while_loop(goes_on, step, (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)))
        positive, negative = sums(taken)
        total = positive + negative
        share = jnp.where(total > 0, positive / jnp.where(total > 0, total, 1.0), 0.0)
        return *bounds(taken), share, (taken[0] + taken[1]).astype(jnp.float32)

    def contribution(self, ratio: Array, advantages: Array, low: Array, high: Array) -> Array:
        """[...] what each token contributes under the bounds [], of ratios and advantages [...]."""
        if self.balance_by == "value":
            return jnp.abs(jnp.minimum(ratio * advantages, jnp.clip(ratio, low, high) * advantages))
        free = jnp.where(advantages > 0, ratio <= high, ratio >= low)
        return jnp.where(free, ratio * jnp.abs(advantages), 0.0)


def _steps(start: float, limit: float, size: float) -> Array:
    """[] int32 how many steps lead from the start to the limit; the last one may be shorter."""
    return jnp.maximum(jnp.ceil((jnp.asarray(limit) - start) / size - _ONE_STEP_LESS), 0).astype(jnp.int32)


_PAPER = "BAPO: Balanced Policy Optimization with Adaptive Clipping, arXiv 2510.18927"
PRESETS: dict[str, Preset] = {
    "bapo": Preset(
        "clip bounds that are raised at each step until rewarded tokens have their share of the loss",
        _PAPER,
        (GroupAdvantage(), BalancedClip(), Clipped(), Aggregate()),
    ),
    "bapo_released": Preset(
        "bapo by the released configuration: other ranges, tokens weigh the same, the lower bound goes first",
        _PAPER,
        (
            GroupAdvantage(),
            BalancedClip(
                balance_share=0.5,
                balance_weight="one",
                balance_first="low",
                ratio_low_to=0.8,
                ratio_low_step=0.05,
                ratio_high_to=2.0,
            ),
            Clipped(dual_clip=3.0),
            Aggregate(),
        ),
    ),
}
