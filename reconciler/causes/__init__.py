"""Finds the cause of drift where later evidence shows it (``indexer.inventory.causes``)."""
