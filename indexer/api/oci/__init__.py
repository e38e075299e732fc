"""Two endpoints of the OCI distribution specification 1.1 under ``/v2``, answered from the inventory.

The referrers of a manifest, which no release of Distribution has, and the names of a repository's tags, which 2.8
neither sorts nor pages. A proxy sends these two here and everything else to the registry. Nothing else under ``/v2`` is
answered, and nothing is written.
"""
