"""Prompts that change while a policy learns: templates, and problems that it describes itself."""
