"""BRO: a residual network with layer normalisation, quantile critics without pessimism, and a second policy that explores.

Source: Bigger, Regularized, Optimistic: scaling for compute and sample-efficient continuous control (arXiv 2405.16158), with
the authors' released code where the paper says nothing. All but the second policy are parts that SAC has, too.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.soft.base import SACState
from maxent_rl.agents.soft.sac import SAC
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import Shift, TemperatureMode, TrunkName, TrunkPlan
from maxent_rl.settings import Count, Finite, Fraction, Positive, Weight, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition

NARROWING = 0.75
"""The exploring policy's standard deviations as a share of the other's."""
_LOWEST, _HALF_RANGE = -10.0, 8.75  # of the logarithms of what is adjusted


@struct.dataclass
class Exploring:
    """The policy that explores, and how far it may go.

    Attributes:
      shift: parameters of what is added to the policy's means.
      shift_optimizer: Adam's state for it.
      raw: optimism and the divergence's weight, [] each, as `adjusted` takes them.
      raw_optimizer: Adam's state for both.
    """

    shift: PyTree
    shift_optimizer: optax.OptState | None
    raw: dict[str, Array] | None
    raw_optimizer: optax.OptState | None


@struct.dataclass
class BROState(SACState):
    """SAC's state, and the policy that explores.

    Attributes:
      exploring: None where nothing is collected any more.
    """

    exploring: Exploring | None


@struct.dataclass
class BRO(SAC):
    """SAC with residual networks, quantile critics without pessimism, and a second, optimistic policy that explores."""

    sees_images: ClassVar[bool] = False
    _of_policy: ClassVar[tuple[str, ...]] = (*SAC._of_policy, "exploring")
    _of_resets: ClassVar[tuple[str, ...]] = (*SAC._of_resets, "exploring")

    # What these mean stands with SAC, whose values they replace by those of the authors' code.
    learning_rate: Positive = 3e-4
    weight_decay: Weight = static(1e-4)
    most_start_steps: Count = 2_500
    updates_per_step: Positive = 2.0
    batch_size: Count = static(128)
    hidden_sizes: tuple[Count, ...] = static((256,))
    critic_hidden_sizes: tuple[Count, ...] | None = static((512, 512))
    network: TrunkName = static("bronet")
    critic_value: Literal["scalar", "categorical", "quantile"] = static("quantile")
    num_quantiles: Count = static(100)
    target_value: Literal["min", "mean"] = static("mean")
    actor_value: Literal["min", "mean"] = static("mean")
    log_std_min: Finite = -10.0
    log_std_squash: bool = static(True)
    entropy_per_dimension: Finite = -0.5
    temperature_mode: TemperatureMode = static("dual")
    resets: tuple[Count, ...] | None = static(
        (25_002,)
    )  # at environment step 15,001, with two updates for each after 2,500

    initial_optimism: Positive = 1.0
    """How much of half the critics' difference the exploring policy adds to their mean, at the start."""
    initial_divergence_weight: Positive = 0.25
    """What its distance from the policy costs at the start, in return per nat (of divergence over all dimensions)."""
    divergence_per_dimension: Positive = 0.05
    """The distance that both are learned to hold, in nats for each action dimension."""
    optimism_learning_rate: Positive = 3e-5
    """Adam's step size for both."""
    optimism_beta1: Fraction = 0.5
    """Share of their mean gradient that stays in each of these steps."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        super().check(spec, env)
        if self._trunk().has_statistics or self._critic_trunk().has_statistics:
            raise InvalidSettingError("BRO has no batch normalisation: --network flash and the norms batch are SAC's.")
        if self.num_critics < 2:
            raise InvalidSettingError("--num-critics must be at least 2: optimism comes from their difference.")

    def act(self, state: SACState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; while it learns by the policy that explores."""
        exploring = cast(BROState, state).exploring
        if exploring is None:
            return super().act(state, observation, key)
        seen = self._normalize(state, observation)
        explored = self._explored(exploring.shift, self.policy(state.policy, seen), seen)
        if state.held_noise is None or observation.shape[:-1] != state.held_noise.noise.shape[:-1]:
            return explored.sample(key)
        return explored.from_noise(state.held_noise.noise)[0]

    def acting(self, state: SACState) -> SACState:
        """The state without what only learning needs: also that of evaluation, which is by the policy itself."""
        return dataclasses.replace(cast(BROState, super().acting(state)), exploring=None)

    def update_policy(
        self, state: SACState, batch: Transition, noise: Array, key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves both policies, the one that explores by what the other then is; see `SAC.update_policy`."""
        state, log_prob, metrics = super().update_policy(state, batch, noise, key)
        exploring, more = self._explore(cast(BROState, state), batch.observation, noise[1], key)
        return dataclasses.replace(cast(BROState, state), exploring=exploring), log_prob, metrics | more

    def _explore(self, state: BROState, observation: Array, noise: Array, key: Array) -> tuple[Exploring, Metrics]:
        """A step up the optimistic value less the divergence, and one of what the two weigh."""
        old = cast(Exploring, state.exploring)
        raw = cast(dict[str, Array], old.raw)
        optimism, weight = adjusted(raw["optimism"]), adjusted(raw["weight"])
        policy = jax.lax.stop_gradient(self.policy(state.policy, observation))

        def loss(shift: PyTree) -> tuple[Array, Array]:
            explored = self._explored(shift, policy, observation)
            action = jnp.tanh(explored.pre_tanh(noise))
            value = losses.optimistic_value(self.judge(state.critics, observation, action, key), optimism)
            # Of the means alone: that the deviations are narrower is meant.
            distance = jnp.mean(losses.shift_divergence(explored.mean - policy.mean, policy.log_std))
            return weight * distance - jnp.mean(value), distance

        gradient, distance = jax.grad(loss, has_aux=True)(old.shift)
        step, shift_optimizer = self._policy_optimizer().update(gradient, old.shift_optimizer, old.shift)
        surplus: Array = distance / policy.mean.shape[-1] - self.divergence_per_dimension

        def of_raw(raw: dict[str, Array]) -> Array:
            # Too far: less optimism (which is 0 where pessimism is), and a larger weight.
            slope: Array = (adjusted(raw["optimism"]) - adjusted(raw["weight"])) * surplus
            return slope

        raw_step, raw_optimizer = self._raw_optimizer().update(jax.grad(of_raw)(raw), old.raw_optimizer)
        new = Exploring(
            optax.apply_updates(old.shift, step),
            shift_optimizer,
            cast(dict[str, Array], optax.apply_updates(raw, raw_step)),
            raw_optimizer,
        )
        metrics = {"optimism/divergence": distance, "optimism/weight": weight, "optimism/optimism": optimism}
        return new, metrics

    def _explored(self, shift: PyTree, policy: TanhGaussian, observation: Array) -> TanhGaussian:
        """The policy that explores, at normalised observations [..., observation]."""
        moved = cast(Array, self._shift_network().apply(shift, observation, policy.mean))
        return TanhGaussian(policy.mean + moved, policy.log_std + math.log(NARROWING))

    def _more_state(self, state: SACState, key: Array, spec: Spec) -> BROState:
        """The state of one seed with the policy that explores, which begins near the other."""
        observation, action = jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
        shift = self._shift_network().init(jax.random.fold_in(key, 1), observation, action)
        raw = {"optimism": raw_of(self.initial_optimism), "weight": raw_of(self.initial_divergence_weight)}
        exploring = Exploring(shift, self._policy_optimizer().init(shift), raw, self._raw_optimizer().init(raw))
        return BROState(**vars(state), exploring=exploring)

    @property
    def _policy_draws(self) -> int:
        return 2

    def _shift_network(self) -> Shift:
        return Shift(TrunkPlan(self.network, self.hidden_sizes))

    def _raw_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.optimism_learning_rate, self.optimism_beta1)


def adjusted(raw: Array) -> Array:
    """What a learned number [...] stands for: always between 4.5e-5 and 1,808, and moved in shares of itself."""
    value: Array = jnp.exp(_LOWEST + _HALF_RANGE * (1.0 + jnp.tanh(raw)))
    return value


def raw_of(value: Any) -> Array:
    """The inverse of `adjusted`."""
    raw: Array = jnp.arctanh((jnp.log(jnp.asarray(value, jnp.float32)) - _LOWEST) / _HALF_RANGE - 1.0)
    return raw
