"""The online variant: where its policy ends is where SAC's ends, whatever the anchor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import act, assert_alike, batch_of, init, mode, update
from environments import DiscretePoint
from flax import struct
from support.seeds import learning_seed

from maxent_rl.agents import check_agent
from maxent_rl.agents.base import acting_state
from maxent_rl.agents.soft.adpo_online import ADPOOnline
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError, UnknownNameError
from maxent_rl.types import Spec

SPEC = Spec((3,), (2,), 10)
SMALL = ADPOOnline(hidden_sizes=(8,), num_candidates=4)
ALPHA, BEST, CURVATURE = 0.5, 0.2, 4.0


@struct.dataclass
class KnownCritics(ADPOOnline):
    """Critics whose value is a parabola in the action, the same everywhere."""

    def values(self, parameters, observation, action, dropout_key):
        return jnp.broadcast_to(-CURVATURE * jnp.sum((action - BEST) ** 2, axis=-1), (2, *action.shape[:-1]))


def expected_moments():
    """Mean and standard deviation of each action under `exp(q / alpha)` on (-1, 1)."""
    action = np.linspace(-1, 1, 20_001)
    weight = np.exp(-CURVATURE * (action - BEST) ** 2 / ALPHA)
    mean = np.average(action, weights=weight)
    return mean, np.sqrt(np.average((action - mean) ** 2, weights=weight))


@pytest.mark.slow
@pytest.mark.parametrize("anchor", ["sampling", "ema"])  # those that do not move, and copies: imitation/test_adpo.py
def test_the_policy_ends_at_the_boltzmann_distribution_of_the_critics_whatever_the_anchor(anchor):
    agent = KnownCritics(
        hidden_sizes=(8,), num_candidates=16, anchor=anchor, anchor_every=100, learning_rate=2e-3,
        temperature_mode="fixed", initial_temperature=ALPHA,
    )  # fmt: skip
    batch = batch_of(size=64, observation=jnp.ones((64, 3)))

    @jax.jit
    def run(agent, key):
        def step(state, key):
            noise_key, policy_key = jax.random.split(key)
            noise = jax.random.normal(noise_key, (16, 64, 2))
            return agent.update_policy(state, batch, noise, policy_key)[0], None

        state = agent.init(jax.random.key(learning_seed(0)), SPEC)
        return jax.lax.scan(step, state, jax.random.split(key, 3_000))[0]

    state = run(agent, jax.random.key(learning_seed(1)))
    drawn = np.asarray(act(agent, state, jnp.ones((20_000, 3)), jax.random.key(learning_seed(2))))
    mean, std = expected_moments()
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(drawn.std(0), std, rtol=0.08)  # in 20 seeds off by up to 0.056, with deviation 0.017


@pytest.mark.slow
@pytest.mark.parametrize("anchor", ["sampling", "copy", "kl"])  # a moving average is the agent contract's
def test_update_keeps_structure_and_types_and_stays_finite(anchor):
    agent = SMALL.replace(anchor=anchor, target="boltzmann" if anchor == "kl" else "boltzmann_over_anchor")
    state = init(agent, jax.random.key(0), SPEC)
    after, metrics = update(agent, state, batch_of(), jax.random.key(1))
    assert jax.tree.structure(state) == jax.tree.structure(after)
    assert_alike(state, after)
    assert {"target/divergence", "target/entropy", "anchor/log_ratio", "actor/loss"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.slow
def test_the_sampling_policy_as_anchor_needs_no_copy_of_it():
    state = init(SMALL, jax.random.key(0), SPEC)
    assert state.anchor.params is None
    _, metrics = update(SMALL, state, batch_of(), jax.random.key(1))
    # At the first look at them the candidates are as likely as when drawn, up to rounding of some nats.
    assert metrics["anchor/log_ratio"] == pytest.approx(0.0, abs=1e-5)


def test_acting_needs_only_the_acting_state():
    agent = SMALL.replace(anchor="ema")
    state = init(agent, jax.random.key(0), SPEC)
    part, observation = acting_state(agent, state), jnp.ones((4, 3))
    assert len(jax.tree.leaves(part)) == len(jax.tree.leaves(state.policy))
    np.testing.assert_array_equal(mode(agent, part, observation), mode(agent, state, observation))


def test_what_cannot_work_is_refused():
    with pytest.raises(InvalidSettingError, match="--num-candidates must be at least 2"):
        check_agent(SMALL.replace(num_candidates=1), SPEC, "test")
    with pytest.raises(UnknownNameError, match="Did you mean 'sampling'"):
        check_agent(SMALL.replace(anchor="samplin"), SPEC, "test")
    with pytest.raises(IncompatibleEnvironmentError, match="ADPOOnline needs continuous actions"):
        check_agent(SMALL, DiscretePoint().spec, "test")
