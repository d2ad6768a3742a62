"""Learning rates that go down: the share that is left, over what, and the steps that Adam then takes."""

import jax.numpy as jnp
import numpy as np
import pytest

from maxent_rl.agents import PPO, REPPO, SAC, SubPO, check_agent
from maxent_rl.errors import InvalidSettingError
from maxent_rl.runs.config import RunConfig
from maxent_rl.training.runner import _with_schedule
from maxent_rl.types import Spec


@pytest.mark.parametrize(
    ("schedule", "end", "share", "expected"),
    [("cosine", 0.5, share, rate) for share, rate in zip(
        (0.0, 0.25, 0.5, 0.75, 1.0), (3e-4, 2.780330e-4, 2.25e-4, 1.719670e-4, 1.5e-4), strict=True
    )] + [("linear", 0.1, 0.5, 1.65e-4), ("linear", 0.1, 2.0, 3e-5)],
)  # fmt: skip
def test_schedules(schedule, end, share, expected):
    """Check 6 of flashsac.md; XQC's goes to a tenth, and stays there."""
    agent = SAC(learning_rate_schedule=schedule, learning_rate_end=end, scheduled_updates=1_000)
    np.testing.assert_allclose(3e-4 * agent.rate_share(jnp.float32(1_000 * share)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (SAC(updates_per_step=2.0), 2_000),
        (PPO(rollout_size=100, epochs=2, minibatches=4), 80),  # ten windows
        (REPPO(rollout_size=2_000, epochs=2, minibatches=4), 8),  # not one whole window
    ],
)
def test_a_schedule_takes_the_run_unless_it_says_otherwise(agent, expected):
    run, linear = RunConfig(total_steps=1_000), agent.replace(learning_rate_schedule="linear")
    assert _with_schedule(run, linear).scheduled_updates == expected
    assert _with_schedule(run, linear.replace(scheduled_updates=5)).scheduled_updates == 5
    assert _with_schedule(run, agent) is agent


def test_windows_of_whole_episodes_must_say_how_long_a_schedule_is():
    agent = PPO(rollout_size=None, learning_rate_schedule="linear", minibatches=1)
    assert _with_schedule(RunConfig(), agent).scheduled_updates is None
    with pytest.raises(InvalidSettingError, match="needs --scheduled-updates"):
        check_agent(agent, Spec((3,), (2,), 100), "an environment")


@pytest.mark.parametrize("kind", [PPO, REPPO, SubPO])
def test_steps_of_on_policy_agents_shorten(kind):
    """Adam's steps down a constant gradient are as long as its rate: whole, three quarters, half, a quarter, nothing."""
    agent = kind(learning_rate=1e-3, learning_rate_schedule="linear", learning_rate_end=0.0, scheduled_updates=4)
    adam, weights, steps = agent._optimizer(), jnp.zeros(2), []
    state = adam.init(weights)
    for _ in range(5):
        step, state = adam.update(jnp.ones(2), state, weights)
        steps.append(float(step[0]))
    np.testing.assert_allclose(steps, np.multiply(-1e-3, [1.0, 0.75, 0.5, 0.25, 0.0]), rtol=1e-4, atol=1e-9)
