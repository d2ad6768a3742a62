"""FlashSAC's trunk: written out in NumPy in both modes, and which statistics it goes by."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.networks.flash import FlashTrunk
from maxent_rl.networks.projection import project

TRUNK = FlashTrunk(8, 2)
ROWS = 3.0 + 2.0 * jax.random.normal(jax.random.key(1), (32, 3))
first = functools.cache(lambda: jax.jit(TRUNK.init)(jax.random.key(0), ROWS))
evaluate = jax.jit(lambda variables, rows: TRUNK.apply(variables, rows))
train = jax.jit(lambda variables, rows: TRUNK.apply(variables, rows, train=True, mutable=["batch_stats"]))


def moved() -> dict:
    """Parameters and statistics none of which is at its first value."""
    return jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape).astype(leaf.dtype), first()
    )


def written_out(variables, rows, training):
    variables = jax.tree.map(np.float64, variables)

    def norm(path, inputs):
        own, seen = variables["params"], variables["batch_stats"]
        for name in path:
            own, seen = own[name], seen[name]
        mean, variance = (inputs.mean(0), inputs.var(0)) if training else (seen["mean"], seen["var"])
        return (inputs - mean) / np.sqrt(variance + 1e-5) * own["scale"] + own["bias"]

    parameters = variables["params"]
    stream = norm(["BatchNorm_0"], np.float64(rows)) @ parameters["Dense_0"]["kernel"]
    for block in ("FlashBlock_0", "FlashBlock_1"):
        branch = stream
        for index in range(2):
            branch = branch @ parameters[block][f"Dense_{index}"]["kernel"]
            branch = np.maximum(norm([block, f"BatchNorm_{index}"], branch), 0)
        stream = stream + branch
    rms = np.sqrt(np.mean(stream**2, axis=-1, keepdims=True) + 1e-6)
    return stream / rms * parameters["RMSNorm_0"]["scale"]


@pytest.mark.slow
def test_it_is_what_the_formula_says_in_both_modes() -> None:
    variables = moved()
    assert_close(evaluate(variables, ROWS), written_out(variables, ROWS, training=False))
    assert_close(train(variables, ROWS)[0], written_out(variables, ROWS, training=True), rtol=1e-4)


@pytest.mark.slow
def test_in_evaluation_a_row_does_not_depend_on_others() -> None:
    variables = moved()
    assert_close(evaluate(variables, ROWS[:5]), evaluate(variables, ROWS)[:5])
    assert np.max(np.abs(train(variables, ROWS[:5])[0] - train(variables, ROWS)[0][:5])) > 0.01


def test_in_training_the_unit_of_the_inputs_does_not_matter() -> None:
    features, _ = train(first(), ROWS)
    assert_close(train(first(), 50.0 * ROWS - 7.0)[0], features, rtol=1e-4)


def test_running_statistics_move_by_a_hundredth_and_only_when_asked() -> None:
    _, after = train(first(), ROWS)
    seen = after["batch_stats"]["BatchNorm_0"]
    assert_close(seen["mean"], 0.01 * np.mean(ROWS, axis=0))
    assert_close(seen["var"], 0.99 + 0.01 * np.var(ROWS, axis=0))
    still = jax.jit(lambda rows: TRUNK.apply(first(), rows, train=True))(ROWS)
    assert_close(still, train(first(), ROWS)[0])


def test_evaluation_agrees_with_training_once_the_statistics_have_followed() -> None:
    def follow(seen, _):
        return TRUNK.apply(first() | {"batch_stats": seen}, ROWS, train=True, mutable=["batch_stats"])[1][
            "batch_stats"
        ], ()

    seen, _ = jax.jit(lambda seen: jax.lax.scan(follow, seen, None, 2_000))(first()["batch_stats"])
    # 0.99^2000 is 2e-9: what is left of the first statistics is below the rounding of the means.
    assert_close(evaluate(first() | {"batch_stats": seen}, ROWS), train(first(), ROWS)[0], rtol=1e-3)


def test_features_begin_with_a_mean_square_of_one() -> None:
    assert_close(np.mean(np.square(train(first(), ROWS)[0]), axis=-1), np.ones(32), rtol=1e-4)


def test_it_begins_where_projection_would_put_it_and_has_no_biases_of_layers() -> None:
    parameters = first()["params"]
    assert_close(jax.jit(lambda tree: project(tree, "norms"))(parameters), parameters)
    layers = [parameters["Dense_0"], *(parameters["FlashBlock_1"][name] for name in ("Dense_0", "Dense_1"))]
    assert all(set(layer) == {"kernel"} for layer in layers)
    assert [layer["kernel"].shape for layer in layers] == [(3, 8), (8, 32), (32, 8)]


@pytest.mark.slow
def test_the_length_of_a_column_changes_nothing_in_training() -> None:
    longer = jax.tree.map(jnp.copy, first())
    longer["params"]["FlashBlock_0"]["Dense_0"]["kernel"] *= 10.0
    assert_close(train(longer, ROWS)[0], train(first(), ROWS)[0], rtol=1e-3)
    assert_close(train(longer | {"params": project(longer["params"], "norms")}, ROWS)[0], train(first(), ROWS)[0])


@pytest.mark.slow
def test_seeds_side_by_side_are_each_as_alone() -> None:
    def run(key):
        return TRUNK.apply(TRUNK.init(key, ROWS), ROWS, train=True, mutable=["batch_stats"])

    keys = jax.random.split(jax.random.key(3), 2)
    together, alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for index, key in enumerate(keys):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        assert_close(own, alone(key), rtol=1e-4, scale=1.0)  # means of normalised numbers are zero but for rounding
