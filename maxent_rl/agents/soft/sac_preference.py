"""SAC for a reward that was learned from preferences: the two-stage way that contrastive preference learning does without.

Source: Deep Reinforcement Learning from Human Preferences (arXiv 1706.03741), with an ensemble and the loss of Bradley and
Terry on the summed rewards of segments; the reward is fitted once, before SAC begins, as in the baselines of Contrastive
Preference Learning (arXiv 2310.13639). SAC then acts in the environment, whose own reward it never learns from.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.soft.base import SACState
from maxent_rl.agents.soft.sac import SAC
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import CriticEnsemble, TrunkPlan
from maxent_rl.settings import Count, Positive, static
from maxent_rl.types import Array, Metrics, PyTree, SegmentPairs, Spec, Transition


@struct.dataclass
class SACPreferenceState(SACState):
    """SAC's state, and the learned reward.

    Attributes:
      reward: parameters of the ensemble.
      reward_mean: [] what the ensemble gives on average over the data.
      reward_std: [] its standard deviation there.
    """

    reward: PyTree
    reward_mean: Array | None
    reward_std: Array | None


@struct.dataclass
class SACPreference(SAC):
    """Fits a reward to preferences over segments (--dataset), then is SAC for that reward; evaluated by the true one."""

    prepares_from: ClassVar[str] = "preferences"
    sees_images: ClassVar[bool] = False

    learning_rate: Positive = 3e-4
    """Adam's step size for the critics, and for what has none of its own."""
    reward_learning_rate: Positive = 3e-4
    """Adam's step size for the reward."""
    reward_updates: Count = 2_000
    """Updates of the reward, all before the first step."""
    reward_batch_size: Count = static(64)
    """Pairs of segments in a batch of the reward."""
    reward_hidden_sizes: tuple[Count, ...] = static((128, 128))
    """Width of each hidden layer of the reward."""
    num_rewards: Count = static(3)
    """Reward networks, whose mean is learned from."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        super().check(spec, env)
        if self.reward_scale != "none":
            raise InvalidSettingError("--reward-scale must be none: the learned reward has a deviation of 1 already.")
        if self.n_step > 1:
            raise InvalidSettingError("--n-step must be 1: the rewards of a transition's steps are not learned apart.")

    def acting(self, state: SACState) -> SACState:
        """The state without what only learning needs."""
        learned: Any = super().acting(state)
        return cast(SACState, dataclasses.replace(learned, reward=None, reward_mean=None, reward_std=None))

    def prepare(
        self, state: SACPreferenceState, data: Any, held_out: SegmentPairs | None, key: Array
    ) -> tuple[SACPreferenceState, Metrics]:
        """Fits the reward.

        Args:
          state: the state of one seed.
          data: a `PreferenceData`.
          held_out: pairs kept apart, or None.
          key: [] random key.

        Returns:
          (state, metrics): the loss of the last update in nats, and the shares of pairs that the reward orders rightly.
        """
        adam = optax.flatten(optax.adam(self.reward_learning_rate))

        def update(index: Array, carry: tuple[PyTree, Any, Array]) -> tuple[PyTree, Any, Array]:
            reward, optimizer, _ = carry
            batch = data.sample(jax.random.fold_in(key, index), self.reward_batch_size)
            value, gradient = jax.value_and_grad(self._reward_loss)(reward, batch)
            step, optimizer = adam.update(gradient, optimizer)
            return optax.apply_updates(reward, step), optimizer, value

        carry = (state.reward, adam.init(state.reward), jnp.zeros(()))
        reward, _, loss = jax.lax.fori_loop(0, self.reward_updates, update, carry)
        paid = jnp.mean(self._rewards(reward, data.observation, data.action), axis=0)
        # Preferences between segments of one length say nothing of a constant: it is set so that the mean is 0.
        state = dataclasses.replace(
            state, reward=reward, reward_mean=jnp.mean(paid), reward_std=jnp.maximum(jnp.std(paid), 1e-6)
        )
        metrics = {"reward_loss": loss}
        if held_out is not None:
            metrics["held_out_accuracy"] = self._accuracy(reward, held_out)
        return state, metrics

    def reward(self, state: SACPreferenceState, observation: Array, action: Array) -> Array:
        """The learned reward [...] of actions [..., action]: mean 0 and standard deviation 1 over the data."""
        paid = jnp.mean(self._rewards(state.reward, observation, action), axis=0)
        return (paid - cast(Array, state.reward_mean)) / cast(Array, state.reward_std)

    def update(self, state: SACState, batch: Transition, key: Array) -> tuple[SACState, Metrics]:
        """SAC's update, with the learned reward in place of the environment's."""
        learned = self.reward(cast(SACPreferenceState, state), batch.observation, batch.action)
        return super().update(state, dataclasses.replace(batch, reward=learned), key)

    def _more_state(self, state: SACState, key: Array, spec: Spec) -> SACPreferenceState:
        """The state of one seed, with a reward that has learned nothing yet."""
        observation, action = jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
        reward = self._reward_network().init(jax.random.fold_in(key, 1), observation, action)
        return SACPreferenceState(**vars(state), reward=reward, reward_mean=jnp.zeros(()), reward_std=jnp.ones(()))

    def _reward_loss(self, reward: PyTree, batch: SegmentPairs) -> Array:
        total = jnp.sum(self._rewards(reward, batch.observation, batch.action), axis=-1)
        # A sum over the ensemble: each member learns as it would alone.
        return jnp.sum(jnp.mean(losses.logistic_loss(total[..., 1] - total[..., 0], batch.label), axis=-1))

    def _accuracy(self, reward: PyTree, batch: SegmentPairs) -> Array:
        total = jnp.sum(jnp.mean(self._rewards(reward, batch.observation, batch.action), axis=0), axis=-1)
        return jnp.mean(0.5 + 0.5 * jnp.sign(total[..., 1] - total[..., 0]) * jnp.sign(batch.label - 0.5))

    def _rewards(self, reward: PyTree, observation: Array, action: Array) -> Array:
        """[num_rewards, ...] within (-1, 1), so that what lies outside the data cannot pay without bound."""
        raw = self._reward_network().apply(reward, observation, jnp.clip(action, -1.0, 1.0))
        return jnp.tanh(cast(Array, raw))

    def _reward_network(self) -> CriticEnsemble:
        return CriticEnsemble(TrunkPlan(hidden_sizes=self.reward_hidden_sizes), self.num_rewards)
