"""Teachers for tests: exported policies without a training behind them."""

import jax
from environments import Point

from maxent_rl.agents import SAC, agent_name
from maxent_rl.runs.config import RunConfig, describe
from maxent_rl.runs.policy import export_policy, policy_arrays

TEACHER = SAC(hidden_sizes=(8,))


def make_teacher(folder, agent=TEACHER, env=None, env_name="Point", seed=0):
    """Writes a policy with random weights, of one seed, and gives its folder as `--teacher` takes it."""
    spec = (env or Point()).spec
    run = RunConfig(agent=agent_name(agent), env=env_name, seed=seed)
    state = jax.jit(jax.vmap(lambda key: agent.init(key, spec)))(jax.random.key(seed)[None])
    export_policy(folder / "policy", describe(run, agent), policy_arrays(agent, state), spec, step=0)
    return str(folder)
