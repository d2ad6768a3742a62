"""How a training lies on the devices: a mesh with the axis "seed" and, where batches are divided too, the axis "batch".

Every device along "seed" holds its share of the seeds and runs alone, without any communication. Along "batch" the devices
hold the same seeds: each takes its share of a sampled batch, and XLA adds up what must be the same on all (gradients, means).
Agents know nothing of either.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maxent_rl.errors import InvalidSettingError
from maxent_rl.types import PyTree

_SEED, _BATCH = "seed", "batch"
SEEDS, SAME = P(_SEED), P()  # type: ignore[no-untyped-call]  # how an argument of `sharded` is spread: by its leading axis [seed], or not at all


def make_mesh(
    members: int, devices: list[jax.Device], batch_devices: int, batch_parts: int, what: str = "a batch of"
) -> Mesh | None:
    """Lays out as many of the devices as share the seeds (of all variants) evenly; None where that is a single one.

    Args:
      members: seeds times variants.
      devices: that may be used.
      batch_devices: over how many of them each batch is divided.
      batch_parts: entries of a batch along the axis that is divided, as the layout says.
      what: they are, for the message, where the number follows.

    Raises:
      InvalidSettingError: there are not as many devices, or the batch cannot be divided evenly.
    """
    if batch_devices > len(devices):
        raise InvalidSettingError(f"--batch-devices is {batch_devices}, but there are {len(devices)} device(s) here.")
    if batch_parts % batch_devices:
        raise InvalidSettingError(
            f"--batch-devices {batch_devices} cannot share {what} {batch_parts} evenly: choose a divisor of it."
        )
    groups = len(devices) // batch_devices
    count = max(count for count in range(1, groups + 1) if members % count == 0)
    if batch_devices > 1:
        return Mesh(np.array(devices[: count * batch_devices]).reshape(count, batch_devices), (_SEED, _BATCH))
    return Mesh(np.array(devices[:count]), (_SEED,)) if count > 1 else None


def place(mesh: Mesh | None, tree: PyTree, spec: P) -> PyTree:
    """Puts arrays onto the devices of the mesh (or the default device), spread as `SEEDS` or `SAME` says."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(mesh, spec))


def spread(agent: Any) -> Any:
    """How `sharded` spreads an agent: hyper-parameters that vary go with their seeds, the others to every device."""
    return jax.tree.map(lambda leaf: SEEDS if jnp.ndim(leaf) else SAME, agent)


def over_seeds(function: Any, agent: Any, *arguments: PyTree) -> Any:
    """Maps `function(agent, *arguments)` over the leading axis [seed] of the arguments, and of what varies in the agent."""
    axes = jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, agent)
    return jax.vmap(function, in_axes=(axes, *(0 for _ in arguments)))(agent, *arguments)


def sharded(mesh: Mesh | None, function: Any, in_specs: Any, out_specs: Any) -> Any:
    """Runs a function of many seeds with each device along "seed" holding its share.

    Args:
      mesh: as from `make_mesh`; with None the function is returned as it is.
      function: takes and returns pytrees.
      in_specs: for each argument `SEEDS`, `SAME`, or a tree of them.
      out_specs: likewise for the result.
    """
    if mesh is None:
        return function
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names={_SEED}, check_vma=False
    )


def divide_batch(mesh: Mesh | None, batch: PyTree, axis: int = 0) -> PyTree:
    """Within `sharded`: divides arrays along an axis among the devices along "batch", if there are such."""
    if mesh is None or _BATCH not in mesh.axis_names:
        return batch
    return jax.lax.with_sharding_constraint(batch, P(*[None] * axis, _BATCH))  # type: ignore[no-untyped-call]
