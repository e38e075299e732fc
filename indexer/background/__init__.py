"""Work that repeats: what a loop is, the harness it runs in, and the loops that belong to no other package."""
