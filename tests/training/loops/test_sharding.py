"""Meshes, and batches divided among devices: the same numbers up to rounding as on one device."""

import jax
import numpy as np
import pytest
from support.devices import run_on_devices

from maxent_rl.errors import InvalidSettingError
from maxent_rl.seeds.mesh import divide_batch, make_mesh

TRAIN = """
import jax, numpy as np
from test_loops import AGENTS_UNDER_TEST, BACKENDS, loop_for, never
from maxent_rl.training.loops.host import host_step

def run(devices):
    found, agent = {}, AGENTS_UNDER_TEST["sac"].agent
    for name in BACKENDS:
        loop = loop_for("sac", name, num_seeds=2, num_envs=1, batch_devices=min(devices, 2))
        loop.advance(40, never), loop.take_metrics(), loop.advance(60, never), loop.check()
        if devices > 1:
            assert dict(loop.learning.mesh.shape) == {"seed": devices // 2, "batch": 2}
        outcomes = loop.evaluate(2)
        leaves = jax.tree.leaves((loop.learner.seeds.agent, loop.learner.seeds.rows))
        leaves += [outcome.returns for outcome in outcomes]
        found |= {f"{name}{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
        if devices > 1 and name == "host":
            rows = np.zeros((2, 1, loop.learning.layout.width), np.float32)
            program = host_step.lower(loop._agent, loop.learner, rows, loop._schedule, loop.learning).compile().as_text()
            half = f",{agent.batch_size // 2},{agent.hidden_sizes[0]}]"
            assert "all-reduce" in program and half in program, "the batch is not divided"
    return found
"""


@pytest.mark.slow
def test_batches_divided_among_devices_give_the_same_up_to_rounding(tmp_path):
    one, four = run_on_devices(__file__, TRAIN, (1, 4), tmp_path)  # two seeds by two parts of a batch
    assert one.keys() == four.keys()
    for name in one:
        np.testing.assert_allclose(four[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)


class Device:
    """Stands for a device in a mesh that nothing runs on."""

    def __init__(self, number):
        self.id, self.platform, self.device_kind, self.process_index = number, "cpu", "cpu", 0


@pytest.mark.parametrize(
    ("members", "devices", "batch_devices", "shape"),
    [
        (8, 4, 1, {"seed": 4}),
        (6, 4, 1, {"seed": 3}),
        (5, 4, 1, None),
        (1, 4, 1, None),
        (1, 4, 4, {"seed": 1, "batch": 4}),
        (2, 4, 2, {"seed": 2, "batch": 2}),
        (3, 4, 2, {"seed": 1, "batch": 2}),
    ],
)
def test_meshes_take_as_many_devices_as_share_the_seeds(members, devices, batch_devices, shape):
    mesh = make_mesh(members, [Device(number) for number in range(devices)], batch_devices, 32)
    assert (mesh and dict(mesh.shape)) == shape


@pytest.mark.parametrize(("batch_devices", "match"), [(5, "5, but there are 4 device"), (3, "batch of 32 evenly")])
def test_batches_that_cannot_be_divided_are_refused(batch_devices, match):
    with pytest.raises(InvalidSettingError, match=match):
        make_mesh(2, [Device(number) for number in range(4)], batch_devices, 32)


def test_without_a_batch_axis_a_batch_stays_as_it_is():
    batch = {"a": np.ones(3)}
    assert divide_batch(None, batch) is batch
    assert divide_batch(jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("seed",)), batch) is batch
