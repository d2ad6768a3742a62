"""Data that comes of playing or of files, for agents that learn from fixed data."""
