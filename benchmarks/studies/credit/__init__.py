"""Credit and shape of single responses."""
