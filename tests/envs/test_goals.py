"""What other goals pay: the environment's own word, for many steps at once, or one sentence that says why it has none."""

import gymnasium
import numpy as np
import pytest
from environments import HostPoint, HostReach, Point

from maxent_rl.envs.adapters.gymnasium import GymnasiumEnvs
from maxent_rl.envs.door import admit, pays_for_goals
from maxent_rl.envs.own.reach import Reach
from maxent_rl.errors import IncompatibleEnvironmentError, NonFiniteError

RANDOM = np.random.default_rng(0)
ACHIEVED = RANDOM.uniform(-0.3, 0.3, (40, 3)).astype(np.float32)
DESIRED = (ACHIEVED + RANDOM.uniform(-0.06, 0.06, (40, 3))).astype(np.float32)  # some near enough, some not
NO, SOME = np.zeros(40, bool), np.arange(40) % 3 == 0


def rule_of(make=HostReach):
    return GymnasiumEnvs(make, [0, 1], "Reach").goal_rule()


def paid_by_hand(env):
    pairs = list(zip(ACHIEVED.astype(np.float64), DESIRED.astype(np.float64), strict=True))
    rewards = [float(env.compute_reward(*pair, {})) for pair in pairs]
    return rewards, [bool(env.compute_terminated(*pair, {})) for pair in pairs]


class OneByOne(HostReach):
    """Its reward is written for one step."""

    def compute_reward(self, achieved_goal, desired_goal, info):
        assert achieved_goal.shape == (3,)
        return 0.0 if np.linalg.norm(achieved_goal - desired_goal) <= 0.05 else -1.0


class Mixing(HostReach):
    """For many steps at once, its reward gives another thing than for each."""

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.float32(np.linalg.norm(achieved_goal - desired_goal) > 0.05) * np.ones(achieved_goal.shape[:-1])


@pytest.mark.parametrize("make", [HostReach, OneByOne, Mixing, lambda: gymnasium.wrappers.TimeLimit(HostReach(), 9)])
@pytest.mark.parametrize("terminates", [False, True])
def test_goals_pay_what_the_environment_says_of_each(make, terminates):
    env = make()
    env.unwrapped.terminates = terminates
    rewards, ends = paid_by_hand(env.unwrapped)
    assert {-1.0, 0.0} == set(rewards) and any(ends) == terminates

    def same():
        again = make()
        again.unwrapped.terminates = terminates
        return again

    reward, ended = rule_of(same).outcomes(ACHIEVED, DESIRED, DESIRED, NO)
    np.testing.assert_array_equal(reward, rewards)
    np.testing.assert_array_equal(ended, ends)
    assert (reward.dtype, ended.dtype) == (np.float32, bool)


def test_what_ended_for_another_reason_than_its_goal_still_ends():
    """Half of those that ended had reached the goal of before, which says nothing of the new one."""
    rule, before = rule_of(lambda: HostReach(terminates=True)), DESIRED + 1.0
    before[::2] = ACHIEVED[::2]
    _, ends = paid_by_hand(HostReach(terminates=True))
    _, ended = rule.outcomes(ACHIEVED, DESIRED, before, SOME)
    np.testing.assert_array_equal(ended, ends | (SOME & (np.arange(40) % 2 == 1)))


def test_without_a_word_on_ends_they_stay_what_they_were():
    class Silent(HostReach):
        def compute_terminated(self, achieved_goal, desired_goal, info):
            raise NotImplementedError

        def step(self, action):
            self.place = np.clip(self.place + 0.05 * action, -0.3, 0.3)
            return self.observe(), float(self.compute_reward(self.place, self.goal, {})), False, False, {}

    _, ended = rule_of(Silent).outcomes(ACHIEVED, DESIRED, DESIRED, SOME)
    np.testing.assert_array_equal(ended, SOME)


def test_trying_the_rule_out_leaves_no_trace_after_a_reset():
    """The environment that is asked is one of those that are stepped."""
    asked, other = (GymnasiumEnvs(HostReach, [3, 4], "Reach") for _ in range(2))
    asked.goal_rule()
    np.testing.assert_array_equal(asked.reset(), other.reset())
    for _ in range(60):
        action = np.full((2, 3), 0.3, np.float32)
        np.testing.assert_array_equal(asked.step(action).next_observation, other.step(action).next_observation)


class Dear(HostReach):
    """It charges for actions beside its goal."""

    def step(self, action):
        observed, reward, *rest = super().step(action)
        return observed, reward - float(np.abs(action).sum()), *rest


class Informed(HostReach):
    """Its reward wants to know more than goals."""

    def compute_reward(self, achieved_goal, desired_goal, info):
        return info["bonus"]

    def step(self, action):
        return self.observe(), -1.0, False, False, {"bonus": -1.0}


class Plain(gymnasium.Env):
    """Its observations have goals, and it says nothing of what they pay."""

    observation_space, action_space = HostReach.observation_space, HostReach.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {name: np.zeros(3) for name in self.observation_space}, {}

    def step(self, action):
        return {name: np.zeros(3) for name in self.observation_space}, 0.0, False, False, {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Plain, "Reach has no compute_reward(achieved_goal, desired_goal, info)"),
        (Dear, "in a step for whose goals compute_reward gives -1; expected the same"),
        (Informed, "compute_reward raised KeyError"),
        (HostPoint, "Reach observes no achieved_goal and desired_goal"),
        (
            lambda: gymnasium.wrappers.TransformReward(HostReach(), lambda reward: 10 * reward),
            "Reach paid -10 in a step",
        ),
    ],
)
def test_an_environment_that_cannot_say_is_refused_in_a_sentence(make, words):
    with pytest.raises(IncompatibleEnvironmentError) as refused:
        rule_of(make)
    assert words in str(refused.value)


def test_a_reward_that_is_not_finite_is_told_with_its_goals():
    class Holed(HostReach):
        def compute_reward(self, achieved_goal, desired_goal, info):
            paid = super().compute_reward(achieved_goal, desired_goal, info)
            return np.where(np.abs(achieved_goal[..., 0] - 0.25) < 0.05, np.nan, paid)

    with pytest.raises(NonFiniteError, match=r"compute_reward gave nan for achieved_goal \[0.2"):
        rule_of(Holed).outcomes(ACHIEVED, DESIRED, DESIRED, NO)


def test_the_reacher_on_the_device_pays_what_the_one_of_gymnasium_pays():
    device, host = Reach(), HostReach()
    np.testing.assert_array_equal(device.compute_reward(ACHIEVED, DESIRED), host.compute_reward(ACHIEVED, DESIRED, {}))
    assert not np.any(device.compute_terminated(ACHIEVED, DESIRED))
    assert device.spec.observation_space.goals.achieved == (0, 3)


def test_a_device_environment_is_admitted_with_its_goals_and_asked_what_they_pay():
    assert pays_for_goals(admit(Reach()), "Reach") == Reach()

    class Broad(Reach):
        def compute_terminated(self, achieved, desired):
            return achieved - desired

    class Narrow(Reach):
        def compute_terminated(self, achieved, desired):
            raise ValueError("two goals at once")

    refusals = {
        r"Reach.compute_terminated gave an array of shape \(2, 3\) of float32 for two goals; expected a truth value": Broad(),
        r"Reach.compute_terminated raised ValueError \(two goals at once\)": Narrow(),
        r"Reach lacks compute_reward\(achieved, desired\)": Point(),
    }
    for words, env in refusals.items():
        with pytest.raises(IncompatibleEnvironmentError, match=words):
            pays_for_goals(admit(env), "Reach")
