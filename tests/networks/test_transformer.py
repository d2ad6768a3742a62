"""The transformer against its formulas, written out in NumPy, and against itself with a cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, ShapeError, UnknownNameError
from maxent_rl.networks import Transformer, TransformerConfig, init_cache, unembedding

TINY = TransformerConfig(
    vocabulary_size=11,
    hidden_size=12,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    head_size=6,
    intermediate_size=20,
)
VARIANTS = {
    "llama": TINY,
    "qwen2": dataclasses.replace(TINY, attention_bias=True, rope_theta=1e6),
    "qwen3": dataclasses.replace(TINY, qk_norm=True, tie_embeddings=False, rms_norm_epsilon=1e-2),
    "all heads of their own": dataclasses.replace(TINY, num_key_value_heads=4),
    "one head for all": dataclasses.replace(TINY, num_key_value_heads=1, num_layers=1),
}
# Padding on the left, none, nothing but padding, and a gap.
VALID = np.array([[0, 0, 1, 1, 1, 1, 1], [1] * 7, [0] * 7, [0, 1, 1, 0, 0, 1, 1]], bool)
TOKENS = np.random.default_rng(0).integers(0, TINY.vocabulary_size, VALID.shape)


def random_params(config):
    """Parameters of ordinary size: as initialised, norms are 1, biases 0, and attention is nearly uniform."""
    shapes = jax.eval_shape(Transformer(config).init, jax.random.key(0), TOKENS, VALID)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    random = np.random.default_rng(1)
    return structure.unflatten(random.normal(0.3, 0.6, leaf.shape).astype(np.float32) for leaf in leaves)


@jax.jit(static_argnums=0)
def hidden_states(model, params, tokens, valid):
    return model.apply({"params": params}, tokens, valid)


@jax.jit(static_argnums=0)
def read(model, params, tokens, valid, cache):
    return model.apply({"params": params}, tokens, valid, cache=cache)


def reference(params, config, tokens):
    """Hidden states [L, D] of one row without padding, in float64, token by token and head by head."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, weight):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + config.rms_norm_epsilon) * weight["weight"]

    def linear(x, layer):
        return x @ layer["kernel"] + layer.get("bias", 0.0)

    def rotate(x, position):
        half = config.head_size // 2
        turned = np.empty_like(x)
        for i in range(half):
            angle = position * config.rope_theta ** (-2 * i / config.head_size)
            turned[i] = x[i] * np.cos(angle) - x[i + half] * np.sin(angle)
            turned[i + half] = x[i + half] * np.cos(angle) + x[i] * np.sin(angle)
        return turned

    def heads(x, layer, weight, position):
        found = linear(x, layer).reshape(-1, config.head_size)
        if config.qk_norm and weight is not None:
            found = norm(found, weight)
        return found if position is None else np.stack([rotate(head, position) for head in found])

    def attention(stream, p):
        queries = [heads(x, p["q_proj"], p.get("q_norm"), t) for t, x in enumerate(stream)]
        keys = [heads(x, p["k_proj"], p.get("k_norm"), t) for t, x in enumerate(stream)]
        values = [heads(x, p["v_proj"], None, None) for x in stream]
        outputs = []
        for t in range(len(stream)):
            attended = []
            for h in range(config.num_heads):
                shared = h // (config.num_heads // config.num_key_value_heads)
                scores = [queries[t][h] @ keys[s][shared] / np.sqrt(config.head_size) for s in range(t + 1)]
                weights = np.exp(scores) / np.sum(np.exp(scores))
                attended.append(sum(weights[s] * values[s][shared] for s in range(t + 1)))
            outputs.append(linear(np.concatenate(attended), p["o_proj"]))
        return np.stack(outputs)

    stream = params["embed_tokens"]["embedding"][tokens]
    for index in range(config.num_layers):
        p = params[f"layers_{index}"]
        stream = stream + attention(norm(stream, p["input_layernorm"]), p["self_attn"])
        x = norm(stream, p["post_attention_layernorm"])
        gate = linear(x, p["mlp"]["gate_proj"])
        stream = stream + linear(gate / (1 + np.exp(-gate)) * linear(x, p["mlp"]["up_proj"]), p["mlp"]["down_proj"])
    return norm(stream, params["norm"])


@pytest.mark.slow
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_hidden_states_are_those_of_the_formulas(config):
    params = random_params(config)
    hidden = hidden_states(Transformer(config), params, TOKENS, VALID)
    for row, valid, tokens in zip(hidden, VALID, TOKENS, strict=True):
        if valid.any():  # padding, wherever it is, changes nothing: the reference does not know of it
            np.testing.assert_allclose(row[valid], reference(params, config, tokens[valid]), rtol=2e-4, atol=2e-4)
    assert np.all(np.isfinite(hidden))


@pytest.mark.slow
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_reading_with_a_cache_is_reading_at_once(config):
    model, params = Transformer(config), random_params(config)
    at_once = hidden_states(model, params, TOKENS, VALID)
    cache = init_cache(config, len(TOKENS), 9)  # more room than is used
    first, cache = read(model, params, TOKENS[:, :4], VALID[:, :4], cache)
    parts = [first]
    for place in range(4, 7):
        hidden, cache = read(model, params, TOKENS[:, place, None], VALID[:, place, None], cache)
        parts.append(hidden)
    np.testing.assert_allclose(jnp.concatenate(parts, 1)[VALID], at_once[VALID], rtol=1e-5, atol=1e-5)
    assert cache.size == 7


def test_what_stands_at_invalid_places_has_no_influence():
    model, params = Transformer(TINY), random_params(TINY)
    expected = hidden_states(model, params, TOKENS, VALID)
    for garbage in (3, -100, 10**6):  # also what is no token at all, as label masks have it
        found = hidden_states(model, params, np.where(VALID, TOKENS, garbage), VALID)
        np.testing.assert_array_equal(found, expected)


def test_no_token_sees_a_later_one():
    model, params = Transformer(TINY), random_params(TINY)
    changed = TOKENS.copy()
    changed[:, 5] = (changed[:, 5] + 1) % TINY.vocabulary_size
    before, after = (hidden_states(model, params, tokens, np.ones_like(VALID)) for tokens in (TOKENS, changed))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert np.all(np.abs(before - after)[:, 5:].max(-1) > 1e-3)


@pytest.mark.slow
def test_gradients_pass_padding_and_are_finite():
    model, params = Transformer(VARIANTS["qwen3"]), random_params(VARIANTS["qwen3"])

    def loss(params):
        hidden = hidden_states(model, params, TOKENS, VALID)
        return jnp.sum(jnp.where(VALID[..., None], hidden, 0.0) @ unembedding(params, model.config))

    gradients = jax.grad(loss)(params)
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_a_policy_begins_nearly_uniform():
    model = Transformer(TINY)
    params = jax.jit(model.init)(jax.random.key(0), TOKENS, VALID)["params"]
    logits = hidden_states(model, params, TOKENS, VALID) @ unembedding(params, TINY)
    assert np.max(np.abs(logits)) < 0.5


@pytest.mark.slow
def test_parameters_are_those_of_qwen3_06b():
    """Names and shapes of the published checkpoint (linear weights are [out, in] there); nothing is allocated."""
    config = TransformerConfig(
        vocabulary_size=151936,
        hidden_size=1024,
        num_layers=28,
        num_heads=16,
        num_key_value_heads=8,
        head_size=128,
        intermediate_size=3072,
        rope_theta=1e6,
        qk_norm=True,
        dtype="bfloat16",
    )
    params = jax.eval_shape(Transformer(config).init, jax.random.key(0), TOKENS, VALID)["params"]
    found = {
        "/".join(entry.key for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }
    layer = {
        "input_layernorm/weight": (1024,),
        "self_attn/q_proj/kernel": (1024, 2048),
        "self_attn/k_proj/kernel": (1024, 1024),
        "self_attn/v_proj/kernel": (1024, 1024),
        "self_attn/o_proj/kernel": (2048, 1024),
        "self_attn/q_norm/weight": (128,),
        "self_attn/k_norm/weight": (128,),
        "post_attention_layernorm/weight": (1024,),
        "mlp/gate_proj/kernel": (1024, 3072),
        "mlp/up_proj/kernel": (1024, 3072),
        "mlp/down_proj/kernel": (3072, 1024),
    }
    expected = {"embed_tokens/embedding": (151936, 1024), "norm/weight": (1024,)}
    expected |= {f"layers_{index}/{name}": shape for index in range(28) for name, shape in layer.items()}
    assert found == expected
    assert sum(np.prod(shape) for shape in found.values()) == 596_049_920
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    untied = dataclasses.replace(TINY, tie_embeddings=False, attention_bias=True)
    params = jax.eval_shape(Transformer(untied).init, jax.random.key(0), TOKENS, VALID)["params"]
    assert params["lm_head"]["kernel"].shape == (12, 11)
    assert {name for name, leaf in params["layers_0"]["self_attn"].items() if "bias" in leaf} == {
        "q_proj",
        "k_proj",
        "v_proj",
    }


def test_unembedding_is_the_embedding_or_a_matrix_of_its_own():
    for config in (TINY, VARIANTS["qwen3"]):
        params = random_params(config)
        own = params["embed_tokens"]["embedding"].T if config.tie_embeddings else params["lm_head"]["kernel"]
        np.testing.assert_array_equal(unembedding(params, config), own)


@pytest.mark.slow
def test_bfloat16_computes_nearly_the_same():
    exact, rough = TINY, dataclasses.replace(TINY, dtype="bfloat16")
    params = jax.tree.map(lambda leaf: 0.3 * leaf, random_params(TINY))
    expected = hidden_states(Transformer(exact), params, TOKENS, VALID)
    found = hidden_states(Transformer(rough), params, TOKENS, VALID)
    assert found.dtype == unembedding(params, rough).dtype == init_cache(rough, 1, 1).layers[0][0].dtype == jnp.bfloat16
    np.testing.assert_allclose(found[VALID].astype(jnp.float32), expected[VALID], atol=0.05)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_heads": 3}, InvalidSettingError, "--num-heads must be a multiple of --num-key-value-heads, got 3 and 2"),
        ({"head_size": 5}, InvalidSettingError, "--head-size must be even.*got 5"),
        ({"hidden_size": 0}, InvalidSettingError, "--hidden-size must be at least 1, got 0"),
        ({"rope_theta": -1.0}, InvalidSettingError, "--rope-theta must be greater than 0, got -1"),
        ({"dtype": "float16"}, UnknownNameError, "Unknown value for --dtype 'float16'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 7), (4, 6), None), r"`valid` must have the tokens' shape \(4, 7\), got \(4, 6\)"),
        (((7,), (7,), None), r"Tokens must have shape \(N, L\), got \(7,\)"),
        (((4, 7), (4, 7), (3, 9)), r"4 rows of 7 tokens do not fit into a cache for 3 rows of 9"),
        (((4, 7), (4, 7), (4, 6)), r"4 rows of 7 tokens do not fit into a cache for 4 rows of 6"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(shapes, message):
    tokens, valid, cache = shapes
    cache = cache and init_cache(TINY, *cache)
    with pytest.raises(ShapeError, match=message):
        Transformer(TINY).apply({"params": {}}, jnp.zeros(tokens, int), jnp.ones(valid, bool), cache=cache)


def test_a_configuration_is_hashable():
    assert len({TINY, dataclasses.replace(TINY), dataclasses.replace(TINY, qk_norm=True)}) == 2
