"""The reconciler: goes and looks, compares, acts.

It alone talks to the registry: reads manifests the inventory has heard of, verifies doubtful tags, and
walks the whole catalog for drift. It imports the indexer's lower floors, never its doors.
"""
