"""Does entropy collapse, and what holds it: objectives for language models on tokens/countdown, at equal budgets."""
