"""Rewards with diminishing returns."""
