"""Anchored policy learning online: SAC whose policy learns from candidate actions that its critics score.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913), the online loop, with SAC's critics and temperature
(arXiv 1812.05905) for the scores. No gradient passes through the critics into the action.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.imitation.adpo import check_candidates, target_metrics
from maxent_rl.agents.soft.base import SACState
from maxent_rl.agents.soft.sac import SAC
from maxent_rl.distributions import TanhGaussian
from maxent_rl.networks import Anchor, AnchorName, AnchorState, with_statistics, without_statistics
from maxent_rl.settings import Count, Fraction, Positive, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import when


@struct.dataclass
class ADPOOnlineState(SACState):
    """SAC's state, and the anchor.

    Attributes:
      anchor: what the policy is measured against.
    """

    anchor: AnchorState | None


@struct.dataclass
class ADPOOnline(SAC):
    """SAC with an anchored listwise loss for the policy, which ranks candidate actions as the critics do."""

    _of_policy: ClassVar[tuple[str, ...]] = (*SAC._of_policy, "anchor")
    _of_resets: ClassVar[tuple[str, ...]] = (*SAC._of_resets, "anchor")

    learning_rate: Positive = 3e-4
    """Adam's step size for the critics, and for what has none of its own."""

    anchoring_temperature: Positive = 1.0
    """Anchoring temperature (tau); the smaller, the nearer the policy stays to its anchor."""
    anchor_every: Count = setting(1_000, used_when=when(anchor="copy"))
    """Updates between copies of the policy into the anchor, with --anchor copy."""
    anchor_decay: Fraction = setting(0.99, used_when=when(anchor="ema"))
    """Share of the anchor that stays in each update, with --anchor ema."""
    anchor_threshold: Positive = setting(0.1, used_when=when(anchor="kl"))
    """Mean of |log-probability - that under the anchor|, in nats, above which --anchor kl copies the policy."""

    num_candidates: Count = static(8)
    """Actions that the policy draws in each state for the critics to score."""
    anchor: Literal["sampling", AnchorName] = static("sampling")
    """sampling: the policy that draws the candidates; uniform: none; fixed: the policy as it began; copy, ema, kl: follows."""
    target: Literal["boltzmann_over_anchor", "boltzmann"] = static("boltzmann_over_anchor")
    """What the target weighs: the critics' Boltzmann distribution relative to the anchor, which is where SAC's policy ends
    whatever the anchor, or that distribution alone."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        check_candidates(self.num_candidates)
        super().check(spec, env)

    def acting(self, state: SACState) -> SACState:
        """The state without what only learning needs."""
        return dataclasses.replace(cast(ADPOOnlineState, super().acting(state)), anchor=None)

    def update_policy(
        self, state: SACState, batch: Transition, noise: Array, key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves the policy towards the candidates that the critics value above what it thinks of them already.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          noise: [candidate, batch, action] standard normal.
          key: [] random key.
        """
        held = cast(ADPOOnlineState, state)
        temperature = self._temperature(state)
        candidates = self.policy(state.policy, batch.observation).pre_tanh(noise)  # [candidate, batch, action]
        q = self._climbed(self.values(state.critics, batch.observation, jnp.tanh(candidates), key))
        scores = (q / temperature).T
        anchor_log_prob = self._anchor_log_prob(held, batch.observation, candidates)
        if self.target == "boltzmann_over_anchor":
            target = losses.teacher_over_anchor_target(scores, anchor_log_prob, self.anchoring_temperature)
        else:
            target = losses.softmax_target(scores, 1.0)

        def loss(learned: PyTree) -> tuple[Array, tuple[Array, Array, Metrics]]:
            policy = with_statistics(learned, state.policy)
            log_prob = _log_prob(self.policy(policy, batch.observation, train=True), candidates)
            logits = losses.anchored_logits(log_prob, anchor_log_prob, self.anchoring_temperature)
            listwise = losses.anchored_loss(logits, target)
            divergence = jnp.mean(jnp.abs(log_prob - anchor_log_prob))
            return jnp.mean(listwise), (jnp.mean(log_prob, axis=-1), divergence, target_metrics(listwise, target))

        (value, (log_prob, divergence, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(
            without_statistics(state.policy)
        )
        anchor = self._anchor.update(cast(AnchorState, held.anchor), state.policy, divergence)
        after = dataclasses.replace(
            cast(ADPOOnlineState, self._move_policy(state, gradient, batch.observation)), anchor=anchor
        )
        return (
            after,
            log_prob,
            {
                "actor/loss": value,
                "actor/entropy": -jnp.mean(log_prob),
                "anchor/log_ratio": divergence,
                **metrics,
            },
        )

    def _more_state(self, state: SACState, key: Array, spec: Spec) -> ADPOOnlineState:
        """The state of one seed; the anchor begins as the policy."""
        return ADPOOnlineState(**vars(state), anchor=self._anchor.init(state.policy))

    def _anchor_log_prob(self, state: ADPOOnlineState, observation: Array, candidates: Array) -> Array:
        """[batch, candidate] under the anchor; 0 where it is uniform over actions."""
        parameters = state.policy if self.anchor == "sampling" else cast(AnchorState, state.anchor).params
        if parameters is None:
            return jnp.zeros(candidates.shape[1::-1])
        return _log_prob(self.policy(parameters, observation), candidates)

    @property
    def _anchor(self) -> Anchor:
        kind: AnchorName = "uniform" if self.anchor == "sampling" else self.anchor  # no copy has to be kept
        return Anchor(kind, self.anchor_every, self.anchor_decay, self.anchor_threshold)

    @property
    def _policy_draws(self) -> int:
        return self.num_candidates


def _log_prob(policy: TanhGaussian, candidates: Array) -> Array:
    """Log-density of the squashed candidates: [candidate, batch, action] to [batch, candidate], in nats."""
    return policy.log_prob_pre_tanh(candidates).T
