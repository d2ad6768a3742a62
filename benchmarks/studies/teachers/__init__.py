"""Policies that learn from other distributions: a teacher who is told more, a selective warm start, a soup."""
