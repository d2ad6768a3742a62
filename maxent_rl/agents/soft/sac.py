"""Soft Actor-Critic with automatic temperature, for continuous actions.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905). `soft.base` has the order of the update;
`SquashedSoftActorCritic` says how a tanh-Gaussian and its critics go through it; `SAC` collects, too.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.soft.base import Collecting, Following, SACState, SoftActorCritic
from maxent_rl.agents.soft.held_noise import HeldNoise
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import STATISTICS, Step, TanhGaussianPolicy, encode, head_size, init_encoded
from maxent_rl.settings import Finite, Positive, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import not_given, unless


@struct.dataclass
class SquashedSoftActorCritic(SoftActorCritic):
    """What SAC learns by, whoever collects: a tanh-Gaussian policy, and a target entropy of minus the action dimensions."""

    log_std_min: Finite = -20.0
    """Lower bound of the policy's log standard deviation before squashing."""
    log_std_max: Finite = 2.0
    """Upper bound of the policy's log standard deviation before squashing."""

    log_std_squash: bool = static(False)
    """Bring the log standard deviation within its bounds by tanh (SimbaV2, FlashSAC), not by clipping."""
    entropy_per_dimension: Finite = setting(
        -1.0, used_when=unless(temperature_mode="fixed") & not_given("target_entropy")
    )
    """Entropy for each action dimension, in nats, where --target-entropy is not given."""
    temperature_sample: Literal["shared", "fresh"] = static("shared", used_when=unless(temperature_mode="fixed"))
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
        learned = self.temperature_mode != "fixed"
        if learned and self.target_entropy is not None and not self.target_entropy < most:
            raise InvalidSettingError(
                f"--target-entropy must be less than {most:.6g} nats, the entropy of uniform actions in {env} "
                f"({spec.action_size} dimensions x log 2), got {self.target_entropy:g}: the temperature would diverge."
            )
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")
        super().check(spec, env)

    def act(self, state: SACState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; while it learns by held noise, where it holds any."""
        if state.held_noise is None or observation.shape[:-1] != state.held_noise.noise.shape[:-1]:
            return super().act(state, observation, key)
        return self.draw(state.policy, self._normalize(state, observation), state.held_noise.noise, key)[0]

    def policy(self, parameters: PyTree, observation: Array, train: bool = False) -> TanhGaussian:
        """The policy at normalised observations [..., observation]; in training by their own statistics, where it has any."""
        network = self._policy_network(self._action_size(parameters))
        features = self._policy_features(parameters, observation)
        bounds = self.log_std_min, self.log_std_max
        return cast(TanhGaussian, network.apply(parameters, features, *bounds, train))

    def draw(
        self, parameters: PyTree, observation: Array, noise: Array, key: Array, train: bool = False
    ) -> tuple[Array, Array]:
        """Draws an action at each observation.

        Args:
          parameters: of the policy.
          observation: [batch, observation], normalised.
          noise: [batch, action] standard normal.
          key: [] for what else is random; not used here.
          train: as of `policy`.

        Returns:
          (action [batch, action], log_prob [batch] in nats).
        """
        return self.policy(parameters, observation, train).from_noise(noise)

    def follow(self, state: SACState, batch: Transition, noise: Array, key: Array) -> Following:
        """An action drawn at the next observation, and its log-probability."""
        return Following(*self.draw(state.policy, batch.next_observation, noise, key))

    def judge(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """What all critics say, [num_critics, ..., number], in units of (divided) return or as their value head has it."""
        dropout, features = {"dropout": dropout_key}, encode(parameters, observation)
        return cast(Array, self._critic_network().apply(parameters, features, action, rngs=dropout))

    def judge_next(self, parameters: PyTree, batch: Transition, following: Following, dropout_key: Array) -> Array:
        """What critics say of the actions that follow: [num_critics, batch, ...]."""
        return self.judge(parameters, batch.next_observation, cast(Array, following.action), dropout_key)

    def judge_both(
        self, parameters: PyTree, batch: Transition, following: Following, dropout_key: Array
    ) -> tuple[tuple[Array, Array], PyTree]:
        """What critics say of transitions and of the actions that follow, in one batch in training, and their statistics."""
        observation = jnp.concatenate([batch.observation, batch.next_observation])
        action = jnp.concatenate([batch.action, cast(Array, following.action)])
        features, dropout = encode(parameters, observation), {"dropout": dropout_key}
        network = self._critic_network()
        outputs, moved = network.apply(parameters, features, action, True, rngs=dropout, mutable=[STATISTICS])
        present, after = jnp.split(cast(Array, outputs), 2, axis=1)
        return (present, after), moved

    def critic_target(self, outputs: Array, step: Step) -> Array:
        """What critics should say [batch, ...], from what target critics say of the actions that follow."""
        return self._head.target(outputs, step)

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
            action, log_prob = self.draw(policy, batch.observation, noise[0], key, train=True)
            q = self._climbed(self.values(state.critics, batch.observation, action, key))
            return jnp.mean(losses.soft_policy_loss(q, log_prob, self._temperature(state))), (log_prob, {})

        return self._policy_step(state, loss, batch.observation)

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
        bounds = self.log_std_min, self.log_std_max
        policy = init_encoded(network, policy_key, spec.frames, observation, *bounds)
        return policy, init_encoded(self._critic_network(), critic_keys, spec.frames, observation, action)

    def _default_target_entropy(self, policy: PyTree) -> Array | float:
        return self._action_size(policy) * self.entropy_per_dimension

    def _noise(self, key: Array, batch: Transition) -> tuple[Array, Array]:
        # One draw for both policy evaluations: XLA takes over a second to compile each draw of normals.
        noise = jax.random.normal(key, (1 + self._policy_draws, *batch.action.shape))
        return noise[0], noise[1:]

    @property
    def _policy_draws(self) -> int:
        """Actions that the policy step draws at each observation."""
        return 1

    def _action_size(self, policy: PyTree) -> int:
        return head_size(policy["params"]["head"]) // 2

    def _policy_network(self, action_size: int) -> TanhGaussianPolicy:
        return TanhGaussianPolicy(self._trunk(), action_size, self.log_std_squash)

    def _policy_statistics(self, policy: PyTree, observation: Array) -> PyTree:
        if STATISTICS not in policy:
            return policy
        network, bounds = self._policy_network(self._action_size(policy)), (self.log_std_min, self.log_std_max)
        features = self._policy_features(policy, observation)
        return network.apply(policy, features, *bounds, True, mutable=[STATISTICS])[1]


@struct.dataclass
class SAC(Collecting, SquashedSoftActorCritic):
    """Soft Actor-Critic: maximises return plus entropy, off-policy; its target entropy is minus the action dimensions."""

    sees_images: ClassVar[bool] = True

    learning_rate: Positive = 1e-3
    """Adam's step size for the critics, and for what has none of its own."""

    # The paper has 3e-4 and 10,000 steps at the start (--preset paper); docs/training.md has what the two come to.

    def _new_noise(self, key: Array, spec: Spec) -> HeldNoise | None:
        most = self.held_noise
        return None if most == 1 else HeldNoise.create(key, spec.num_envs, spec.action_size, most)
