"""PPO with several experts and a router among them: a policy that can hold several good actions.

Source: Probabilistic Mixture-of-Experts for Efficient Deep Reinforcement Learning (arXiv 2104.09122), in the on-policy
form of a co-author's code. Ratios are those of the whole mixture, so that experts and router learn from the clipped
surrogate; beside it the router is fitted to how often each expert's action is the best one by an action-value function,
or learns from those values in one of the other ways of `losses.router`.
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.experts import best_metrics, directions, router_metrics
from maxent_rl.agents.on_policy.minibatches import Samples
from maxent_rl.agents.on_policy.ppo import PPO, PPOState
from maxent_rl.distributions import Distribution, Gaussian, GaussianMixture
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.networks import GaussianMixturePolicy, encode, init_encoded
from maxent_rl.settings import Count, Positive, Weight, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec
from maxent_rl.usage import NEVER, above, unless

_SEVERAL = above(num_experts=1)
_Q = _SEVERAL & unless(router="policy_gradient")


@struct.dataclass
class PMOEPPO(PPO):
    """Probabilistic mixture of experts: PPO whose policy is a mixture of Gaussians. With one expert it is PPO.

    The router is a head on the experts' trunk. The surrogate's gradient flows through it into the trunk, as policy
    gradients do; that of the router's own loss stays in the head, so that it never moves the experts (the authors give
    the router a layer of its own on the observation, to the same end).

    The most likely action, with which the agent is evaluated, is the mean of the expert with the largest weight.
    """

    makes_several_choices: ClassVar[bool] = False

    router_weight: Positive = setting(1.0, used_when=_Q)
    """Weight of the router's own loss."""
    q_weight: Positive = setting(1.0, used_when=_Q)
    """Weight of the action-value function's loss."""
    expert_spread: Weight = setting(0.0, used_when=_SEVERAL)
    """How far from the middle the experts' means begin, in actions; they lie in opposite and orthogonal directions."""

    action_distribution: Literal["auto", "gaussian", "tanh_gaussian", "categorical"] = static("auto", used_when=NEVER)
    """Always Gaussians without tanh."""
    num_experts: Count = static(4)
    """Experts (K); 1 is PPO, to the bit. A co-author's code has 5."""
    router: Literal["frequency", "score", "exact", "policy_gradient"] = static("frequency", used_when=_SEVERAL)
    """What the router learns from beside the surrogate: frequency of being best (the paper); score function of a drawn
    expert; exact expected value; or, with policy_gradient, nothing, and then no action values are learned."""

    def check(self, spec: Spec, env: str) -> None:
        """Refuses environments and settings that cannot work; see `agents.check_agent`."""
        if spec.num_actions is not None:
            raise IncompatibleEnvironmentError(
                f"pmoe-ppo needs continuous actions (a Box action space), but {env} has {spec.num_actions} discrete ones: "
                "use --agent ppo."
            )
        if self.action_distribution == "tanh_gaussian" or self.state_dependent_std:
            raise InvalidSettingError(
                "The experts of pmoe-ppo are Gaussians without tanh whose widths do not depend on the observation: leave out "
                "--action-distribution tanh_gaussian and --state-dependent-std, or use --agent ppo."
            )
        super().check(spec, env)

    def init_parameters(self, key: Array, spec: Spec) -> dict[str, PyTree]:
        """Draws the parameters of every network, by name: those of PPO, and "q" where action values are learned."""
        parameters = super().init_parameters(key, spec)
        if self.num_experts == 1:
            return parameters
        spread_key, q_key = jax.random.split(jax.random.fold_in(key, 1))
        # Experts that begin alike tend to end alike: what helps one helps all, and the best of equals is chance.
        means = self.expert_spread * directions(spread_key, self.num_experts, spec.action_size)
        parameters["policy"]["params"]["head"]["bias"] += means.ravel()
        if self._learns_q:
            both = jnp.zeros(spec.observation_shape), jnp.zeros(spec.action_shape)
            parameters["q"] = init_encoded(self._value_network(), q_key, spec.frames, *both)
        return parameters

    def policy(self, parameters: dict[str, PyTree], observation: Array) -> Distribution:
        """The mixture at normalised observations [..., observation]; with one expert, its Gaussian."""
        if self.num_experts == 1:
            return super().policy(parameters, observation)
        network = self._policy_network(parameters["policy"]["params"]["log_std"].shape[-1], discrete=False)
        return cast(GaussianMixture, network.apply(parameters["policy"], encode(parameters["policy"], observation)))

    def experts(self, state: PPOState, observation: Array) -> GaussianMixture:
        """All experts and the router's weights at observations [..., observation]; with one expert, a mixture of it."""
        policy = self.distribution(state, observation)
        if isinstance(policy, GaussianMixture):
            return policy
        only = cast(Gaussian, policy)
        mean, log_std = only.mean[..., None, :], only.log_std[..., None, :]
        return GaussianMixture(jnp.zeros(mean.shape[:-1]), mean, log_std)

    def q(self, parameters: dict[str, PyTree], observation: Array, action: Array) -> Array:
        """The value of actions [..., action] at normalised observations [..., observation]: [...] as `value`.

        Actions count as drawn, not as an environment clips them: clipped ones would be equal, and of equals the first
        expert is the best.
        """
        features = encode(parameters["q"], observation)
        return cast(Array, self._value_network().apply(parameters["q"], features, action))

    def extra_loss(
        self, parameters: dict[str, PyTree], samples: Samples, policy: Distribution, key: Array
    ) -> tuple[Array | float, Metrics]:
        """The router's own loss and that of the action values; arguments as of `PPO.extra_loss`."""
        if self.num_experts == 1:
            return super().extra_loss(parameters, samples, policy, key)
        metrics = router_metrics(cast(GaussianMixture, policy))
        if not self._learns_q:
            return 0.0, metrics
        router, router_loss_metrics = self._router_loss(parameters, samples.observation, key)
        target = samples.advantage + samples.value
        q_loss = jnp.mean((self.q(parameters, samples.observation, samples.action) - target) ** 2)
        metrics |= {"critic/q_loss": q_loss, "router/loss": router, **router_loss_metrics}
        return self.router_weight * router + self.q_weight * q_loss, metrics

    def _router_loss(self, parameters: dict[str, PyTree], observation: Array, key: Array) -> tuple[Array, Metrics]:
        """What the router learns from the values of one action of each expert; its gradient is 0 but in the router's head."""
        sample_key, choice_key = jax.random.split(key)
        weights = parameters["policy"]["params"]
        held = {**jax.lax.stop_gradient(weights), "router": weights["router"]}
        # The same numbers as the surrogate's mixture: compiled, there is one forward pass.
        mixture = cast(GaussianMixture, self.policy({"policy": {"params": held}}, observation))
        actions = mixture.experts.sample(sample_key)
        q = self.q(jax.lax.stop_gradient(parameters), observation[:, None], actions)
        if self.router == "frequency":
            loss = losses.router_frequency_loss(mixture.logits, jnp.argmax(q, axis=-1))
        elif self.router == "score":
            loss = losses.router_score_loss(mixture.logits, mixture.router.sample(choice_key), -q)
        else:
            loss = losses.router_exact_loss(mixture.logits, -q)
        return jnp.mean(loss), best_metrics(q)

    @property
    def _learns_q(self) -> bool:
        """Whether the router's loss needs action values."""
        return self.num_experts > 1 and self.router != "policy_gradient"

    def _policy_network(self, size: int | tuple[int, ...], discrete: bool) -> nn.Module:
        if self.num_experts == 1:
            return super()._policy_network(size, discrete)
        assert isinstance(size, int)
        return GaussianMixturePolicy(self.hidden_sizes, self.activation, size, self.num_experts)
