"""The language model apart from who trains it: its answers, what it says of given ones, and its layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.errors import ShapeError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens import LanguageModel, Prompted

CONFIG = TransformerConfig(
    vocabulary_size=7,
    hidden_size=16,
    num_layers=3,
    num_heads=2,
    num_key_value_heads=1,
    head_size=8,
    intermediate_size=16,
)
MODEL = LanguageModel.create(CONFIG, jax.random.key(0), temperature=0.7)
PROMPTS = jnp.array([[0, 2, 3], [4, 5, 6]])


@pytest.fixture(scope="module")
def answered():
    found = jax.jit(lambda model, key: model.respond(PROMPTS, PROMPTS > 0, key, 4))(MODEL, jax.random.key(1))
    return Prompted(PROMPTS, PROMPTS > 0, found.mask), found


@pytest.mark.slow
def test_what_it_says_of_its_answers_is_what_it_drew_them_with(answered):
    prompted, found = answered
    said = jax.jit(lambda model: model.statistics(prompted, found.tokens))(MODEL)
    mask = np.asarray(found.mask)
    np.testing.assert_allclose(said.logp[mask], found.logp[mask], atol=1e-5)
    np.testing.assert_allclose(said.entropy[mask], found.entropy[mask], atol=1e-5)


@pytest.mark.slow
def test_without_a_key_it_takes_the_likeliest_tokens():
    greedy = [MODEL.respond(PROMPTS, PROMPTS > 0, None, 4, temperature).tokens for temperature in (None, 3.0)]
    np.testing.assert_array_equal(*greedy)


@pytest.mark.slow
def test_the_last_layer_under_the_norm_and_the_unembedding_gives_the_logits(answered):
    """At the model's temperature, and of each token of the answer."""
    prompted, found = answered
    layers = jax.jit(lambda model: model.layers(prompted, found.tokens))(MODEL)
    assert layers.shape == (3, 2, 4, 16)
    last = layers[-1] / jnp.sqrt(jnp.mean(layers[-1] ** 2, axis=-1, keepdims=True) + CONFIG.rms_norm_epsilon)
    last = last * MODEL.params["norm"]["weight"]
    log_probs = jax.nn.log_softmax(last @ MODEL.params["embed_tokens"]["embedding"].T / MODEL.temperature)
    expected = jnp.take_along_axis(log_probs, found.tokens[..., None], axis=-1)[..., 0]
    assert_close(np.where(found.mask, expected, 0.0), np.where(found.mask, found.logp, 0.0), scale=1.0)


@pytest.mark.slow
def test_the_first_layer_does_not_depend_on_later_ones(answered):
    prompted, found = answered
    params = jax.tree.map(lambda leaf: leaf, MODEL.params)
    params["layers_1"] = jax.tree.map(jnp.zeros_like, params["layers_1"])
    plain, changed = (model.layers(prompted, found.tokens) for model in (MODEL, MODEL.having(params)))
    np.testing.assert_array_equal(changed[0], plain[0])
    np.testing.assert_array_equal(changed[1], changed[0])  # a block of zeros adds nothing to the stream
    assert np.abs(changed[2] - plain[2]).max() > 1e-4


@pytest.mark.slow
def test_answers_that_do_not_fit_their_prompts_are_refused(answered):
    prompted, found = answered
    for ask in (MODEL.statistics, MODEL.layers):
        with pytest.raises(ShapeError, match=r"Responses must have shape \(2, T\)"):
            ask(prompted, found.tokens[:1])
