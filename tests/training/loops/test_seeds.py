"""Seed 3 alone and seed 3 among seeds 0 to 7, on a Gymnasium and on a Brax task."""

import jax
import numpy as np
import pytest

from maxent_rl.agents import SAC
from maxent_rl.runs.config import RunConfig
from maxent_rl.training.loops.make import make_loop

START, UPDATES = 50, 200
AGENT = SAC(start_steps=START, batch_size=64, hidden_sizes=(64, 64), replay_size=1_000)


def loop_of(env, **settings):
    loop = make_loop(RunConfig(env=env, **settings), AGENT, env, jax.local_devices())
    loop.start()
    return loop


def advance(loop, until):
    loop.advance(until, lambda: False)
    loop.check()
    return loop.learner.seeds


def relative_distance(one, other):
    return np.linalg.norm(np.asarray(one) - np.asarray(other)) / max(np.linalg.norm(np.asarray(other)), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("env", ["Pendulum-v1", "brax/inverted_pendulum"])
def test_seed_3_alone_and_among_seeds_0_to_7(env):
    many, alone = loop_of(env, seed=0, num_seeds=8), loop_of(env, seed=3, num_seeds=1)

    among, single = advance(many, START), advance(alone, START)
    np.testing.assert_array_equal(jax.random.key_data(among.key)[3], jax.random.key_data(single.key)[0])
    rows, other = np.asarray(among.rows), np.asarray(single.rows)
    if env == "Pendulum-v1":  # start states and actions, hence whole transitions: NumPy computes each alone
        np.testing.assert_array_equal(rows[3, :START], other[0, :START])
    else:  # the batched physics rounds differently: the draws are bit-equal, what follows from them nearly
        layout = many.learning.layout
        np.testing.assert_array_equal(layout.unpack(rows[3, :START]).action, layout.unpack(other[0, :START]).action)
        np.testing.assert_array_equal(rows[3, 0, : layout.observation_size], other[0, 0, : layout.observation_size])
        np.testing.assert_allclose(rows[3, :START], other[0, :START], rtol=1e-4, atol=1e-5)
    assert len({rows[seed, 0].tobytes() for seed in range(8)}) == 8

    # 200 updates on the same transitions: continuing in the environment would feed rounding back through the actions.
    among, single = advance(many, START + UPDATES), advance(alone, START + UPDATES)
    assert int(many.learner.counters.update) == UPDATES
    pairs = zip(jax.tree.leaves(among.agent.policy), jax.tree.leaves(single.agent.policy), strict=True)
    print(env, [relative_distance(a[3], b[0]) for a, b in pairs])
    for a, b in zip(jax.tree.leaves(among.agent), jax.tree.leaves(single.agent), strict=True):
        if np.asarray(a).dtype.kind == "f":
            assert relative_distance(a[3], b[0]) < 1e-4
    many.close(), alone.close()
