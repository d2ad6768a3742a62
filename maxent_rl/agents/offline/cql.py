"""Conservative Q-Learning for continuous actions: SAC whose critics are pushed down where the data has no actions.

Source: Conservative Q-Learning for Offline Reinforcement Learning (arXiv 2006.04779), CQL(H): equation 4 and appendix F. All
but the penalty is SAC's own update.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.soft.base import (
    PENALTY_ACTIONS,
    PENALTY_DROPOUT,
    CriticPenalty,
    Following,
    Penalty,
    SACState,
)
from maxent_rl.agents.soft.sac import SquashedSoftActorCritic
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import Temperature
from maxent_rl.settings import Count, Positive, Weight, static
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import above


@struct.dataclass
class CQLState(SACState):
    """All that learning changes.

    Attributes:
      log_weight: [] natural logarithm of the penalty's weight; None where it is fixed.
      weight_optimizer: Adam's state for it.
    """

    log_weight: Array | None
    weight_optimizer: optax.OptState | None


@struct.dataclass
class CQL(SquashedSoftActorCritic):
    """CQL(H): SAC on fixed data, with a soft maximum over all actions taken off the critics of the data's own."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"

    policy_learning_rate: Positive | None = 1e-4
    """Adam's step size for the policy; None for --learning-rate."""
    conservative_weight: Weight = 5.0
    """Weight of the penalty (alpha of the paper); where a threshold is given, that of the beginning."""
    lagrange_threshold: float | None = None
    """Penalty that the weight holds (tau of the paper), in units of return; None for a fixed weight."""

    sampled_actions: Count = static(10, used_when=above(conservative_weight=0))
    """Actions drawn in each state from each of three: uniform, the policy there, the policy at the next observation."""
    entropy_backup: bool = static(False)
    """Whether targets count the policy's entropy as SAC's do."""

    # The authors' code weighs the penalty against the squared Bellman error without its half (equation 4 has the half), and
    # the published weights are meant so; so is this one. Its threshold is compared with the penalty times its weight, and
    # without the division by the number of samples that appendix F has: a published 10 at a weight of 5 with 10 actions is
    # 2 - log 30 = -1.4 here. Left out are its first updates of the policy by cloning (10,000 to 40,000 of a million), and
    # the backup that maximises over sampled actions.

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is not None:
            raise IncompatibleEnvironmentError(
                f"CQL needs continuous actions (a Box action space), but {env} has {spec.num_actions} discrete ones; "
                "--agent cql-discrete handles those."
            )
        if self.lagrange_threshold is not None and not self.conservative_weight > 0:
            raise InvalidSettingError(
                "--lagrange-threshold needs a --conservative-weight greater than 0, from which the weight begins to move."
            )
        if self._critic_trunk().has_statistics or self.critic_value != "scalar" or self.reward_scale != "none":
            raise InvalidSettingError(
                "CQL's penalty is of plain critics: leave batch normalisation, --critic-value and --reward-scale out."
            )
        super().check(spec, env)

    def _more_state(self, state: SACState, key: Array, spec: Spec) -> CQLState:
        """The state of one seed."""
        if self.lagrange_threshold is None:
            return CQLState(**vars(state), log_weight=None, weight_optimizer=None)
        log_weight, optimizer = self._multiplier.init(self.conservative_weight)
        return CQLState(**vars(state), log_weight=log_weight, weight_optimizer=optimizer)

    def acting(self, state: SACState) -> SACState:
        """The state without what only learning needs."""
        return dataclasses.replace(cast(CQLState, super().acting(state)), log_weight=None, weight_optimizer=None)

    def follow(self, state: SACState, batch: Transition, noise: Array, key: Array) -> Following:
        """As SAC's; without `entropy_backup` nothing is charged for the action's log-probability."""
        action, log_prob = super().follow(state, batch, noise, key)
        return Following(action, log_prob if self.entropy_backup else jnp.zeros_like(log_prob))

    def critic_penalty(self, state: SACState, batch: Transition, key: Array) -> CriticPenalty:
        """The conservative penalty of equation 4, by actions drawn before the critics are differentiated."""
        action, log_density = self._sample(state.policy, batch, jax.random.fold_in(key, PENALTY_ACTIONS))
        observation = jnp.broadcast_to(batch.observation, (*action.shape[:-1], batch.observation.shape[-1]))
        weight = 0.5 * self._weight(cast(CQLState, state))

        def penalty(critics: PyTree, data_q: Array) -> Penalty:
            q = self.values(critics, observation, action, jax.random.fold_in(key, PENALTY_DROPOUT))
            gap = losses.sampled_conservative_gap(jnp.moveaxis(q, 1, 0), log_density[:, None], data_q)
            size = jnp.mean(gap)
            return Penalty(weight * jnp.sum(jnp.mean(gap, axis=-1)), size, {"conservative/gap": size})

        return penalty

    def update_penalty(self, state: SACState, size: Array) -> tuple[SACState, Metrics]:
        """A step of the penalty's weight where a threshold is given."""
        state = cast(CQLState, state)
        if state.log_weight is not None:
            moved, optimizer, _ = self._multiplier.step(state.log_weight, state.weight_optimizer, size)
            state = dataclasses.replace(state, log_weight=moved, weight_optimizer=optimizer)
        return state, {"conservative/weight": self._weight(state)}

    def _sample(self, policy: PyTree, batch: Transition, key: Array) -> tuple[Array, Array]:
        """Actions [3 * sampled_actions, batch, action] and the log of the densities they come from, in nats."""
        uniform_key, noise_key = jax.random.split(key)
        shape = (self.sampled_actions, *batch.action.shape)
        uniform = jax.random.uniform(uniform_key, shape, minval=-1.0, maxval=1.0)
        box = jnp.full(shape[:-1], -batch.action.shape[-1] * math.log(2.0))
        noise = jax.random.normal(noise_key, (self.sampled_actions, 2, *batch.action.shape))
        # Both observations of a transition in one pass; the noise has the leading axis of the samples.
        there = self.policy(policy, jnp.stack([batch.observation, batch.next_observation]))
        action, log_prob = jax.vmap(there.from_noise)(noise)
        actions = jnp.concatenate([uniform, action[:, 0], action[:, 1]])
        densities = jnp.concatenate([box, log_prob[:, 0], log_prob[:, 1]])
        return actions, densities

    def _weight(self, state: CQLState) -> Array:
        if state.log_weight is None:
            return jnp.asarray(self.conservative_weight)
        return self._multiplier.weight(state.log_weight)

    @property
    def _multiplier(self) -> Temperature:
        # A temperature grows while the entropy, minus a log-probability, lies below its target. This weight grows while the
        # gap lies above the threshold: the gap stands where the log-probability does, and minus the threshold is the target.
        assert self.lagrange_threshold is not None
        return Temperature(-self.lagrange_threshold, self.learning_rate, "dual", flat=True)
