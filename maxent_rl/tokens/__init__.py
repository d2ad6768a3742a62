"""Maximum-entropy policy optimisation of sequences of tokens."""
