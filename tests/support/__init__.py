"""What tests share: tolerances and how much of them is used, stub agents, tables, environments."""
