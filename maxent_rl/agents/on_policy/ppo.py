"""Proximal Policy Optimization: several epochs on each window of steps, with clipped probability ratios.

Source: Proximal Policy Optimization Algorithms (arXiv 1707.06347); the details (normalisation, initialisation, Adam's
epsilon) are those of The 37 Implementation Details of Proximal Policy Optimization (ICLR Blog Track 2022).
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.base import actions_in_words
from maxent_rl.agents.learning_rates import LearningRates
from maxent_rl.agents.on_policy.minibatches import Samples, check_minibatches, passes, updates_of
from maxent_rl.distributions import Distribution
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import (
    Activation,
    GaussianPolicy,
    OrthogonalCategoricalPolicy,
    OrthogonalMultiCategoricalPolicy,
    RewardScale,
    RunningStatistics,
    Temperature,
    ValueFunction,
    encode,
    init_encoded,
)
from maxent_rl.settings import Count, Finite, Fraction, Positive, Weight, setting, static
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import CONTINUOUS, NUMBERS, above, given, not_given, when

_MOVED = above(epochs=1) | above(minibatches=1) | when(normalize_observations=True)
"""What makes a policy another one than that which acted: a ratio of exactly 1 is never clipped."""


@struct.dataclass
class PPOState:
    """All that learning changes.

    Attributes:
      parameters: of each network by name: "policy", "value", and what else an agent adds.
      optimizer: Adam's state for all of them.
      log_alpha: [] natural logarithm of the temperature, or None without a target entropy.
      temperature_optimizer: Adam's state for `log_alpha`, or None.
      normalizer: statistics of observations, or None without normalisation.
      reward_scale: statistics of discounted sums of rewards, or None without normalisation.
    """

    parameters: dict[str, PyTree]
    optimizer: optax.OptState | None
    log_alpha: Array | None
    temperature_optimizer: optax.OptState | None
    normalizer: RunningStatistics | None
    reward_scale: RewardScale | None


class Found(NamedTuple):
    """What the loss of a minibatch finds on its way.

    Attributes:
      entropy: [] of the policy, in nats, by which the temperature moves.
      metrics: for people.
    """

    entropy: Array
    metrics: Metrics


@struct.dataclass
class PPO(LearningRates):
    """Proximal Policy Optimization: on-policy, for continuous and discrete actions, and for several choices at once.

    Every `rollout_size` environment steps it learns from just those and forgets them. Steps at the end of a run that do
    not fill such a window are collected and not learned from.
    """

    learns: ClassVar[Learns] = "rollout"
    makes_several_choices: ClassVar[bool] = True
    sees_images: ClassVar[bool] = True

    learning_rate: Positive = 3e-4
    """Adam's step size."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    trace_decay: Fraction = 0.95
    """Weight of later steps in advantages (lambda): 0 for temporal differences, 1 for sums of rewards."""
    clip_low: Fraction = setting(0.2, used_when=_MOVED)
    """A falling probability counts down to 1 minus this, as a ratio to the old one."""
    clip_high: Positive = setting(0.2, used_when=_MOVED)
    """A rising probability counts up to 1 plus this, as a ratio to the old one."""
    value_clip: Positive | None = setting(None, used_when=_MOVED)
    """How far a value may move from its old one within an update and be credited, in scaled return; None for any."""
    value_weight: Weight = 0.5
    """Weight of the value function's loss."""
    max_gradient_norm: Positive = 0.5
    """Longer gradients are scaled down to this length."""
    entropy_bonus: Weight = setting(0.0, used_when=not_given("target_entropy"))
    """Weight of the policy's entropy, in normalised advantage per nat; not used with a target entropy."""
    target_entropy: Finite | None = None
    """Entropy that a learned weight holds, in nats; None for the fixed weight."""
    initial_temperature: Positive = setting(0.1, used_when=given("target_entropy"))
    """The learned weight at the start, in normalised advantage per nat."""

    rollout_size: Count | None = static(2048)
    """Environment steps of each update, all environments of a seed together; None for a whole episode of each."""
    epochs: Count = static(10)
    """Passes over the steps of an update."""
    minibatches: Count = static(32)
    """Gradient steps of a pass; each takes an equal share of the steps."""
    action_distribution: Literal["auto", "gaussian", "tanh_gaussian", "categorical"] = static("auto")
    """What the policy is; auto takes categorical for discrete actions, one or several, and gaussian for others."""
    state_dependent_std: bool = static(False, used_when=when(action_distribution="tanh_gaussian") & CONTINUOUS)
    """The standard deviation follows from the observation instead of being one for all (tanh_gaussian)."""
    hidden_sizes: tuple[Count, ...] = static((64, 64))
    """Width of each hidden layer of the policy."""
    value_hidden_sizes: tuple[Count, ...] | None = static(None)
    """Width of each hidden layer of the value function; None for the policy's."""
    activation: Activation = static("tanh")
    """After each hidden layer."""
    normalize_observations: bool = static(True, used_when=NUMBERS)
    """Scale observations to mean 0 and variance 1 by running statistics."""
    normalize_rewards: bool = static(True)
    """Divide rewards by the running standard deviation of their discounted sum."""
    normalize_advantages: bool = static(True)
    """Shift and scale the advantages of each minibatch to mean 0 and variance 1."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        discrete = not spec.is_continuous
        if self.action_distribution != "auto" and discrete != (self.action_distribution == "categorical"):
            actions = actions_in_words(spec)
            raise IncompatibleEnvironmentError(
                f"--action-distribution {self.action_distribution} does not fit the {actions} of {env}: "
                f"choose {'categorical' if discrete else 'gaussian or tanh_gaussian'}, or auto."
            )
        if self.state_dependent_std and self.action_distribution != "tanh_gaussian":
            raise InvalidSettingError("--state-dependent-std needs --action-distribution tanh_gaussian.")
        self._check_target_entropy(spec, env)
        self._check_minibatches(spec)
        self._check_rates()

    def updates_of(self, total_steps: int) -> float | None:
        """See `LearningRates.updates_of`."""
        return updates_of(self, total_steps)

    def init(self, key: Array, spec: Spec) -> PPOState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes, and how many of it step side by side.
        """
        parameters = self.init_parameters(key, spec)
        log_alpha, temperature_optimizer = None, None
        if self.target_entropy is not None:
            log_alpha, temperature_optimizer = self._temperature().init(self.initial_temperature)
        return PPOState(
            parameters=parameters,
            optimizer=self._optimizer().init(parameters),
            log_alpha=log_alpha,
            temperature_optimizer=temperature_optimizer,
            normalizer=self._new_normalizer(spec),
            reward_scale=RewardScale.create(spec.num_envs) if self.normalize_rewards else None,
        )

    def init_parameters(self, key: Array, spec: Spec) -> dict[str, PyTree]:
        """Draws the parameters of every network, by name."""
        policy_key, value_key = jax.random.split(key)
        observation = jnp.zeros(spec.observation_shape)
        size = spec.choices or spec.num_actions or spec.action_size
        policy = self._policy_network(size, not spec.is_continuous)
        return {
            "policy": init_encoded(policy, policy_key, spec.frames, observation),
            "value": init_encoded(self._value_network(), value_key, spec.frames, observation),
        }

    def act(self, state: PPOState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action], which a Gaussian does not keep to [-1, 1]."""
        return self.distribution(state, observation).sample(key)

    def mode(self, state: PPOState, observation: Array) -> Array:
        """Chooses the policy's mode: [..., observation] to [..., action]."""
        return self.distribution(state, observation).mode()

    def distribution(self, state: PPOState, observation: Array) -> Distribution:
        """The policy's distribution at observations [..., observation]."""
        return self.policy(state.parameters, self._normalize(state, observation))

    def acting(self, state: PPOState) -> PPOState:
        """The state without what only learning needs."""
        return PPOState({"policy": state.parameters["policy"]}, None, None, None, state.normalizer, None)

    def update(self, state: PPOState, batch: Transition, key: Array) -> tuple[PPOState, Metrics]:
        """Learns from one window of steps.

        Args:
          state: the state of one seed, which chose the window's actions.
          batch: with leading axes [time, env].
          key: [] random key.

        Returns:
          (state, metrics): means over all gradient steps; entropies and divergences in nats, values and their losses in
          units of scaled return.
        """
        state, samples = self.evaluate(state, batch)
        target = samples.advantage + samples.value
        unexplained = jnp.var(samples.advantage) / jnp.maximum(jnp.var(target), 1e-8)
        state, metrics = self.improve(state, samples, key)
        return state, metrics | {
            "critic/explained_variance": 1.0 - unexplained,
            "critic/value_mean": jnp.mean(samples.value),
        }

    def evaluate(self, state: PPOState, batch: Transition) -> tuple[PPOState, Samples]:
        """Says how much better each action of a window [time, env] was than expected, and takes in its statistics.

        What the old policy thought is asked of the networks and the normaliser that acted. What is learned is learned
        under the normaliser that has seen the window too.
        """
        reward = self.reward(state, batch)
        if state.reward_scale is not None:
            done = batch.terminated + batch.truncated
            state = dataclasses.replace(state, reward_scale=state.reward_scale.add(reward, done, self.discount))
            reward = cast(RewardScale, state.reward_scale).scale(reward)
        observation, next_observation = (
            self._normalize(state, seen) for seen in (batch.observation, batch.next_observation)
        )
        log_prob = self.window_policy(state, observation, batch).log_prob(batch.action)
        value, next_value = (self.value(state.parameters, seen) for seen in (observation, next_observation))
        advantage = self.advantages(reward, value, next_value, batch)
        if state.normalizer is not None:
            state = dataclasses.replace(state, normalizer=state.normalizer.add(self._inputs(state, batch.observation)))
            observation = self._normalize(state, batch.observation)
        return state, Samples(observation, batch.action, log_prob, value, advantage)

    def reward(self, state: PPOState, batch: Transition) -> Array:
        """What the steps of a window [time, env] are to be paid, before any scaling."""
        return batch.reward

    def advantages(self, reward: Array, value: Array, next_value: Array, batch: Transition) -> Array:
        """How much better each action of a window was than expected: [time, env].

        Args:
          reward: [time, env] (scaled) rewards.
          value: [time, env] of what was acted on.
          next_value: [time, env] of what came of it.
          batch: the window.
        """
        return losses.generalized_advantages(
            reward, value, next_value, batch.terminated, batch.truncated, self.discount, self.trace_decay
        )

    def improve(self, state: PPOState, samples: Samples, key: Array) -> tuple[PPOState, Metrics]:
        """Takes all gradient steps on a window's samples [time, env]; metrics are means over them."""
        return passes(self.gradient_step, state, self.units(samples), key, self.epochs, self.minibatches)

    def gradient_step(self, state: PPOState, samples: Samples, key: Array) -> tuple[PPOState, Metrics]:
        """One step for all networks, and one for the temperature, on a minibatch [batch]."""
        gradient, found = jax.grad(self.loss, has_aux=True)(state.parameters, samples, state.log_alpha, key)
        state = self.descend(state, gradient, samples)
        if state.log_alpha is None:
            return state, found.metrics
        rule = self._temperature()
        log_alpha, optimizer, _ = rule.step(state.log_alpha, state.temperature_optimizer, -found.entropy)
        state = dataclasses.replace(state, log_alpha=log_alpha, temperature_optimizer=optimizer)
        return state, found.metrics | {"temperature/alpha": rule.weight(log_alpha)}

    def descend(self, state: PPOState, gradient: PyTree, samples: Samples) -> PPOState:
        """Moves the parameters of all networks down the gradient of a minibatch's loss."""
        step, optimizer = self._optimizer().update(gradient, state.optimizer)
        return dataclasses.replace(state, parameters=optax.apply_updates(state.parameters, step), optimizer=optimizer)

    def loss(
        self, parameters: dict[str, PyTree], samples: Samples, log_alpha: Array | None, key: Array
    ) -> tuple[Array, Found]:
        """The loss of a minibatch [batch]: clipped surrogate (equation 7), value (equation 9), entropy, and extras."""
        entropy_key, extra_key = jax.random.split(key)
        policy = self.policy_at(parameters, samples)
        surrogate, metrics = self.policy_loss(policy, samples)
        value = self.value(parameters, samples.observation)
        target = samples.advantage + samples.value
        value_loss = jnp.mean(losses.clipped_value_loss(value, samples.value, target, self.value_clip))
        entropy = jnp.mean(policy.entropy(entropy_key))
        extra, extra_metrics = self.extra_loss(parameters, samples, policy, extra_key)
        total = surrogate + self.value_weight * value_loss - self._entropy_weight(entropy, log_alpha) * entropy + extra
        metrics |= {"actor/loss": surrogate, "actor/entropy": entropy, "critic/loss": value_loss}
        return total, Found(entropy, metrics | extra_metrics)

    def policy_loss(self, policy: Distribution, samples: Samples) -> tuple[Array, Metrics]:
        """The clipped surrogate of a minibatch, with metrics of it.

        Args:
          policy: the policy's distribution at the minibatch's observations; the gradient flows into it.
          samples: the minibatch.
        """
        log_prob = policy.log_prob(samples.action)
        ratio = losses.importance_ratio(log_prob, samples.log_prob)
        advantage = losses.whiten(samples.advantage, ddof=0) if self.normalize_advantages else samples.advantage
        surrogate = jnp.mean(losses.clipped_surrogate(ratio, advantage, self.clip_low, self.clip_high))
        clipped = losses.clipped_away(ratio, advantage, self.clip_low, self.clip_high)
        return surrogate, {
            "actor/clip_fraction": jnp.mean((clipped != 0).astype(jnp.float32)),
            "actor/kl": jnp.mean(losses.kl_estimate(samples.log_prob, log_prob)),  # from the policy that acted
        }

    def extra_loss(
        self, parameters: dict[str, PyTree], samples: Samples, policy: Distribution, key: Array
    ) -> tuple[Array | float, Metrics]:
        """What an agent adds to the loss of a minibatch [batch], with metrics of it; nothing here.

        Args:
          parameters: of all networks; the gradient flows into them.
          samples: the minibatch.
          policy: the policy's distribution at its observations, of `parameters`.
          key: [] random key.
        """
        return 0.0, {}

    def policy(self, parameters: dict[str, PyTree], observation: Array) -> Distribution:
        """The policy's distribution at normalised observations [..., observation]."""
        weights = parameters["policy"]["params"]
        network = self._policy_network(_head_size(weights), discrete="log_std" not in weights)
        return cast(Distribution, network.apply(parameters["policy"], encode(parameters["policy"], observation)))

    def window_policy(self, state: PPOState, observation: Array, batch: Transition) -> Distribution:
        """The policy at each step of a window, as it was when it acted.

        Args:
          state: the state that acted.
          observation: [time, env, observation] normalised.
          batch: the window [time, env].
        """
        return self.policy(state.parameters, observation)

    def policy_at(self, parameters: dict[str, PyTree], samples: Samples) -> Distribution:
        """The policy at a minibatch's observations; the gradient flows into the parameters."""
        return self.policy(parameters, samples.observation)

    def units(self, samples: Samples) -> Samples:
        """A window's samples [time, env] with one leading axis, along which they are shuffled and shared: single steps."""
        flat: Samples = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), samples)
        return flat

    def value(self, parameters: dict[str, PyTree], observation: Array) -> Array:
        """The value of normalised observations [..., observation]: [...] in units of scaled return."""
        features = encode(parameters["value"], observation)
        return cast(Array, self._value_network().apply(parameters["value"], features))

    def _entropy_weight(self, entropy: Array, log_alpha: Array | None) -> Array | float:
        """The fixed bonus, or the temperature with a proportional term (PI Lagrangian, arXiv 2007.03964)."""
        if log_alpha is None:
            return self.entropy_bonus
        return self._temperature().weight(log_alpha, entropy)

    def _policy_network(self, size: int | tuple[int, ...], discrete: bool) -> nn.Module:
        if isinstance(size, tuple):
            return OrthogonalMultiCategoricalPolicy(self.hidden_sizes, self.activation, size)
        if discrete:
            return OrthogonalCategoricalPolicy(self.hidden_sizes, self.activation, size)
        squashed = self.action_distribution == "tanh_gaussian"
        return GaussianPolicy(self.hidden_sizes, self.activation, size, squashed, self.state_dependent_std)

    def _value_network(self) -> ValueFunction:
        return ValueFunction(self.value_hidden_sizes or self.hidden_sizes, self.activation)

    def _optimizer(self) -> optax.GradientTransformation:
        # Array by array: over one flat vector, as SAC has it, an update of two layers of 64 took as long on a 2-core CPU,
        # and one of layers of 256 almost twice as long.
        adam = optax.adam(self.scheduled(self.learning_rate), eps=1e-5)
        return optax.chain(optax.clip_by_global_norm(self.max_gradient_norm), adam)

    def _temperature(self) -> Temperature:
        return Temperature(self.target_entropy, self.scheduled(self.learning_rate))

    def _inputs(self, state: PPOState, observation: Array) -> Array:
        """What of an observation [..., observation] the networks read: all of it."""
        return observation

    def _new_normalizer(self, spec: Spec) -> RunningStatistics | None:
        """Statistics of what of observations is no image, if anything is."""
        size = spec.observation_size - spec.image_size
        return RunningStatistics.create(size) if self.normalize_observations and size else None

    def _normalize(self, state: PPOState, observation: Array) -> Array:
        inputs = self._inputs(state, observation)
        return inputs if state.normalizer is None else state.normalizer.normalize(inputs)

    def _check_minibatches(self, spec: Spec) -> None:
        check_minibatches(self, spec)

    def _check_target_entropy(self, spec: Spec, env: str) -> None:
        if self.target_entropy is None:
            return
        if not spec.is_continuous:
            sizes = spec.choices or (spec.num_actions or 1,)
            most, what = sum(map(math.log, sizes)), f"{math.prod(sizes)} equally likely actions"
        elif self.action_distribution == "tanh_gaussian":
            most, what = spec.action_size * math.log(2.0), "uniform actions"
        else:
            return  # a Gaussian's entropy has no bound
        if not self.target_entropy < most:
            raise InvalidSettingError(
                f"--target-entropy must be less than {most:.6g} nats, the entropy of {what} in {env}, "
                f"got {self.target_entropy:g}: the temperature would diverge."
            )


def _head_size(weights: PyTree) -> int | tuple[int, ...]:
    """Outputs of a policy's head; of all of its heads where it makes several choices."""
    if "head" in weights:
        return int(weights["head"]["bias"].shape[-1])
    return tuple(
        weights[f"head_{index}"]["bias"].shape[-1] for index in range(sum("head_" in name for name in weights))
    )
