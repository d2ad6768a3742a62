"""IQL, TD3+BC and CQL of d3rlpy (PyTorch, CPU) on a data set; run with the Python of .peers/d3rlpy.

The training loop is d3rlpy's own (`fitter`), without records or checkpoints. Beside it the bare update on one batch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import driver
import numpy as np

PACKAGES = ("d3rlpy", "torch", "numpy")


def arguments() -> argparse.Namespace:
    """Parses the flags."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", choices=("iql", "td3-bc", "cql"), default="iql")
    parser.add_argument("--dataset", type=Path, required=True, help="npz as ours reads it")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measured while")
    parser.add_argument("--chunk", type=int, default=50, help="updates between two looks at the clock (an epoch)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--cql-actions", type=int, default=10)
    return parser.parse_args()


def algorithm(args: argparse.Namespace) -> Any:
    """The algorithm with its published settings, which are ours too; two critics."""
    from d3rlpy import algos
    from d3rlpy.models.encoders import VectorEncoderFactory
    from d3rlpy.preprocessing import StandardObservationScaler

    def encoder() -> Any:
        return VectorEncoderFactory(hidden_units=list(args.hidden_sizes))

    shared: dict[str, Any] = {
        "batch_size": args.batch_size,
        "actor_encoder_factory": encoder(),
        "critic_encoder_factory": encoder(),
        "n_critics": 2,
    }
    if args.agent == "iql":
        return algos.IQLConfig(**shared, value_encoder_factory=encoder()).create(device="cpu")
    if args.agent == "td3-bc":
        return algos.TD3PlusBCConfig(**shared, observation_scaler=StandardObservationScaler()).create(device="cpu")
    # A step size of 0 leaves the penalty's weight fixed, as ours is by default.
    config = algos.CQLConfig(**shared, n_action_samples=args.cql_actions, alpha_learning_rate=0.0)
    return config.create(device="cpu")


def fitted_speed(model: Any, data: Any, args: argparse.Namespace) -> float:
    """Updates per second of the training loop, after one epoch that is not timed."""
    from d3rlpy.logging import NoopAdapterFactory

    epochs = model.fitter(
        data, n_steps=10**9, n_steps_per_epoch=args.chunk, logger_adapter=NoopAdapterFactory(), show_progress=False,
        save_interval=10**9,
    )  # fmt: skip
    next(epochs)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < args.seconds:
        next(epochs)
        done += args.chunk
    return done / (time.perf_counter() - began)


def bare_speed(model: Any, data: Any, args: argparse.Namespace) -> float:
    """Updates per second on one batch that is there already."""
    batch = data.sample_transition_batch(args.batch_size)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < args.seconds / 2:
        for _ in range(max(args.chunk // 10, 1)):
            model.update(batch)
            done += 1
    return done / (time.perf_counter() - began)


def main() -> None:
    """Measures and prints."""
    args = arguments()
    import d3rlpy
    import structlog

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # the last line of the output is ours
    with np.load(args.dataset, allow_pickle=False) as archive:
        data = d3rlpy.dataset.MDPDataset(
            observations=archive["observations"],
            actions=archive["actions"],
            rewards=archive["rewards"],
            terminals=archive["terminals"].astype(np.float32),
            timeouts=archive["timeouts"].astype(np.float32),
        )
    model = algorithm(args)
    values = {"updates_per_second": fitted_speed(model, data, args)}
    values["bare_updates_per_second"] = bare_speed(model, data, args)
    driver.report(values, PACKAGES)


if __name__ == "__main__":
    main()
