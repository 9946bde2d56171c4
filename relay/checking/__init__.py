"""``relay check --connect`` and ``--dns``: whether the world is as the configuration has it."""
