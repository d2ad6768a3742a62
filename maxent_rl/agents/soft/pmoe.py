"""Soft Actor-Critic with several experts and a router among them: a policy that can hold several good actions.

Source: Probabilistic Mixture-of-Experts for Efficient Deep Reinforcement Learning (arXiv 2104.09122). The router is fitted to
how often each expert's action is the best one, and only that expert learns; other estimators of the literature stand behind
`router`, so that they can be compared. All order the update as SAC does (the authors move the temperature first), and all
but "attention" act by one expert, drawn from the router.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.experts import best_metrics, directions, router_metrics
from maxent_rl.agents.soft.base import PolicyLoss, SACState
from maxent_rl.agents.soft.sac import SAC
from maxent_rl.distributions import TanhGaussian, TanhGaussianMixture
from maxent_rl.errors import InvalidSettingError
from maxent_rl.networks import TanhGaussianMixturePolicy, TanhGaussianPolicy
from maxent_rl.settings import Count, Finite, Positive, Weight, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Transition
from maxent_rl.usage import above, unless, when

_SEVERAL = above(num_experts=1)
_RELAXED = ("gumbel", "straight_through")
_CHOOSING = _SEVERAL & when(router=("frequency", "score", "exact"))


@struct.dataclass
class PMOE(SAC):
    """Probabilistic mixture of experts: SAC whose policy is a mixture of tanh-Gaussians. With one expert it is SAC.

    The most likely action, with which the agent is evaluated, is the mean of the expert with the largest weight; the
    authors draw the expert there too (`experiments/evaluate.py --stochastic` draws expert and action).
    """

    router_weight: Positive = setting(1.0, used_when=_CHOOSING)
    """Weight of the router's loss beside the experts'."""
    relaxation: Positive = setting(1.0, used_when=_SEVERAL & when(router=_RELAXED))
    """Temperature of the Gumbel-softmax (routers gumbel and straight_through)."""
    expert_spread: Weight = setting(0.0, used_when=_SEVERAL)
    """How far from the middle the experts' means begin, before squashing; they lie in opposite and orthogonal directions."""
    expert_log_std: Finite = setting(0.0, used_when=_SEVERAL)
    """Natural logarithm of the standard deviation, before squashing, with which the experts begin."""

    num_experts: Count = static(4)
    """Experts (K); 1 is SAC, to the bit."""
    router: Literal["frequency", "score", "exact", "gumbel", "straight_through", "attention"] = static(
        "frequency", used_when=_SEVERAL
    )
    """How the router learns: frequency of being best (the paper); score function of a drawn expert; exact expected cost;
    Gumbel-softmax weights, soft or straight-through; or attention: experts mixed into one Gaussian, no choice at all."""
    expert_loss: Literal["chosen", "all"] = static("chosen", used_when=_CHOOSING)
    """Which experts learn in a state: the best (or drawn) one, or all of them, which makes them alike; not for gumbel."""
    density: Literal["component", "mixture"] = static("component", used_when=_SEVERAL & unless(router="attention"))
    """Whose log-probability counts as entropy: that of the expert that acts (the paper), or that of the whole mixture."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        relaxed = ("gumbel", "straight_through", "attention")
        if self.expert_loss == "all" and self.router in relaxed:
            raise InvalidSettingError(
                f"--expert-loss all does not go with --router {self.router}, in which every expert learns anyway."
            )
        if self.density == "mixture" and self.router == "attention":
            raise InvalidSettingError(
                "--density mixture does not go with --router attention, whose policy is one Gaussian."
            )
        if self.network == "simbav2" and self.num_experts > 1:
            raise InvalidSettingError(
                "--network simbav2 goes with --num-experts 1: its last layer is not one of experts."
            )
        super().check(spec, env)

    def experts(self, state: SACState, observation: Array) -> TanhGaussianMixture:
        """All experts and the router's weights at observations [..., observation]."""
        return self.mixture(state.policy, self._normalize(state, observation))

    def mixture(self, parameters: PyTree, observation: Array, train: bool = False) -> TanhGaussianMixture:
        """The mixture at normalised observations [..., observation]; with one expert, a mixture of that one."""
        if self.num_experts == 1:
            only = super().policy(parameters, observation, train)
            mean, log_std = only.mean[..., None, :], only.log_std[..., None, :]
            return TanhGaussianMixture(jnp.zeros(mean.shape[:-1]), mean, log_std)
        network = self._policy_network(self._action_size(parameters))
        features = self._policy_features(parameters, observation)
        bounds = self.log_std_min, self.log_std_max
        return cast(TanhGaussianMixture, network.apply(parameters, features, *bounds, train))

    def policy(  # type: ignore[override]
        self, parameters: PyTree, observation: Array, train: bool = False
    ) -> TanhGaussian | TanhGaussianMixture:
        """What acts: the mixture; its only expert; or, under "attention", the Gaussian that it is mixed into."""
        if self.num_experts == 1:
            return super().policy(parameters, observation, train)
        mixture = self.mixture(parameters, observation, train)
        if self.router != "attention":
            return mixture
        weights = jax.nn.softmax(mixture.logits)[..., None]
        deviation = jnp.sum(weights * jnp.exp(mixture.log_std), axis=-2)
        return TanhGaussian(jnp.sum(weights * mixture.mean, axis=-2), jnp.log(deviation))

    def draw(
        self, parameters: PyTree, observation: Array, noise: Array, key: Array, train: bool = False
    ) -> tuple[Array, Array]:
        """As `SAC.draw`; the key draws the expert."""
        policy = self.policy(parameters, observation, train)
        if isinstance(policy, TanhGaussian):
            return policy.from_noise(noise)
        return self._from_noise(policy, policy.expert(policy.router.sample(key)), noise)

    def update_policy(
        self, state: SACState, batch: Transition, noise: Array, key: Array
    ) -> tuple[SACState, Array, Metrics]:
        """Moves the experts towards what the critics value, and the router towards the better experts.

        Args:
          state: the state of one seed.
          batch: with leading axis [batch].
          noise: [expert, batch, action] standard normal; [1, batch, action] where the policy is one Gaussian.
          key: [] random key.
        """
        if not self._draws_expert:
            state, log_prob, metrics = super().update_policy(state, batch, noise, key)
            if self.num_experts > 1:
                metrics |= router_metrics(self.mixture(state.policy, batch.observation))
            return state, log_prob, metrics
        relaxed = self.router in ("gumbel", "straight_through")
        form = self._relaxed_loss if relaxed else self._chosen_loss
        return self._policy_step(state, form(state, batch, jnp.moveaxis(noise, 0, 1), key), batch.observation)

    def _chosen_loss(self, state: SACState, batch: Transition, noise: Array, key: Array) -> PolicyLoss:
        """One expert is chosen in each state and learns through the critics; the router learns from all experts' values."""
        choice_key, dropout_key = jax.random.split(key)
        temperature = self._temperature(state)

        def loss(policy: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            mixture = self.mixture(policy, batch.observation, train=True)
            actions, log_probs = self._from_noise(mixture, mixture.experts, noise)
            # Forward only: the critics' backward pass over all experts would cost as much again.
            candidates = actions if self.expert_loss == "all" else jax.lax.stop_gradient(actions)
            q = self._climbed(self.values(state.critics, batch.observation[:, None], candidates, dropout_key))
            costs = jax.lax.stop_gradient(losses.soft_policy_loss(q, log_probs, temperature))
            if self.router == "frequency":
                choice = jnp.argmax(q, axis=-1)
                router = losses.router_frequency_loss(mixture.logits, choice)
            elif self.router == "score":
                choice = mixture.router.sample(choice_key)
                router = losses.router_score_loss(mixture.logits, choice, costs)
            else:
                choice = mixture.router.sample(choice_key)
                # The density of the mixture holds the router's entropy already.
                own_entropy = temperature if self.density == "component" else 0.0
                router = losses.router_exact_loss(mixture.logits, costs, own_entropy)
            log_prob = _pick(log_probs, choice)
            if self.expert_loss == "all":
                expert = jnp.mean(losses.soft_policy_loss(q, log_probs, temperature), axis=-1)
            else:
                action = _pick(actions, choice)
                value = self._climbed(self.values(state.critics, batch.observation, action, dropout_key))
                expert = losses.soft_policy_loss(value, log_prob, temperature)
            metrics = {"router/loss": jnp.mean(router), **best_metrics(q), **router_metrics(mixture)}
            return jnp.mean(expert) + self.router_weight * jnp.mean(router), (log_prob, metrics)

        return loss

    def _relaxed_loss(self, state: SACState, batch: Transition, noise: Array, key: Array) -> PolicyLoss:
        """The action is a mean of all experts' actions, with Gumbel-softmax weights through which the router learns."""
        choice_key, dropout_key = jax.random.split(key)
        gumbel = jax.random.gumbel(choice_key, noise.shape[:2])

        def loss(policy: PyTree) -> tuple[Array, tuple[Array, Metrics]]:
            mixture = self.mixture(policy, batch.observation, train=True)
            weights = losses.gumbel_softmax(
                mixture.logits, gumbel, self.relaxation, hard=self.router == "straight_through"
            )
            actions, log_probs = self._from_noise(mixture, mixture.experts, noise)
            action, log_prob = jnp.sum(weights[..., None] * actions, axis=1), jnp.sum(weights * log_probs, axis=1)
            q = self._climbed(self.values(state.critics, batch.observation, action, dropout_key))
            loss = losses.soft_policy_loss(q, log_prob, self._temperature(state))
            return jnp.mean(loss), (log_prob, router_metrics(mixture))

        return loss

    def _from_noise(self, mixture: TanhGaussianMixture, drawn: TanhGaussian, noise: Array) -> tuple[Array, Array]:
        """Actions of one expert [batch, action], or of all [batch, expert, action], and the log-probabilities that count."""
        action, log_prob = drawn.from_noise(noise)
        if self.density == "component":
            return action, log_prob
        held = dataclasses.replace(mixture, logits=jax.lax.stop_gradient(mixture.logits))  # the router has its own loss
        pre_tanh = drawn.pre_tanh(noise)
        if pre_tanh.ndim == mixture.mean.ndim:
            return action, jax.vmap(held.log_prob_pre_tanh, in_axes=-2, out_axes=-1)(pre_tanh)
        return action, held.log_prob_pre_tanh(pre_tanh)

    def _initial_parameters(
        self, policy_key: Array, critic_keys: dict[str, Array], spec: Spec
    ) -> tuple[PyTree, PyTree]:
        policy, critics = super()._initial_parameters(policy_key, critic_keys, spec)
        if self.num_experts == 1:
            return policy, critics
        # Experts that begin alike tend to end alike: what helps one helps all, and the best of equals is chance.
        means = self.expert_spread * directions(jax.random.fold_in(policy_key, 1), self.num_experts, spec.action_size)
        bias = policy["params"]["head"]["bias"]
        log_stds = jnp.full(means.size, self.expert_log_std)
        policy["params"]["head"]["bias"] = bias + jnp.concatenate([means.ravel(), log_stds])
        return policy, critics

    @property
    def _draws_expert(self) -> bool:
        """Whether the policy is a mixture, not one Gaussian, which SAC's own code serves."""
        return self.num_experts > 1 and self.router != "attention"

    @property
    def _policy_draws(self) -> int:
        return self.num_experts if self._draws_expert else 1

    def _action_size(self, policy: PyTree) -> int:
        return super()._action_size(policy) // self.num_experts

    def _policy_network(self, action_size: int) -> TanhGaussianPolicy | TanhGaussianMixturePolicy:  # type: ignore[override]
        if self.num_experts == 1:
            return super()._policy_network(action_size)
        return TanhGaussianMixturePolicy(self._trunk(), action_size, self.num_experts, self.log_std_squash)


def _pick(values: Array, choice: Array) -> Array:
    """[batch, expert, ...] to [batch, ...], by the number [batch] of an expert."""
    index = choice.reshape(*choice.shape, *[1] * (values.ndim - choice.ndim))
    return jnp.take_along_axis(values, index, axis=1)[:, 0]
