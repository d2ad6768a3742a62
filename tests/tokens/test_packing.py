"""Packed rows: what fits where, what the model says of them, and how numbers find their way there and back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl.errors import ShapeError, UnknownNameError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens import LanguageModel, Prompted, packing

CONFIG = TransformerConfig(
    vocabulary_size=9, hidden_size=16, num_layers=2, num_heads=2, num_key_value_heads=1, head_size=8,
    intermediate_size=16, qk_norm=True,
)  # fmt: skip
EXTRA = {"collision": lambda log_probs, tokens: jnp.sum(jnp.exp(2 * log_probs), -1)}
LENGTHS = [(3, 5), (1, 1), (2, 0), (3, 2), (1, 4), (2, 2)]  # of prompt and response


def drawn(lengths=LENGTHS, seed=0):
    """(prompts padded on the left where they come first, on the right elsewhere; tokens), waste at padding."""
    draw = np.random.default_rng(seed)
    of_prompts, of_responses = np.array(lengths).T
    width, length = max(of_prompts), max(of_responses)
    prompt_mask = np.arange(width) < of_prompts[:, None]
    prompt_mask[0] = prompt_mask[0, ::-1]
    mask = np.arange(length) < of_responses[:, None]
    prompts = np.where(prompt_mask, draw.integers(0, 9, prompt_mask.shape), -7)
    return Prompted(prompts, prompt_mask, mask), np.where(mask, draw.integers(0, 9, mask.shape), 99)


def model():
    fresh = LanguageModel.create(CONFIG, jax.random.key(0), temperature=0.7)
    return fresh.having(jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else 8.0 * leaf, fresh.params))


@jax.jit
def said(params, prompted, tokens, packed):
    """(what is said of each sequence alone, of packed ones, and the gradient of both, of some cotangents)."""
    draw = np.random.default_rng(5)
    weights = draw.normal(size=(3, *tokens.shape)) * prompted.response_mask
    kept = jnp.asarray(packed.mask) & prompted.response_mask

    def found(params, is_packed):
        own = model().having(params)
        found = own.packed_statistics(packed, EXTRA) if is_packed else own.statistics(prompted, tokens, EXTRA)
        found = jax.tree.map(lambda values: jnp.where(kept, values, 0.0), (found.logp, found.entropy, found.extra))
        return sum(jnp.vdot(each, weight) for each, weight in zip(found[:2], weights, strict=False)), found

    return [jax.grad(found, has_aux=True)(params, is_packed) for is_packed in (False, True)]


def test_best_fit_decreasing_by_hand():
    """7 begins a row of 10, 6 another, 5 a third; 4 fits the second best, 3 the first, 2 the third."""
    prompted, tokens = drawn([(1, 4), (2, 1), (3, 4), (1, 1), (2, 4), (2, 2)])
    packed = packing.pack(prompted, tokens, 10)
    assert packed.tokens.shape == (3, 10) and packed.fill == pytest.approx(27 / 30)
    np.testing.assert_array_equal(packed.segments[0], [1] * 7 + [2] * 3)
    np.testing.assert_array_equal(packed.segments[1], [1] * 6 + [2] * 4)
    np.testing.assert_array_equal(packed.segments[2], [1] * 5 + [2] * 2 + [0] * 3)
    np.testing.assert_array_equal(packed.positions[2], [0, 1, 2, 3, 4, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(packed.tokens[2, :5], [prompted.prompts[0, 2], *tokens[0]])
    np.testing.assert_array_equal(packed.spread(packed.targets)[prompted.response_mask], tokens[prompted.response_mask])


@pytest.mark.slow
def test_a_model_says_of_packed_sequences_what_it_says_of_each_alone():
    """Values, statistics of the vocabulary and gradients, with rows and places filled up; no waste comes in."""
    prompted, tokens = drawn()
    packed = packing.pack(prompted, tokens, 9, rows=4, places=16)
    assert packed.tokens.shape == (4, 9) and packed.known.sum() == 14
    (slope, alone), (of_packed, together) = said(model().params, *jax.tree.map(jnp.asarray, (prompted, tokens)), packed)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert_close(of_packed, slope)
    assert np.all(together[0][~prompted.response_mask] == 0) and np.abs(alone[0]).max() > 1


@pytest.mark.slow
def test_sequences_in_a_row_do_not_see_each_other():
    """To the bit: what is masked weighs exactly 0."""
    prompted, tokens = drawn()
    own = np.arange(len(tokens))[:, None] == 3  # which shares its row with the last one
    changed = dataclasses.replace(prompted, prompts=np.where(own, prompted.prompts, (prompted.prompts + 1) % 9))
    pairs = (prompted, tokens), (changed, np.where(own, tokens, (tokens + 1) % 9))
    first, second = (
        said(model().params, *jax.tree.map(jnp.asarray, pair), packing.pack(*pair, 9, rows=4, places=16))[1][1]
        for pair in pairs
    )
    np.testing.assert_array_equal(first[0][3], second[0][3])
    assert np.all(first[0][5, :2] != second[0][5, :2])


def test_what_is_not_asked_of_takes_no_place():
    """Responses that are left out, what comes after the last token of a loss, and the vocabulary at a tool's tokens."""
    prompted, tokens = drawn()
    mask = np.array(prompted.response_mask)
    mask[0, [1, 3, 4]], mask[4] = False, False
    packed = packing.pack(prompted, tokens, mask=mask)
    assert packed.tokens.shape[1] == 6  # three tokens of the first prompt and three of its response
    assert np.sum(packed.segments > 0) == 6 + 2 + 5 + 4 and packed.known.sum() == mask.sum()
    np.testing.assert_array_equal(packed.mask, mask)
    given = jax.tree.map(jnp.asarray, (prompted, tokens))
    filled = packing.pack(prompted, tokens, 9, mask=mask, rows=4, places=16)  # the compiled program of another test
    (slope, alone), (of_packed, together) = said(model().params, *given, filled)
    np.testing.assert_allclose(together[0], alone[0], rtol=0, atol=1e-5)
    assert_close(of_packed, slope)


@pytest.mark.slow
def test_numbers_go_into_rows_and_come_back():
    """At the places that predict tokens, or at their own, and with further axes."""
    prompted, tokens = drawn()
    packed = packing.pack(prompted, tokens, 9)
    values = np.random.default_rng(1).normal(size=(*tokens.shape, 2)).astype(np.float32)
    kept = np.where(prompted.response_mask[..., None], values, 0)
    for at in ("prediction", "token"):
        rows = packed.pack(values, at=at)
        assert rows.shape == (3, 9, 2)
        np.testing.assert_array_equal(packed.unpack(rows, at=at), kept)
        np.testing.assert_array_equal(np.sum(np.any(rows != 0, -1)), prompted.response_mask.sum())
    np.testing.assert_array_equal(packed.pack(tokens, at="token")[packed.pack(prompted.response_mask, at="token")],
                                  packed.tokens[packed.pack(prompted.response_mask, at="token")])  # fmt: skip
    slope = jax.grad(lambda rows: jnp.sum(packed.unpack(rows) ** 2))(packed.pack(values[..., 0]))
    np.testing.assert_array_equal(slope, 2 * packed.pack(values[..., 0]))
    with pytest.raises(UnknownNameError, match="'token'"):
        packed.unpack(rows, at="tokens")


@pytest.mark.slow
def test_a_teacher_reads_hints_in_rows_of_its_own():
    """And says at the same places what it says of each sequence alone."""
    prompted, tokens = drawn()
    hints = np.random.default_rng(2).integers(0, 9, (6, 2))
    hinted = dataclasses.replace(prompted, hints=hints, hint_mask=np.arange(2) < np.array([[2, 0, 1, 1, 2, 0]]).T)
    packed, of_teacher = packing.pack(hinted, tokens, 9), packing.pack(hinted.hinted(), tokens, 10)
    compared = {"cross_entropy": lambda own, told, tokens: -jnp.sum(jnp.exp(told) * own, -1)}

    @jax.jit
    def both(params, prompted, tokens, packed, of_teacher):
        teacher, own = model(), model().having(params)
        alone = own.statistics(prompted, tokens, teacher=teacher, compared=compared)
        return alone, own.packed_statistics(packed, teacher=teacher, teacher_packed=of_teacher, compared=compared)

    params = jax.tree.map(lambda leaf: 0.8 * leaf, model().params)
    given = jax.tree.map(jnp.asarray, (hinted, tokens))
    alone, together = (found.extra["cross_entropy"] for found in both(params, *given, packed, of_teacher))
    np.testing.assert_allclose(together, jnp.where(hinted.response_mask, alone, 0.0), rtol=0, atol=1e-5)
    with pytest.raises(ShapeError, match=r"The teacher's hidden states have the shape \(1, 20, 16\)"):
        fewer = packing.pack(hinted.hinted(), tokens, 10, places=20)
        jax.eval_shape(both, params, *given, packed, fewer)


def test_rows_that_somebody_else_has_packed_are_read():
    """In reading order; a tool's answer within a response stays masked, and one compiled program fits other rows."""
    segments = np.array([[7, 7, 7, 7, 7, 0], [1, 1, 2, 2, 2, 2]])
    tokens = np.arange(12).reshape(2, 6)
    mask = np.array([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    packed = packing.of_rows(tokens, segments, mask)
    np.testing.assert_array_equal(packed.mask, [[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(packed.unpack(tokens, at="token"), [[1, 0, 3], [0, 0, 0], [10, 11, 0]])
    np.testing.assert_array_equal(packed.unpack(tokens), [[0, 0, 2], [0, 0, 0], [9, 10, 0]])
    wide = packing.of_rows(tokens, segments, mask, sequences=4, columns=5, places=6)
    np.testing.assert_array_equal(wide.unpack(tokens)[:3, :3], packed.unpack(tokens))
    assert wide.index.shape == (4, 5) and not wide.mask[3].any()
    prompted, answers = drawn()
    ours = packing.pack(prompted, answers, 9)
    read = packing.of_rows(ours.tokens, ours.segments, ours.pack(prompted.response_mask, at="token"))
    assert sorted(read.places) == sorted(ours.places)


def test_layouts_of_parts_stand_side_by_side():
    prompted, tokens = drawn()
    halves = [
        packing.pack(jax.tree.map(lambda leaf, r=r: leaf[r], prompted), tokens[r], 9) for r in ([0, 1, 2], [3, 4, 5])
    ]
    both = packing.stack(halves)
    assert both.tokens.shape == (2, 2, 9) and both.index.shape == (2, 3, 5)
    assert both.known.sum() == prompted.response_mask.sum()
    for number, half in enumerate(halves):
        part = jax.tree.map(lambda leaf, n=number: leaf[n], both)
        np.testing.assert_array_equal(part.spread(part.targets), half.spread(half.targets))
    with pytest.raises(ShapeError, match=r"\(9, 3, 5\) and \(10, 3, 5\)"):
        packing.stack([halves[0], packing.pack(jax.tree.map(lambda leaf: leaf[3:], prompted), tokens[3:], 10)])
    with pytest.raises(ShapeError, match="nothing to stack"):
        packing.stack([])


def test_parts_hold_as_many_sequences_and_about_as_many_tokens():
    lengths = np.round(np.random.default_rng(0).lognormal(5, 1, 64)).astype(int)
    parts = packing.balanced(lengths, 4)
    np.testing.assert_array_equal(np.sort(parts.ravel()), np.arange(64))
    of_parts, in_order = np.sum(lengths[parts], axis=1), np.sum(lengths.reshape(4, -1), axis=1)
    assert np.ptp(of_parts) < 0.02 * np.mean(of_parts) < 0.2 * np.ptp(in_order)
    np.testing.assert_array_equal(packing.balanced([5, 1, 2, 4], 2), [[0, 1], [2, 3]])
    for wrong in (([1, 2, 3], 2), ([[1, 2]], 1), ([1, 2], 0)):
        with pytest.raises(ShapeError, match="not to be divided into"):
            packing.balanced(*wrong)


def test_nothing_asked_is_a_row_of_padding():
    prompted, tokens = drawn()
    packed = packing.pack(prompted, tokens, 9, mask=np.zeros(tokens.shape, bool))
    assert packed.tokens.shape == (1, 9) and packed.fill == 0 and packed.places.shape == (1,)
    np.testing.assert_array_equal(packed.unpack(np.full((1, 9), np.nan)), np.zeros(tokens.shape))


PROMPTED, TOKENS = drawn()
ROWS = {"tokens": np.zeros((1, 4), int), "segments": np.array([[1, 1, 2, 0]]), "mask": np.array([[0, 1, 0, 0]])}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"row_length": 7}, "Sequence 0 has 8 tokens, and a row 7 places: take longer rows"),
        ({"row_length": 9, "rows": 2}, "rows=2 is not enough: 3 of 9 places are needed"),
        ({"places": 13}, "places=13 is not enough: 14 are needed"),
        ({"tokens": TOKENS[:3]}, r"prompts must have shape \(3, P\), one for each response; got \(6, 3\)"),
        ({"tokens": TOKENS[0]}, r"tokens must have shape \[N, T\]"),
        ({"mask": TOKENS[:, :2] > 0}, r"mask must have shape \(6, 5\); got \(6, 2\)"),
        ({"mask": TOKENS}, "must be booleans, or zeros and ones"),
        ({"prompted": dataclasses.replace(PROMPTED, prompt_mask=np.zeros((6, 3), bool))}, "Prompt 0 has no token"),
        ({"prompted": dataclasses.replace(PROMPTED, response_mask=TOKENS % 2 > 0)}, "Response . has tokens after a gap"),
    ],
)  # fmt: skip
def test_what_does_not_fit_into_rows_is_said(change, match):
    with pytest.raises(ShapeError, match=match):
        packing.pack(**({"prompted": PROMPTED, "tokens": TOKENS} | change))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"segments": np.array([[1, 2, 1, 0]]), "mask": np.zeros((1, 4))}, "Segment 1 of row 0 is in 2 pieces"),
        ({"segments": np.array([[1, 1, 0, 1]])}, "Segment 1 of row 0 is in 2 pieces"),
        ({"segments": np.array([[1, 1, -1, 0]])}, "whole numbers above 0 within sequences, and 0 for padding"),
        ({"segments": np.zeros((1, 4))}, "whole numbers above 0"),
        ({"mask": np.array([[0, 1, 0, 1]])}, "The mask has place 3 of row 0, which is padding"),
        ({"mask": np.array([[0, 1, 1, 0]])}, "place 2 of row 0, which is the first of its sequence"),
        ({"mask": np.array([0, 1, 0, 0])}, r"one shape \[M, L\]; got \(1, 4\), \(1, 4\), \(4,\)"),
        ({"sequences": 1}, "sequences=1 is not enough: 2 are needed"),
        ({"columns": 0}, "columns=0 is not enough: 1 are needed"),
    ],
)
def test_rows_that_are_not_packed_as_they_should_be_are_refused(change, match):
    with pytest.raises(ShapeError, match=match):
        packing.of_rows(**(ROWS | change))


def test_values_of_other_shapes_and_traced_sequences_are_refused():
    packed = packing.pack(PROMPTED, TOKENS, 9)
    with pytest.raises(ShapeError, match=r"values must have shape \(3, 9, ...\), one for each place of the rows"):
        packed.unpack(np.zeros((3, 8)))
    with pytest.raises(ShapeError, match=r"values must have shape \(6, 5, ...\), one for each token of the responses"):
        packed.pack(np.zeros((3, 9)))
    for traced in (lambda tokens: packing.pack(PROMPTED, tokens).tokens, lambda tokens: packing.balanced(tokens[0], 1)):
        with pytest.raises(ShapeError, match="pack them outside of jit"):
            jax.eval_shape(traced, TOKENS)
