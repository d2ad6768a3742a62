"""Offline agents on data of our own SAC: cloning, TD3+BC, IQL and CQL, as shares of the way from random to expert."""
