"""Environments of others behind our two interfaces."""
