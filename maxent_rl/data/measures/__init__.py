"""How good a data set is: trajectory quality, coverage, diagnostics."""
