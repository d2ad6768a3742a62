"""What is said of a policy and a teacher over one vocabulary, chunk by chunk: the same as from all logits at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.errors import InvalidSettingError, MissingInputError, ShapeError
from maxent_rl.tokens import logits_statistics, token_statistics, vocabulary
from maxent_rl.tokens.statistics import TeacherStates

N, T, D, TEACHER_D, V = 3, 5, 4, 6, 11
COMPARED = {
    "mixed": vocabulary.teacher_divergence(0.3),
    "forward": vocabulary.teacher_divergence(0.0),
    "likeliest": vocabulary.teacher_divergence(0.5, 3),
    "log_prob": vocabulary.teacher_log_prob,
    "entropy": vocabulary.teacher_entropy(),
    "told_entropy": vocabulary.teacher_entropy(3),
    "nearer": vocabulary.toward_policy(vocabulary.teacher_divergence(1.0), 0.25),
}


def case(seed=0):
    """(hidden, unembedding, tokens, the teacher's states and unembedding, weights of a loss by name)"""
    draw = np.random.default_rng(seed)
    shapes = (N, T, D), (D, V), (N, T, TEACHER_D), (TEACHER_D, V)
    hidden, matrix, states, other = (draw.normal(size=shape).astype(np.float32) for shape in shapes)
    tokens = draw.integers(0, V, (N, T))
    weights = {name: draw.normal(size=(N, T)).astype(np.float32) for name in (*COMPARED, "logp")}
    return hidden, matrix, tokens, TeacherStates(states, other, 1.7), weights


def loss_of(found, weights):
    return jnp.vdot(weights["logp"], found.logp) + sum(jnp.vdot(weights[name], found.extra[name]) for name in COMPARED)


@jax.jit
def chunked(hidden, matrix, tokens, teacher, weights, mask):
    """(statistics, gradients in the policy and in the teacher), four tokens at a time."""

    def loss(hidden, matrix, teacher):
        found = token_statistics(hidden, matrix, tokens, 0.8, chunk=4, mask=mask, teacher=teacher, compared=COMPARED)
        return loss_of(found, weights), found

    return jax.grad(loss, (0, 1, 2), has_aux=True)(hidden, matrix, teacher)


@jax.jit
def at_once(hidden, matrix, tokens, teacher, weights):
    def loss(hidden, matrix):
        told = teacher.hidden @ teacher.unembedding / teacher.temperature
        found = logits_statistics(hidden @ matrix / 0.8, tokens, teacher_logits=told, compared=COMPARED)
        return loss_of(found, weights), found

    return jax.grad(loss, (0, 1), has_aux=True)(hidden, matrix)


@pytest.mark.slow
def test_chunks_give_the_values_and_gradients_of_all_logits_and_none_to_the_teacher():
    given = case()
    (*slopes, of_teacher), found = chunked(*given, np.ones((N, T)))
    expected_slopes, expected = at_once(*given)
    for one, other in zip(jax.tree.leaves((slopes, found)), jax.tree.leaves((expected_slopes, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert all(np.all(slope == 0) for slope in jax.tree.leaves(of_teacher))


@pytest.mark.slow
def test_they_are_those_of_a_loop_in_double_precision():
    hidden, matrix, tokens, teacher, _ = case(1)
    _, found = chunked(*case(1), np.ones((N, T)))
    for place in np.ndindex(N, T):
        logits = hidden[place].astype(float) @ matrix / 0.8
        told = teacher.hidden[place].astype(float) @ teacher.unembedding / 1.7
        p, q = (np.exp(each) / np.exp(each).sum() for each in (logits, told))
        m, best = 0.7 * p + 0.3 * q, np.argsort(-p)[:3]
        few_p, few_q = (np.append(each[best], 1 - each[best].sum()) for each in (p, q))
        half = (few_p + few_q) / 2
        nearer = q**0.75 * p**0.25 / np.sum(q**0.75 * p**0.25)
        expected = {
            "mixed": 0.7 * np.sum(p * np.log(p / m)) + 0.3 * np.sum(q * np.log(q / m)),
            "forward": np.sum(q * np.log(q / p)),
            "likeliest": (np.sum(few_p * np.log(few_p / half)) + np.sum(few_q * np.log(few_q / half))) / 2,
            "log_prob": np.log(q[tokens[place]]),
            "entropy": -np.sum(q * np.log(q)),
            "told_entropy": -np.sum(few_q * np.log(few_q)),
            "nearer": np.sum(p * (np.log(p) - np.log(nearer))),
        }
        for name, value in expected.items():
            assert found.extra[name][place] == pytest.approx(value, rel=1e-5, abs=3e-6), name


@pytest.mark.slow
def test_masked_places_may_hold_anything_of_both():
    hidden, matrix, tokens, teacher, weights = case(2)
    mask = np.arange(T) < np.array([[5], [2], [3]])
    weights = {name: each * mask for name, each in weights.items()}
    clean = chunked(hidden, matrix, tokens, teacher, weights, mask)
    there = mask[..., None]
    dirty = TeacherStates(np.where(there, teacher.hidden, np.nan), teacher.unembedding, 1.7)
    found = chunked(np.where(there, hidden, np.nan).astype(np.float32), matrix, tokens, dirty, weights, mask)
    jax.tree.map(np.testing.assert_array_equal, found, clean)


def test_what_cannot_be_compared_is_refused_in_one_sentence():
    hidden, matrix, tokens, teacher, _ = case()
    compared = {"divergence": vocabulary.teacher_divergence()}

    def ask(**changes):
        return token_statistics(hidden, matrix, tokens, **({"teacher": teacher, "compared": compared} | changes))

    with pytest.raises(ShapeError, match="The teacher has a vocabulary of 7 tokens and the policy one of 11"):
        ask(teacher=TeacherStates(teacher.hidden, teacher.unembedding[:, :7]))
    with pytest.raises(ShapeError, match=r"with the policy's \(3, 5, 4\), \(3, 5, D'\) is needed"):
        ask(teacher=TeacherStates(teacher.hidden[:2], teacher.unembedding))
    with pytest.raises(ShapeError, match=r"\[D', V\] with D' = 6 is needed"):
        ask(teacher=TeacherStates(teacher.hidden, matrix))
    with pytest.raises(MissingInputError, match="divergence compares the policy with a teacher"):
        ask(teacher=None)
    with pytest.raises(
        InvalidSettingError, match="divergence is asked for in two of extra, differentiable and compared"
    ):
        ask(extra={"divergence": lambda log_probs, tokens: log_probs[..., 0]})
    with pytest.raises(MissingInputError, match="pass teacher_logits"):
        logits_statistics(np.zeros((2, 3)), np.zeros(2, int), compared=compared)
    with pytest.raises(InvalidSettingError, match="interpolation is 2; it must be from 0 to 1"):
        vocabulary.teacher_divergence(2)
    with pytest.raises(InvalidSettingError, match="share is -1; it must be from 0 to 1"):
        vocabulary.toward_policy(compared["divergence"], -1)
    with pytest.raises(InvalidSettingError, match="At least one token is needed, got 0"):
        vocabulary.teacher_entropy(0)


@pytest.mark.slow
def test_4096_tokens_of_151936_of_two_models_take_less_than_2_gib():
    """Above inputs and outputs, with gradients, of all divergences that objectives ask for; nothing is run."""
    sizes = [((4, 1024, 64), jnp.bfloat16), ((64, 151_936), jnp.bfloat16), ((4, 1024), jnp.int32)]

    def loss(hidden, matrix, tokens, states, other):
        compared = {name: COMPARED[name] for name in ("mixed", "forward", "log_prob", "entropy")}
        compared |= {"likeliest": vocabulary.teacher_divergence(0.5, 100), "told": vocabulary.teacher_entropy(100)}
        found = token_statistics(hidden, matrix, tokens, teacher=TeacherStates(states, other), compared=compared)
        return jnp.sum(found.logp + found.entropy) + sum(jnp.sum(each) for each in found.extra.values())

    program = jax.jit(jax.value_and_grad(loss, (0, 1)))
    shapes = [jax.ShapeDtypeStruct(*each) for each in (*sizes, *sizes[:2])]
    assert program.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < 2 * 2**30
