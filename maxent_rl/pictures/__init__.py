"""Pictures of runs and policies."""
