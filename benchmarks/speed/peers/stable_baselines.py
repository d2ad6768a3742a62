"""Runs SAC of SBX or Stable-Baselines3, which share their training loop, and measures it from a callback."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import driver
import gymnasium
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor


def arguments(description: str) -> argparse.Namespace:
    """Parses the flags that both drivers take."""
    parser = driver.work_parser(description)
    parser.set_defaults(env="HalfCheetah-v5")
    parser.add_argument(
        "--touch-replay", action="store_true", help="write every page of the replay buffer at the start"
    )
    parser.add_argument("--first-update", action="store_true", help="stop after the first gradient step")
    parser.add_argument("--evaluate-every", type=int, default=0, help="steps between evaluations, instead of a window")
    parser.add_argument("--eval-episodes", type=int, default=10)
    parser.add_argument("--max-steps", type=int, default=1_000_000, help="with --evaluate-every: the most steps")
    parser.add_argument("--stop-return", type=float, default=float("inf"), help="stop when two evaluations pass this")
    parser.add_argument("--curve", type=Path, help="with --evaluate-every: the file that evaluations are appended to")
    return parser.parse_args()


def main(kind: type, description: str, packages: tuple[str, ...], **settings: Any) -> None:
    """Trains and prints the measurement.

    Args:
      kind: the SAC class.
      description: for --help.
      packages: whose versions to report.
      **settings: further settings of the class.
    """
    args = arguments(description)
    model = kind(
        "MlpPolicy",
        args.env,
        seed=args.seed,
        learning_starts=args.start_steps,
        batch_size=args.batch_size,
        buffer_size=args.replay_size,
        policy_kwargs={"net_arch": args.hidden_sizes},
        **settings,
    )
    if args.touch_replay:
        buffer = model.replay_buffer
        for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
            array.fill(0)
        buffer.dones.fill(0)
        buffer.timeouts.fill(0)
    first = _FirstUpdate(model)
    if args.evaluate_every:
        curve = _Curve(args)
        model.learn(args.max_steps, callback=curve)
        values = {"steps": model.num_timesteps, "updates": model._n_updates}
        driver.report(values | {"first_update_seconds": first.seconds}, packages, curve=curve.rows)
        return
    if args.first_update:
        model.learn(args.start_steps + 2)
        driver.report({"first_update_seconds": first.seconds}, packages)
        return
    window = _Window(args.start_steps + args.warmup_steps, args.window_steps)
    model.learn(window.end + 1, callback=window)
    driver.check_window(window.steps, window.updates, args.window_steps, args.window_steps)
    values = driver.speed(window.seconds, window.steps, window.updates, window.began, args.warmup_steps)
    driver.report(values | {"first_update_seconds": first.seconds}, packages)


class _FirstUpdate:
    """Notes when the first gradient step is done; SBX and SB3 read a loss after each, so it is done when `train` ends."""

    def __init__(self, model: Any) -> None:
        self.seconds = float("nan")
        train = model.train

        def first(*args: Any, **kwargs: Any) -> None:
            train(*args, **kwargs)
            self.seconds = driver.since_command()
            model.train = train

        model.train = first


class _Window(BaseCallback):
    """Takes the time between two environment steps; between them lie as many gradient steps."""

    def __init__(self, begin: int, length: int) -> None:
        super().__init__()
        self.begin, self.end = begin, begin + length
        self.seconds = self.began = float("nan")
        self.steps = self.updates = 0

    def _on_step(self) -> bool:
        if self.num_timesteps == self.begin:
            self.began, self._updates, self._time = driver.since_command(), self.model._n_updates, time.perf_counter()
        elif self.num_timesteps == self.end:
            self.seconds = time.perf_counter() - self._time
            self.steps, self.updates = self.num_timesteps - self.begin, self.model._n_updates - self._updates
            return False
        return True


class _Curve(BaseCallback):
    """Evaluates the most likely actions in an environment of their own; the clock stands still meanwhile."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self._args = args
        self._env = Monitor(gymnasium.make(args.env))
        self._env.reset(seed=args.seed + 10_000)
        self._evaluating = 0.0
        self._passed = 0
        self.rows: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self._args.evaluate_every:
            return True
        seconds = driver.since_command() - self._evaluating
        began = time.time()
        mean, spread = evaluate_policy(self.model, self._env, self._args.eval_episodes, deterministic=True)
        row = {"step": self.num_timesteps, "seconds": seconds, "return_mean": float(mean), "return_std": float(spread)}
        self.rows.append(row)
        if self._args.curve is not None:
            with self._args.curve.open("a") as file:
                file.write(json.dumps(row) + "\n")
        self._passed += mean > self._args.stop_return
        self._evaluating += time.time() - began
        return self._passed < 2
