"""rejax's SAC on a Brax environment with spring physics; run with the Python of .peers/brax.

Its `train` is called in chunks as long as the warm-up, which all run one compiled program, with its evaluation left out.
"""

from __future__ import annotations

import time
from typing import Any

import driver
import jax
import jax.numpy as jnp
from rejax import SAC

PACKAGES = ("rejax", "gymnax", "brax", "jax", "jaxlib", "flax", "optax", "numpy", "mujoco")


def main() -> None:
    """Trains and prints the measurement."""
    parser = driver.work_parser(__doc__)
    parser.set_defaults(env="halfcheetah")
    parser.add_argument("--num-envs", type=int, default=4, help="environments; as many updates follow each vector step")
    args = parser.parse_args()
    algorithm = SAC.create(
        env=f"brax/{args.env}",
        env_params={"backend": "spring"},
        num_envs=args.num_envs,
        num_epochs=args.num_envs,
        batch_size=args.batch_size,
        buffer_size=args.replay_size,
        fill_buffer=args.start_steps,
        hidden_layer_sizes=tuple(args.hidden_sizes),
        total_timesteps=args.warmup_steps,
        eval_freq=args.warmup_steps,
        learning_rate=3e-4,
        gamma=0.99,
        polyak=0.995,
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda *_: jnp.zeros(()))
    train = jax.jit(lambda state: algorithm.train(train_state=state)[0], donate_argnums=0)
    # The state's buffers are made apart from each other, so that all of them can be donated.
    state = jax.tree.map(
        lambda leaf: jnp.array(leaf, copy=True), jax.jit(algorithm.init_state)(jax.random.PRNGKey(args.seed))
    )

    while int(state.global_step) < args.start_steps + args.warmup_steps:
        state = jax.block_until_ready(train(state))
    began, before, began_at = driver.since_command(), _counts(state), time.perf_counter()
    for _ in range(args.window_steps // args.warmup_steps):
        state = jax.block_until_ready(train(state))
    seconds, after = time.perf_counter() - began_at, _counts(state)
    steps, updates = after[0] - before[0], after[1] - before[1]
    driver.check_window(steps, updates, args.window_steps, args.window_steps)
    driver.report(driver.speed(seconds, steps, updates, began, before[1]), PACKAGES)


def _counts(state: Any) -> tuple[int, int]:
    """Environment steps and gradient steps taken."""
    return int(state.global_step), int(state.critic_ts.step)


if __name__ == "__main__":
    main()
