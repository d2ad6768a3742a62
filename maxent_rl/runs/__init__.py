"""A run's folder: configuration, records, checkpoints, the exported policy."""
