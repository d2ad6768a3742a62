"""Agents that learn the values of finitely many actions."""
