"""Soft actor-critics: policies that climb what critics say, plus their own entropy."""
