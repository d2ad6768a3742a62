"""Planned memory of what objectives ask of a whole vocabulary, at the size of published models; nothing is run."""

import jax
import jax.numpy as jnp
import pytest

from maxent_rl.tokens import objectives, token_statistics

ASKING = [name for name in objectives.names() if objectives.make(name).statistics(objectives.make(name).init())]
LIMIT = 2 * 2**30


def test_some_objectives_ask():
    assert {"lp_reg", "dcpo", "clip_v", "ares_released"} <= set(ASKING)


@pytest.mark.parametrize("name", ASKING)
def test_statistics_of_16384_tokens_of_151936_take_less_than_2_gib(name):
    """Above inputs and outputs: statistics of the policy that drew the responses, and gradients of the one that learns."""
    objective = objectives.make(name)
    asked = objective.statistics(objective.init())
    shapes = [((16, 1024, 64), jnp.bfloat16), ((64, 151_936), jnp.bfloat16), ((16, 1024), jnp.int32)]

    def loss(hidden, matrix, tokens):
        found = token_statistics(hidden, matrix, tokens, extra=asked)
        return jnp.sum(found.logp + found.entropy), found.extra

    program = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    planned = program.lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).compile().memory_analysis()
    assert planned.temp_size_in_bytes < LIMIT
