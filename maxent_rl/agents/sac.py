"""Soft Actor-Critic with automatic temperature.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905); the order of the update is that of the authors'
code: critics, policy, temperature, targets.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import CriticEnsemble, RunningStatistics, TanhGaussianPolicy
from maxent_rl.settings import Count, Finite, Fraction, NonNegative, Positive, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition


@struct.dataclass
class SACState:
    """All that learning changes.

    Attributes:
      policy: parameters of the tanh-Gaussian policy.
      critics: parameters of the critics.
      target_critics: their slow copies.
      log_alpha: [] natural logarithm of the temperature.
      policy_optimizer: Adam's state for the policy.
      critic_optimizer: Adam's state for the critics.
      temperature_optimizer: Adam's state for `log_alpha`.
      normalizer: statistics of observations, or None without normalisation.
    """

    policy: PyTree
    critics: PyTree
    target_critics: PyTree
    log_alpha: Array | None
    policy_optimizer: optax.OptState | None
    critic_optimizer: optax.OptState | None
    temperature_optimizer: optax.OptState | None
    normalizer: RunningStatistics | None


@struct.dataclass
class SAC:
    """Soft Actor-Critic: maximises return plus entropy, off-policy, for continuous actions."""

    learning_rate: Positive = 3e-4
    """Adam's step size for policy, critics and temperature."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    target_update_rate: Fraction = 0.005
    """Share of the critics that enters their targets after each update (tau)."""
    target_entropy: float | None = None
    """Entropy that the temperature holds, in nats; None for minus the number of action dimensions."""
    initial_temperature: Positive = 1.0
    """Weight of the entropy at the start (alpha), in return per nat."""
    log_std_min: Finite = -20.0
    """Lower bound of the policy's log standard deviation before squashing."""
    log_std_max: Finite = 2.0
    """Upper bound of the policy's log standard deviation before squashing."""
    start_steps: NonNegative | None = None
    """Environment steps with uniform actions before the first update; None for ten episodes, at most 10,000."""
    updates_per_step: Positive = 1.0
    """Gradient steps for each environment step (update-to-data ratio)."""

    batch_size: Count = static(256)
    """Transitions in a batch."""
    replay_size: Count = static(1_000_000)
    """Transitions that the replay buffer holds for each seed; the oldest give way."""
    n_step: Count = static(1)
    """Environment steps whose rewards are summed before the critics' value is used."""
    hidden_sizes: tuple[Count, ...] = static((256, 256))
    """Width of each hidden layer (mlp) or residual block (simba), for policy and critics."""
    network: Literal["mlp", "simba"] = static("mlp")
    """Plain layers with ReLU, or residual blocks with layer normalisation (SimBa)."""
    num_critics: Count = static(2)
    """Critics; more than two together with target-critics is REDQ."""
    target_critics: Count = static(2)
    """Critics, drawn anew for each update, whose minimum makes the target."""
    actor_value: Literal["min", "mean"] = static("min")
    """What the policy climbs: the minimum of all critics, or their mean (REDQ)."""
    critic_layer_norm: bool = static(False)
    """Layer normalisation in the critics' hidden layers (DroQ)."""
    critic_dropout: Fraction = static(0.0)
    """Share of the critics' hidden units that are dropped (DroQ: 0.01)."""
    temperature_mode: Literal["log", "dual", "fixed"] = static("log")
    """Temperature loss: log-alpha times the surplus of entropy, alpha times it (the paper's dual), or a fixed temperature."""
    temperature_sample: Literal["shared", "fresh"] = static("shared")
    """Actions that the temperature learns from: the policy step's own, or new ones drawn after that step."""
    normalize_observations: bool = static(False)
    """Scale observations to mean 0 and variance 1 by running statistics of the replayed batches."""

    # Defaults of the temperature. "log": what the authors' released code ran for the paper's results; under Adam both forms
    # behave alike, and "log" does not slow down as the temperature shrinks. "shared": the policy step has drawn actions and
    # their log-probabilities already, from a policy older by one gradient step; a fresh draw costs one more forward pass
    # (about 6 % of an update's arithmetic on HalfCheetah) for no difference that we know of.

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is not None:
            raise IncompatibleEnvironmentError(
                f"SAC needs continuous actions (a Box action space), but {env} has {spec.num_actions} discrete ones; "
                "PPO handles those (--agent ppo)."
            )
        most = spec.action_size * math.log(2.0)
        if self.target_entropy is not None and not self.target_entropy < most:
            raise InvalidSettingError(
                f"--target-entropy must be less than {most:.6g} nats, the entropy of uniform actions in {env} "
                f"({spec.action_size} dimensions x log 2), got {self.target_entropy:g}: the temperature would diverge."
            )
        if self.target_critics > self.num_critics:
            raise InvalidSettingError(
                f"--target-critics ({self.target_critics}) must be at most --num-critics ({self.num_critics})."
            )
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")
        if self.critic_dropout >= 1.0:
            raise InvalidSettingError("--critic-dropout must be less than 1.")
        if self.network == "simba" and len(set(self.hidden_sizes)) != 1:
            raise InvalidSettingError("--network simba needs equal --hidden-sizes: a residual stream has one width.")

    def init(self, key: Array, spec: Spec) -> SACState:
        """Builds the state of one seed; critics differ by their initial weights, targets are copies.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        policy_key, critic_key = jax.random.split(key)
        observation, action = jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
        policy = self._policy_network(spec.action_size).init(
            policy_key, observation, self.log_std_min, self.log_std_max
        )
        critic_keys = {"params": critic_key, "dropout": critic_key}
        critics = self._critic_network().init(critic_keys, observation, action)
        log_alpha = jnp.log(jnp.asarray(self.initial_temperature, jnp.float32))
        return SACState(
            policy=policy,
            critics=critics,
            target_critics=jax.tree.map(jnp.copy, critics),
            log_alpha=log_alpha,
            policy_optimizer=self._optimizer().init(policy),
            critic_optimizer=self._optimizer().init(critics),
            temperature_optimizer=self._optimizer().init(log_alpha),
            normalizer=RunningStatistics.create(spec.observation_size) if self.normalize_observations else None,
        )

    def act(self, state: SACState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action] in (-1, 1)."""
        return self.policy(state.policy, self._normalize(state, observation)).sample(key)

    def mode(self, state: SACState, observation: Array) -> Array:
        """Chooses `tanh(mean)`: [..., observation] to [..., action] in (-1, 1)."""
        return self.policy(state.policy, self._normalize(state, observation)).mode()

    def acting(self, state: SACState) -> SACState:
        """The state without what only learning needs."""
        return dataclasses.replace(
            state,
            critics=None,
            target_critics=None,
            log_alpha=None,
            policy_optimizer=None,
            critic_optimizer=None,
            temperature_optimizer=None,
        )

    def update(self, state: SACState, batch: Transition, key: Array) -> tuple[SACState, Metrics]:
        """Takes one gradient step for critics, policy and temperature, and moves the targets.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          key: [] random key.

        Returns:
          (state, metrics): entropies in nats, values and losses in units of return.
        """
        noise_key, critic_key, policy_key, temperature_key = jax.random.split(key, 4)
        # One draw for both policy evaluations: XLA takes over a second to compile each draw of normals.
        critic_noise, policy_noise = jax.random.normal(noise_key, (2, *batch.action.shape))
        if state.normalizer is not None:
            state = dataclasses.replace(state, normalizer=state.normalizer.add(batch.observation))
            batch = dataclasses.replace(
                batch,
                observation=self._normalize(state, batch.observation),
                next_observation=self._normalize(state, batch.next_observation),
            )
        state, critic_metrics = self.update_critics(state, batch, critic_noise, critic_key)
        state, log_prob, policy_metrics = self.update_policy(state, batch, policy_noise, policy_key)
        state, temperature_metrics = self.update_temperature(state, batch, log_prob, temperature_key)
        state = self.update_targets(state)
        return state, critic_metrics | policy_metrics | temperature_metrics

    def update_critics(self, state: SACState, batch: Transition, noise: Array, key: Array) -> tuple[SACState, Metrics]:
        """Regresses every critic on the soft Bellman target (equations 2 to 5); `noise` [batch, action] draws actions."""
        subset_key, target_dropout_key, dropout_key = jax.random.split(key, 3)
        next_action, next_log_prob = self.policy(state.policy, batch.next_observation).from_noise(noise)
        next_q = self.values(state.target_critics, batch.next_observation, next_action, target_dropout_key)
        if self.target_critics < self.num_critics:
            chosen = jax.random.permutation(subset_key, self.num_critics)[: self.target_critics]
            next_q = next_q[chosen]
        target = losses.soft_bellman_target(
            batch.reward,
            self.discount**batch.steps,
            batch.terminated,
            jnp.min(next_q, axis=0),
            next_log_prob,
            self._temperature(state),
        )

        def loss(critics: PyTree) -> tuple[Array, Array]:
            q = self.values(critics, batch.observation, batch.action, dropout_key)
            return jnp.sum(jnp.mean(losses.critic_loss(q, target), axis=-1)), jnp.mean(q)

        (value, q_mean), gradient = jax.value_and_grad(loss, has_aux=True)(state.critics)
        step, optimizer = self._optimizer().update(gradient, state.critic_optimizer)
        state = dataclasses.replace(state, critics=optax.apply_updates(state.critics, step), critic_optimizer=optimizer)
        return state, {"critic/loss": value, "critic/q_mean": q_mean, "critic/target_mean": jnp.mean(target)}

    def update_policy(
        self, state: SACState, batch: Transition, noise: Array, dropout_key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves the policy towards the Boltzmann distribution of the critics (equation 9); returns log-probabilities."""

        def loss(policy: PyTree) -> tuple[Array, Array]:
            action, log_prob = self.policy(policy, batch.observation).from_noise(noise)
            q = self.values(state.critics, batch.observation, action, dropout_key)
            q = jnp.min(q, axis=0) if self.actor_value == "min" else jnp.mean(q, axis=0)
            return jnp.mean(losses.soft_policy_loss(q, log_prob, self._temperature(state))), log_prob

        (value, log_prob), gradient = jax.value_and_grad(loss, has_aux=True)(state.policy)
        step, optimizer = self._optimizer().update(gradient, state.policy_optimizer)
        state = dataclasses.replace(state, policy=optax.apply_updates(state.policy, step), policy_optimizer=optimizer)
        return state, log_prob, {"actor/loss": value, "actor/entropy": -jnp.mean(log_prob)}

    def update_temperature(
        self, state: SACState, batch: Transition, log_prob: Array, key: Array
    ) -> tuple[SACState, Metrics]:
        """Moves the temperature so that the entropy meets its target (section 5)."""
        if self.temperature_mode == "fixed":
            return state, {"temperature/alpha": self._temperature(state)}
        if self.temperature_sample == "fresh":
            _, log_prob = self.policy(state.policy, batch.observation).sample_and_log_prob(key)
        target_entropy = -batch.action.shape[-1] if self.target_entropy is None else self.target_entropy
        form = losses.temperature_loss if self.temperature_mode == "log" else losses.temperature_loss_dual

        def loss(log_alpha: Array) -> Array:
            return jnp.mean(form(log_alpha, log_prob, target_entropy))

        value, gradient = jax.value_and_grad(loss)(state.log_alpha)
        step, optimizer = self._optimizer().update(gradient, state.temperature_optimizer)
        state = dataclasses.replace(
            state, log_alpha=optax.apply_updates(state.log_alpha, step), temperature_optimizer=optimizer
        )
        return state, {"temperature/alpha": self._temperature(state), "temperature/loss": value}

    def update_targets(self, state: SACState) -> SACState:
        """Moves the target critics by `target_update_rate` towards the critics."""
        targets = optax.incremental_update(state.critics, state.target_critics, self.target_update_rate)
        return dataclasses.replace(state, target_critics=targets)

    def policy(self, parameters: PyTree, observation: Array) -> TanhGaussian:
        """The policy at observations [..., observation], normalised if the agent normalises."""
        action_size = parameters["params"]["head"]["bias"].shape[-1] // 2
        network = self._policy_network(action_size)
        return cast(TanhGaussian, network.apply(parameters, observation, self.log_std_min, self.log_std_max))

    def values(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """All critics' values, [num_critics, ...], in units of return."""
        dropout = {"dropout": dropout_key}
        return cast(Array, self._critic_network().apply(parameters, observation, action, rngs=dropout))

    def _policy_network(self, action_size: int) -> TanhGaussianPolicy:
        return TanhGaussianPolicy(self.network, self.hidden_sizes, action_size)

    def _critic_network(self) -> CriticEnsemble:
        return CriticEnsemble(
            network=self.network,
            hidden_sizes=self.hidden_sizes,
            num_critics=self.num_critics,
            layer_norm=self.critic_layer_norm,
            dropout=self.critic_dropout,
        )

    def _optimizer(self) -> optax.GradientTransformation:
        # Over one flat vector: three long loops instead of three for each array (benchmarks/NOTES.md has what it gains).
        return optax.flatten(optax.adam(self.learning_rate))

    def _temperature(self, state: SACState) -> Array:
        return jnp.exp(cast(Array, state.log_alpha))

    def _normalize(self, state: SACState, observation: Array) -> Array:
        return observation if state.normalizer is None else state.normalizer.normalize(observation)
