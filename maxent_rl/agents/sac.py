"""Soft Actor-Critic with automatic temperature, for continuous actions.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905). What it shares with its relatives (settings, the
order of the update, critics, temperature, targets) is in `soft_actor_critic`.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.soft_actor_critic import Collecting, SACState, SoftActorCritic
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import TanhGaussianPolicy
from maxent_rl.settings import Finite, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition

__all__ = ["SAC", "SACState"]


@struct.dataclass
class SquashedSoftActorCritic(SoftActorCritic):
    """What SAC learns by, whoever collects: a tanh-Gaussian policy, and a target entropy of minus the action dimensions."""

    log_std_min: Finite = -20.0
    """Lower bound of the policy's log standard deviation before squashing."""
    log_std_max: Finite = 2.0
    """Upper bound of the policy's log standard deviation before squashing."""

    temperature_sample: Literal["shared", "fresh"] = static("shared")
    """Actions that the temperature learns from: the policy step's own, or new ones drawn after that step."""

    # "shared": the policy step has drawn actions and their log-probabilities already, from a policy older by one gradient
    # step; a fresh draw costs one more forward pass (about 6 % of an update's arithmetic on HalfCheetah) for no difference
    # that we know of.

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is not None:
            raise IncompatibleEnvironmentError(
                f"{type(self).__name__} needs continuous actions (a Box action space), but {env} has {spec.num_actions} "
                "discrete ones; --agent sac-discrete and --agent ppo handle those."
            )
        most = spec.action_size * math.log(2.0)
        if self.target_entropy is not None and not self.target_entropy < most:
            raise InvalidSettingError(
                f"--target-entropy must be less than {most:.6g} nats, the entropy of uniform actions in {env} "
                f"({spec.action_size} dimensions x log 2), got {self.target_entropy:g}: the temperature would diverge."
            )
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")
        super().check(spec, env)

    def policy(self, parameters: PyTree, observation: Array) -> TanhGaussian:
        """The policy at normalised observations [..., observation]."""
        network = self._policy_network(self._action_size(parameters))
        return cast(TanhGaussian, network.apply(parameters, observation, self.log_std_min, self.log_std_max))

    def draw(self, parameters: PyTree, observation: Array, noise: Array, key: Array) -> tuple[Array, Array]:
        """Draws an action at each observation.

        Args:
          parameters: of the policy.
          observation: [batch, observation], normalised.
          noise: [batch, action] standard normal.
          key: [] for what else is random; not used here.

        Returns:
          (action [batch, action], log_prob [batch] in nats).
        """
        return self.policy(parameters, observation).from_noise(noise)

    def values(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """All critics' values, [num_critics, ...], in units of return."""
        dropout = {"dropout": dropout_key}
        return cast(Array, self._critic_network().apply(parameters, observation, action, rngs=dropout))

    def soft_next(
        self, state: SACState, batch: Transition, noise: Array, key: Array, subset_key: Array
    ) -> tuple[Array, Array]:
        """The least target critic's value [batch] of an action drawn at the next observation, and its log-probability."""
        action, log_prob = self.draw(state.policy, batch.next_observation, noise, key)
        q = self.values(state.target_critics, batch.next_observation, action, key)
        return self._least_target(q, subset_key), log_prob

    def update_policy(
        self, state: SACState, batch: Transition, noise: Array, key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves the policy towards the Boltzmann distribution of the critics (equation 9); returns log-probabilities.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          noise: [1, batch, action] standard normal.
          key: [] random key.
        """

        def loss(policy: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            action, log_prob = self.draw(policy, batch.observation, noise[0], key)
            q = self._climbed(self.values(state.critics, batch.observation, action, key))
            return jnp.mean(losses.soft_policy_loss(q, log_prob, self._temperature(state))), (log_prob, {})

        return self._policy_step(state, loss)

    def update_temperature(
        self, state: SACState, batch: Transition, log_prob: Array, key: Array
    ) -> tuple[SACState, Metrics]:
        """Moves the temperature so that the entropy meets its target (section 5)."""
        if self.temperature_sample == "fresh":
            noise = jax.random.normal(key, batch.action.shape)
            # A key of its own for an expert's choice: one key would give choice and noise the same random bits.
            _, log_prob = self.draw(state.policy, batch.observation, noise, jax.random.fold_in(key, 1))
        return super().update_temperature(state, batch, log_prob, key)

    def _initial_parameters(
        self, policy_key: Array, critic_keys: dict[str, Array], spec: Spec
    ) -> tuple[PyTree, PyTree]:
        observation, action = jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
        network = self._policy_network(spec.action_size)
        policy = network.init(policy_key, observation, self.log_std_min, self.log_std_max)
        return policy, self._critic_network().init(critic_keys, observation, action)

    def _default_target_entropy(self, policy: PyTree) -> float:
        return -float(self._action_size(policy))

    def _noise(self, key: Array, batch: Transition) -> tuple[Array, Array]:
        # One draw for both policy evaluations: XLA takes over a second to compile each draw of normals.
        noise = jax.random.normal(key, (1 + self._policy_draws, *batch.action.shape))
        return noise[0], noise[1:]

    @property
    def _policy_draws(self) -> int:
        """Actions that the policy step draws at each observation."""
        return 1

    def _action_size(self, policy: PyTree) -> int:
        return int(policy["params"]["head"]["bias"].shape[-1]) // 2

    def _policy_network(self, action_size: int) -> TanhGaussianPolicy:
        return TanhGaussianPolicy(self.network, self.hidden_sizes, action_size)


@struct.dataclass
class SAC(Collecting, SquashedSoftActorCritic):
    """Soft Actor-Critic: maximises return plus entropy, off-policy; its target entropy is minus the action dimensions."""
