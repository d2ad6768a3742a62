"""Statistics of tokens: the same as from all logits at once, in value and gradient, whatever the chunks, types and devices."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from run_processes import finish, host_devices, start_python
from support.closeness import assert_close
from support.lowering import lower_for, on_each_platform

from maxent_rl.errors import InvalidSettingError, MaxentRLError, ShapeError
from maxent_rl.tokens import vocabulary
from maxent_rl.tokens.statistics import _division, logits_statistics, token_statistics

N, T, D, V = 3, 5, 4, 11
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


def case(key=0, dtype=jnp.float32, shape=(N, T, D, V)):
    """(hidden, unembedding, tokens, weights of a loss in logp and entropy)"""
    sequences, length, width, vocabulary = shape
    keys = jax.random.split(jax.random.key(key), 5)
    hidden = jax.random.normal(keys[0], (sequences, length, width), dtype)
    unembedding = jax.random.normal(keys[1], (width, vocabulary), dtype)
    tokens = jax.random.randint(keys[2], (sequences, length), 0, vocabulary)
    return hidden, unembedding, tokens, jax.random.normal(keys[3], (2, sequences, length), dtype)


def naive(hidden, unembedding, tokens, temperature=1.0):
    log_probs = jax.nn.log_softmax(hidden @ unembedding / temperature)
    logp = jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
    return logp, -jnp.sum(jnp.exp(log_probs) * log_probs, -1)


def chunked(hidden, unembedding, tokens, temperature=1.0, **settings):
    found = token_statistics(hidden, unembedding, tokens, temperature, **settings)
    return found.logp, found.entropy


def slopes(function, hidden, unembedding, tokens, weights, *more, **settings):
    """Gradients in hidden and unembedding of a loss in both statistics."""

    def loss(hidden, unembedding):
        logp, entropy = function(hidden, unembedding, tokens, *more, **settings)
        return jnp.vdot(weights[0], logp) + jnp.vdot(weights[1], entropy)

    return jax.grad(loss, (0, 1))(hidden, unembedding)


def test_a_row_by_hand():
    """Logits (0, log 2, log 3, -inf): p = (1, 2, 3, 0) / 6, H = 1.011404 nats."""
    logits = jnp.array([0.0, np.log(2), np.log(3), -np.inf])
    found = logits_statistics(logits, 1, {"rest": lambda log_probs, token: 1 - jnp.exp(log_probs[token])})
    assert_close(np.stack([found.logp, found.entropy, found.extra["rest"]]), np.array([-np.log(3), 1.0114043, 2 / 3]))
    p = np.array([1, 2, 3, 0]) / 6
    assert_close(jax.grad(lambda z: logits_statistics(z, 1).logp)(logits), np.eye(4)[1] - p)
    by_hand = -p * (np.log(p, where=p > 0, out=np.zeros(4)) + 1.0114043)
    assert_close(jax.grad(lambda z: logits_statistics(z, 1).entropy)(logits), by_hand)


@pytest.mark.slow
@wraps
@pytest.mark.parametrize("chunk", [None, 1, 2, 4, 7, 14, 100])
def test_equal_to_the_naive_form_for_every_chunk(wrap, chunk):
    hidden, unembedding, tokens, weights = case()
    for temperature in (1.0, 0.6):
        found = wrap(lambda *xs, t=temperature: chunked(*xs, t, chunk=chunk))(hidden, unembedding, tokens)
        for one, other in zip(found, naive(hidden, unembedding, tokens, temperature), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        found = wrap(lambda *xs, t=temperature: slopes(chunked, *xs, t, chunk=chunk))(
            hidden, unembedding, tokens, weights
        )
        assert_close(found, slopes(naive, hidden, unembedding, tokens, weights, temperature))


@given(sequences=st.integers(1, 40), length=st.integers(1, 40), most=st.integers(1, 200))
def test_chunks_hold_every_token_and_are_within_their_limit(sequences, length, most):
    chunks, rows = _division(sequences, length, most)
    assert rows <= most and 0 <= chunks * rows - sequences * length < chunks
    fewest = -(-sequences * length // most)
    assert fewest <= chunks <= 2 * fewest
    if any(length % number == 0 for number in range(fewest, 2 * fewest + 1)):
        assert rows % sequences == 0, "every chunk takes its share of every sequence"


vocabulary_rows = arrays.arrays(np.float32, 7, elements=st.floats(-1e4, 1e4, width=32) | st.just(-np.inf))


@jax.jit
def of_row(logits, token):
    found = logits_statistics(logits, token)
    in_logp = jax.grad(lambda z: logits_statistics(z, token).logp)(logits)
    return found.logp, found.entropy, in_logp, jax.grad(lambda z: logits_statistics(z, token).entropy)(logits)


@pytest.mark.slow
@given(logits=vocabulary_rows, token=st.integers(0, 6))
def test_extreme_logits_keep_values_and_gradients_right(logits, token):
    logits[(token + 1) % 7] = 3.0  # something can be drawn
    logp, entropy, in_logp, in_entropy = of_row(logits, token)
    p = np.exp(np.float64(logits) - np.float64(logits).max())
    p /= p.sum()
    np.testing.assert_allclose(entropy, -np.sum(p[p > 0] * np.log(p[p > 0])), atol=1e-5)
    np.testing.assert_allclose(np.exp(logp), p[token], atol=1e-6)
    assert np.isfinite(logp) or logits[token] == -np.inf
    np.testing.assert_allclose(in_logp, np.eye(7)[token] - p, atol=1e-6)
    assert np.isfinite(in_entropy).all() and np.all(in_entropy[p == 0] == 0)
    np.testing.assert_allclose(in_entropy.sum(), 0.0, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=10)
@given(key=st.integers(0, 10**6), temperature=st.floats(0.3, 3.0))
def test_gradients_agree_with_finite_differences(key, temperature):
    with jax.enable_x64(True):
        found, numeric = along_and_numeric(key, temperature)
        np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-7)


@jax.jit
def along_and_numeric(key, temperature):
    """The slope of a loss in a random direction: from gradients, and from values on both sides."""
    hidden, unembedding, tokens, weights = case(key, jnp.float64, (2, 3, 4, 6))
    aside = case(key + 1, jnp.float64, (2, 3, 4, 6))[:2]

    def loss(hidden, unembedding):
        logp, entropy = chunked(hidden, unembedding, tokens, temperature, chunk=4)
        return jnp.vdot(weights[0], logp) + jnp.vdot(weights[1], entropy)

    in_hidden, in_unembedding = jax.grad(loss, (0, 1))(hidden, unembedding)
    ahead, behind = (loss(hidden + step * aside[0], unembedding + step * aside[1]) for step in (1e-6, -1e-6))
    return jnp.vdot(in_hidden, aside[0]) + jnp.vdot(in_unembedding, aside[1]), (ahead - behind) / 2e-6


def test_bfloat16_adds_up_in_float32():
    """Many tokens with the same gradient: added up in bfloat16 the sum would stop at 256 times one of them."""
    hidden, unembedding = jnp.ones((1, 2048, 1), jnp.bfloat16), jnp.zeros((1, 2), jnp.bfloat16)
    tokens = jnp.zeros((1, 2048), int)
    slope = jax.grad(lambda w: jnp.sum(token_statistics(hidden, w, tokens, chunk=4).logp))(unembedding)
    assert slope.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(slope), [[1024.0, -1024.0]])


@pytest.mark.slow
def test_bfloat16_inputs_give_float32_statistics():
    """Logits that differ by less than bfloat16 can tell at their size; the sum over the vocabulary too."""
    hidden, unembedding, tokens, weights = case(dtype=jnp.bfloat16)
    found = token_statistics(hidden, unembedding, tokens, chunk=4)
    assert found.logp.dtype == found.entropy.dtype == jnp.float32
    exact = [each.astype(jnp.float32) for each in (hidden, unembedding)]
    for one, other in zip((found.logp, found.entropy), naive(*exact, tokens), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    pairs = zip(
        slopes(chunked, hidden, unembedding, tokens, weights, chunk=4),
        slopes(naive, *exact, tokens, weights.astype(jnp.float32)),
        strict=True,
    )
    for one, other in pairs:
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(one), other, rtol=0.03, atol=0.03)


@pytest.mark.slow
def test_vmap_over_seeds_equals_seeds_alone():
    cases = [case(key) for key in range(3)]
    together = [jnp.stack(each) for each in zip(*cases, strict=True)]
    mapped = jax.jit(jax.vmap(lambda *xs: (chunked(*xs[:3], 0.8, chunk=4), slopes(chunked, *xs, 0.8, chunk=4))))
    found = mapped(*together)
    for index, each in enumerate(cases):
        alone = chunked(*each[:3], 0.8, chunk=4), slopes(chunked, *each, 0.8, chunk=4)
        assert_close(jax.tree.map(lambda leaf, i=index: leaf[i], found), alone)


@pytest.mark.slow
def test_masked_positions_may_hold_anything():
    hidden, unembedding, tokens, weights = case()
    mask = jnp.arange(T) < jnp.array([[T], [2], [0]])
    weights = weights * mask
    expected = slopes(naive, hidden, unembedding, tokens, weights)
    garbage = jnp.where(mask[..., None], hidden, jnp.nan), unembedding, jnp.where(mask, tokens, -7)
    found = token_statistics(*garbage, chunk=4, mask=mask, extra={"most": lambda log_probs, _: log_probs.max(-1)})
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(leaf).all()
    np.testing.assert_allclose(found.logp * mask, naive(hidden, unembedding, tokens)[0] * mask, rtol=1e-5, atol=1e-6)
    for given_mask in (mask, mask.astype(jnp.float32), None):  # a cotangent of zero is enough for gradients
        slope = slopes(chunked, *garbage, weights, chunk=4, mask=given_mask)
        np.testing.assert_allclose(slope[0], expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(slope[1], expected[1], rtol=1e-5, atol=1e-5)
        assert np.all(slope[0][~mask] == 0)


def test_nan_where_it_counts_is_not_hidden():
    hidden, unembedding, tokens, weights = case()
    hidden = hidden.at[0, 0, 0].set(jnp.nan)
    found = token_statistics(hidden, unembedding, tokens)
    assert np.isnan(found.logp[0, 0]) and np.isnan(found.entropy[0, 0]) and np.isfinite(found.logp[1:]).all()
    in_hidden, in_unembedding = slopes(chunked, hidden, unembedding, tokens, weights)
    assert np.isnan(in_hidden[0, 0]).all() and np.isnan(in_unembedding).any()


def test_a_logit_row_of_nan_without_cotangent_gives_zeros():
    logits, tokens = jnp.array([[0.0, 1.0], [jnp.nan, jnp.nan]]), jnp.array([0, 1])
    slope = jax.grad(lambda z: logits_statistics(z, tokens).logp[0] + logits_statistics(z, tokens).entropy[0])(logits)
    assert np.isfinite(slope).all() and np.all(slope[1] == 0)


def test_temperature_is_traced_and_held_constant():
    hidden, unembedding, tokens, _ = case()

    def total(temperature):
        return sum(map(jnp.sum, chunked(hidden, unembedding, tokens, temperature, chunk=4)))

    value, slope = jax.jit(jax.value_and_grad(total))(0.5)
    logp, entropy = naive(hidden, unembedding, tokens, 0.5)
    assert_close(value, jnp.sum(logp) + jnp.sum(entropy), scale=float(-jnp.sum(logp)))
    assert slope == 0


@pytest.mark.slow
def test_extra_functions_see_normalised_log_probs_and_give_no_gradient():
    hidden, unembedding, tokens, _ = case()
    functions = {
        "collision": lambda log_probs, tokens: jnp.sum(jnp.exp(2 * log_probs), -1),
        "mass": lambda log_probs, tokens: jnp.sum(jnp.exp(log_probs), -1),
        "rank": lambda log_probs, tokens: jnp.sum(log_probs > log_probs[jnp.arange(len(tokens)), tokens][:, None], -1),
    }
    found = token_statistics(hidden, unembedding, tokens, 0.7, chunk=4, extra=functions).extra
    p = jax.nn.softmax(hidden @ unembedding / 0.7)
    chosen = jnp.take_along_axis(p, tokens[..., None], -1)
    assert_close(found["collision"], jnp.sum(p**2, -1))
    np.testing.assert_allclose(found["mass"], 1.0, rtol=1e-5)
    np.testing.assert_array_equal(found["rank"], jnp.sum(p > chosen, -1))

    def total(weights):
        return token_statistics(hidden, weights, tokens, extra=functions).extra["collision"].sum()

    assert np.all(jax.grad(total)(unembedding) == 0)


def test_extra_functions_may_close_over_traced_numbers():
    """A bound that an objective learns is a traced number, also inside a gradient."""
    hidden, unembedding, tokens, _ = case()

    @jax.jit
    def total(unembedding, bound):
        above = {"above": lambda log_probs, _: jnp.sum(log_probs > jax.lax.stop_gradient(bound), -1)}
        found = token_statistics(hidden, unembedding, tokens, chunk=4, extra=above)
        return jnp.sum(found.logp * found.extra["above"])

    in_unembedding, in_bound = jax.grad(total, (0, 1))(unembedding, -2.0)
    count = jnp.sum(jax.nn.log_softmax(hidden @ unembedding) > -2.0, -1)
    expected = jax.grad(lambda w: jnp.sum(naive(hidden, w, tokens)[0] * count))(unembedding)
    np.testing.assert_allclose(in_unembedding, expected, rtol=1e-4, atol=1e-5)
    assert in_bound == 0


@pytest.mark.slow
def test_no_array_of_all_logits_is_held():
    """The largest array of the compiled program, forward and backward, has one chunk's rows or is the unembedding's."""
    shape = (4, 64, 8, 512)
    hidden, unembedding, tokens, weights = case(shape=shape)
    program = jax.jit(lambda *xs: slopes(chunked, *xs, chunk=16)).lower(hidden, unembedding, tokens, weights).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * 64 * 512 * 4 / 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hidden": jnp.zeros((T, D))}, r"hidden has the shape \(5, 4\); \[N, T, D\]"),
        ({"unembedding": jnp.zeros((V, D))}, r"unembedding has the shape \(11, 4\).* D = 4"),
        ({"tokens": jnp.zeros((T, N), int)}, r"tokens has the shape \(5, 3\).*\(3, 5\)"),
        ({"mask": jnp.zeros(N)}, r"mask has the shape \(3,\).*\(3, 5\)"),
        ({"extra": {"most": lambda log_probs, _: log_probs.max()}}, r"'most' makes \(\) of log_probs \(15, 11\)"),
        ({"temperature": jnp.ones(N)}, r"temperature has the shape \(3,\)"),
    ],
)
def test_a_wrong_shape_says_which_and_what_was_expected(change, match):
    hidden, unembedding, tokens, _ = case()
    with pytest.raises(ShapeError, match=match):
        token_statistics(**({"hidden": hidden, "unembedding": unembedding, "tokens": tokens} | change))


@pytest.mark.parametrize("change", [{"chunk": 0}, {"temperature": 0.0}, {"tokens": jnp.zeros((N, T))}])
def test_impossible_settings_are_refused(change):
    hidden, unembedding, tokens, _ = case()
    with pytest.raises(InvalidSettingError):
        token_statistics(**({"hidden": hidden, "unembedding": unembedding, "tokens": tokens} | change))


def test_wrong_shapes_of_logits_are_refused():
    for logits, tokens in ((jnp.zeros((2, 3)), jnp.zeros(3, int)), (jnp.zeros(()), jnp.zeros((), int))):
        with pytest.raises(MaxentRLError, match="tokens has the shape"):
            logits_statistics(logits, tokens)


SHARDED = """
import re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from support.closeness import assert_close
from test_statistics import case, slopes, chunked
from maxent_rl.tokens.statistics import token_statistics

shape = sequences, length, width, vocabulary = 4, 16, 8, 64
inputs = case(shape=shape)
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))

@jax.jit
def everything(*inputs):
    extra = {"collision": lambda log_probs, _: jnp.sum(jnp.exp(2 * log_probs), -1)}
    return token_statistics(*inputs[:3], 0.7, chunk=16, extra=extra), slopes(chunked, *inputs, 0.7, chunk=16)

expected = everything(*inputs)
for batch, words in ((P("data"), P(None, "model")), (P(), P(None, "model")), (P("data"), P())):
    places = batch, words, batch, P(None, *batch)
    placed = [jax.device_put(each, NamedSharding(mesh, place)) for each, place in zip(inputs, places)]
    program = everything.lower(*placed).compile()
    text = program.as_text()
    assert "all-gather" not in text and "all-to-all" not in text and "collective-permute" not in text, (batch, words)
    parts = 16 // (2 if batch else 1), vocabulary // (2 if words else 1)
    assert f"f32[{parts[0]},{parts[1]}]" in text and f"f32[16,{vocabulary}]" not in text, (batch, words)
    assert_close(program(*placed), expected)

here = P("data")
by_devices = jax.shard_map(
    lambda *inputs: slopes(chunked, *inputs, 0.7, chunk=16),
    mesh=mesh, in_specs=(here, P(), here, P(None, "data")), out_specs=(here, P()),
)  # the gradient of what is the same on all devices is their sum
assert_close(jax.jit(by_devices)(*inputs), expected[1])
"""


@pytest.mark.slow
def test_sharded_over_batch_and_vocabulary_without_gathering_anything():
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    finish(start_python("-c", SHARDED, **host_devices(4), PYTHONPATH=path))


@on_each_platform
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_can_be_written_out_for_accelerators(platform, dtype):
    """Lowered, not compiled, with chunks that leave something over, a mask and a further function."""
    extra = {"collision": lambda log_probs, tokens: jnp.sum(jnp.exp(2 * log_probs), -1)}

    def loss(hidden, unembedding, tokens, mask):
        found = token_statistics(hidden, unembedding, tokens, 0.7, chunk=4, extra=extra, mask=mask)
        return jnp.sum(found.logp + found.entropy + found.extra["collision"])

    shapes = [((N, T, D), dtype), ((D, V), dtype), ((N, T), jnp.int32), ((N, T), jnp.float32)]
    program = jax.jit(jax.value_and_grad(loss, (0, 1)))
    assert "func.func public @main" in lower_for(platform, program, *(jax.ShapeDtypeStruct(*each) for each in shapes))


VOCABULARY_FUNCTIONS = {
    "top": vocabulary.top_log_probs(3),
    "top_entropy": vocabulary.top_entropy(2),
    "nucleus_entropy": vocabulary.nucleus_entropy(0.8),
    "nucleus_mean": lambda log_probs, tokens: jnp.sum(
        jnp.exp(log_probs) * jnp.maximum(vocabulary.nucleus_log_prob(0.8)(log_probs, tokens), -9.0)[..., None], -1
    ),
}


@pytest.mark.slow
def test_functions_of_the_vocabulary_have_gradients_in_chunks():
    """Values and slopes are those of the whole array of logits, of one number for each token and of several."""
    keys = jax.random.split(jax.random.key(3), 3)
    hidden, matrix = jax.random.normal(keys[0], (2, 5, 4)), jax.random.normal(keys[1], (4, 7))
    tokens = jax.random.randint(keys[2], (2, 5), 0, 7)

    def mixed(found):
        return sum(jnp.sum(jnp.sin(jnp.arange(leaf.size).reshape(leaf.shape) + leaf)) for leaf in found)

    def chunked(hidden, matrix):
        found = token_statistics(hidden, matrix, tokens, 0.7, chunk=4, differentiable=VOCABULARY_FUNCTIONS)
        return mixed((found.logp, found.entropy, *found.extra.values())), found

    def whole(hidden, matrix):
        log_probs = jax.nn.log_softmax(hidden @ matrix / 0.7)
        logp = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        found = {name: function(log_probs, tokens) for name, function in VOCABULARY_FUNCTIONS.items()}
        return mixed((logp, -jnp.sum(jnp.exp(log_probs) * log_probs, -1), *found.values())), found

    @jax.jit
    def both(hidden, matrix):
        return [jax.value_and_grad(each, (0, 1), has_aux=True)(hidden, matrix) for each in (chunked, whole)]

    ((_, found), slopes), ((_, expected), of_whole) = both(hidden, matrix)
    assert found.extra["top"].shape == (2, 5, 3)
    for name, values in expected.items():
        assert_close(found.extra[name], values, err_msg=name)
    assert_close(slopes, of_whole)


@pytest.mark.slow
def test_constant_functions_stay_constant_beside_those_with_a_gradient():
    hidden, matrix, tokens = jnp.ones((1, 2, 3)), jnp.arange(12.0).reshape(3, 4) / 9, jnp.zeros((1, 2), jnp.int32)

    def total(hidden, names):
        kinds = {"extra": {}, "differentiable": {}}
        for name, kind in names.items():
            kinds[kind][name] = vocabulary.top_entropy(2)
        return sum(jnp.sum(one) for one in token_statistics(hidden, matrix, tokens, **kinds).extra.values())

    both, moving, constant = (
        jax.grad(total)(hidden, names)
        for names in ({"a": "extra", "b": "differentiable"}, {"b": "differentiable"}, {"a": "extra"})
    )
    assert_close(both, moving)
    assert np.all(constant == 0) and np.any(moving != 0)
    with pytest.raises(InvalidSettingError, match="top is asked for in two of extra, differentiable and compared"):
        functions = {"top": vocabulary.top_entropy(1)}
        token_statistics(hidden, matrix, tokens, extra=functions, differentiable=functions)


@pytest.mark.slow
def test_a_vocabulary_by_hand():
    log_probs = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    token = jnp.int32(1)
    assert_close(jnp.exp(vocabulary.top_log_probs(9)(log_probs, token)), np.array([0.5, 0.3, 0.15, 0.05]))
    told = -(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2))
    assert_close(vocabulary.top_entropy(2)(log_probs, token), told)
    assert_close(jnp.exp(vocabulary.nucleus_log_prob(0.8)(log_probs, token)), 0.375)
    assert vocabulary.nucleus_log_prob(0.8)(log_probs, jnp.int32(2)) == -jnp.inf
    assert_close(vocabulary.nucleus_entropy(0.8)(log_probs, token), -(0.625 * np.log(0.625) + 0.375 * np.log(0.375)))
    assert vocabulary.likeliest(log_probs, token) == 0
    with pytest.raises(InvalidSettingError, match="At least one token"):
        vocabulary.top_log_probs(0)


@pytest.mark.slow
def test_gradients_of_functions_of_a_large_vocabulary_stay_within_chunks():
    """16,384 tokens of 151,936: planned memory above inputs and outputs, values and gradients; nothing is run."""
    shapes = [((16, 1024, 64), jnp.bfloat16), ((64, 151_936), jnp.bfloat16), ((16, 1024), jnp.int32)]
    hidden, matrix, tokens = (jax.ShapeDtypeStruct(*shape) for shape in shapes)
    functions = {"top": vocabulary.top_log_probs(10), "entropy": vocabulary.top_entropy(10)}

    def loss(hidden, matrix, tokens):
        found = token_statistics(hidden, matrix, tokens, differentiable=functions)
        return jnp.sum(found.logp + found.entropy) + sum(jnp.sum(one) for one in found.extra.values())

    program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(hidden, matrix, tokens).compile()
    assert program.memory_analysis().temp_size_in_bytes < 2 * 2**30
