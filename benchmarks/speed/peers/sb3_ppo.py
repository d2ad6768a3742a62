"""PPO of Stable-Baselines3 (PyTorch, CPU) on a Gymnasium environment; run with the Python of .peers/sb.

Observations and rewards are normalised by its own wrapper, as its authors' tuned settings have it for MuJoCo.
"""

from __future__ import annotations

import time
from typing import Any

import driver
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

PACKAGES = ("stable_baselines3", "torch", "gymnasium", "mujoco", "numpy")


def main() -> None:
    """Trains and prints the measurement."""
    parser = driver.on_policy_parser(__doc__, num_envs=8)
    parser.set_defaults(env="HalfCheetah-v5")
    args = parser.parse_args()
    model = PPO(
        "MlpPolicy",
        VecNormalize(make_vec_env(args.env, args.num_envs, seed=args.seed), gamma=0.99),
        seed=args.seed,
        n_steps=args.rollout_size // args.num_envs,
        batch_size=args.rollout_size // args.minibatches,
        n_epochs=args.epochs,
        policy_kwargs={"net_arch": args.hidden_sizes},
        device="cpu",
    )
    window = _Window(args.warmup_steps, args.window_steps)
    model.learn(window.end + 1, callback=window)
    expected = args.window_steps // args.rollout_size * args.epochs * args.minibatches
    driver.check_window(window.steps, window.updates, args.window_steps, expected)
    values = driver.speed(window.seconds, window.steps, window.updates, window.began, args.warmup_steps)
    driver.report(values, PACKAGES)


class _Window(BaseCallback):
    """Takes the time between the beginnings of two rollouts; between them lie whole rollouts and their gradient steps."""

    def __init__(self, begin: int, length: int) -> None:
        super().__init__()
        self.begin, self.end = begin, begin + length
        self.seconds = self.began = float("nan")
        self.steps = self.updates = 0

    def _on_rollout_start(self) -> None:
        if self.num_timesteps == self.begin:
            self.began, self._updates, self._time = (
                driver.since_command(),
                _gradient_steps(self.model),
                time.perf_counter(),
            )
        elif self.num_timesteps == self.end:
            self.seconds = time.perf_counter() - self._time
            self.steps = self.num_timesteps - self.begin
            self.updates = _gradient_steps(self.model) - self._updates

    def _on_step(self) -> bool:
        return self.num_timesteps <= self.end


def _gradient_steps(model: Any) -> int:
    """Adam's own count; the model counts epochs."""
    return int(next(iter(model.policy.optimizer.state.values()))["step"])


if __name__ == "__main__":
    main()
