"""Who learns in the noise study: DPO and its kin, ADPO, PPO and TRPO, and the one program in which all of them learn.

Everyone has the same network, reference, data, order of batches, number of contexts seen and (but for TRPO, which has none)
optimiser. A rollout is `rollout` batches; where the policy that drew the data matters, it is the one before the rollout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.studies.preference_noise.task import Corruption, Keys, Sizes, Task, keys_of, make_reward, make_task
from benchmarks.studies.preference_noise.trust import TrustRegion, trust_region_step
from maxent_rl import losses
from maxent_rl.networks.trunk import MLP

SCORE_TEMPERATURE, ANCHOR_TEMPERATURE = 0.5, 0.8  # ADPO's beta_r and tau, the paper's for language models
FLIP_PROBABILITY = 0.1  # what robust DPO is told everywhere: nobody knows the true one

Loss = Callable[[Array, Array, Array], Array]
"""Loss [] of log-probabilities, those of the anchor, and scores, all [batch, item]."""
AnchorKind = Literal["uniform", "fixed", "dynamic"]
Report = Callable[[str, float], None]
"""Is told a method that is done, and its mean WinMass."""


class Method(NamedTuple):
    """A loss and what it is anchored to: nothing, the reference, or the policy before the rollout."""

    loss: Loss
    anchor: AnchorKind


@dataclasses.dataclass(frozen=True)
class Learning:
    """How all methods learn."""

    steps: int = 250
    """Gradient steps, a multiple of the rollout."""
    batch_size: int = 128
    """Contexts of each."""
    rollout: int = 10
    """Gradient steps between two renewals of dynamic anchors and of PPO's old policy, and for each step of TRPO."""
    reference_steps: int = 30
    """Gradient steps on clean data that make the reference."""
    learning_rate: float = 5e-4
    """Of AdamW."""


class Policy(nn.Module):
    """Log-probabilities of the items: two hidden layers and a softmax."""

    hidden: int
    items: int

    @nn.compact
    def __call__(self, contexts: Array) -> Array:
        """Maps [..., context] to [..., item], in nats."""
        features = MLP(hidden_sizes=(self.hidden, self.hidden))(contexts)
        return jax.nn.log_softmax(nn.Dense(self.items)(features))


def log_prob_of(policy: Policy, params: Any, contexts: Array) -> Array:
    """Log-probabilities [..., item] under parameters of a policy."""
    return policy.apply(params, contexts)  # type: ignore[return-value]


def preference_loss(of_pairs: Callable[[Array, Array], Array]) -> Loss:
    """A loss on all pairs of items, the better one chosen; ties, which have no better one, are as good as none here.

    Args:
      of_pairs: loss [...] of the margin, as from `preference_margin`, and of how much better the chosen item scored [...].
    """

    def loss(log_prob: Array, anchor: Array, scores: Array) -> Array:
        first, second = jnp.triu_indices(scores.shape[-1], k=1)
        gap = scores[..., first] - scores[..., second]

        def split(values: Array) -> tuple[Array, Array]:
            one, other = values[..., first], values[..., second]
            return jnp.where(gap >= 0, one, other), jnp.where(gap >= 0, other, one)

        (chosen, rejected), (anchor_chosen, anchor_rejected) = split(log_prob), split(anchor)
        margin = losses.preference_margin(chosen, rejected, anchor_chosen, anchor_rejected)
        return jnp.mean(of_pairs(margin, jnp.abs(gap)))

    return loss


def dpo(beta: float) -> Loss:
    return preference_loss(lambda margin, _: losses.dpo_loss(margin, beta))


def dpo_soft(beta: float) -> Loss:
    return preference_loss(lambda margin, gap: losses.dpo_loss(margin, beta, jax.nn.sigmoid(gap / SCORE_TEMPERATURE)))


def pairwise(score_temperature: float | None = SCORE_TEMPERATURE, temperature: float = ANCHOR_TEMPERATURE) -> Loss:
    """ADPO on pairs; hard labels without a score temperature."""

    def loss(log_prob: Array, anchor: Array, scores: Array) -> Array:
        logits = losses.anchored_logits(log_prob, anchor, temperature)
        return losses.masked_mean(*losses.anchored_pair_loss(logits, scores, score_temperature))

    return loss


def listwise(target: Callable[[Array, float], Array]) -> Loss:
    """ADPO on the whole set, with a target of the scores and their temperature."""

    def loss(log_prob: Array, anchor: Array, scores: Array) -> Array:
        logits = losses.anchored_logits(log_prob, anchor, ANCHOR_TEMPERATURE)
        return jnp.mean(losses.anchored_loss(logits, target(scores, SCORE_TEMPERATURE)))

    return loss


def ppo(log_prob: Array, anchor: Array, scores: Array) -> Array:
    """PPO's clipped surrogate, its expectation over the old policy exact and its advantages whitened over the batch."""
    old = jnp.exp(anchor)
    advantage = losses.whiten(scores - jnp.sum(old * scores, axis=-1, keepdims=True))
    return jnp.mean(jnp.sum(old * losses.clipped_surrogate(losses.importance_ratio(log_prob, anchor), advantage), -1))


METHODS: dict[str, Method] = {
    "dpo-hard-0.1": Method(dpo(0.1), "fixed"),
    "dpo-hard-1": Method(dpo(1.0), "fixed"),
    "dpo-hard-free": Method(dpo(1.0), "uniform"),
    "dpo-soft-0.1": Method(dpo_soft(0.1), "fixed"),
    "ipo-0.1": Method(preference_loss(lambda margin, _: losses.ipo_loss(margin, 0.1)), "fixed"),
    "robust-dpo-0.1": Method(
        preference_loss(lambda margin, _: losses.robust_dpo_loss(margin, 0.1, FLIP_PROBABILITY)), "fixed"
    ),
    "pairwise-fixed": Method(pairwise(), "fixed"),
    "pairwise-dynamic": Method(pairwise(), "dynamic"),
    "listwise-fixed": Method(listwise(losses.softmax_target), "fixed"),
    "listwise-dynamic": Method(listwise(losses.softmax_target), "dynamic"),
    "kde-fixed": Method(listwise(losses.kde_target), "fixed"),
    "kde-dynamic": Method(listwise(losses.kde_target), "dynamic"),
    "ppo": Method(ppo, "dynamic"),
}
"""All that descend a loss, by name. Besides there are "reference", which does not learn, and "trpo"."""

REFERENCE, TRPO = "reference", "trpo"
ALL = (REFERENCE, *METHODS, TRPO)


class Scores(NamedTuple):
    """Test results [scenario, seed]: mean probability of the best item, and how often it is the likeliest one."""

    win_mass: Array
    accuracy: Array


@partial(jax.jit, static_argnames=("hidden", "sizes", "learning", "methods", "report"))
def run_suite(
    seeds: Array,
    corruptions: Corruption,
    hidden: int,
    sizes: Sizes,
    learning: Learning,
    methods: tuple[str, ...] = ALL,
    report: Report | None = None,
) -> dict[str, Scores]:
    """Lets every method learn on every seed and scenario, all in one program.

    Args:
      seeds: [seed].
      corruptions: of the scenarios, with arrays [scenario] as from `stack`.
      hidden: units of each of the two hidden layers.
      sizes: of the task.
      learning: how all methods learn.
      methods: who, of `ALL`.
      report: is told of each method that is done.
    """
    policy, keys = Policy(hidden, sizes.items), jax.vmap(keys_of)(seeds)
    references = jax.vmap(partial(make_reference, policy, sizes, learning))(keys)
    batches = jax.vmap(lambda key: make_batches(key, sizes.contexts, learning))(keys.batches)
    tasks = jax.vmap(lambda each: jax.vmap(lambda key: make_task(key, each, sizes))(keys))(corruptions)
    results = {}
    for name in methods:

        def of_seed(reference: Any, batches: Array, task: Task, name: str = name) -> Scores:
            return evaluate(policy, learn(name, policy, reference, task, batches, learning), task)

        # Seeds side by side, scenarios in turn: what the caches hold, which is faster than all at once.
        results[name] = jax.lax.map(partial(jax.vmap(of_seed), references, batches), tasks)
        if report is not None:
            jax.debug.callback(partial(report, name), jnp.mean(results[name].win_mass))
    return results


def evaluate(policy: Policy, params: Any, task: Task) -> Scores:
    """Scores [] of one policy."""
    log_prob = log_prob_of(policy, params, task.test_contexts)
    best = jnp.take_along_axis(log_prob, task.test_best[:, None], axis=-1)
    return Scores(jnp.mean(jnp.exp(best)), jnp.mean(jnp.argmax(log_prob, axis=-1) == task.test_best))


def learn(name: str, policy: Policy, reference: Any, task: Task, batches: Array, learning: Learning) -> Any:
    """Parameters that a method ends with, beginning with those of the reference.

    Args:
      name: of the method.
      policy: the network.
      reference: its parameters before.
      task: data of the seed and scenario.
      batches: [rollout, step, batch] as from `make_batches`.
      learning: how all methods learn.
    """
    if name == REFERENCE:
        return reference
    if name == TRPO:
        return _learn_by_trust_region(policy, reference, task, batches)
    return descend(METHODS[name], policy, reference, task, batches, learning)


def descend(method: Method, policy: Policy, reference: Any, task: Task, batches: Array, learning: Learning) -> Any:
    """Parameters after `learning.steps` steps of AdamW down a method's loss."""
    optimizer = _optimizer(learning)
    of_reference = log_prob_of(policy, reference, task.contexts)

    def loss(params: Any, contexts: Array, anchor: Array, scores: Array) -> Array:
        return method.loss(log_prob_of(policy, params, contexts), anchor, scores)

    def rollout(state: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], None]:
        contexts, scores = task.contexts[chosen], task.scores[chosen]
        if method.anchor == "fixed":
            anchor = of_reference[chosen]
        else:
            anchor = jnp.zeros_like(scores) if method.anchor == "uniform" else log_prob_of(policy, state[0], contexts)
        return _steps(optimizer, loss, state, (contexts, anchor, scores)), None

    state, _ = jax.lax.scan(rollout, (reference, optimizer.init(reference)), batches)
    return state[0]


def make_batches(key: Array, contexts: int, learning: Learning) -> Array:
    """Which contexts [rollout, step, batch] are learned from, the same for all methods; none twice in a rollout.

    Raises:
      ValueError: a rollout needs more contexts than there are, or the steps are no multiple of it.
    """
    shape = (learning.rollout, learning.batch_size)
    if learning.steps % learning.rollout:
        raise ValueError(f"Expected a multiple of {learning.rollout} steps, a rollout, got {learning.steps}.")
    if shape[0] * shape[1] > contexts:
        raise ValueError(f"A rollout of {shape[0]} batches of {shape[1]} needs more than the {contexts} contexts.")
    keys = jax.random.split(key, learning.steps // learning.rollout)
    orders = jax.lax.map(lambda key: jax.random.permutation(key, contexts)[: shape[0] * shape[1]], keys)
    found: Array = orders.reshape(-1, *shape)
    return found


def make_reference(policy: Policy, sizes: Sizes, learning: Learning, keys: Keys) -> Any:
    """Parameters after a few steps of supervised learning of the best item, on clean contexts of its own."""
    init_key, context_key = jax.random.split(keys.reference)
    shape = (learning.reference_steps, learning.batch_size, sizes.context_size)
    contexts, reward = jax.random.normal(context_key, shape), make_reward(keys.reward, sizes)
    params, optimizer = policy.init(init_key, contexts[0]), _optimizer(learning)
    best = jax.nn.one_hot(jnp.argmax(reward(contexts), axis=-1), sizes.items)

    def loss(params: Any, contexts: Array, best: Array) -> Array:
        return jnp.mean(losses.anchored_loss(log_prob_of(policy, params, contexts), best))

    return _steps(optimizer, loss, (params, optimizer.init(params)), (contexts, best))[0]


def _learn_by_trust_region(policy: Policy, reference: Any, task: Task, batches: Array) -> Any:
    def rollout(params: Any, chosen: Array) -> tuple[Any, None]:
        contexts, scores = task.contexts[chosen.ravel()], task.scores[chosen.ravel()]
        return trust_region_step(partial(log_prob_of, policy), params, contexts, scores, TrustRegion())[0], None

    return jax.lax.scan(rollout, reference, batches)[0]


def _steps(optimizer: Any, loss: Callable[..., Array], state: tuple[Any, Any], batches: tuple[Array, ...]) -> Any:
    """One step for each of the batches, which lie along the first axis."""

    def step(state: tuple[Any, Any], batch: tuple[Array, ...]) -> tuple[tuple[Any, Any], None]:
        params, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(params, *batch), moments, params)
        return (optax.apply_updates(params, updates), moments), None

    return jax.lax.scan(step, state, batches)[0]


def _optimizer(learning: Learning) -> Any:
    return optax.adamw(learning.learning_rate)
