"""Submodular policy gradient: actions are credited with what comes after them of a reward that depends on the whole past.

Source: Submodular Reinforcement Learning (arXiv 2307.13372). Environments pay marginal gains (`envs.submodular.env`), so
that the sum of an episode's rewards is the set function's value of its trajectory. The gradient is exact for any policy, also
one that sees the present state alone; whether that is enough is the environment's business.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.base import rollout_time
from maxent_rl.agents.on_policy.memory import RecallingPPO, RecallingState
from maxent_rl.agents.on_policy.minibatches import Samples
from maxent_rl.agents.on_policy.natural_gradient import natural_step
from maxent_rl.agents.on_policy.ppo import PPOState
from maxent_rl.distributions import Distribution
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import (
    Activation,
)
from maxent_rl.settings import Count, Fraction, Positive, Weight, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import above, given, not_given, unless, when

_SEVERAL_STEPS = above(epochs=1) | above(minibatches=1)
_VALUE = when(baseline="value")
_NATURAL = when(natural_gradient=True)
_ADAM = when(natural_gradient=False) | _VALUE


@struct.dataclass
class SubPO(RecallingPPO):
    """Policy gradient on marginal gains: on-policy, for continuous and discrete actions.

    Every window of whole episodes gives one gradient step; with more (`epochs`, `minibatches`) probabilities are clipped as
    PPO does. Where rewards are additive this is the ordinary policy gradient.

    Where episodes can end before the horizon, windows cut some of them. Without a value function nothing is learned from an
    episode in the window that cuts it, which leaves out long episodes more often than short ones: there, use
    `baseline="value"`, which says what is still to come.
    """

    run_defaults: ClassVar[dict[str, Any]] = {
        "num_envs": 128,
        "total_steps": 500_000,
        "eval_every": 25_000,
        "checkpoint_every": 100_000,
        "log_every": 5_000,
    }

    learning_rate: Positive = setting(5e-3, used_when=_ADAM | given("target_entropy"))
    """Adam's step size; with the natural gradient that of the value function alone."""
    discount: Fraction = setting(1.0, used_when=when(horizon="full") | when(normalize_rewards=True))
    """Weight of the next step's reward (gamma); 1 for the objective itself."""
    trace_decay: Fraction = setting(1.0, used_when=_VALUE)
    """Weight of later steps against the value function (lambda); less than 1 is biased where values do not see the past."""
    max_gradient_norm: Positive = setting(1e3, used_when=_ADAM)
    """Longer gradients are scaled down to this length."""
    entropy_bonus: Weight = 0.0
    """Weight of the policy's entropy, in return per nat; not used with a target entropy."""
    trust_region: Positive = setting(0.01, used_when=_NATURAL)
    """With the natural gradient: how far a step moves the policy, in nats of divergence."""
    damping: Weight = setting(1e-3, used_when=_NATURAL)
    """With the natural gradient: what is added to the diagonal of the Fisher matrix."""

    baseline: Literal["value", "mean", "none"] = static("mean")
    """What actions are compared with: a learned value of the observation, the mean of the other environments at the same
    step, or nothing."""
    horizon: Literal["full", "myopic"] = static("full", used_when=unless(baseline="value"))
    """Credit for all that comes after an action; or, as the authors' released code has it, for what was gained up to it,
    which leaves of the future the next gain alone."""
    entropy_annealing: bool = static(False, used_when=not_given("target_entropy") & above(entropy_bonus=0))
    """Divide the entropy bonus by the number of the update."""
    natural_gradient: bool = static(False)
    """Move the policy along the natural gradient instead of by Adam."""
    fisher_iterations: Count = static(10, used_when=_NATURAL)
    """With the natural gradient: iterations of conjugate gradients."""
    linear: bool = static(False)
    """A policy without hidden layers: with one-hot observations a table."""

    rollout_size: Count | None = static(None)
    """Environment steps of each update, all environments of a seed together; None for a whole episode of each."""
    epochs: Count = static(1)
    """Passes over the steps of an update."""
    minibatches: Count = static(1)
    """Gradient steps of a pass; each takes an equal share of the steps, or of the environments where there is a history."""
    hidden_sizes: tuple[Count, ...] = static(
        (64, 32), used_when=when(linear=False) | _VALUE & not_given("value_hidden_sizes")
    )
    """Width of each hidden layer of the policy."""
    activation: Activation = static("tanh", used_when=when(linear=False) | _VALUE)
    """After each hidden layer."""
    normalize_observations: bool = static(False)
    """Scale observations to mean 0 and variance 1 by running statistics."""
    normalize_rewards: bool = static(False)
    """Divide rewards by the running standard deviation of their discounted sum."""
    normalize_advantages: bool = static(False, used_when=_SEVERAL_STEPS)
    """Shift and scale the advantages of each minibatch to mean 0 and variance 1, where there are several."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        super().check(spec, env)
        if self.horizon == "myopic" and self.baseline == "value":
            raise InvalidSettingError("--horizon myopic has no value function: add --baseline mean or none.")
        if self.baseline == "mean" and spec.num_envs < 2:
            raise InvalidSettingError(
                "--baseline mean compares environments with each other: --num-envs must be at least 2."
            )
        time = rollout_time(self, spec)
        if self.baseline != "value" and time % spec.horizon:
            raise InvalidSettingError(
                f"Without a value function updates need whole episodes: --rollout-size must be a multiple of "
                f"{spec.horizon * spec.num_envs} ({env} has {spec.horizon} steps, --num-envs is {spec.num_envs}), "
                f"got {self.rollout_size}."
            )

    def init(self, key: Array, spec: Spec) -> RecallingState:
        """Builds the state of one seed; see `PPO.init`."""
        size = spec.observation_size - spec.additive_reward
        return super().init(key, dataclasses.replace(spec, observation_shape=(size,)))

    def init_parameters(self, key: Array, spec: Spec) -> dict[str, PyTree]:
        """Draws the parameters of every network, by name; see `RecallingPPO.init_parameters`."""
        parameters = super().init_parameters(key, spec)
        if self.baseline != "value":
            del parameters["value"]
        return parameters

    def update(self, state: PPOState, batch: Transition, key: Array) -> tuple[PPOState, Metrics]:
        """Learns from one window of steps; see `PPO.update`."""
        agent = self
        if self.entropy_annealing:
            counts = optax.tree.get_all_with_path(state.optimizer, "count")  # Adam's, and its schedule's
            steps = counts[0][1] / (self.epochs * self.minibatches)
            agent = dataclasses.replace(self, entropy_bonus=self.entropy_bonus / (steps + 1.0))
        state, metrics = super(SubPO, agent).update(state, batch, key)
        if self.baseline != "value":
            metrics = {name: value for name, value in metrics.items() if not name.startswith("critic/")}
        return state, metrics

    def evaluate(self, state: PPOState, batch: Transition) -> tuple[PPOState, Samples]:
        """As `RecallingPPO.evaluate`, under the normaliser that acted where a window gives one step."""
        after, samples = super().evaluate(state, batch)
        if self.epochs * self.minibatches == 1:
            # No ratio makes up for a normaliser that has moved: the gradient is that of the policy which acted.
            samples = dataclasses.replace(samples, observation=self._normalize(state, batch.observation))
        return after, samples

    def advantages(self, reward: Array, value: Array, next_value: Array, batch: Transition) -> Array:
        """What the actions of a window are credited with, less the baseline; see `PPO.advantages`."""
        if self.baseline == "value":
            return super().advantages(reward, value, next_value, batch)
        done = batch.terminated + batch.truncated
        if self.horizon == "myopic":
            credit = losses.accumulated_rewards(reward, done)
        else:  # the values are 0, which makes these the sums of rewards to come
            credit = losses.generalized_advantages(
                reward, value, next_value, batch.terminated, batch.truncated, self.discount, 1.0
            )
        # What an episode that goes on beyond the window will bring is not known yet.
        known = jnp.flip(jax.lax.cummax(jnp.flip(done, axis=0), axis=0), axis=0) > 0
        if self.baseline == "none":
            return jnp.where(known, credit, 0.0)
        return jax.vmap(losses.others_advantages)(credit, known)

    def policy_loss(self, policy: Distribution, samples: Samples) -> tuple[Array, Metrics]:
        """The policy gradient's loss; where one window gives several steps, the clipped surrogate of PPO."""
        if self.epochs * self.minibatches > 1:
            return super().policy_loss(policy, samples)
        return jnp.mean(losses.policy_gradient_loss(policy.log_prob(samples.action), samples.advantage)), {}

    def descend(self, state: PPOState, gradient: PyTree, samples: Samples) -> PPOState:
        """A step of Adam, or along the natural gradient of the policy (and of Adam for the value function)."""
        if not self.natural_gradient:
            return super().descend(state, gradient, samples)
        acts = {name: state.parameters[name] for name in state.parameters if name != "value"}

        def log_prob(parameters: dict[str, PyTree]) -> Array:
            return self.policy_at(parameters, samples).log_prob(samples.action)

        own = {name: gradient[name] for name in acts}
        weight = self.entropy_bonus if state.log_alpha is None else self._temperature().weight(state.log_alpha)
        size = jnp.max(jnp.abs(samples.advantage)) + weight
        step = natural_step(own, log_prob, acts, self.trust_region, self.damping, self.fisher_iterations, size)
        moved = super().descend(state, gradient, samples)
        return dataclasses.replace(moved, parameters=moved.parameters | optax.apply_updates(acts, step))

    def value(self, parameters: dict[str, PyTree], observation: Array) -> Array:
        """The value of normalised observations [..., observation], 0 without a value function: [...]."""
        if "value" not in parameters:
            return jnp.zeros(observation.shape[:-1])
        return super().value(parameters, observation)

    def _inputs(self, state: PPOState, observation: Array) -> Array:
        return observation[..., : cast(RecallingState, state).input_size]

    def _policy_network(self, size: int | tuple[int, ...], discrete: bool) -> nn.Module:
        agent = dataclasses.replace(self, hidden_sizes=()) if self.linear else self
        return super(SubPO, agent)._policy_network(size, discrete)


@struct.dataclass
class MODPO(SubPO):
    """Modular policy gradient: the same for additive rewards, which pay a repeated visit again.

    It learns from what each state pays alone (`Spec.additive_reward`), on environments whose own rewards diminish; on all
    others it is `SubPO`, to the bit.
    """

    def reward(self, state: PPOState, batch: Transition) -> Array:
        """What the states that were reached pay alone: [time, env]."""
        tells = batch.next_observation.shape[-1] > cast(RecallingState, state).input_size
        return batch.next_observation[..., -1] if tells else super().reward(state, batch)
