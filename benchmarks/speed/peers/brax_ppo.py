"""Brax's own PPO on a Brax environment with spring physics; run with the Python of .peers/brax.

As in brax_sac.py an epoch is as long as the warm-up, but the window begins after two: the second one took as long as
compiling does (57 s, the third 0.3 s). Its evaluations are switched off. A rollout is one unroll of every environment.
"""

from __future__ import annotations

import functools
from typing import Any

import driver
import numpy as np
import optax
import replicated
from brax import envs
from brax.training import pmap
from brax.training.agents.ppo import networks, train

_BEFORE_WINDOW = 2  # epochs
PACKAGES = ("brax", "jax", "jaxlib", "flax", "optax", "numpy", "mujoco")


def main() -> None:
    """Trains and prints the measurement."""
    parser = driver.on_policy_parser(__doc__, num_envs=64)
    parser.set_defaults(env="halfcheetah")
    args = parser.parse_args()
    replicated.put_back()
    if args.num_envs % args.minibatches:
        raise SystemExit("error: Brax's minibatches are whole unrolls: --num-envs must be a multiple of --minibatches.")
    epochs = _BEFORE_WINDOW + args.window_steps // args.warmup_steps
    reports: list[tuple[int, float, float]] = []
    updates: list[int] = []

    def progress(step: int, metrics: dict[str, Any]) -> None:
        reports.append((step, float(metrics["training/walltime"]), driver.since_command()))

    # Brax returns no count of gradient steps, but hands its last training state, with Adam's count, to this check.
    check = pmap.assert_is_replicated

    def note_updates(state: Any, *more: Any) -> None:
        updates.append(int(np.asarray(optax.tree_utils.tree_get(state.optimizer_state, "count")).ravel()[0]))
        check(state, *more)

    pmap.assert_is_replicated = note_updates
    hidden = tuple(args.hidden_sizes)
    train.train(
        environment=envs.get_environment(args.env, backend="spring"),
        num_timesteps=epochs * args.warmup_steps,
        episode_length=1000,
        num_envs=args.num_envs,
        unroll_length=args.rollout_size // args.num_envs,
        batch_size=args.num_envs // args.minibatches,
        num_minibatches=args.minibatches,
        num_updates_per_batch=args.epochs,
        learning_rate=3e-4,
        entropy_cost=0.0,
        discounting=0.99,
        gae_lambda=0.95,
        clipping_epsilon=0.2,
        max_grad_norm=0.5,
        normalize_observations=True,
        num_evals=1 + epochs,
        num_eval_envs=1,
        run_evals=False,
        seed=args.seed,
        network_factory=functools.partial(
            networks.make_ppo_networks, policy_hidden_layer_sizes=hidden, value_hidden_layer_sizes=hidden
        ),
        progress_fn=progress,
    )
    (first, first_seconds, first_report), (last, last_seconds, _) = reports[_BEFORE_WINDOW - 1], reports[-1]
    seconds = last_seconds - first_seconds
    # All epochs are the same program, so each took the same share of the gradient steps.
    in_window = updates[0] * (epochs - _BEFORE_WINDOW) // epochs
    expected = args.window_steps // args.rollout_size * args.epochs * args.minibatches
    driver.check_window(last - first, in_window, args.window_steps, expected)
    values = driver.speed(seconds, args.window_steps, in_window, first_report, _BEFORE_WINDOW * args.warmup_steps)
    driver.report(values, PACKAGES, epoch_seconds=np.diff([0.0, *(seconds for _, seconds, _ in reports)]).tolist())


if __name__ == "__main__":
    main()
