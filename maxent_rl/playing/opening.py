"""What a policy plays in: its environment, opened and found to fit."""

from __future__ import annotations

import numpy as np

from maxent_rl import envs as environments
from maxent_rl.agents.base import actions_in_words, images_in_words
from maxent_rl.envs.device import DeviceEnv
from maxent_rl.envs.door import admit, is_device_env
from maxent_rl.envs.env import Env
from maxent_rl.envs.host import HostEnvs, HostSource
from maxent_rl.envs.told import told
from maxent_rl.errors import IncompatibleEnvironmentError, InvalidSettingError
from maxent_rl.runs.policy import Policy
from maxent_rl.types import Spec

_MOST_AT_ONCE = 64  # more would be faster by little, and each takes memory to its end


def check_episodes(episodes: int, seed: int) -> None:
    """Refuses numbers with which nothing can be played.

    Raises:
      InvalidSettingError: fewer than one episode, or a negative seed.
    """
    whole = all(isinstance(number, (int, np.integer)) for number in (episodes, seed))
    if not whole or episodes < 1 or seed < 0:
        raise InvalidSettingError(f"Expected at least 1 episode and a seed from 0, got {episodes!r} and {seed!r}.")


def side_by_side(env: Env, wanted: int | None, *, members: int = 1, trained_in: int = 1) -> int:
    """How many of each member's episodes are played in environments open at once; what they give does not depend on it.

    Args:
      env: a name, or a function that makes an environment.
      wanted: by the user; None for what suits the kind: with a name all episodes, 64 of all members together at most. What a
        function makes may be a robot, or own a port: no more than are open in training.
      members: that play at the same time.
      trained_in: environments of each member in training.
    """
    if wanted is not None:
        return wanted
    return max(_MOST_AT_ONCE // members, 1) if isinstance(env, str) else trained_in


def open_environment(policy: Policy, env: Env | None = None, num_envs: int | None = None) -> DeviceEnv | HostSource:
    """What a policy plays in: a device environment, or what makes host environments from their seeds.

    Args:
      policy: as from `load_policy`.
      env: the environment, where it was not trained on one with a name.
      num_envs: host environments that may be open at once, as for `side_by_side`.

    Raises:
      InvalidSettingError: no policy, or one of an environment without a name, which is not given.
      UnknownNameError: there is no environment of that name.
      IncompatibleEnvironmentError: its shapes are not those that the policy was trained on (host environments tell when made).
      MissingDependencyError: a package that the environment needs is not installed.
    """
    if not isinstance(policy, Policy):
        raise InvalidSettingError(f"Expected a policy, such as load_policy(FOLDER) gives, got {told(policy)}.")
    source = policy.env if env is None else env
    if env is None:
        environments.check_named(policy.env, "The policy")
    if environments.is_device(source) if isinstance(source, str) else is_device_env(source):
        device_env = environments.make_device(source, policy.backend) if isinstance(source, str) else admit(source)
        check_spec(policy, device_env.spec, env)
        return device_env
    assert isinstance(source, str) or callable(source)

    def make_envs(seeds: list[int]) -> HostEnvs:
        envs = environments.make_host(source, seeds, policy.max_episode_steps)
        check_spec(policy, envs.spec, env)
        return envs

    return HostSource(make_envs, side_by_side(source, num_envs))


def check_spec(policy: Policy, spec: Spec, env: Env | None = None) -> None:
    """Refuses an environment other than the one that a policy was trained on, as far as shapes tell.

    Args:
      policy: as from `load_policy`.
      spec: of the environment.
      env: as the user named it, where it is not to be the policy's own.

    Raises:
      IncompatibleEnvironmentError: saying both shapes.
    """
    images = policy.spec.observation_space is not None  # of policies of before spaces were described, nobody knows
    trained, found = _shapes(policy.spec, images), _shapes(spec, images)
    if trained != found:
        if isinstance(env, str) and env != policy.env:
            raise IncompatibleEnvironmentError(
                f"The policy was trained on {policy.env}, with {trained}; {env} has {found}: it cannot play there."
            )
        raise IncompatibleEnvironmentError(f"The policy was trained on {trained}; {policy.env} now has {found}.")


def _shapes(spec: Spec, images: bool) -> str:
    actions = f"actions {spec.action_shape}" if spec.is_continuous else actions_in_words(spec)
    ends = f" that end in {images_in_words(spec)}" if images and spec.frames else ""
    return f"observations {spec.observation_shape}{ends} and {actions}"
