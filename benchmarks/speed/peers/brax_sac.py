"""Brax's own SAC on a Brax environment with spring physics; run with the Python of .peers/brax.

Brax trains in epochs of equal length and reports after each. An epoch is as long as the warm-up: the first holds compiling and
the warm-up, the others are the window. Its evaluations, which lie between epochs, are outside what it reports as its time.
"""

from __future__ import annotations

import functools
from typing import Any

import driver
import numpy as np
import replicated
from brax import envs
from brax.training import pmap
from brax.training.agents.sac import networks, train

PACKAGES = ("brax", "jax", "jaxlib", "flax", "optax", "numpy", "mujoco")


def main() -> None:
    """Trains and prints the measurement."""
    parser = driver.work_parser(__doc__)
    parser.set_defaults(env="halfcheetah")
    parser.add_argument("--num-envs", type=int, default=4, help="environments; as many updates follow each vector step")
    args = parser.parse_args()
    replicated.put_back()
    epochs = 1 + args.window_steps // args.warmup_steps
    reports: list[tuple[int, float, float]] = []
    updates: list[int] = []

    def progress(step: int, metrics: dict[str, Any]) -> None:
        if "training/walltime" in metrics:
            reports.append((step, float(metrics["training/walltime"]), driver.since_command()))

    # Brax returns no count of gradient steps, but hands its last training state to this check.
    check = pmap.assert_is_replicated

    def note_updates(state: Any, *more: Any) -> None:
        updates.append(int(np.asarray(state.gradient_steps.lo).ravel()[0]))
        check(state, *more)

    pmap.assert_is_replicated = note_updates
    train.train(
        environment=envs.get_environment(args.env, backend="spring"),
        num_timesteps=args.start_steps + epochs * args.warmup_steps,
        episode_length=1000,
        num_envs=args.num_envs,
        grad_updates_per_step=args.num_envs,
        batch_size=args.batch_size,
        min_replay_size=args.start_steps,
        max_replay_size=args.replay_size,
        num_evals=1 + epochs,
        num_eval_envs=1,
        learning_rate=3e-4,
        discounting=0.99,
        seed=args.seed,
        network_factory=functools.partial(networks.make_sac_networks, hidden_layer_sizes=tuple(args.hidden_sizes)),
        progress_fn=progress,
    )
    (first, first_seconds, first_report), *_, (last, last_seconds, _) = reports
    seconds = last_seconds - first_seconds
    # All epochs are the same program, so each took the same share of the gradient steps.
    in_window = updates[0] * (epochs - 1) // epochs
    driver.check_window(last - first, in_window, args.window_steps, args.window_steps)
    values = driver.speed(seconds, args.window_steps, in_window, first_report, args.warmup_steps)
    driver.report(values, PACKAGES, epoch_seconds=np.diff([0.0, *(seconds for _, seconds, _ in reports)]).tolist())


if __name__ == "__main__":
    main()
