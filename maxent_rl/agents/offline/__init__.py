"""Actor-critics for continuous actions that learn from fixed data alone."""
