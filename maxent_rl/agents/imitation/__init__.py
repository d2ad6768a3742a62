"""Agents that learn what others did: from demonstrations, teachers and preferences, and from windows of episodes."""
