"""Measurements of the library: how fast it is (`speed`), and what its methods do (`studies`), by what both share (`lab`)."""
