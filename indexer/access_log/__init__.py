"""Access logs of the registry or its proxy, read for what no notification reports: refused and failed requests."""
