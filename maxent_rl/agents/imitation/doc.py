"""Dichotomy of control: imitation told what to do by a latent of the future that knows nothing of luck.

A policy conditioned on a high return imitates those who were lucky. Here it is conditioned on a latent z of what followed,
and z must not carry information on what the environment decided: given past and action it is to be independent of the reward
and of the next state. Then the value V(z) learned with it is what acting by z really brings, and the best z is worth taking.

Source: Dichotomy of Control: Separating What You Can Control from What You Cannot (arXiv 2210.13435), by its equations; the
released code differs from them where `docs/offline.md` says.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.imitation.history import History
from maxent_rl.agents.imitation.sequence import (
    SequenceAgent,
    SequenceState,
    action_inputs,
    action_loss,
    action_outputs,
    adam,
    cleared,
    flat,
    limited,
    normalized,
)
from maxent_rl.distributions import Categorical, Gaussian
from maxent_rl.errors import DataError
from maxent_rl.losses import masked_mean
from maxent_rl.networks import FutureReader, HistoryReader, LatentPolicy, OutcomeEnergy
from maxent_rl.settings import Count, Interval, NonNegative, Positive, Weight, setting, static
from maxent_rl.types import Array, Metrics, PyTree, Spec, Windows
from maxent_rl.usage import when

_CONSTRAINED = when(future_vae=False)

LatentLaw: TypeAlias = Gaussian | Categorical
_LOG_STD = (-5.0, 2.0)  # bounds, of posterior and prior


@struct.dataclass
class DoCMemory:
    """What is remembered of an episode.

    Attributes:
      history: the last steps.
      latent: [..., latent] by which the last action was chosen; zeros where it is drawn anew for each.
    """

    history: History
    latent: Array


@struct.dataclass
class DoCState(SequenceState):
    """All that learning changes, and what acting draws latents from.

    Attributes:
      noise: [num_latents, latent] the random numbers behind the latents among which acting chooses, the same all along.
      energy: parameters of the energy; None where it only acts.
      energy_optimizer: Adam's state of it; likewise.
      rewards: [reward_levels] the rewards of the data, for --outcomes rewards.
      reward_log_probs: [reward_levels] logarithms of how often each is, minus infinity for those that there are not.
    """

    noise: Array
    energy: PyTree
    energy_optimizer: optax.OptState | None
    rewards: Array
    reward_log_probs: Array


class EnergyTerms(NamedTuple):
    """How well outcomes are told, in nats, in the mean over the future's steps.

    How much better they are told with the latent than without is the conditional information of the constraint.

    Attributes:
      told: [] with the latent, which is the constraint.
      untold: [] without it.
    """

    told: Array
    untold: Array

    @property
    def metrics(self) -> Metrics:
        """By the names of metrics.csv."""
        return {
            "energy/term": self.told,
            "energy/term_without_latent": self.untold,
            "energy/conditional_information": self.told - self.untold,
        }


@struct.dataclass
class DoC(SequenceAgent[DoCState]):
    """Dichotomy of control, for discrete actions (cross-entropy) and continuous ones (squared distance)."""

    beta: Weight = setting(1.0, used_when=_CONSTRAINED)
    """Weight of the constraint that the latent knows nothing of outcomes."""
    beta_start: Weight = setting(0.1, used_when=_CONSTRAINED)
    """Weight of it at the beginning, where that is less."""
    anneal_steps: Count = setting(1_000, used_when=_CONSTRAINED)
    """Updates over which the weight rises; a tenth of the run is a good choice."""
    prior_weight: Weight = 1.0
    """Weight of the prior's loss."""
    value_weight: Weight = 1.0
    """Weight of the value's loss."""
    energy_learning_rate: Positive = 1e-3
    """Adam's step size for the energy."""

    discount: Annotated[float, Interval(0, 1, low_open=True)] = static(1.0)
    """Factor of later rewards in the returns that latents are judged by; structural, as the data's returns are summed with
    it once."""
    ahead: Count = static(20)
    """Steps from the present one on, itself included, that a latent is made of."""
    latent: Literal["gaussian", "categorical"] = static("categorical")
    """What a latent is: a categorical one, drawn straight-through, can have several modes, which a Gaussian prior cannot."""
    latent_size: Count = static(32)
    """Entries of a Gaussian latent, or number of categories."""
    num_latents: Count = static(100)
    """Latents of the prior among which acting takes the one of highest value."""
    redraw: NonNegative = static(1)
    """Steps that a latent is kept in acting; 0 for the whole episode."""
    head_sizes: tuple[Count, ...] = static((256, 256))
    """Width of each hidden layer of policy, value and energy behind the readers."""
    energy_steps: Count = static(5, used_when=when(adversary="ascent"))
    """Ascents of the energy before each update, for --adversary ascent."""
    adversary: Literal["ascent", "reversal"] = static("ascent")
    """reversal: one step of everything, with the gradient turned round between energy and latent; cheaper, and less exact."""
    outcomes: Literal["batch", "rewards"] = static("batch")
    """What outcomes are measured against: (reward, next state) of the batch, or all rewards of the data and nothing else."""
    outcome_samples: Count = static(256, used_when=when(outcomes="batch"))
    """Outcomes of the batch, drawn for each update, that an outcome is told from; all of them where there are fewer."""
    reward_levels: Count = static(2, used_when=when(outcomes="rewards"))
    """Most different rewards that the data has, for --outcomes rewards."""
    future_vae: bool = static(False)
    """Leave the constraint out, and let the prior's loss shape the latent instead (Future-VAE)."""
    value_shapes_latent: bool = static(True)
    """Let the gradient of the value's loss reach the latent."""

    def init(self, key: Array, spec: Spec) -> DoCState:
        """Builds the state of one seed.

        Args:
          key: [] random key.
          spec: the environment's shapes.
        """
        blank = SequenceState.fresh(spec)
        history = self._start_history(blank, (1,))
        window = flat(history.window(jnp.zeros((1, spec.observation_size)), jnp.zeros(1)))
        past, latent, outcome = (
            self._past(blank, window),
            jnp.zeros((1, self.latent_size)),
            self._outcome(blank, window),
        )
        networks, keys = self._networks(blank, 0.0), jax.random.split(key, 5)
        parameters = {
            "posterior": networks["posterior"].init(keys[0], *self._future(blank, window)),
            "prior": networks["prior"].init(keys[1], *past),
            "policy": networks["policy"].init(keys[2], latent, *past),
        }
        energy = networks["energy"].init(keys[3], latent, outcome, outcome[0], *past)
        draw = jax.random.normal if self.latent == "gaussian" else jax.random.gumbel
        return DoCState.fresh(
            spec,
            parameters,
            noise=draw(keys[4], (self.num_latents, self.latent_size)),
            energy=energy,
            energy_optimizer=adam().init(energy),
            rewards=jnp.zeros(self.reward_levels),
            reward_log_probs=jnp.full(self.reward_levels, -math.log(self.reward_levels)),
        )

    def check_data(self, data: Any) -> None:
        """Refuses data with more rewards than there is room for; see `agents.base.ChecksData`."""
        count = len(np.unique(np.asarray(data.reward)))
        if self.outcomes == "rewards" and count > self.reward_levels:
            raise DataError(
                f"The data has {count} different rewards, more than --reward-levels {self.reward_levels}: raise it, or take "
                "--outcomes batch."
            )

    def begin(self, state: DoCState, data: Any) -> DoCState:
        """Takes from the data how observations, returns and rewards spread."""
        state = super().begin(state, data)
        rewards, counts = jnp.unique(data.reward, size=self.reward_levels, fill_value=jnp.nan, return_counts=True)
        log_probs = jnp.log(counts / jnp.sum(counts))
        return dataclasses.replace(state, rewards=jnp.nan_to_num(rewards), reward_log_probs=log_probs)

    def acting(self, state: DoCState) -> DoCState:
        """The state without what only learning needs."""
        parameters = {name: value for name, value in state.parameters.items() if name != "posterior"}
        state = super().acting(state)
        nothing: dict[str, Any] = dict.fromkeys(("energy", "energy_optimizer", "rewards", "reward_log_probs"))
        return dataclasses.replace(state, parameters=parameters, **nothing)

    def memory(self, state: DoCState, batch_shape: tuple[int, ...]) -> DoCMemory:
        """See `agents.base.Remembers`."""
        return DoCMemory(self._start_history(state, batch_shape), jnp.zeros((*batch_shape, self.latent_size)))

    def remember(
        self, state: DoCState, memory: DoCMemory, observation: Array, action: Array, reward: Array
    ) -> DoCMemory:
        """See `agents.base.Remembers`."""
        latent = memory.latent
        if self.redraw != 1:
            latent = self._choose(self.recalling(state, memory), observation)[1]
        return DoCMemory(memory.history.push(observation, action, reward, jnp.zeros_like(reward)), latent)

    def outputs_now(self, state: DoCState, observation: Array) -> Array:
        """As of the family, by the best latent."""
        return self._choose(state, observation)[0]

    def promise(self, state: DoCState, observation: Array) -> Array:
        """The return [...] from observations on that the best latent promises, after what is remembered."""
        return self._choose(state, observation)[2]

    def _choose(self, state: DoCState, observation: Array) -> tuple[Array, Array, Array]:
        """Policy outputs [..., outputs], the latent [..., latent] they follow from, and the best new latent's value [...]."""
        leading = observation.shape[:-1]
        memory = self.memory(state, leading) if state.memory is None else state.memory
        past = self._past(state, flat(memory.history.window(observation, jnp.zeros(leading))))
        networks = self._networks(state, 0.0)
        law = self._law(networks["prior"].apply(state.parameters["prior"], *past)[:, -1, None])
        latents = self._draw(law, state.noise)

        def heads(features: Array, latent: Array) -> tuple[Array, Array]:
            network, parameters = networks["policy"], state.parameters["policy"]
            return cast(tuple[Array, Array], network.apply(parameters, features, latent, method="heads"))

        features = networks["policy"].apply(state.parameters["policy"], *past, method="features")[:, -1]
        repeated = jnp.broadcast_to(features[:, None], (*latents.shape[:2], features.shape[-1]))
        values = heads(repeated, latents)[1]
        best = jnp.take_along_axis(latents, jnp.argmax(values, axis=1)[:, None, None], axis=1)[:, 0]
        fresh = best.reshape(*leading, -1)
        renew = memory.history.step % self.redraw == 0 if self.redraw else memory.history.step == 0
        latent = jnp.where(renew[..., None], fresh, memory.latent)
        outputs = heads(features, latent.reshape(best.shape))[0]
        return outputs.reshape(*leading, -1), latent, (state.return_scale * jnp.max(values, axis=1)).reshape(leading)

    def update(self, state: DoCState, batch: Windows, key: Array) -> tuple[DoCState, Metrics]:
        """Some ascents of the energy, then one descent of policy, value, posterior and prior.

        Args:
          state: the state of one seed.
          batch: [batch] windows.
          key: [] of latents and dropout.

        Returns:
          (state, metrics): losses and information in nats, the value's in squared shares of the largest return.
        """
        batch = cleared(batch)
        if self.adversary == "ascent":
            state = self._ascend(state, batch, key)
        beta = self._beta(state)

        def loss(parameters: PyTree, energy: PyTree) -> tuple[Array, Metrics]:
            latent, own, metrics = self._own_losses(state, parameters, batch, key)
            if self.adversary == "ascent":
                terms = self._energy_terms(state, energy, latent, batch, key)
                constraint = beta * terms.told
            else:
                terms = self._energy_terms(state, energy, losses.reverse_gradient(latent, beta), batch, key)
                constraint = -terms.told - terms.untold
            return own + constraint, metrics | terms.metrics | {"energy/beta": beta}

        (gradient, energy_gradient), metrics = jax.grad(loss, argnums=(0, 1), has_aux=True)(
            state.parameters, state.energy
        )
        if self.adversary == "reversal":
            state = self._descend_energy(state, energy_gradient)
        return self._descend(state, gradient), metrics

    def _own_losses(
        self, state: DoCState, parameters: PyTree, batch: Windows, key: Array
    ) -> tuple[Array, Array, Metrics]:
        """A latent of each window [B, latent], and what is descended beside the constraint."""
        present = _present(batch)
        latent, posterior = self._posterior(state, parameters, batch, key)
        outputs, values = self._apply(state, "policy", parameters["policy"], key, latent, *self._past(state, batch))
        imitation = masked_mean(action_loss(state, outputs, batch.action), batch.future)
        if not self.value_shapes_latent:
            held = jax.lax.stop_gradient(latent)
            values = self._apply(state, "policy", parameters["policy"], key, held, *self._past(state, batch))[1]
        value = jnp.mean(jnp.sum(present * (values - batch.return_to_go / state.return_scale) ** 2, axis=1))
        prior = self._apply(state, "prior", parameters["prior"], key, *self._past(state, batch))
        prior_law = self._law(jnp.sum(present[..., None] * prior, axis=1))
        law: Any = posterior if self.future_vae else jax.lax.stop_gradient(posterior)
        divergence = jnp.mean(law.divergence(prior_law))
        total = imitation + self.value_weight * value + self.prior_weight * divergence
        return latent, total, {"policy/loss": imitation, "value/loss": value, "prior/kl": divergence}

    def _ascend(self, state: DoCState, batch: Windows, key: Array) -> DoCState:
        """Has the energy tell outcomes better, with the latents held."""
        latent = jax.lax.stop_gradient(self._posterior(state, state.parameters, batch, key)[0])

        def negative(energy: PyTree) -> Array:
            terms = self._energy_terms(state, energy, latent, batch, key)
            return -terms.told - terms.untold

        def ascend(_: Array, state: DoCState) -> DoCState:
            return self._descend_energy(state, jax.grad(negative)(state.energy))

        ascended: DoCState = jax.lax.fori_loop(0, self.energy_steps, ascend, state)
        return ascended

    def _energy_terms(self, state: DoCState, energy: PyTree, latent: Array, batch: Windows, key: Array) -> EnergyTerms:
        """How well the energy tells the future's outcomes, with the latent and without it."""
        outcome = self._outcome(state, batch)
        if self.outcomes == "rewards":
            outcomes, log_weight = (state.rewards / state.return_scale)[:, None], state.reward_log_probs
        else:
            outcomes, valid = outcome.reshape(-1, outcome.shape[-1]), batch.future.reshape(-1)
            if len(valid) > self.outcome_samples:
                drawn = jax.random.randint(jax.random.fold_in(key, 1), (self.outcome_samples,), 0, len(valid))
                outcomes, valid = outcomes[drawn], valid[drawn]
            log_weight = jnp.where(valid > 0, -jnp.log(jnp.sum(valid)), -jnp.inf)
        found = self._apply(state, "energy", energy, key, latent, outcome, outcomes, *self._past(state, batch))
        told, untold = (
            masked_mean(losses.energy_term(observed, sampled, log_weight), batch.future)
            for observed, sampled in (found[:2], found[2:])
        )
        return EnergyTerms(told, untold)

    def _descend_energy(self, state: DoCState, gradient: PyTree) -> DoCState:
        direction, optimizer = adam().update(limited(gradient, self.clip_norm), state.energy_optimizer)
        energy = jax.tree.map(lambda old, moved: old - self.energy_learning_rate * moved, state.energy, direction)
        return dataclasses.replace(state, energy=energy, energy_optimizer=optimizer)

    def _beta(self, state: DoCState) -> Array:
        assert state.step is not None
        if self.future_vae:
            return jnp.zeros(())
        start = jnp.minimum(self.beta_start, self.beta)
        return start + (self.beta - start) * jnp.minimum(state.step / self.anneal_steps, 1.0)

    def _posterior(self, state: DoCState, parameters: PyTree, batch: Windows, key: Array) -> tuple[Array, LatentLaw]:
        """A latent drawn for each window [B, latent], and the law it was drawn from."""
        law = self._law(self._apply(state, "posterior", parameters["posterior"], key, *self._future(state, batch)))
        shape = (batch.mask.shape[0], self.latent_size)
        noise = jax.random.normal(key, shape) if isinstance(law, Gaussian) else jax.random.gumbel(key, shape)
        return self._draw(law, noise), law

    def _law(self, outputs: Array) -> LatentLaw:
        if self.latent == "categorical":
            return Categorical(outputs)
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return Gaussian(mean, jnp.clip(log_std, *_LOG_STD))

    def _draw(self, law: LatentLaw, noise: Array) -> Array:
        """Latents [..., latent] from standard normal or Gumbel noise, with a gradient to the law."""
        if isinstance(law, Gaussian):
            return law.from_noise(noise)[0]
        probabilities = jnp.exp(law.log_probs)
        drawn = jax.nn.one_hot(jnp.argmax(law.logits + noise, axis=-1), self.latent_size)
        return drawn + probabilities - jax.lax.stop_gradient(probabilities)

    def _past(self, state: SequenceState, batch: Windows) -> tuple[Array, ...]:
        """What readers of the past take of windows: before each state the reward that led to it."""
        reward = jnp.pad(batch.reward, ((0, 0), (1, 0)))[:, :-1] / state.return_scale
        observation, action = normalized(state, batch.observation), action_inputs(state, batch.action)
        return reward[..., None], observation, action, batch.timestep, batch.mask

    def _future(self, state: SequenceState, batch: Windows) -> tuple[Array, ...]:
        """What the reader of the future takes: how far ahead each step is, and what it led to."""
        ahead = (jnp.cumsum(batch.future, axis=1) - batch.future)[..., None] / self.ahead
        before = jnp.concatenate(
            [ahead, batch.reward[..., None] / state.return_scale, self._led_to(state, batch)], axis=-1
        )
        _, observation, action, timestep, _ = self._past(state, batch)
        return before, observation, action, timestep, batch.future

    def _outcome(self, state: SequenceState, batch: Windows) -> Array:
        """What the environment decides at each step, as the energy reads it: [B, T, entries]."""
        reward = batch.reward[..., None] / state.return_scale
        return reward if self.outcomes == "rewards" else jnp.concatenate([reward, self._led_to(state, batch)], axis=-1)

    def _led_to(self, state: SequenceState, batch: Windows) -> Array:
        return normalized(state, batch.next_observation)

    def _apply(self, state: SequenceState, name: str, parameters: PyTree, key: Array, *inputs: Array) -> Any:
        """A network in training, with dropout."""
        return self._networks(state, self.dropout)[name].apply(parameters, *inputs, rngs={"dropout": key})

    def _networks(self, state: SequenceState, dropout: float) -> dict[str, Any]:
        config = self._reader_config(dropout)
        size = self.latent_size * (2 if self.latent == "gaussian" else 1)
        return {
            "posterior": FutureReader(config, size),
            "prior": HistoryReader(config, size),
            "policy": LatentPolicy(config, self.head_sizes, action_outputs(state)),
            "energy": OutcomeEnergy(config, self.head_sizes),
        }


def _present(batch: Windows) -> Array:
    """[B, T] 1 at the present step of each window."""
    before = jnp.pad(batch.future, ((0, 0), (1, 0)))[:, :-1]
    return batch.future * (1.0 - before)
