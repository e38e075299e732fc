"""Asking the registry about tags, and what its answers prove."""
