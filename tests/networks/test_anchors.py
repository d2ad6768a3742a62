"""Anchors: how each kind follows the policy, in loops and over seeds, and where distillation with them ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxent_rl.losses import anchored_logits, anchored_loss, softmax_target, teacher_over_anchor_target
from maxent_rl.networks import Anchor

PARAMS = {"weight": jnp.zeros(2), "bias": jnp.zeros(())}
KINDS = ["uniform", "fixed", "copy", "ema", "kl"]


def policy(update):
    return jax.tree.map(lambda x: x + update, PARAMS)


def followed(anchor, updates, divergences=0.0):
    """The anchor's bias after each update, the policy's being 1, 2, 3, ...; and the state at the end."""
    divergences = jnp.broadcast_to(jnp.asarray(divergences, jnp.float32), (updates,))

    def step(state, inputs):
        state = anchor.update(state, policy(inputs[0]), inputs[1])
        return state, None if state.params is None else state.params["bias"]

    steps = jnp.arange(1.0, updates + 1)
    return jax.jit(lambda state: jax.lax.scan(step, state, (steps, divergences)))(anchor.init(PARAMS))


def test_uniform_and_fixed_never_move():
    state, _ = followed(Anchor(kind="uniform"), 3)
    assert state.params is None and state.updates == 3
    state, biases = followed(Anchor(kind="fixed"), 3, divergences=9.0)
    np.testing.assert_array_equal(biases, np.zeros(3))
    assert state.updates == 3


def test_copies_come_every_so_many_updates():
    _, biases = followed(Anchor(kind="copy", every=3), 7)
    np.testing.assert_array_equal(biases, [0, 0, 3, 3, 3, 6, 6])
    _, biases = followed(Anchor(kind="copy", every=1), 3)
    np.testing.assert_array_equal(biases, [1, 2, 3])


def test_averages_move_a_share_of_the_way():
    _, biases = followed(Anchor(kind="ema", decay=0.75), 3)
    expected, value = [], 0.0
    for update in (1.0, 2.0, 3.0):
        value = 0.75 * value + 0.25 * update
        expected.append(value)
    np.testing.assert_allclose(biases, expected, rtol=1e-6)


def test_divergence_copies_when_a_full_window_is_above_the_threshold():
    """Ten updates fill the window; it is emptied by the copy, and has to fill again."""
    state, biases = followed(Anchor(kind="kl"), 25, divergences=0.2)
    np.testing.assert_array_equal(biases, [0] * 9 + [10] * 10 + [20] * 6)
    assert state.filled == 5 and state.updates == 25


def test_divergence_below_or_at_the_threshold_does_not_copy():
    state, biases = followed(Anchor(kind="kl", threshold=0.25), 12, divergences=0.25)
    assert not biases.any() and state.filled == 10


def test_the_window_forgets():
    """The mean is over the last ten, not over all: a full window waits until it is above."""
    divergences = [0.0] * 12 + [0.3] * 8
    _, biases = followed(Anchor(kind="kl"), 20, divergences)
    np.testing.assert_array_equal(biases, [0] * 15 + [16] * 5)  # four of ten are 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_over_seeds_each_follows_its_own(kind):
    anchor = Anchor(kind=kind, every=2, decay=0.5, window=2)
    several = jax.tree.map(lambda x: jnp.stack([x, x + 10.0]), PARAMS)
    state = jax.vmap(anchor.init)(several)
    update = jax.jit(jax.vmap(anchor.update))
    for divergence in (jnp.array([0.0, 0.5]), jnp.array([0.1, 0.3])):
        state = update(state, jax.tree.map(lambda x: x + 1.0, several), divergence)
    bias = {"fixed": [0, 10], "copy": [1, 11], "ema": [0.75, 10.75], "kl": [0, 11]}
    np.testing.assert_array_equal(state.updates, [2, 2])
    if kind == "uniform":
        assert state.params is None
    else:
        np.testing.assert_allclose(state.params["bias"], bias[kind], rtol=1e-6)


def test_coefficients_may_differ_between_seeds():
    decays = jnp.array([0.0, 1.0])
    state = Anchor(kind="ema").init(PARAMS)
    moved = jax.vmap(lambda decay: Anchor(kind="ema", decay=decay).update(state, policy(4.0), jnp.zeros(())))(decays)
    np.testing.assert_array_equal(moved.params["bias"], [4.0, 0.0])


@pytest.mark.parametrize("kind", KINDS)
def test_updates_are_compiled_once_and_give_back_what_they_got(kind):
    """Also in low precision with a traced coefficient, which used to raise the precision of the anchor in a loop."""
    anchor = Anchor(kind=kind, decay=jnp.float32(0.5))
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    traced = []

    @jax.jit
    def update(anchor, state, params):
        traced.append(1)
        return anchor.update(state, params, jnp.bfloat16(0.5))

    first = anchor.init(params)
    last = first
    for _ in range(3):
        last = update(anchor, last, params)
    assert len(traced) == 1
    types = [jax.tree.map(lambda x: (x.dtype, x.shape, x.weak_type), state) for state in (first, last)]
    assert types[0] == types[1]


def test_the_anchor_is_a_copy():
    state = Anchor().init(PARAMS)
    assert state.params["weight"] is not PARAMS["weight"]


def test_unknown_anchors_are_named():
    with pytest.raises(ValueError, match=r"Unknown anchor 'emma'; there are uniform, fixed, copy, ema, kl\."):
        Anchor(kind="emma")


GRID = jnp.linspace(-4.0, 4.0, 161)


def distilled(anchor, corrected, temperature=1.0, updates=3000):
    """A Gaussian student of the teacher N(1, 0.5), from N(-0.5, 1): its mean and standard deviation at the end."""
    teacher = jax.scipy.stats.norm.logpdf(GRID, 1.0, 0.5)
    adam = optax.adam(optax.exponential_decay(0.02, updates, 0.02))

    def log_prob(params):
        return jax.scipy.stats.norm.logpdf(GRID, params[0], jnp.exp(params[1]))

    def step(carry, _):
        params, moments, state = carry
        anchored_to = log_prob(state.params)
        target = softmax_target(teacher, 1.0)
        if corrected:
            target = teacher_over_anchor_target(teacher, anchored_to, temperature)
        slope = jax.grad(lambda p: anchored_loss(anchored_logits(log_prob(p), anchored_to, temperature), target))(
            params
        )
        apart = jnp.mean(jnp.abs(log_prob(params) - anchored_to))
        state = anchor.update(state, params, apart)
        moves, moments = adam.update(slope, moments)
        return (params + moves, moments, state), None

    start = jnp.array([-0.5, 0.0])
    carry = (start, adam.init(start), anchor.init(start))
    params = jax.jit(lambda carry: jax.lax.scan(step, carry, length=updates))(carry)[0][0]
    return params[0], jnp.exp(params[1])


@pytest.mark.parametrize(
    "anchor",
    [Anchor(kind="fixed"), Anchor(kind="ema"), Anchor(kind="copy", every=50), Anchor(kind="kl")],
    ids=lambda a: a.kind,
)
def test_the_corrected_target_reaches_the_teacher_with_every_anchor(anchor):
    np.testing.assert_allclose(distilled(anchor, corrected=True), [1.0, 0.5], atol=2e-3)


def test_the_teacher_alone_as_target_ends_between_anchor_and_teacher():
    np.testing.assert_allclose(distilled(Anchor(kind="fixed"), corrected=False), [0.7, 0.447214], atol=2e-3)


def test_the_teacher_alone_and_a_moving_anchor_never_settle():
    """Each step multiplies the anchor by the teacher once more: the variance keeps shrinking, far below the teacher's."""
    spreads = [distilled(Anchor(kind="ema"), False, updates=updates)[1] for updates in (500, 3000)]
    assert spreads[1] < 0.7 * spreads[0] and spreads[1] < 0.25
