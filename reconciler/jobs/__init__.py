"""Executes jobs: takes them, keeps their lease, and writes what became of them. What they do is in their handlers."""
