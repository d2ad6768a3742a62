"""Finite Markov decision processes: what can be computed exactly."""
