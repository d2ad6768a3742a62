"""Environments that pay for the set of what a trajectory visits."""
