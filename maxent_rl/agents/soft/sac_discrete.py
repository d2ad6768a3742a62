"""Soft Actor-Critic for discrete actions: what SAC estimates from one action is summed over all of them.

Source: Soft Actor-Critic for Discrete Action Settings (arXiv 1910.07207), with the common part of `soft.base`.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.soft.base import Collecting, Following, SACState, SoftActorCritic
from maxent_rl.distributions import Categorical
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import CategoricalPolicy, Step, encode, head_size, init_encoded
from maxent_rl.settings import Fraction, flag, setting
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import not_given, unless


@struct.dataclass
class SACDiscrete(Collecting, SoftActorCritic):
    """SAC with a categorical policy and critics that value every choice; expectations over actions are exact."""

    sees_images: ClassVar[bool] = True

    target_entropy_share: Fraction = setting(
        0.89, used_when=unless(temperature_mode="fixed") & not_given("target_entropy")
    )
    """Default target entropy as a share of that of uniform actions, log n; the paper has 0.98."""

    # On CartPole-v1 (three seeds, 64 x 64, 15,000 steps) shares of 0.98, 0.89, 0.5 and 0.3 came to evaluation returns of
    # 416, 442, 243 and 233 by the most likely action. Sampled actions returned 41, 174, 247 and 247: the closer to uniform
    # the policy is held, the more its mode is worth and the less its samples.

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is None:
            raise IncompatibleEnvironmentError(
                f"SACDiscrete needs discrete actions, but {env} has continuous ones; --agent sac handles those."
            )
        most = math.log(spec.num_actions)
        learned = self.temperature_mode != "fixed"
        if learned and self.target_entropy is not None and not 0 <= self.target_entropy < most:
            raise InvalidSettingError(
                f"--target-entropy must be at least 0 and less than {most:.6g} nats, the entropy of uniform actions in "
                f"{env} (log {spec.num_actions}), got {self.target_entropy:g}: the temperature would never settle."
            )
        if learned and self.target_entropy is None and not self.target_entropy_share < 1:
            raise InvalidSettingError(
                "--target-entropy-share must be less than 1: only uniform actions reach that entropy, and the temperature "
                "would diverge."
            )
        wanted = {"critic_value": "scalar", "held_noise": 1}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise InvalidSettingError(
                    f"{flag(name)} must be {value} with discrete actions, got {getattr(self, name)}."
                )
        if self._trunk().has_statistics or self._critic_trunk().has_statistics:
            raise InvalidSettingError(
                "Batch normalisation (--policy-norm or --critic-norm batch, --network flash) is for continuous actions."
            )
        super().check(spec, env)

    def policy(self, parameters: PyTree, observation: Array, train: bool = False) -> Categorical:
        """The policy at normalised observations [..., observation]."""
        network, features = (
            self._policy_network(_num_actions(parameters)),
            self._policy_features(parameters, observation),
        )
        return cast(Categorical, network.apply(parameters, features))

    def judge(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """All critics' values of choices [...], [num_critics, ...], in units of (divided) return."""
        every = self.all_values(parameters, observation, dropout_key)
        index = jnp.broadcast_to(action.astype(jnp.int32)[..., None], (*every.shape[:-1], 1))
        return jnp.take_along_axis(every, index, axis=-1)[..., 0]

    def all_values(self, parameters: PyTree, observation: Array, dropout_key: Array) -> Array:
        """All critics' values of all choices, [num_critics, ..., choice], in units of return."""
        critic = parameters["params"]["critic_0"]
        num_actions = head_size(critic["head"] if "head" in critic else critic["Dense_0"])
        network, features = self._critic_network(num_actions), encode(parameters, observation)
        return cast(Array, network.apply(parameters, features, rngs={"dropout": dropout_key}))

    def follow(self, state: SACState, batch: Transition, noise: None, key: Array) -> Following:
        """All choices, with their log-probabilities [batch, choice]."""
        return Following(None, self.policy(state.policy, batch.next_observation).log_probs)

    def judge_next(self, parameters: PyTree, batch: Transition, following: Following, dropout_key: Array) -> Array:
        """All critics' values [num_critics, batch, choice] of what may follow."""
        return self.all_values(parameters, batch.next_observation, dropout_key)

    def critic_target(self, outputs: Array, step: Step) -> Array:
        """The soft Bellman target [batch]: an expectation over the choices of the least value and the log-probability."""
        probabilities = jnp.exp(step.log_prob)
        least = jnp.mean(outputs, axis=0) if self.target_value == "mean" else jnp.min(outputs, axis=0)
        value, log_prob = (jnp.sum(probabilities * each, axis=-1) for each in (least, step.log_prob))
        return losses.soft_bellman_target(
            step.reward, step.discount, step.terminated, value, log_prob, step.temperature
        )

    def update_policy(
        self, state: SACState, batch: Transition, noise: None, key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves the policy towards the Boltzmann distribution of the critics; returns minus its entropy [batch]."""
        q = self._climbed(self.all_values(state.critics, batch.observation, key))

        def loss(policy: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            log_probs = self.policy(policy, batch.observation).log_probs
            expected = jnp.sum(
                jnp.exp(log_probs) * losses.soft_policy_loss(q, log_probs, self._temperature(state)), axis=-1
            )
            return jnp.mean(expected), (jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1), {})

        return self._policy_step(state, loss, batch.observation)

    def _initial_parameters(
        self, policy_key: Array, critic_keys: dict[str, Array], spec: Spec
    ) -> tuple[PyTree, PyTree]:
        assert spec.num_actions is not None
        observation = jnp.zeros(spec.observation_shape)
        policy = init_encoded(self._policy_network(spec.num_actions), policy_key, spec.frames, observation)
        critics = init_encoded(self._critic_network(spec.num_actions), critic_keys, spec.frames, observation)
        return policy, critics

    def _default_target_entropy(self, policy: PyTree) -> Array:
        return jnp.asarray(self.target_entropy_share * math.log(_num_actions(policy)))

    def _noise(self, key: Array, batch: Transition) -> tuple[None, None]:
        return None, None

    def _num_actions(self, state: SACState) -> int:
        return _num_actions(state.policy)

    def _policy_network(self, num_actions: int) -> CategoricalPolicy:
        return CategoricalPolicy(self._trunk(), num_actions)


def _num_actions(policy: PyTree) -> int:
    return head_size(policy["params"]["head"])
