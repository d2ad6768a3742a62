"""Syn-GRPO-style synthesis: diversity and its smoothing, who is credited when, and that labels and limits hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.closeness import assert_close

from maxent_rl import losses
from maxent_rl.envs.adapters.tokens import TokenEnv
from maxent_rl.tokens.batch import Prompted, TokenBatch
from maxent_rl.tokens.prompts import SynthesisPrompts, diversity, smoothed_rewards
from maxent_rl.tokens.tasks import Contexts, response_mask

TASK = Contexts()
GROUP, PROMPTS = 4, 4
SPEC = TokenEnv(TASK).spec


def test_diversity_of_the_examples():
    shares = np.array([[1] * 8, [1] * 4 + [0] * 4, [1] * 6 + [0] * 2, [1] + [0] * 7], np.float32)
    found = np.asarray(jax.jit(diversity)(shares))
    np.testing.assert_allclose(found, [0, 0.5, 0.433013, 0.330719], atol=1e-5)
    assert found[0] == 0
    np.testing.assert_allclose(diversity(jnp.array([0.9, 0.8, 0.1, 0.55])), 0.308980, atol=1e-5)


def test_diversity_lies_between_0_and_a_half_and_knows_no_order_and_no_side():
    rewards = np.random.default_rng(0).uniform(size=(50, 6)).astype(np.float32)
    found = np.asarray(diversity(rewards))
    assert np.all((found >= 0) & (found <= 0.5))
    assert_close(np.asarray(diversity(rewards[:, ::-1])), found, rtol=1e-5)
    assert_close(np.asarray(diversity(1 - rewards)), found, rtol=1e-5)
    assert not np.asarray(jax.grad(lambda values: jnp.sum(diversity(values)))(rewards)).any()


def test_no_diversity_is_no_advantage():
    rewards = np.array([[0.1] * 6, [0.1] * 5 + [0.2]], np.float32)
    found = np.asarray(diversity(rewards)) == 0
    advantages = np.asarray(losses.group_advantages(rewards, "group"))
    assert found.tolist() == [True, False] == (~advantages.any(axis=1)).tolist()


def test_smoothing_of_the_example():
    smooth = jax.jit(smoothed_rewards)
    measured, there = np.array([0.5, 0.433013, 0.9, 0.0], np.float32), np.array([True, True, False, True])
    level, rewards = smooth(0.3, measured, there, 0.9)
    np.testing.assert_allclose(rewards, [0.2, 0.113013, 0, -0.331301], atol=1e-5)
    np.testing.assert_allclose(level, 0.298171, atol=1e-5)
    for last, wanted in ((1, 0.32), (2, 0.331301)):
        np.testing.assert_allclose(smooth(0.3, measured, np.arange(4) < last, 0.9)[0], wanted, atol=1e-5)
    level, rewards = smooth(0.3, np.full(20, 0.5, np.float32), np.ones(20, bool), 0.9)
    np.testing.assert_allclose(rewards, 0.2 * 0.9 ** np.arange(20), atol=1e-6)  # geometrically to 0


def test_advantages_of_a_group_of_descriptions():
    found = losses.group_advantages(jnp.array([[0.5, 0.433013, 0.0, 0.330719]]), "group", 1e-6)
    np.testing.assert_allclose(found, [[0.829776, 0.527798, -1.424230, 0.066655]], atol=1e-5)


def written(posed, texts):
    """A batch in which responses were written to what was posed; the i-th token of a row has the log-probability -i."""
    rows = posed.repeated(GROUP)
    count = rows.prompts.shape[0]
    tokens = np.resize(TASK.encode_responses(texts), (count, TASK.response_length))
    mask = np.asarray(response_mask(tokens))
    logp = -np.arange(tokens.shape[1]) * np.ones((count, 1))
    return TokenBatch(
        jnp.asarray(logp, jnp.float32),
        jnp.asarray(mask),
        TASK.reward(rows.checked, tokens, mask),
        GROUP,
        tokens=jnp.asarray(tokens),
        entropy_old=jnp.ones(tokens.shape),
        truncated=jnp.zeros(count, bool),
        span=TASK.apart(tokens, mask),
        span_advantages=jnp.zeros(count),
        context=Prompted(rows.prompts, rows.prompt_mask, jnp.asarray(mask), rows.problems, rows.notes),
    )


def heard(source, state, key, batch, posed, answer=None):
    return source.feedback(TASK, state, key, batch, jnp.ones(PROMPTS, bool), posed.notes, answer)


def right_answers(posed):
    return np.asarray(TASK.labels(posed.checked))


def run(source, steps, describe="2103", right=2):
    """Iterations in which of each group `right` answer rightly, and all describe the same."""
    state, found = source.init(jax.random.key(0), SPEC), []
    for step in range(steps):
        before, posed = source.draw(TASK, state, jax.random.key(step), PROMPTS)
        labels = right_answers(posed)
        texts = [
            f"{(label + (place >= right)) % 10};{describe}"[: TASK.response_length - 1]
            for label in labels
            for place in range(GROUP)
        ]
        batch = written(posed, texts)
        state, after, metrics = heard(source, before, jax.random.key(100 + step), batch, posed)
        found.append((posed, batch, after, {name: float(value) for name, value in metrics.items()}, state))
    return found


GOOD = "2102"


@pytest.mark.slow
def test_a_description_is_posed_and_then_its_tokens_alone_are_credited():
    source = SynthesisPrompts(share=0.5)
    (first, batch, same, metrics, _), (second, _, after, then, _) = run(source, 2, GOOD)
    np.testing.assert_array_equal(
        first.prompts, TASK.prompts(jax.random.key(0), PROMPTS)[0]
    )  # nothing was described yet
    assert not np.asarray(same.mask)[GROUP * PROMPTS :].any() and metrics["prompts/well_formed"] == 1
    assert metrics["prompts/diversity"] == 0.5 and metrics["prompts/other_label"] == 0 and metrics["prompts/new"] == 0
    parents = np.asarray(first.prompts)
    rendered = np.asarray(TASK.render(parents, np.resize([2, 1, 0, 2], (PROMPTS, 4))))
    enter = np.flatnonzero(~np.asarray(TASK.is_held_out(rendered)))
    new = int(then["prompts/new"] * PROMPTS)
    assert new == min(2, len(enter)) > 0
    np.testing.assert_array_equal(np.asarray(second.prompts)[:new], rendered[enter[:new]])
    behind = jax.tree.map(lambda leaf: np.asarray(leaf)[GROUP * PROMPTS :], after)
    assert behind.mask.shape[0] == GROUP  # whole groups
    np.testing.assert_array_equal(behind.mask[:new], np.resize(TASK.apart(batch.tokens, batch.mask)[0], (new, 7)))
    assert not behind.mask[new:].any() and not behind.rewards.any()
    np.testing.assert_array_equal(behind.logp_old[:new], np.resize(-np.arange(7), (new, 7)))
    np.testing.assert_array_equal(behind.context.prompts[:new], parents[enter[:new]])
    np.testing.assert_allclose(behind.span_advantages[:new], 0, atol=1e-6)  # all are as divided as they were before
    assert not np.asarray(after.span_advantages)[: GROUP * PROMPTS].any()


@pytest.mark.slow
def test_what_divides_more_than_before_is_credited_and_what_nobody_answers_is_dropped():
    source = SynthesisPrompts(share=0.5)
    (*_, state) = run(source, 1, GOOD, right=1)[0]
    level = float(state.baseline)
    assert level == pytest.approx(0.433013, abs=1e-5)
    for right, wanted in ((2, 0.5 - level), (0, 0.0)):
        before, posed = source.draw(TASK, state, jax.random.key(1), PROMPTS)
        labels = right_answers(posed)
        batch = written(posed, [f"{(one + (place >= right)) % 10};{GOOD}" for one in labels for place in range(GROUP)])
        after, found, _ = heard(source, before, jax.random.key(2), batch, posed)
        assert float(found.span_advantages[GROUP * PROMPTS]) == pytest.approx(wanted, abs=1e-5)
        assert bool(found.mask[GROUP * PROMPTS].any()) == (right > 0)
        assert (float(after.baseline) == level) == (right == 0)


@pytest.mark.parametrize(("staleness", "latency", "comes"), [(1, 2, False), (2, 2, True), (0, 1, False)])
def test_where_rendering_takes_longer_than_descriptions_last_none_is_posed(staleness, latency, comes):
    found = run(SynthesisPrompts(share=0.5, staleness=staleness, latency=latency), 4, GOOD)
    assert any(metrics["prompts/new"] > 0 for *_, metrics, _ in found) is comes
    assert found[1][3]["prompts/new"] == 0


@pytest.mark.slow
def test_without_a_description_there_are_originals():
    for text in ("9103", "21"):
        found = run(SynthesisPrompts(share=1.0), 2, text)
        assert found[0][3]["prompts/well_formed"] == 0
        np.testing.assert_array_equal(found[1][0].prompts, TASK.prompts(jax.random.key(1), PROMPTS)[0])


@pytest.mark.slow
def test_nothing_that_is_held_out_and_no_other_label_comes_in():
    (*_, state) = run(SynthesisPrompts(share=0.0, describe="random"), 6)[-1]
    held = np.asarray(state.ring.filled)
    problems, parents = (np.asarray(each)[held] for each in (state.ring.entries.problem, state.ring.entries.parent))
    assert 12 < held.sum() < 24 and not np.asarray(TASK.is_held_out(problems)).any()
    np.testing.assert_array_equal(TASK.labels(problems), TASK.labels(parents))
    assert len(np.unique(problems, axis=0)) > 12


@pytest.mark.slow
def test_at_once_all_descriptions_of_a_group_are_tried_against_each_other():
    source = SynthesisPrompts(share=0.5, credit="immediate")
    before, posed = source.draw(TASK, source.init(jax.random.key(0), SPEC), jax.random.key(0), PROMPTS)
    described = ["0000", GOOD, "6322", "9999"]  # the last one is none
    labels = right_answers(posed)
    batch = written(posed, [f"{label};{each}" for label in labels for each in described])
    asked = []

    def answer(key, tried):
        """Longer prompts divide: none, half, one of four right."""
        asked.append(tried)
        rows = np.asarray(tried.prompts != 0).sum(axis=1)
        rights = np.select([rows == rows.min(), rows == rows.max()], [4, 1], 2)
        rewards = np.arange(GROUP) < rights[:, None]
        return TokenBatch(
            jnp.zeros((rewards.size, 1)), jnp.ones((rewards.size, 1)), jnp.asarray(rewards.ravel()), GROUP
        )

    _, after, _ = heard(source, before, jax.random.key(1), batch, posed, answer)
    assert asked[0].prompts.shape[0] == 2 * GROUP  # of half of the prompts
    np.testing.assert_array_equal(TASK.labels(asked[0].prompts), labels[:2].repeat(GROUP))
    found = np.asarray(after.span_advantages)
    assert after.mask.shape == batch.mask.shape and not found[2 * GROUP :].any()
    measured = np.array([0, 0.5, 0.433013])
    wanted = (measured - measured.mean()) / (measured.std(ddof=1) + 1e-6)
    for group in (found[:GROUP], found[GROUP : 2 * GROUP]):
        np.testing.assert_allclose(group, [*wanted, 0], atol=1e-4)
