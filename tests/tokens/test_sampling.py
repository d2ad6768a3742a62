"""Responses of a tiny model: how they are drawn, where they end, and that training finds the same log-probabilities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.distributions import Categorical
from maxent_rl.errors import InvalidSettingError, MaxentRLError, ShapeError
from maxent_rl.networks import Transformer, TransformerConfig, unembedding
from maxent_rl.tokens.sampling import nucleus, sample, score, score_prompts

MODEL = Transformer(
    TransformerConfig(
        vocabulary_size=7,
        hidden_size=8,
        num_layers=2,
        num_heads=2,
        num_key_value_heads=1,
        head_size=4,
        intermediate_size=12,
        qk_norm=True,
    )
)
END, PAD, LENGTH = 5, 6, 8
PROMPTS = np.random.default_rng(0).integers(0, END, (32, 4)).astype(np.int32)
PROMPT_MASK = np.arange(4) >= np.random.default_rng(1).integers(0, 4, (32, 1))
KEY = jax.random.key(3)

draw = jax.jit(
    functools.partial(sample, MODEL, end_token=END, pad_token=PAD), static_argnames=("response_length", "greedy")
)
draw_responses = functools.partial(draw, response_length=LENGTH)
read = jax.jit(functools.partial(score, MODEL))


def random_params(seed=0):
    """As initialised, the model would hardly depend on its context."""
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), PROMPTS, PROMPT_MASK)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    random = np.random.default_rng(seed)
    return structure.unflatten(random.normal(0.3, 0.5, leaf.shape).astype(np.float32) for leaf in leaves)


PARAMS = random_params()


def policy_at_training_time(responses, temperature, params=PARAMS):
    """The distribution from which each token was drawn, [N, T, V], from one pass over whole sequences."""
    hidden = read(params, PROMPTS, PROMPT_MASK, responses.tokens, responses.mask)
    logits = hidden @ unembedding(params, MODEL.config)
    return Categorical(logits / np.reshape(temperature, (-1, 1, 1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "temperature", [1.0, 0.5, 2.0, np.linspace(0.3, 3.0, 32)], ids=["1", "0.5", "2", "each its own"]
)
def test_training_finds_the_log_probabilities_of_sampling(temperature):
    responses = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY, temperature=temperature)
    policy = policy_at_training_time(responses, temperature)
    mask = np.asarray(responses.mask)
    assert 0.1 < 1 - mask.mean() < 0.9  # some rows end, some go on
    np.testing.assert_allclose(responses.logp[mask], policy.log_prob(responses.tokens)[mask], atol=1e-4)
    np.testing.assert_allclose(responses.entropy[mask], policy.entropy()[mask], atol=1e-4)


@pytest.mark.slow
def test_tokens_may_have_temperatures_of_their_own():
    """Drawn hotter where the policy is less sure; what is said of the policy stays exact, and so is what was drawn from."""

    plain = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY, temperature=0.8)
    np.testing.assert_array_equal(plain.logp_drawn, plain.logp)
    middle = float(np.median(plain.entropy[np.asarray(plain.mask)]))

    def factor(entropy):
        return jnp.where(entropy > middle, 3.0, 0.2)

    responses = jax.jit(
        functools.partial(sample, MODEL, response_length=LENGTH, end_token=END, pad_token=PAD, token_temperature=factor)
    )(PARAMS, PROMPTS, PROMPT_MASK, KEY, temperature=0.8)
    policy, mask = policy_at_training_time(responses, 0.8), np.asarray(responses.mask)
    np.testing.assert_allclose(responses.logp[mask], policy.log_prob(responses.tokens)[mask], atol=1e-4)
    np.testing.assert_allclose(responses.entropy[mask], policy.entropy()[mask], atol=1e-4)
    source = Categorical(policy.log_probs / np.where(policy.entropy() > middle, 3.0, 0.2)[..., None])
    mask = mask & np.asarray(np.abs(policy.entropy() - middle) > 0.01)
    np.testing.assert_allclose(responses.logp_drawn[mask], source.log_prob(responses.tokens)[mask], atol=1e-3)
    cold = mask & (np.asarray(policy.entropy()) < middle - 0.01)
    assert cold.any() and np.mean(responses.logp_drawn[cold]) > np.mean(responses.logp[cold]) + 0.1
    assert np.all(responses.logp_drawn[~np.asarray(responses.mask)] == 0)


@pytest.mark.slow
def test_prompts_are_scored_token_by_token():
    """As responses to their own beginning are."""
    hidden, known = jax.jit(functools.partial(score_prompts, MODEL))(PARAMS, PROMPTS, PROMPT_MASK)
    first = np.argmax(PROMPT_MASK, axis=1)
    np.testing.assert_array_equal(known, PROMPT_MASK & (np.arange(4) > first[:, None]))
    whole = np.flatnonzero(first == 0)
    following = read(
        PARAMS, PROMPTS[whole, :1], np.ones((len(whole), 1), bool), PROMPTS[whole, 1:], PROMPT_MASK[whole, 1:]
    )
    np.testing.assert_allclose(hidden[whole, 1:], following, atol=1e-4)


@pytest.mark.slow
def test_tokens_come_as_often_as_their_probabilities_say():
    """Pairs of a first and a second token against their probabilities: chi-square with 48 degrees of freedom."""
    rows = 16384
    prompts, prompt_mask = np.repeat(PROMPTS[:1], rows, 0), np.repeat(PROMPT_MASK[:1], rows, 0)
    sampled = jax.jit(functools.partial(sample, MODEL, response_length=2, end_token=-1))
    responses = sampled(PARAMS, prompts, prompt_mask, KEY, temperature=2.0)
    counts = np.zeros((7, 7))
    np.add.at(counts, tuple(np.asarray(responses.tokens).T), 1)

    pairs = np.stack([np.arange(7), np.zeros(7, int)], 1)  # the second tokens do not matter
    hidden = score(MODEL, PARAMS, prompts[:7], prompt_mask[:7], pairs, np.ones((7, 2), bool))
    probabilities = np.exp(Categorical(hidden @ unembedding(PARAMS, MODEL.config) / 2.0).log_probs)
    expected = rows * probabilities[0, 0][:, None] * probabilities[:, 1]
    assert expected.min() > 5  # so that the statistic is what its name says
    assert np.sum((counts - expected) ** 2 / expected) < 84.0  # its 99.9 % quantile


@pytest.mark.parametrize(
    ("top_p", "left"),
    [(0.0, [1]), (0.3, [1]), (0.45, [1, 3]), (0.75, [1, 3]), (0.85, [0, 1, 3]), (0.95, [0, 1, 2, 3])],
)
def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass(top_p, left):
    log_probs = jnp.log(jnp.array([0.12, 0.4, 0.08, 0.4]))
    found = jax.jit(nucleus)(jnp.stack([log_probs, log_probs]), top_p)[1]
    assert np.flatnonzero(np.isfinite(found)).tolist() == left  # of the two likeliest, the first comes first
    np.testing.assert_array_equal(found[jnp.array(left)], log_probs[jnp.array(left)])


def test_of_equally_likely_tokens_no_more_than_needed_are_in_the_nucleus():
    found = nucleus(jnp.full((10,), jnp.log(0.1)), 0.25)
    assert np.isfinite(found).tolist() == [True] * 3 + [False] * 7


@pytest.mark.slow
@pytest.mark.parametrize("top_p", [0.0, 0.6])
def test_top_p_changes_what_is_drawn_and_not_what_is_recorded(top_p):
    responses = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY, top_p=top_p, temperature=1.5)
    policy = policy_at_training_time(responses, 1.5)
    mask = np.asarray(responses.mask)
    np.testing.assert_allclose(responses.logp[mask], policy.log_prob(responses.tokens)[mask], atol=1e-4)
    np.testing.assert_allclose(responses.entropy[mask], policy.entropy()[mask], atol=1e-4)
    inside = np.isfinite(nucleus(policy.log_probs, top_p))
    assert np.all(np.take_along_axis(inside, np.asarray(responses.tokens)[..., None], -1)[..., 0][mask])
    everything = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY, temperature=1.5)
    assert np.any(everything.tokens != responses.tokens)


@pytest.mark.slow
def test_greedy_takes_the_likeliest():
    responses = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY, greedy=True, temperature=0.7)
    policy, mask = policy_at_training_time(responses, 0.7), np.asarray(responses.mask)
    np.testing.assert_array_equal(responses.tokens[mask], policy.mode()[mask])
    np.testing.assert_allclose(responses.logp[mask], policy.log_probs.max(-1)[mask], atol=1e-4)


def padded(sides):
    """The prompts of each row padded on the left (0), on the right (1), or on both sides with a gap within (2)."""
    prompts, mask = np.full((32, 6), END, np.int32), np.zeros((32, 6), bool)
    for row, side in enumerate(sides):
        tokens = PROMPTS[row][PROMPT_MASK[row]]
        free = np.arange(6 - len(tokens), 6) if side == 0 else np.arange(len(tokens))
        places = np.array([1, 3, 4, 5])[: len(tokens)] if side == 2 else free
        prompts[row, places], mask[row, places] = tokens, True
    return prompts, mask


@pytest.mark.slow
@pytest.mark.parametrize("sides", [np.ones(32, int), np.arange(32) % 3], ids=["right", "all kinds"])
def test_prompts_may_be_padded_on_either_side(sides):
    """The first token once followed from the state at the padding, and neither sampling nor scoring said so."""
    left, odd = padded(np.zeros(32, int)), padded(sides)
    drawn, expected = (draw_responses(PARAMS, *prompts, KEY) for prompts in (odd, left))
    np.testing.assert_array_equal(drawn.tokens, expected.tokens)
    mask = np.asarray(expected.mask)
    np.testing.assert_allclose(drawn.logp, expected.logp, atol=1e-5)
    of_odd, of_left = (read(PARAMS, *prompts, expected.tokens, expected.mask) for prompts in (odd, left))
    np.testing.assert_allclose(of_odd[mask], of_left[mask], atol=1e-4)


@pytest.mark.slow
def test_nothing_follows_from_nothing():
    """A prompt without tokens is refused where it can be seen, and where it cannot its response is empty."""
    mask = PROMPT_MASK & (np.arange(32) != 5)[:, None]
    for call in (
        lambda: sample(MODEL, PARAMS, PROMPTS, mask, KEY, response_length=2, end_token=END),
        lambda: score(MODEL, PARAMS, PROMPTS, mask, PROMPTS, np.ones((32, 4), bool)),
    ):
        with pytest.raises(ShapeError, match="Prompt 5 has no token, and nothing can follow it"):
            call()
    found, others = (draw_responses(PARAMS, PROMPTS, given, KEY) for given in (mask, PROMPT_MASK))
    assert not found.mask[5].any() and np.all(found.tokens[5] == PAD) and np.all(found.logp[5] == 0)
    np.testing.assert_array_equal(np.delete(found.tokens, 5, 0), np.delete(others.tokens, 5, 0))


@pytest.mark.slow
def test_a_response_ends_with_its_end_token():
    responses = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY)
    tokens, mask = np.asarray(responses.tokens), np.asarray(responses.mask)
    lengths = mask.sum(1)
    assert {1, LENGTH} <= set(lengths.tolist())
    np.testing.assert_array_equal(mask, np.arange(LENGTH) < lengths[:, None])
    for row, length in zip(tokens, lengths, strict=True):
        assert END not in row[: length - 1]
        assert row[length - 1] == END or length == LENGTH
    assert np.all(tokens[~mask] == PAD)
    assert np.all(responses.logp[~mask] == 0) and np.all(responses.entropy[~mask] == 0)
    assert np.all(responses.logp[mask] < 0) and np.all(responses.entropy[mask] > 0)


@pytest.mark.slow
def test_after_all_have_ended_only_padding_follows():
    """The steps that do nothing leave what the steps of some rows that have ended leave."""
    among_others = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY, greedy=True)
    ended = np.asarray(among_others.mask).sum(1) < LENGTH - 2
    assert 1 < ended.sum() < len(PROMPTS)
    alone = draw_responses(PARAMS, PROMPTS[ended], PROMPT_MASK[ended], KEY, greedy=True)
    np.testing.assert_array_equal(alone.tokens, among_others.tokens[ended])
    np.testing.assert_array_equal(alone.mask, among_others.mask[ended])
    np.testing.assert_allclose(alone.logp, among_others.logp[ended], atol=1e-5)
    np.testing.assert_allclose(alone.entropy, among_others.entropy[ended], atol=1e-5)


@pytest.mark.slow
def test_a_seed_among_others_answers_as_it_does_alone():
    seeds = [PARAMS, random_params(1), random_params(2)]
    keys = jax.random.split(KEY, 3)
    together = jax.vmap(draw_responses, in_axes=(0, None, None, 0))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds), PROMPTS, PROMPT_MASK, keys
    )
    for index, params in enumerate(seeds):
        alone = draw_responses(params, PROMPTS, PROMPT_MASK, keys[index])
        np.testing.assert_array_equal(together.tokens[index], alone.tokens)
        np.testing.assert_array_equal(together.mask[index], alone.mask)
        np.testing.assert_allclose(together.logp[index], alone.logp, atol=1e-5)
        np.testing.assert_allclose(together.entropy[index], alone.entropy, atol=1e-5)


@pytest.mark.slow
def test_a_row_draws_the_same_numbers_however_many_rows_there_are():
    some = draw_responses(PARAMS, PROMPTS[:5], PROMPT_MASK[:5], KEY)
    all_ = draw_responses(PARAMS, PROMPTS, PROMPT_MASK, KEY)
    np.testing.assert_array_equal(some.tokens, all_.tokens[:5])
    same = draw_responses(PARAMS, np.repeat(PROMPTS[:1], 5, 0), np.repeat(PROMPT_MASK[:1], 5, 0), KEY)
    assert len(np.unique(same.tokens, axis=0)) > 1  # and equal prompts have answers of their own


@pytest.mark.slow
def test_temperature_and_top_p_compile_nothing_anew():
    traces = []

    @jax.jit
    def draw_counted(**numbers):
        traces.append(None)
        return sample(MODEL, PARAMS, PROMPTS, PROMPT_MASK, KEY, response_length=1, end_token=END, **numbers).tokens

    for temperature, top_p in ((1.0, 1.0), (0.5, 0.9), (2.0, 0.1)):
        assert draw_counted(temperature=temperature, top_p=top_p).shape == (32, 1)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": PROMPTS[0]}, r"Prompts must have shape \(N, P\).*got \(4,\)"),
        ({"prompts": PROMPTS[:, :0]}, r"at least one token each, got \(32, 0\)"),
        ({"prompt_mask": PROMPT_MASK[:, 1:]}, r"prompts' shape \(32, 4\), got \(32, 3\)"),
        ({"temperature": np.ones(3)}, r"shape \(\) or \(32,\).*got \(3,\)"),
        ({"response_length": 0}, r"at least one token, got response_length=0"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(changes, message):
    arguments = {"prompts": PROMPTS, "prompt_mask": PROMPT_MASK, "response_length": 2, "end_token": END} | changes
    with pytest.raises(ShapeError, match=message) as caught:
        sample(MODEL, PARAMS, key=KEY, **arguments)
    assert isinstance(caught.value, MaxentRLError) and isinstance(caught.value, ValueError)
    with pytest.raises(InvalidSettingError, match=r"greater than 0, got 0\.0: greedy=True takes the likeliest"):
        sample(MODEL, PARAMS, PROMPTS, PROMPT_MASK, KEY, response_length=2, end_token=END, temperature=0.0)


@pytest.mark.parametrize(
    ("responses", "mask", "message"),
    [
        (np.zeros((3, 5), int), np.ones((3, 5), bool), r"Responses must have shape \(32, T\).*got \(3, 5\)"),
        (np.zeros((32, 5), int), np.ones((32, 4), bool), r"The mask.*\(32, 5\), got \(32, 4\)"),
        (
            np.zeros((32, 5), int),
            np.arange(5) >= np.full((32, 1), 2),
            "Response 0 has tokens after a gap: pad responses on",
        ),
        (np.zeros((32, 5), int), np.full((32, 5), -100), "The mask must be booleans, or zeros and ones, got -100"),
    ],
)
def test_responses_that_do_not_fit_are_refused(responses, mask, message):
    with pytest.raises(ShapeError, match=message):
        score(MODEL, PARAMS, PROMPTS, PROMPT_MASK, responses, mask)


@pytest.mark.parametrize("count", range(1, 10))
def test_a_mass_that_is_reached_but_for_rounding_is_reached(count):
    """0.1 + 0.1 + 0.1 is not 0.3, and neither is what an exponential of a logarithm makes of them."""
    found = nucleus(jnp.log(jnp.full((10,), 0.1)), count / 10)
    assert np.flatnonzero(np.isfinite(found)).tolist() == list(range(count))
