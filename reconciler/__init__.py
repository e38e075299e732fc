"""The reconciler: asks the registry, compares its answers with the inventory, and repairs the inventory.

It is the only part that sends requests to the registry. It resolves manifests, verifies tags and reconciles whole
repositories. It may import ``indexer.store`` and what lies below; never what serves requests.
"""
