"""Soft Actor-Critic with automatic temperature: the family's common update, and SAC itself, for continuous actions.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905); the order of the update is that of the authors'
code: critics, policy, temperature, targets. `SoftActorCritic` has that order and all that does not depend on what policy and
critics are; below it `SquashedSoftActorCritic` says how a tanh-Gaussian and its critics go through it; `SAC` collects, too.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.distributions import Distribution, TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import (
    CriticEnsemble,
    RunningStatistics,
    TanhGaussianPolicy,
    Temperature,
    TemperatureMode,
    encode,
    init_encoded,
    with_encoder_of,
)
from maxent_rl.settings import Count, Finite, Fraction, NonNegative, Positive, Settings, static
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec, Transition

PolicyLoss: TypeAlias = Callable[[PyTree], tuple[Array, tuple[Array, Metrics]]]


class Penalty(NamedTuple):
    """What is added to the Bellman error of the critics.

    Attributes:
      added: [] to their loss.
      size: [] of the penalty itself, before its weight.
      metrics: for people.
    """

    added: Array
    size: Array
    metrics: Metrics


CriticPenalty: TypeAlias = Callable[[PyTree, Array], Penalty]

PENALTY_ACTIONS, PENALTY_DROPOUT = 3, 4
"""Keys of what a penalty draws, folded into that of the critics' step, which splits itself in three, 0 to 2."""


@struct.dataclass
class SACState:
    """All that learning changes.

    Attributes:
      policy: parameters of the policy.
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
class Collecting(Settings):
    """Settings of the family's members that learn from what they do, as `OffPolicyAgent` has them."""

    learns: ClassVar[Learns] = "replay"

    start_steps: NonNegative | None = None
    """Environment steps with uniform actions before the first update; None for ten episodes, at most 10,000."""
    updates_per_step: Positive = 1.0
    """Gradient steps for each environment step (update-to-data ratio)."""

    replay_size: Count = static(1_000_000)
    """Transitions that the replay buffer holds for each seed; the oldest give way."""
    n_step: Count = static(1)
    """Environment steps whose rewards are summed before the critics' value is used."""
    goal_relabel: Literal["none", "future"] = static("none")
    """Replay steps of goal environments as they were, or as if a goal reached later in the episode had been wanted (HER)."""
    goal_relabel_share: Fraction = static(0.8)
    """Share of each batch whose goals are replaced; the paper's k goals for each real one are k / (k + 1), 0.8 for 4."""


@struct.dataclass
class SoftActorCritic(Settings, abc.ABC):
    """The family's common part: maximises return plus entropy from transitions of any policy.

    Where observations end in images, all critics share an encoder, and the policy reads by a copy of it that its own loss does
    not move, as in arXiv 1910.01741. With an encoder of its own for the policy three seeds were no better on
    `maxent/CatchContinuous`, and an update took half as long again.
    """

    learning_rate: Positive = 3e-4
    """Adam's step size for policy, critics and temperature."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    target_update_rate: Fraction = 0.005
    """Share of the critics that enters their targets after each update (tau)."""
    target_entropy: float | None = None
    """Entropy that the temperature holds, in nats; None for the agent's own rule."""
    initial_temperature: Positive = 1.0
    """Weight of the entropy at the start (alpha), in return per nat."""

    batch_size: Count = static(256)
    """Transitions in a batch."""
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
    temperature_mode: TemperatureMode = static("log")
    """Temperature loss: log-alpha times the surplus of entropy, alpha times it (the paper's dual), or a fixed temperature."""
    normalize_observations: bool = static(False)
    """Scale observations to mean 0 and variance 1 by running statistics of the replayed batches."""

    # "log" is what the authors' released code ran for the paper's results; under Adam both forms behave alike, and "log"
    # does not slow down as the temperature shrinks.

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        if self.target_critics > self.num_critics:
            raise InvalidSettingError(
                f"--target-critics ({self.target_critics}) must be at most --num-critics ({self.num_critics})."
            )
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
        policy, critics = self._initial_parameters(policy_key, {"params": critic_key, "dropout": critic_key}, spec)
        policy = with_encoder_of(policy, critics)
        log_alpha, temperature_optimizer = self._temperature_rule().init(self.initial_temperature)
        return SACState(
            policy=policy,
            critics=critics,
            target_critics=jax.tree.map(jnp.copy, critics),
            log_alpha=log_alpha,
            policy_optimizer=self._policy_optimizer().init(policy),
            critic_optimizer=self._optimizer().init(critics),
            temperature_optimizer=temperature_optimizer,
            normalizer=self._new_normalizer(spec),
        )

    def act(self, state: SACState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]."""
        return self.distribution(state, observation).sample(key)

    def mode(self, state: SACState, observation: Array) -> Array:
        """Chooses the distribution's mode: [..., observation] to [..., action]."""
        return self.distribution(state, observation).mode()

    def distribution(self, state: SACState, observation: Array) -> Distribution:
        """The policy's distribution at observations [..., observation]."""
        return self.policy(state.policy, self._normalize(state, observation))

    def action_values(self, state: SACState, observation: Array, action: Array, key: Array) -> Array:
        """All critics' values [num_critics, ...] of actions at observations as the environment gives them.

        Args:
          state: of one seed.
          observation: [..., observation].
          action: [..., action].
          key: [] of the critics' dropout, where there is one.
        """
        return self.values(state.critics, self._normalize(state, observation), action, key)

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
        critic_noise, policy_noise = self._noise(noise_key, batch)
        if state.normalizer is not None:
            state = dataclasses.replace(state, normalizer=state.normalizer.add(batch.observation))
            batch = dataclasses.replace(
                batch,
                observation=self._normalize(state, batch.observation),
                next_observation=self._normalize(state, batch.next_observation),
            )
        state, critic_metrics = self.update_critics(state, batch, critic_noise, critic_key)
        state = dataclasses.replace(state, policy=with_encoder_of(state.policy, state.critics))
        state, log_prob, policy_metrics = self.update_policy(state, batch, policy_noise, policy_key)
        state, temperature_metrics = self.update_temperature(state, batch, log_prob, temperature_key)
        state = self.update_targets(state)
        return state, critic_metrics | policy_metrics | temperature_metrics

    def update_critics(self, state: SACState, batch: Transition, noise: Any, key: Array) -> tuple[SACState, Metrics]:
        """Regresses every critic on the soft Bellman target (equations 2 to 5)."""
        subset_key, next_key, dropout_key = jax.random.split(key, 3)
        next_q, next_log_prob = self.soft_next(state, batch, noise, next_key, subset_key)
        target = losses.soft_bellman_target(
            batch.reward,
            self.discount**batch.steps,
            batch.terminated,
            next_q,
            next_log_prob,
            self._temperature(state),
        )

        penalty = self.critic_penalty(state, batch, key)

        def loss(critics: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            q = self.values(critics, batch.observation, batch.action, dropout_key)
            more = penalty(critics, q)
            error = jnp.sum(jnp.mean(losses.critic_loss(q, target), axis=-1))
            return error + more.added, (more.size, {"critic/q_mean": jnp.mean(q), **more.metrics})

        (value, (size, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.critics)
        step, optimizer = self._optimizer().update(gradient, state.critic_optimizer)
        state = dataclasses.replace(state, critics=optax.apply_updates(state.critics, step), critic_optimizer=optimizer)
        state, weight_metrics = self.update_penalty(state, size)
        return state, {"critic/loss": value, "critic/target_mean": jnp.mean(target), **metrics, **weight_metrics}

    def critic_penalty(self, state: SACState, batch: Transition, key: Array) -> CriticPenalty:
        """What the critics' loss has beside the Bellman error: nothing here.

        Args:
          state: of one seed.
          batch: [batch], with normalised observations.
          key: [] of the critics' step.

        Returns:
          A function of the critics' parameters and of their values [num_critics, batch] of the batch's actions.
        """
        return lambda critics, q: Penalty(jnp.zeros(()), jnp.zeros(()), {})

    def update_penalty(self, state: SACState, size: Array) -> tuple[SACState, Metrics]:
        """Moves the weight of the critics' penalty, whose size [] was found in their step; nothing here."""
        return state, {}

    def update_temperature(
        self, state: SACState, batch: Transition, log_prob: Array, key: Array
    ) -> tuple[SACState, Metrics]:
        """Moves the temperature so that the entropy meets its target (section 5)."""
        default = self._default_target_entropy(state.policy)
        rule = self._temperature_rule(default if self.target_entropy is None else self.target_entropy)
        log_alpha, optimizer, value = rule.step(cast(Array, state.log_alpha), state.temperature_optimizer, log_prob)
        state = dataclasses.replace(state, log_alpha=log_alpha, temperature_optimizer=optimizer)
        metrics = {"temperature/alpha": self._temperature(state)}
        return state, metrics if value is None else metrics | {"temperature/loss": value}

    def update_targets(self, state: SACState) -> SACState:
        """Moves the target critics by `target_update_rate` towards the critics."""
        targets = optax.incremental_update(state.critics, state.target_critics, self.target_update_rate)
        return dataclasses.replace(state, target_critics=targets)

    # What a member of the family says.

    @abc.abstractmethod
    def policy(self, parameters: PyTree, observation: Array) -> Distribution:
        """The policy at normalised observations [..., observation]."""

    @abc.abstractmethod
    def soft_next(
        self, state: SACState, batch: Transition, noise: Any, key: Array, subset_key: Array
    ) -> tuple[Array, Array]:
        """What follows a transition: its value [batch] by the target critics and the log-probability [batch] to charge."""

    @abc.abstractmethod
    def values(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """All critics' values of given actions, [num_critics, ...], in units of return."""

    @abc.abstractmethod
    def update_policy(
        self, state: SACState, batch: Transition, noise: Any, key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves the policy towards the Boltzmann distribution of the critics; returns log-probabilities [batch]."""

    @abc.abstractmethod
    def _initial_parameters(
        self, policy_key: Array, critic_keys: dict[str, Array], spec: Spec
    ) -> tuple[PyTree, PyTree]:
        """Parameters of policy and critics."""

    @abc.abstractmethod
    def _default_target_entropy(self, policy: PyTree) -> Array | float:
        """The entropy to hold where `target_entropy` is None, in nats."""

    @abc.abstractmethod
    def _noise(self, key: Array, batch: Transition) -> tuple[Any, Any]:
        """Random numbers for the critics' step and the policy's."""

    # What its members use.

    def _policy_step(self, state: SACState, loss: PolicyLoss) -> tuple[SACState, Array, Metrics]:
        """One step of Adam down a loss of the policy's parameters that also gives log-probabilities and metrics."""
        (value, (log_prob, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.policy)
        state = self._move_policy(state, gradient)
        return state, log_prob, {"actor/loss": value, "actor/entropy": -jnp.mean(log_prob), **metrics}

    def _move_policy(self, state: SACState, gradient: PyTree) -> SACState:
        step, optimizer = self._policy_optimizer().update(gradient, state.policy_optimizer)
        return dataclasses.replace(state, policy=optax.apply_updates(state.policy, step), policy_optimizer=optimizer)

    def _least_target(self, q: Array, subset_key: Array) -> Array:
        """The least, [...], of target critics' values [num_critics, ...]; of some of them where fewer make the target."""
        if self.target_critics < self.num_critics:
            q = q[jax.random.permutation(subset_key, self.num_critics)[: self.target_critics]]
        return jnp.min(q, axis=0)

    def _climbed(self, q: Array) -> Array:
        """What the policy climbs, [...], of the critics' values [num_critics, ...]."""
        return jnp.min(q, axis=0) if self.actor_value == "min" else jnp.mean(q, axis=0)

    def _critic_network(self, num_actions: int | None = None) -> CriticEnsemble:
        return CriticEnsemble(
            network=self.network,
            hidden_sizes=self.hidden_sizes,
            num_critics=self.num_critics,
            layer_norm=self.critic_layer_norm,
            dropout=self.critic_dropout,
            num_actions=num_actions,
        )

    def _optimizer(self) -> optax.GradientTransformation:
        # Over one flat vector: three long loops instead of three for each array (benchmarks/NOTES.md has what it gains).
        return optax.flatten(optax.adam(self.learning_rate))

    def _policy_optimizer(self) -> optax.GradientTransformation:
        return self._optimizer()

    def _temperature_rule(self, target: Array | float = 0.0) -> Temperature:
        return Temperature(target, self.learning_rate, self.temperature_mode, flat=True)

    def _temperature(self, state: SACState) -> Array:
        return self._temperature_rule().weight(cast(Array, state.log_alpha))

    def _new_normalizer(self, spec: Spec) -> RunningStatistics | None:
        """Statistics of what of observations is no image, if anything is."""
        size = spec.observation_size - spec.image_size
        return RunningStatistics.create(size) if self.normalize_observations and size else None

    def _policy_features(self, parameters: PyTree, observation: Array) -> Array:
        """What the policy reads of observations. The encoder, where there is one, learns by the critics' loss alone."""
        return encode(jax.lax.stop_gradient(parameters), observation)

    def _normalize(self, state: SACState, observation: Array) -> Array:
        return observation if state.normalizer is None else state.normalizer.normalize(observation)


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
        features = self._policy_features(parameters, observation)
        return cast(TanhGaussian, network.apply(parameters, features, self.log_std_min, self.log_std_max))

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
        dropout, features = {"dropout": dropout_key}, encode(parameters, observation)
        return cast(Array, self._critic_network().apply(parameters, features, action, rngs=dropout))

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
        bounds = self.log_std_min, self.log_std_max
        policy = init_encoded(network, policy_key, spec.frames, observation, *bounds)
        return policy, init_encoded(self._critic_network(), critic_keys, spec.frames, observation, action)

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

    sees_images: ClassVar[bool] = True
