"""Why the registry and the inventory differed, as far as only later evidence tells (``indexer.inventory.causes``)."""
