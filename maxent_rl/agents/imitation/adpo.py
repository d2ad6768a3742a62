"""Anchored distillation of a trained policy into a student, from fixed states and candidate actions.

Source: ADPO: Anchored Direct Preference Optimization (arXiv 2510.18913), continuous-control distillation. Knowledge
distillation and behaviour cloning are settings of the same code. Densities are those before squashing: the Jacobian is the
same for student, anchor and teacher.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.distributions import Categorical, Distribution, Gaussian, TanhGaussian
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import (
    Anchor,
    AnchorName,
    AnchorState,
    CategoricalPolicy,
    RunningStatistics,
    TanhGaussianPolicy,
    TrunkPlan,
)
from maxent_rl.settings import Count, Finite, Fraction, Positive, Settings, setting, static
from maxent_rl.types import Array, CandidateSets, Learns, Metrics, PyTree, Spec
from maxent_rl.usage import CONTINUOUS, unless, when

_ANCHORED = when(method="adpo")
_RANKING = unless(method="bc")


@struct.dataclass
class ADPOState:
    """All that learning changes.

    Attributes:
      policy: parameters of the student.
      anchor: what the student is measured against.
      optimizer: Adam's state.
      normalizer: statistics of observations, or None without normalisation.
      action_size: entries of a continuous action, or None.
      num_actions: discrete actions, or None.
    """

    policy: PyTree
    anchor: AnchorState | None
    optimizer: optax.OptState | None
    normalizer: RunningStatistics | None
    action_size: int | None = static(None)
    num_actions: int | None = static(None)


@struct.dataclass
class ADPO(Settings):
    """Distils a teacher (`--teacher RUN`): a student ranks candidate actions as the teacher does, relative to an anchor."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "teacher"
    run_defaults: ClassVar[dict[str, Any]] = {"total_steps": 20_000}

    learning_rate: Positive = 1e-3
    """Adam's step size."""
    anchoring_temperature: Positive = setting(4.0, used_when=_ANCHORED)
    """Anchoring temperature (tau); the smaller, the nearer the student stays to its anchor."""
    teacher_temperature: Positive = setting(1.0, used_when=when(method="kd") | when(method="adpo", target="teacher"))
    """Temperature of the teacher's log-probabilities where the target is the teacher's alone (T)."""
    anchor_every: Count = setting(1_000, used_when=when(method="adpo", anchor="copy"))
    """Updates between copies of the student into the anchor, with --anchor copy."""
    anchor_decay: Fraction = setting(0.99, used_when=when(method="adpo", anchor="ema"))
    """Share of the anchor that stays in each update, with --anchor ema."""
    anchor_threshold: Positive = setting(0.1, used_when=when(method="adpo", anchor="kl"))
    """Mean of |log-probability - that under the anchor|, in nats, above which --anchor kl copies the student."""
    log_std_min: Finite = setting(-20.0, used_when=CONTINUOUS)
    """Lower bound of the student's log standard deviation before squashing."""
    log_std_max: Finite = setting(2.0, used_when=CONTINUOUS)
    """Upper bound of the student's log standard deviation before squashing."""

    method: Literal["adpo", "kd", "bc"] = static("adpo")
    """adpo; kd: the teacher's softmax with a uniform anchor; bc: likelihood of the teacher's own actions."""
    target: Literal["teacher_over_anchor", "teacher"] = static("teacher_over_anchor", used_when=_ANCHORED)
    """What the target distribution weighs: the teacher relative to the anchor, which leads to the teacher whatever the
    anchor, or the teacher alone, which leads to anchor x teacher^(anchoring-temperature / teacher-temperature)."""
    target_shape: Literal["softmax", "kde", "rank"] = static("softmax", used_when=_RANKING)
    """From scores to the target: their softmax, or one of their places in the set, smoothed or as ranks."""
    loss: Literal["listwise", "pairs", "hard-pairs", "ranking"] = static("listwise", used_when=_RANKING)
    """Cross-entropy over the set, soft or hard labels for all pairs, or the whole ranking (Plackett-Luce)."""
    anchor: AnchorName = static("fixed", used_when=_ANCHORED)
    """uniform: none; fixed: the student as it began; copy, ema, kl: follows the student."""
    temperature_rule: Literal["fixed", "falling"] = static("fixed", used_when=_RANKING)
    """Whether the anchoring temperature falls as the target spreads."""
    standardize: bool = static(False, used_when=_RANKING)
    """Divide scores and log-ratios by their standard deviation within each set, which leaves open how far the student goes
    from its anchor."""
    density: Literal["tanh", "gaussian"] = static("tanh", used_when=CONTINUOUS)
    """Kind of a continuous student: tanh for teachers such as sac, gaussian for those of ppo. Discrete ones need none."""
    hidden_sizes: tuple[Count, ...] = static((256, 256))
    """Width of each hidden layer (mlp) or residual block (simba) of the student."""
    network: Literal["mlp", "simba"] = static("mlp")
    """Plain layers with ReLU, or residual blocks with layer normalisation (SimBa)."""
    normalize_observations: bool = static(False)
    """Scale observations to mean 0 and variance 1 by running statistics of the batches."""
    batch_size: Count = static(256)
    """States in a batch."""
    num_states: Count = static(50_000)
    """States of the teacher's episodes to learn from."""
    held_out_states: Count = static(5_000)
    """States of other episodes, on which the divergence from the teacher is measured."""
    num_candidates: Count = static(8, used_when=CONTINUOUS)
    """Candidate actions of each state, half of them drawn from the teacher; all actions where they are discrete."""
    proposal: Literal["broad", "uniform"] = static("broad", used_when=CONTINUOUS)
    """Where the other half comes from: the teacher with twice its standard deviation, or uniform actions."""
    data_seed: int = static(0)
    """Decides states and candidates, which are the same for all seeds of a run."""
    teacher_seed: int | None = static(None)
    """Which of the teacher's seeds; None for its first."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is None:
            check_candidates(self.num_candidates)
        if self.network == "simba" and len(set(self.hidden_sizes)) != 1:
            raise InvalidSettingError("--network simba needs equal --hidden-sizes: a residual stream has one width.")
        if not self.log_std_min < self.log_std_max:
            raise InvalidSettingError("--log-std-min must be less than --log-std-max.")
        if self.data_seed < 0:
            raise InvalidSettingError("--data-seed must be at least 0.")

    def init(self, key: Array, spec: Spec) -> ADPOState:
        """Builds the student of one seed; the anchor begins as the student."""
        sizes = (None, spec.num_actions) if spec.num_actions is not None else (spec.action_size, None)
        observation = jnp.zeros((1, spec.observation_size))
        policy = self._network(*sizes).init(key, observation, *self._bounds(sizes[0]))
        return ADPOState(
            policy=policy,
            anchor=self._anchor.init(policy),
            optimizer=self._optimizer().init(policy),
            normalizer=RunningStatistics.create(spec.observation_size) if self.normalize_observations else None,
            action_size=sizes[0],
            num_actions=sizes[1],
        )

    def act(self, state: ADPOState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [..., action]."""
        return self.distribution(state, observation).sample(key)

    def mode(self, state: ADPOState, observation: Array) -> Array:
        """Chooses the most likely actions: [..., observation] to [..., action]."""
        return self.distribution(state, observation).mode()

    def distribution(self, state: ADPOState, observation: Array) -> Distribution:
        """The student's distribution over the environment's actions at observations [..., observation]."""
        policy = self.unsquashed(state, state.policy, self._normalize(state, observation))
        if isinstance(policy, Categorical) or self.density == "gaussian":
            return policy
        return TanhGaussian(policy.mean, policy.log_std)

    def unsquashed(self, state: ADPOState, parameters: PyTree, observation: Array) -> Gaussian | Categorical:
        """A policy before squashing, at normalised observations [..., observation]."""
        network = self._network(state.action_size, state.num_actions)
        found = network.apply(parameters, observation, *self._bounds(state.action_size))
        if state.num_actions is not None:
            return cast(Categorical, found)
        squashed = cast(TanhGaussian, found)
        return Gaussian(squashed.mean, squashed.log_std)

    def acting(self, state: ADPOState) -> ADPOState:
        """The state without what only learning needs."""
        return dataclasses.replace(state, anchor=None, optimizer=None)

    def update(self, state: ADPOState, batch: CandidateSets, key: Array) -> tuple[ADPOState, Metrics]:
        """Takes one gradient step towards the target, and lets the anchor follow.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          key: [] not used.

        Returns:
          (state, metrics): all in nats.
        """
        if state.normalizer is not None:
            state = dataclasses.replace(state, normalizer=state.normalizer.add(batch.observation))
        observation = self._normalize(state, batch.observation)
        anchor_log_prob = self._anchor_log_prob(state, observation, batch.candidates)

        def loss(policy: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            student = self.unsquashed(state, policy, observation)
            log_prob = candidate_log_prob(student, batch.candidates)
            metrics: Metrics = {}
            if self.method == "bc":
                value = -losses.masked_mean(log_prob, batch.drawn)
            else:
                value, metrics = self._anchored(log_prob, anchor_log_prob, batch)
            return value, (log_prob, metrics | {"student/entropy": jnp.mean(student.entropy())})

        (value, (log_prob, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.policy)
        divergence = jnp.mean(jnp.abs(log_prob - anchor_log_prob))
        anchor = self._anchor.update(cast(AnchorState, state.anchor), state.policy, divergence)
        step, optimizer = self._optimizer().update(gradient, state.optimizer)
        state = dataclasses.replace(
            state, policy=optax.apply_updates(state.policy, step), anchor=anchor, optimizer=optimizer
        )
        return state, {"loss": value, "anchor/log_ratio": divergence, **metrics}

    def examine(self, state: ADPOState, held_out: CandidateSets) -> Metrics:
        """How near the student is to its teacher on states that it does not learn from.

        Args:
          state: the state of one seed.
          held_out: with leading axis [state].

        Returns:
          `kl`: KL(teacher || student) in nats, before squashing (of a teacher with several modes, that of the Gaussian with
          its moments); `ndcg`: of the student's ranking of the candidates, by the teacher's log-probability above the least;
          `entropy`: of the student, in nats, before squashing.
        """
        observation = self._normalize(state, held_out.observation)
        student = self.unsquashed(state, state.policy, observation)
        if isinstance(student, Categorical):
            divergence = Categorical(held_out.teacher).divergence(student)
        else:
            divergence = Gaussian(*jnp.split(held_out.teacher, 2, axis=-1)).divergence(student)
        scores = held_out.teacher_log_prob
        relevance = scores - jnp.min(scores, axis=-1, keepdims=True)
        gain = losses.normalized_discounted_gain(relevance, candidate_log_prob(student, held_out.candidates))
        return {"kl": jnp.mean(divergence), "ndcg": jnp.mean(gain), "entropy": jnp.mean(student.entropy())}

    def _anchored(self, log_prob: Array, anchor_log_prob: Array, batch: CandidateSets) -> tuple[Array, Metrics]:
        """The mean loss and what is told of it, from log-probabilities [batch, P]."""
        temperature: Any = self.teacher_temperature if self.method == "kd" else self.anchoring_temperature
        relative = self.method == "adpo" and self.target == "teacher_over_anchor"
        scores = batch.teacher_log_prob - anchor_log_prob if relative else batch.teacher_log_prob
        score_temperature = temperature if relative else self.teacher_temperature
        target = self._target(scores, score_temperature)
        if self.temperature_rule == "falling":
            temperature = losses.falling_temperature(target, temperature, least=0.1 * temperature)
            if relative:
                # Both sides at one temperature: then the student meets the target where it is the teacher, and only there.
                score_temperature, target = temperature, self._target(scores, temperature)
        logits = losses.anchored_logits(log_prob, anchor_log_prob, temperature, standardize=self.standardize)
        listwise = losses.anchored_loss(logits, target)
        metrics = target_metrics(listwise, target)
        if self.loss == "listwise":
            return jnp.mean(listwise), metrics
        if self.loss == "ranking":
            return jnp.mean(losses.plackett_luce_loss(logits, scores)), metrics
        soft = score_temperature if self.loss == "pairs" else None
        return losses.masked_mean(*losses.anchored_pair_loss(logits, scores, soft)), metrics

    def _target(self, scores: Array, temperature: Any) -> Array:
        """Probabilities [batch, P] from scores [batch, P], at a temperature [] or [batch, 1]."""
        if self.target_shape == "softmax":
            return losses.softmax_target(scores, temperature, self.standardize)
        return (losses.kde_target if self.target_shape == "kde" else losses.rank_target)(scores, temperature)

    def _anchor_log_prob(self, state: ADPOState, observation: Array, candidates: Array) -> Array:
        """[batch, P] under the anchor; 0 where it is uniform."""
        anchor = cast(AnchorState, state.anchor)
        if anchor.params is None:
            return jnp.zeros(candidates.shape[: observation.ndim])
        return candidate_log_prob(self.unsquashed(state, anchor.params, observation), candidates)

    @property
    def _anchor(self) -> Anchor:
        kind = "uniform" if self.method in ("kd", "bc") else self.anchor
        return Anchor(kind, self.anchor_every, self.anchor_decay, self.anchor_threshold)

    def _network(self, action_size: int | None, num_actions: int | None) -> Any:
        trunk = TrunkPlan(self.network, self.hidden_sizes)
        if num_actions is not None:
            return CategoricalPolicy(trunk, num_actions)
        assert action_size is not None
        return TanhGaussianPolicy(trunk, action_size)

    def _bounds(self, action_size: int | None) -> tuple[Any, ...]:
        return () if action_size is None else (self.log_std_min, self.log_std_max)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.flatten(optax.adam(self.learning_rate))

    def _normalize(self, state: ADPOState, observation: Array) -> Array:
        return observation if state.normalizer is None else state.normalizer.normalize(observation)


def candidate_log_prob(policy: Any, candidates: Array) -> Array:
    """Log-probabilities [..., P], in nats, of candidates [..., P] or [..., P, action] at [...] observations."""
    spread = jax.tree.map(lambda leaf: leaf[..., None, :], policy)
    found: Array = spread.log_prob(candidates)
    return found


def target_metrics(listwise: Array, target: Array) -> Metrics:
    """How far the policy is from its target, and how spread that is, from losses [...] and probabilities [..., P]."""
    entropy = losses.probability_entropy(target)
    return {"target/divergence": jnp.mean(listwise - entropy), "target/entropy": jnp.mean(entropy)}


def check_candidates(count: int) -> None:
    """Refuses sets of candidates from which nothing can be learned.

    Raises:
      InvalidSettingError: fewer than two.
    """
    if count < 2:
        raise InvalidSettingError(
            "--num-candidates must be at least 2: a set of one candidate says nothing about which is better."
        )
