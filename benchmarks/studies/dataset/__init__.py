"""Which offline method works on which data."""
