"""What is claimed of objectives and rollouts for agents of many turns."""
