"""How many things lie side by side: streams of random numbers, variants, device meshes, processes."""
