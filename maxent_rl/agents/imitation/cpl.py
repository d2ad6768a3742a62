"""Contrastive Preference Learning: a policy learned straight from preferences over segments, without reward or value.

Source: Contrastive Preference Learning: Learning from Human Feedback without Reinforcement Learning (arXiv 2310.13639), in the
form of the authors' code: behaviour cloning first, then, with a fresh optimiser, the contrastive loss on summed
log-probabilities. Cloning alone and cloning of preferred segments ("SFT"), the paper's baselines, are the same program.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.distributions import TanhGaussian
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import MLP, orthogonal
from maxent_rl.settings import Count, Finite, Interval, NonNegative, Positive, Settings, Weight, setting, static
from maxent_rl.types import Array, Learns, Metrics, PyTree, SegmentPairs, Spec
from maxent_rl.usage import unless, when

_PREFERENCES = when(method="cpl")
_AFTER_CLONING = unless(method="bc")
_GAUSSIAN = when(density="gaussian")

Bias = Annotated[float, Interval(0, 1, low_open=True)]


@struct.dataclass
class CPLState:
    """All that learning changes.

    Attributes:
      policy: parameters of the policy.
      optimizer: Adam's state.
      reference: the policy at the end of cloning, which scores are measured from; None where they are not.
      step: [] int32 updates so far.
    """

    policy: PyTree
    optimizer: optax.OptState | None
    reference: PyTree
    step: Array


@struct.dataclass
class CPL(Settings):
    """Learns from preferences over segments, offline: log-probabilities stand for advantages (`A = alpha log pi`)."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "preferences"

    learning_rate: Positive = 1e-4
    """Adam's step size."""
    alpha: Positive = setting(0.1, used_when=_PREFERENCES)
    """Temperature by which summed log-probabilities are scaled."""
    bias: Bias = setting(0.5, used_when=_PREFERENCES)
    """Weight of the less preferred segment (lambda): below 1, likelihood of the data pays off."""
    bc_coefficient: Weight = setting(0.0, used_when=_PREFERENCES)
    """Weight of behaviour cloning beside the contrastive loss."""
    bc_steps: NonNegative = setting(40_000, used_when=_AFTER_CLONING)
    """Updates of behaviour cloning before; with --method sft, of cloning all segments."""
    warmup_steps: Count = setting(10_000, used_when=_AFTER_CLONING)
    """Updates over which the step size rises from 0 after that."""
    warmup_multiplier: Positive = setting(1.0, used_when=_AFTER_CLONING)
    """Factor of the step size after behaviour cloning."""
    log_std_min: Finite = setting(-5.0, used_when=_GAUSSIAN)
    """Lower bound of the policy's log standard deviation before squashing, for --density gaussian."""
    log_std_max: Finite = setting(2.0, used_when=_GAUSSIAN)
    """Upper bound of it."""

    batch_size: Count = static(96)
    """Pairs in a batch."""
    hidden_sizes: tuple[Count, ...] = static((256, 256))
    """Width of each hidden layer."""
    dropout: Annotated[float, Interval(0, 1, high_open=True)] = static(0.25)
    """Share of the hidden units that are dropped in training."""
    density: Literal["deterministic", "gaussian"] = static("deterministic")
    """Log-probability of an action: minus its squared distance from the policy's, or that of a tanh-Gaussian."""
    method: Literal["cpl", "bc", "sft"] = static("cpl")
    """cpl: cloning, then preferences; bc: cloning only; sft: cloning, then cloning of the preferred segments only."""
    bc: Literal["all", "pos"] = static("all")
    """Segments that are cloned: all, or the preferred one of each pair (both of a tie)."""
    reference: bool = static(False, used_when=_PREFERENCES)
    """Measure log-probabilities from those of the policy at the end of cloning (CPL-KL)."""

    # The paper's runs on MetaWorld are 500,000 updates, 200,000 of them cloning, with layers of 512 (--preset cpl-paper); the
    # defaults keep the ratio.

    def check_steps(self, total_steps: int) -> None:
        """Refuses runs that end before the first update by preferences.

        Raises:
          InvalidSettingError: naming the settings to change.
        """
        cloning = self.bc_steps if self.method != "bc" else 0
        if total_steps <= cloning:
            raise InvalidSettingError(
                f"All {total_steps:,} updates of this run would be behaviour cloning, which takes the first {cloning:,}: "
                "raise --total-steps, lower --bc-steps, or choose --method bc."
            )

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is not None:
            raise IncompatibleEnvironmentError(
                f"{type(self).__name__} needs continuous actions, but {env} has {spec.num_actions} discrete ones."
            )
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")

    def init(self, key: Array, spec: Spec) -> CPLState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        network = self._network(self._outputs(spec.action_size), 0.0)
        policy = network.init(key, jnp.zeros(spec.observation_shape))
        return CPLState(
            policy=policy,
            optimizer=self._adam().init(policy),
            reference=jax.tree.map(jnp.copy, policy) if self.reference else None,
            step=jnp.zeros((), jnp.int32),
        )

    def act(self, state: CPLState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]; a deterministic policy has but one."""
        if self.density == "deterministic":
            return self.mode(state, observation)
        return self._distribution(self._forward(state.policy, observation)).sample(key)

    def mode(self, state: CPLState, observation: Array) -> Array:
        """Chooses the most likely actions: [..., observation] to [..., action]."""
        outputs = self._forward(state.policy, observation)
        return jnp.tanh(outputs) if self.density == "deterministic" else self._distribution(outputs).mode()

    def acting(self, state: CPLState) -> CPLState:
        """The state without what only learning needs."""
        return dataclasses.replace(state, optimizer=None, reference=None)

    def log_prob(self, policy: PyTree, observation: Array, action: Array, dropout_key: Array | None = None) -> Array:
        """Log-probability of given actions.

        Args:
          policy: parameters.
          observation: [..., observation].
          action: [..., action].
          dropout_key: [] for dropout, or None for the whole network.

        Returns:
          [...] in nats; up to factor and constant where the policy is deterministic.
        """
        outputs = self._forward(policy, observation, dropout_key)
        if self.density == "deterministic":
            return losses.squared_error_log_prob(action, jnp.tanh(outputs))
        return self._distribution(outputs).log_prob(action)

    def update(self, state: CPLState, batch: SegmentPairs, key: Array) -> tuple[CPLState, Metrics]:
        """One gradient step: of cloning in the first `bc_steps` updates, of the method's own loss after them.

        Args:
          state: the state of one seed.
          batch: [batch] pairs.
          key: [] of dropout.

        Returns:
          (state, metrics): losses and log-probabilities in nats; accuracy is that of the scores' order.
        """
        state = self._begin_phase(state)
        cloning = self._cloning(state)

        def loss(policy: PyTree) -> tuple[Array, Metrics]:
            log_prob = self.log_prob(policy, batch.observation, batch.action, key)
            contrastive, metrics = self._contrastive(state, batch, log_prob)
            clone = self._clone_loss(log_prob, batch.label, self.bc)
            own = contrastive + self.bc_coefficient * clone
            if self.method == "sft":
                own = self._clone_loss(log_prob, batch.label, "pos")
            # Both losses are of the same log-probabilities, so that a phase not taken costs next to nothing.
            value = jnp.where(cloning, clone, own)
            return value, {"policy/loss": value, "imitation/loss": clone, **metrics}

        gradient, metrics = jax.grad(loss, has_aux=True)(state.policy)
        direction, optimizer = self._adam().update(gradient, state.optimizer)
        rate = self._step_size(state)
        policy = jax.tree.map(lambda old, moved: old - rate * moved, state.policy, direction)
        state = dataclasses.replace(state, policy=policy, optimizer=optimizer, step=state.step + 1)
        return state, metrics

    def examine(self, state: CPLState, held_out: SegmentPairs) -> Metrics:
        """Whether the policy tells better segments that it has not learned from, and how likely it finds what is in them.

        Args:
          state: the state of one seed.
          held_out: [pairs].
        """
        log_prob = self.log_prob(state.policy, held_out.observation, held_out.action)
        score = self._scores(state, held_out, log_prob)
        return {
            "held_out_accuracy": jnp.mean(_agreement(score, held_out.label)),
            "held_out_log_prob": jnp.mean(log_prob),
        }

    def _begin_phase(self, state: CPLState) -> CPLState:
        """At the end of cloning: a fresh optimiser, and the policy as it is for reference."""
        if self.method == "bc":
            return state
        switch = state.step == self.bc_steps

        def choose(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda fresh, kept: jnp.where(switch, fresh, kept), new, old)

        reference = choose(state.policy, state.reference) if self.reference else None
        optimizer = choose(self._adam().init(state.policy), state.optimizer)
        return dataclasses.replace(state, optimizer=optimizer, reference=reference)

    def _cloning(self, state: CPLState) -> Array:
        return jnp.asarray(True) if self.method == "bc" else jnp.asarray(state.step < self.bc_steps)

    def _step_size(self, state: CPLState) -> Array:
        since = jnp.asarray(state.step - self.bc_steps, jnp.float32)
        warm = self.warmup_multiplier * jnp.clip(since / self.warmup_steps, 0.0, 1.0)
        return self.learning_rate * jnp.where(self._cloning(state), 1.0, warm)

    def _contrastive(self, state: CPLState, batch: SegmentPairs, log_prob: Array) -> tuple[Array, Metrics]:
        score = self._scores(state, batch, log_prob)
        loss = jnp.mean(losses.contrastive_loss(score[..., 0], score[..., 1], batch.label, self.bias))
        return loss, {
            "preference/loss": loss,
            "preference/accuracy": jnp.mean(_agreement(score, batch.label)),
            "data/log_prob": jnp.mean(log_prob),
        }

    def _scores(self, state: CPLState, batch: SegmentPairs, log_prob: Array) -> Array:
        """[batch, 2]: the two segments' summed advantages, by log-probabilities [batch, 2, step]."""
        reference: Array | float = 0.0
        if self.reference:
            reference = jax.lax.stop_gradient(self.log_prob(state.reference, batch.observation, batch.action))
        return losses.segment_score(log_prob, self.alpha, reference)

    def _clone_loss(self, log_prob: Array, label: Array, which: str) -> Array:
        """Minus the mean log-probability [batch, 2, step] over all segments, or over the preferred ones."""
        if which == "all":
            return -jnp.mean(log_prob)
        taken = jnp.stack([label <= 0.5, label >= 0.5], axis=-1)
        return -jnp.sum(taken * jnp.mean(log_prob, axis=-1)) / jnp.sum(taken)

    def _forward(self, policy: PyTree, observation: Array, dropout_key: Array | None = None) -> Array:
        rate = 0.0 if dropout_key is None else self.dropout
        network = self._network(int(policy["params"]["layers_1"]["bias"].shape[-1]), rate)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        return cast(Array, network.apply(policy, observation, rngs=rngs))

    def _distribution(self, outputs: Array) -> TanhGaussian:
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return TanhGaussian(mean, jnp.clip(log_std, self.log_std_min, self.log_std_max))

    def _outputs(self, action_size: int) -> int:
        return action_size if self.density == "deterministic" else 2 * action_size

    def _network(self, outputs: int, dropout: float) -> nn.Module:
        trunk = MLP(self.hidden_sizes, dropout=dropout, kernel_init=orthogonal())
        return nn.Sequential([trunk, nn.Dense(outputs, kernel_init=orthogonal())])

    def _adam(self) -> optax.GradientTransformation:
        # The step size is applied by `update`, as it follows the state's counter. Over one flat vector, as in SAC.
        return optax.flatten(optax.scale_by_adam())


def _agreement(score: Array, label: Array) -> Array:
    """[...] 1 where scores [..., 2] are in the label's order, 0 where in the other; 1/2 of ties."""
    order = jnp.sign(score[..., 1] - score[..., 0]) * jnp.sign(label - 0.5)
    return 0.5 + 0.5 * order
