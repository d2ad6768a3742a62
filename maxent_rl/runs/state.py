"""The whole state of a trained agent, critics included, from a checkpoint; an exported policy can only act."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxent_rl.agents.base import HasCritics
from maxent_rl.errors import CheckpointError, PolicyError
from maxent_rl.runs.checkpoints import Checkpoints
from maxent_rl.runs.config import read_config, run_from
from maxent_rl.runs.policy import Policy, load_policy
from maxent_rl.storage.arrays import from_arrays
from maxent_rl.storage.reading import refuse_damage
from maxent_rl.types import Array, PyTree

# Where a checkpoint has the agents' states, by the names that `storage.arrays.to_arrays` gives.
_AGENT = "['learner'].seeds.agent"


class Restored(NamedTuple):
    """An agent and everything that learning has made of it.

    Attributes:
      agent: with its hyper-parameters, those of the variant included.
      state: of one seed.
      policy: the run's exported policy of the same seed and variant, which names the environment and its shapes; of the
        last evaluation, while `state` is of the checkpoint.
      step: environment steps of training behind the state.
    """

    agent: Any
    state: PyTree
    policy: Policy
    step: int


def load_state(
    folder: str | Path, seed: int | None = None, step: int | None = None, *, variant: int | None = None
) -> Restored:
    """Reads the agent's state from a checkpoint of a run.

    Args:
      folder: the run's.
      seed: which of the run's seeds; None for the first.
      step: of the checkpoint; None for the newest.
      variant: which of the run's variants, counted from 0; None for the first.

    Raises:
      CheckpointError: there is no run, no checkpoint (of that step), or a damaged one.
      PolicyError: the run has no policy, from which the environment's shapes are taken.
      InvalidSettingError: the run has no such seed or variant.
    """
    folder = Path(folder)
    config = read_config(folder)
    if not (folder / "policy").is_dir():
        raise PolicyError(
            f"{folder} has no policy yet, which its first evaluation (without any, its first checkpoint) writes."
        )
    policy = load_policy(folder, seed=seed, variant=variant)
    steps = [int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdecimal()]
    if not steps:
        raise CheckpointError(f"{folder} has no checkpoint: the state of its agent cannot be read.")
    chosen = max(steps) if step is None else step
    if chosen not in steps:
        raise CheckpointError(f"{folder} has checkpoints of the steps {sorted(steps)}, not of {chosen}.")
    checkpoints = Checkpoints(folder / "checkpoints", keep=1, read_only=True)
    try:
        arrays, _ = checkpoints.restore(chosen)
    finally:
        checkpoints.close()
    with refuse_damage(f"The run in {folder}", CheckpointError):
        run = run_from(config)
        run.check()
        member = (variant or 0) * run.num_seeds + run.seeds.index(policy.seed)
        found = {name.removeprefix(_AGENT): value for name, value in arrays.items() if name.startswith(_AGENT)}
        template = jax.eval_shape(lambda key: policy.agent.init(key, policy.spec), jax.random.key(0))
        try:
            state = from_arrays(template, {name: np.asarray(value[member]) for name, value in found.items()})
        except (CheckpointError, IndexError) as error:
            raise CheckpointError(
                f"The checkpoint of step {chosen} in {folder} does not fit its agent: {error}"
            ) from error
    return Restored(policy.agent, jax.tree.map(jnp.asarray, state), policy, chosen)


def state_values(agent: HasCritics, state: PyTree, observation: Array, key: Array, samples: int = 64) -> Array:
    """The value of acting on with the agent's own policy, by its critics.

    Args:
      agent: one that `HasCritics`.
      state: of one seed.
      observation: [..., observation].
      key: [] random key of the actions.
      samples: actions drawn at each observation.

    Returns:
      [...] in units of return: the mean over actions and critics, without an entropy term.
    """
    repeated = jnp.broadcast_to(observation, (samples, *observation.shape))
    action_key, critic_key = jax.random.split(key)
    q = agent.action_values(state, repeated, agent.act(state, repeated, action_key), critic_key)
    return jnp.mean(q, axis=(0, 1))
