"""Pixels in rows: every byte comes back to the bit, from NumPy and from JAX, and takes a third of a number."""

import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.data import ReplayLayout, RolloutLayout
from maxent_rl.data.buffers.pixels import pack_pixels, packed_size, unpack_pixels
from maxent_rl.spaces import Space
from maxent_rl.types import Spec, Transition


@pytest.mark.parametrize("arrays", [np, jnp], ids=["numpy", "jax"])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 256])
def test_pixels_come_back(count, arrays):
    """Each byte in each place of a number, beside the largest and the smallest."""
    pixels = np.tile(np.arange(256, dtype=np.float32)[:, None], (1, count))
    pixels[:, 1::2] = np.arange(256)[:, None] % 2 * 255
    packed = pack_pixels(arrays.asarray(pixels))
    assert packed.shape == (256, packed_size(count)) and packed.dtype == np.float32 and (packed < 2**24).all()
    assert packed_size(count) == -(-count // 3)
    back = unpack_pixels(packed, count)
    assert back.dtype == np.float32 and isinstance(back, type(packed))
    np.testing.assert_array_equal(back, pixels)


def test_what_is_no_pixel_does_not_change_its_neighbours():
    found = unpack_pixels(pack_pixels(np.float32([300.0, 7.9, -4.0, 255.0])), 4)
    np.testing.assert_array_equal(found, [255.0, 7.0, 0.0, 255.0])


@pytest.mark.parametrize("kind", ["replay", "rollout"])
def test_rows_hold_images_in_a_third_and_numbers_as_they_are(kind):
    space = Space("tuple", parts=(Space("box", (2,)), Space("box", (5, 4, 1), "uint8")))
    spec = Spec((22,), (3,), 10, observation_space=space)
    layout = ReplayLayout.create(spec, 8, 4, 16, 1) if kind == "replay" else RolloutLayout.create(spec, 2, 4)
    assert layout.width == 2 * (2 + 7) + 3 + 3
    random = np.random.default_rng(0)

    def seen():
        return np.concatenate([random.normal(size=(4, 2)), random.integers(0, 256, (4, 20))], axis=1).astype(np.float32)

    parts = seen(), random.normal(size=(4, 3)).astype(np.float32), random.normal(size=4).astype(np.float32), seen()
    flags = np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 0], bool)
    given = Transition(*(jnp.asarray(each, jnp.float32) for each in (*parts, *flags)), steps=jnp.ones(4))
    rows, host = layout.pack(given), layout.pack_host(*parts, *flags)
    np.testing.assert_array_equal(rows, host)
    written = layout.add(layout.empty(), rows).rows[:4]
    for found in (layout.unpack(written), layout.unpack(host)):
        for name, wanted in vars(given).items():
            np.testing.assert_array_equal(getattr(found, name), wanted)
    assert isinstance(layout.unpack(host).observation, np.ndarray)
