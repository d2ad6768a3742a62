"""Losses and gradients of HAPO, ProGRPO, BAPO and ARES against loops that were written apart from them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import second_references_a as references
from token_batches import littered, responses

from maxent_rl.tokens import objectives

# A second opinion: the first stands in test_credit_references.py and the tests of each paper.
pytestmark = pytest.mark.matrix

SIZES = ((5, 4, 4, 3), (6, 5, 3, 2), (7, 4, 4, 1), (3, 3, 5, 5))
NUMBERS = (5, 0, 9, 2)
CHANCES = (0.8, 0.5, 0.2, 0.5)


def drawn(seed, binary=True, empty=False, columns=2):
    """(outputs, batch) of 16 responses in unequal groups whose rows are mixed, with holes in the mask."""
    draw = np.random.default_rng(100 + seed)
    parts = [[responses(seed=1000 * seed + 10 * k + j) for j in range(columns)] for k in range(2)]

    def joined(*leaves):
        leaves = [np.asarray(leaf) for leaf in leaves]
        wide = leaves[0].ndim >= 2 and leaves[0].shape[1] == 5
        rows = [np.concatenate(each, axis=1) if wide else each[0] for each in (leaves[:columns], leaves[columns:])]
        return jnp.asarray(np.concatenate(rows))

    outputs, batch = jax.tree.map(joined, *parts[0], *parts[1])
    group = np.repeat(NUMBERS, SIZES[seed])
    rewards = (draw.random(16) < np.repeat(CHANCES, SIZES[seed])).astype(float)
    if seed == 1:
        rewards[group == 0] = 1.0
    if seed == 3:
        rewards[group == 9] = 0.0
    mixed = draw.permutation(16)
    group, rewards = group[mixed], rewards[mixed]
    if not binary:
        rewards = np.where(rewards == rewards[0], rewards, draw.normal(size=16).round(2))
    mask = (draw.random((16, 5 * columns)) < 0.8) & (
        np.arange(5 * columns) < draw.integers(2, 5 * columns + 1, 16)[:, None]
    )
    mask[3] = not empty
    prompt = np.where(draw.random((16, 3)) < 0.3, np.nan, -draw.exponential(size=(16, 3)))
    batch = dataclasses.replace(
        batch,
        mask=jnp.asarray(mask),
        rewards=jnp.asarray(rewards, jnp.float32),
        group_index=jnp.asarray(group),
        logp_prompt=jnp.asarray(prompt, jnp.float32),
    )
    return littered(outputs, dataclasses.replace(batch, group_size=1))


def in_double(outputs, batch):
    """The columns that the references read."""
    names = ("logp_old", "logp_ref", "entropy_old", "rewards", "logp_prompt")
    columns = {name: np.asarray(getattr(batch, name), np.float64) for name in names}
    columns |= {"logp": np.asarray(outputs.logp, np.float64), "entropy": np.asarray(outputs.entropy, np.float64)}
    return columns | {"mask": np.asarray(batch.mask, bool), "group": np.asarray(batch.group_index)}


def differences(loss, columns, step=1e-6):
    """The gradient of a loss in the log-probabilities, by central differences."""
    logp, slope = columns["logp"], np.zeros(columns["mask"].shape)
    for place in zip(*np.nonzero(columns["mask"]), strict=True):
        sides = []
        for side in (step, -step):
            moved = logp.copy()
            moved[place] += side
            sides.append(loss(moved))
        slope[place] = (sides[0] - sides[1]) / (2 * step)
    return slope


def taught(objective):
    """A function (state, outputs, batch) -> ((loss, aux), gradient in the log-probabilities)."""

    @jax.jit
    def step(state, outputs, batch):
        state, batch = objective.prepare(state, batch)
        return jax.value_and_grad(
            lambda logp: objective(state, dataclasses.replace(outputs, logp=logp), batch), has_aux=True
        )(outputs.logp)

    return step


def assert_same(found, slope, loss, columns):
    """Equal to what single precision leaves of a loss of order 1."""
    value, expected = loss(columns["logp"]), differences(loss, columns)
    np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-7)
    assert np.any(expected != 0)


CASES = (
    ("hapo", {}),
    ("hapo", {"hapo_score": "literal", "drop_uniform_groups": False, "clip_strength": 0.5, "credit_strength": 0.7}),
    ("progrpo", {}),
    ("progrpo", {"arm_prompt": "low", "arm_scope": "correct", "arm_all_correct": False, "arm_low_share": 0.35}),
    ("progrpo", {"arm_prompt": "none", "arm_weight": 1.0}),
    ("hapo", {"dual_clip": 1.3, "entropy_pivot": 0.5}),
    ("bapo", {}),
    ("bapo", {"balance_share": 0.7}),
    ("bapo", {"balance_share": 0.6, "balance_by": "gradient", "balance_weight": "one"}),
    ("bapo_released", {}),
    ("bapo_released", {"balance_share": 0.55, "dual_clip": 1.3}),
    ("bapo_released", {"balance_share": 0.6, "balance_by": "gradient", "balance_weight": "probability"}),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changed"), CASES)
def test_value_and_gradient(name, changed):
    objective, settings = objectives.make(name, **changed), objectives.settings(name) | changed
    step = taught(objective)
    for seed in range(4):
        for binary in (True, False):
            outputs, batch = drawn(seed, binary, empty=seed == 2)
            columns = in_double(outputs, batch)
            loss = getattr(references, name.removesuffix("_released"))(columns, settings)
            (found, _), slope = step(objective.init(), outputs, batch)
            assert_same(found, slope, loss, columns)


@pytest.mark.slow
def test_hapo_draws_by_the_entropies_of_the_batch_before():
    objective = objectives.make("hapo", drop_uniform_groups=False, temperature_width=0.3)
    outputs, batch = drawn(1)
    columns, state = in_double(outputs, batch), objective.init()
    entropy = np.geomspace(1e-3, 3.0, 40)
    np.testing.assert_array_equal(objective.sampling(state).temperature(jnp.asarray(entropy)), 1.0)
    state, _ = objective.prepare(state, batch)
    factors = objective.sampling(state).temperature(jnp.asarray(entropy))
    np.testing.assert_allclose(factors, references.hapo_temperatures(columns, entropy, 0.8, 0.3), rtol=1e-5)


@pytest.mark.slow
def test_hapo_falls_back_on_the_group_where_few_tokens_are_right():
    outputs, batch = drawn(2)
    rows = np.flatnonzero(np.asarray(batch.group_index) == 5)
    rewards = np.asarray(batch.rewards).copy()
    rewards[rows] = np.arange(len(rows)) == 0
    mask = np.asarray(batch.mask).copy()
    mask[rows[0]] &= np.cumsum(mask[rows[0]]) == 1
    batch = dataclasses.replace(batch, rewards=jnp.asarray(rewards), mask=jnp.asarray(mask))
    columns, settings = in_double(outputs, batch), objectives.settings("hapo")
    free = references.pooled_advantages(columns, 1e-6, np.inf)
    assert np.abs(free[rows]).max() > 5
    objective = objectives.make("hapo")
    (found, _), slope = taught(objective)(objective.init(), outputs, batch)
    assert_same(found, slope, references.hapo(columns, settings), columns)


ARES = (
    ("ares", {}),
    ("ares", {"ares_quantile": 0.3, "ares_relaxation": 0.25, "ares_kl_target": 0.05, "ares_relaxed": "window"}),
    ("ares", {"ares_quantile": 0.3, "ares_window": 2, "kl_weight": 20.0}),
    ("ares_released", {}),
    (
        "ares_released",
        {"ares_quantile": 0.6, "ares_kl_every": 2, "ares_forgetting": 0.3, "kl_weight": 0.5, "dual_clip": 1.3},
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changed"), ARES)
def test_ares_from_batch_to_batch(name, changed):
    objective, settings = objectives.make(name, **changed), objectives.settings(name) | changed
    step, state, memory = taught(objective), objective.init(), references.ares_memory(settings)
    shaped = 0
    for seed in (0, 1, 2, 3, 0, 2):
        outputs, batch = drawn(seed, empty=seed == 2)
        columns = in_double(outputs, batch)
        loss = references.ares(columns, settings, memory)
        (found, aux), slope = step(state, outputs, batch)
        state = aux.state
        shaped += np.sum((loss.rewards != 0) & (loss.rewards != 1))
        assert_same(found, slope, loss, columns)
    assert shaped > 3 or not changed  # at the default quantile no window passes in responses as short as these
