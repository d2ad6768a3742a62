"""Sources with a state in training: part of the training state, and the same whoever learns beside."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import TOKEN_AGENTS_UNDER_TEST

from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.storage.arrays import from_arrays, to_arrays
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.prompts import PoolPrompts
from maxent_rl.tokens.tasks import Contexts

TASK, COUNT = Contexts(), 16
SPEC = dataclasses.replace(TokenEnv(TASK).spec, num_envs=COUNT)
PLAIN = TOKEN_AGENTS_UNDER_TEST["grpo"]
AGENT = PLAIN.replace(
    num_epochs=1,
    objective="syn_grpo_style",
    prompts="mixture",
    prompt_settings=(
        "sources=pool,synthesis",
        "pool.keep=all",
        "pool.capacity=6",
        "synthesis.share=1",
        "synthesis.solvable=false",
    ),
)


@partial(jax.jit, static_argnames="steps")
def trained(agent, seeds, steps):
    """States, and metrics of the last iteration, after a warm start of a few steps and some iterations."""

    def one(seed):
        key = jax.random.key(seed)

        def warm(state, number):
            return agent.imitate(state, TASK, jax.random.fold_in(key, number), COUNT)[0], None

        def learn(state, number):
            return agent.reinforce(state, TASK, jax.random.fold_in(key, number), COUNT)

        state, _ = jax.lax.scan(warm, agent.init(key, SPEC), jnp.arange(100, 160))
        state, metrics = jax.lax.scan(learn, state, jnp.arange(steps))
        return state, jax.tree.map(lambda values: values[-1], metrics)

    return jax.vmap(one)(seeds)


def test_a_run_of_before_has_no_state_of_prompts():
    """So its arrays are those that a run of now has."""
    template = jax.eval_shape(lambda key: PLAIN.init(key, SPEC), jax.random.key(0))
    assert template.prompts is None and not any("prompts" in name for name in shapes(template))
    assert any(
        "prompts" in name for name in shapes(jax.eval_shape(lambda key: AGENT.init(key, SPEC), jax.random.key(0)))
    )


def shapes(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


@pytest.mark.slow
def test_a_seed_hears_the_same_whoever_is_beside_it():
    """To the bit, as it is the same program."""
    agent = AGENT.replace(warm_start_learning_rate=1e-2)
    (among, metrics), (others, _) = trained(agent, jnp.array([3, 4]), 3), trained(agent, jnp.array([5, 4]), 3)
    for one, other in zip(jax.tree.leaves(among), jax.tree.leaves(others), strict=True):
        np.testing.assert_array_equal(one[1], other[1])
    pool, synthesis = among.prompts
    assert pool.step.tolist() == synthesis.step.tolist() == [3, 3] and pool.ring.total.tolist() == [6, 6]
    assert int(synthesis.ring.total[1]) > 0 and float(metrics["prompts/new"][1]) > 0
    assert not np.array_equal(pool.ring.entries[0], pool.ring.entries[1])
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(metrics))
    for one, other in zip(jax.tree.leaves(from_arrays(among, to_arrays(among))), jax.tree.leaves(among), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_source_mapped_over_seeds_is_each_of_them_alone():
    """All that a pool computes are copies and whole numbers, so to the bit in two programs."""
    source = PoolPrompts(capacity=6, share=0.75, staleness=2)

    def run(key):
        def one(state, number):
            drawn = jax.random.fold_in(key, number)
            state, posed = source.draw(TASK, state, drawn, 4)
            rewards = jax.random.bernoulli(drawn, 0.5, (8,)).astype(jnp.float32)
            rows = posed.repeated(2)
            mask = jnp.ones((8, 3), bool)
            context = Prompted(rows.prompts, rows.prompt_mask, mask, rows.problems, rows.notes)
            batch = TokenBatch(jnp.zeros((8, 3)), mask, rewards, 2, context=context)
            state, _, _ = source.feedback(TASK, state, drawn, batch, jnp.ones(4, bool), posed.notes, None)
            return state, posed

        return jax.lax.scan(one, source.init(key, SPEC), jnp.arange(6))

    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    among, alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)(keys[2])
    assert np.asarray(among[1].notes["age"]).max() == 2
    for one, other in zip(jax.tree.leaves(among), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(one[2], other)
