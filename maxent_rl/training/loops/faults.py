"""NaN and infinity: noted on the device where they are first met, raised on the host with the step and the culprit."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from maxent_rl.errors import NonFiniteError
from maxent_rl.training.loops.plan import Fault, Learner, Learning
from maxent_rl.types import Array, Metrics


def check_faults(learner: Learner, learning: Learning, names: tuple[str, ...]) -> None:
    """Raises if anything was not finite; `names` says of whom: "Seed 3".

    Raises:
      NonFiniteError: naming the environment step, the seed and the value.
    """
    codes, steps = np.asarray(learner.seeds.fault.code), np.asarray(learner.seeds.fault.step)
    for name, code, step in zip(names, codes, steps, strict=True):
        if code:
            raise NonFiniteError(
                f"{name}, environment step {int(step) * learning.num_envs}: "
                f"{learning.fault_names[code - 1]} is NaN or infinite."
            )


def note_fault(fault: Fault, step: Array, code: Array) -> Fault:
    """Keeps the first fault: `code` is 0 where all is well."""
    first = (fault.code == 0) & (code > 0)
    return Fault(code=jnp.where(first, code, fault.code), step=jnp.where(first, step, fault.step))


def note_metrics(learning: Learning, fault: Fault, step: Array, metrics: Metrics) -> Fault:
    """Keeps the first fault: the first of the metrics, by name, that is not finite."""
    if not learning.metric_names:
        return fault
    bad = ~jnp.isfinite(jnp.stack([metrics[name] for name in learning.metric_names]))
    offset = len(learning.fault_names) - len(learning.metric_names) + 1
    return note_fault(fault, step, jnp.where(jnp.any(bad), jnp.argmax(bad) + offset, 0).astype(jnp.int32))
