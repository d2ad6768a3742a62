"""Relative Entropy Pathwise Policy Optimization: on-policy as PPO, but climbing an action-value function as SAC does.

Source: Relative Entropy Pathwise Policy Optimization (arXiv 2507.11019), with the details of its released code. Differences:
an episode that a time limit cut bootstraps from its true last observation, where the code leaves its last step out; no
entropy is paid for an action after termination; every gradient step draws noise of its own; and the divergence that is
bounded is exact, unless samples are asked for.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.base import actions_in_words
from maxent_rl.agents.learning_rates import LearningRates
from maxent_rl.agents.on_policy.minibatches import check_minibatches, passes, updates_of
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import FlooredGaussianPolicy, Foresight, PredictiveCritic, RunningStatistics, Temperature
from maxent_rl.settings import Count, Finite, Fraction, NonNegative, Positive, Weight, setting, static
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import unless

_BOUND = unless(divergence_use="none")

_ZERO_LOGITS = 40.0


@struct.dataclass
class REPPOState:
    """All that learning changes.

    Attributes:
      policy: parameters of the policy.
      critic: parameters of the critic, or None where there is only to be acted.
      policy_optimizer: Adam's state for the policy, or None likewise, as all that follows but the last.
      critic_optimizer: Adam's state for the critic.
      log_alpha: [] natural logarithm of the temperature.
      temperature_optimizer: Adam's state for it.
      log_beta: [] natural logarithm of the divergence's weight.
      divergence_optimizer: Adam's state for it.
      normalizer: statistics of observations, or None without normalisation.
    """

    policy: PyTree
    critic: PyTree | None
    policy_optimizer: optax.OptState | None
    critic_optimizer: optax.OptState | None
    log_alpha: Array | None
    temperature_optimizer: optax.OptState | None
    log_beta: Array | None
    divergence_optimizer: optax.OptState | None
    normalizer: RunningStatistics | None


@struct.dataclass
class Lessons:
    """What the steps of a window are to the losses, with any leading axes [...]; observations are normalised.

    Attributes:
      observation: [..., observation].
      action: [..., action].
      target: [...] what the action's value should be, in units of (scaled) return.
      reward: [...] scaled.
      next_features: [..., feature] what the critic saw in the next step, before it learned from the window.
      terminated: [...] 1 where no step followed.
      old: the policy [..., action] that learns from the window, as it was before.
    """

    observation: Array
    action: Array
    target: Array
    reward: Array
    next_features: Array
    terminated: Array
    old: TanhGaussian


@struct.dataclass
class REPPO(LearningRates):
    """Relative-entropy pathwise policy optimisation: on-policy, for continuous actions; PPO's maximum-entropy counterpart.

    Every `rollout_size` environment steps it learns from just those and forgets them. The value of actions is a histogram
    between `value_low` and `value_high`, which must hold all returns, discounted and scaled, with the entropy's share.
    """

    learns: ClassVar[Learns] = "rollout"

    learning_rate: Positive = 3e-4
    """Adam's step size for policy, critic, temperature and the divergence's weight."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    trace_decay: Fraction = 0.95
    """Weight of later steps in the critic's targets (lambda): 0 for one step, 1 for sums of rewards."""
    max_gradient_norm: Positive = 0.5
    """Longer gradients, of the policy or of the critic, are scaled down to this length."""
    reward_factor: Positive = 1.0
    """Rewards are multiplied by this before anything is learned from them; Brax's are published with 0.1."""
    value_low: Finite = 0.0
    """Least value of an action, in scaled return: the first of the critic's bins. See `critic/out_of_range`."""
    value_high: Finite = 150.0
    """Greatest value of an action, in scaled return: the last of the critic's bins."""
    auxiliary_weight: Weight = 1.0
    """Weight of predicting the next step's features and the reward."""
    divergence_bound: Positive = setting(0.1, used_when=_BOUND)
    """How far the policy may move from what it was when the window began, in nats (KL) for each observation."""
    initial_divergence_weight: Positive = setting(0.01, used_when=_BOUND)
    """Weight of the divergence at the start (beta), in scaled return per nat."""
    target_entropy: Finite | None = None
    """Entropy that the temperature holds, in nats; None for minus half the number of an action's entries."""
    initial_temperature: Positive = 0.01
    """Weight of the entropy at the start (alpha), in scaled return per nat."""
    min_std: Weight = 0.1
    """Added to the policy's standard deviations, before squashing."""

    rollout_size: Count | None = static(8192)
    """Environment steps of each update, all environments of a seed together; None for a whole episode of each."""
    epochs: Count = static(4)
    """Passes over the steps of an update."""
    minibatches: Count = static(8)
    """Gradient steps of a pass; each takes an equal share of the steps."""
    hidden_sizes: tuple[Count, ...] = static((512, 512))
    """Width of each hidden layer of the policy."""
    critic_width: Count = static(512)
    """Width of the critic's features, and of the hidden layers before and after them."""
    value_bins: Count = static(151)
    """Bins of the critic's histogram."""
    divergence_use: Literal["bound", "penalty", "none"] = static("bound")
    """Beyond the bound the policy is only pulled back; or the divergence is a penalty everywhere; or it is free."""
    divergence_samples: NonNegative = static(0, used_when=_BOUND)
    """Actions by which the divergence is estimated (16 in the released code); 0 for the exact one."""
    reverse_divergence: bool = static(False, used_when=_BOUND)
    """Of the policy from what it was, KL(new || old), in place of KL(old || new)."""
    normalize_observations: bool = static(True)
    """Scale observations to mean 0 and variance 1 by running statistics."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if not spec.is_continuous:
            raise IncompatibleEnvironmentError(
                f"reppo needs continuous actions (a Box action space), but {env} has {actions_in_words(spec)}: "
                "use --agent ppo."
            )
        if not np.all(np.asarray(self.value_low) < np.asarray(self.value_high)):
            raise InvalidSettingError(
                f"--value-low ({self.value_low}) must be less than --value-high ({self.value_high}): between them lie the "
                "discounted returns of the environment, times --reward-factor."
            )
        if self.value_bins < 2:
            raise InvalidSettingError(f"--value-bins must be at least 2, got {self.value_bins}.")
        check_minibatches(self, spec)
        self._check_rates()

    def updates_of(self, total_steps: int) -> float | None:
        """See `LearningRates.updates_of`."""
        return updates_of(self, total_steps)

    def init(self, key: Array, spec: Spec) -> REPPOState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes, and how many of it step side by side.
        """
        policy_key, critic_key = jax.random.split(key)
        observation, action = jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
        policy = self._policy_network(spec.action_size).init(policy_key, observation, self.min_std)
        critic = self._critic_network().init(critic_key, observation, action)
        log_alpha, temperature_optimizer = self._temperature(spec.action_size).init(self.initial_temperature)
        log_beta, divergence_optimizer = self._divergence_weight().init(self.initial_divergence_weight)
        return REPPOState(
            policy=policy,
            critic=critic,
            policy_optimizer=self._optimizer().init(policy),
            critic_optimizer=self._optimizer().init(critic),
            log_alpha=log_alpha,
            temperature_optimizer=temperature_optimizer,
            log_beta=log_beta,
            divergence_optimizer=divergence_optimizer,
            normalizer=RunningStatistics.create(spec.observation_size) if self.normalize_observations else None,
        )

    def act(self, state: REPPOState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]."""
        return self.distribution(state, observation).sample(key)

    def mode(self, state: REPPOState, observation: Array) -> Array:
        """Chooses the policy's mode: [..., observation] to [..., action]."""
        return self.distribution(state, observation).mode()

    def distribution(self, state: REPPOState, observation: Array) -> TanhGaussian:
        """The policy's distribution at observations [..., observation]."""
        return self.policy(state.policy, self._normalize(state, observation))

    def acting(self, state: REPPOState) -> REPPOState:
        """The state without what only learning needs."""
        return REPPOState(state.policy, None, None, None, None, None, None, None, state.normalizer)

    def action_values(self, state: REPPOState, observation: Array, action: Array, key: Array) -> Array:
        """The critic's values of actions [..., action] at observations as environments give them: [1, ...], in return."""
        seen = self.foresee(state.critic, self._normalize(state, observation), action)
        return self.values(seen.logits)[None] / self.reward_factor

    def update(self, state: REPPOState, batch: Transition, key: Array) -> tuple[REPPOState, Metrics]:
        """Learns from one window of steps.

        Args:
          state: the state of one seed, which chose the window's actions.
          batch: with leading axes [time, env].
          key: [] random key.

        Returns:
          (state, metrics): means over all gradient steps; entropies and divergences in nats, values in scaled return.
        """
        action_key, step_key = jax.random.split(key)
        state, lessons, metrics = self.evaluate(state, batch, action_key)
        units = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lessons)
        state, found = passes(self.gradient_step, state, units, step_key, self.epochs, self.minibatches)
        return state, metrics | found

    def evaluate(self, state: REPPOState, batch: Transition, key: Array) -> tuple[REPPOState, Lessons, Metrics]:
        """Says what the actions of a window [time, env] were worth, and takes in its statistics.

        All of it under the normaliser that has seen the window, as the gradient steps are: the policy's divergence from what
        it was begins at zero.
        """
        if state.normalizer is not None:
            state = dataclasses.replace(state, normalizer=state.normalizer.add(batch.observation))
        observation, next_observation = (
            self._normalize(state, seen) for seen in (batch.observation, batch.next_observation)
        )
        reward = self.reward_factor * batch.reward
        next_action, next_log_prob = self.policy(state.policy, next_observation).sample_and_log_prob(key)
        seen = self.foresee(state.critic, next_observation, next_action)
        paid = losses.soft_reward(
            reward, next_log_prob, batch.terminated, self.discount, jnp.exp(cast(Array, state.log_alpha))
        )
        target = losses.lambda_returns(
            paid, self.values(seen.logits), batch.terminated, batch.truncated, self.discount, self.trace_decay
        )
        old = self.policy(state.policy, observation)
        lessons = Lessons(observation, batch.action, target, reward, seen.features, batch.terminated, old)
        beyond = (target < self.value_low) | (target > self.value_high)
        metrics = {
            "critic/target_mean": jnp.mean(target),
            "critic/target_min": jnp.min(target),
            "critic/target_max": jnp.max(target),
            "critic/out_of_range": jnp.mean(beyond.astype(jnp.float32)),
        }
        return state, lessons, metrics

    def gradient_step(self, state: REPPOState, lessons: Lessons, key: Array) -> tuple[REPPOState, Metrics]:
        """A step of the critic, then of the policy that climbs it, and of both multipliers, on a minibatch [batch]."""
        gradient, metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, lessons)
        critic, critic_optimizer = self._descend(state.critic, gradient, state.critic_optimizer)
        state = dataclasses.replace(state, critic=critic, critic_optimizer=critic_optimizer)

        gradient, (log_prob, divergence, found) = jax.grad(self.policy_loss, has_aux=True)(
            state.policy, state, lessons, key
        )
        policy, policy_optimizer = self._descend(state.policy, gradient, state.policy_optimizer)
        temperature, weight = self._temperature(lessons.action.shape[-1]), self._divergence_weight()
        log_alpha, temperature_optimizer, _ = temperature.step(
            cast(Array, state.log_alpha), state.temperature_optimizer, log_prob
        )
        # In place of a log-probability, whose opposite is to be held at a target: here it is minus the divergence.
        log_beta, divergence_optimizer, _ = weight.step(
            cast(Array, state.log_beta), state.divergence_optimizer, divergence
        )
        state = dataclasses.replace(
            state,
            policy=policy,
            policy_optimizer=policy_optimizer,
            log_alpha=log_alpha,
            temperature_optimizer=temperature_optimizer,
            log_beta=log_beta,
            divergence_optimizer=divergence_optimizer,
        )
        alpha, beta = jnp.exp(log_alpha), jnp.exp(log_beta)
        return state, metrics | found | {"temperature/alpha": alpha, "divergence/weight": beta}

    def critic_loss(self, parameters: PyTree, lessons: Lessons) -> tuple[Array, Metrics]:
        """Cross-entropy with the histogram of the targets, and the error of what was predicted: [] with metrics."""
        seen = self.foresee(parameters, lessons.observation, lessons.action)
        histogram = losses.gaussian_histogram(lessons.target, self._atoms())
        cross_entropy = losses.categorical_value_loss(seen.logits, histogram)
        # The reward is one more entry of what is predicted.
        features, reward = seen.next_features - lessons.next_features, seen.reward - lessons.reward
        squares = jnp.sum(features**2, axis=-1) + reward**2
        auxiliary = (1.0 - lessons.terminated) * squares / (self.critic_width + 1)
        value = self.values(seen.logits)
        unexplained = jnp.var(lessons.target - value) / jnp.maximum(jnp.var(lessons.target), 1e-8)
        metrics = {
            "critic/loss": jnp.mean(cross_entropy),
            "critic/auxiliary_loss": jnp.mean(auxiliary),
            "critic/value_mean": jnp.mean(value),
            "critic/explained_variance": 1.0 - unexplained,
        }
        return jnp.mean(cross_entropy + self.auxiliary_weight * auxiliary), metrics

    def policy_loss(
        self, parameters: PyTree, state: REPPOState, lessons: Lessons, key: Array
    ) -> tuple[Array, tuple[Array, Array, Metrics]]:
        """The soft value of the policy's own actions, turned over, where it is near enough to what it was.

        Args:
          parameters: of the policy; the gradient flows into them.
          state: with the critic to climb, and both weights, which are held.
          lessons: the minibatch.
          key: [] random key.

        Returns:
          (loss [], (log-probabilities [batch] of the actions, divergences [batch], metrics)).
        """
        action_key, divergence_key = jax.random.split(key)
        policy = self.policy(parameters, lessons.observation)
        action, log_prob = policy.sample_and_log_prob(action_key)
        value = self.values(self.foresee(state.critic, lessons.observation, action).logits)
        alpha, beta = jnp.exp(cast(Array, state.log_alpha)), jnp.exp(cast(Array, state.log_beta))
        divergence = self.divergence(lessons.old, policy, divergence_key)
        climb, back = losses.soft_policy_loss(value, log_prob, alpha), beta * divergence
        far = divergence >= self.divergence_bound
        if self.divergence_use == "bound":
            loss = jnp.where(far, back, climb)
        else:
            loss = climb + back if self.divergence_use == "penalty" else climb
        metrics = {
            "actor/loss": jnp.mean(loss),
            "actor/entropy": -jnp.mean(log_prob),
            "actor/kl": jnp.mean(divergence),
            "actor/held_back": jnp.mean(far.astype(jnp.float32)),
        }
        return jnp.mean(loss), (log_prob, divergence, metrics)

    def divergence(self, old: TanhGaussian, new: TanhGaussian, key: Array) -> Array:
        """KL(old || new) [batch] in nats, or the reverse, exact or by samples; the gradient flows into `new`."""
        one, other = (new, old) if self.reverse_divergence else (old, new)
        if not self.divergence_samples:
            return one.divergence(other)
        pre_tanh = one.pre_tanh(jax.random.normal(key, (self.divergence_samples, *one.mean.shape)))
        return jnp.mean(one.log_prob_pre_tanh(pre_tanh) - other.log_prob_pre_tanh(pre_tanh), axis=0)

    def policy(self, parameters: PyTree, observation: Array) -> TanhGaussian:
        """The policy's distribution at normalised observations [..., observation]."""
        size = parameters["params"]["head"]["bias"].shape[-1] // 2
        return cast(TanhGaussian, self._policy_network(size).apply(parameters, observation, self.min_std))

    def foresee(self, parameters: PyTree, observation: Array, action: Array) -> Foresight:
        """What the critic makes of actions [..., action] at normalised observations [..., observation].

        The histogram of zero is added to its logits, so that before it has learned every value is 0, or the nearest end.
        """
        seen = cast(Foresight, self._critic_network().apply(parameters, observation, action))
        zero = losses.gaussian_histogram(0.0, self._atoms())
        return seen._replace(logits=seen.logits + _ZERO_LOGITS * zero)

    def values(self, logits: Array) -> Array:
        """Values [...] of the critic's logits [..., bin], in scaled return."""
        return losses.expected_value(logits, self._atoms())

    def _atoms(self) -> Array:
        return losses.support(self.value_low, self.value_high, self.value_bins)

    def _descend(
        self, parameters: PyTree, gradient: PyTree, optimizer: optax.OptState | None
    ) -> tuple[PyTree, optax.OptState]:
        step, optimizer = self._optimizer().update(gradient, optimizer)
        return optax.apply_updates(parameters, step), optimizer

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(self.max_gradient_norm), optax.adam(self.scheduled(self.learning_rate))
        )

    def _temperature(self, action_size: int) -> Temperature:
        target = -0.5 * action_size if self.target_entropy is None else self.target_entropy
        return Temperature(target, self.scheduled(self.learning_rate), mode="dual")

    def _divergence_weight(self) -> Temperature:
        return Temperature(-self.divergence_bound, self.scheduled(self.learning_rate), mode="dual")

    def _policy_network(self, action_size: int) -> FlooredGaussianPolicy:
        return FlooredGaussianPolicy(self.hidden_sizes, action_size)

    def _critic_network(self) -> PredictiveCritic:
        return PredictiveCritic(self.critic_width, self.value_bins)

    def _normalize(self, state: REPPOState, observation: Array) -> Array:
        return observation if state.normalizer is None else state.normalizer.normalize(observation)
