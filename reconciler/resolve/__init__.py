"""Manifests the inventory has heard of but not read: one GET by digest, once per digest for ever."""
