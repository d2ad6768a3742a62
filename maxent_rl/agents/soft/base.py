"""What all soft actor-critics share: the order of an update, and all that does not depend on what policy and critics are.

Source: Soft Actor-Critic Algorithms and Applications (arXiv 1812.05905); the order of the update is that of the authors'
code: critics, policy, temperature, targets. What later work changes of it, part by part, stands in `docs/training.md`: batch
normalisation (CrossQ, arXiv 1902.05605), critics that learn distributions (arXiv 1707.06887, 2005.04269), weights of unit
length and divided rewards (arXiv 2502.15280, 2509.25174), a policy that learns less often.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl.agents.delay import in_any_seed
from maxent_rl.agents.learning_rates import LearningRates
from maxent_rl.agents.soft.architecture import Architecture
from maxent_rl.agents.soft.held_noise import HeldNoise
from maxent_rl.distributions import Distribution
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import (
    ReturnBound,
    RunningStatistics,
    Step,
    Temperature,
    TemperatureMode,
    encode,
    statistics_of,
    with_encoder_of,
    with_statistics,
    without_statistics,
)
from maxent_rl.settings import Count, Fraction, Interval, NonNegative, Positive, Settings, Weight, setting, static
from maxent_rl.types import Array, Learns, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import NUMBERS, not_given, unless, when

_LEARNED = unless(temperature_mode="fixed")

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

RESET_KEY = 4
"""Folded into an update's key, which splits itself in four, 0 to 3, for what is drawn anew after it."""

PENALTY_ACTIONS, PENALTY_DROPOUT = 3, 4
"""Keys of what a penalty draws, folded into that of the critics' step, which splits itself in three, 0 to 2."""


class Following(NamedTuple):
    """What comes after a transition.

    Attributes:
      action: [batch, action] that the policy would take there; None where it is summed over all of them.
      log_prob: [batch] what it is charged, in nats; [batch, choice] where it is summed over.
    """

    action: Array | None
    log_prob: Array


@struct.dataclass
class SACState:
    """All that learning changes.

    Attributes:
      policy: parameters of the policy, and statistics of its batch normalisation, if it has one.
      critics: those of the critics.
      target_critics: their slow copies; None without a target network.
      log_alpha: [] natural logarithm of the temperature.
      policy_optimizer: Adam's state for the policy.
      critic_optimizer: Adam's state for the critics.
      temperature_optimizer: Adam's state for `log_alpha`.
      normalizer: statistics of observations, or None without normalisation.
      reward_scale: what rewards are divided by, or None.
      held_noise: noise that exploration holds over steps, or None.
      policy_metrics: of the policy's last step, where it does not learn in every update; else None.
      updates: [] taken so far, where all begins anew after some of them; else None.
    """

    policy: PyTree
    critics: PyTree
    target_critics: PyTree
    log_alpha: Array | None
    policy_optimizer: optax.OptState | None
    critic_optimizer: optax.OptState | None
    temperature_optimizer: optax.OptState | None
    normalizer: RunningStatistics | None
    reward_scale: ReturnBound | None
    held_noise: HeldNoise | None
    policy_metrics: Metrics | None
    updates: Array | None


@struct.dataclass
class Collecting(Settings):
    """Settings of the family's members that learn from what they do, as `OffPolicyAgent` has them."""

    learns: ClassVar[Learns] = "replay"

    start_steps: NonNegative | None = None
    """Environment steps with uniform actions before the first update; None for ten episodes, at most --most-start-steps."""
    most_start_steps: Count = setting(5_000, used_when=not_given("start_steps"))
    """The most environment steps that ten episodes may be, where --start-steps is not given."""
    updates_per_step: Positive = 1.0
    """Gradient steps for each environment step (update-to-data ratio)."""

    replay_size: Count = static(1_000_000)
    """Transitions that the replay buffer holds for each seed; the oldest give way."""
    n_step: Count = static(1)
    """Environment steps whose rewards are summed before the critics' value is used."""
    goal_relabel: Literal["none", "future"] = static("none")
    """Replay steps of goal environments as they were, or as if a goal reached later in the episode had been wanted (HER)."""
    goal_relabel_share: Fraction = static(0.8, used_when=unless(goal_relabel="none"))
    """Share of each batch whose goals are replaced; the paper's k goals for each real one are k / (k + 1), 0.8 for 4."""
    held_noise: Annotated[int, Interval(1, 100_000)] = static(1)
    """The most steps over which exploration holds its noise; each time it is drawn from P(n) ~ 1/n^2 (FlashSAC: 16)."""

    def updates_of(self, total_steps: int) -> float | None:
        """See `LearningRates.updates_of`."""
        return total_steps * self.updates_per_step


@struct.dataclass
class SoftActorCritic(LearningRates, Architecture, abc.ABC):
    """The family's common part: maximises return plus entropy from transitions of any policy.

    Where observations end in images, all critics share an encoder, and the policy reads by a copy of it that its own loss does
    not move, as in arXiv 1910.01741. With an encoder of its own for the policy three seeds were no better on
    `maxent/CatchContinuous`, and an update took half as long again.
    """

    learning_rate: Positive = 3e-4
    """Adam's step size for the critics, and for what has none of its own."""
    policy_learning_rate: Positive | None = None
    """Adam's step size for the policy; None for --learning-rate."""
    temperature_learning_rate: Positive | None = setting(None, used_when=_LEARNED)
    """Adam's step size for the temperature; None for --learning-rate."""
    discount: Fraction = 0.99
    """Weight of the next step's value (gamma)."""
    target_update_rate: Fraction = setting(0.005, used_when=when(target_network=True))
    """Share of the critics that enters their targets after each update (tau)."""
    target_entropy: float | None = setting(None, used_when=_LEARNED)
    """Entropy that the temperature holds, in nats; None for the agent's own rule."""
    initial_temperature: Positive = 1.0
    """Weight of the entropy at the start (alpha), in return per nat (of divided return with --reward-scale)."""
    weight_decay: Weight = static(0.0)
    """Share of all weights that each step of policy and critics takes off, times the learning rate (AdamW)."""
    adam_beta1: Fraction = static(0.9)
    """Share of Adam's mean gradient that stays in each step."""
    adam_beta2: Fraction = static(0.999)
    """Share of Adam's mean squared gradient that stays in each step."""

    batch_size: Count = static(256)
    """Transitions in a batch."""
    temperature_mode: TemperatureMode = static("log")
    """Temperature loss: log-alpha times the surplus of entropy, alpha times it (the paper's dual), or a fixed temperature."""
    policy_delay: Count = static(1)
    """Updates of the critics for each one of policy and temperature."""
    update_order: Literal["critics_first", "policy_first"] = static("critics_first")
    """Which learns first in an update (FlashSAC: the policy)."""
    resets: tuple[Count, ...] | None = static(None)
    """Updates after each of which networks, temperature and optimisers begin anew, while what was replayed stays (BRO); None
    for none."""
    normalize_observations: bool = static(False, used_when=NUMBERS)
    """Scale observations to mean 0 and variance 1 by running statistics of the replayed batches."""
    reward_scale: Literal["none", "spread", "bound"] = static("none")
    """Divide replayed rewards by the running standard deviation of discounted returns (XQC), and by so much that none of
    them goes beyond --value-bound (SimbaV2)."""

    # "log" is what the authors' released code ran for the paper's results; under Adam both forms behave alike, and "log"
    # does not slow down as the temperature shrinks.

    _of_policy: ClassVar[tuple[str, ...]] = ("policy", "policy_optimizer", "log_alpha", "temperature_optimizer")
    """Fields of the state that a step of the policy changes."""
    _of_resets: ClassVar[tuple[str, ...]] = (
        *("policy", "critics", "target_critics", "policy_optimizer", "critic_optimizer"),
        *("log_alpha", "temperature_optimizer"),
    )
    """Fields of the state that begin anew with the networks."""

    @classmethod
    def of_before(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings as this version has them, of a run of before; those of this version as they are."""
        values = dict(values)
        if "critic_layer_norm" in values:
            values["critic_norm"] = "layer" if values.pop("critic_layer_norm") else "none"
            if issubclass(cls, Collecting):
                values.setdefault("most_start_steps", 10_000)
        return values

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        self._check_architecture()
        if max(self.adam_beta1, self.adam_beta2) >= 1.0:
            raise InvalidSettingError("--adam-beta1 and --adam-beta2 must be less than 1.")
        self._check_rates()
        if self.resets and self.learning_rate_schedule != "constant":
            raise InvalidSettingError("--resets needs --learning-rate-schedule constant: it would begin anew, too.")
        if self.resets and spec.frames:
            raise InvalidSettingError(f"--resets is for observations without images, and {env} has some.")

    def init(self, key: Array, spec: Spec) -> SACState:
        """Builds the state of one seed; critics differ by their initial weights, targets are copies.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        policy_key, critic_key = jax.random.split(key)
        policy, critics = self._initial_parameters(policy_key, {"params": critic_key, "dropout": critic_key}, spec)
        policy, critics = self._projected(policy), self._projected(critics)
        policy = with_encoder_of(policy, critics)
        log_alpha, temperature_optimizer = self._temperature_rule().init(self.initial_temperature)
        state = SACState(
            policy=policy,
            critics=critics,
            target_critics=jax.tree.map(jnp.copy, critics) if self.target_network else None,
            log_alpha=log_alpha,
            policy_optimizer=self._policy_optimizer().init(without_statistics(policy)),
            critic_optimizer=self._optimizer(self.learning_rate).init(without_statistics(critics)),
            temperature_optimizer=temperature_optimizer,
            normalizer=self._new_normalizer(spec),
            reward_scale=ReturnBound.create(spec.num_envs) if self.reward_scale != "none" else None,
            held_noise=self._new_noise(jax.random.fold_in(key, 2), spec),
            policy_metrics=None,
            updates=jnp.zeros((), jnp.int32) if self.resets else None,
        )
        state = self._more_state(state, key, spec)
        if self.policy_delay > 1:
            state = dataclasses.replace(state, policy_metrics=self._no_metrics(state, spec))
        return state

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
        values = self.values(state.critics, self._normalize(state, observation), action, key)
        return self._in_return(state, values)

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
            reward_scale=None,
            held_noise=None,
            policy_metrics=None,
            updates=None,
        )

    def watch(self, state: SACState, step: Transition, key: Array) -> SACState:
        """Takes in a step of all environments as it happens; see `agents.base.Watches`.

        Args:
          state: of one seed.
          step: [env].
          key: [] random key.
        """
        if state.reward_scale is not None:
            done = jnp.maximum(step.terminated, step.truncated)
            scale = state.reward_scale.add(step.reward[None], done[None], self.discount)
            state = dataclasses.replace(state, reward_scale=scale)
        if state.held_noise is not None:
            state = dataclasses.replace(state, held_noise=state.held_noise.next(key))
        return state

    def update(self, state: SACState, batch: Transition, key: Array) -> tuple[SACState, Metrics]:
        """Takes one gradient step for critics, policy and temperature, and moves the targets.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          key: [] random key.

        Returns:
          (state, metrics): entropies in nats, values and losses in units of return (losses of divided return, where rewards
          are); the policy's are those of its last step.
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
        if state.reward_scale is not None:
            batch = dataclasses.replace(batch, reward=batch.reward / self._divisor(state))
        keys = policy_key, temperature_key
        if self.update_order == "policy_first":
            state, policy_metrics = self._learn_policy(state, batch, policy_noise, keys)
            state, critic_metrics = self.update_critics(state, batch, critic_noise, critic_key)
        else:
            state, critic_metrics = self.update_critics(state, batch, critic_noise, critic_key)
            state, policy_metrics = self._learn_policy(state, batch, policy_noise, keys)
        state = self._begun_anew(self.update_targets(state), batch, key)
        return state, critic_metrics | policy_metrics

    def update_critics(self, state: SACState, batch: Transition, noise: Any, key: Array) -> tuple[SACState, Metrics]:
        """Regresses every critic on the soft Bellman target (equations 2 to 5)."""
        subset_key, next_key, dropout_key = jax.random.split(key, 3)
        following = self.follow(state, batch, noise, next_key)
        joint, slow = self._critic_trunk().has_statistics, state.target_critics

        def target_of(outputs: Array) -> Array:
            step = Step(
                batch.reward, self.discount**batch.steps, batch.terminated, following.log_prob, self._temperature(state)
            )
            return self.critic_target(self._some_critics(outputs, subset_key), step)

        if joint:
            # Present and next actions in one batch: their own statistics would make the two indistinguishable. The targets'
            # are those of their batch, too; their running ones lag behind.
            target = None if slow is None else target_of(self.judge_both(slow, batch, following, next_key)[0][1])
        else:
            judged = self.judge_next(state.critics if slow is None else slow, batch, following, next_key)
            target = target_of(judged)
        penalty = self.critic_penalty(state, batch, key)

        def loss(learned: PyTree) -> tuple[Array, tuple[Any, ...]]:
            critics, goal = with_statistics(learned, state.critics), target
            statistics = statistics_of(critics)
            if joint:
                (outputs, next_outputs), statistics = self.judge_both(critics, batch, following, dropout_key)
                goal = target_of(next_outputs) if goal is None else goal
            else:
                outputs = self.judge(critics, batch.observation, batch.action, dropout_key)
            assert goal is not None
            error, q = jnp.sum(jnp.mean(self._head.error(outputs, goal), axis=-1)), self._head.values(outputs)
            more = penalty(critics, q)
            metrics = {
                "critic/q_mean": self._in_return(state, jnp.mean(q)),
                "critic/target_mean": self._in_return(state, jnp.mean(self._head.mean(goal))),
            }
            return error + more.added, (more.size, statistics, {**metrics, **more.metrics})

        learned = without_statistics(state.critics)
        (value, (size, statistics, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(learned)
        step, optimizer = self._optimizer(self.learning_rate).update(gradient, state.critic_optimizer, learned)
        critics = with_statistics(self._projected(optax.apply_updates(learned, step)), statistics)
        state = dataclasses.replace(state, critics=critics, critic_optimizer=optimizer)
        state, weight_metrics = self.update_penalty(state, size)
        return state, {"critic/loss": value, **metrics, **weight_metrics}

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
        rate: Any = self._rate(self.temperature_learning_rate)
        if self.learning_rate_schedule != "constant":
            rate = rate * self.rate_share(cast(Any, state.temperature_optimizer)[0].count * self.policy_delay)
        rule = self._temperature_rule(default if self.target_entropy is None else self.target_entropy, rate)
        log_alpha, optimizer, value = rule.step(cast(Array, state.log_alpha), state.temperature_optimizer, log_prob)
        state = dataclasses.replace(state, log_alpha=log_alpha, temperature_optimizer=optimizer)
        metrics = {"temperature/alpha": self._temperature(state)}
        return state, metrics if value is None else metrics | {"temperature/loss": value}

    def update_targets(self, state: SACState) -> SACState:
        """Moves the target critics by `target_update_rate` towards the critics; not their statistics, which are not used."""
        if state.target_critics is None:
            return state
        slow, fast = without_statistics(state.target_critics), without_statistics(state.critics)
        targets = optax.incremental_update(fast, slow, self.target_update_rate)
        return dataclasses.replace(state, target_critics=with_statistics(targets, state.target_critics))

    # What a member of the family says.

    @abc.abstractmethod
    def policy(self, parameters: PyTree, observation: Array, train: bool = False) -> Distribution:
        """The policy at normalised observations [..., observation]; in training by their own statistics, where it has any."""

    @abc.abstractmethod
    def follow(self, state: SACState, batch: Transition, noise: Any, key: Array) -> Following:
        """What comes after each transition by the present policy."""

    @abc.abstractmethod
    def judge(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """What all critics say of given actions: [num_critics, ..., number], as their value head has it."""

    @abc.abstractmethod
    def judge_next(self, parameters: PyTree, batch: Transition, following: Following, dropout_key: Array) -> Array:
        """What critics say of what comes after each transition."""

    def judge_both(
        self, parameters: PyTree, batch: Transition, following: Following, dropout_key: Array
    ) -> tuple[tuple[Array, Array], PyTree]:
        """What critics say of transitions and of what comes after them, in one batch in training, and their new statistics."""
        raise NotImplementedError

    @abc.abstractmethod
    def critic_target(self, outputs: Array, step: Step) -> Array:
        """What critics should say, from what (some) target critics say of what follows."""

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

    def _policy_statistics(self, policy: PyTree, observation: Array) -> PyTree:
        """The policy's variables with the statistics moved by a batch of observations; as they are where it has none."""
        return policy

    def _new_noise(self, key: Array, spec: Spec) -> HeldNoise | None:
        """Noise for exploration to hold, where it does."""
        return None

    def _num_actions(self, state: SACState) -> int | None:
        """Choices, where actions are such."""
        return None

    def _more_state(self, state: SACState, key: Array, spec: Spec) -> SACState:
        """The state of one seed with what a member of the family adds to it."""
        return state

    # What its members use.

    def values(self, parameters: PyTree, observation: Array, action: Array, dropout_key: Array) -> Array:
        """All critics' values of given actions, [num_critics, ...], in units of (divided) return."""
        return self._head.values(self.judge(parameters, observation, action, dropout_key))

    def _learn_policy(
        self, state: SACState, batch: Transition, noise: Any, keys: tuple[Array, Array]
    ) -> tuple[SACState, Metrics]:
        """A step of policy and temperature, where one is due."""
        if self.policy_delay == 1:
            return self._step_policy(state, batch, noise, keys)
        # Adam has counted the critics' updates.
        due = in_any_seed(cast(Any, state.critic_optimizer)[0].count % self.policy_delay == 0)

        def learn(old: tuple[Any, ...]) -> tuple[Any, ...]:
            after, metrics = self._step_policy(state, batch, noise, keys)
            return (*(getattr(after, name) for name in self._of_policy), metrics)

        old = (*(getattr(state, name) for name in self._of_policy), state.policy_metrics)
        *new, metrics = jax.lax.cond(due, learn, lambda old: old, old)
        state = dataclasses.replace(state, policy_metrics=metrics, **dict(zip(self._of_policy, new, strict=True)))
        return state, metrics

    def _begun_anew(self, state: SACState, batch: Transition, key: Array) -> SACState:
        """The state after an update: as it is, or, where `resets` has their number, with all that was learned drawn anew."""
        if state.updates is None:
            return state
        state = dataclasses.replace(state, updates=state.updates + 1)
        due = in_any_seed(jnp.any(state.updates == jnp.asarray(self.resets, jnp.int32)))
        shapes = batch.observation.shape[1:], batch.action.shape[1:]
        spec = Spec(*shapes, horizon=1, num_actions=self._num_actions(state))

        def draw(old: tuple[Any, ...]) -> tuple[Any, ...]:
            fresh = self.init(jax.random.fold_in(key, RESET_KEY), spec)
            return tuple(getattr(fresh, name) for name in self._of_resets)

        old = tuple(getattr(state, name) for name in self._of_resets)
        new = jax.lax.cond(due, draw, lambda old: old, old)
        return dataclasses.replace(state, **dict(zip(self._of_resets, new, strict=True)))

    def _no_metrics(self, state: SACState, spec: Spec) -> Metrics:
        """Zeros for what a step of the policy tells."""
        rows, key = jnp.zeros(self.batch_size), jax.random.key(0)
        observation = jnp.zeros((self.batch_size, *spec.observation_shape))
        action = jnp.zeros((self.batch_size, *spec.action_shape))
        batch = Transition(observation, action, rows, observation, rows, rows, rows)
        noise = self._noise(key, batch)[1]
        _, shapes = jax.eval_shape(self._step_policy, state, batch, noise, (key, key))
        return {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}

    def _step_policy(
        self, state: SACState, batch: Transition, noise: Any, keys: tuple[Array, Array]
    ) -> tuple[SACState, Metrics]:
        state = dataclasses.replace(state, policy=with_encoder_of(state.policy, state.critics))
        state, log_prob, metrics = self.update_policy(state, batch, noise, keys[0])
        state, temperature_metrics = self.update_temperature(state, batch, log_prob, keys[1])
        return state, metrics | temperature_metrics

    def _policy_step(self, state: SACState, loss: PolicyLoss, observation: Array) -> tuple[SACState, Array, Metrics]:
        """One step of Adam down a loss of the policy's parameters that also gives log-probabilities and metrics."""

        def of_learned(learned: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            return loss(with_statistics(learned, state.policy))

        learned = without_statistics(state.policy)
        (value, (log_prob, metrics)), gradient = jax.value_and_grad(of_learned, has_aux=True)(learned)
        state = self._move_policy(state, gradient, observation)
        return state, log_prob, {"actor/loss": value, "actor/entropy": -jnp.mean(log_prob), **metrics}

    def _move_policy(self, state: SACState, gradient: PyTree, observation: Array) -> SACState:
        """One step of Adam; statistics move by the observations [batch, observation] that the gradient is of."""
        learned = without_statistics(state.policy)
        # A pass of its own, which the compiler finds to be the loss's.
        statistics = self._policy_statistics(state.policy, observation)
        step, optimizer = self._policy_optimizer().update(gradient, state.policy_optimizer, learned)
        policy = with_statistics(self._projected(optax.apply_updates(learned, step)), statistics)
        return dataclasses.replace(state, policy=policy, policy_optimizer=optimizer)

    def _optimizer(self, rate: Any, every: int = 1) -> optax.GradientTransformation:
        """Adam for what is moved once in `every` updates of the critics, by which the schedule goes."""
        # Over one flat vector: three long loops instead of three for each array (benchmarks/NOTES.md has what it gains).
        rate = self.scheduled(rate, every)
        if not self.weight_decay:
            return optax.flatten(optax.adam(rate, self.adam_beta1, self.adam_beta2))
        return optax.flatten(optax.adamw(rate, self.adam_beta1, self.adam_beta2, weight_decay=self.weight_decay))

    def _policy_optimizer(self) -> optax.GradientTransformation:
        return self._optimizer(self._rate(self.policy_learning_rate), self.policy_delay)

    def _rate(self, own: Any) -> Any:
        """The learning rate of what may have one of its own."""
        return self.learning_rate if own is None else own

    def _temperature_rule(self, target: Array | float = 0.0, rate: Any = 0.0) -> Temperature:
        return Temperature(target, rate, self.temperature_mode, flat=True, beta1=self.adam_beta1)

    def _temperature(self, state: SACState) -> Array:
        return self._temperature_rule().weight(cast(Array, state.log_alpha))

    def _divisor(self, state: SACState) -> Array:
        assert state.reward_scale is not None
        return state.reward_scale.divisor(self.value_bound if self.reward_scale == "bound" else None)

    def _in_return(self, state: SACState, value: Array) -> Array:
        """Values in units of return, where critics have them in units of divided return."""
        return value if state.reward_scale is None else value * self._divisor(state)

    def _new_normalizer(self, spec: Spec) -> RunningStatistics | None:
        """Statistics of what of observations is no image, if anything is."""
        size = spec.observation_size - spec.image_size
        return RunningStatistics.create(size) if self.normalize_observations and size else None

    def _policy_features(self, parameters: PyTree, observation: Array) -> Array:
        """What the policy reads of observations. The encoder, where there is one, learns by the critics' loss alone."""
        return encode(jax.lax.stop_gradient(parameters), observation)

    def _normalize(self, state: SACState, observation: Array) -> Array:
        return observation if state.normalizer is None else state.normalizer.normalize(observation)
