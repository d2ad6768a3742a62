"""How many right answers a policy holds."""
