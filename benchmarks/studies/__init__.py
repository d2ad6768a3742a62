"""Questions that are asked of the library's methods, one folder each; no study imports another."""
