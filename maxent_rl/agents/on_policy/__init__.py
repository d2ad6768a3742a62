"""Policy gradients: agents that learn from what their newest policy did, and forget it."""
