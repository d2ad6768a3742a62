"""What returns are read beside: uniform actions."""

from __future__ import annotations

import numpy as np

from maxent_rl.envs import make_host

EPISODES = 100


def uniform_return(env: str, episodes: int = EPISODES) -> float:
    """Mean return of uniform actions.

    Args:
      env: name of an environment with continuous actions, stepped on the host.
      episodes: whose mean it is.
    """
    rng = np.random.default_rng(0)
    envs = make_host(env, range(episodes))
    try:
        envs.reset()
        running, total = np.ones(episodes, bool), np.zeros(episodes)
        while running.any():
            step = envs.step(rng.uniform(-1, 1, (episodes, *envs.spec.action_shape)).astype(np.float32))
            total += np.where(running, step.reward, 0.0)
            running &= ~(step.terminated | step.truncated)
        return float(total.mean())
    finally:
        envs.close()
