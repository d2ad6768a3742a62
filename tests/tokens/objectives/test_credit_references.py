"""Values and gradients equal independent references, on batches with holes, unequal groups, ties and empty responses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.token_references import REFERENCES, Given, differences, prepared

from maxent_rl.tokens import TokenBatch, TokenOutputs, objectives

ROWS, COLUMNS, PROMPT = 14, 9, 4
SEEDS = (0, 1, 2, 3)


def case(seed):
    """(batch in NumPy, log-probabilities, entropies): groups of five, one, four, three and one that has no tokens."""
    draw = np.random.default_rng(seed)
    group = draw.permutation(np.repeat([3, 8, 1, 6, 4], [5, 1, 4, 3, 1]))
    mask = draw.random((ROWS, COLUMNS)) < 0.75
    mask[np.flatnonzero(group == 4)] = False
    mask[group == 8, :3] = True
    logp_old = -draw.exponential(0.8, (ROWS, COLUMNS))
    rewards = draw.integers(0, 2, ROWS).astype(float)
    if seed == 1:
        rewards[group == 6] = 0.0  # all wrong
    if seed == 3:
        rewards = rewards * draw.choice([0.5, 1.0, 2.0], ROWS) - 0.5 * (draw.random(ROWS) < 0.2)
    entropy_old = draw.uniform(0.1, 2.0, (ROWS, COLUMNS))
    given = Given(
        logp_old=logp_old,
        mask=mask,
        rewards=rewards,
        group=group,
        entropy_old=entropy_old,
        logp_ref=logp_old + draw.normal(0, 0.3, logp_old.shape),
        task=group % 3,
        answers=draw.integers(-1, 3, ROWS),
        logp_prompt=np.where(np.arange(PROMPT) == 0, np.nan, -draw.exponential(1.0, (ROWS, PROMPT))),
    )
    logp = logp_old + draw.normal(0, 0.35, logp_old.shape)
    return given, logp, entropy_old + draw.normal(0, 0.05, entropy_old.shape)


def present(given):
    """The rows that are responses: a row without a token is none, in whatever is counted."""
    rows = given.mask.any(axis=1)
    return Given(*(values[rows] for values in given)), rows


@jax.jit
def value_and_slopes(objective, state, outputs, batch):
    return jax.value_and_grad(lambda out: objective(state, out, batch)[0])(outputs)


def found_by_the_stages(name, given, logp, entropy):
    fields = given._asdict()
    batch = TokenBatch(
        group_index=jnp.asarray(fields.pop("group")), **{key: jnp.asarray(value) for key, value in fields.items()}
    )
    batch = dataclasses.replace(batch, truncated=jnp.zeros(ROWS, bool))
    objective = objectives.make(name, **REFERENCES[name][1])
    outputs = TokenOutputs(jnp.asarray(logp, jnp.float32), jnp.asarray(entropy, jnp.float32))
    loss, slopes = value_and_slopes(objective, objective.init(), outputs, batch)
    return float(loss), np.asarray(slopes.logp, np.float64), np.asarray(slopes.entropy, np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_value_and_gradient_equal_the_reference(name):
    for seed in SEEDS:
        given, logp, entropy = case(seed)
        some, rows = present(given)
        loss = prepared(name, some, logp[rows], entropy[rows])
        expected = loss(logp[rows], entropy[rows])
        of_logp, of_entropy = differences(loss, logp[rows], entropy[rows], some.mask)
        value, slope, entropy_slope = found_by_the_stages(name, given, logp, entropy)
        assert np.abs(of_logp).max() > 1e-3, "nothing is learned from this batch"
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-6, err_msg=f"value, batch {seed}")
        np.testing.assert_allclose(slope[rows], of_logp, rtol=1e-4, atol=2e-6, err_msg=f"gradient, batch {seed}")
        np.testing.assert_allclose(
            entropy_slope[rows], of_entropy, rtol=1e-4, atol=2e-6, err_msg=f"entropy, batch {seed}"
        )
        assert np.all(slope[~rows] == 0) and np.all(slope[~given.mask] == 0)


def test_every_new_objective_has_a_reference():
    modules = ("hapo", "progrpo", "bapo", "ares", "g2rpo", "riskpo", "copo", "empo")
    names = {name for name in objectives.names() if name.partition("_")[0] in modules}
    assert names == set(REFERENCES)
