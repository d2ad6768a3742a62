"""Losses over tokens by maxent_rl, forward and backward: one contender of `tokens`, in a process of its own.

`maxent_rl` takes `token_statistics`; `naive` computes all logits at once and leaves the gradient to JAX.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.speed.peers import driver  # it and the batch are the peers' too, and know nothing of us
from benchmarks.speed.peers.token_batch import GROUP, make_batch
from benchmarks.speed.token_objectives import Loss, Rollout, loss_of
from maxent_rl.tokens.statistics import token_statistics

PACKAGES = ("maxent_rl", "jax", "jaxlib", "numpy")


def main() -> None:
    """Measures and prints."""
    args = driver.token_parser(__doc__, tuple(STATISTICS)).parse_args()
    arrays = make_batch(args.tokens, args.vocabulary, args.width, args.seed)
    rollout = Rollout(*map(jnp.asarray, (arrays.logp_old, arrays.mask, arrays.rewards)), GROUP)
    hidden, tokens, key = jnp.asarray(arrays.hidden), jnp.asarray(arrays.tokens, jnp.int32), jax.random.key(args.seed)
    unembedding = jnp.asarray(arrays.unembedding.T.copy())
    result_bytes = arrays.hidden.nbytes + arrays.unembedding.nbytes
    del arrays
    program = jax.jit(partial(loss_and_gradients, STATISTICS[args.contender], loss_of(args.objective), rollout, tokens))
    compiled = program.lower(hidden, unembedding, key).compile()

    def step() -> dict[str, float]:
        found: dict[str, Any] = jax.block_until_ready(compiled(hidden, unembedding, key))
        return {name: value.item() for name, value in found.items() if name != "gradients"}

    values = driver.measure_step(step, args.iterations, result_bytes)
    planned = compiled.memory_analysis()
    values["planned_memory_mb"] = planned.temp_size_in_bytes / 1e6
    driver.report(values, PACKAGES)


def statistics_in_chunks(hidden: Array, unembedding: Array, tokens: Array) -> tuple[Array, Array]:
    found = token_statistics(hidden, unembedding, tokens)
    return found.logp, found.entropy


def statistics_of_all_logits(hidden: Array, unembedding: Array, tokens: Array) -> tuple[Array, Array]:
    log_probs = jax.nn.log_softmax(hidden @ unembedding)
    logp = jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
    return logp, -jnp.sum(jnp.exp(log_probs) * log_probs, -1)


STATISTICS = {"maxent_rl": statistics_in_chunks, "naive": statistics_of_all_logits}


def loss_and_gradients(
    statistics: Any, loss_of_logp: Loss, rollout: Rollout, tokens: Array, hidden: Array, unembedding: Array, key: Array
) -> dict[str, Any]:
    """The loss, its gradients in hidden [N, T, D] and unembedding [D, V], and what a trainer would show of them."""

    def total(hidden: Array, unembedding: Array) -> tuple[Array, Array]:
        logp, entropy = statistics(hidden, unembedding, tokens)
        mean = jnp.sum(jax.lax.stop_gradient(entropy) * rollout.mask) / jnp.sum(rollout.mask)
        return loss_of_logp(logp, rollout, key), mean

    (loss, entropy), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(hidden, unembedding)
    # Row by row: in float32 one sum over a hundred million squares would be off in the fourth digit.
    norm = jnp.linalg.norm(jnp.concatenate([jnp.linalg.norm(each, axis=-1).ravel() for each in gradients]))
    return {"loss": loss, "gradient_norm": norm, "entropy": entropy, "gradients": gradients}


if __name__ == "__main__":
    main()
