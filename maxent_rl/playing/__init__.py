"""A policy at work: evaluation, trajectories, video."""
