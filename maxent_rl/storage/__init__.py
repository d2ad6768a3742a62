"""What is written to disk: files that are there whole or not at all, and pytrees as arrays."""
