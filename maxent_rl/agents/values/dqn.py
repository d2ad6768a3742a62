"""Deep Q-learning with double targets: from data sets, and by acting.

Source: Human-level control through deep reinforcement learning (Nature 518, 2015) and Deep Reinforcement Learning with
Double Q-learning (arXiv 1509.06461).
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from maxent_rl import losses
from maxent_rl.agents.values.base import ValueState, WithTargets
from maxent_rl.distributions import Categorical
from maxent_rl.settings import Count, Fraction, NonNegative, Positive, static
from maxent_rl.types import Array, Learns, Metrics, Transition


@struct.dataclass
class DoubleQLearning(WithTargets):
    """Bootstraps from the target's value of what the online network finds best."""

    def targets(self, state: ValueState, batch: Transition, key: Array) -> Array:
        """[batch] double targets."""
        assert state.targets is not None
        # Two passes, apart from the one that is differentiated: one online pass of both observations would be backed
        # through at twice the batch, and took 40 % longer (five seeds, 64 x 64, batch 64, on a CPU).
        selecting = self.trained_values(state.networks, batch.next_observation, key)
        valuing = self.trained_values(state.targets, batch.next_observation, key)
        return self.bellman_target(batch, losses.double_q_value(selecting, valuing))


@struct.dataclass
class DQN(DoubleQLearning):
    """Double DQN on a data set: nothing keeps it from actions that the data lacks."""

    learns: ClassVar[Learns] = "data"
    learns_from: ClassVar[str] = "transitions"


@struct.dataclass
class DQNOnline(DoubleQLearning):
    """Double DQN that acts: epsilon-greedy, with an epsilon that falls with the updates taken."""

    learns: ClassVar[Learns] = "replay"

    initial_epsilon: Fraction = 1.0
    """Probability of a uniform action at the first update."""
    final_epsilon: Fraction = 0.01
    """The same after `exploration_updates`."""
    exploration_updates: Count = 1_000
    """Updates over which the probability falls linearly."""
    start_steps: NonNegative | None = 100
    """Environment steps with uniform actions before the first update; None for ten episodes, at most 10,000."""
    updates_per_step: Positive = 1.0
    """Gradient steps for each environment step (update-to-data ratio)."""

    batch_size: Count = static(32)
    """Transitions in a batch."""
    replay_size: Count = static(100_000)
    """Transitions that the replay buffer holds for each seed; the oldest give way."""
    n_step: Count = static(1)
    """Environment steps whose rewards are summed before the values are used."""

    # The paper's runs of 100,000 steps replay the last 50,000; all of a run is kept here, so that the buffer at its end is
    # the run's whole history, a data set of its own.

    def act(self, state: ValueState, observation: Array, key: Array) -> Array:
        """Draws actions: [..., observation] to [...], uniform ones with probability epsilon."""
        return self.distribution(state, observation).sample(key)

    def distribution(self, state: ValueState, observation: Array) -> Categorical:
        """What `act` draws from at observations [..., observation]."""
        values = self.values(state.networks, observation)
        best, epsilon = jnp.argmax(values, axis=-1), self.epsilon(state.step)
        return Categorical(jnp.log(self._probabilities(best, values.shape[-1], epsilon)))

    def epsilon(self, step: Array) -> Array:
        """[] probability of a uniform action after [] updates."""
        share = jnp.clip(step / self.exploration_updates, 0.0, 1.0)
        return self.initial_epsilon + share * (self.final_epsilon - self.initial_epsilon)

    def update(self, state: ValueState, batch: Transition, key: Array) -> tuple[ValueState, Metrics]:
        """As of the family; metrics also have epsilon and the entropy of what `act` draws from, in nats."""
        epsilon, num_actions = self.epsilon(state.step), state.networks["q"]["params"]["head"]["bias"].shape[-1]
        entropy = losses.probability_entropy(self._probabilities(jnp.zeros((), jnp.int32), num_actions, epsilon))
        state, metrics = super().update(state, batch, key)
        return state, metrics | {"actor/epsilon": epsilon, "actor/entropy": entropy}

    @staticmethod
    def _probabilities(best: Array, num_actions: int, epsilon: Array) -> Array:
        """[..., choice] of the best choice [...] and all others."""
        return epsilon / num_actions + (1.0 - epsilon) * jax.nn.one_hot(best, num_actions)

    def instead(self) -> str:
        """Where to turn with continuous actions, in words."""
        return "--agent sac and --agent ppo handle those"
