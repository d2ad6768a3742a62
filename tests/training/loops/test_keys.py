"""Whose random numbers a loop hands out: every seed's own, others at every step and every update.

With agents that do nothing but keep what they were given, so that a key that is forgotten shows at once.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents_under_test import BACKENDS, NUM_ENVS
from environments import HostPoint, Point
from flax import struct

from maxent_rl.runs.config import RunConfig
from maxent_rl.settings import static
from maxent_rl.training.loops.make import make_loop

MOST = 16  # updates that are kept
ENVS = {"host": HostPoint, "device": Point()}


@struct.dataclass
class Kept:
    """The key of each update [update, 2], what its batch looked like [update], and how many there were."""

    keys: jax.Array
    batches: jax.Array
    count: jax.Array


@struct.dataclass
class Keeper:
    """Acts by its key alone, and keeps the key and the sum of the batch of every update."""

    learns: ClassVar[str] = "replay"
    discount: float = 0.9
    start_steps: int | None = 4
    updates_per_step: float = 1.0
    batch_size: int = static(8)
    replay_size: int = static(64)
    n_step: int = static(1)

    def init(self, key, spec):
        return Kept(jnp.zeros((MOST, 2), jnp.uint32), jnp.zeros(MOST), jnp.int32(0))

    def act(self, state, observation, key):
        return jax.random.uniform(key, (*observation.shape[:-1], 2), minval=-1.0, maxval=1.0)

    def mode(self, state, observation):
        return jnp.zeros((*observation.shape[:-1], 2))

    def update(self, state, batch, key):
        keys = state.keys.at[state.count].set(jax.random.key_data(key))
        batches = state.batches.at[state.count].set(jnp.sum(batch.observation))
        return Kept(keys, batches, state.count + 1), {"critic/loss": jnp.float32(0)}


@struct.dataclass
class WindowKeeper(Keeper):
    """The same, on-policy."""

    learns: ClassVar[str] = "rollout"
    rollout_size: int = static(2 * NUM_ENVS)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("agent", [Keeper(), WindowKeeper()], ids=["replay", "rollout"])
def test_every_seed_step_and_update_has_random_numbers_of_its_own(agent, backend):
    loop = make_loop(RunConfig(env="test", num_seeds=3, num_envs=NUM_ENVS), agent, ENVS[backend], jax.local_devices())
    loop.start()
    actions = []
    for step in range(1, 7):
        before = np.array(loop.learner.seeds.rows)
        loop.advance(step, lambda: False)
        rows = np.asarray(loop.learner.seeds.rows)
        changed = np.any(rows != before, axis=(0, 2))
        actions.append(rows[:, changed, 2:4].reshape(-1))  # after two entries of the observation
    drawn = np.concatenate(actions)
    assert len(drawn) == 6 * 3 * NUM_ENVS * 2 and len(np.unique(drawn)) == len(drawn)
    state = loop.learner.seeds.agent
    taken = int(state.count[0])
    assert taken >= 3 and np.all(state.count == taken)
    keys = np.asarray(state.keys)[:, :taken].reshape(-1, 2)
    assert len(np.unique(keys, axis=0)) == 3 * taken
    batches = np.asarray(state.batches)[:, :taken].reshape(-1)
    assert len(np.unique(batches)) == 3 * taken
    loop.close()
