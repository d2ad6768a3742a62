"""The entropy of softmax policies: the worked examples of both papers, and first order against what really happens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.closeness import assert_close

from maxent_rl.losses import (
    covariance_contribution,
    entropy_change,
    entropy_discriminant,
    entropy_gradient,
    expected_discriminant,
    policy_gradient_step,
    probability_entropy,
    softmax_entropy,
)

PROBS = jnp.array([0.6, 0.3, 0.1])
LOGITS = jnp.log(PROBS)
ENTROPY = 0.897946
ADVANTAGES = jnp.array([0.5, -0.5, -1.5])
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
some_logits = arrays.arrays(np.float32, st.sampled_from([1, 5]), elements=st.floats(-30, 30, width=32))

change = jax.jit(entropy_change)
entropy_of = jax.jit(softmax_entropy)
contribution = jax.jit(covariance_contribution)


@jax.jit
def everything(logits):
    """Of one distribution: its probabilities and their logarithms, entropy, its gradient, discriminants and their mean."""
    probs, log_probs, entropy = jax.nn.softmax(logits), jax.nn.log_softmax(logits), softmax_entropy(logits)
    discriminants = entropy_discriminant(log_probs, entropy), expected_discriminant(log_probs)
    return probs, log_probs, entropy, entropy_gradient(logits), *discriminants


def exact_change(step, probs=(0.6, 0.3, 0.1)):
    """In double precision: in single, the difference of two entropies has three digits."""
    logits = np.log(np.asarray(probs, np.float64))

    def entropy(values):
        shifted = np.exp(values - values.max())
        found = shifted / shifted.sum()
        return -np.sum(found * np.log(found))

    return entropy(logits + np.asarray(step, np.float64)) - entropy(logits)


@wraps
def test_entropy_of_the_example(wrap):
    np.testing.assert_allclose(wrap(softmax_entropy)(LOGITS), ENTROPY, atol=1e-6)
    np.testing.assert_allclose(np.exp(-ENTROPY), 0.407406, atol=1e-5)


COVARIANCES = [
    # natural, covariance, learning rate, first order, exact
    (False, 0.104522, 1e-2, -0.001045224, -0.001047181),
    (False, 0.104522, 1e-3, -0.000104522, -0.000104542),
    (True, 0.372736, 1e-2, -0.003727360, -0.003735716),
    (True, 0.372736, 1e-3, -0.000372736, -0.000372820),
]


@wraps
@pytest.mark.parametrize(("natural", "covariance", "rate", "first", "exact"), COVARIANCES)
def test_policy_gradient_lowers_entropy_by_the_covariance(wrap, natural, covariance, rate, first, exact):
    """Entropy mechanism, example 1."""
    step = policy_gradient_step(LOGITS, ADVANTAGES, natural)
    np.testing.assert_allclose(-wrap(entropy_change)(LOGITS, step), covariance, atol=1e-5)
    np.testing.assert_allclose(entropy_change(LOGITS, rate * step), first, atol=2e-9)
    np.testing.assert_allclose(exact_change(rate * np.asarray(step, np.float64)), exact, atol=2e-9)


BUMPS = [
    # choice, size, bump first, bump exact, policy-gradient first, policy-gradient exact
    (0, 0.01, -0.002322721, -0.002332365, -0.001344977, -0.001349678),
    (0, -0.01, 0.002322721, 0.002313010, 0.001344977, 0.001340255),
    (1, 0.01, 0.000918081, 0.000909385, 0.001895825, 0.001880012),
    (2, 0.01, 0.001404639, 0.001405745, 0.002382383, 0.002383121),
]


@pytest.mark.parametrize(("choice", "size", "bump", "bump_exact", "token", "token_exact"), BUMPS)
def test_one_logit_and_one_token(choice, size, bump, bump_exact, token, token_exact):
    """Entropy dynamics, example 1: theorems 3.2 and 3.3."""
    one = jnp.eye(3)[choice]
    discriminant = entropy_discriminant(LOGITS[choice], ENTROPY)
    np.testing.assert_allclose(-size * discriminant, bump, atol=2e-8)
    np.testing.assert_allclose(entropy_change(LOGITS, size * one), bump, atol=2e-9)
    np.testing.assert_allclose(exact_change(size * np.asarray(one)), bump_exact, atol=2e-9)
    step = size * (one - PROBS)
    np.testing.assert_allclose(-size * (discriminant - expected_discriminant(LOGITS)), token, atol=2e-8)
    np.testing.assert_allclose(entropy_change(LOGITS, step), token, atol=2e-9)
    np.testing.assert_allclose(exact_change(step), token_exact, atol=2e-9)


@wraps
def test_discriminants_of_the_example(wrap):
    discriminant = wrap(entropy_discriminant)(LOGITS, ENTROPY)
    centre = wrap(expected_discriminant)(LOGITS)
    np.testing.assert_allclose(discriminant, [0.232272, -0.091808, -0.140464], atol=1e-5)
    np.testing.assert_allclose(centre, 0.097774, atol=1e-5)
    np.testing.assert_allclose(discriminant - centre, [0.134498, -0.189583, -0.238238], atol=1e-5)


@pytest.mark.parametrize(
    ("temperature", "tilted", "gradient", "first", "entropy"),
    [
        (1.2, [0.559942, 0.314257, 0.125801], [-0.040058, 0.014257, 0.025801], 0.014237, 0.949281),
        (0.8, [0.654905, 0.275354, 0.069741], [0.054905, -0.024646, -0.030259], -0.019266, 0.818040),
    ],
)
def test_another_temperature_moves_entropy_towards_it(temperature, tilted, gradient, first, entropy):
    """DCPO and AEPO, example 2: the expected gradient on the logits is the tilted policy less the policy."""
    target = jax.nn.softmax(LOGITS / temperature)
    np.testing.assert_allclose(target, tilted, atol=1e-5)
    np.testing.assert_allclose(target - PROBS, gradient, atol=1e-5)
    np.testing.assert_allclose(entropy_change(LOGITS, target - PROBS), first, atol=1e-5)
    np.testing.assert_allclose(entropy_of(jnp.log(target)), entropy, atol=1e-5)
    by_exact = {1.2: 0.000142345, 0.8: -0.000192720}[temperature]
    target = np.array([0.6, 0.3, 0.1]) ** (1 / temperature)
    step = 0.01 * (target / target.sum() - np.array([0.6, 0.3, 0.1]))
    np.testing.assert_allclose(exact_change(step), by_exact, atol=2e-9)


def test_error_of_first_order_falls_with_the_step():
    """A tabular policy of 5 states and 6 actions under exact policy gradient: half the step, half the relative error."""
    logits, advantages = np.asarray(2 * jax.random.normal(jax.random.key(0), (2, 5, 6)), np.float64)
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    step = np.asarray(policy_gradient_step(jnp.asarray(logits), jnp.asarray(advantages)), np.float64)
    predicted = np.asarray(entropy_change(jnp.asarray(logits), jnp.asarray(step)), np.float64).mean()
    errors = []
    for rate in (0.04, 0.02, 0.01):
        measured = np.mean([exact_change(rate * one, own) for one, own in zip(step, probs, strict=True)])
        errors.append(abs(measured / (rate * predicted) - 1))
    np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.1)
    np.testing.assert_allclose(errors[1] / errors[2], 2, rtol=0.1)
    assert errors[2] < 0.02


@pytest.mark.parametrize("natural", [False, True])
def test_second_order_error(natural):
    """The absolute error falls by four when the step halves; the two signs of a step cancel it to third order."""
    step = np.asarray(policy_gradient_step(LOGITS, ADVANTAGES, natural), np.float64)
    first = float(entropy_change(LOGITS, step))
    errors = [exact_change(rate * step) - rate * first for rate in (0.04, 0.02, 0.01)]
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.1)
    np.testing.assert_allclose(errors[1] / errors[2], 4, rtol=0.1)


@given(logits=some_logits)
def test_identities_of_any_distribution(logits):
    probs, log_probs, entropy, gradient, discriminant, centre = map(np.asarray, everything(logits))
    assert -1e-5 <= entropy <= np.log(len(logits)) + 1e-5
    np.testing.assert_allclose(gradient.sum(), 0, atol=1e-5)  # sum_y p (log p + H) = 0
    np.testing.assert_allclose(discriminant, -gradient, atol=1e-5)
    assert centre >= 0
    np.testing.assert_allclose(centre, np.sum(probs * discriminant), atol=1e-5)
    np.testing.assert_allclose(centre, entropy * np.sum(probs**2) + np.sum(probs**2 * log_probs), atol=1e-5)
    np.testing.assert_allclose(np.sum(probs * (discriminant - centre)), 0, atol=1e-5)  # no change on average
    likely = log_probs + entropy
    assert np.all(((discriminant > 0) == (likely > 0)) | (np.abs(likely) < 1e-5) | (probs < 1e-30))


@given(logits=some_logits, shift=st.floats(-50, 50))
def test_constants_change_nothing(logits, shift):
    step = np.sin(np.arange(len(logits)) + 1.0)
    np.testing.assert_allclose(change(logits + shift, step), change(logits, step), atol=1e-4)
    np.testing.assert_allclose(change(logits, step + shift), change(logits, step), atol=1e-4)
    np.testing.assert_allclose(change(logits, step), np.asarray(everything(logits)[3]) @ step, atol=1e-5)
    np.testing.assert_allclose(change(logits, -step), -change(logits, step), atol=1e-6)


@pytest.mark.slow
def test_gradient_is_that_of_the_entropy():
    logits = jax.random.normal(jax.random.key(0), (4, 5))
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(softmax_entropy(x)))(logits), entropy_gradient(logits), atol=1e-6
    )
    shifted = entropy_gradient(logits) @ jnp.ones(5)
    np.testing.assert_allclose(shifted, np.zeros(4), atol=1e-6)


@wraps
def test_uniform_certain_and_ruled_out(wrap):
    """Uniform: no discriminant. One-hot and ruled-out choices: 0 log 0 is 0, in values and gradients."""
    uniform = jnp.zeros(4)
    assert_close(wrap(softmax_entropy)(uniform), np.log(4))
    assert_close(wrap(entropy_gradient)(uniform), np.zeros(4), scale=np.log(4) / 4)  # p log p, which p H takes away
    np.testing.assert_allclose(wrap(expected_discriminant)(jnp.full(4, -np.log(4))), 0, atol=1e-7)
    certain = jnp.array([0.0, -jnp.inf, -jnp.inf])
    for function in (softmax_entropy, expected_discriminant):
        assert wrap(function)(certain) == 0
        assert np.all(wrap(jax.grad(function))(certain) == 0)
    assert np.all(wrap(entropy_discriminant)(jnp.array([0.0, -jnp.inf]), 0.0) == 0)
    assert wrap(entropy_change)(certain, jnp.ones(3)) == 0
    some = jnp.array([0.3, -jnp.inf, -0.2])
    kept = some[jnp.array([0, 2])]
    assert_close(softmax_entropy(some), softmax_entropy(kept))
    np.testing.assert_allclose(jax.grad(softmax_entropy)(some)[jnp.array([0, 2])], entropy_gradient(kept), atol=1e-6)


def test_one_choice_has_no_entropy():
    assert softmax_entropy(jnp.array([3.0])) == 0
    assert np.all(entropy_gradient(jnp.array([3.0])) == 0)
    assert expected_discriminant(jnp.zeros(1)) == 0


def test_first_order_of_an_update_is_minus_the_covariance():
    """With centred advantages, dH = -Cov(log p, p A) = -sum p A (S - mean S)."""
    step = policy_gradient_step(LOGITS, ADVANTAGES)
    by_discriminant = jnp.sum(
        PROBS * ADVANTAGES * (entropy_discriminant(LOGITS, ENTROPY) - expected_discriminant(LOGITS))
    )
    np.testing.assert_allclose(-entropy_change(LOGITS, step), by_discriminant, atol=1e-6)
    shifted = policy_gradient_step(LOGITS, ADVANTAGES + 7.0)
    np.testing.assert_allclose(shifted, step, atol=1e-6)


# Six tokens of the second example: probabilities and advantages.
SIX = jnp.log(jnp.array([0.9, 0.8, 0.05, 0.5, 0.7, 0.02]))
SIX_ADVANTAGES = jnp.array([1.5, 1.5, 1.5, -1.0, -1.0, -1.0])
SIX_COVARIANCES = [1.594566, 1.447338, -2.018398, -0.859833, -1.280423, 3.163762]


@wraps
def test_covariance_of_six_tokens(wrap):
    """Entropy mechanism, example 2; their mean is the covariance of the batch, which is the sum over n."""
    found = wrap(covariance_contribution)(SIX, SIX_ADVANTAGES, jnp.ones(6, bool))
    np.testing.assert_allclose(found, SIX_COVARIANCES, atol=1e-5)
    np.testing.assert_allclose(found.mean(), 0.341168, atol=1e-5)
    np.testing.assert_allclose(found.sum(), 6 * np.cov(SIX, SIX_ADVANTAGES, ddof=0)[0, 1], atol=1e-5)


@pytest.mark.parametrize("garbage", [7.0, np.nan, np.inf, -np.inf])
def test_masked_tokens_have_no_part_in_the_covariance(garbage):
    mask = jnp.arange(8) < 6
    values = [jnp.concatenate([each, jnp.full(2, garbage)]) for each in (SIX, SIX_ADVANTAGES)]
    found = jax.jit(covariance_contribution)(*values, mask)
    np.testing.assert_allclose(found, [*SIX_COVARIANCES, 0, 0], atol=1e-5)
    assert np.all(covariance_contribution(*values, jnp.zeros(8, bool)) == 0)


@given(value=st.floats(-100, 100, width=32), count=st.integers(1, 50))
def test_equal_advantages_have_no_covariance(value, count):
    """To the bit: the rounding of their mean would otherwise rank the tokens."""
    index = np.arange(50)
    found = contribution(-1.0 - index, np.full(50, value, np.float32), index < count)
    assert np.all(np.asarray(found) == 0)


def test_covariance_is_constant_and_knows_no_offset():
    gradients = jax.grad(lambda *x: jnp.sum(covariance_contribution(*x, jnp.ones(6, bool))), argnums=(0, 1))(
        SIX, SIX_ADVANTAGES
    )
    assert np.all(np.asarray(gradients) == 0)
    found = covariance_contribution(SIX, SIX_ADVANTAGES + 3.0, jnp.ones(6, bool))
    np.testing.assert_allclose(found, SIX_COVARIANCES, atol=1e-5)
    one = covariance_contribution(SIX[:1], SIX_ADVANTAGES[:1], jnp.ones(1, bool))
    assert np.all(one == 0)


def test_vmap_equals_single_distributions():
    logits, steps = jax.random.normal(jax.random.key(0), (2, 5, 4))
    for function, arguments in [
        (softmax_entropy, (logits,)),
        (entropy_gradient, (logits,)),
        (entropy_change, (logits, steps)),
        (expected_discriminant, (jax.nn.log_softmax(logits),)),
        (policy_gradient_step, (logits, steps)),
    ]:
        assert_close(function(*arguments), jax.vmap(function)(*arguments))


def measured_direction(temperature):
    """The entropies that a fixed step towards the policy at another temperature ends at, for any of 2,000 distributions."""
    logits = 3 * jax.random.normal(jax.random.key(1), (2000, 5))
    step = jax.nn.softmax(logits / temperature) - jax.nn.softmax(logits)
    return change(logits, step)


def test_hotter_raises_and_colder_lowers_entropy():
    assert np.all(measured_direction(1.2) > 0) and np.all(measured_direction(0.8) < 0)


@pytest.mark.parametrize(("target", "final"), [(0.25, 0.2502), (0.5, 0.4993), (0.75, 0.7515), (1.0, 0.9993)])
def test_two_temperatures_hold_any_entropy(target, final):
    """DCPO and AEPO: the controller on three arms that are all right, 20,000 steps."""
    reached = controlled(target)
    assert abs(reached - target) < 2.5e-3
    # The entropy goes to and fro by up to 3.4e-3; rounding may decide on which side of the target the last step ends.
    np.testing.assert_allclose(reached, final, atol=4e-3)


@jax.jit
def controlled(target):
    def step(_, logits):
        temperature = jnp.where(softmax_entropy(logits) <= target, 1.2, 0.8)
        return logits + 0.05 * (jax.nn.softmax(logits / temperature) - jax.nn.softmax(logits))

    return softmax_entropy(jax.lax.fori_loop(0, 20_000, step, LOGITS))


def test_the_entropy_of_probabilities_is_that_of_their_logits():
    logits = jnp.array([[0.3, -1.2, 2.0], [0.0, 0.0, 0.0]])
    assert_close(probability_entropy(jax.nn.softmax(logits)), softmax_entropy(logits))
    np.testing.assert_array_equal(probability_entropy(jnp.array([1.0, 0.0])), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("choices", [2, 3, 7, 10, 1000])
def test_no_choice_of_a_uniform_policy_lowers_the_entropy(choices):
    """To the bit: where all discriminants are rounding, the largest of them would be left out for being large."""
    logits = jnp.full(choices, 0.3)
    log_probs, entropy = jax.nn.log_softmax(logits), softmax_entropy(logits)
    for near in (-1, 0, 1):
        found = entropy_discriminant(log_probs, np.nextafter(entropy, np.float32(near * np.inf)) if near else entropy)
        assert np.all(found == 0)
    np.testing.assert_allclose(expected_discriminant(log_probs), 0.0, atol=1e-7)
