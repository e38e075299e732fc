"""Our own API, version 1: one file for each resource."""
